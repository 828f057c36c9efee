"""Results as records, and one renderer a format. A renderer reads a `Report` and nothing else."""
