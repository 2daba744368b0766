"""Suffixes and sizes of accepted image files, for modules that open none."""

from __future__ import annotations

__all__ = ["ID_SUFFIXES", "IMAGE_SUFFIXES", "MAX_PIXELS"]


IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes of files that are taken for images."""


ID_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".npy", ".gif", ".jpg", ".jpeg", ".webp"})
"""Suffixes of files that are taken for label or mask maps; lossy ones are found so that they can be refused."""


MAX_PIXELS = 8192 * 8192
"""Images above this are refused before they are decoded: 192 MiB of 24-bit pixels."""
