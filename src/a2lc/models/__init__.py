"""Segmentation models: builders by name (extra `[train]`)."""
