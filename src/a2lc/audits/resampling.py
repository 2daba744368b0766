"""Resampling and ratio estimators behind the quality estimate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.intervals import Interval, QualityEstimate
from a2lc.classes.sentinels import UNKNOWN, VOID
from a2lc.errors import InputError, LabelRangeError, ShapeError

__all__ = [
    "REPLICATES",
    "SEED",
    "check_inputs",
    "class_means",
    "class_sums",
    "class_totals",
    "collect",
    "count_rows",
    "expected_counts",
    "heavy",
    "mean_of",
    "quantile",
    "replicate_figures",
    "residuals",
    "rows_by_class",
    "safe_ratio",
    "sure_bounds",
    "unrefuted",
]


Floats = NDArray[np.float64]


REPLICATES = 2000


SEED = 20240731


def class_sums(rows: NDArray[np.int64], weights: NDArray[Any], size: int) -> Floats:
    # Without masks bincount counts in integers, whatever the weights.
    """Sum weights by class into an array of `size`."""
    return np.bincount(rows, weights=weights, minlength=size).astype(np.float64, copy=False)


def class_totals(joint: Floats) -> Floats:
    """Return the (..., 3K+1) totals of (..., K+1, K+1) pixels by label and truth."""
    inner = joint[..., :-1, :-1]
    right = np.diagonal(inner, axis1=-2, axis2=-1)
    unlabelled = joint[..., -1, :-1].sum(axis=-1, keepdims=True)
    return np.concatenate([right, inner.sum(axis=-2), inner.sum(axis=-1), unlabelled], axis=-1)


def expected_counts(
    area: Floats, label: NDArray[np.int64], posterior: NDArray[Any], unknown: NDArray[np.bool_]
) -> tuple[Floats, float]:
    """Return the pixels by label and truth that the posterior expects of unknown masks, and the expected number of wrong ones."""
    size = posterior.shape[1]
    weight = np.where(unknown, area, 0.0)
    joint = np.stack([class_sums(label, weight * posterior[:, c], size) for c in range(size)], axis=1)
    right = posterior[np.arange(len(label)), label]
    return joint, float(unknown.sum() - right[unknown].sum(dtype=np.float64))


def residuals(area: Floats, label: NDArray[np.int64], said: Floats, posterior: Floats) -> Floats:
    """Return (n, 3K+3) what each audited mask adds to the totals beyond what the posterior expected of it.

    Args:
        area: (n,) pixels.
        label: (n,) labels, K for void.
        said: (n, K+1) what its answer says of the true class: 1 for the class named, where answers are right.
        posterior: (n, K+1) probabilities.
    """
    n, classes = len(area), posterior.shape[1] - 1
    rows = np.arange(n)
    off = said - posterior
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


def heavy(off: Floats, chance: Floats, count: int) -> float:
    """Return what one draw shows of the number of wrong masks, if all are off by so much.

    Equal to the sum where all draws show the same. Else above it: small masks are rarely drawn and show much.
    """
    random = (chance > 0) & (chance < 1)
    each = np.sqrt(1 - chance[random]) * off[random]
    return count * float((each**2 / chance[random]).sum()) / max(float(each.sum()), 1e-12)


def unrefuted(label: NDArray[np.int64], true: NDArray[np.int64], classes: int) -> NDArray[np.bool_]:
    """Mark the (3K+3,) figures of which no audit shows that they fall short of what is possible."""
    wrong = label != true
    false = np.bincount(label[wrong], minlength=classes + 1)[:classes] == 0
    missed = np.bincount(true[wrong], minlength=classes + 1)[:classes] == 0
    return np.concatenate([np.full(3, not wrong.any()), false, missed, false & missed])


def class_means(gammas: Floats, sums: Floats, added_gammas: Floats, added: Floats) -> Floats:
    """Average draws and added values by Dirichlet weights made of gammas: (B, F)."""
    total = gammas.sum(axis=1) + added_gammas.sum(axis=1)
    means: Floats = (sums + added_gammas @ added) / total[:, None]
    return means


def rows_by_class(joint: Floats) -> Floats:
    """Return the (..., 2, K) pixels by label, of (..., K+1, K+1): those of that class, and all."""
    inner = joint[..., :-1, :-1]
    return np.stack([np.diagonal(inner, axis1=-2, axis2=-1), inner.sum(axis=-1)], axis=-2)


def count_rows(
    gammas: Floats,
    added: Floats,
    weight: Floats,
    seen: Floats,
    label: NDArray[np.int64],
    hidden: Floats,
    expected: Floats,
    more: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Return (B, 2, K) what audits of a label add to what is expected of the unknown, with the worst and best added.

    The residual a pixel is estimated within the label, as a ratio, and multiplied by its unknown pixels. The added draw
    weighs as much as a mean one, so that it alone speaks where no audit has the label. Where answers are drawn to be wrong,
    the (B, 2, K) `more` is added to the sums of what was seen.
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
        if more is not None:
            sums = sums + more[:, :, c]
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


def replicate_figures(
    totals: Floats, rows: Floats, occurs: NDArray[np.bool_], elsewhere: Floats | None = None
) -> Floats:
    """Compute (B, 3K+3) figures of totals: accuracy, mIoU, coverage, and precision, recall and IoU by class.

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
    iou = np.where(occurs, safe_ratio(own, own_label + outside), np.nan)
    # Each row apart is wide for a rare label; in the mean over classes such errors cancel, so it is taken of the totals.
    # Cut to 0..1 class by class, noise would only ever lower a mean near 1; wider cuts keep rare classes from ruling it.
    union = np.maximum(label + truth - inside, 0.5 * label)
    by_total = np.where(occurs, np.clip(safe_ratio(inside, union), -1.0, 2.0), np.nan)
    there = np.isfinite(by_total)
    miou = safe_ratio(np.where(there, by_total, 0.0).sum(axis=1), there.sum(axis=1))
    covered = safe_ratio(counted, counted + np.maximum(totals[:, 3 * classes], 0.0))
    overall = np.clip(np.stack([safe_ratio(inside.sum(axis=1), counted), miou, covered], axis=1), 0.0, 1.0)
    return np.concatenate([overall, safe_ratio(own, own_label), safe_ratio(own, own + outside), iou], axis=1)


def sure_bounds(exact: Floats, hidden: Floats) -> tuple[Floats, Floats]:
    """Return the (3K+3,) bounds that no truth of the unknown masks can pass, each figure by itself."""
    classes = len(hidden) - 1
    inside = np.diag(exact)[:-1]
    truth, label = exact[:-1, :-1].sum(axis=0), exact[:-1, :-1].sum(axis=1)
    unlabelled, own, void = exact[-1, :-1].sum(), hidden[:-1], hidden[-1]
    others = own.sum() - own
    union = truth + label - inside
    # Below: nothing unknown is right, and all of it is this class. Above: it is right wherever it can be.
    iou_low, iou_high = safe_ratio(inside, union + own.sum()), safe_ratio(inside + own, union + own)
    counted, most = label.sum(), label.sum() + own.sum()
    # A class seen nowhere may yet be one of those the mean is over, with an IoU of 0.
    mean_low = np.nan_to_num(iou_low).sum() / classes if own.sum() > 0 else mean_of(iou_low[union > 0])
    low = [
        [safe_ratio(inside.sum(), most), mean_low, safe_ratio(counted, counted + unlabelled + void)],
        safe_ratio(inside, label + own),
        safe_ratio(inside, truth + others),
        iou_low,
    ]
    high = [
        [
            safe_ratio(inside.sum() + own.sum(), most),
            mean_of(iou_high[union + own > 0]),
            safe_ratio(most, most + unlabelled),
        ],
        safe_ratio(inside + own, label + own),
        safe_ratio(inside + own, truth + own),
        iou_high,
    ]
    # What is undefined at its worst is 0 there; one with no pixel of its own cannot rise from it.
    below, above = np.concatenate(low), np.concatenate(high)
    below[np.isnan(below) & ~np.isnan(above)] = 0.0
    above[np.isnan(above) & ~np.isnan(below)] = 0.0
    return below, above


def safe_ratio(part: Any, whole: Any) -> Any:
    """Divide, with NaN for a whole of 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def mean_of(values: Floats) -> float:
    """Average values; NaN for none."""
    return float(values.mean()) if len(values) else math.nan


def quantile(values: Floats, share: float) -> Floats:
    """Quantile over the replicates; one in which a figure is undefined counts on the side that widens."""
    filled = np.where(np.isnan(values), np.inf if share > 0.5 else -np.inf, values)
    found: Floats = np.quantile(filled, share, axis=0, method="lower" if share < 0.5 else "higher")
    return found


def collect(
    low: Floats,
    estimate: Floats,
    high: Floats,
    wrong_masks: Interval,
    wrong_pixels: Interval,
    audits: int,
    confidence: float,
) -> QualityEstimate:
    """Collect estimates and bounds into a `QualityEstimate`."""
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


def check_inputs(
    area: Floats,
    labels: NDArray[np.int64],
    posterior: NDArray[Any],
    truth: NDArray[np.int64],
    drawn: NDArray[np.int64],
    probabilities: Floats,
    now: NDArray[np.int64],
    confidence: float,
) -> None:
    """Refuse arrays that do not belong together."""
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
        given = values[values != UNKNOWN] if lowest == UNKNOWN else values
        if len(given) and not (given.min() >= VOID and given.max() < classes):
            raise LabelRangeError(f"A {name} is not in {VOID}..{classes - 1}.")
    if len(drawn):
        if not (drawn.min() >= 0 and drawn.max() < masks and len(np.unique(drawn)) == len(drawn)):
            raise InputError(f"Audited rows must be distinct and in 0..{masks - 1}.")
        if (truth[drawn] == UNKNOWN).any():
            raise InputError("An audited mask has no true class; leave it out only if it could not be drawn.")
        if not ((probabilities > 0) & (probabilities <= 1)).all():
            raise InputError("Inclusion probabilities of the audits must be above 0, and at most 1.")
    if (now != labels)[truth == UNKNOWN].any():
        raise InputError("The label of a mask that nobody was asked about changed after the audits were drawn.")
    if not 0 < confidence < 1:
        raise InputError(f"Confidence {confidence} is not between 0 and 1.")
