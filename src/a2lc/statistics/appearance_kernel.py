"""Compiled loops behind mask appearance: Lab colours, texture, and neighbour sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["colour_sums", "neighbour_sums", "tally", "to_lab"]


FloatArray = NDArray[np.float32]


IntArray = NDArray[np.int32]


DoubleArray = NDArray[np.float64]


LongArray = NDArray[np.int64]


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
    """Compute the cube root of CIE Lab, linear near 0, without a call, so that a loop over pixels becomes vector code."""
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
def to_lab(pixels: NDArray[np.uint8]) -> FloatArray:
    """Convert (H, W, 3) sRGB to (3, H, W) CIE Lab."""
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


def colour_sums(lab: FloatArray, rows: IntArray, count: int) -> tuple[FloatArray, DoubleArray, LongArray]:
    """Sum colour and position over the pixels of each mask.

    Returns:
        first: (M, 3) Lab of the first pixel. Differences from it are what is summed, so that a mask of one colour has
            a standard deviation of exactly 0.
        looks: (M, 11) sums of the 3 differences, their squares, the 4 parts of the gradient, and the Laplacian.
        places: (M, 10) area, sums of y, y², x, x², bounding box (top, bottom, left, right; the ends excluded), and
            perimeter.
    """
    width = rows.shape[1]
    first = np.zeros((count, 3), dtype=np.float32)
    looks = np.zeros((count, 11), dtype=np.float64)
    places = np.zeros((count, 10), dtype=np.int64)
    # Arrays are made here: each allocation inside compiled code costs a good part of a second of compilation.
    parts, bend = np.empty((4, width), dtype=np.float32), np.empty(width, dtype=np.float32)
    _sum_colours(lab, rows, parts, bend, first, looks, places)
    return first, looks, places


@njit(cache=True, nogil=True)
def _sum_colours(
    lab: FloatArray,
    rows: IntArray,
    parts: FloatArray,
    bend: FloatArray,
    first: FloatArray,
    looks: DoubleArray,
    places: LongArray,
) -> None:
    height, width = rows.shape
    for r in range(height):
        _texture(lab[0], r, parts, bend)
        here = rows[r]
        stop: Any = np.int64(0)  # not the literal 0, for which `_add_run` would be compiled once more
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


_SPREAD = np.int64(-7046029254386353131)  # 2^64 over the golden ratio: spreads keys that differ little


@njit(inline="always")
def _slot(keys: LongArray, key: Any) -> Any:
    """Find a key in an open table of 2^n places, or where it would go."""
    mask = keys.size - 1
    slot = ((key * _SPREAD) >> 32) & mask
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & mask
    return slot


def tally(rows: IntArray, reach: int, ordered: bool) -> tuple[LongArray, DoubleArray]:
    """Count pairs of masks, first · 2^32 + second, above each other at odd steps, summing 1/step; in any order."""
    keys, totals = _fill(rows, reach, ordered, np.full(1024, -1, dtype=np.int64), np.zeros(1024))
    filled = keys >= 0
    return keys[filled], totals[filled]


@njit(cache=True, nogil=True)
def _fill(
    rows: IntArray, reach: int, ordered: bool, keys: LongArray, totals: DoubleArray
) -> tuple[LongArray, DoubleArray]:
    height, width = rows.shape
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
    return keys, totals


@njit(cache=True, nogil=True)
def neighbour_sums(
    values: FloatArray, first: IntArray, second: IntArray, length: FloatArray, vertical: NDArray[np.bool_]
) -> FloatArray:
    """Average over the masks below, above and beside each mask."""
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
