"""The rows of an image's masks, and the first label that is none: compiled passes over the pixels."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from a2lc.errors import ShapeError

__all__ = ["first_bad_label", "rows_of"]

IntArray = NDArray[np.int32]


def rows_of(masks: IntArray) -> tuple[IntArray, IntArray]:
    """Mask ids that occur, ascending, and each pixel's row among them, -1 outside masks."""
    low, high = (int(masks.min()), int(masks.max())) if masks.size else (0, 0)
    if low < 0:
        raise ShapeError(f"Expected mask ids of 0 and above, found {low}.")
    if high <= 4 * masks.size + 65536:
        return _rows_by_table(masks, high)
    # Ids as sparse as panoptic ones would make a table larger than the image.
    ids, rows = np.unique(masks, return_inverse=True)
    shift = int(ids[0] == 0)
    return ids[shift:].astype(np.int32), (rows.ravel() - shift).astype(np.int32)


@njit(cache=True, nogil=True)
def _rows_by_table(masks: IntArray, high: int) -> tuple[IntArray, IntArray]:
    table = np.full(high + 1, -1, dtype=np.int32)
    for x in range(masks.size):
        table[masks[x]] = 0
    table[0] = -1
    count = 0
    for mask in range(1, high + 1):
        if table[mask] == 0:
            table[mask] = count
            count += 1
    ids = np.empty(count, dtype=np.int32)
    for mask in range(1, high + 1):
        if table[mask] >= 0:
            ids[table[mask]] = mask
    rows = np.empty(masks.size, dtype=np.int32)
    for x in range(masks.size):
        rows[x] = table[masks[x]]
    return ids, rows


@njit(cache=True, nogil=True)
def first_bad_label(labels: IntArray, rows: IntArray, num_classes: int, ignore_index: int) -> int:
    """Return the position of the first label inside a mask that is neither a class nor the ignore index; -1 if none."""
    bad = 0
    for x in range(labels.size):  # no early way out: the common case, none, is then vector code
        label = labels[x]
        bad += (rows[x] >= 0) & (label != ignore_index) & ((label < 0) | (label >= num_classes))
    if bad:
        for x in range(labels.size):
            if rows[x] >= 0 and labels[x] != ignore_index and not (0 <= labels[x] < num_classes):
                return x
    return -1
