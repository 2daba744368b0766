"""Per-mask statistics: reduce an image's probabilities and pixels to one row per mask."""
