"""A promise about labels that change without anybody looking, from audits of some of the changes (pure).

Sets of the surest proposals, one inside the other, are fixed before an answer is seen. Of each, the audits that fell
into it are a uniform sample without replacement, so the number of right ones among them is hypergeometric and bounds
the number R of right ones in the set: with N in the set, k audited and x of those right, R is at least the smallest
value under which x or more right ones have a probability above the level. The x are known and leave the promise, which
is about the others: (R - x) of (N - k). The bound is exact for that too, since x is what was seen.

Why several sets share the error by Bonferroni. What is promised of a set (that of its unseen masks enough are right)
depends on which were drawn, so a false promise is likeliest just when the audits turned out well, and procedures that
pass the level on from one rejected hypothesis to the next (Holm, a fixed sequence) lose their proof: it needs
hypotheses that are true or false before the draw. A fixed sequence is the weaker choice besides: from the largest set it
never reaches the others where the first fails, and from the smallest it begins with the fewest audits. What Bonferroni
costs is kept small by testing only sets that could succeed: those whose expected number of audits would suffice, were
all of them right. In simulation (2,000 proposals, 200 audits, 0.9 asked for) the share accepted rose from 1 to 33 % where
the surest are good and the whole would fail, and fell where all are equally good: from 100 to 95 % at a precision of 0.97,
from 44 to 13 % at 0.93. The expected number is known before the draw; the actual one may not choose the sets, since
given all of those a set's audits are no longer uniform.

Compared with Conformal Labeling (arXiv:2510.14581), which bounds the expected share of false labels by
Benjamini-Hochberg on conformal p-values: that is a statement about the mean over data sets, and a single one may be
worse; it also needs calibration masks exchangeable with those accepted, which masks chosen by an active query are not.
Here the statement is about this data set with the confidence asked for; the draw alone is random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

from a2lc.errors import InputError, ShapeError

__all__ = ["FRACTIONS", "Promise", "certify", "lower_bound", "smallest_sample"]

FRACTIONS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)
"""Shares of the proposals, surest first, that are tried."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Promise:
    """What may be changed unseen, and what is promised of it.

    Attributes:
        accepted: (n,) bool, proposals to carry out; never an audited one, for which the answer counts.
        threshold: Lowest score accepted; infinite where none is.
        lower: Precision the accepted reach with the confidence asked for, [0, 1]; where none is accepted, the
            highest that any set tried supports.
        estimate: Share of right ones among the audits of that set, [0, 1]; NaN without audits.
        audits: Audits in that set.
        reason: Why nothing is accepted; empty where something is.
    """

    accepted: NDArray[np.bool_]
    threshold: float
    lower: float
    estimate: float
    audits: int
    reason: str


def certify(
    scores: NDArray[Any],
    drawn: NDArray[Any],
    right: NDArray[Any],
    *,
    min_precision: float = 0.9,
    confidence: float = 0.95,
) -> Promise:
    """Accept as many proposals as the audits prove to be right often enough.

    With probability `confidence` over the draw, either nothing is accepted or at least `min_precision` of what is
    accepted is right, whatever the scores are worth; and `lower` holds as well.

    Args:
        scores: (n,) of the proposals, the higher the surer. Equal ones are accepted together or not at all.
        drawn: (k,) integer rows of the audited, drawn uniformly without replacement from all n.
        right: (k,) bool, whether the proposal is the true class.
        min_precision: Share of right ones asked for, in (0, 1).
        confidence: In (0, 1).

    Returns:
        The promise; nothing is accepted without audits.

    Raises:
        ShapeError: `drawn` and `right` differ in length.
        InputError: A score is NaN, a row is not one of the n or comes twice, or a share is not in (0, 1).

    Example:
        >>> promise = certify(np.linspace(1, 0, 1000), np.arange(0, 1000, 10), np.arange(100) < 70)
        >>> int(promise.accepted.sum()), round(promise.lower, 3), promise.audits, promise.reason
        (630, 0.941, 70, '')
    """
    _shares(min_precision, confidence)
    scores = np.asarray(scores, dtype=np.float64)
    drawn, right = np.asarray(drawn), np.asarray(right, dtype=bool)
    if scores.ndim != 1 or drawn.ndim != 1 or drawn.shape != right.shape:
        raise ShapeError(
            f"Scores {scores.shape}, audits {drawn.shape}, answers {right.shape}; expected (n,), (k,), (k,)."
        )
    if np.isnan(scores).any():
        raise InputError("A score is NaN; expected numbers, where higher means more certain.")
    total = len(scores)
    drawn = drawn.astype(np.int64)
    if len(drawn) and not (drawn.min() >= 0 and drawn.max() < total and len(np.unique(drawn)) == len(drawn)):
        raise InputError(f"Audited rows must be distinct and in 0..{total - 1}.")
    if total == 0 or len(drawn) == 0:
        return _nothing(total, "no audits" if total else "no proposals")
    if len(drawn) == total:
        return _nothing(total, "all audited", estimate=float(right.mean()), audits=total)

    thresholds = _thresholds(scores, len(drawn), min_precision, 1 - confidence)
    level = (1 - confidence) / len(thresholds)
    best: tuple[float, float, int] = (0.0, math.nan, 0)
    for threshold in thresholds:
        inside = scores[drawn] >= threshold
        size, audits, hits = int((scores >= threshold).sum()), int(inside.sum()), int(right[inside].sum())
        if audits == size:
            continue
        lower = (lower_bound(size, audits, hits, level) - hits) / (size - audits)
        estimate = hits / audits if audits else math.nan
        if lower >= min_precision:
            accepted = scores >= threshold
            accepted[drawn] = False
            return Promise(
                accepted=accepted, threshold=float(threshold), lower=lower, estimate=estimate, audits=audits, reason=""
            )
        if lower >= best[0]:
            best = lower, estimate, audits
    reason = f"audits support only {math.floor(best[0] * 100) / 100:.2f}"
    if len(drawn) < smallest_sample(min_precision, confidence):
        reason = "too few"
    return _nothing(total, reason, lower=best[0], estimate=best[1], audits=best[2])


def smallest_sample(min_precision: float, confidence: float) -> int:
    """Return how many audits prove a precision of many proposals if all of them are right.

    Of a few dozen proposals it can take more: in what is left to promise, one wrong proposal may be one too many.

    Args:
        min_precision: Share of right ones asked for, in (0, 1).
        confidence: In (0, 1).

    Returns:
        The least k with min_precision^k at most 1 - confidence.

    Raises:
        InputError: A share is not in (0, 1).

    Example:
        >>> smallest_sample(0.9, 0.95), smallest_sample(0.95, 0.95)
        (29, 59)
    """
    _shares(min_precision, confidence)
    # Less a trifle, so that the last bit of a logarithm does not cost an audit.
    return max(1, math.ceil(math.log1p(-confidence) / math.log(min_precision) - 1e-12))


def lower_bound(size: int, audits: int, hits: int, level: float) -> int:
    """Right ones in a finite set, at least: the smallest R under which `hits` or more have a probability above `level`.

    Args:
        size: Masks in the set, N.
        audits: Of them drawn uniformly without replacement, k.
        hits: Right ones among the drawn.
        level: Probability, over the draw, that R is smaller than what is returned; in (0, 1).

    Returns:
        R, in [hits, N - k + hits].

    Source:
        Exact inversion of the hypergeometric tail (Buonaccorsi 1987, doi:10.1080/00031305.1987.10475484), which uses
        that the set is finite and so is never below Clopper and Pearson's.
    """
    low, high = hits, size - (audits - hits)
    while low < high:
        middle = (low + high) // 2
        if hypergeom.sf(hits - 1, size, middle, audits) > level:
            high = middle
        else:
            low = middle + 1
    return low


def _supports(size: int, audits: int, level: float, min_precision: float) -> bool:
    """Return whether audits that are all right would prove the precision."""
    return lower_bound(size, audits, audits, level) - audits >= min_precision * (size - audits)


def _thresholds(scores: NDArray[np.float64], audits: int, min_precision: float, error: float) -> NDArray[np.float64]:
    """Return scores that bound the sets to try, lowest first. They depend on no answer and no drawn row."""
    ordered = np.sort(scores)[::-1]
    ranks = [max(1, math.ceil(share * len(scores))) - 1 for share in FRACTIONS]
    found = np.unique(ordered[ranks])
    tried = 1
    for threshold in found[1:]:
        size = int((scores >= threshold).sum())
        expected = math.floor(audits * size / len(scores))
        if not _supports(size, expected, error / (tried + 1), min_precision):
            break
        tried += 1
    return found[:tried]


def _shares(min_precision: float, confidence: float) -> None:
    if not (0 < min_precision < 1 and 0 < confidence < 1):
        raise InputError(f"Precision {min_precision} and confidence {confidence} must both be between 0 and 1.")


def _nothing(total: int, reason: str, *, lower: float = 0.0, estimate: float = math.nan, audits: int = 0) -> Promise:
    return Promise(
        accepted=np.zeros(total, dtype=np.bool_),
        threshold=math.inf,
        lower=lower,
        estimate=estimate,
        audits=audits,
        reason=reason,
    )
