"""Count the pixels that masks, labels and ground truth share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID

__all__ = ["joint_counts", "most_frequent"]


Int = NDArray[np.int32]

_BLOCK = 1 << 22  # pixels counted at a time


def most_frequent(row: NDArray[Any], label: NDArray[Any], pixels: NDArray[Any]) -> Int:
    """Return the most frequent label of each row; ties go to the smallest class, and void loses them.

    Args:
        row: (P,) 0 .. M - 1, ascending, each of them at least once.
        label: (P,) labels, VOID for none; no two pairs of row and label are alike.
        pixels: (P,) their pixels.

    Returns:
        (M,) int32.
    """
    # The last of each row in the order of pixels; void stands for the largest value in files.
    rank = np.where(label == VOID, np.iinfo(np.int32).max, label).astype(np.int64)
    order = np.lexsort((-rank, pixels, row))
    last = np.flatnonzero(np.diff(row[order], append=-1) != 0)
    return label[order][last].astype(np.int32)


def joint_counts(*maps: NDArray[Any], sizes: tuple[int, ...]) -> tuple[NDArray[np.int64], ...]:
    """Count the combinations of values that occur in maps of one shape, in pixels.

    Args:
        maps: Integer arrays of one shape; those of map i in [0, sizes[i]).
        sizes: How many values each map may have.

    Returns:
        A column of values for each map and, last, the pixels, ordered by the first map, then the second, and so on.
    """
    pixels = maps[0].size
    total = int(np.prod([float(size) for size in sizes]))
    dense = np.zeros(total, dtype=np.int64) if total <= min(4 * pixels + 1024, _BLOCK) else None
    keys: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    flat = [values.ravel() for values in maps]
    # A block at a time: keys of all pixels of a large image would take half a gigabyte.
    for start in range(0, pixels, _BLOCK):
        key = np.zeros(min(_BLOCK, pixels - start), dtype=np.int64)
        for values, size in zip(flat, sizes, strict=True):
            key *= size
            key += values[start : start + _BLOCK]
        if dense is not None:
            dense += np.bincount(key, minlength=total)
        else:
            found, number = np.unique(key, return_counts=True)
            keys.append(found)
            numbers.append(number)
    if dense is not None:
        found = np.flatnonzero(dense)
        counts = dense[found]
    elif len(keys) == 1:
        found, counts = keys[0], numbers[0]
    else:
        found, place = np.unique(np.concatenate(keys or [np.empty(0, np.int64)]), return_inverse=True)
        weights = np.concatenate(numbers or [np.empty(0, np.int64)])
        counts = np.bincount(place, weights=weights, minlength=len(found))
    columns = []
    for size in reversed(sizes):
        columns.append(found % size)
        found = found // size
    return (*reversed(columns), counts.astype(np.int64))
