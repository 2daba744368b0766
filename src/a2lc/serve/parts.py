"""Cut a mask of several classes into parts, by superpixels or by clicks (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.color import rgb2lab
from skimage.filters import sobel
from skimage.measure import label
from skimage.segmentation import slic, watershed

from a2lc.errors import InputError
from a2lc.ledger import KEEP, VOID

__all__ = ["click_parts", "pixel_labels", "superpixel_parts", "value_runs"]

Int = NDArray[np.int32]

_WORKING_PIXELS = 160_000
_COMPACTNESS = (10.0, 30.0, 100.0, 300.0)  # scikit-image's default first, then ever more by position than by colour


def superpixel_parts(pixels: NDArray[np.uint8], inside: NDArray[np.bool_], count: int) -> Int:
    """Cut a mask into parts of similar colour.

    The same input gives the same parts. Within a connected piece of the mask each part is connected; pieces too small for
    a part of their own belong to the nearest part. Large masks are cut at a lower resolution.

    Args:
        pixels: (H, W, 3) RGB, 0..255.
        inside: (H, W) the mask, at least one pixel.
        count: Parts wanted, at least 1; there may be fewer or more.

    Returns:
        (H, W) 0 outside the mask, 1..n inside in reading order of the parts' first pixels.

    Raises:
        InputError: The mask has no pixels, or `count` is below 1.

    Source:
        SLIC: Achanta et al. 2012; inside a mask: Irving 2016, arXiv:1606.09518. Both as implemented in scikit-image.
    """
    area = int(np.count_nonzero(inside))
    if not area or count < 1:
        raise InputError(f"Expected a mask of at least one pixel and one part, found {area} pixels and {count} parts.")
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    near = inside[window]
    cut = _slic(pixels[window], near, count)
    parts = np.zeros(inside.shape, dtype=np.int32)
    parts[window] = _in_reading_order(_without_crumbs(cut, near, _least(area, count)))
    return parts


def _slic(pixels: NDArray[np.uint8], inside: NDArray[np.bool_], count: int) -> Int:
    """Return (H, W) parts numbered from 1 inside the mask, not always connected; other values outside."""
    step = max(1, int(np.ceil(np.sqrt(inside.size / _WORKING_PIXELS))))
    small, covered = _pooled(pixels, inside, step)
    area = int(np.count_nonzero(covered))
    best, most = covered.astype(np.int32), 1
    for compactness in _COMPACTNESS if min(count, area // 4) > 1 else ():
        segments = slic(
            small,
            n_segments=min(count, area // 4),
            compactness=compactness,
            enforce_connectivity=False,  # done below, for masks in several pieces too
            start_label=1,
            mask=covered,
            channel_axis=-1,
        ).astype(np.int32)
        segments[covered & (segments == 0)] = segments.max() + 1
        segments = _without_crumbs(segments, covered, _least(area, count))
        parts = len(np.unique(segments[covered]))
        if parts > most:
            best, most = segments, parts
        # In strong texture pixels of similar colour are scattered, and nearly all parts were too small.
        if parts >= max(2, count // 2):
            break
    whole: Int = best.repeat(step, axis=0).repeat(step, axis=1)[: inside.shape[0], : inside.shape[1]]
    return whole


def _least(area: int, count: int) -> int:
    """Return the least pixels of a part: a quarter of its equal share; smaller ones are not worth a name."""
    return max(2, area // (4 * count))


def _pooled(pixels: NDArray[np.uint8], inside: NDArray[np.bool_], step: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Reduce blocks of `step` x `step` pixels to the mean colour of those inside, and whether any is inside."""
    if step == 1:
        return pixels / 255.0, inside
    height, width = (-(-size // step) * step for size in inside.shape)
    pad = (0, height - inside.shape[0]), (0, width - inside.shape[1])
    blocks = (height // step, step, width // step, step)
    weight = np.pad(inside, pad).reshape(blocks).sum(axis=(1, 3))
    colour = np.pad(pixels * inside[..., None], (*pad, (0, 0))).reshape(*blocks, 3).sum(axis=(1, 3), dtype=np.float64)
    return colour / (255.0 * np.maximum(1, weight)[..., None]), weight > 0


def _without_crumbs(cut: Int, inside: NDArray[np.bool_], least: int) -> Int:
    """Keep connected parts of at least `least` pixels; smaller ones join their neighbours, or the nearest part."""
    parts = _components(np.where(inside, cut, 0))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    good = sizes >= least
    if not good.any():
        good[np.argmax(sizes)] = True
    if good[1:].all():
        return parts
    pieces = _components(inside.astype(np.int32))
    # A piece of the mask that is large enough but has no part that is becomes a part of its own.
    served = np.zeros(pieces.max() + 1, dtype=bool)
    served[pieces[good[parts] & inside]] = True
    large = np.bincount(pieces.ravel()) >= least
    large[0] = False
    whole = (large & ~served)[pieces]
    kept = np.where(good[parts], parts, 0)
    kept[whole] = len(sizes) + pieces[whole]
    served |= large
    grown = served[pieces] & inside
    flat = np.zeros(inside.shape, dtype=np.uint8)
    kept = np.asarray(watershed(flat, kept, mask=grown), dtype=np.int32)  # type: ignore[no-untyped-call]
    return _nearest(kept, inside)


def _components(values: Int) -> Int:
    """Label 4-connected pixels of equal value 1..n; 0 stays 0."""
    return np.asarray(label(values, background=0, connectivity=1), dtype=np.int32)  # type: ignore[no-untyped-call]


def _nearest(values: Int, inside: NDArray[np.bool_]) -> Int:
    """Fill pixels inside that are 0 with the nearest value that is not."""
    empty = inside & (values == 0)
    if not empty.any():
        return values
    rows, columns = distance_transform_edt(values == 0, return_distances=False, return_indices=True)
    return np.where(empty, values[rows, columns], values)


def _in_reading_order(values: Int) -> Int:
    """Renumber values 1..n by their first pixel; 0 stays 0."""
    known, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(np.where(known == 0, -1, first))
    number = np.empty(len(known), dtype=np.int32)
    number[order] = np.arange(len(known)) + (known[order[0]] != 0)
    return number[inverse].reshape(values.shape)


def click_parts(pixels: NDArray[np.uint8], inside: NDArray[np.bool_], points: Sequence[tuple[int, int, int]]) -> Int:
    """Cut a mask along its edges into one region for each clicked point.

    Regions grow from the points and meet at the strongest edge between them (watershed). Pieces of the mask without a point
    get the class of the nearest region.

    Args:
        pixels: (H, W, 3) RGB, 0..255.
        inside: (H, W) the mask.
        points: x, y and class of at least one pixel of the mask; the last one wins where several are at one pixel.

    Returns:
        (H, W) class + 1 inside the mask, 0 outside.

    Raises:
        InputError: There is no point, one lies outside the mask, or a class is negative.
    """
    if not points:
        raise InputError("Expected at least one point, found none.")
    height, width = inside.shape
    markers = np.zeros(inside.shape, dtype=np.int32)
    for x, y, name in points:
        if not (0 <= x < width and 0 <= y < height and inside[y, x]):
            raise InputError(f"Point {x}, {y} of the crop lies outside the mask. Click inside it.")
        if name < 0:
            raise InputError(f"Point {x}, {y} has class {name}; expected one of the project's classes.")
        markers[y, x] = name + 1
    if len({name for _, _, name in points}) == 1:
        return np.where(inside, markers.max(), 0).astype(np.int32)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    near = inside[window]
    grown = watershed(_edges(pixels[window]), markers[window], mask=near)  # type: ignore[no-untyped-call]
    parts = np.zeros(inside.shape, dtype=np.int32)
    parts[window] = _nearest(np.asarray(grown, dtype=np.int32), near)
    return parts


def _edges(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (H, W) the magnitude of the colour gradient in CIELAB."""
    lab = rgb2lab(pixels.astype(np.float32) / 255)
    squares = [sobel(lab[..., channel]) ** 2 for channel in range(3)]  # type: ignore[no-untyped-call]
    return np.asarray(np.sqrt(sum(squares)), dtype=np.float32)


def pixel_labels(
    parts: Int, crop: tuple[int, int, int, int], shape: tuple[int, int], classes: Sequence[int | None] | None = None
) -> Int:
    """Turn parts of a mask into pixel labels of its image, as `Project.write_answered_pixels` takes them.

    Args:
        parts: (h, w) over the crop, 0 outside the mask: numbers 1..n if `classes` is given, else class + 1.
        crop: x0, y0, x1, y1 in the image, ends exclusive.
        shape: Height and width of the image.
        classes: For each of n parts its class, VOID, or None to keep its labels.

    Returns:
        (H, W) class, VOID, or KEEP.

    Raises:
        InputError: The numbers of classes and parts differ, or a class is invalid.
    """
    if classes is None:
        labels = np.where(parts == 0, KEEP, parts - 1)
    else:
        count = int(parts.max())
        if len(classes) != count:
            raise InputError(
                f"The mask has {count} parts, but classes of {len(classes)} were given. Request the parts again."
            )
        bad = [name for name in classes if name is not None and name < VOID]
        if bad:
            raise InputError(f"Class {bad[0]} of a part is neither a class index nor {VOID} (unlabeled).")
        labels = np.array([KEEP, *(KEEP if name is None else name for name in classes)], dtype=np.int32)[parts]
    x0, y0, x1, y1 = crop
    if parts.shape != (y1 - y0, x1 - x0):
        raise InputError(
            f"Parts are {parts.shape[1]} x {parts.shape[0]} pixels, but their crop is {x1 - x0} x {y1 - y0}."
        )
    whole = np.full(shape, KEEP, dtype=np.int32)
    whole[y0:y1, x0:x1] = labels
    return whole


def value_runs(values: NDArray[Any]) -> list[int]:
    """Encode values as runs, row by row: value, length, value, length and so on.

    Args:
        values: (H, W), at least one pixel.

    Example:
        >>> value_runs(np.array([[0, 0, 3], [3, 1, 1]]))
        [0, 2, 3, 2, 1, 2]
    """
    flat = values.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, len(flat)))
    return np.stack([flat[starts], lengths], axis=1).astype(np.int64).ravel().tolist()
