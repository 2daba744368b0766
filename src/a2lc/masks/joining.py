"""Join mask maps with labels and ground truth into the tables of a project."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID
from a2lc.classes.table import ClassTable
from a2lc.masks.counting import joint_counts, most_frequent
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable

__all__ = ["mask_columns", "mask_tables"]


def mask_columns(
    masks: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any] | None, classes: ClassTable, missing: int = 0
) -> tuple[NDArray[Any], ...]:
    """Mask id, label, truth and pixels of every combination in an image; VOID for the ignore index.

    Args:
        masks: (H, W) mask ids, 0 where there is no mask.
        labels: (H, W) class indices or the ignore index.
        truth: The same of the ground truth, None without.
        classes: The classes.
        missing: What stands for the truth where there is none: 0 or VOID.

    Returns:
        Four columns of one length, ordered by mask, label and truth.
    """
    size = classes.num_classes + 1
    label = np.where(labels == classes.ignore_index, classes.num_classes, labels)
    nothing = size - 1 if missing == VOID else missing
    target = np.full_like(label, nothing) if truth is None else np.where(truth == classes.ignore_index, size - 1, truth)
    mask, label, target, pixels = joint_counts(masks, label, target, sizes=(int(masks.max()) + 1, size, size))
    label[label == size - 1] = VOID
    target[target == size - 1] = VOID
    return mask, label, target, pixels


def mask_tables(images: Sequence[tuple[NDArray[Any], ...]], has_truth: bool) -> tuple[MaskTable, TruthTable]:
    """Build the tables of a project's masks from what `mask_columns` gives for each image, by position.

    Without ground truth the second table is empty.
    """
    image = np.repeat(np.arange(len(images)), [len(columns[0]) for columns in images])
    mask, label, truth, pixels = (np.concatenate([columns[i] for columns in images]) for i in range(4))
    inside = mask > 0
    key = (image << 32) | mask
    keys, row = np.unique(key[inside], return_inverse=True)
    # Labels of a mask, whatever the truth beneath them: combinations are ordered by mask, label, truth.
    pair = (row.astype(np.int64) << 20) | (label[inside] + 1)
    pairs, place = np.unique(pair, return_inverse=True)
    pair_pixels = np.bincount(place, weights=pixels[inside], minlength=len(pairs)).astype(np.int32)
    pair_row, pair_label = (pairs >> 20).astype(np.int32), ((pairs & 0xFFFFF) - 1).astype(np.int32)
    area = np.bincount(pair_row, weights=pair_pixels, minlength=len(keys)).astype(np.int32)
    masks = MaskTable(
        image=(keys >> 32).astype(np.int32),
        mask_ids=(keys & 0xFFFFFFFF).astype(np.int32),
        area=area,
        label=most_frequent(pair_row, pair_label, pair_pixels),
        pair_row=pair_row,
        pair_label=pair_label,
        pair_pixels=pair_pixels,
    )
    if not has_truth:
        empty = np.empty(0, dtype=np.int32)
        return masks, TruthTable(row=empty, label=empty, truth=empty, pixels=empty)
    rows = np.full(len(key), -1, dtype=np.int32)
    rows[inside] = row
    # Pixels outside masks of all images together: nothing ever changes them.
    outside = joint_counts_of(rows[~inside], label[~inside], truth[~inside], pixels[~inside])
    return masks, TruthTable(
        row=np.concatenate([outside[0], rows[inside]]).astype(np.int32),
        label=np.concatenate([outside[1], label[inside]]).astype(np.int32),
        truth=np.concatenate([outside[2], truth[inside]]).astype(np.int32),
        pixels=np.concatenate([outside[3], pixels[inside]]).astype(np.int32),
    )


def joint_counts_of(*columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Merge rows that are equal except in the last column, which is summed."""
    if not len(columns[0]):
        return columns
    stacked = np.stack(columns[:-1], axis=1)
    unique, place = np.unique(stacked, axis=0, return_inverse=True)
    return (*unique.T, np.bincount(place.ravel(), weights=columns[-1]).astype(np.int64))
