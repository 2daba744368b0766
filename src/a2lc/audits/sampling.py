"""Which masks to audit: unequal inclusion probabilities, a draw that has them exactly, and sizes worth drawing by (pure).

Probabilities that fit the figure wanted cut its variance; a share for every mask and every pixel bounds what any one
answer can weigh, where the posterior that says which masks are doubtful is itself wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, ShapeError

__all__ = ["audit_sizes", "draw", "inclusion_probabilities"]


def inclusion_probabilities(size: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Compute probabilities of being drawn, proportional to size where that does not pass 1.

    Args:
        size: (M,) finite, 0 or more; 0 is never drawn.
        count: Masks to draw, 0 or more.

    Returns:
        (M,) float64 in [0, 1] that sum to `count`, or to the number of positive sizes if that is smaller.

    Raises:
        InputError: A size is negative or not finite, or the count is negative.

    Example:
        >>> inclusion_probabilities(np.array([0, 1, 1, 2, 16]), 3)
        array([0. , 0.5, 0.5, 1. , 1. ])
    """
    size = np.asarray(size, dtype=np.float64)
    if not (np.isfinite(size).all() and (size >= 0).all()):
        raise InputError("Sizes to draw by must be finite and 0 or more.")
    if count < 0:
        raise InputError(f"Cannot draw {count} masks; expected 0 or more.")
    found = np.zeros(len(size))
    order = np.flatnonzero(size > 0)
    if count >= len(order):
        found[order] = 1.0
        return found
    if count == 0:
        return found
    # Largest first: the sure ones are a prefix, the shortest after which no other one passes 1.
    order = order[np.argsort(-size[order], kind="stable")]
    ordered = size[order] / size[order[0]]
    rest = np.cumsum(ordered[::-1])[::-1]
    sure = int(np.argmax(ordered[:count] * (count - np.arange(count)) < rest[:count]))
    if not ordered[sure] * (count - sure) < rest[sure]:
        sure = count
    found[order[:sure]] = 1.0
    if sure < count:
        found[order[sure:]] = np.minimum(ordered[sure:] * ((count - sure) / rest[sure]), 1.0)
    return found


def draw(probabilities: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw masks with exactly these probabilities: systematic sampling in random order.

    The masks are laid end to end in random order, each as long as its probability, and one is drawn at each full step
    from a random start. Where the probabilities sum to a whole number, so many are drawn, always.

    Args:
        probabilities: (M,) in [0, 1].
        rng: Source of the order and of the start.

    Returns:
        (n,) int64 rows, ascending.

    Raises:
        InputError: A probability is not in [0, 1].

    Source:
        Goodman and Kish 1950 (doi:10.1080/01621459.1950.10501130). The random order makes the variance close to that of
        designs of high entropy, which `estimate_quality` relies on (Hájek 1964).
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError("Inclusion probabilities must be in 0..1.")
    sure = np.flatnonzero(probabilities == 1)
    open_rows = rng.permutation(np.flatnonzero((probabilities > 0) & (probabilities < 1)))
    ends = np.cumsum(probabilities[open_rows])
    if len(ends):
        # A sum a rounding error away from a whole number is that number: the size is to be fixed.
        whole = np.round(ends[-1])
        if whole >= 1 and abs(ends[-1] - whole) < 1e-6:
            ends *= whole / ends[-1]
            ends[-1] = whole
    start = rng.random()
    # The mask from b to e is drawn if some start + i, i = 0, 1, ..., lies in [b, e).
    passed = np.ceil(ends - start)
    hit = np.diff(passed, prepend=np.ceil(-start)) > 0
    return np.sort(np.concatenate([sure, open_rows[hit]])).astype(np.int64)


def audit_sizes(
    area: NDArray[Any],
    labels: NDArray[Any],
    posterior: NDArray[Any],
    open_: NDArray[Any],
    *,
    uniform: float = 0.2,
    by_area: float = 0.4,
    by_doubt: float = 0.4,
) -> NDArray[np.float64]:
    """Compute sizes to draw label-quality audits by: a mixture that no wrong posterior can ruin.

    The part by doubt is Neyman's allocation for mIoU: the standard deviation, under the posterior, of what a mask
    moves, area·(1/pixels labelled l + Σ_c P(c)/pixels expected of c)·sqrt(p·(1-p)), with p the probability of its
    label l. An over-confident posterior calls wrong labels certain and would never draw them; the share by area bounds
    what any pixel weighs in pixel figures by 1/`by_area`, and the uniform one what a mask weighs in counts of masks.

    Args:
        area: (M,) pixels.
        labels: (M,) class in [0, K), or -1 for void.
        posterior: (M, K+1) probabilities; the last column is void.
        open_: (M,) bool, masks that may be drawn.
        uniform: Share of every open mask alike, 0 or more, as the others; they are divided by their sum.
        by_area: Share by area.
        by_doubt: Share by doubt.

    Returns:
        (M,) float64 that sum to 1, or all 0 where no mask is open; 0 where a mask is not.

    Raises:
        ShapeError: The arrays are of different lengths.
        InputError: A share is negative, or all are 0.
    """
    area, labels, open_ = np.asarray(area, np.float64), np.asarray(labels), np.asarray(open_, dtype=bool)
    posterior = np.asarray(posterior)
    if posterior.ndim != 2 or not len(area) == len(labels) == len(open_) == len(posterior):
        raise ShapeError(
            f"Area {area.shape}, labels {labels.shape}, posterior {posterior.shape}, open {open_.shape}; "
            "expected (M,), (M,), (M, K+1), (M,)."
        )
    if min(uniform, by_area, by_doubt) < 0 or uniform + by_area + by_doubt <= 0:
        raise InputError(f"Shares {uniform}, {by_area} and {by_doubt} must be 0 or more, and one above 0.")
    void = posterior.shape[1] - 1
    label = np.where(labels < 0, void, labels)
    labelled = np.bincount(label, weights=area, minlength=void + 1)
    expected = area @ posterior
    # Void counts in no IoU; a class of no pixels moves none.
    per_label = np.divide(1.0, labelled, out=np.zeros(void + 1), where=labelled > 0)
    per_class = np.divide(1.0, expected, out=np.zeros(void + 1), where=expected > 0)
    per_label[void] = per_class[void] = 0.0
    right = np.clip(posterior[np.arange(len(area)), label].astype(np.float64), 0.0, 1.0)
    doubt = area * (per_label[label] + posterior @ per_class) * np.sqrt(right * (1 - right))
    sizes = np.zeros(len(area))
    shares = 0.0
    for share, part in ((uniform, np.ones(len(area))), (by_area, area), (by_doubt, doubt)):
        part = np.where(open_, part, 0.0)
        if share > 0 and part.sum() > 0:
            sizes += share * part / part.sum()
            shares += share
    if shares == 0.0 and open_.any():
        return np.where(open_, 1.0 / open_.sum(), 0.0)  # nothing is doubted, or nothing has pixels
    return sizes / shares if shares else sizes
