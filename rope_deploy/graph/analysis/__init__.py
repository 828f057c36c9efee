"""Find what a graph computes without changing it: dependence, data movement, evaluation, sizes, masks, names."""
