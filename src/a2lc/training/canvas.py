"""How images of any size meet a network: fitted into a canvas, and probabilities brought back to the image's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from a2lc.images.normalisation import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["Canvas", "canvas_for", "normalise", "to_probs"]

_STRIDE = 32  # every encoder's deepest level divides by it


@dataclass(frozen=True)
class Canvas:
    """A height and width that images are fitted into; None keeps each image's own size."""

    height: int | None
    width: int | None

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """Size of an image scaled, with its aspect kept, to fit the canvas."""
        if self.height is None or self.width is None:
            return height, width
        scale = min(self.height / height, self.width / width)
        return max(1, min(self.height, round(height * scale))), max(1, min(self.width, round(width * scale)))

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Size of the array the network is given for an image fitted to (height, width)."""
        if self.height is None or self.width is None:
            return -(-height // _STRIDE) * _STRIDE, -(-width // _STRIDE) * _STRIDE
        return self.height, self.width


def canvas_for(sizes: Sequence[tuple[int, int]], short_side: int | None) -> Canvas:
    """Choose the canvas for images of these (height, width): `short_side` by the median aspect, in multiples of 32."""
    if short_side is None or not sizes:
        return Canvas(None, None)
    aspect = float(np.median([width / height for height, width in sizes]))

    def whole(side: float) -> int:
        return max(_STRIDE, round(side / _STRIDE) * _STRIDE)

    if aspect >= 1:
        return Canvas(whole(short_side), whole(short_side * aspect))
    return Canvas(whole(short_side / aspect), whole(short_side))


def fit_image(pixels: NDArray[np.uint8], canvas: Canvas) -> NDArray[np.uint8]:
    """Scale an (H, W, 3) image to fit the canvas, averaging as it shrinks."""
    height, width = canvas.fitted(*pixels.shape[:2])
    if (height, width) == pixels.shape[:2]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def fit_ids(ids: NDArray[Any], canvas: Canvas) -> NDArray[Any]:
    """Scale an (H, W) map of ids to fit the canvas by nearest neighbour, at the centres of the pixels."""
    height, width = canvas.fitted(*ids.shape)
    if (height, width) == ids.shape:
        return ids
    rows = ((np.arange(height) + 0.5) * ids.shape[0] / height).astype(np.int64)
    cols = ((np.arange(width) + 0.5) * ids.shape[1] / width).astype(np.int64)
    return np.asarray(ids[rows[:, None], cols])


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Convert (B, 3, H, W) uint8 to float32 with ImageNet's mean and deviation removed.

    Pretrained encoders expect that, and others learn as well with it.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def to_probs(logits: torch.Tensor, fitted: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Turn logits on an image's canvas into probabilities at its own size.

    Args:
        logits: (K, h, w) on the padded canvas.
        fitted: Part of the canvas that the image fills, from the top left.
        size: (H, W) of the image.

    Returns:
        (K, H, W) float32, summing to 1 over K.
    """
    logits = logits[:, : fitted[0], : fitted[1]].float()
    if fitted != size:
        logits = functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
    return torch.softmax(logits, dim=0)
