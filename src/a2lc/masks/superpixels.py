"""Masks as superpixels: pieces of an image that are alike in colour, made from its pixels alone (pure)."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.segmentation import slic as skimage_slic

from a2lc.errors import InputError, MissingExtraError

__all__ = ["MAX_MASKS", "grid", "seeds", "slic"]

MAX_MASKS = 65535
"""Masks of an image that a 16-bit mask map can number."""

_SMALLEST_BLOCK = 4


def seeds(
    pixels: NDArray[np.uint8],
    count: int,
    *,
    levels: int = 5,
    prior: int = 3,
    bins: int = 10,
    double_step: bool = True,
    iterations: int = 10,
) -> NDArray[np.int32]:
    """Superpixels by SEEDS, as ClassBal, AMSS and MulActSeg use them.

    SEEDS starts from a grid and moves blocks, then pixels, between superpixels until their colours are as uniform as
    can be. It is run on hue, saturation and value of the histogram-equalised image. One histogram over the values of
    all three channels is equalised, as published: grey stays grey, which a histogram a channel would not ensure.

    How many superpixels come out depends on how blocks fit the image, so SEEDS is asked for that number whose outcome
    is nearest to `count`. Of `levels`, as many are used as leave blocks of 4 pixels a side: smaller blocks
    take a thousand bins each (8 GB for 2,048 x 1,024 pixels at 5 levels) and change nothing that the moves of single
    pixels do not. Images that no blocks fit get a grid.

    Args:
        pixels: RGB, (H, W, 3) uint8.
        count: About how many superpixels, 1..65535.
        levels: At most so many sizes of blocks.
        prior: How strongly boundaries are smoothed, 0..5.
        bins: Of the histograms, for each channel.
        double_step: Visit each size of blocks twice.
        iterations: Passes over each size of blocks.

    Returns:
        (H, W) int32, 1..n in reading order of each superpixel's first pixel; each is 4-connected.

    Raises:
        InputError: The count is out of range, or the pixels are not (H, W, 3) uint8.
        MissingExtraError: OpenCV with its contributed modules is not installed.

    Source:
        Van den Bergh et al., arXiv:1309.3848. Settings: scripts/extract_superpixels.py of
        cailile/Revisiting-Superpixels-for-Active-Learning. That script hands over hue as 0..360 in floating point, of
        which OpenCV's bins over [0, 1] see only whether it is 0; here hue counts.
    """
    _check(pixels, count)
    height, width = pixels.shape[:2]
    plan = _plan(height, width, count, levels)
    if plan is None:
        return grid(height, width, max(1, round(math.sqrt(height * width / count))))
    try:
        import cv2

        create = cv2.ximgproc.createSuperpixelSEEDS
    except (ImportError, AttributeError):  # OpenCV without its contributed modules has no ximgproc
        raise MissingExtraError(
            "SEEDS needs OpenCV with its contributed modules: pip install 'a2lc[train]'. Or set `method` to slic."
        ) from None
    levels_used, asked = plan
    counts = np.bincount(pixels.ravel(), minlength=256)
    equalised = (255 * np.cumsum(counts) / pixels.size).round().astype(np.uint8)[pixels]
    # Hue over all of 0..255: the usual 0..179 would leave three of ten bins empty.
    colours = cv2.cvtColor(equalised, cv2.COLOR_RGB2HSV_FULL)
    found = create(width, height, 3, asked, levels_used, prior, bins, double_step)
    found.iterate(colours, iterations)
    return _connected(np.asarray(found.getLabels()))


def slic(
    pixels: NDArray[np.uint8], count: int, *, compactness: float = 20.0, smoothing: float = 1.0
) -> NDArray[np.int32]:
    """Superpixels by SLIC: clusters of pixels near in place and in Lab colour, of the smoothed image.

    Noise of a photograph tears clusters apart, and scraps are added to their neighbours: without smoothing, and half as compact,
    a third fewer superpixels than asked for come out, which follow the borders of objects less well at the same number.

    Args:
        pixels: RGB, (H, W, 3) uint8.
        count: About how many superpixels, 1..65535.
        compactness: Weight of place against colour, above 0: higher is squarer.
        smoothing: Standard deviation of the Gaussian that smooths the image before, in pixels, 0 or more.

    Returns:
        (H, W) int32, 1..n in reading order of each superpixel's first pixel; each is 4-connected.

    Raises:
        InputError: The count or the compactness is out of range, or the pixels are not (H, W, 3) uint8.

    Source:
        Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, TPAMI 2012; scikit-image's.
    """
    _check(pixels, count)
    if not compactness > 0:
        raise InputError(f"Compactness of SLIC must be above 0, found {compactness}.")
    found = skimage_slic(pixels, n_segments=count, compactness=compactness, sigma=smoothing, start_label=0)
    return _connected(np.asarray(found))


def grid(height: int, width: int, size: int) -> NDArray[np.int32]:
    """Divide an image into squares of one size; those of the last row and column are cut off by the image.

    Args:
        height: Pixels.
        width: Pixels.
        size: Side of a square in pixels.

    Returns:
        (H, W) int32, 1..n in reading order.

    Raises:
        InputError: The size is below 1, or leaves more squares than a mask map can number.

    Source:
        Cai et al., CVPR 2021: rectangles of 32 x 32 as the alternative to superpixels.

    Example:
        >>> grid(2, 5, 2)
        array([[1, 1, 2, 2, 3],
               [1, 1, 2, 2, 3]], dtype=int32)
    """
    if size < 1:
        raise InputError(f"The side of the squares is {size}; expected at least 1 pixel.")
    rows, cols = -(-height // size), -(-width // size)
    if rows * cols > MAX_MASKS:
        least = next(s for s in range(size, max(height, width) + 1) if -(-height // s) * -(-width // s) <= MAX_MASKS)
        raise InputError(
            f"Squares of {size} pixels give {rows * cols:,} masks for an image of {width} x {height}; at most "
            f"{MAX_MASKS:,} fit a 16-bit mask map. Set `size` to {least} or more."
        )
    row = np.arange(height, dtype=np.int32)[:, None] // size
    col = np.arange(width, dtype=np.int32)[None] // size
    return np.asarray(row * cols + col + 1, dtype=np.int32)


def _check(pixels: NDArray[Any], count: int) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise InputError(f"Expected RGB pixels, (H, W, 3) uint8; found {pixels.shape} {pixels.dtype}.")
    if not 1 <= count <= MAX_MASKS:
        raise InputError(
            f"{count:,} superpixels per image; expected 1 to {MAX_MASKS:,}, the limit of a 16-bit mask map."
        )


@lru_cache(maxsize=1024)  # the images of a data set have a few sizes
def _plan(height: int, width: int, count: int, levels: int) -> tuple[int, int] | None:
    """Choose levels and number for SEEDS so that about `count` superpixels come out; None if no blocks fit.

    OpenCV takes from the number only how many superpixels stand above each other, rounds blocks up to whole pixels, and
    leaves at the right and at the bottom what no whole superpixel fills to the last ones.
    """
    best: tuple[int, int, int] | None = None
    for level in range(max(levels, 2), 1, -1):
        found = _nearest(height, width, count, level)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
        # More levels are finer moves, but only a number near the one asked for is worth them.
        if best is not None and best[0] * 10 <= count:
            break
    # A handful of superpixels, or nearly as many as pixels: squares come nearer.
    return best[1:] if best is not None and best[0] * 2 <= count else None


def _nearest(height: int, width: int, count: int, level: int) -> tuple[int, int, int] | None:
    """Distance to `count`, levels and number to ask for, of the outcome nearest to `count` with so many levels."""
    best: tuple[int, int, int] | None = None
    most = min(height, 2 + 2 * math.isqrt(count * height // width + 1))
    for down in range(1, most + 1):
        asked = max(10, -(-down * down * width // height))
        across = down * width // height
        # In OpenCV's single precision.
        if int(np.sqrt(np.float32(asked) * np.float32(height) / np.float32(width))) != down or across < 1:
            continue
        block_height, block_width = (
            -(-side // (number << level - 1)) for side, number in ((height, down), (width, across))
        )
        if height < down << level - 1 or width < across << level - 1:
            continue
        if level > 2 and min(block_height, block_width) < _SMALLEST_BLOCK:
            continue
        rows, cols = (height // block_height) >> level - 1, (width // block_width) >> level - 1
        distance = abs(rows * cols - count)
        if rows > 1 and cols > 1 and (best is None or distance < best[0]):
            best = (distance, level, asked)
    return best


def _connected(superpixels: NDArray[Any]) -> NDArray[np.int32]:
    """Split superpixels into connected ones, numbered 1..n in reading order.

    Of a superpixel in several pieces the largest stays, and the others go to the neighbour they share most of their
    boundary with: as masks of their own they would be questions about a few pixels, and their number would grow.

    Args:
        superpixels: (H, W) integer, not negative.

    Returns:
        (H, W) int32; each superpixel is 4-connected.
    """
    pieces = label(superpixels + 1, background=0, connectivity=1) - 1  # type: ignore[no-untyped-call]
    number = int(pieces.max()) + 1
    owner = np.empty(number, dtype=np.int64)
    owner[pieces.ravel()] = superpixels.ravel()
    area = np.bincount(pieces.ravel(), minlength=number)
    order = np.lexsort((np.arange(number), -area, owner))
    main = np.zeros(number, dtype=bool)
    main[order[np.flatnonzero(np.diff(owner[order], prepend=-1))]] = True
    if not main.all():
        owner = _absorb(pieces, owner, main)
    found = owner[pieces]
    first = np.full(int(found.max()) + 1, -1, dtype=np.int64)
    first[found.ravel()[::-1]] = np.arange(found.size)[::-1]  # the last one written is the first in reading order
    present = np.flatnonzero(first >= 0)
    ids = np.zeros(len(first), dtype=np.int32)
    ids[present[np.argsort(first[present])]] = np.arange(1, len(present) + 1, dtype=np.int32)
    return np.asarray(ids[found], dtype=np.int32)


def _absorb(pieces: NDArray[Any], owner: NDArray[np.int64], settled: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the (P,) superpixel of each piece; unsettled pieces go to the neighbour of the longest shared boundary."""
    owner, settled = owner.copy(), settled.copy()
    sides = [(pieces[:, :-1], pieces[:, 1:]), (pieces[:-1], pieces[1:])]
    one = np.concatenate([a.ravel() for a, _ in sides])
    other = np.concatenate([b.ravel() for _, b in sides])
    apart = (one != other) & ~(settled[one] & settled[other])
    one, other = one[apart], other[apart]
    one, other = np.concatenate([one, other]), np.concatenate([other, one])
    while not settled.all():
        # Pieces amid other loose pieces wait for these.
        ready = ~settled[one] & settled[other]
        pairs, shared = np.unique(np.stack([one[ready], owner[other[ready]]]), axis=1, return_counts=True)
        order = np.lexsort((-pairs[1], shared, pairs[0]))
        last = order[np.flatnonzero(np.diff(pairs[0][order], append=-1))]
        owner[pairs[0][last]] = pairs[1][last]
        settled[pairs[0][last]] = True
    return owner
