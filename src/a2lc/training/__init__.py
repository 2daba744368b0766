"""Fitting and predicting: the one folder that imports Lightning (extra `[train]`)."""
