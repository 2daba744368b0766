"""The canvas of an image: scaled and padded, so that whole cells cover it (pure)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_SIDE", "fit_canvas"]

LARGEST_SIDE = 1024
"""Pixels of the longer side at most: larger images are scaled down to it."""


def fit_canvas(
    pixels: NDArray[np.uint8], multiple: int, side: int | None = None
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Scale an image to at most `LARGEST_SIDE` and pad it by its edge.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        multiple: Sides of the canvas are multiples of this.
        side: Side of a square canvas, which the longer side of the image then fills; None for any size.

    Returns:
        (h, w, 3) uint8, and the height and width of the part that the image fills.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    longer = max(height, width)
    scale = min(1.0, LARGEST_SIDE / longer) if side is None else side / longer
    if scale != 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    fitted = pixels.shape[0], pixels.shape[1]
    down, right = (-filled % multiple if side is None else side - filled for filled in fitted)
    return np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="edge"), fitted
