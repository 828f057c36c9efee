"""What a graph computes, found without changing it: dependence, data movement, evaluation, sizes, masks, names."""
