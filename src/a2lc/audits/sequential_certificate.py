"""A certificate of gain that may be looked at after every audit: it holds at any time (pure).

Effects, stakes and ratios y = x/s are those of `gain_certificate.py`. Here the set that is tested is one, chosen beforehand
by what the posterior expects, and its proposals are audited one after another, without replacement, each time with
probability proportional to stake among those not audited yet (successive sampling). Write T for the summed effect of the
set, X_t for that of the first t audited and S_t for the stake of the others. Given what was seen, the next ratio has the mean

    m_t = (T - X_t) / S_t

whatever the truth is, so that for a supposed T the product of 1 + λ·(y - m_t)/(1 + m_t) over the audits is a martingale of
mean 1 for any λ in [0, 1) that was fixed before (Waudby-Smith and Ramdas, arXiv:2010.09686, section 5 on sampling without
replacement). Its mean over several λ is one as well. By Ville's inequality it ever reaches 1/level with a probability of at
most the level: **the audits may be stopped at any moment, for any reason**, as soon as they suffice for instance, and all T
that are refused at one time are refused with the confidence asked for. Large T are refused last, so what is not refused
is an interval from a lower end.

The λ: half the weight is on the one that grows fastest if ratios are 1 or -1 with the mean that the posterior expects (it is
that mean, Kelly 1956), the other half on 0.1 .. 0.9 alike. A wrong expectation costs a factor of two, not validity.

What is accepted are the proposals of the set that were not audited; for an audited one the answer counts. So the set passes
when the lower end of T exceeds what the audited bring together, and 0.

The set. Few audits prove little of many doubtful proposals, and much of fewer that are surer. With μ the ratio that the
posterior expects of a set and n audits, the logarithm of the product has about the mean n·g and the variance n·v, where
ratios are 1 or -1:

    g = (1+μ)/2·ln(1+μ) + (1-μ)/2·ln(1-μ),    v = (1-μ²)/4·ln²((1+μ)/(1-μ))

The set is the one, among those of the highest expected ratios, with the largest product of its expected effect and the
probability, by the normal distribution, that the audits prove it. No answer to an audit enters into the choice.

Answers that are wrong. If a share of at most e is, what was seen may be better than the truth by 2·e of the stakes audited,
in the mean, and the next ratio has a mean of at most (1 - e)·m + e; both enter into m_t.

What breaks it: more wrong answers than that; draws other than those of `draw_in_order`, or an order that was changed afterwards;
stakes, unions or set chosen after looking at an audit. The effect is a linear one, as in `gain_certificate.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, ndtr

from a2lc.audits.gain_certificate import GainPromise
from a2lc.audits.intervals import Interval
from a2lc.audits.stakes import Floats, shares_of
from a2lc.errors import InputError, ShapeError

__all__ = ["TestPlan", "certify_in_order", "draw_in_order", "plan_test", "successive_inclusion", "worth_going_on"]

_BETS = np.arange(1, 10) / 10
_SIZES = np.arange(1, 21) / 20
"""Shares of all stakes that the sets to choose from hold."""

_LEAST_CHANCE = 0.2
"""Chance of a proof below which no audits are asked."""

_LEAST_HOPE = 0.1
"""Chance of a proof below which audits end."""

_FOR_EXPECTED = 4.0
"""Audits that what the posterior expects counts for."""

_ENOUGH = 0.95
"""Share of the value of all possible audits that fewer must reach to be preferred."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TestPlan:
    """A set of proposals to test, and what it takes.

    Attributes:
        inside: (n,) bool, the proposals of the set.
        audits: How many audits the proof is expected to need at most.
        chance: Probability that so many prove it, by the posterior.
        expected: Ratio of effect to stake that the posterior expects of the set, in (0, 1).
    """

    __test__ = False

    inside: NDArray[np.bool_]
    audits: int
    chance: float
    expected: float


def plan_test(expected: NDArray[Any], stakes: NDArray[Any], most: int, *, confidence: float = 0.95) -> TestPlan | None:
    """Choose which proposals to test, and with how many audits.

    Args:
        expected: (n,) effects that the posterior expects, between minus and plus the stakes.
        stakes: (n,) of the proposals, 0 or more.
        most: Audits that can be paid for.
        confidence: Of the certificate, in (0, 1).

    Returns:
        The set of the largest expected effect times chance of a proof, with the fewest audits that come near it; None where
        no set has a fair chance.

    Raises:
        ShapeError: The arrays differ in length.
        InputError: A stake is negative or not finite.

    Example:
        >>> plan = plan_test(np.repeat([0.9, -0.2], 100), np.ones(200), 20)
        >>> int(plan.inside.sum()), plan.audits, plan_test(np.full(9, 0.1), np.ones(9), 20)
        (100, 16, None)
    """
    expected, stakes = np.asarray(expected, dtype=np.float64), np.asarray(stakes, dtype=np.float64)
    if expected.ndim != 1 or expected.shape != stakes.shape:
        raise ShapeError(f"Expected effects {expected.shape} and stakes {stakes.shape}; expected (n,) for both.")
    shares_of(stakes, most)
    some = np.flatnonzero(stakes > 0)
    if not len(some) or most < 1:
        return None
    ratio = np.clip(expected[some] / stakes[some], -1, 1)
    order = some[np.argsort(-ratio, kind="stable")]
    stake, effect = np.cumsum(stakes[order]), np.cumsum(expected[order])
    ends = np.unique(np.minimum(np.searchsorted(stake, _SIZES * stake[-1] * (1 - 1e-12)), len(order) - 1))
    mean = np.minimum(effect[ends] / stake[ends], 0.99)
    # A set of which nothing is left after the audits proves nothing.
    open_ = (mean > 0) & (ends > 0)
    ends, mean = ends[open_], mean[open_]
    if not len(ends):
        return None
    counts = np.arange(1, most + 1)
    chance = _chances(mean, np.minimum(counts[:, None], ends[None]), 1 - confidence)
    value = chance * effect[ends]
    best = value.max(axis=1)
    enough = int(np.flatnonzero(best >= _ENOUGH * best.max())[0])
    place = int(np.argmax(value[enough]))
    if chance[enough, place] < _LEAST_CHANCE:
        return None
    inside = np.zeros(len(stakes), dtype=np.bool_)
    inside[order[: ends[place] + 1]] = True
    return TestPlan(
        inside=inside,
        audits=int(counts[enough]),
        chance=float(chance[enough, place]),
        expected=float(mean[place]),
    )


def _chances(mean: Floats, audits: NDArray[Any], level: float) -> Floats:
    """Return the chance that so many audits prove a set, by the mean of its ratios; as broadcast."""
    growth, spread = _growth(mean)
    needed = math.log(2 / level)  # half the weight is on the bet that grows so
    return np.asarray(ndtr((audits * growth - needed) / (np.sqrt(audits) * spread + 1e-9)), dtype=np.float64)


def _growth(mean: Floats) -> tuple[Floats, Floats]:
    """Return mean and deviation of what an audit adds to the logarithm, where ratios are 1 or -1 with this mean."""
    growth = (1 + mean) / 2 * np.log1p(mean) + (1 - mean) / 2 * np.log1p(-mean)
    return growth, np.sqrt((1 - mean**2) / 4) * np.log((1 + mean) / (1 - mean))


def draw_in_order(stakes: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw proposals to audit one after another, each proportional to stake among those that are left.

    Args:
        stakes: (n,) finite, 0 or more; 0 is never drawn.
        count: Draws at most, 0 or more.
        rng: Source of the draws.

    Returns:
        Up to (count,) int64 rows in the order drawn, no row twice.

    Raises:
        InputError: A stake is negative or not finite, or the count is negative.

    Example:
        >>> draw_in_order(np.array([0.0, 2.0, 0.0]), 3, np.random.default_rng(0))
        array([1])
    """
    shares = shares_of(stakes, count)
    some = np.flatnonzero(shares > 0)
    # Waiting times with these rates end in just this order.
    waits = rng.standard_exponential(len(some)) / shares[some]
    return np.asarray(some[np.argsort(waits, kind="stable")][:count], dtype=np.int64)


def successive_inclusion(stakes: NDArray[Any], count: int) -> Floats:
    """Approximate the probability that `draw_in_order` draws a proposal: 1 - exp(-τ·stake), with τ such that they sum to count.

    Args:
        stakes: (n,) finite, 0 or more.
        count: Draws, 0 or more.

    Returns:
        (n,) float64 in [0, 1].

    Raises:
        InputError: A stake is negative or not finite, or the count is negative.

    Source:
        Rosén 1997, Journal of Statistical Planning and Inference 62, 159 (order sampling).

    Example:
        >>> successive_inclusion(np.array([1.0, 1.0, 0.0]), 1)
        array([0.5, 0.5, 0. ])
    """
    shares = shares_of(stakes, count)
    some = int((shares > 0).sum())
    if count >= some:
        return np.asarray(shares > 0, dtype=np.float64)
    if count == 0:
        return np.zeros(len(shares))
    low, high = 0.0, 1.0
    while -np.expm1(-high * shares).sum() < count:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if -np.expm1(-middle * shares).sum() < count:
            low = middle
        else:
            high = middle
    return np.asarray(-np.expm1(-high * shares), dtype=np.float64)


def certify_in_order(
    stakes: NDArray[Any],
    drawn: NDArray[Any],
    effects: NDArray[Any],
    *,
    expected: float = 0.5,
    confidence: float = 0.95,
    wrong_answers: float = 0.0,
) -> GainPromise:
    """Accept a set of proposals if the audits so far prove that those not audited gain together.

    With probability `confidence` over the draw, at no number of audits is a set accepted whose open proposals do not raise
    summed IoU together by at least `unseen.low`.

    Args:
        stakes: (n,) of the proposals of the set, as drawn by.
        drawn: (k,) integer rows from `draw_in_order`: the first k, in their order.
        effects: (k,) of these, between minus and plus their stakes.
        expected: Ratio of effect to stake expected of the set; whatever was fixed before the audits.
        confidence: In (0, 1).
        wrong_answers: Share of answers, in [0, 1), that may be wrong, each showing the full gain where there is none.

    Returns:
        The promise: all proposals that were not audited, or none. Its `threshold` is not used.

    Raises:
        ShapeError: `drawn` and `effects` differ in length.
        InputError: A stake is negative or not finite, a row is none of the n, comes twice or has no stake, an effect exceeds
            its stake, or the confidence is not in (0, 1).

    Source:
        arXiv:2010.09686, section 5; equations at the head of this module.

    Example:
        >>> promise = certify_in_order(np.ones(100), np.arange(9), np.ones(9), expected=0.8)
        >>> int(promise.accepted.sum()), promise.audits, round(promise.gain.low)
        (91, 9, 32)
    """
    stakes, drawn, effects = _checked(stakes, drawn, effects, confidence, wrong_answers)
    total = float(stakes.sum())
    seen = float(effects.sum())
    left = max(0.0, total - float(stakes[drawn].sum()))
    audits, level = len(drawn), 1 - confidence
    estimate = math.nan
    if audits:
        ratio = effects / stakes[drawn]
        estimate = seen + left * float(ratio.mean())
    low = max(_lower_total(stakes, drawn, effects, expected, level, wrong_answers), seen - left)
    gain = Interval(low=low, estimate=max(estimate, low) if audits else estimate, high=seen + left)
    if left > 0 and low > max(0.0, seen):
        accepted = stakes > 0
        accepted[drawn] = False
        unseen = Interval(low=low - seen, estimate=gain.estimate - seen, high=left)
        return GainPromise(accepted=accepted, threshold=-math.inf, gain=gain, unseen=unseen, audits=audits, reason="")
    reason = "audits do not show a gain" if audits else "no audits"
    nothing = Interval(low=0.0, estimate=0.0, high=0.0)
    accepted = np.zeros(len(stakes), dtype=np.bool_)
    return GainPromise(accepted=accepted, threshold=math.inf, gain=gain, unseen=nothing, audits=audits, reason=reason)


def worth_going_on(
    stakes: NDArray[Any],
    drawn: NDArray[Any],
    effects: NDArray[Any],
    left: int,
    *,
    expected: float = 0.5,
    confidence: float = 0.95,
    wrong_answers: float = 0.0,
) -> bool:
    """Return whether the audits that are left have a fair chance to prove a gain.

    The logarithm of the e-value is carried on with the growth and the spread of `plan_test`, for the ratio that the audits
    so far and the posterior, which counts as four, suggest together. Audits may be stopped for any reason, so this costs no
    validity.

    Args:
        stakes: (n,) of the set.
        drawn: (k,) rows audited, in their order.
        effects: (k,) of these.
        left: Audits that may still be asked.
        expected: See `certify_in_order`.
        confidence: In (0, 1).
        wrong_answers: See `certify_in_order`.

    Example:
        >>> worth_going_on(np.ones(50), np.arange(6), -np.ones(6), 20), worth_going_on(np.ones(50), [], [], 20)
        (False, True)
    """
    stakes, drawn, effects = _checked(stakes, drawn, effects, confidence, wrong_answers)
    left = min(left, int((stakes > 0).sum()) - len(drawn) - 1)
    if left < 1:
        return False
    ratio = effects / stakes[drawn]
    mean = float(np.clip((_FOR_EXPECTED * expected + ratio.sum()) / (_FOR_EXPECTED + len(ratio)), 0.0, 0.99))
    if mean <= 0:
        return False
    reached = 0.0
    if len(drawn):
        reached = log_e_in_order(stakes, drawn, effects, max(0.0, float(effects.sum())), expected, wrong_answers)
    growth, spread = _growth(np.array(mean))
    missing = -math.log(1 - confidence) - reached
    return bool(ndtr((left * growth - missing) / (math.sqrt(left) * spread + 1e-9)) >= _LEAST_HOPE)


def _lower_total(
    stakes: Floats, drawn: NDArray[np.int64], effects: Floats, expected: float, level: float, wrong: float
) -> float:
    """Return the lower end of the summed effect of all; rounded down by less than a billionth of all stakes."""
    total = float(stakes.sum())
    if not len(drawn):
        return -total
    low, high = -total, total
    for _ in range(31):
        middle = (low + high) / 2
        if log_e_in_order(stakes, drawn, effects, middle, expected, wrong) >= -math.log(level):
            low = middle
        else:
            high = middle
    return low


def log_e_in_order(
    stakes: Floats, drawn: NDArray[np.int64], effects: Floats, total: float, expected: float = 0.5, wrong: float = 0.0
) -> float:
    """Logarithm of the e-value, after k audits, against a summed effect of at most `total`.

    Args:
        stakes: (n,) of the set.
        drawn: (k,) rows, in their order.
        effects: (k,) of these.
        total: Summed effect that is supposed.
        expected: See `certify_in_order`.
        wrong: Share of answers that may be wrong.
    """
    stake = stakes[drawn]
    before = np.concatenate([[0.0], np.cumsum(stake)[:-1]])
    left = np.maximum(stakes.sum() - before, stake)  # rounding must not leave less than what is drawn next
    found = np.concatenate([[0.0], np.cumsum(effects)[:-1]])
    # A wrong answer moves what was seen by twice its stake at most, and the next ratio to 1 at most.
    mean = (total - found + 2 * wrong * before) / left
    mean += wrong * np.maximum(1 - mean, 0.0)
    if (mean <= -1).any():
        # Not even if all that is left were wrong could the total be as small.
        return math.inf
    # A mean above 1 is possible no more, either: what is supposed is too much, and larger than what is refused.
    ratio = np.clip(effects / stake, -1.0, 1.0)
    shifted = (ratio - np.minimum(mean, 1.0)) / (1 + np.minimum(mean, 1.0))
    bets = np.append(_BETS, min(max(expected, _BETS[0]), 0.95))
    weights = np.append(np.full(len(_BETS), 0.5 / len(_BETS)), 0.5)
    return float(logsumexp(np.log1p(np.outer(bets, shifted)).sum(axis=1), b=weights))


def _checked(
    stakes: NDArray[Any], drawn: NDArray[Any], effects: NDArray[Any], confidence: float, wrong_answers: float
) -> tuple[Floats, NDArray[np.int64], Floats]:
    stakes, effects = np.asarray(stakes, dtype=np.float64), np.asarray(effects, dtype=np.float64)
    drawn = np.asarray(drawn).astype(np.int64)
    if stakes.ndim != 1 or drawn.ndim != 1 or drawn.shape != effects.shape:
        raise ShapeError(
            f"Stakes {stakes.shape}, audits {drawn.shape}, effects {effects.shape}; expected (n,), (k,), (k,)."
        )
    if not (0 < confidence < 1 and 0 <= wrong_answers < 1):
        raise InputError(
            f"The confidence is {confidence} and the share of wrong answers {wrong_answers}; expected both in 0..1."
        )
    shares_of(stakes, len(drawn))
    if len(drawn) and not (drawn.min() >= 0 and drawn.max() < len(stakes) and (stakes[drawn] > 0).all()):
        raise InputError(f"Audited rows must be in 0..{len(stakes) - 1} and have a stake.")
    if len(np.unique(drawn)) < len(drawn):
        raise InputError("A row was drawn twice; expected draws without replacement.")
    if not (np.abs(effects) <= stakes[drawn] * (1 + 1e-9)).all():
        raise InputError("An effect exceeds its stake; both must rest on the same unions and IoUs.")
    return stakes, drawn, effects
