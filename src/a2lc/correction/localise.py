"""From the classes of a region to the classes of its pixels, and of pixels near it (pure).

Someone has ticked the classes a region holds. Which pixel is of which class is read off the network's features: each
class is stood for by the pixel the network is surest of, and every pixel takes the class whose stand-in is nearest.
Neighbours nobody was asked about take a class where they are nearer to it than half of the region's own pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from a2lc.classes.sentinels import KEEP
from a2lc.errors import InputError, ShapeError, require_known
from a2lc.statistics.features import FeatureMap

__all__ = ["KEEP", "VARIANTS", "localise"]

VARIANTS = ("slides", "code")
"""How a pixel of a neighbour chooses among several classes: see `localise`."""

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]
Window = tuple[slice, slice]


def localise(
    features: FeatureMap,
    class_logits: NDArray[Any],
    mask_map: NDArray[Any],
    answered: Mapping[int, tuple[int, ...]],
    *,
    variant: Literal["slides", "code"] = "slides",
    expand: bool = True,
    expand_single: bool = True,
) -> IntArray:
    """Label pixels from the classes of whole regions.

    Inside an answered region the prototype of class c is the feature at the pixel where P(c | x), the softmax over all
    classes, is largest; the first in reading order of equals. A pixel's label is the class of the region whose
    prototype has the largest product with the pixel's feature; of equals the lower class. The products are called
    cosines, which on the grid they are; between grid points they are a little smaller, as in the authors' code, since
    interpolated features are not made unit vectors again.

    A region's labels then spread to the masks touching it, corners included, that were not answered: a pixel there
    passes for class c where its cosine is above α_c, the median cosine of the region's own pixels labelled c. Regions
    come in the order of their ids and later ones overwrite earlier ones.

    Args:
        features: (D, h, w) features of unit length, and how they are interpolated to (H, W).
        class_logits: (K, h, w) products of the features with the class weights; no temperature.
        mask_map: (H, W) integer mask ids in [0, 65535]; 0 is no mask.
        answered: For each answered mask its classes, in any order. None at all says that the mask holds no class: its
            pixels keep what they have, and nothing spreads into it.
        variant: `slides`: a pixel takes the largest cosine among the classes it passes for. `code`: it takes the
            largest of all if it passes for any.
        expand: Spread to neighbours at all.
        expand_single: Spread regions of a single class too; authors' default.

    Returns:
        (H, W) int32: class, or KEEP where nothing is said.

    Raises:
        ShapeError: The arrays are not of one image.
        InputError: A mask is not in the map, or a class is none of K.
        UnknownNameError: There is no such variant.

    Source:
        MulActSeg (arXiv:2309.09319), stage 2: localisation and expansion. The variant `code`, the prototype without
        temperature and the order of regions are the authors' code.
    """
    mask_map, class_logits = np.asarray(mask_map), np.asarray(class_logits)
    _check(features, class_logits, mask_map, answered)
    require_known("variant", variant, VARIANTS)
    labels = np.full(mask_map.shape, KEEP, dtype=np.int32)
    boxes = find_objects(mask_map.astype(np.int32))
    # True for masks whose pixels the region at hand may give a label to.
    reached = np.zeros(len(boxes) + 1, dtype=bool)
    for mask in sorted(answered):
        classes = np.unique(np.asarray(answered[mask], dtype=np.int64))
        if not len(classes):
            continue
        box = boxes[mask - 1]
        if len(classes) == 1 and not (expand and expand_single):
            labels[box][mask_map[box] == mask] = classes[0]
            continue
        prototypes, which = _prototypes(features, class_logits, mask_map, mask, box, classes)
        near = _neighbours(mask_map, mask, box, answered) if expand and (len(classes) > 1 or expand_single) else []
        window = _union([box, *(boxes[other - 1] for other in near)])
        here = mask_map[window]
        cosines = _products(features, prototypes, window)[which]
        inside = here == mask
        won = cosines[:, inside].argmax(axis=0)
        labels[window][inside] = classes[won]
        if near:
            reached[near] = True
            _spread(labels[window], reached[here], cosines, _thresholds(cosines[:, inside], won), classes, variant)
            reached[near] = False
    return labels


def _check(
    features: FeatureMap, class_logits: NDArray[Any], mask_map: NDArray[Any], answered: Mapping[int, tuple[int, ...]]
) -> None:
    if mask_map.ndim != 2 or mask_map.shape != features.size or not np.issubdtype(mask_map.dtype, np.integer):
        raise ShapeError(
            f"Expected an integer mask map (H, W) = {features.size} as the features have, found {mask_map.dtype} "
            f"{mask_map.shape}."
        )
    if class_logits.ndim != 3 or class_logits.shape[1:] != features.values.shape[1:]:
        raise ShapeError(
            f"Expected class logits (K, h, w) on the grid of the features, {features.values.shape[1:]}, found "
            f"{class_logits.shape}."
        )
    low, high = int(mask_map.min(initial=0)), int(mask_map.max(initial=0))
    if low < 0 or high > 65535:
        raise InputError(f"Expected mask ids in 0..65535, found {low}..{high}.")
    present = np.zeros(high + 1, dtype=bool)
    present[mask_map.ravel()] = True
    for mask, classes in answered.items():
        if not (0 < mask <= high and present[mask]):
            raise InputError(f"Mask {mask} was answered but is not in the mask map of this image.")
        bad = [c for c in classes if not 0 <= c < len(class_logits)]
        if bad:
            raise InputError(f"Class {bad[0]} of mask {mask} is not one of the {len(class_logits)} classes.")


def _part(features: FeatureMap, window: Window) -> tuple[FeatureMap, Window]:
    """Return the features that a window of the image depends on, and which grid cells they are."""
    rows, cols = features.rows[window[0]], features.cols[window[1]]
    cells = []
    for weights in (rows, cols):
        used = np.flatnonzero(weights.any(axis=0))
        cells.append(slice(int(used[0]), int(used[-1]) + 1))
    down, across = cells
    part = FeatureMap(values=features.values[:, down, across], rows=rows[:, down], cols=cols[:, across])
    return part, (down, across)


def _prototypes(
    features: FeatureMap,
    class_logits: NDArray[Any],
    mask_map: NDArray[Any],
    mask: int,
    box: Window,
    classes: NDArray[np.int64],
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return (U, D) features at the pixels of a region that the network is surest of, and (C,) which is whose.

    Classes that share a pixel share a row: they are exactly as near as each other, whatever order the products are
    summed in.
    """
    part, (down, across) = _part(features, box)
    rows, cols = np.nonzero(mask_map[box] == mask)
    logits = part.upsample(class_logits[:, down, across])[:, rows, cols]
    # ln P(c | x), which is largest where P(c | x) is and does not run into 0.
    top = logits.max(axis=0)
    surest = (logits[classes] - top - np.log(np.exp(logits - top).sum(axis=0))).argmax(axis=1)
    pixels, which = np.unique(surest, return_inverse=True)
    return part.at(rows[pixels], cols[pixels]), which


def _products(features: FeatureMap, prototypes: FloatArray, window: Window) -> FloatArray:
    """Return the (C, ...) product of each prototype with the feature of every pixel of a window, taken on the grid."""
    part, _ = _part(features, window)
    depth, height, width = part.values.shape
    maps = prototypes @ part.values.reshape(depth, -1)
    return part.upsample(maps.reshape(-1, height, width))


def _neighbours(mask_map: NDArray[Any], mask: int, box: Window, answered: Mapping[int, Any]) -> list[int]:
    """Return the unanswered masks that touch the mask, corners included."""
    wider = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    here = mask_map[wider[0], wider[1]]
    touched = np.pad(here == mask, 1)
    touched = touched[:-2] | touched[1:-1] | touched[2:]
    touched = touched[:, :-2] | touched[:, 1:-1] | touched[:, 2:]
    return [other for other in np.unique(here[touched]).tolist() if other and other not in answered]


def _union(boxes: list[Window]) -> Window:
    (top, bottom), (left, right) = (
        (min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in (0, 1)
    )
    return slice(top, bottom), slice(left, right)


def _thresholds(cosines: FloatArray, won: NDArray[np.int64]) -> FloatArray:
    """Return (C,) α: the median cosine of the pixels each class has won."""
    # As coded, a class that wins no pixel gets 1, which no product of unit vectors is above; nor is rounding above
    # infinity.
    found = np.full(len(cosines), np.inf, dtype=np.float32)
    for place, values in enumerate(cosines):
        if (won == place).any():
            found[place] = np.median(values[won == place])
    return found


def _spread(
    labels: IntArray,
    reached: NDArray[np.bool_],
    cosines: FloatArray,
    thresholds: FloatArray,
    classes: NDArray[np.int64],
    variant: str,
) -> None:
    """Write the labels of neighbours' pixels that pass for a class into a view of the label map."""
    cosines = cosines[:, reached]
    passes = cosines > thresholds[:, None]
    if variant == "slides":
        cosines = np.where(passes, cosines, -np.inf)
    labels[reached] = np.where(passes.any(axis=0), classes[cosines.argmax(axis=0)], labels[reached])
