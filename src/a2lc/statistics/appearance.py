"""How a mask looks, where it lies and what it lies next to, from the picture and the masks alone (pure).

Nothing here knows a model or a class. Every number is a sum over the pixels of a mask, so two passes over the image
are enough whatever the number of masks: one to CIE Lab, one that adds up runs of pixels of one mask in a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, ShapeError
from a2lc.statistics.appearance_kernel import (
    DoubleArray,
    FloatArray,
    IntArray,
    colour_sums,
    neighbour_sums,
    tally,
    to_lab,
)
from a2lc.statistics.mask_stats import flat_ids

__all__ = ["APPEARANCE", "Borders", "borders", "mask_appearance", "neighbour_means"]


APPEARANCE: tuple[str, ...] = (
    "l_mean",
    "a_mean",
    "b_mean",
    "l_std",
    "a_std",
    "b_std",
    "gradient",
    "gradient_0",
    "gradient_45",
    "gradient_90",
    "gradient_135",
    "laplacian",
    "centre_y",
    "centre_x",
    "off_centre",
    "spread_y",
    "spread_x",
    "top",
    "bottom",
    "box_height",
    "box_width",
    "log_area",
    "log_aspect",
    "extent",
    "compactness",
)
"""Names of the columns of `mask_appearance`, which says what they are."""


def mask_appearance(pixels: NDArray[Any], mask_map: NDArray[Any], mask_ids: NDArray[Any]) -> FloatArray:
    """Colour, texture, place and size of each mask.

    Columns, as named in `APPEARANCE`:

    - `l_mean` .. `b_std`: mean and standard deviation of CIE Lab (D65), L in [0, 100], a and b within ±128.
    - `gradient`: mean magnitude of the gradient of L, by central differences with the image's edges repeated; the
      pixel across the border of a mask counts. `gradient_0` .. `gradient_135`: the part of it whose direction, taken
      without its sign, is within 22.5 degrees of that angle (0: along a row, 90: along a column, 45: to the right and
      down); the four add up to `gradient`. `laplacian`: mean absolute difference to the four neighbours, added up.
    - `centre_y`, `centre_x`: mean of the pixel centres, `off_centre`: |centre_x - 0.5|, `spread_y`, `spread_x`:
      standard deviations, `top`, `bottom`: of the bounding box; in [0, 1], as shares of the image's height or width.
    - `box_height`, `box_width`: shares of the image's, in (0, 1]. `log_area`: ln of the share of the image's pixels,
      at most 0. `log_aspect`: ln of the box's height over its width, pixels. `extent`: share of the box that the mask
      covers, in (0, 1]. `compactness`: 4π·area / perimeter², in (0, π/4]; the perimeter counts the sides of pixels
      that face another mask, no mask or the outside.

    Args:
        pixels: (H, W, 3) uint8, RGB in sRGB.
        mask_map: (H, W) integer mask ids; 0 is no mask, and neither is an id that `mask_ids` does not list.
        mask_ids: (M,) ids, ascending, each above 0.

    Returns:
        (M, 25) float32, finite; a listed mask without a pixel is a row of zeros.

    Raises:
        ShapeError: The picture is not (H, W, 3) uint8, the map is not (H, W) of an integer type, or the ids are not
            integers in one dimension.
        InputError: The ids are not ascending, or an id in the map is negative.

    Source:
        Ours. Lab as in CIE 15 and IEC 61966-2-1, with the constants of scikit-image's `rgb2lab`.

    Example:
        >>> pixels = np.zeros((2, 4, 3), dtype=np.uint8)
        >>> pixels[:, 2:] = 255
        >>> found = mask_appearance(pixels, np.array([[1, 1, 2, 2], [1, 1, 2, 2]]), np.array([1, 2]))
        >>> [(name, found[:, APPEARANCE.index(name)].round(2).tolist()) for name in ("l_mean", "gradient_0", "centre_x")]
        [('l_mean', [0.0, 100.0]), ('gradient_0', [25.0, 25.0]), ('centre_x', [0.25, 0.75])]
    """
    pixels, mask_map = np.asarray(pixels), np.asarray(mask_map)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ShapeError(f"Expected pixels (H, W, 3) uint8, found {pixels.shape} {pixels.dtype}.")
    if mask_map.shape != pixels.shape[:2]:
        raise ShapeError(f"Expected a mask map (H, W) = {pixels.shape[:2]} as the pixels have, found {mask_map.shape}.")
    rows, count = _row_map(mask_map, mask_ids)
    values = np.zeros((count, len(APPEARANCE)), dtype=np.float32)
    if rows.size == 0 or count == 0:
        return values
    first, looks, places = colour_sums(to_lab(np.ascontiguousarray(pixels)), rows, count)
    seen = places[:, 0] > 0
    values[seen] = _columns(first[seen], looks[seen], places[seen].astype(np.float64), *rows.shape)
    return values


def _columns(first: FloatArray, looks: DoubleArray, places: DoubleArray, height: int, width: int) -> DoubleArray:
    """Compute the columns of `mask_appearance` from pixel sums; no mask is empty."""
    area, sum_y, square_y, sum_x, square_x, top, bottom, left, right, perimeter = places.T
    looks = looks / area[:, None]
    shift = looks[:, :3]
    # Rounding may leave a variance just below 0.
    deviation = np.sqrt(np.maximum(looks[:, 3:6] - shift**2, 0))
    parts = looks[:, 6:10]
    y, x = sum_y / area, sum_x / area
    spread_y = np.sqrt(np.maximum(square_y / area - y**2, 0)) / height
    spread_x = np.sqrt(np.maximum(square_x / area - x**2, 0)) / width
    centre_y, centre_x = (y + 0.5) / height, (x + 0.5) / width
    box_height, box_width = bottom - top, right - left
    return np.column_stack(
        [
            first + shift,
            deviation,
            parts.sum(axis=1),
            parts,
            looks[:, 10],
            centre_y,
            centre_x,
            np.abs(centre_x - 0.5),
            spread_y,
            spread_x,
            top / height,
            bottom / height,
            box_height / height,
            box_width / width,
            np.log(area / (height * width)),
            np.log(box_height / box_width),
            area / (box_height * box_width),
            4 * math.pi * area / perimeter**2,
        ]
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Borders:
    """Masks that lie next to each other, and how.

    Attributes:
        first: (E,) int32 row of a mask; where `vertical`, of the upper one, else of the one with the lower row.
        second: (E,) int32 row of the other.
        length: (E,) float32, above 0: how much they face each other, see `borders`.
        vertical: (E,) bool, one above the other; else beside each other.
    """

    first: IntArray
    second: IntArray
    length: FloatArray
    vertical: NDArray[np.bool_]

    def __len__(self) -> int:
        """Return the number of borders, E."""
        return len(self.first)

    def shifted(self, offset: int) -> Borders:
        """Return the same borders with `offset` added to all rows, for masks that come after those of other images.

        Raises:
            InputError: A row is then below 0 or does not fit 32 bits.
        """
        if len(self):
            low = int(min(self.first.min(), self.second.min())) + offset
            high = int(max(self.first.max(), self.second.max())) + offset
            if low < 0 or high >= 2**31:
                raise InputError(f"Borders shifted by {offset} would name rows {low}..{high}; expected 0..{2**31 - 1}.")
        return Borders(
            first=(self.first + np.int64(offset)).astype(np.int32),
            second=(self.second + np.int64(offset)).astype(np.int32),
            length=self.length,
            vertical=self.vertical,
        )

    @classmethod
    def concat(cls, parts: Sequence[Borders]) -> Borders:
        """Join the borders of several images, rows as they are."""
        return cls(
            first=np.concatenate([np.empty(0, dtype=np.int32), *(part.first for part in parts)]),
            second=np.concatenate([np.empty(0, dtype=np.int32), *(part.second for part in parts)]),
            length=np.concatenate([np.empty(0, dtype=np.float32), *(part.length for part in parts)]),
            vertical=np.concatenate([np.empty(0, dtype=np.bool_), *(part.vertical for part in parts)]),
        )


def borders(mask_map: NDArray[Any], mask_ids: NDArray[Any], reach: int = 5) -> Borders:
    """Find the masks above, below and beside each other, and how much they face each other.

    Two pixels s = 1, 3, 5, .. up to `reach` apart in a column or a row, whose masks differ, add 1/s to the border of
    these masks, whatever lies between. So masks that a thin gap of unassigned pixels separates still are neighbours,
    and a straight border of n pixels between large masks has the length n times the number of steps.

    Args:
        mask_map: (H, W) integer mask ids; 0 is no mask, and neither is an id that `mask_ids` does not list.
        mask_ids: (M,) ids, ascending, each above 0.
        reach: Largest distance of two pixels, 1 or more.

    Returns:
        Vertical borders, by first and second row, then those beside each other, likewise. Two masks may have up to
        three: either above the other, and beside.

    Raises:
        ShapeError: The map is not (H, W) of an integer type, or the ids are not integers in one dimension.
        InputError: The ids are not ascending, an id in the map is negative, or the reach is below 1.

    Source:
        Ours.

    Example:
        >>> found = borders(np.array([[3, 3, 8], [0, 5, 8]]), np.array([3, 5, 8]), reach=1)
        >>> for first, second, length, vertical in zip(found.first, found.second, found.length, found.vertical):
        ...     print(first, "above" if vertical else "beside", second, length)
        0 above 1 1.0
        0 beside 2 1.0
        1 beside 2 1.0
    """
    if reach < 1:
        raise InputError(f"Expected a reach of 1 pixel or more, found {reach}.")
    rows, _ = _row_map(np.asarray(mask_map), mask_ids)
    parts = []
    # A border runs on across the direction it is looked for in: the transposed map lets both be read along it.
    for vertical, lines in ((True, rows), (False, np.ascontiguousarray(rows.T))):
        keys, totals = tally(lines, int(reach), vertical)
        order = np.argsort(keys)
        keys = keys[order]
        parts.append(
            Borders(
                first=(keys >> 32).astype(np.int32),
                second=(keys & 0xFFFFFFFF).astype(np.int32),
                length=totals[order].astype(np.float32),
                vertical=np.full(len(keys), vertical),
            )
        )
    return Borders.concat(parts)


def neighbour_means(values: NDArray[Any], borders: Borders, count: int) -> FloatArray:
    """Average the values of the masks below, above and beside each mask, weighted by the length of the border.

    Args:
        values: (count, D) a row per mask; read as float32, added up in double precision.
        borders: Borders between these rows, in any order; those of many images may be put together.
        count: Number of masks.

    Returns:
        (count, 3·D) float32: D columns for below, D for above, D for beside; 0 where there is no such neighbour.

    Raises:
        ShapeError: The values are not (count, D), or the arrays of the borders differ in length.
        InputError: A border names no row.

    Source:
        Ours.

    Example:
        >>> found = borders(np.array([[1, 1, 1], [2, 2, 3]]), np.array([1, 2, 3]), reach=1)
        >>> neighbour_means([[9], [3], [6]], found, 3)
        array([[4., 0., 0.],
               [0., 9., 6.],
               [0., 9., 3.]], dtype=float32)
    """
    table = np.ascontiguousarray(values, dtype=np.float32)
    if table.ndim != 2 or len(table) != count:
        raise ShapeError(f"Expected values (count, D) of {count:,} masks, found {table.shape}.")
    sizes = [np.shape(part) for part in (borders.first, borders.second, borders.length, borders.vertical)]
    if any(size != (len(borders),) for size in sizes):
        raise ShapeError(f"Expected borders as four arrays (E,), found {', '.join(map(str, sizes))}.")
    if len(borders):
        low = min(borders.first.min(), borders.second.min())
        high = max(borders.first.max(), borders.second.max())
        if low < 0 or high >= count:
            raise InputError(f"Borders name rows {low}..{high}; there are {count:,} masks.")
    found = neighbour_sums(
        table,
        np.ascontiguousarray(borders.first, dtype=np.int32),
        np.ascontiguousarray(borders.second, dtype=np.int32),
        np.ascontiguousarray(borders.length, dtype=np.float32),
        np.ascontiguousarray(borders.vertical, dtype=np.bool_),
    )
    return np.asarray(found, dtype=np.float32)


def _row_map(mask_map: NDArray[Any], mask_ids: NDArray[Any]) -> tuple[IntArray, int]:
    """Return the (H, W) row of each pixel's mask among the ids, -1 outside masks, and the number of ids."""
    mask_ids = np.asarray(mask_ids)
    if mask_map.ndim != 2 or mask_ids.ndim != 1:
        raise ShapeError(f"Expected a mask map (H, W) and ids (M,), found {mask_map.shape} and {mask_ids.shape}.")
    if mask_ids.size and not np.issubdtype(mask_ids.dtype, np.integer):
        raise ShapeError(f"Expected mask ids of an integer type, found {mask_ids.dtype}.")
    ids = mask_ids.astype(np.int64)
    if len(ids) and (ids[0] < 1 or np.any(ids[1:] <= ids[:-1])):
        raise InputError("Expected mask ids that ascend from 1 or above. Give them as MaskStats.mask_ids does.")
    flat = flat_ids("mask_map", mask_map, mask_map.shape)
    if flat.size and flat.min() < 0:
        raise InputError(f"Expected mask ids of 0 and above, found {flat.min()}.")
    high = int(flat.max(initial=0))
    if high <= 4 * flat.size + 65536:
        table = np.full(high + 1, -1, dtype=np.int32)
        known = np.searchsorted(ids, high, side="right")
        table[ids[:known]] = np.arange(known, dtype=np.int32)
        rows = table[flat]
    else:
        # Ids as sparse as panoptic ones would make a table larger than the image.
        place = np.searchsorted(ids, flat)
        rows = np.where(np.append(ids, -1)[place] == flat, place, -1).astype(np.int32)
    return rows.reshape(mask_map.shape), len(ids)
