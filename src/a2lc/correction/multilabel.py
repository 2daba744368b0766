"""Which classes a region holds: the simulated answer to "tick every class in it" (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID
from a2lc.errors import InputError, LabelRangeError, ShapeError

__all__ = ["class_sets", "trim_borders"]


def trim_borders(mask_map: NDArray[Any], kernel: int = 5) -> NDArray[np.bool_]:
    """Mark pixels away from the boundaries of regions, where ground truth is often a pixel or two off.

    Args:
        mask_map: (H, W) integer mask ids; 0 is a region like any other here.
        kernel: Side of the square that boundaries are widened by; odd. With 1 a boundary is the two pixels that meet.

    Returns:
        (H, W) bool, False in the band. The image's own edge is no boundary.

    Raises:
        ShapeError: The map is not (H, W).
        InputError: The side is even or below 1.

    Source:
        MulActSeg (arXiv:2309.09319), as coded: thick boundaries dilated by 5 x 5.

    Example:
        >>> trim_borders(np.array([[1, 1, 1, 1, 2, 2, 2]]), 3)
        array([[ True,  True, False, False, False, False,  True]])
    """
    mask_map = np.asarray(mask_map)
    if mask_map.ndim != 2:
        raise ShapeError(f"Expected a mask map (H, W), found an array of shape {mask_map.shape}.")
    if kernel < 1 or kernel % 2 == 0:
        raise InputError(f"The side of the square that widens boundaries is {kernel}; expected an odd number from 1.")
    band = np.zeros(mask_map.shape, dtype=bool)
    across, down = mask_map[:, 1:] != mask_map[:, :-1], mask_map[1:] != mask_map[:-1]
    band[:, 1:] |= across
    band[:, :-1] |= across
    band[1:] |= down
    band[:-1] |= down
    # A square is a row of shifts after a column of shifts.
    for axis in (0, 1):
        lines = np.moveaxis(band, axis, 0)
        wider = lines.copy()
        for step in range(1, kernel // 2 + 1):
            wider[step:] |= lines[:-step]
            wider[:-step] |= lines[step:]
        band = np.moveaxis(wider, 0, axis)
    return np.asarray(~band)


def class_sets(
    mask_map: NDArray[Any],
    truth: NDArray[Any],
    mask_ids: NDArray[Any],
    *,
    num_classes: int,
    kernel: int = 5,
    ignore_index: int = 255,
) -> list[tuple[int, ...]]:
    """Return the classes that ground truth has inside each region, away from its boundary.

    Args:
        mask_map: (H, W) integer mask ids.
        truth: (H, W) integer, in [0, K), or VOID or `ignore_index` for none.
        mask_ids: (M,) regions asked about, in any order.
        num_classes: K.
        kernel: See `trim_borders`.
        ignore_index: Id of pixels that carry no class.

    Returns:
        For each region its classes, ascending. A region that lies in the band as a whole is taken as a whole; one
        whose pixels outside the band are all void has none.

    Raises:
        ShapeError: The two maps differ in size.
        LabelRangeError: Ground truth has a value inside a region that is neither a class nor void.
        InputError: The side of the square is even or below 1, or a region is not in the map.

    Source:
        MulActSeg (arXiv:2309.09319), as coded. Void is left out, as there for VOC; for Cityscapes the authors count it
        as a class of its own.
    """
    mask_map, truth = np.asarray(mask_map), np.asarray(truth)
    ids = np.asarray(mask_ids).astype(np.int64).ravel()
    if truth.shape != mask_map.shape:
        raise ShapeError(f"Mask map {mask_map.shape} and ground truth {truth.shape} belong to different images.")
    kept = trim_borders(mask_map, kernel)
    asked = np.isin(mask_map, ids)
    order = np.argsort(ids, kind="stable")
    row = order[np.searchsorted(ids, mask_map[asked], sorter=order)]
    given, kept = truth[asked].astype(np.int64), kept[asked]
    void = (given == VOID) | (given == ignore_index)
    bad = ~void & ((given < 0) | (given >= num_classes))
    if bad.any():
        raise LabelRangeError(
            f"Ground truth {given[bad][0]} in mask {ids[row[bad][0]]} is neither one of the {num_classes} classes nor "
            f"ignore_index={ignore_index}."
        )
    pixels = np.bincount(row, minlength=len(ids))
    if not pixels.all():
        raise InputError(f"Mask {ids[pixels == 0][0]} is not in the mask map of this image.")
    left = np.bincount(row[kept], minlength=len(ids))
    counted = (kept | (left[row] == 0)) & ~void
    cells = np.bincount(row[counted] * num_classes + given[counted], minlength=len(ids) * num_classes)
    return [tuple(np.flatnonzero(found).tolist()) for found in cells.reshape(len(ids), num_classes)]
