"""Pretrained weights: which there are, under which licence, how they come here, and the loading of models (extras)."""
