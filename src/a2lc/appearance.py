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
from numba import njit
from numpy.typing import NDArray

from a2lc.errors import InputError, ShapeError
from a2lc.stats import flat_ids

__all__ = ["APPEARANCE", "Borders", "borders", "mask_appearance", "neighbour_means"]

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int32]
DoubleArray = NDArray[np.float64]
LongArray = NDArray[np.int64]

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
    first, looks, places = _sums(_lab(np.ascontiguousarray(pixels)), rows, count)
    seen = places[:, 0] > 0
    values[seen] = _columns(first[seen], looks[seen], places[seen].astype(np.float64), *rows.shape)
    return values


def _columns(first: FloatArray, looks: DoubleArray, places: DoubleArray, height: int, width: int) -> DoubleArray:
    """The columns of `mask_appearance` from what `_sums` found; no mask is empty."""
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


# ---- which masks lie next to each other ----------------------------------------------------------------------------


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
        """Number of borders, E."""
        return len(self.first)

    def shifted(self, offset: int) -> Borders:
        """The same borders with `offset` added to all rows: of masks that come after those of other images.

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
        """Borders of several images one after another, rows as they are; none of no parts."""
        return cls(
            first=np.concatenate([np.empty(0, dtype=np.int32), *(part.first for part in parts)]),
            second=np.concatenate([np.empty(0, dtype=np.int32), *(part.second for part in parts)]),
            length=np.concatenate([np.empty(0, dtype=np.float32), *(part.length for part in parts)]),
            vertical=np.concatenate([np.empty(0, dtype=np.bool_), *(part.vertical for part in parts)]),
        )


def borders(mask_map: NDArray[Any], mask_ids: NDArray[Any], reach: int = 5) -> Borders:
    """Which masks lie above, below and beside each other, and how much they face each other.

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
        keys, totals = _tally(lines, int(reach), vertical)
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
    """Means of the values of the masks below, above and beside each mask, weighted by the length of the border.

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
    found = _means(
        table,
        np.ascontiguousarray(borders.first, dtype=np.int32),
        np.ascontiguousarray(borders.second, dtype=np.int32),
        np.ascontiguousarray(borders.length, dtype=np.float32),
        np.ascontiguousarray(borders.vertical, dtype=np.bool_),
    )
    return np.asarray(found, dtype=np.float32)


def _row_map(mask_map: NDArray[Any], mask_ids: NDArray[Any]) -> tuple[IntArray, int]:
    """(H, W) row of each pixel's mask among the ids, -1 for no mask, and the number of ids."""
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


# ---- compiled ------------------------------------------------------------------------------------------------------

_SRGB = np.arange(256) / 255
_LINEAR = np.where(_SRGB > 0.04045, ((_SRGB + 0.055) / 1.055) ** 2.4, _SRGB / 12.92)
_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
# What each of the 256 values of a channel adds to X, Y and Z relative to white: (3 channels, 256, 3).
_SHARES = np.ascontiguousarray(_LINEAR[None, :, None] * (_XYZ / _WHITE[:, None]).T[:, None, :]).astype(np.float32)

_CUT = np.float32(0.008856)
_SLOPE = np.float32(7.787)
_OFFSET = np.float32(16 / 116)
_THIRD = np.float32(1 / 3)
_ROOT_BASE = np.int32(709921077)  # two thirds of the bits of 1, less what evens the error out to 3 %
_TWO = np.float32(2)
_HALF = np.float32(0.5)
_TILT = np.float32(math.tan(math.pi / 8))

_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(inline="always")
def _lightness(t: Any) -> Any:
    """The cube root of CIE Lab, linear near 0, without a call, so that a loop over pixels becomes vector code."""
    base = t if t > _CUT else _CUT
    bits = np.int32(np.float32(np.float32(base).view(np.int32)) * _THIRD)
    root = np.int32(bits + _ROOT_BASE).view(np.float32)
    # Halley's steps triple the digits: 3 %, 1e-5, the last bit.
    cube = root * root * root
    root = root * (cube + _TWO * base) / (_TWO * cube + base)
    cube = root * root * root
    root = root * (cube + _TWO * base) / (_TWO * cube + base)
    return root if t > _CUT else _SLOPE * t + _OFFSET


@njit(cache=True, nogil=True)
def _lab(pixels: NDArray[np.uint8]) -> FloatArray:
    """(3, H, W) CIE Lab of (H, W, 3) sRGB."""
    height, width, _ = pixels.shape
    lab = np.empty((3, height, width), dtype=np.float32)
    for r in range(height):
        one, two, three = lab[0, r], lab[1, r], lab[2, r]
        for c in range(width):
            red, green, blue = pixels[r, c, 0], pixels[r, c, 1], pixels[r, c, 2]
            one[c] = _SHARES[0, red, 0] + _SHARES[1, green, 0] + _SHARES[2, blue, 0]
            two[c] = _SHARES[0, red, 1] + _SHARES[1, green, 1] + _SHARES[2, blue, 1]
            three[c] = _SHARES[0, red, 2] + _SHARES[1, green, 2] + _SHARES[2, blue, 2]
        for c in range(width):
            x, y, z = _lightness(one[c]), _lightness(two[c]), _lightness(three[c])
            one[c] = np.float32(116) * y - np.float32(16)
            two[c] = np.float32(500) * (x - y)
            three[c] = np.float32(200) * (y - z)
    return lab


@njit(cache=True, nogil=True)
def _texture(light: FloatArray, r: int, parts: FloatArray, bend: FloatArray) -> None:
    """Magnitude of the gradient, (4, W) by direction, and absolute Laplacian, (W,), of a row of an image."""
    height, width = light.shape
    here = light[r]
    up, down = light[max(r - 1, 0)], light[min(r + 1, height - 1)]
    slope = parts[0]  # holds the horizontal difference until the last loop
    for c in range(1, width - 1):
        slope[c] = (here[c + 1] - here[c - 1]) * _HALF
        bend[c] = (here[c - 1] - here[c]) + (here[c + 1] - here[c])
    last = width - 1
    slope[0] = (here[min(1, last)] - here[0]) * _HALF
    slope[last] = (here[last] - here[max(last - 1, 0)]) * _HALF
    bend[0] = here[min(1, last)] - here[0]
    bend[last] = here[max(last - 1, 0)] - here[last]
    none = np.float32(0)
    for c in range(width):
        x, y = slope[c], (down[c] - up[c]) * _HALF
        size = np.float32(math.sqrt(x * x + y * y))
        flat = abs(y) <= _TILT * abs(x)
        steep = abs(x) < _TILT * abs(y)
        falling = x * y > none
        parts[0, c] = size if flat else none
        parts[1, c] = size if (not flat) & (not steep) & falling else none
        parts[2, c] = size if steep else none
        parts[3, c] = size if (not flat) & (not steep) & (not falling) else none
        bend[c] = abs(bend[c] + (up[c] - here[c]) + (down[c] - here[c]))


@njit(cache=True, nogil=True, fastmath=_FAST)
def _add_run(
    lab: FloatArray,
    r: int,
    start: int,
    stop: int,
    parts: FloatArray,
    bend: FloatArray,
    first: FloatArray,
    m: int,
    looks: DoubleArray,
) -> None:
    """Add a run of pixels of one mask to its sums."""
    for k in range(3):
        row, base = lab[k, r], np.float64(first[m, k])
        total, square = 0.0, 0.0
        for c in range(start, stop):
            value = np.float64(row[c]) - base
            total += value
            square += value * value
        looks[m, k] += total
        looks[m, 3 + k] += square
    for k in range(4):
        part, total = parts[k], 0.0
        for c in range(start, stop):
            total += np.float64(part[c])
        looks[m, 6 + k] += total
    total = 0.0
    for c in range(start, stop):
        total += np.float64(bend[c])
    looks[m, 10] += total


@njit(cache=True, nogil=True)
def _sums(lab: FloatArray, rows: IntArray, count: int) -> tuple[FloatArray, DoubleArray, LongArray]:
    """Sums over the pixels of each mask.

    Returns:
        first: (M, 3) Lab of the first pixel. Differences from it are what is summed, so that a mask of one colour has
            a standard deviation of exactly 0.
        looks: (M, 11) sums of the 3 differences, their squares, the 4 parts of the gradient, and the Laplacian.
        places: (M, 10) area, sums of y, y², x, x², bounding box (top, bottom, left, right; the ends excluded), and
            perimeter.
    """
    height, width = rows.shape
    first = np.zeros((count, 3), dtype=np.float32)
    looks = np.zeros((count, 11), dtype=np.float64)
    places = np.zeros((count, 10), dtype=np.int64)
    parts = np.empty((4, width), dtype=np.float32)
    bend = np.empty(width, dtype=np.float32)
    for r in range(height):
        _texture(lab[0], r, parts, bend)
        here = rows[r]
        stop = 0
        while stop < width:
            start = stop
            m = here[start]
            while stop < width and here[stop] == m:
                stop += 1
            if m < 0:
                continue
            place = places[m]
            if place[0] == 0:
                for k in range(3):
                    first[m, k] = lab[k, r, start]
                place[5], place[7] = r, start
            _add_run(lab, r, start, stop, parts, bend, first, m, looks)
            length = stop - start
            last = stop - 1
            place[0] += length
            place[1] += r * length
            place[2] += r * r * length
            place[3] += (start + last) * length // 2
            place[4] += (last * stop * (last + stop) - (start - 1) * start * (2 * start - 1)) // 6
            place[6] = r + 1
            place[7] = min(place[7], start)
            place[8] = max(place[8], stop)
            sides = 2  # a run ends where something else begins
            if r == 0:
                sides += length
            else:
                for c in range(start, stop):
                    sides += rows[r - 1, c] != m
            if r == height - 1:
                sides += length
            else:
                for c in range(start, stop):
                    sides += rows[r + 1, c] != m
            place[9] += sides
    return first, looks, places


_SPREAD = np.int64(-7046029254386353131)  # 2^64 over the golden ratio: spreads keys that differ little


@njit(inline="always")
def _slot(keys: LongArray, key: Any) -> Any:
    """Where a key is in an open table of 2^n places, or where it would go."""
    mask = keys.size - 1
    slot = ((key * _SPREAD) >> 32) & mask
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def _tally(rows: IntArray, reach: int, ordered: bool) -> tuple[LongArray, DoubleArray]:
    """Pairs of masks, first · 2^32 + second, above each other at odd steps, and the sums of 1/step; in any order."""
    height, width = rows.shape
    keys = np.full(1024, -1, dtype=np.int64)
    totals = np.zeros(1024, dtype=np.float64)
    used = 0
    places = np.empty(width, dtype=np.int32)
    for step in range(1, min(reach, height - 1) + 1, 2):
        weight = 1.0 / step
        for r in range(height - step):
            above, below = rows[r], rows[r + step]
            # Most pixels have the same mask on both sides: which have not is found without a branch.
            found = 0
            for c in range(width):
                places[found] = c
                found += (above[c] != below[c]) & ((above[c] | below[c]) >= 0)
            i = 0
            while i < found:
                one, other = above[places[i]], below[places[i]]
                start = i
                i += 1
                # Borders run on: the table is asked once for all pixels with the same two masks.
                while i < found and above[places[i]] == one and below[places[i]] == other:
                    i += 1
                low, high = np.int64(one), np.int64(other)
                if not ordered and low > high:
                    low, high = high, low
                key = low << 32 | high
                slot = _slot(keys, key)
                if keys[slot] < 0:
                    keys[slot] = key
                    used += 1
                totals[slot] += weight * (i - start)
                if 2 * used > keys.size:
                    old_keys, old_totals = keys, totals
                    keys = np.full(2 * old_keys.size, -1, dtype=np.int64)
                    totals = np.zeros(keys.size, dtype=np.float64)
                    for j in range(old_keys.size):
                        if old_keys[j] >= 0:
                            slot = _slot(keys, old_keys[j])
                            keys[slot] = old_keys[j]
                            totals[slot] = old_totals[j]
    filled = keys >= 0
    return keys[filled], totals[filled]


@njit(cache=True, nogil=True)
def _means(
    values: FloatArray, first: IntArray, second: IntArray, length: FloatArray, vertical: NDArray[np.bool_]
) -> FloatArray:
    """Means over the masks below, above and beside each mask."""
    count, width = values.shape
    # Borders are first put in order of who receives them, by counting: then no sum in double precision is kept for
    # longer than its mask takes, and the work is linear in the borders.
    starts = np.zeros(3 * count + 2, dtype=np.int64)
    for e in range(first.size):
        starts[3 * first[e] + (0 if vertical[e] else 2) + 2] += 1
        starts[3 * second[e] + (1 if vertical[e] else 2) + 2] += 1
    for i in range(1, starts.size):
        starts[i] += starts[i - 1]
    other = np.empty(2 * first.size, dtype=np.int32)
    weight = np.empty(2 * first.size, dtype=np.float32)
    # starts[i + 1] is where the next border of receiver i goes, and in the end where those of i + 1 begin.
    for e in range(first.size):
        one, two = first[e], second[e]
        place = 3 * one + (0 if vertical[e] else 2) + 1
        other[starts[place]], weight[starts[place]] = two, length[e]
        starts[place] += 1
        place = 3 * two + (1 if vertical[e] else 2) + 1
        other[starts[place]], weight[starts[place]] = one, length[e]
        starts[place] += 1
    means = np.zeros((count, 3 * width), dtype=np.float32)
    sums = np.empty(width, dtype=np.float64)
    for m in range(count):
        for kind in range(3):
            sums[:] = 0.0
            total = 0.0
            for place in range(starts[3 * m + kind], starts[3 * m + kind + 1]):
                share = np.float64(weight[place])
                total += share
                for k in range(width):
                    sums[k] += share * np.float64(values[other[place], k])
            if total > 0:
                for k in range(width):
                    means[m, kind * width + k] = np.float32(sums[k] / total)
    return means
