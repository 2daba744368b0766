"""Expected gain of IoU: what an answer, or a change of label, is worth (pure).

Mean IoU is not linear in labels, but one mask moves it little: with U_c the union of class c (pixels labelled or expected
to be c) and J_c its IoU, labelling a mask of area A as c adds A/U_c to J_c if that is right, and takes A·J_c/U_c from it if
not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_labels", "class_unions", "expected_iou_gain", "label_values", "pick_batch"]

DoubleArray = NDArray[np.float64]

_CHUNK = 1 << 14  # masks taken at a time, so that no table (M, K) is made in double precision
_BLOCK = 256  # candidates compared at a time


def expected_iou_gain(area: NDArray[Any], labels: NDArray[Any], posterior: NDArray[Any]) -> DoubleArray:
    """Return what it is worth to learn the true class of each mask, in IoU summed over classes.

    A·[ (1 − P(l))/n_l + Σ_{c≠l} P(c)/m_c ], with n_l the pixels labelled l and m_c the pixels expected to be c: a wrong
    label stands in the way of its own class and is missing from the true one. A mean mask is added to both, so that a class
    that hardly occurs is not worth everything.

    Args:
        area: (M,) pixels.
        labels: (M,) class each mask carries or would carry if nobody were asked, -1 for none.
        posterior: (M, K + 1), the last column for "no class".

    Returns:
        (M,) float64, 0 or above; divided by K, the expected change of mean IoU.

    Example:
        >>> expected_iou_gain(np.array([10, 10]), np.array([0, 0]), np.array([[0.5, 0.5, 0], [1.0, 0, 0]])).round(3)
        array([0.5, 0. ])
    """
    area = np.asarray(area, dtype=np.float64)
    classes = posterior.shape[1] - 1
    mean = area.mean() if len(area) else 1.0
    named = labels >= 0
    label = np.where(named, labels, 0)
    labelled = np.bincount(label[named], weights=area[named], minlength=classes) + mean
    expected = _expected(area, posterior) + mean
    found = np.empty(len(area))
    for chunk in _chunks(len(area)):
        rows, columns = np.flatnonzero(named[chunk]), label[chunk][named[chunk]]
        probs = posterior[chunk, :classes].astype(np.float64)
        stands = np.zeros(len(probs))
        stands[rows] = np.maximum(1 - probs[rows, columns], 0) / labelled[columns]
        # The label's own share is left out, not taken off, so that a sure one is worth 0 and none less.
        probs[rows, columns] = 0.0
        found[chunk] = area[chunk] * (stands + probs @ (1 / expected))
    return found


def _chunks(count: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _CHUNK, count)) for begin in range(0, count, _CHUNK))


def _expected(area: DoubleArray, posterior: NDArray[Any]) -> DoubleArray:
    """Return the (K,) pixels expected to be of each class."""
    total = np.zeros(posterior.shape[1] - 1)
    for chunk in _chunks(len(area)):
        total += area[chunk] @ posterior[chunk, :-1].astype(np.float64)
    return total


def class_unions(area: NDArray[Any], labels: NDArray[Any], posterior: NDArray[Any]) -> tuple[DoubleArray, DoubleArray]:
    """Return the (K,) expected union and IoU of each class under some labels; a mean mask is added to each union."""
    area = np.asarray(area, dtype=np.float64)
    classes = posterior.shape[1] - 1
    named = labels >= 0
    label = labels[named]
    labelled = np.bincount(label, weights=area[named], minlength=classes)
    both = np.bincount(label, weights=area[named] * posterior[named, label], minlength=classes)
    # A mask that truly has no class counts in no union.
    classless = np.bincount(label, weights=area[named] * posterior[named, classes], minlength=classes)
    expected = _expected(area, posterior)
    unions = labelled - classless + expected - both + (area.mean() if len(area) else 1.0)
    return unions, both / unions


def label_values(posterior: NDArray[Any], unions: NDArray[Any], ious: NDArray[Any]) -> DoubleArray:
    """Return the (M, K) expected change of summed IoU per pixel if a mask is labelled as each class."""
    probs = posterior[:, :-1].astype(np.float64)
    wrong = 1 - probs - posterior[:, -1:]
    return np.asarray((probs - wrong * ious) / unions, dtype=np.float64)


def best_labels(
    area: NDArray[Any], first: NDArray[Any], posterior: NDArray[Any], *, known: NDArray[Any], floor: float = 0.3
) -> NDArray[np.int32]:
    """Choose the labels of highest expected mean IoU where they are likely enough, and initial labels elsewhere.

    Args:
        area: (M,) pixels.
        first: (M,) first labels, -1 for none.
        posterior: (M, K + 1).
        known: (M,) bool, masks that stay as they are.
        floor: Probability below which no label is given.

    Returns:
        (M,) int32.
    """
    rows = np.arange(len(area))
    labels = posterior[:, :-1].argmax(axis=1)
    labels = np.where(known, first, labels)
    label = np.where(first < 0, 0, first)
    better = np.zeros(len(area), dtype=bool)
    for _ in range(2):  # the unions depend on the labels; a second look changes little, a third nothing
        unions, ious = class_unions(area, labels, posterior)
        for chunk in _chunks(len(area)):
            values = label_values(posterior[chunk], unions, ious)
            best = values.argmax(axis=1)
            # To leave a mask without a label costs nothing and brings nothing.
            kept = np.where(first[chunk] < 0, 0.0, values[rows[: len(values)], label[chunk]])
            better[chunk] = values.max(axis=1) > kept
            labels[chunk] = np.where(known[chunk], first[chunk], best)
    better &= (posterior[rows, labels] >= floor) & ~known & (labels != first)
    return np.where(better, labels, first).astype(np.int32)


def pick_batch(
    scores: NDArray[Any], looks: NDArray[Any], count: int, *, alike: float = 0.9, pool: int = 8
) -> NDArray[np.int64]:
    """Choose rows to ask about next: by falling score, without masks similar to one already chosen.

    What an answer teaches of its like is known only after the refit; asking about both at once wastes one of the two.

    Args:
        scores: (M,) not finite or not above 0 for masks not to be asked.
        looks: (M, D) standardised features, whose cosine says how alike two masks are.
        count: How many.
        alike: Cosine from which two masks are alike; above 1 for no such rule.
        pool: Among how many times `count` candidates it chooses; if too few differ, the best others fill the batch.

    Returns:
        (n,) rows, n at most `count`, in order of asking; ties by the lower row.
    """
    candidates = np.flatnonzero((scores > 0) & np.isfinite(scores))
    near = min(len(candidates), count * max(pool, 1))
    if near == 0:
        return np.empty(0, dtype=np.int64)
    if near < len(candidates):
        floor = np.partition(scores[candidates], len(candidates) - near)[len(candidates) - near]
        candidates = candidates[scores[candidates] >= floor]
    # Many may have the score of the last one.
    candidates = candidates[np.lexsort((candidates, -scores[candidates]))][:near]
    units = np.empty((min(count, near), looks.shape[1]), dtype=np.float32)  # of those picked
    taken: list[int] = []
    passed: list[int] = []
    for begin in range(0, near, _BLOCK):
        if len(taken) == count:
            break
        block = looks[candidates[begin : begin + _BLOCK]].astype(np.float32)
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), np.float32(1e-12))
        closest = (block @ units[: len(taken)].T).max(axis=1, initial=-np.inf)
        for place, unit in enumerate(block):
            if len(taken) == count:
                break
            if closest[place] >= alike:
                passed.append(begin + place)
                continue
            units[len(taken)] = unit
            taken.append(begin + place)
            closest = np.maximum(closest, block @ unit)
    taken += passed[: count - len(taken)]
    return np.asarray(candidates[np.sort(np.array(taken, dtype=np.int64))], dtype=np.int64)
