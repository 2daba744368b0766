"""Synthetic street scenes with planted label errors."""
