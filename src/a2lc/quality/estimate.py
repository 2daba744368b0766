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
nearly twice as wide at 20 audits and covered no better. It is thus not the mean of the IoUs reported, but near it.

What breaks them: answers that are wrong; probabilities that are not those drawn with; audits chosen, skipped or
replaced by hand; labels or posterior changed after looking at the audits. A rare class of which no audit saw a pixel
has an interval that rests on the fraction of a draw alone: errors of other classes that all hide one such class can
leave it, which is why recall covers least (bench/quality_coverage.py has the figures). Areas so skewed that a single
unlikely mask decides a figure are met by the share by area of the design (`audit_sizes`), not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, LabelRangeError, ShapeError

__all__ = ["UNKNOWN", "VOID", "Interval", "QualityEstimate", "estimate_quality", "expected_gain"]

VOID = -1
"""Label or truth of a mask that belongs to no class."""

UNKNOWN = -2
"""Truth of a mask nobody was asked about."""

Floats = NDArray[np.float64]

_REPLICATES = 2000
_SEED = 20240731


@dataclass(frozen=True, eq=False, kw_only=True)
class Interval:
    """An estimate and the ends of its confidence interval; NaN for a figure that is not defined.

    Attributes:
        low: Lower end, never above `estimate`.
        estimate: The point estimate; NaN where there is none.
        high: Upper end.
    """

    low: float
    estimate: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True)
class QualityEstimate:
    """Label quality of a data set in pixels, mask by mask; a label or truth of void counts as in `ConfusionCounts`.

    Attributes:
        pixel_accuracy: Share of the pixels with label and truth that carry the right class.
        miou: Mean IoU over the classes that occur.
        coverage: Share of the pixels with truth that carry a label.
        precision: K intervals; NaN for a class that occurs in neither labels nor truth, as the next two.
        recall: K intervals, of the pixels that carry a label.
        iou: K intervals.
        wrong_masks: Masks nobody was asked about whose label, void included, is not the truth.
        wrong_pixels: Their pixels.
        audits: Masks the figures were measured with, n.
        confidence: Of each interval by itself.
    """

    pixel_accuracy: Interval
    miou: Interval
    coverage: Interval
    precision: tuple[Interval, ...]
    recall: tuple[Interval, ...]
    iou: tuple[Interval, ...]
    wrong_masks: Interval
    wrong_pixels: Interval
    audits: int
    confidence: float


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
    _check(area, labels, posterior, truth, drawn, probabilities, now, confidence)

    classes = posterior.shape[1] - 1
    label, final, true = (np.where(values == VOID, classes, values) for values in (labels, now, truth))
    unknown = truth == UNKNOWN
    known = ~unknown
    exact = _sums(final[known] * (classes + 1) + true[known], area[known], (classes + 1) ** 2)
    exact = exact.reshape(classes + 1, classes + 1)
    hidden = _sums(label[unknown], area[unknown], classes + 1)
    number = float(unknown.sum())
    occurs = (np.bincount(final, minlength=classes + 1) + exact.sum(axis=0) > 0)[:classes]
    sure_low, sure_high = _sure(exact, hidden)
    if number == 0 or len(drawn) == 0:
        low, figures, high = sure_low, np.full(len(sure_low), np.nan), sure_high
        if number == 0:
            low = figures = high = _figures(_totals(exact), _rows_of(exact), occurs)[0]
        none = 0.0 if number == 0 else math.nan
        masks = Interval(low=0.0, estimate=none, high=number)
        pixels = Interval(low=0.0, estimate=none, high=float(hidden.sum()))
        return _collect(low, figures, high, masks, pixels, len(drawn), confidence)

    # What the posterior expects of the unknown masks, by label: (K+1, K+1), and of their number that are wrong.
    expected, wrong = _expected(area, label, posterior, unknown)
    # A class seen nowhere counts where half a mask of it or more is expected.
    occurs |= expected[:-1, :-1].sum(axis=0) > 0.5 * hidden.sum() / number
    base = np.append(_totals(exact + expected), [wrong, hidden.sum() - np.trace(expected)])
    seen = _residuals(area[drawn], label[drawn], true[drawn], posterior[drawn].astype(np.float64))
    centre = ((1 / probabilities - 1)[:, None] * seen).sum(axis=0)
    random = probabilities < 1
    values = int(random.sum()) * (np.sqrt(1 - probabilities) / probabilities)[random, None] * seen[random]

    # The added draws: all right; and all wrong, where everything is of one class, each class a fraction of a draw.
    diagonal = np.diag(hidden)
    all_right = np.append(_totals(diagonal - expected), [-wrong, -(hidden.sum() - np.trace(expected))])
    one_class = np.zeros((classes, len(all_right)))
    for c in range(classes):
        moved = np.zeros_like(expected)
        moved[:, c] = hidden
        # All labels are to be wrong: what is labelled c belongs to the others, or to void where there are none.
        moved[c, :classes] = hidden[c] / max(classes - 1, 1)
        moved[c, c], moved[c, classes] = 0.0, hidden[c] * (classes == 1)
        one_class[c] = np.append(_totals(moved - expected), [number - wrong, np.trace(expected)])
    if design is not None:
        right = posterior[np.arange(len(area)), label].astype(np.float64)
        open_ = np.where(unknown, np.asarray(design, dtype=np.float64), 0.0)
        all_right[-2] = min(all_right[-2], -_heavy(1 - right, open_, len(values)))
        one_class[:, -2] = np.maximum(one_class[:, -2], _heavy(right, open_, len(values)))
    rng = np.random.default_rng(_SEED)
    gammas = rng.standard_exponential((_REPLICATES, len(values)))
    one = rng.standard_exponential((_REPLICATES, 1))
    parts = rng.standard_gamma(1 / classes, (_REPLICATES, classes))
    shift = base + centre - (values.mean(axis=0) if len(values) else 0.0)
    sums = gammas @ values
    best = _means(gammas, sums, one, all_right[None]) + shift
    worst = _means(gammas, sums, parts, one_class) + shift

    # The same by label, where the pixels labelled so are known and an audit of another label says nothing.
    weight = (1 / probabilities - 1)[random]
    own = _rows(
        np.concatenate([np.ones((1, len(values))), gammas]),
        np.concatenate([np.zeros((1, classes)), rng.standard_exponential((_REPLICATES, classes))]),
        weight * area[drawn][random],
        weight[:, None] * seen[random],
        label[drawn][random],
        hidden,
        expected,
    )
    fixed = exact + expected
    point, low_rows, high_rows = own[0][0] + _rows_of(fixed), own[0][1:] + _rows_of(fixed), own[1][1:] + _rows_of(fixed)

    # What other labels hide of a class is seen in few audits, each of much weight, so each class has a draw of its own
    # that everything is of it: a whole one where a quarter of the unknown pixels or more carry it, less for rarer ones.
    share = hidden[:-1] / max(hidden[:-1].sum(), 1.0)
    shape = np.clip(4 * share, min(1.5 / max(classes - 1, 1), 1.0), 1.0)
    missing = rng.standard_gamma(shape, (_REPLICATES, classes))
    mine, theirs = slice(0, classes), slice(classes, 2 * classes)
    most = np.diag(one_class[:, theirs]) - np.diag(one_class[:, mine])
    elsewhere = (sums[:, theirs] - sums[:, mine] + missing * most) / (gammas.sum(axis=1)[:, None] + missing)
    elsewhere += shift[theirs] - shift[mine]

    tail = (1 - confidence) / 2
    centre_totals = (base + centre)[None]
    figures = np.clip(_figures(centre_totals, point[None], occurs)[0], sure_low, sure_high)
    low = np.clip(_quantile(_figures(worst, low_rows, occurs, elsewhere), tail), sure_low, sure_high)
    high = np.clip(_quantile(_figures(best, high_rows, occurs), 1 - tail), sure_low, sure_high)
    undefined = np.isnan(figures)
    high = np.where(_unrefuted(label[drawn], true[drawn], classes), sure_high, high)
    low = np.where(undefined, np.nan, np.fmin(low, figures))
    high = np.where(undefined, np.nan, np.fmax(high, figures))
    if (label[drawn] == true[drawn]).all():
        best[:, -2:] = 0.0  # no label seen is wrong: none may be
    remaining = []
    for column, most in ((-2, number), (-1, float(hidden.sum()))):
        ends = [np.quantile(best[:, column], tail), centre_totals[0, column], np.quantile(worst[:, column], 1 - tail)]
        least, middle, greatest = (float(min(max(end, 0.0), most)) for end in ends)
        remaining.append(Interval(low=min(least, middle), estimate=middle, high=max(middle, greatest)))
    return _collect(low, figures, high, remaining[0], remaining[1], len(drawn), confidence)


def expected_gain(
    predicted: NDArray[Any], realised: NDArray[Any], next_predicted: float, confidence: float = 0.95
) -> Interval:
    """What the next questions will gain, from how gains predicted lately turned out.

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
            f"Predicted gains of shape {predicted.shape}, realised ones of {realised.shape}; expected (n,)."
        )
    if not (np.isfinite(predicted).all() and np.isfinite(realised).all() and (predicted >= 0).all()):
        raise InputError("Gains must be finite, and predicted ones 0 or more.")
    if not (0 < confidence < 1 and 0 <= next_predicted < math.inf):
        raise InputError(f"Confidence {confidence} must be in 0..1 and the next prediction {next_predicted} 0 or more.")
    if len(predicted) < 8 or predicted.sum() <= 0:
        return Interval(low=0.0, estimate=math.nan, high=math.inf)
    weights = np.random.default_rng(_SEED).standard_exponential((_REPLICATES, len(predicted) + 1))
    most, mean, tail = max(realised.max(), predicted.max()), predicted.mean(), (1 - confidence) / 2
    ends = []
    for added, share in ((min(0.0, realised.min()), tail), (most, 1 - tail)):
        ratio = (weights @ np.append(realised, added)) / (weights @ np.append(predicted, mean))
        ends.append(max(0.0, float(np.quantile(ratio, share)) * next_predicted))
    estimate = max(0.0, float(realised.sum() / predicted.sum()) * next_predicted)
    return Interval(low=min(ends[0], estimate), estimate=estimate, high=max(ends[1], estimate))


# ---- totals ---------------------------------------------------------------------------------------------------------
#
# A row of totals is [inside (K), truth (K), label (K), unlabelled], all in pixels: of class c both labelled and true;
# labelled and truly c; labelled c and truly a class; and pixels of a class that carry void. Two more follow where masks
# are estimated: wrong masks and wrong pixels among the unknown.


def _sums(rows: NDArray[np.int64], weights: NDArray[Any], size: int) -> Floats:
    # Without masks bincount counts in integers, whatever the weights.
    return np.bincount(rows, weights=weights, minlength=size).astype(np.float64, copy=False)


def _totals(joint: Floats) -> Floats:
    """(3K+1,) totals of (K+1, K+1) pixels by label and truth."""
    inner = joint[:-1, :-1]
    return np.concatenate([np.diag(inner), inner.sum(axis=0), inner.sum(axis=1), [joint[-1, :-1].sum()]])


def _expected(
    area: Floats, label: NDArray[np.int64], posterior: NDArray[Any], unknown: NDArray[np.bool_]
) -> tuple[Floats, float]:
    """Pixels by label and truth the posterior expects of the unknown masks, and the number it expects to be wrong."""
    size = posterior.shape[1]
    weight = np.where(unknown, area, 0.0)
    joint = np.stack([_sums(label, weight * posterior[:, c], size) for c in range(size)], axis=1)
    right = posterior[np.arange(len(label)), label]
    return joint, float(unknown.sum() - right[unknown].sum(dtype=np.float64))


def _residuals(area: Floats, label: NDArray[np.int64], true: NDArray[np.int64], posterior: Floats) -> Floats:
    """(n, 3K+3) what each audited mask adds to the totals, less what the posterior expected of it."""
    n, classes = len(area), posterior.shape[1] - 1
    rows = np.arange(n)
    off = -posterior
    off[rows, true] += 1.0
    right = off[rows, label]
    found = np.zeros((n, 3 * classes + 3))
    real = -off[:, classes]  # being of a class at all
    is_class = label < classes
    found[rows[is_class], label[is_class]] = (area * right)[is_class]
    found[:, classes : 2 * classes] = np.where(is_class[:, None], area[:, None] * off[:, :classes], 0.0)
    found[rows[is_class], 2 * classes + label[is_class]] = (area * real)[is_class]
    found[:, 3 * classes] = np.where(is_class, 0.0, area * real)
    found[:, -2] = -right
    found[:, -1] = -area * right
    return found


def _heavy(off: Floats, chance: Floats, count: int) -> float:
    """What one draw shows of the number of wrong masks if all are off by so much, each weighed by what it shows.

    Equal to the sum where all draws show the same. Else above it: small masks are rarely drawn and show much.
    """
    random = (chance > 0) & (chance < 1)
    each = np.sqrt(1 - chance[random]) * off[random]
    return count * float((each**2 / chance[random]).sum()) / max(float(each.sum()), 1e-12)


def _unrefuted(label: NDArray[np.int64], true: NDArray[np.int64], classes: int) -> NDArray[np.bool_]:
    """(3K+3,) figures of which no audit shows that they fall short of what is possible."""
    wrong = label != true
    false = np.bincount(label[wrong], minlength=classes + 1)[:classes] == 0
    missed = np.bincount(true[wrong], minlength=classes + 1)[:classes] == 0
    return np.concatenate([np.full(3, not wrong.any()), false, missed, false & missed])


def _means(gammas: Floats, sums: Floats, added_gammas: Floats, added: Floats) -> Floats:
    """(B, F) means of the draws and the added ones, weighted by the Dirichlet the gammas make."""
    total = gammas.sum(axis=1) + added_gammas.sum(axis=1)
    means: Floats = (sums + added_gammas @ added) / total[:, None]
    return means


def _rows_of(joint: Floats) -> Floats:
    """(2, K) pixels by label: of that class, and of any."""
    inner = joint[:-1, :-1]
    return np.stack([np.diag(inner), inner.sum(axis=1)])


def _rows(
    gammas: Floats,
    added: Floats,
    weight: Floats,
    seen: Floats,
    label: NDArray[np.int64],
    hidden: Floats,
    expected: Floats,
) -> tuple[Floats, Floats]:
    """(B, 2, K) what audits of a label add to `_rows_of` what is expected of the unknown; with the worst and best added.

    The residual a pixel is estimated within the label, as a ratio, and multiplied by its unknown pixels. The added draw
    weighs as much as a mean one, so that it alone speaks where no audit has the label.
    """
    classes = len(hidden) - 1
    worst = np.zeros((len(gammas), 2, classes))
    best = np.zeros((len(gammas), 2, classes))
    for c in range(classes):
        if hidden[c] == 0:
            continue
        rows = np.flatnonzero(label == c)
        columns = seen[rows][:, [c, 2 * classes + c]]
        total = gammas[:, rows] @ weight[rows]
        sums = gammas[:, rows] @ columns
        mean = weight[rows].mean() if len(rows) and weight[rows].any() else 1.0
        extra = added[:, c] * mean
        inside, real = expected[c, c] / hidden[c], expected[c, :-1].sum() / hidden[c]
        for found, residual in ((worst, np.array([-inside, 1 - real])), (best, np.array([1 - inside, 1 - real]))):
            found[:, :, c] = hidden[c] * np.divide(
                sums + extra[:, None] * residual,
                (total + extra)[:, None],
                out=np.zeros_like(sums),
                where=(total + extra)[:, None] > 0,
            )
    return worst, best


def _figures(totals: Floats, rows: Floats, occurs: NDArray[np.bool_], elsewhere: Floats | None = None) -> Floats:
    """(B, 3K+3) figures of totals: accuracy, mIoU, coverage, and precision, recall and IoU by class; NaN undefined.

    Those by class take (B, 2, K) `rows`, and from the totals only what is truly of a class under other labels; where
    given, that comes as (B, K) `elsewhere`.
    """
    totals, rows = np.atleast_2d(totals), rows.reshape(-1, 2, len(occurs))
    classes = len(occurs)
    inside, truth, label = (totals[:, k * classes : (k + 1) * classes] for k in range(3))
    missed = np.maximum(truth - inside, 0.0)
    counted = label.sum(axis=1)
    outside = missed if elsewhere is None else np.maximum(elsewhere, 0.0)
    own = np.maximum(rows[:, 0], 0.0)
    own_label = np.maximum(rows[:, 1], own)
    iou = np.where(occurs, _ratio(own, own_label + outside), np.nan)
    # Each row apart is wide for a rare label; in the mean over classes such errors cancel, so it is taken of the totals.
    # Cut to 0..1 class by class, noise would only ever lower a mean near 1; wider cuts keep rare classes from ruling it.
    union = np.maximum(label + truth - inside, 0.5 * label)
    by_total = np.where(occurs, np.clip(_ratio(inside, union), -1.0, 2.0), np.nan)
    there = np.isfinite(by_total)
    miou = _ratio(np.where(there, by_total, 0.0).sum(axis=1), there.sum(axis=1))
    covered = _ratio(counted, counted + np.maximum(totals[:, 3 * classes], 0.0))
    overall = np.clip(np.stack([_ratio(inside.sum(axis=1), counted), miou, covered], axis=1), 0.0, 1.0)
    return np.concatenate([overall, _ratio(own, own_label), _ratio(own, own + outside), iou], axis=1)


def _sure(exact: Floats, hidden: Floats) -> tuple[Floats, Floats]:
    """(3K+3,) figures no truth of the unknown masks can pass, below and above, each by itself; NaN: never defined."""
    classes = len(hidden) - 1
    inside = np.diag(exact)[:-1]
    truth, label = exact[:-1, :-1].sum(axis=0), exact[:-1, :-1].sum(axis=1)
    unlabelled, own, void = exact[-1, :-1].sum(), hidden[:-1], hidden[-1]
    others = own.sum() - own
    union = truth + label - inside
    # Below: nothing unknown is right, and all of it is this class. Above: it is right wherever it can be.
    iou_low, iou_high = _ratio(inside, union + own.sum()), _ratio(inside + own, union + own)
    counted, most = label.sum(), label.sum() + own.sum()
    # A class seen nowhere may yet be one of those the mean is over, with an IoU of 0.
    mean_low = np.nan_to_num(iou_low).sum() / classes if own.sum() > 0 else _mean(iou_low[union > 0])
    low = [
        [_ratio(inside.sum(), most), mean_low, _ratio(counted, counted + unlabelled + void)],
        _ratio(inside, label + own),
        _ratio(inside, truth + others),
        iou_low,
    ]
    high = [
        [_ratio(inside.sum() + own.sum(), most), _mean(iou_high[union + own > 0]), _ratio(most, most + unlabelled)],
        _ratio(inside + own, label + own),
        _ratio(inside + own, truth + own),
        iou_high,
    ]
    # What is undefined at its worst is 0 there; one with no pixel of its own cannot rise from it.
    below, above = np.concatenate(low), np.concatenate(high)
    below[np.isnan(below) & ~np.isnan(above)] = 0.0
    above[np.isnan(above) & ~np.isnan(below)] = 0.0
    return below, above


def _ratio(part: Any, whole: Any) -> Any:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _quantile(values: Floats, share: float) -> Floats:
    """Quantile over the replicates; one in which a figure is undefined counts on the side that widens."""
    filled = np.where(np.isnan(values), np.inf if share > 0.5 else -np.inf, values)
    found: Floats = np.quantile(filled, share, axis=0, method="lower" if share < 0.5 else "higher")
    return found


def _collect(
    low: Floats,
    estimate: Floats,
    high: Floats,
    wrong_masks: Interval,
    wrong_pixels: Interval,
    audits: int,
    confidence: float,
) -> QualityEstimate:
    classes = len(low) // 3 - 1
    found = [
        Interval(low=float(a), estimate=float(b), high=float(c)) for a, b, c in zip(low, estimate, high, strict=True)
    ]
    return QualityEstimate(
        pixel_accuracy=found[0],
        miou=found[1],
        coverage=found[2],
        precision=tuple(found[3 : 3 + classes]),
        recall=tuple(found[3 + classes : 3 + 2 * classes]),
        iou=tuple(found[3 + 2 * classes :]),
        wrong_masks=wrong_masks,
        wrong_pixels=wrong_pixels,
        audits=audits,
        confidence=confidence,
    )


def _check(
    area: Floats,
    labels: NDArray[np.int64],
    posterior: NDArray[Any],
    truth: NDArray[np.int64],
    drawn: NDArray[np.int64],
    probabilities: Floats,
    now: NDArray[np.int64],
    confidence: float,
) -> None:
    masks = len(area)
    if posterior.ndim != 2 or not masks == len(labels) == len(posterior) == len(truth) == len(now):
        raise ShapeError(
            f"Area {area.shape}, labels {labels.shape}, posterior {posterior.shape}, truth {truth.shape}, now {now.shape}; "
            "expected (M,), (M,), (M, K+1), (M,), (M,)."
        )
    if drawn.ndim != 1 or drawn.shape != probabilities.shape:
        raise ShapeError(f"{drawn.shape} audits have {probabilities.shape} probabilities; expected (n,) of both.")
    classes = posterior.shape[1] - 1
    for name, values, lowest in (("label", labels, VOID), ("label", now, VOID), ("truth", truth, UNKNOWN)):
        if masks and not (values.min() >= lowest and values.max() < classes):
            raise LabelRangeError(f"A {name} is not in {lowest}..{classes - 1}.")
    if len(drawn):
        if not (drawn.min() >= 0 and drawn.max() < masks and len(np.unique(drawn)) == len(drawn)):
            raise InputError(f"Audited rows must be different ones in 0..{masks - 1}.")
        if (truth[drawn] == UNKNOWN).any():
            raise InputError("An audited mask has no truth; leave it out only if it could not be drawn.")
        if not ((probabilities > 0) & (probabilities <= 1)).all():
            raise InputError("Probabilities of the audits must be above 0, up to 1.")
    if (now != labels)[truth == UNKNOWN].any():
        raise InputError("A mask nobody was asked about changed its label after the audits were drawn.")
    if not 0 < confidence < 1:
        raise InputError(f"Confidence {confidence} is not between 0 and 1.")
