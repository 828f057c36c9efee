"""Every model family of transformers that rotates, built tiny, run, exported and judged."""
