"""Data set formats, one module each: detect, read, and write."""
