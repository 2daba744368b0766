"""Corrections that are expected to help but not proved to: what posterior and pooled audits say together (pure).

A certificate needs as many audits as its confidence demands, and a round of a hundred questions has ten. For those who
would rather take what is expected to help, and see it marked, the effect of a set of proposals is estimated as

    stake · (n₀·m + Σ wᵢ·yᵢ) / (n₀ + Σ wᵢ)

with m the ratio of effect to stake that the posterior expects of the set, yᵢ the ratios that audits found in it, in
this round and, with falling weights wᵢ, in those before, and n₀ = 10 audits' worth of trust in the posterior. The set of
the largest estimate is taken, and nothing where no estimate is above 0. So audits that turn against the posterior
withdraw what it proposed. Nothing is guaranteed: the set is chosen by the estimate that recommends it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.precision_certificate import FRACTIONS
from a2lc.audits.stakes import Floats

__all__ = ["TRUST", "Expectation", "expect_gain", "expect_precision"]

TRUST = 10.0
"""Audits that outweigh what the posterior expects."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Expectation:
    """What is expected to help.

    Attributes:
        accepted: (n,) bool, proposals to carry out; audited ones may be among them.
        estimate: Of the effect of all accepted on summed IoU, or of their precision; 0 where none is.
    """

    accepted: NDArray[np.bool_]
    estimate: float


def expect_gain(
    scores: Floats, stakes: Floats, expected: Floats, seen: Floats, ratios: Floats, weights: Floats
) -> Expectation:
    """Accept the set of the surest proposals with the largest estimated effect, if that is above 0.

    Args:
        scores: (n,) of the proposals, the higher the surer.
        stakes: (n,) the most that each can change, 0 or more.
        expected: (n,) effects that the posterior expects.
        seen: (k,) scores that the audited proposals had, of this round and of those before.
        ratios: (k,) their effects by their stakes, in [-1, 1].
        weights: (k,) above 0; 1 for the audits of this round.

    Example:
        >>> scores, ones = np.linspace(1, 0, 100), np.ones(100)
        >>> none = np.empty(0)
        >>> int(expect_gain(scores, ones, np.where(scores > 0.6, 0.5, -0.5), none, none, none).accepted.sum())
        35
    """
    best = Expectation(accepted=np.zeros(len(scores), dtype=np.bool_), estimate=0.0)
    for threshold in _thresholds(scores):
        inside = scores >= threshold
        stake = float(stakes[inside].sum())
        if stake <= 0:
            continue
        mean = _mean(float(expected[inside].sum()) / stake, ratios, weights, seen >= threshold)
        if stake * mean > best.estimate:
            best = Expectation(accepted=inside, estimate=stake * mean)
    return best


def expect_precision(
    scores: Floats, seen: Floats, right: NDArray[Any], weights: Floats, *, min_precision: float
) -> Expectation:
    """Accept the largest set of the surest proposals whose estimated precision is at least what is asked for.

    Args:
        scores: (n,) probabilities of the proposals.
        seen: (k,) probabilities that the audited proposals had.
        right: (k,) whether they were right.
        weights: (k,) above 0; 1 for the audits of this round.
        min_precision: In (0, 1).
    """
    for threshold in _thresholds(scores)[::-1]:
        inside = scores >= threshold
        mean = _mean(float(scores[inside].mean()), np.asarray(right, dtype=np.float64), weights, seen >= threshold)
        if mean >= min_precision:
            return Expectation(accepted=inside, estimate=mean)
    return Expectation(accepted=np.zeros(len(scores), dtype=np.bool_), estimate=0.0)


def _mean(believed: float, found: Floats, weights: Floats, among: NDArray[np.bool_]) -> float:
    """Weigh what the posterior believes of a set against what audits found in it."""
    weight = weights[among]
    return float((TRUST * believed + weight @ found[among]) / (TRUST + weight.sum()))


def _thresholds(scores: Floats) -> Floats:
    """Return scores that bound the sets to try, highest first."""
    if not len(scores):
        return np.empty(0)
    ordered = np.sort(scores)[::-1]
    ranks = [max(1, math.ceil(share * len(scores))) - 1 for share in FRACTIONS]
    return np.asarray(np.unique(ordered[ranks])[::-1], dtype=np.float64)
