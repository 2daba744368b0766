"""Figures of label quality with intervals, from audits drawn with known probabilities (pure).

Every figure is a function of a few totals over masks: pixels labelled and truly of a class, pixels of a class, pixels
labelled so, wrong masks. A total is estimated as

    known masks exactly  +  Σ over the others of what the posterior expects  +  Σ over the audited of (seen - expected)/π

which is unbiased whatever the posterior is worth: the difference estimator of survey sampling, and prediction-powered
inference (arXiv:2301.09633) with weight 1. PPI++ (arXiv:2311.01453) tunes that weight on the sample; here it stays 1,
since a weight from 20 answers, few of them wrong, is noise, and since an over-confident posterior costs no more than
none at all: what it leaves to be estimated is the errors themselves.

Intervals. The audited are treated as independent draws of (seen - expected)·n/π, shrunk by sqrt(1 - π) for those likely
to be drawn (Hájek 1964). Errors are rare, so these values are nearly all alike but for a few large ones, often none;
linearisation with t intervals then covers far too seldom and has no width at all where no error was seen. Instead each
end comes from Gaffke's bound (Learned-Miller and Thomas 2019, arXiv:1905.06208): the draws are weighted by a flat
Dirichlet, to which one draw more is added, the worst there could be, and the quantile of the weighted mean is taken.
For masks drawn alike and answers right or wrong it is the exact bound of Clopper and Pearson, by construction. The worst
here is the mean over the unknown masks, not the largest single one: for the lower ends "every label is wrong, and truly
another class", for the upper ones "every label is right". The one draw that all labels are wrong is divided among the
classes that could be the truth, each class a fraction of a draw in which everything belongs to it: the rule of
succession, for classes. All figures are computed from each reweighted set of totals, so nothing is linearised.

Figures by class know more: how many pixels carry the label. What is right among those is estimated from the audits with
that label alone, as a ratio (post-stratification), with an added draw of its own; only what other labels hide comes from
the totals, with an added draw for each class. So figures by class have a slight bias for a label with few audits, and
where it has none precision may be anything that is possible. mIoU takes the totals: with the rows its interval was
nearly twice as wide at 20 audits and covered no better. It is thus not the mean of the IoUs reported, but near it. Its
lower end takes 0.7 of the added draw: a whole one covered in 98 to 100 % of simulated runs.

Draws of other times are pooled as `a2lc.audits.pooling` says. Where answers may be wrong, each set of reweighted totals is made
of one draw of the true classes of all answered masks (`a2lc.audits.answer_noise`), and the estimates of their mean.

What breaks them: answers that are wrong and taken for right; probabilities that are not those drawn with; audits chosen, skipped
or replaced by hand; labels or posterior changed after looking at the audits. A rare class of which no audit saw a pixel
has an interval that rests on the fraction of a draw alone: errors of other classes that all hide one such class can
leave it, which is why recall covers least (benchmarks/quality_coverage.py has the figures). Areas so skewed that a single
unlikely mask decides a figure are met by the share by area of the design (`audit_sizes`), not here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.answer_noise import AnsweredMasks, AnswerNoise
from a2lc.audits.intervals import Interval, QualityEstimate
from a2lc.audits.pooling import AuditDraws, moved_draws, pool
from a2lc.audits.resampling import (
    REPLICATES,
    SEED,
    Floats,
    check_inputs,
    class_means,
    class_sums,
    class_totals,
    collect,
    count_rows,
    expected_counts,
    heavy,
    quantile,
    replicate_figures,
    residuals,
    rows_by_class,
    unrefuted,
)
from a2lc.classes.sentinels import UNKNOWN, VOID
from a2lc.errors import InputError, ShapeError

__all__ = ["estimate_quality", "expected_gain"]

_MEAN_DRAW = 0.7
"""Part of the added worst draw that the lower end of mIoU takes."""


def estimate_quality(
    area: NDArray[Any],
    labels: NDArray[Any],
    posterior: NDArray[Any],
    truth: NDArray[Any],
    drawn: NDArray[Any],
    probabilities: NDArray[Any],
    *,
    now: NDArray[Any] | None = None,
    design: NDArray[Any] | None = None,
    confidence: float = 0.95,
    earlier: Sequence[AuditDraws] = (),
    noise: AnswerNoise | None = None,
) -> QualityEstimate:
    """Estimate label quality from answers known exactly and from masks drawn to measure it.

    Args:
        area: (M,) pixels, 0 or more.
        labels: (M,) class in [0, K) or -1 for void, as they were when the audits were drawn.
        posterior: (M, K+1) probabilities, rows that sum to 1, frozen when the audits were drawn; the last is void.
        truth: (M,) class or -1 for void of every mask that was asked about, the audits included; -2 for the others.
        drawn: (n,) rows of the audits, drawn from the masks unknown until then.
        probabilities: (n,) their inclusion probabilities, in (0, 1].
        now: (M,) labels the figures are wanted of, where they differ from `labels`, as after the answers were taken
            over; only masks whose truth is known may differ. None for `labels`.
        design: (M,) inclusion probabilities of all masks, which widen the interval of wrong masks by what masks could add
            that were unlikely to be drawn; None if they are not known.
        confidence: In (0, 1).
        earlier: Other draws, of earlier rounds or by other probabilities, each with its share of the masks. For an answered
            mask in them, `labels` and `posterior` are to be what they would be without its answer. They narrow all figures
            that are made of totals; what is right among the pixels of one label comes from `drawn` alone.
        noise: How likely answers are wrong; None if they are right. With it, too, `posterior` is to be what it would be for an
            answered mask without its answer.

    Returns:
        The figures. Without audits their intervals hold all that the unknown masks could make of them, and estimates
        are NaN; where nothing is unknown, intervals are points.

    Raises:
        ShapeError: Arrays that belong together differ in length.
        LabelRangeError: A label or truth is none of its values.
        InputError: An audit has no truth or comes twice, a probability is out of range, or `now` differs elsewhere.

    Source:
        Särndal, Swensson and Wretman 1992, chapter 6 (difference estimator); arXiv:2301.09633; arXiv:1905.06208.

    Example:
        >>> found = estimate_quality(
        ...     np.full(4, 10), np.array([0, 0, 1, 1]), np.full((4, 3), 1 / 3), np.array([0, 0, 1, 0]), [], []
        ... )
        >>> found.pixel_accuracy
        Interval(low=0.75, estimate=0.75, high=0.75)
    """
    area = np.asarray(area, dtype=np.float64)
    posterior = np.asarray(posterior)
    labels, truth = np.asarray(labels, dtype=np.int64), np.asarray(truth, dtype=np.int64)
    drawn = np.asarray(drawn, dtype=np.int64)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    now = labels if now is None else np.asarray(now, dtype=np.int64)
    check_inputs(area, labels, posterior, truth, drawn, probabilities, now, confidence)

    classes = posterior.shape[1] - 1
    label, final, true = (np.where(values == VOID, classes, values) for values in (labels, now, truth))
    unknown = truth == UNKNOWN
    draws = pool(drawn, probabilities, earlier, ~unknown)
    answers = AnsweredMasks(area, final, true, ~unknown, posterior, draws.rows, noise)
    exact = answers.mean()
    hidden = class_sums(label[unknown], area[unknown], classes + 1)
    number, tail = float(unknown.sum()), (1 - confidence) / 2
    occurs = (np.bincount(final, minlength=classes + 1) + answers.said.sum(axis=0) > 0)[:classes]
    sure_low, sure_high = answers.sure_ends(hidden, tail)
    if number == 0 or len(drawn) == 0:
        low, figures, high = sure_low, np.full(len(sure_low), np.nan), sure_high
        if number == 0:
            figures = replicate_figures(class_totals(exact), rows_by_class(exact), occurs)[0]
            low, high = answers.ends(occurs, tail)
        none = 0.0 if number == 0 else math.nan
        masks = Interval(low=0.0, estimate=none, high=number)
        pixels = Interval(low=0.0, estimate=none, high=float(hidden.sum()))
        return collect(low, figures, high, masks, pixels, len(drawn), confidence)

    # What the posterior expects of the unknown masks, by label: (K+1, K+1), and of their number that are wrong.
    expected, wrong = expected_counts(area, label, posterior, unknown)
    # A class seen nowhere counts where half a mask of it or more is expected.
    occurs |= expected[:-1, :-1].sum(axis=0) > 0.5 * hidden.sum() / number
    count = int((probabilities < 1).sum())

    # The added draws: all right; and all wrong, where everything is of one class, each class a fraction of a draw.
    diagonal = np.diag(hidden)
    all_right = np.append(class_totals(diagonal - expected), [-wrong, -(hidden.sum() - np.trace(expected))])
    one_class = np.zeros((classes, len(all_right)))
    for c in range(classes):
        moved = np.zeros_like(expected)
        moved[:, c] = hidden
        # All labels are to be wrong: what is labelled c belongs to the others, or to void where there are none.
        moved[c, :classes] = hidden[c] / max(classes - 1, 1)
        moved[c, c], moved[c, classes] = 0.0, hidden[c] * (classes == 1)
        one_class[c] = np.append(class_totals(moved - expected), [number - wrong, np.trace(expected)])
    if design is not None:
        right = posterior[np.arange(len(area)), label].astype(np.float64)
        open_ = np.where(unknown, np.asarray(design, dtype=np.float64), 0.0)
        all_right[-2] = min(all_right[-2], -heavy(1 - right, open_, count))
        one_class[:, -2] = np.maximum(one_class[:, -2], heavy(right, open_, count))

    # What other labels hide of a class is seen in few audits, each of much weight, so each class has a draw of its own
    # that everything is of it: a whole one where a quarter of the unknown pixels or more carry it, less for rarer ones.
    portion = hidden[:-1] / max(hidden[:-1].sum(), 1.0)
    shape = np.clip(4 * portion, min(1.5 / max(classes - 1, 1), 1.0), 1.0)
    mine, theirs = slice(0, classes), slice(classes, 2 * classes)
    most = np.diag(one_class[:, theirs]) - np.diag(one_class[:, mine])
    rng = np.random.default_rng(SEED)
    gammas = rng.standard_exponential((REPLICATES, int(draws.random.sum())))
    one = draws.added * rng.standard_exponential((REPLICATES, 1))
    parts = draws.added * rng.standard_gamma(1 / classes, (REPLICATES, classes))
    own_parts = rng.standard_exponential((REPLICATES, classes))
    missing = draws.added * rng.standard_gamma(shape, (REPLICATES, classes))

    def seen(rows: NDArray[np.int64], said: Floats) -> Floats:
        return residuals(area[rows], label[rows], said, posterior[rows].astype(np.float64))

    def centre_of(said: Callable[[NDArray[np.int64]], Floats]) -> Floats:
        since = draws.subtracted @ seen(draws.since, said(draws.since)) if len(draws.since) else 0.0
        return np.asarray(draws.weight @ seen(draws.rows, said(draws.rows)) - since, dtype=np.float64)

    named = np.eye(classes + 1)
    weight = (1 / probabilities - 1)[probabilities < 1]
    chosen = drawn[probabilities < 1]
    audited = seen(draws.rows, named[true[draws.rows]])[draws.random]
    values = len(audited) * draws.spread[draws.random, None] * audited
    centre = centre_of(lambda rows: named[true[rows]]) - (values.mean(axis=0) if len(values) else 0.0)
    aside = np.array([wrong, hidden.sum() - np.trace(expected)])
    lows, highs, ends = [], [], []
    for block, flips, known in answers.blocks(REPLICATES, 1):
        fixed, shift = known + expected, centre
        sums, more = gammas[block] @ values, None
        if flips is not None:
            flipped = moved_draws(draws, flips, area, label, gammas[block], weight)
            sums, shift, more = sums + flipped.sums, shift + flipped.centre, flipped.rows
        shift = shift + np.concatenate([class_totals(fixed), np.broadcast_to(aside, (*fixed.shape[:-2], 2))], axis=-1)
        best = class_means(gammas[block], sums, one[block], all_right[None]) + shift
        worst = class_means(gammas[block], sums, parts[block], one_class) + shift
        # The same by label, where the pixels labelled so are known and an audit of another label says nothing.
        worst_rows, best_rows = count_rows(
            gammas[block, : len(chosen)],
            own_parts[block],
            weight * area[chosen],
            weight[:, None] * audited[: len(chosen)],
            label[chosen],
            hidden,
            expected,
            more,
        )
        rows = rows_by_class(fixed)
        elsewhere = (sums[:, theirs] - sums[:, mine] + missing[block] * most) / (
            gammas[block].sum(axis=1)[:, None] + missing[block]
        )
        elsewhere += shift[..., theirs] - shift[..., mine]
        lows.append(replicate_figures(worst, worst_rows + rows, occurs, elsewhere))
        less = class_means(gammas[block], sums, _MEAN_DRAW * parts[block], one_class) + shift
        lows[-1][:, 1] = replicate_figures(less, worst_rows + rows, occurs)[:, 1]
        highs.append(replicate_figures(best, best_rows + rows, occurs))
        ends.append((best[:, -2:], worst[:, -2:]))

    middle = seen(draws.rows, answers.worth(draws.rows))[draws.random][: len(chosen)]
    centre = np.append(class_totals(exact + expected), aside) + centre_of(answers.worth)
    own = count_rows(
        np.ones((1, len(chosen))),
        np.zeros((1, classes)),
        weight * area[chosen],
        weight[:, None] * middle,
        label[chosen],
        hidden,
        expected,
    )
    point = own[0] + rows_by_class(exact + expected)
    figures = np.clip(replicate_figures(centre[None], point, occurs)[0], sure_low, sure_high)
    low = np.clip(quantile(np.concatenate(lows), tail), sure_low, sure_high)
    high = np.clip(quantile(np.concatenate(highs), 1 - tail), sure_low, sure_high)
    undefined = np.isnan(figures)
    high = np.where(unrefuted(label[draws.rows], true[draws.rows], classes), sure_high, high)
    low = np.where(undefined, np.nan, np.fmin(low, figures))
    high = np.where(undefined, np.nan, np.fmax(high, figures))
    fewest, greatest = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    if (label[draws.rows] == true[draws.rows]).all():
        fewest[:] = 0.0  # no label seen is wrong: none may be
    remaining = []
    for column, limit in ((0, number), (1, float(hidden.sum()))):
        three = [np.quantile(fewest[:, column], tail), centre[column - 2], np.quantile(greatest[:, column], 1 - tail)]
        least, estimate, top = (float(min(max(end, 0.0), limit)) for end in three)
        remaining.append(Interval(low=min(least, estimate), estimate=estimate, high=max(estimate, top)))
    return collect(low, figures, high, remaining[0], remaining[1], len(drawn), confidence)


def expected_gain(
    predicted: NDArray[Any], realised: NDArray[Any], next_predicted: float, confidence: float = 0.95
) -> Interval:
    """Predict what the next queries will gain, from how recent predictions turned out.

    The ratio of realised to predicted is estimated as a whole (sum by sum) and the Bayesian bootstrap gives its
    interval, with one question added at either end: that one gained nothing, or as much as was ever predicted or
    realised. It presumes that the next questions are like the last.

    Args:
        predicted: (n,) gains predicted for questions asked lately, 0 or more.
        realised: (n,) gains of their answers; below 0 where an answer cost quality.
        next_predicted: Summed prediction for the next questions, 0 or more.
        confidence: In (0, 1).

    Returns:
        Their gain, 0 or more; NaN between 0 and infinity for fewer than 8 answers, or where nothing was predicted.

    Raises:
        ShapeError: The two arrays differ in length.
        InputError: A prediction is negative or not finite, or the confidence is not in (0, 1).

    Example:
        >>> expected_gain(np.ones(10), np.full(10, 0.5), 4.0).estimate
        2.0
    """
    predicted, realised = np.asarray(predicted, dtype=np.float64), np.asarray(realised, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != realised.shape:
        raise ShapeError(
            f"Predicted gains have shape {predicted.shape} and actual ones {realised.shape}; expected (n,) for both."
        )
    if not (np.isfinite(predicted).all() and np.isfinite(realised).all() and (predicted >= 0).all()):
        raise InputError("Gains must be finite, and predicted ones 0 or more.")
    if not (0 < confidence < 1 and 0 <= next_predicted < math.inf):
        raise InputError(f"Confidence {confidence} must be in 0..1 and the next prediction {next_predicted} 0 or more.")
    if len(predicted) < 8 or predicted.sum() <= 0:
        return Interval(low=0.0, estimate=math.nan, high=math.inf)
    weights = np.random.default_rng(SEED).standard_exponential((REPLICATES, len(predicted) + 1))
    most, mean, tail = max(realised.max(), predicted.max()), predicted.mean(), (1 - confidence) / 2
    ends = []
    for added, share in ((min(0.0, realised.min()), tail), (most, 1 - tail)):
        ratio = (weights @ np.append(realised, added)) / (weights @ np.append(predicted, mean))
        ends.append(max(0.0, float(np.quantile(ratio, share)) * next_predicted))
    estimate = max(0.0, float(realised.sum() / predicted.sum()) * next_predicted)
    return Interval(low=min(ends[0], estimate), estimate=estimate, high=max(ends[1], estimate))
