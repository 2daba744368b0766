"""Decode the values of label files into class indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable

__all__ = ["decode_labels"]


def decode_labels(
    raw: NDArray[Any], classes: ClassTable, value_map: dict[int, int]
) -> tuple[NDArray[Any], dict[int, int]]:
    """Class indices from the values of a label file.

    Args:
        raw: (H, W) values as stored.
        classes: Which value stands for which class.
        value_map: Values read as others, before that.

    Returns:
        (H, W) class indices or `classes.ignore_index`, and the pixels of each value that stands for neither; those
        pixels are given the ignore index.
    """
    table = np.full(65536, -1, dtype=np.int32)
    for index, value in enumerate(classes.file_values):
        table[value] = index
    for value, index in classes.aliases:
        table[value] = index
    table[classes.ignore] = classes.ignore_index
    renamed = table.copy()
    for value, becomes in value_map.items():
        renamed[value] = table[becomes]
    found = renamed[raw]
    bad = found < 0
    unknown: dict[int, int] = {}
    if bad.any():
        values, counts = np.unique(raw[bad], return_counts=True)
        unknown = dict(zip(values.tolist(), counts.tolist(), strict=True))
        found[bad] = classes.ignore_index
    return found.astype(classes.dtype), unknown
