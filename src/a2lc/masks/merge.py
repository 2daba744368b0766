"""Merging masks that touch and are predicted alike, so that one answer covers more (pure).

What is compared is always a mask with the one its region started from, never with the region's running mean. So
whether a mask joins depends on that pair alone, and in whatever order a region's neighbours are visited, it comes
out the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from a2lc.errors import InputError, ShapeError
from a2lc.statistics.mask_stats import flat_ids

__all__ = ["adjacency", "merge_masks", "sqrt_js"]

IntArray = NDArray[np.int32]
DoubleArray = NDArray[np.float64]


def adjacency(mask_map: NDArray[Any], mask_ids: NDArray[Any]) -> IntArray:
    """Find the masks that touch: those with pixels that are neighbours in a row or in a column.

    Args:
        mask_map: (H, W) integer mask ids; 0 is no mask, and neither is an id that `mask_ids` does not list.
        mask_ids: (M,) ids, ascending, each above 0.

    Returns:
        (E, 2) int32, rows i < j of masks that touch, each pair once, in ascending order.

    Raises:
        ShapeError: The map is not (H, W) of an integer type, or the ids are not in one dimension.
        InputError: The ids are not ascending, or an id in the map is negative.

    Source:
        AMSS (arXiv:2303.16817): the graph of base superpixels.

    Example:
        >>> adjacency(np.array([[3, 3, 8], [0, 5, 8]]), np.array([3, 5, 8]))
        array([[0, 1],
               [0, 2],
               [1, 2]], dtype=int32)
    """
    mask_map, mask_ids = np.asarray(mask_map), np.asarray(mask_ids)
    if mask_map.ndim != 2 or mask_ids.ndim != 1:
        raise ShapeError(f"Expected a mask map (H, W) and ids (M,), found {mask_map.shape} and {mask_ids.shape}.")
    ids = mask_ids.astype(np.int64)
    if len(ids) and (ids[0] < 1 or np.any(np.diff(ids) <= 0)):
        raise InputError("Expected mask ids that ascend from 1 or above. Give them as MaskStats.mask_ids does.")
    flat = flat_ids("mask_map", mask_map, mask_map.shape)
    if flat.size and flat.min() < 0:
        raise InputError(f"Expected mask ids of 0 and above, found {flat.min()}.")
    keys = _touching(_rows(flat, ids).reshape(mask_map.shape), max(len(ids), 1))
    pairs = np.unique(keys)
    return np.stack(np.divmod(pairs, max(len(ids), 1)), axis=1).astype(np.int32)


def sqrt_js(p: NDArray[Any], q: NDArray[Any]) -> DoubleArray:
    """Square root of the Jensen-Shannon divergence, natural logarithm.

    Args:
        p: Probabilities, (..., K), summing to 1 over K.
        q: Likewise; the leading dimensions are broadcast.

    Returns:
        (...) float64 in [0, √ln 2]; 0 for equal distributions.

    Raises:
        ShapeError: The two differ in K.

    Source:
        AMSS (arXiv:2303.16817): d(p, q) = √((KL(p ‖ (p+q)/2) + KL(q ‖ (p+q)/2)) / 2).

    Example:
        >>> sqrt_js([0.7, 0.2, 0.1], [0.6, 0.3, 0.1]).round(6)
        np.float64(0.08342)
    """
    one, other = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if not one.ndim or not other.ndim or one.shape[-1] != other.shape[-1]:
        raise ShapeError(f"Expected probabilities over the same classes, found {one.shape} and {other.shape}.")
    one, other = np.broadcast_arrays(one, other)
    shape, classes = one.shape[:-1], one.shape[-1]
    found = _distances(np.ascontiguousarray(one).reshape(-1, classes), np.ascontiguousarray(other).reshape(-1, classes))
    return np.asarray(found, dtype=np.float64).reshape(shape)[()]


def merge_masks(
    mean_probs: NDArray[Any],
    uncertainty: NDArray[Any],
    edges: NDArray[Any],
    *,
    epsilon: float = 0.1,
    max_absorbed: int | None = None,
) -> IntArray:
    """Join masks that are predicted alike into regions.

    Masks are visited from the most to the least uncertain; of equals, the lower row first. One that belongs to no
    region yet is the root of a new one, which absorbs every mask of no region that touches a member and is nearer
    than `epsilon` to the root.

    Args:
        mean_probs: (M, K) mean probabilities of each mask.
        uncertainty: (M,) how uncertain the model is of each mask; AMSS takes the mean ratio of second-best to best
            probability.
        edges: (E, 2) rows of masks that touch, see `adjacency`.
        epsilon: Largest distance to the root, itself excluded, by `sqrt_js`.
        max_absorbed: Stop once so many masks of the image were absorbed; None for no limit. Only then does the order
            within a region matter: masks are absorbed breadth first, lower rows first. The authors' code takes a
            tenth of the masks when this is switched on.

    Returns:
        (M,) int32, row of the root of each mask's region: its own for a root.

    Raises:
        ShapeError: The arrays do not belong together.
        InputError: An edge names no row, or the limit is negative.

    Source:
        AMSS (arXiv:2303.16817), adaptive superpixel merging. That the root is what is compared with is as coded;
        ε = 0.1 is theirs.

    Example:
        >>> probs = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.0, 0.1, 0.9]]
        >>> merge_masks(probs, [0.2, 0.5, 0.1], [[0, 1], [1, 2]])
        array([1, 1, 2], dtype=int32)
    """
    probs = np.ascontiguousarray(mean_probs, dtype=np.float64)
    doubt = np.asarray(uncertainty, dtype=np.float64)
    pairs = np.asarray(edges)
    if probs.ndim != 2 or doubt.shape != probs.shape[:1]:
        raise ShapeError(f"Expected (M, K) probabilities and (M,) values, found {probs.shape} and {doubt.shape}.")
    if not pairs.size:
        pairs = np.empty((0, 2), dtype=np.int32)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ShapeError(f"Expected edges (E, 2) of an integer type, found {pairs.shape} {pairs.dtype}.")
    if pairs.size and (pairs.min() < 0 or pairs.max() >= len(probs)):
        raise InputError(f"Edges name rows {pairs.min()}..{pairs.max()}; there are {len(probs):,} masks.")
    if max_absorbed is not None and max_absorbed < 0:
        raise InputError(f"The number of masks to absorb is {max_absorbed}; expected 0 or more, or None for all.")
    both = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int32)
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    starts = np.searchsorted(both[:, 0], np.arange(len(probs) + 1)).astype(np.int64)
    order = np.argsort(-doubt, kind="stable")
    limit = len(probs) if max_absorbed is None else max_absorbed
    regions = _merge(probs, order, starts, np.ascontiguousarray(both[:, 1]), float(epsilon), limit)
    return np.asarray(regions, dtype=np.int32)


def _rows(flat: IntArray, ids: NDArray[np.int64]) -> IntArray:
    """Return the (H·W,) row of each pixel's mask among the ids, -1 outside masks."""
    high = int(flat.max(initial=0))
    if high <= 4 * flat.size + 65536:
        table = np.full(high + 1, -1, dtype=np.int32)
        known = np.searchsorted(ids, high, side="right")
        table[ids[:known]] = np.arange(known, dtype=np.int32)
        return np.asarray(table[flat])
    # Ids as sparse as panoptic ones would make a table larger than the image.
    place = np.searchsorted(ids, flat)
    listed = np.append(ids, -1)[place] == flat
    return np.where(listed, place, -1).astype(np.int32)


@njit(cache=True, nogil=True)
def _touching(rows: IntArray, count: int) -> NDArray[np.int64]:
    """Return numbers i·count + j, i < j, of the masks on both sides of every boundary, with repetitions."""
    height, width = rows.shape
    keys = np.empty(1024, dtype=np.int64)
    found = 0
    # The pair last met in each column: boundaries run on, and most repetitions are met one after another.
    right = np.full(width, -1, dtype=np.int64)
    for r in range(height):
        below = np.int64(-1)
        if found + 2 * width > keys.size:
            larger = np.empty(2 * keys.size + 2 * width, dtype=np.int64)
            for i in range(found):  # a slice set to a slice would take seconds to compile
                larger[i] = keys[i]
            keys = larger
        for c in range(width):
            one = rows[r, c]
            if one < 0:
                continue
            if c + 1 < width:
                other = rows[r, c + 1]
                if other >= 0 and other != one:
                    key = np.int64(min(one, other)) * count + max(one, other)
                    if key != right[c]:
                        keys[found] = key
                        found += 1
                        right[c] = key
            if r + 1 < height:
                other = rows[r + 1, c]
                if other >= 0 and other != one:
                    key = np.int64(min(one, other)) * count + max(one, other)
                    if key != below:
                        keys[found] = key
                        found += 1
                        below = key
    return keys[:found]


@njit(cache=True, nogil=True)
def _distance(probs: DoubleArray, i: int, others: DoubleArray, j: int) -> float:
    total = 0.0
    for k in range(probs.shape[1]):
        p, q = probs[i, k], others[j, k]
        middle = (p + q) / 2
        # 0·ln 0 is 0; a middle of 0 means that both are. Each class is one term, so that the order of the two
        # distributions makes no difference at all.
        term = p * math.log(p / middle) if p > 0 else 0.0
        total += term + (q * math.log(q / middle) if q > 0 else 0.0)
    # Rounding may leave a sum just below 0.
    return math.sqrt(max(total, 0.0) / 2)


@njit(cache=True, nogil=True)
def _distances(one: DoubleArray, other: DoubleArray) -> DoubleArray:
    found = np.empty(len(one))
    for i in range(len(one)):
        found[i] = _distance(one, i, other, i)
    return found


@njit(cache=True, nogil=True)
def _merge(
    probs: DoubleArray,
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    neighbours: IntArray,
    epsilon: float,
    limit: int,
) -> IntArray:
    count = len(probs)
    regions = np.full(count, -1, dtype=np.int32)
    compared = np.full(count, -1, dtype=np.int32)  # the root a mask was last compared with
    queue = np.empty(count, dtype=np.int32)
    absorbed = 0
    for root in order:
        if regions[root] >= 0:
            continue
        regions[root] = root
        queue[0] = root
        first, last = 0, 1
        while first < last and absorbed < limit:
            member = queue[first]
            first += 1
            for place in range(starts[member], starts[member + 1]):
                other = neighbours[place]
                if regions[other] >= 0 or compared[other] == root:
                    continue
                compared[other] = root
                if absorbed < limit and _distance(probs, root, probs, other) < epsilon:
                    regions[other] = root
                    queue[last] = other
                    last += 1
                    absorbed += 1
    return regions
