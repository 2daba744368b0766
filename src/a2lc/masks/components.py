"""Masks as connected components of the labels (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

__all__ = ["component_masks"]


def component_masks(labels: NDArray[Any], ignore_index: int = 255) -> NDArray[np.int32]:
    """Mask map of the 8-connected components of equal label.

    Args:
        labels: (H, W) integer.
        ignore_index: Pixels with this label get no mask.

    Returns:
        (H, W) int32, 0 where ignored, else 1..n in reading order of each component's first pixel.
    """
    inside = labels != ignore_index
    # Labels count from 0, which skimage would take for background.
    shifted = np.where(inside, labels.astype(np.int64) + 1, 0)
    components = label(shifted, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    return np.asarray(components, dtype=np.int32)
