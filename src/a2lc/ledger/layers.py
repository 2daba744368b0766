"""Apply corrections and pixel-level labels to label maps (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import FIRST, KEEP, VOID

__all__ = ["apply_layer", "apply_to_labels"]


def apply_to_labels(
    first: NDArray[Any],
    mask_map: NDArray[Any],
    mask_ids: NDArray[Any],
    classes: NDArray[Any],
    ignore_index: int,
) -> NDArray[Any]:
    """Apply corrections to the initial labels of an image.

    Args:
        first: (H, W) first labels.
        mask_map: (H, W) mask ids, 0 where there is none.
        mask_ids: (n,) masks of this image.
        classes: (n,) their state: class, VOID, or FIRST.
        ignore_index: What VOID becomes.

    Returns:
        (H, W) of the type of `first`; pixels outside corrected masks are untouched.
    """
    corrected = classes != FIRST
    if not corrected.any():
        return first.copy()
    table = np.full(int(mask_map.max()) + 1, -1, dtype=np.int32)
    inside = corrected & (mask_ids < len(table))
    table[mask_ids[inside]] = np.where(classes[inside] == VOID, ignore_index, classes[inside])
    replacement = table[mask_map]
    return np.where(replacement >= 0, replacement, first).astype(first.dtype)


def apply_layer(
    labels: NDArray[Any],
    layer: NDArray[Any],
    mask_map: NDArray[Any],
    mask_ids: NDArray[Any],
    newer: NDArray[Any],
    ignore_index: int,
) -> NDArray[Any]:
    """Lay pixel-level labels over the labels of an image.

    Args:
        labels: (H, W) by masks alone.
        layer: (H, W) class, VOID, or KEEP.
        mask_map: (H, W) mask ids, 0 where there is none.
        mask_ids: (n,) masks of this image.
        newer: (n,) True for masks corrected after the layer was made: it does not cover them.
        ignore_index: What VOID becomes.
    """
    said = layer != KEEP
    if newer.any():
        table = np.zeros(int(mask_map.max(initial=0)) + 1, dtype=bool)
        inside = mask_ids < len(table)
        table[mask_ids[inside]] = newer[inside]
        said &= ~table[mask_map]
    return np.where(said, np.where(layer == VOID, ignore_index, layer), labels).astype(labels.dtype)
