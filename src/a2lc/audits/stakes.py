"""Stakes of proposed changes, and draws in proportion to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID
from a2lc.errors import InputError, LabelRangeError, ShapeError

__all__ = ["check_stakes", "draw_by_stake", "effects", "expected_effects", "shares_of", "stake_inclusion", "stakes"]

Floats = NDArray[np.float64]


def check_stakes(
    area: NDArray[Any], labels: tuple[NDArray[Any], ...], unions: NDArray[Any], ious: NDArray[Any]
) -> tuple[Floats, tuple[NDArray[np.int64], ...], Floats, Floats]:
    """Check the arguments and convert them to arrays."""
    area, unions, ious = (np.asarray(values, dtype=np.float64) for values in (area, unions, ious))
    labels = tuple(np.asarray(values, dtype=np.int64) for values in labels)
    if area.ndim != 1 or any(values.shape != area.shape for values in labels):
        raise ShapeError(f"Area {area.shape} and classes {[values.shape for values in labels]}; expected (n,) each.")
    if unions.ndim != 1 or unions.shape != ious.shape:
        raise ShapeError(f"Unions {unions.shape} and IoUs {ious.shape}; expected (K,) both.")
    if any(((values < VOID) | (values >= len(unions))).any() for values in labels):
        raise LabelRangeError(f"A class is not in -1..{len(unions) - 1}.")
    if not ((area >= 0).all() and (unions > 0).all() and ((ious >= 0) & (ious <= 1)).all()):
        raise InputError("Areas must be 0 or more, unions above 0 and IoUs in 0..1.")
    return area, labels, unions, ious


def shares_of(stakes: NDArray[Any], count: int) -> Floats:
    """Return the (n,) probabilities of one draw; all 0 if nothing is at stake."""
    stakes = np.asarray(stakes, dtype=np.float64)
    if not (np.isfinite(stakes).all() and (stakes >= 0).all()):
        raise InputError("Stakes must be finite and 0 or more.")
    if count < 0:
        raise InputError(f"Cannot draw {count} proposals; expected 0 or more.")
    total = stakes.sum()
    return np.asarray(stakes / total if total > 0 else np.zeros(len(stakes)), dtype=np.float64)


def effects(
    area: NDArray[Any],
    old: NDArray[Any],
    new: NDArray[Any],
    truth: NDArray[Any],
    unions: NDArray[Any],
    ious: NDArray[Any],
) -> Floats:
    """Compute what proposals change in summed IoU, given the truth.

    Args:
        area: (n,) pixels, 0 or more.
        old: (n,) class in [0, K), or -1 for void, as the others.
        new: (n,) class proposed.
        truth: (n,) true class.
        unions: (K,) pixels labelled or truly of each class, above 0.
        ious: (K,) in [0, 1].

    Returns:
        (n,) float64; 0 where the truth is void.

    Raises:
        ShapeError: Arrays that belong together differ in length.
        LabelRangeError: A class is not in -1..K-1.
        InputError: An area is negative, a union not above 0 or an IoU not in 0..1.

    Example:
        >>> effects(np.full(3, 10), np.zeros(3, int), np.ones(3, int), [1, 0, -1], [100, 50], [0.8, 0.5])
        array([ 0.28, -0.2 ,  0.  ])
    """
    area, (old, new, truth), unions, ious = check_stakes(area, (old, new, truth), unions, ious)

    def value(label: NDArray[np.int64]) -> Floats:
        worth = np.where(label == truth, 1.0, -ious[label]) / unions[label]
        return np.where((label == VOID) | (truth == VOID), 0.0, worth)

    return np.asarray(area * (value(new) - value(old)), dtype=np.float64)


def stakes(
    area: NDArray[Any], old: NDArray[Any], new: NDArray[Any], unions: NDArray[Any], ious: NDArray[Any]
) -> Floats:
    """Bound what proposals can change in summed IoU, up or down, whatever the truth.

    A·max(1/U_c + J_l/U_l, J_c/U_c + 1/U_l) for a change from l to c: it is right, or the label was. Any third truth
    lies between the two. Terms of void are 0.

    Args:
        area: (n,) pixels, 0 or more.
        old: (n,) class in [0, K), or -1 for void.
        new: (n,) class proposed, likewise.
        unions: (K,) pixels labelled or truly of each class, above 0.
        ious: (K,) in [0, 1].

    Returns:
        (n,) float64, 0 or more; 0 where `new` is `old`.

    Raises:
        ShapeError: Arrays that belong together differ in length.
        LabelRangeError: A class is not in -1..K-1.
        InputError: An area is negative, a union not above 0 or an IoU not in 0..1.

    Example:
        >>> stakes(np.full(2, 10), np.array([0, -1]), np.array([1, 1]), [100, 50], [0.8, 0.5])
        array([0.28, 0.2 ])
    """
    area, (old, new), unions, ious = check_stakes(area, (old, new), unions, ious)
    most_old, most_new = (np.where(y == VOID, 0.0, 1 / unions[y]) for y in (old, new))
    wrong_old, wrong_new = most_old * ious[old], most_new * ious[new]
    found = area * np.maximum(most_new + wrong_old, wrong_new + most_old)
    return np.where(old == new, 0.0, found)


def expected_effects(
    area: NDArray[Any],
    old: NDArray[Any],
    new: NDArray[Any],
    posterior: NDArray[Any],
    unions: NDArray[Any],
    ious: NDArray[Any],
) -> Floats:
    """Average `effects` over the true class: (n,) float64.

    Args:
        area: (n,) pixels.
        old: (n,) class in [0, K), or -1 for void.
        new: (n,) class proposed, likewise.
        posterior: (n, K + 1) probabilities of the true class, the last column for void.
        unions: (K,) pixels labelled or truly of each class, above 0.
        ious: (K,) in [0, 1].

    Example:
        >>> area, old, new = np.full(1, 10), np.zeros(1, int), np.ones(1, int)
        >>> expected_effects(area, old, new, np.array([[0.5, 0.5, 0.0]]), [100, 50], [0.8, 0.5]).round(6)
        array([0.04])
    """
    area, (old, new), unions, ious = check_stakes(area, (old, new), unions, ious)
    probs = np.asarray(posterior, dtype=np.float64)
    labelled = 1 - probs[:, -1]

    def value(label: NDArray[np.int64]) -> Floats:
        right = probs[np.arange(len(label)), label]
        worth = (right - (labelled - right) * ious[label]) / unions[label]
        return np.where(label == VOID, 0.0, worth)

    return np.asarray(area * (value(new) - value(old)), dtype=np.float64)


def draw_by_stake(stakes: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw proposals to audit, one independently of the other, with probability proportional to stake.

    Args:
        stakes: (n,) finite, 0 or more; 0 is never drawn.
        count: Draws, 0 or more.
        rng: Source of the draws.

    Returns:
        (count,) int64 rows in the order drawn. A row may come twice: it is asked about once and counts twice. Empty
        where nothing is at stake.

    Raises:
        InputError: A stake is negative or not finite, or the count is negative.

    Example:
        >>> draw_by_stake(np.array([0.0, 2.0, 0.0]), 3, np.random.default_rng(0))
        array([1, 1, 1])
    """
    shares = shares_of(stakes, count)
    if not shares.any():
        return np.zeros(0, dtype=np.int64)
    return rng.choice(len(shares), size=count, p=shares).astype(np.int64)


def stake_inclusion(stakes: NDArray[Any], count: int) -> Floats:
    """Probability that `draw_by_stake` draws a proposal at least once, 1 - (1 - p)^count.

    Args:
        stakes: (n,) finite, 0 or more.
        count: Draws, 0 or more.

    Returns:
        (n,) float64 in [0, 1].

    Raises:
        InputError: A stake is negative or not finite, or the count is negative.

    Example:
        >>> stake_inclusion(np.array([3.0, 1.0, 0.0]), 2)
        array([0.9375, 0.4375, 0.    ])
    """
    shares = shares_of(stakes, count)
    if count == 0:
        return np.zeros(len(shares))
    with np.errstate(divide="ignore"):  # the logarithm of 0, of which the power is 0 again
        return np.asarray(-np.expm1(count * np.log1p(-shares)), dtype=np.float64)
