"""What the product is held against: every model family, every exporter, every client."""
