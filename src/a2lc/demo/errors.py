"""Plant label errors as a weak labeller would make them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from a2lc.demo.canvas import Canvas, value_noise
from a2lc.demo.looks import APPEARANCES, CLASS_NAMES

__all__ = ["cut_regions", "make_masks", "weak_labels"]


_LOOK_ALIKE_RATE = 0.92  # how consistently the weak labeller follows a wrong habit


_LOOK_ALIKE_RAMP = 0.10  # width in difficulty over which a habit sets in


_RANDOM_RATE = 0.02  # share of the other masks that get some wrong class


_SMALL_RANDOM_RATE = 0.23  # the same for small masks: a small crop says little


_SMALL_AREA = 0.012  # what counts as small, as a share of the image


# A labeller in doubt says what it has seen most: wrong classes at random come about as often as the class has pixels.
_RANDOM_SHARES = (0.21, 0.19, 0.20, 0.16, 0.10, 0.03, 0.06, 0.02, 0.01, 0.01, 0.01)


_MISSED_RATE = 0.03  # share of the objects without a mask


_SWALLOWED_RATE = 0.05  # share of the smaller masks that are one with a larger neighbour


_SWALLOWED_AREA = 0.04  # what counts as smaller, as a share of the image


_BORDER_SHIFT = 1.0  # standard deviation of how far a mask's border is off, in units


_PIECE_AREA = 0.10  # share of the image above which a region falls into several masks


_SLIVER_AREA = 12.0  # region remnants below this many square units get no mask, most of the time


_SLIVER_KEPT_RATE = 0.02


_STUFF = frozenset({"sky", "building", "road", "pavement", "tree", "fence"})


def cut_regions(rng: np.random.Generator, points: NDArray[np.intp], pieces: int) -> NDArray[np.intp]:
    """Cut a region into `pieces` compact ones: for its (N, 2) pixels a piece 0 .. pieces-1 each."""
    # Seeds far from each other, among few candidates so that it is fast and not too regular.
    candidates = points[rng.integers(len(points), size=12 * pieces)].astype(np.float64)
    seeds = candidates[:1]
    for _ in range(pieces - 1):
        gaps = np.linalg.norm(candidates[:, None] - seeds[None], axis=2).min(axis=1)
        seeds = np.concatenate([seeds, candidates[[int(gaps.argmax())]]])
    squared = [((points - seed) ** 2).sum(axis=1) for seed in seeds]
    return np.asarray(np.argmin(squared, axis=0), np.intp)


def _cut_pieces(canvas: Canvas, rng: np.random.Generator) -> tuple[NDArray[np.int32], list[int]]:
    """Regions as a class-agnostic segmenter sees them.

    Returns:
        (H, W) int32 of piece ids with 0 for none, and each piece's row of `APPEARANCES`, -1 for piece 0.
    """
    area = canvas.instances.size
    pieces, looks = np.zeros_like(canvas.instances), [-1]
    for number, window in enumerate(ndimage.find_objects(canvas.instances), start=1):
        if window is None:  # wholly behind others
            continue
        row = canvas.looks[number]
        shows = canvas.instances[window] == number
        # A thing stays one mask when a lamp post cuts it in two; the parts of a region do not know of each other.
        parts, count = ndimage.label(shows) if APPEARANCES[row].label in _STUFF else (shows.astype(np.int32), 1)
        for part in range(1, count + 1):
            points = np.argwhere(parts == part)
            if len(points) < _SLIVER_AREA * canvas.unit**2 and rng.random() >= _SLIVER_KEPT_RATE:
                continue
            wanted = max(round(len(points) / (_PIECE_AREA * area)), 1) if APPEARANCES[row].label in _STUFF else 1
            piece = cut_regions(rng, points, wanted) if wanted > 1 else np.zeros(len(points), np.intp)
            pieces[window][points[:, 0], points[:, 1]] = len(looks) + piece
            looks.extend([row] * wanted)
    return pieces, looks


def _warp(canvas: Canvas, rng: np.random.Generator, pieces: NDArray[np.int32]) -> NDArray[np.int32]:
    """Move the borders by a smooth random displacement of `_BORDER_SHIFT` units, whole neighbourhoods alike."""
    height, width = pieces.shape
    shift = _BORDER_SHIFT * canvas.unit / math.sqrt(2.0)
    down = np.arange(height)[:, None] + shift * value_noise(rng, canvas.y, canvas.x, 6.0)
    across = np.arange(width)[None, :] + shift * value_noise(rng, canvas.y, canvas.x, 6.0)
    rows = np.clip(np.rint(down), 0, height - 1).astype(np.intp)
    columns = np.clip(np.rint(across), 0, width - 1).astype(np.intp)
    return np.asarray(pieces[rows, columns], np.int32)


def _spoil(rng: np.random.Generator, pieces: NDArray[np.int32], looks: Sequence[int]) -> NDArray[np.int32]:
    """Let some objects go without a mask and some pieces be one with a larger neighbour; change `pieces`, return it."""
    draws = rng.random((len(looks), 2))
    areas = np.bincount(pieces.ravel(), minlength=len(looks))
    for piece, window in enumerate(ndimage.find_objects(pieces.copy(), max_label=len(looks) - 1), start=1):
        if window is None:
            continue
        thing = APPEARANCES[looks[piece]].label not in _STUFF
        if thing and draws[piece, 0] < _MISSED_RATE:
            pieces[pieces == piece] = 0
        elif draws[piece, 1] < _SWALLOWED_RATE and areas[piece] < _SWALLOWED_AREA * pieces.size:
            around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in window)
            inside = pieces[around] == piece
            touching = pieces[around][ndimage.binary_dilation(inside) & ~inside]
            contact = np.bincount(touching, minlength=len(looks))
            contact[(areas <= areas[piece]) | (np.arange(len(looks)) == 0)] = 0
            if contact.any():
                pieces[pieces == piece] = int(contact.argmax())
    return pieces


def make_masks(canvas: Canvas, rng: np.random.Generator) -> tuple[NDArray[np.uint16], NDArray[np.intp]]:
    """Return the mask map (H, W), and for its n masks the rows of `APPEARANCES` they are judged by (n,)."""
    pieces, looks = _cut_pieces(canvas, rng)
    pieces = _spoil(rng, _warp(canvas, rng, pieces), looks)
    ids = np.unique(pieces)
    ids = ids[ids > 0]
    compact = np.zeros(len(looks), np.uint16)
    compact[ids] = np.arange(1, len(ids) + 1)
    return compact[pieces], np.asarray(looks, np.intp)[ids]


def weak_labels(
    rng: np.random.Generator, looks: NDArray[np.intp], areas: NDArray[np.float64], level: float
) -> NDArray[np.uint8]:
    """Return the classes that the weak labeller gives masks of these appearances, image shares and difficulty: (n,) uint8.

    The draws are the same at every difficulty and only the thresholds move, so a wrong label stays wrong.
    """
    draws = rng.random((len(looks), 3))
    labels = np.empty(len(looks), np.uint8)
    for position, row in enumerate(looks):
        look = APPEARANCES[row]
        own = CLASS_NAMES.index(look.label)
        habit = min(max((level - look.known_until) / _LOOK_ALIKE_RAMP + 0.5, 0.0), 1.0)
        habitual, random, which = draws[position]
        if habitual < _LOOK_ALIKE_RATE * habit:
            labels[position] = CLASS_NAMES.index(look.taken_for)
        elif random < (_SMALL_RANDOM_RATE if areas[position] < _SMALL_AREA else _RANDOM_RATE):
            shares = np.cumsum([share if k != own else 0.0 for k, share in enumerate(_RANDOM_SHARES)])
            labels[position] = np.searchsorted(shares, which * shares[-1], side="right")
        else:
            labels[position] = own
    return labels
