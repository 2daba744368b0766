"""Sieving: which pixels of an answered mask take its class, when the mask holds more than one (pure)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, MissingExtraError, ShapeError

__all__ = ["knee_threshold", "sieve"]


def knee_threshold(confidences: NDArray[Any], *, points: int = 20, sensitivity: float = 1.0) -> float | None:
    """Find the confidence at the knee of the sorted confidences, where the steep rise turns into the plateau.

    Args:
        confidences: (n,) confidence of each pixel in the answered class.
        points: The sorted values are taken with a stride of n/points, rounded down: 20 to 39 points of the curve.
        sensitivity: S of Kneedle: how flat the curve must become before a knee counts.

    Returns:
        The threshold, or None where the curve has no knee; always for fewer than three values or equal ones. A curve
        that bends the other way has its knee at its lowest value.

    Raises:
        ShapeError: The values are not in one dimension.
        InputError: A value is not a number, or `points` is below 1.
        MissingExtraError: kneed is not installed.

    Source:
        AMSS (arXiv:2303.16817), as coded: Kneedle (Satopää et al., 2011), S = 1, concave and increasing.

    Example:
        >>> knee_threshold(np.array([0.1, 0.5, 0.8, 0.9, 0.92, 0.94, 0.96, 0.97, 0.98, 0.99]))
        0.9
    """
    values = np.asarray(confidences, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"Expected confidences (n,), found an array of shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("Expected confidences that are numbers, found NaN or infinity.")
    if points < 1:
        raise InputError(f"The curve has {points} points; expected at least 1.")
    try:
        from kneed import KneeLocator
    except ImportError:
        raise MissingExtraError("Sieving needs kneed: pip install 'a2lc[train]'") from None
    curve = np.sort(values)[:: max(1, int(len(values) / points))]
    # Kneedle scales both axes to [0, 1], which a constant or a single point has no way to.
    if len(curve) < 3 or curve[0] == curve[-1]:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions warn where there is no knee, which is an ordinary outcome
        found = KneeLocator(np.arange(len(curve)), curve, S=sensitivity, curve="concave", direction="increasing")
    return None if found.knee is None else float(curve[int(found.knee)])


def sieve(
    confidences: NDArray[Any], *, points: int = 20, sensitivity: float = 1.0, min_pixels: int = 0
) -> NDArray[np.bool_]:
    """Mark the pixels of a mask that keep the class the mask was answered with.

    Args:
        confidences: (H, W) or (n,) confidence of each pixel in that class.
        points: See `knee_threshold`.
        sensitivity: See `knee_threshold`.
        min_pixels: Smaller masks keep all pixels. The authors' code has 512: twice a base superpixel of theirs, so
            what was not merged is not sieved.

    Returns:
        Boolean of the same shape, True at or above the knee; True everywhere where there is none.

    Raises:
        InputError: A confidence is not a number, or `points` is below 1.
        MissingExtraError: kneed is not installed.

    Source:
        AMSS (arXiv:2303.16817): h(s) = {x ∈ s : f_D(s)(x) ≥ φ(s)}. A remark in its slides says pixels above the
        knee are the ones removed; the equation and the code keep them.

    Example:
        >>> sieve(np.array([0.99, 0.1, 0.5, 0.98, 0.8, 0.97, 0.9, 0.92, 0.94, 0.96])).sum()
        np.int64(7)
    """
    values = np.asarray(confidences, dtype=np.float64)
    keep = np.ones(values.shape, dtype=bool)
    if values.size < min_pixels:
        return keep
    threshold = knee_threshold(values.ravel(), points=points, sensitivity=sensitivity)
    return keep if threshold is None else np.asarray(values >= threshold)
