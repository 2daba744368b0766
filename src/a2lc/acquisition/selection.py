"""Which masks are asked about: the highest scores among those not asked yet (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["top_masks"]


def top_masks(
    parts: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], count: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Choose the `count` masks of highest score from any number of parts, holding no more than a part at a time.

    Ties go to the smaller image position and then the smaller mask id, so that neither the size nor the
    order of the parts changes what is asked.

    Args:
        parts: Triples of (M,) image positions, (M,) mask ids and (M,) scores; -inf for a mask not to be asked.
        count: How many to choose.

    Returns:
        Images, mask ids and scores of the chosen, in the order they are to be asked.
    """
    images = np.empty(0, dtype=np.int32)
    mask_ids = np.empty(0, dtype=np.int32)
    scores = np.empty(0, dtype=np.float64)
    for part_images, part_masks, part_scores in parts:
        keep = part_scores > -np.inf
        if len(scores) >= count > 0:
            keep &= part_scores >= scores[-1]  # the last kept so far; equal ones may still win by their key
        images = np.concatenate([images, part_images[keep].astype(np.int32)])
        mask_ids = np.concatenate([mask_ids, part_masks[keep].astype(np.int32)])
        scores = np.concatenate([scores, part_scores[keep].astype(np.float64)])
        if len(scores) > count:
            # Cut to those that can still be among the chosen before the full sort.
            floor = np.partition(scores, len(scores) - count)[len(scores) - count] if count else np.inf
            near = scores >= floor
            images, mask_ids, scores = images[near], mask_ids[near], scores[near]
        order = np.lexsort((mask_ids, images, -scores))[:count]
        images, mask_ids, scores = images[order], mask_ids[order], scores[order]
    return images, mask_ids, scores
