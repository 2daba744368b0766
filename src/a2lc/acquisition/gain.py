"""Expected gain of IoU: what an answer, or a change of label, is worth (pure).

Mean IoU is not linear in labels, but one mask moves it little: with U_c the union of class c (pixels labelled or expected to be c)
and J_c its IoU, labelling a mask of area A as c adds A/U_c to J_c if that is right, and takes A·J_c/U_c from it if not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_labels", "class_unions", "expected_iou_gain", "label_values", "pick_batch"]

DoubleArray = NDArray[np.float64]


def expected_iou_gain(area: NDArray[Any], labels: NDArray[Any], posterior: NDArray[Any]) -> DoubleArray:
    """What it is worth to learn the true class of each mask, summed over classes.

    A·[ (1 − P(l))/n_l + Σ_{c≠l} P(c)/m_c ], with n_l the pixels labelled l and m_c the pixels expected to be c: a wrong label stands in
    the way of its own class and is missing from the true one. A mean mask is added to both, so that a class that hardly occurs is
    not worth everything.

    Args:
        area: (M,) pixels.
        labels: (M,) class each mask carries or would carry if nobody were asked, -1 for none.
        posterior: (M, K + 1), the last column for "no class".

    Returns:
        (M,) float64; divided by K, the expected change of mean IoU.

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
    expected = area @ posterior[:, :classes].astype(np.float64) + mean
    right = np.where(named, posterior[np.arange(len(area)), label], 0.0)
    missing = posterior[:, :classes] @ (1 / expected) - np.where(named, right / expected[label], 0.0)
    return np.asarray(area * (np.where(named, (1 - right) / labelled[label], 0.0) + missing), dtype=np.float64)


def class_unions(
    area: NDArray[Any], labels: NDArray[Any], posterior: NDArray[Any]
) -> tuple[DoubleArray, DoubleArray]:
    """(K,) expected union and expected IoU of each class under some labels; a mean mask is added to each union."""
    area = np.asarray(area, dtype=np.float64)
    classes = posterior.shape[1] - 1
    named = labels >= 0
    label = labels[named]
    labelled = np.bincount(label, weights=area[named], minlength=classes)
    both = np.bincount(label, weights=area[named] * posterior[named, label], minlength=classes)
    # A mask that truly has no class counts in no union.
    classless = np.bincount(label, weights=area[named] * posterior[named, classes], minlength=classes)
    expected = area @ posterior[:, :classes].astype(np.float64)
    unions = labelled - classless + expected - both + (area.mean() if len(area) else 1.0)
    return unions, both / unions


def label_values(posterior: NDArray[Any], unions: NDArray[Any], ious: NDArray[Any]) -> DoubleArray:
    """(M, K) expected change of summed IoU per pixel of labelling a mask as each class: [P(c) − (1 − P(c) − P(none))·J_c]/U_c."""
    probs = posterior[:, :-1].astype(np.float64)
    wrong = 1 - probs - posterior[:, -1:]
    return np.asarray((probs - wrong * ious) / unions, dtype=np.float64)


def best_labels(
    area: NDArray[Any], first: NDArray[Any], posterior: NDArray[Any], *, known: NDArray[Any], floor: float = 0.3
) -> NDArray[np.int32]:
    """The labels of highest expected mean IoU, where they are likely enough; first labels elsewhere.

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
    values = np.zeros(posterior[:, :-1].shape)
    for _ in range(2):  # the unions depend on the labels; a second look changes little, a third nothing
        unions, ious = class_unions(area, labels, posterior)
        values = label_values(posterior, unions, ious)
        labels = np.where(known, first, values.argmax(axis=1))
    label = np.where(first < 0, 0, first)
    better = (values[rows, labels] > values[rows, label]) | (first < 0)
    better &= (posterior[rows, labels] >= floor) & ~known & (labels != first)
    return np.where(better, labels, first).astype(np.int32)


def pick_batch(
    scores: NDArray[Any], looks: NDArray[Any], count: int, *, alike: float = 0.9, pool: int = 8
) -> NDArray[np.int64]:
    """Rows to ask about next: by falling score, passing over masks that look like one already picked.

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
    candidates = np.flatnonzero(scores > 0)
    near = min(len(candidates), count * pool)
    if near < len(candidates):
        floor = np.partition(scores[candidates], len(candidates) - near)[len(candidates) - near]
        candidates = candidates[scores[candidates] >= floor]
    candidates = candidates[np.lexsort((candidates, -scores[candidates]))]
    units = looks[candidates].astype(np.float64)
    units /= np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-12)
    taken: list[int] = []
    passed: list[int] = []
    for place in range(len(candidates)):
        if len(taken) == count:
            break
        if taken and float((units[taken] @ units[place]).max()) >= alike:
            passed.append(place)
        else:
            taken.append(place)
    taken += passed[: count - len(taken)]
    return candidates[np.sort(np.array(taken, dtype=np.int64))]
