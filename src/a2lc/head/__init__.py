"""The head: a small classifier on learned features of cells, fitted to corrected labels. Needs no torch."""

__all__ = ["HEAD_WEIGHTS"]

HEAD_WEIGHTS = "head.npz"
"""File of a round's folder that holds its head."""
