"""A certificate that label changes nobody looks at do good: that they raise mean IoU, where no precision is asked for (pure).

With the unions U_c and the IoUs J_c of all classes frozen beforehand, calling a mask of area A and true class t class y
changes summed IoU by A·(1[y=t] - 1[y≠t]·J_y)/U_y, and by nothing where t or y is void. A proposal to change label l
into c is thus worth x(t), the difference of the two, and no truth can make |x(t)| more than its stake s. Audits are drawn
with replacement with probability s over the sum of s, so for each the ratio y = x/s in [-1, 1] is an independent draw
with mean (total effect)/(total stake). What falls into a set of proposals is, given how many do, such a sample of that set.

The test. That the mean of y is m or less is tested by an e-value: a number of 0 or more whose mean is then at most 1, so
that it reaches 1/level with a probability of at most the level, for any number of draws and any distribution. It is half of
each of two. One is the mean over bets λ of Π(1 + λ·(y-m)/(1+m)) (Waudby-Smith and Ramdas, arXiv:2010.09686). The other
rounds each y to a coin that shows +1 with probability (1+y)/2 and -1 otherwise: the chance that at least c coins show
+1, c fixed, over the same chance for independent coins of mean m. That chance is linear in each y, so its mean over the
draws is exactly that of such coins; for y of -1 and 1 it is the binomial test. Neither needs the order of the draws.
The second is stronger where y is near -1 or 1, the first where it is nearer 0, and their mean is never much weaker than the
better one. Gaffke's bound, as in `estimate_quality`, is stronger than both, but that it holds is not proved.

Several sets of the surest proposals, fixed before an answer is seen, are tried at level (1 - confidence)/G each, with G
only those that could succeed: whose expected number of audits would suffice, did all show the full gain (see
`promise.py` for why the actual number must not choose). By Bonferroni all G bounds hold together with the confidence asked for,
so they hold for whichever is chosen, and choosing by the estimates costs nothing.

What is tested of a set is its effect as a whole, but those audited are known: a few of great stake could make the whole
good and hide that the others do harm. So a set passes only if the bound on the whole also exceeds what its audited
proposals bring together, which leaves more than 0 for those nobody looks at.

Answers that are wrong. Where repeats show that a share of at most e of the answers is, the worst they can do is to show the
full gain, so the mean of what is seen is at most (1 - e)·m + e, and the bound m becomes (m - e)/(1 - e).

What breaks it: more wrong answers than that; draws that are not those of `draw_by_stake`, or stakes changed since; scores, unions
or set of proposals chosen after looking at the answers. And the effect is a linear one: where the changes move the unions
much (changed pixels no longer few beside those of a class), IoU changes by less or more than said, and a small gain may
be none. It is a gain in the IoU summed over classes, not in each class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import binom

from a2lc.audits.intervals import Interval
from a2lc.audits.precision_certificate import FRACTIONS
from a2lc.audits.stakes import Floats, shares_of
from a2lc.errors import InputError, ShapeError

__all__ = ["GainPromise", "certify_gain", "without_errors"]


_BETS = np.arange(1, 10) / 10
"""λ, the shares of the stake that are bet."""


@dataclass(frozen=True, eq=False, kw_only=True)
class GainPromise:
    """What may be changed unseen, and what it gains.

    Attributes:
        accepted: (n,) bool, proposals to carry out; never an audited one, for which the answer counts.
        threshold: Lowest score accepted; infinite where none is.
        gain: Change of summed IoU by all proposals of the set, the audited ones among them carried out as proposed;
            by K, of mean IoU. To take their answers instead gains as much or more. Where none is accepted, of the tried
            set of the highest lower end. `low` holds with the confidence asked for, `high` is what is still possible,
            and `estimate` is NaN without audits.
        unseen: The same of `accepted` alone: `gain` less what the audited bring. Its `low` is above 0 where any is
            accepted; points at 0 where none is.
        audits: Draws that fell into that set; a mask drawn twice counts twice.
        reason: Why nothing is accepted; empty where something is.
    """

    accepted: NDArray[np.bool_]
    threshold: float
    gain: Interval
    unseen: Interval
    audits: int
    reason: str


def certify_gain(
    scores: NDArray[Any],
    stakes: NDArray[Any],
    drawn: NDArray[Any],
    effects: NDArray[Any],
    *,
    confidence: float = 0.95,
    wrong_answers: float = 0.0,
) -> GainPromise:
    """Accept the set of proposals with the largest apparent gain among those that the audits prove to gain at all.

    With probability `confidence` over the draw, either nothing is accepted, or both the whole set (the accepted and those of
    it that were audited) and the accepted alone raise summed IoU, by at least `gain.low` and `unseen.low`; whatever
    scores, labels and posterior are worth.

    Args:
        scores: (n,) of the proposals, the higher the surer. Equal ones are accepted together or not at all.
        stakes: (n,) of the proposals, as drawn by.
        drawn: (k,) integer rows from `draw_by_stake`, all of them: a row that came twice is here twice.
        effects: (k,) of the drawn, between minus and plus their stakes.
        confidence: In (0, 1).
        wrong_answers: Share of answers, in [0, 1), that may be wrong, each showing the full gain where there is none.

    Returns:
        The promise. Among sets that pass it is that of the highest estimated effect, and the larger of two alike.

    Raises:
        ShapeError: `scores` and `stakes`, or `drawn` and `effects`, differ in length.
        InputError: A score is NaN, a stake negative or not finite, a row is none of the n or has no stake, an effect
            exceeds its stake or differs for the same row, or the confidence is not in (0, 1).

    Source:
        arXiv:2010.09686 (bets); the rest is said at the head of this module.

    Example:
        >>> rows = np.arange(0, 1000, 20)
        >>> promise = certify_gain(np.linspace(1, 0, 1000), np.ones(1000), rows, np.where(rows < 700, 1.0, -1.0))
        >>> int(promise.accepted.sum()), promise.audits, round(promise.gain.low), round(promise.gain.estimate)
        (665, 35, 430, 700)
    """
    scores, stakes, drawn, effects = _audits(scores, stakes, drawn, effects)
    if not 0 < confidence < 1:
        raise InputError(f"Confidence {confidence} must be between 0 and 1.")
    if not 0 <= wrong_answers < 1:
        raise InputError(f"The share of wrong answers is {wrong_answers}; expected 0 or more, and less than 1.")
    total = len(scores)
    if total == 0 or len(drawn) == 0:
        return _nothing(total, "no audits" if total else "no proposals", float(stakes.sum()))

    ratio = np.clip(effects / stakes[drawn], -1.0, 1.0)
    rows, first = np.unique(drawn, return_index=True)
    known = np.zeros(total)
    known[rows] = effects[first]
    thresholds = _thresholds(scores, stakes, len(drawn), 1 - confidence, wrong_answers)
    level = (1 - confidence) / len(thresholds)
    best: tuple[Interval, float, int, float] | None = None
    tried: tuple[Interval, int] | None = None
    for threshold in thresholds:
        inside = scores >= threshold
        among = ratio[inside[drawn]]
        seen = float(known[inside].sum())
        open_ = inside.copy()
        open_[rows] = False
        left, stake = float(stakes[open_].sum()), float(stakes[inside].sum())
        # What the unseen can still do bounds the whole, too.
        low, estimate = (
            min(max(stake * mean, seen - left), seen + left)
            for mean in (
                without_errors(lower_mean(among, level), wrong_answers),
                among.mean() if len(among) else math.nan,
            )
        )
        gain = Interval(low=low, estimate=estimate, high=seen + left)
        if left > 0 and low > max(0.0, seen) and (best is None or estimate > best[0].estimate):
            best = gain, seen, len(among), float(threshold)
        if tried is None or low > tried[0].low:
            tried = gain, len(among)
    if best is None:
        assert tried is not None
        return _nothing(total, "audits do not show a gain", gain=tried[0], audits=tried[1])
    gain, seen, audits, lowest = best
    accepted = scores >= lowest
    accepted[rows] = False
    unseen = Interval(low=gain.low - seen, estimate=gain.estimate - seen, high=gain.high - seen)
    return GainPromise(accepted=accepted, threshold=lowest, gain=gain, unseen=unseen, audits=audits, reason="")


def lower_mean(values: Floats, level: float) -> float:
    """Lower bound of the mean of independent draws from [-1, 1], by inverting the test by e-value.

    Args:
        values: (k,) in [-1, 1]; their order does not matter.
        level: Probability that the mean is smaller than what is returned, at most; in (0, 1).

    Returns:
        In [-1, 1), and -1 where nothing can be said; never above the mean of the values. Rounded down by less than 1e-9.
    """
    if len(values) == 0:
        return -1.0
    strike, chance = _coins(values, level)
    low, high = -1.0, 1.0
    # The e-value falls as the mean supposed rises, so all means below one refused are refused as well.
    for _ in range(31):
        middle = (low + high) / 2
        if _log_e(values, middle, strike, chance) >= -math.log(level):
            low = middle
        else:
            high = middle
    return low


def _coins(values: Floats, level: float) -> tuple[int, float]:
    """Return how many of k coins are to show +1, and the probability that at least as many do, each with its (1 + value)/2.

    So many fair ones do with a probability of at most a quarter of the level: the test succeeds by this half alone if at
    least every second throw does. The number depends on k and level, not on the values.
    """
    count = len(values)
    strike = min(int(binom.isf(level / 4, count, 0.5)) + 1, count)
    heads = (1 + values) / 2
    chances = np.zeros(count + 1)  # of 0..k coins
    chances[0] = 1.0
    for i, head in enumerate(heads, start=1):
        chances[1 : i + 1] = chances[1 : i + 1] * (1 - head) + chances[:i] * head
        chances[0] *= 1 - head
    return strike, float(chances[strike:].sum())


def _log_e(values: Floats, mean: float, strike: int, chance: float) -> float:
    """Logarithm of the e-value against a mean of at most `mean`, in (-1, 1)."""
    shifted = (values - mean) / (1 + mean)
    bets = logsumexp(np.log1p(np.outer(_BETS, shifted)).sum(axis=1)) - math.log(len(_BETS))
    coins = -math.inf if chance <= 0 else math.log(chance) - binom.logsf(strike - 1, len(values), (1 + mean) / 2)
    return float(np.logaddexp(bets, coins) - math.log(2))


def without_errors(mean: float, wrong_answers: float) -> float:
    """Lower a bound on a mean of what answers show to one on the mean of what is true.

    A share e of answers, wrong, shows 1 at most, so what is seen is at most (1 - e)·true + e.

    Args:
        mean: In [-1, 1].
        wrong_answers: e, in [0, 1).

    Example:
        >>> round(without_errors(0.5, 0.1), 3), without_errors(0.5, 0.0)
        (0.444, 0.5)
    """
    return max(-1.0, (mean - wrong_answers) / (1 - wrong_answers))


def _thresholds(scores: Floats, stakes: Floats, audits: int, error: float, wrong_answers: float = 0.0) -> Floats:
    """Return scores that bound the sets to try, lowest first. They depend on no answer and no drawn row."""
    ordered = np.sort(scores)[::-1]
    ranks = [max(1, math.ceil(share * len(scores))) - 1 for share in FRACTIONS]
    found = np.unique(ordered[ranks])
    tried = 1
    for threshold in found[1:]:
        expected = math.floor(audits * stakes[scores >= threshold].sum() / stakes.sum())
        level, all_right = error / (tried + 1), np.ones(expected)
        if expected == 0 or _log_e(all_right, wrong_answers, *_coins(all_right, level)) < -math.log(level):
            break
        tried += 1
    return found[:tried]


def _audits(
    scores: NDArray[Any], stakes: NDArray[Any], drawn: NDArray[Any], effects: NDArray[Any]
) -> tuple[Floats, Floats, NDArray[np.int64], Floats]:
    """Check the arguments and convert them to arrays."""
    scores, effects = np.asarray(scores, dtype=np.float64), np.asarray(effects, dtype=np.float64)
    stakes, drawn = np.asarray(stakes, dtype=np.float64), np.asarray(drawn).astype(np.int64)
    if scores.ndim != 1 or scores.shape != stakes.shape or drawn.ndim != 1 or drawn.shape != effects.shape:
        raise ShapeError(
            f"Scores {scores.shape}, stakes {stakes.shape}, audits {drawn.shape}, effects {effects.shape}; "
            "expected (n,), (n,), (k,), (k,)."
        )
    if np.isnan(scores).any():
        raise InputError("A score is NaN; expected numbers, where higher means more certain.")
    shares_of(stakes, len(drawn))
    if len(drawn) and not (drawn.min() >= 0 and drawn.max() < len(scores) and (stakes[drawn] > 0).all()):
        raise InputError(f"Audited rows must be in 0..{len(scores) - 1} and have a stake.")
    if not (np.abs(effects) <= stakes[drawn] * (1 + 1e-9)).all():
        raise InputError("An effect exceeds its stake; both must rest on the same unions and IoUs.")
    _, first, which = np.unique(drawn, return_index=True, return_inverse=True)
    if not (effects == effects[first][which]).all():
        raise InputError("A row that was drawn twice has two effects; expected one.")
    return scores, stakes, drawn, effects


def _nothing(
    total: int, reason: str, stake: float = 0.0, *, gain: Interval | None = None, audits: int = 0
) -> GainPromise:
    return GainPromise(
        accepted=np.zeros(total, dtype=np.bool_),
        threshold=math.inf,
        gain=gain or Interval(low=-stake, estimate=math.nan if total else 0.0, high=stake),
        unseen=Interval(low=0.0, estimate=0.0, high=0.0),
        audits=audits,
        reason=reason,
    )
