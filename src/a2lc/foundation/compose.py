"""Masks that lie over each other made one mask map and one label map (pure).

A mask is what one question is about, so each has exactly one class, and a pixel belongs to one mask at most. Where masks
overlap, the one on top keeps the pixel:

- `score`: the class of higher priority, then the higher score, then the smaller mask;
- `size`: the class of higher priority, then the smaller mask, then the higher score.

Among equals the one found first. A mask cut in two by one above it stays one mask: it was found as one object, has one
class and is one question. A mask of which nothing is left vanishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError
from a2lc.foundation.packed import PackedMasks
from a2lc.masks.superpixels import MAX_MASKS

__all__ = ["OVERLAP_RULES", "Composed", "compose", "cover_pieces"]

OVERLAP_RULES = {
    "score": "class priority, then score, then small on top",
    "size": "class priority, then small on top, then score",
}
"""Which mask keeps a pixel that several claim, by name."""


@dataclass(frozen=True, eq=False)
class Composed:
    """Labels and masks of an image.

    Attributes:
        labels: (H, W) class indices or the ignore index.
        masks: (H, W) uint16: 0 where there is no mask, else 1..M.
        origin: (M,) int32: of each mask the object it is of, -1 for what covers the rest.
    """

    labels: NDArray[Any]
    masks: NDArray[np.uint16]
    origin: NDArray[np.int32]


def compose(
    objects: PackedMasks,
    classes: NDArray[np.integer],
    scores: NDArray[np.floating],
    *,
    priorities: NDArray[np.integer],
    ignore_index: int,
    dtype: np.dtype[Any] | type[np.unsignedinteger[Any]] = np.uint8,
    rule: str = "score",
    superpixels: NDArray[np.integer] | None = None,
    background: int | None = None,
) -> Composed:
    """Lay objects over each other, and cover the rest.

    Args:
        objects: N masks, which may overlap.
        classes: (N,) class of each.
        scores: (N,) how sure the detector is of it.
        priorities: (K,) of the classes: the higher is on top.
        ignore_index: What stands for no class.
        dtype: Of the labels.
        rule: `score` or `size`.
        superpixels: (H, W) 1..n: the pixels no object claims become masks along them; None leaves them without a mask.
        background: Class of the pixels no object claims; None for no class.

    Returns:
        Masks of objects are numbered in the order given, then those of the rest in the order of the superpixels.

    Raises:
        InputError: There are more masks than a 16-bit mask map can number.

    Example:
        >>> tall, wide = np.zeros((2, 3, 4), dtype=bool)
        >>> tall[:, 1], wide[1] = True, True
        >>> both = PackedMasks.pack([tall, wide], 3, 4)
        >>> compose(both, np.array([5, 6]), np.array([0.4, 0.3]), priorities=np.zeros(7, int), ignore_index=255).masks
        array([[0, 1, 0, 0],
               [2, 1, 2, 2],
               [0, 1, 0, 0]], dtype=uint16)
    """
    shape = (objects.height, objects.width)
    first_found = -np.arange(len(objects))
    priority, small = priorities[classes], -objects.areas()
    keys = (small, scores) if rule == "score" else (scores, small)
    top = np.full(shape, -1, dtype=np.int32)
    for index in np.lexsort((first_found, *keys, priority)).tolist():
        place, inside = objects.crop(index)
        top[place][inside] = index
    labels = np.full(shape, ignore_index if background is None else background, dtype=dtype)
    claimed = top >= 0
    labels[claimed] = classes[top[claimed]]
    origin = np.unique(top[claimed])
    ids = np.zeros(len(objects), dtype=np.int64)
    ids[origin] = np.arange(1, len(origin) + 1)
    masks = np.zeros(shape, dtype=np.int64)
    masks[claimed] = ids[top[claimed]]
    number = len(origin)
    if superpixels is not None and not claimed.all():
        pieces = cover_pieces(superpixels, ~claimed)
        names, renumbered = np.unique(pieces[~claimed], return_inverse=True)
        masks[~claimed] = number + 1 + renumbered.ravel()
        number += len(names)
    if number > MAX_MASKS:
        raise InputError(
            f"{number:,} masks; at most {MAX_MASKS:,} fit a 16-bit mask map. Raise `box_threshold`, or lower `cover_count`."
        )
    whole = np.concatenate([origin, np.full(number - len(origin), -1)])
    return Composed(labels, masks.astype(np.uint16), whole.astype(np.int32))


def cover_pieces(superpixels: NDArray[np.integer], rest: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return what is left of superpixels where objects took pixels away, slivers joined to their neighbours.

    A piece below a quarter of the mean superpixel is one more question about a few pixels at an object's edge, so it joins
    the neighbour it shares most of its boundary with. One that has no other neighbour stays as it is.

    Args:
        superpixels: (H, W) 1..n.
        rest: (H, W) pixels no object claims.

    Returns:
        (H, W) number of the superpixel each pixel of the rest belongs to, 0 elsewhere.
    """
    pieces = np.where(rest, superpixels, 0).astype(np.int64)
    area = np.bincount(pieces.ravel(), minlength=int(superpixels.max()) + 1)
    settled = area * 4 * len(np.unique(superpixels)) >= superpixels.size
    owner = np.arange(len(area))
    sides = [(pieces[:, :-1], pieces[:, 1:]), (pieces[:-1], pieces[1:])]
    one = np.concatenate([a.ravel() for a, _ in sides])
    other = np.concatenate([b.ravel() for _, b in sides])
    apart = (one != other) & (one > 0) & (other > 0)
    one, other = np.concatenate([one[apart], other[apart]]), np.concatenate([other[apart], one[apart]])
    while True:
        # Slivers amid slivers wait for these.
        ready = ~settled[one] & settled[other]
        if not ready.any():
            return owner[pieces]
        pairs, shared = np.unique(np.stack([one[ready], owner[other[ready]]]), axis=1, return_counts=True)
        order = np.lexsort((-pairs[1], shared, pairs[0]))
        last = order[np.flatnonzero(np.diff(pairs[0][order], append=-1))]
        owner[pairs[0][last]] = pairs[1][last]
        settled[pairs[0][last]] = True
