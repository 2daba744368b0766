"""Shapes of annotations as masks: polygons as COCO fills them, in an image of a size that was checked.

Coordinates are in pixels, x to the right and y down, (0, 0) the outer corner of the first pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError
from a2lc.formats.rle import coco_counts, mask_of_counts

__all__ = [
    "box_points",
    "check_size",
    "ellipse_points",
    "look_up",
    "number",
    "paint",
    "points_of",
    "polygon_counts",
    "polygon_mask",
    "row_blocks",
]

_MOST_STEPS = 1 << 26
"""Steps of a polygon's outline, five a pixel: what COCO's routine puts into memory at once."""

_ELLIPSE = 720  # corners of the polygon that stands for an ellipse


def paint(shapes: Iterable[tuple[NDArray[np.bool_], int]], height: int, width: int, void: int) -> NDArray[Any]:
    """Masks painted over each other in the order they come (pure).

    Args:
        shapes: (H, W) masks, each with the value its pixels become; only one is held at a time.
        height: Of the image.
        width: Of the image.
        void: What pixels without a mask become.

    Returns:
        (H, W) uint8, or uint16 where a value needs it.

    Example:
        >>> whole, corner = np.ones((1, 2), dtype=bool), np.array([[True, False]])
        >>> paint([(whole, 3), (corner, 1)], 1, 2, 255)
        array([[1, 3]], dtype=uint8)
    """
    values = np.full((height, width), void, dtype=np.uint16)
    for mask, value in shapes:
        values[mask] = value
    return values if values.max(initial=0) > 255 else values.astype(np.uint8)


def row_blocks(height: int, width: int, pixels: int = 1 << 22) -> list[slice]:
    """Slices of the rows of an image, of so many pixels or one row each: arithmetic on a part takes little memory.

    Example:
        >>> row_blocks(5, 10, pixels=25)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, pixels // max(width, 1))
    return [slice(start, min(start + step, height)) for start in range(0, height, step)]


def look_up(codes: NDArray[Any], table: Mapping[int, int]) -> tuple[NDArray[np.int32], int | None]:
    """Values of pixels by the numbers that stand in them (pure).

    Args:
        codes: (H, W) uint32 numbers, such as colours.
        table: Number -> value; not empty.

    Returns:
        (H, W) values, and the smallest number that has none, None if all have one.

    Example:
        >>> look_up(np.array([[7, 900]], dtype=np.uint32), {900: 1, 7: 0})
        (array([[0, 1]], dtype=int32), None)
    """
    known = np.array(sorted(table), dtype=np.int64)
    values = np.array([table[code] for code in known.tolist()], dtype=np.int32)
    # Neighbours are mostly the same: each run is looked up once.
    flat = codes.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] + np.uint32(1)) != 0)
    heads = flat[starts].astype(np.int64)
    place = np.minimum(np.searchsorted(known, heads), len(known) - 1)
    lost = known[place] != heads
    lengths = np.diff(np.append(starts, flat.size))
    return np.repeat(values[place], lengths).reshape(codes.shape), int(heads[lost].min()) if lost.any() else None


def check_size(width: Any, height: Any, max_pixels: int, where: str) -> tuple[int, int]:
    """Return the size of an image that a file names, as whole numbers from 1 on.

    Raises:
        InputError: They are none, or more pixels than are read.
    """
    if type(width) is not int or type(height) is not int or width < 1 or height < 1:
        raise InputError(f"{where}: width {_short(width)} and height {_short(height)}; expected whole numbers above 0.")
    if width * height > max_pixels:
        raise InputError(
            f"{where}: {width} x {height} = {width * height:,} pixels is over the limit of {max_pixels:,}. Raise "
            "`max_pixels` if the file is valid."
        )
    return width, height


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def number(value: Any, what: str) -> float:
    """Return a finite number.

    Raises:
        InputError: It is none; the message begins with `what`.
    """
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else np.nan
    except (ValueError, OverflowError):
        found = np.nan
    if not np.isfinite(found):
        raise InputError(f"{what} is {_short(value)}; expected a number")
    return found


def points_of(values: Sequence[Any], what: str) -> NDArray[np.float64]:
    """(n, 2) points from numbers x, y, x, y and so on.

    Raises:
        InputError: They are no such numbers.
    """
    if len(values) % 2:
        raise InputError(f"{what} has {len(values)} numbers; expected an x and a y for each point")
    if not all(type(value) in (int, float) for value in values):
        raise InputError(f"{what} contains something that is not a number")
    try:
        found = np.array(values, dtype=np.float64)
    except (OverflowError, ValueError):
        raise InputError(f"{what} contains a number that is too large") from None
    if not np.isfinite(found).all():
        raise InputError(f"{what} contains a number that is not finite")
    return found.reshape(-1, 2)


def polygon_counts(polygons: Sequence[NDArray[np.float64]], height: int, width: int) -> NDArray[np.int64] | None:
    """Return the pixels of polygons together, as pycocotools fills them (and with it COCO's own tools and datumaro).

    Args:
        polygons: (n, 2) x, y of each; those of fewer than three points cover nothing.
        height: Of the image, checked.
        width: Of the image, checked.

    Returns:
        Run lengths column by column, background first; None where there is nothing to fill.

    Raises:
        InputError: An outline is longer than any outline in such an image: not drawn, for the routine in C takes memory by
            its length.
    """
    from pycocotools import mask as coco

    filled = []
    for points in polygons:
        if len(points) < 3:
            continue
        # Far outside nothing changes inside; and the routine counts in 32 bits.
        if np.abs(points).max() > 1e6:
            raise InputError(f"a polygon has a point at {np.abs(points).max():g}, far outside the image")
        steps = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1)
        if 5 * steps.sum() + len(points) > _MOST_STEPS:
            raise InputError(f"a polygon has an outline of {steps.sum():,.0f} pixels")
        filled += coco.frPyObjects([points.ravel().tolist()], height, width)
    return coco_counts(coco.merge(filled)["counts"].decode("ascii"), height, width) if filled else None


def polygon_mask(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) the pixels of one polygon, see `polygon_counts`."""
    counts = polygon_counts([points], height, width)
    return np.zeros((height, width), dtype=bool) if counts is None else mask_of_counts(counts, height, width)


def box_points(left: float, top: float, right: float, bottom: float, turned: float = 0.0) -> NDArray[np.float64]:
    """(4, 2) corners of a box.

    Args:
        left: x of its left side.
        top: y of its upper side.
        right: x of its right side.
        bottom: y of its lower side.
        turned: Degrees it is turned about its middle, clockwise as the image is seen.
    """
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
    return corners if not turned else _turn(corners, corners.mean(axis=0), turned)


def ellipse_points(x: float, y: float, across: float, down: float, turned: float = 0.0) -> NDArray[np.float64]:
    """(720, 2) corners of a polygon that stands for an ellipse.

    Args:
        x: Of its middle.
        y: Of its middle.
        across: Half its width.
        down: Half its height.
        turned: Degrees it is turned about its middle, clockwise as the image is seen.
    """
    angle = np.arange(_ELLIPSE) * (2 * np.pi / _ELLIPSE)
    corners = np.stack([x + across * np.cos(angle), y + down * np.sin(angle)], axis=1)
    return corners if not turned else _turn(corners, np.array([x, y]), turned)


def _turn(points: NDArray[np.float64], about: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned: NDArray[np.float64] = (points - about) @ turn + about
    return turned
