"""What the product is held against beside its tests: every model family of transformers that rotates."""
