"""Masks: superpixels, connected components, merging, and the tables that join masks with labels."""
