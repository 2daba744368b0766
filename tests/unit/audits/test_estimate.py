"""Figures of label quality and their intervals, and the gain expected of the next questions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.stats import beta

from a2lc.audits import audit_sizes, draw, estimate_quality, expected_gain, inclusion_probabilities
from a2lc.classes.sentinels import UNKNOWN
from a2lc.errors import InputError, LabelRangeError, ShapeError
from a2lc.statistics.metrics import ConfusionCounts


def table(masks=400, classes=4, seed=0, accuracy=0.8):
    rng = np.random.default_rng(seed)
    area = rng.lognormal(4, 1, masks).astype(np.int64) + 1
    truth = rng.integers(-1, classes, masks)
    labels = np.where(rng.random(masks) < accuracy, truth, rng.integers(-1, classes, masks))
    posterior = rng.dirichlet(np.full(classes + 1, 0.5), masks)
    posterior[np.arange(masks), labels] += 2.0
    return area, labels, posterior / posterior.sum(axis=1, keepdims=True), truth


def every(found):
    return [found.pixel_accuracy, found.miou, found.coverage, *found.precision, *found.recall, *found.iou]


def with_audits(data, count=50, seed=0, known=0.1):
    area, labels, posterior, truth = data
    rng = np.random.default_rng(seed)
    told = np.where(rng.random(len(area)) < known, truth, UNKNOWN)
    pi = inclusion_probabilities(audit_sizes(area, labels, posterior, told == UNKNOWN), count)
    drawn = draw(pi, rng)
    told[drawn] = truth[drawn]
    return told, drawn, pi[drawn]


def counts(area, labels, truth, classes):
    found = ConfusionCounts(classes)
    found.add(np.where(labels < 0, 255, labels), np.where(truth < 0, 255, truth), area)
    return found


def test_everything_known_is_what_the_confusion_counts_say():
    area, labels, posterior, truth = table()
    found = estimate_quality(area, labels, posterior, truth, np.array([]), np.array([]))
    wanted = counts(area, labels, truth, 4)
    for interval, value in zip(
        [found.pixel_accuracy, found.miou, found.coverage, *found.iou],
        [wanted.pixel_accuracy, wanted.miou, wanted.coverage, *wanted.iou],
        strict=True,
    ):
        assert interval.low == interval.estimate == interval.high == pytest.approx(value)
    inner = wanted.counts
    np.testing.assert_allclose([p.estimate for p in found.precision], np.diag(inner) / inner.sum(axis=0))
    np.testing.assert_allclose([r.estimate for r in found.recall], np.diag(inner) / inner.sum(axis=1))
    assert (found.wrong_masks.high, found.wrong_pixels.high, found.audits) == (0, 0, 0)


def test_all_drawn_is_all_known():
    area, labels, posterior, truth = table()
    known = estimate_quality(area, labels, posterior, truth, [], [])
    rows = np.arange(len(area))
    found = estimate_quality(area, labels, posterior, truth, rows, np.ones(len(area)))
    assert [vars(i) for i in every(found)] == [vars(i) for i in every(known)]
    assert found.audits == len(area)


def test_a_class_that_occurs_nowhere_is_undefined():
    area, labels, posterior, truth = np.array([5, 5]), np.array([0, 0]), np.full((2, 3), 1 / 3), np.array([0, -1])
    found = estimate_quality(area, labels, posterior, truth, [], [])
    assert math.isnan(found.iou[1].estimate) and math.isnan(found.precision[1].low)
    assert found.miou.estimate == found.pixel_accuracy.estimate == 1


def test_without_audits_the_intervals_hold_every_truth_there_could_be():
    area, labels = np.array([3, 5, 7, 2, 4]), np.array([0, 1, 0, -1, 1])
    told = np.array([0, UNKNOWN, 1, UNKNOWN, UNKNOWN])
    posterior = np.full((5, 3), 1 / 3)
    found = estimate_quality(area, labels, posterior, told, [], [])
    assert math.isnan(found.pixel_accuracy.estimate) and found.audits == 0
    seen = []
    for truths in product((-1, 0, 1), repeat=3):
        truth = told.copy()
        truth[told == UNKNOWN] = truths
        exact = estimate_quality(area, labels, posterior, truth, [], [])
        seen.append([i.estimate for i in every(exact)])
        for interval, value in zip(every(found), seen[-1], strict=True):
            assert not (value < interval.low - 1e-12 or value > interval.high + 1e-12)
    lowest, highest = np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
    # Each figure by itself reaches its ends: accuracy, coverage and recall exactly.
    for k in (0, 2, 5, 6):
        assert (every(found)[k].low, every(found)[k].high) == pytest.approx((lowest[k], highest[k]))
    assert (found.wrong_masks.low, found.wrong_masks.high, found.wrong_pixels.high) == (0, 3, 11)


@pytest.mark.parametrize(("n", "wrong"), [(60, 4), (12, 6), (10, 9)])
def test_masks_alike_and_a_sure_posterior_give_clopper_and_pearson(n, wrong):
    masks = 100_000
    labels = np.zeros(masks, dtype=int)
    posterior = np.tile([1.0, 0.0, 0.0], (masks, 1))
    told = np.full(masks, UNKNOWN)
    told[:n] = np.arange(n) < wrong
    found = estimate_quality(np.ones(masks), labels, posterior, told, np.arange(n), np.full(n, n / masks))
    right = n - wrong
    assert found.pixel_accuracy.estimate == pytest.approx(right / n, abs=1e-3)
    assert found.pixel_accuracy.low == pytest.approx(beta.ppf(0.025, right, wrong + 1), abs=0.02)
    assert found.pixel_accuracy.high == pytest.approx(beta.ppf(0.975, right + 1, wrong), abs=0.02)
    assert found.wrong_masks.estimate == pytest.approx(masks * wrong / n, rel=1e-2)
    assert found.wrong_masks.low < found.wrong_masks.estimate < found.wrong_masks.high


def test_no_error_seen_is_not_no_error():
    masks, n = 10_000, 30
    posterior = np.tile([1.0, 0.0, 0.0], (masks, 1))
    told = np.full(masks, UNKNOWN)
    told[:n] = 0
    found = estimate_quality(
        np.ones(masks), np.zeros(masks, dtype=int), posterior, told, np.arange(n), np.full(n, n / masks)
    )
    assert found.pixel_accuracy.estimate == found.pixel_accuracy.high == 1
    assert found.pixel_accuracy.low == pytest.approx(0.025 ** (1 / n), abs=0.01)  # the exact bound for no error of n
    assert found.wrong_masks.high > masks * 0.08


def test_no_miss_seen_is_not_no_miss():
    masks, n = 10_000, 30
    labels = np.arange(masks) % 2
    told = np.where(np.arange(masks) < n, labels, UNKNOWN)
    posterior = np.eye(3)[labels]
    found = estimate_quality(np.ones(masks), labels, posterior, told, np.arange(n), np.full(n, n / masks))
    # Nothing of the other label is class 0, of 30 draws: at most 12 % of all, were they all of it, is half of that.
    missed = 0.5 * (1 - 0.025 ** (1 / n)) * masks
    assert found.recall[0].estimate == 1
    assert found.recall[0].low < 5000 / (5000 + missed) + 0.02
    assert found.recall[0].low > 0.7


def test_a_label_without_audits_may_be_anything():
    data = table()
    area, labels, posterior, _ = data
    told, drawn, pi = with_audits(data, known=0.0)
    keep = labels[drawn] != 2
    told[drawn[~keep]] = UNKNOWN
    found = estimate_quality(area, labels, posterior, told, drawn[keep], pi[keep])
    assert found.precision[2].low < 0.05 and found.precision[2].high > 0.95


@pytest.mark.parametrize("seed", range(5))
def test_intervals_hold_their_estimates_and_stay_in_range(seed):
    data = table(seed=seed)
    told, drawn, pi = with_audits(data, count=25, seed=seed)
    found = estimate_quality(*data[:3], told, drawn, pi)
    for interval in every(found):
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    for interval in (found.wrong_masks, found.wrong_pixels):
        assert 0 <= interval.low <= interval.estimate <= interval.high
    assert found.wrong_masks.high <= (told == UNKNOWN).sum()


def test_more_audits_and_less_confidence_are_narrower():
    data = table(masks=3000)

    def width(count, confidence):
        told, drawn, pi = with_audits(data, count=count)
        found = estimate_quality(*data[:3], told, drawn, pi, confidence=confidence)
        return found.pixel_accuracy.high - found.pixel_accuracy.low

    assert width(400, 0.95) < width(100, 0.95) < width(20, 0.95)
    assert width(100, 0.8) < width(100, 0.95)


def test_after_the_answers_only_the_unknown_stay_uncertain():
    data = table()
    area, labels, posterior, truth = data
    told, drawn, pi = with_audits(data)
    now = labels.copy()
    now[told != UNKNOWN] = truth[told != UNKNOWN]
    before = estimate_quality(area, labels, posterior, told, drawn, pi)
    after = estimate_quality(area, labels, posterior, told, drawn, pi, now=now)
    assert after.pixel_accuracy.estimate > before.pixel_accuracy.estimate
    assert vars(after.wrong_masks) == vars(before.wrong_masks)
    # Accuracy differs by what was set right, over what is counted: that the two estimates agree on.
    inner = counts(area, labels, truth, 4)
    assert (
        after.pixel_accuracy.estimate - before.pixel_accuracy.estimate
        < area[told != UNKNOWN].sum() / inner.counts.sum()
    )


def test_the_same_input_gives_the_same_figures():
    data = table()
    told, drawn, pi = with_audits(data)
    a, b = (estimate_quality(*data[:3], told, drawn, pi) for _ in range(2))
    assert [vars(i) for i in every(a)] == [vars(i) for i in every(b)]


def test_coverage_of_accuracy_miou_and_errors_left():
    data = table(masks=1500, accuracy=0.93, seed=3)
    area, labels, posterior, truth = data
    exact = estimate_quality(area, labels, posterior, truth, [], [])
    hits = []
    for seed in range(120):
        told, drawn, pi = with_audits(data, count=30, seed=seed)
        found = estimate_quality(area, labels, posterior, told, drawn, pi)
        left = (told == UNKNOWN) & (labels != truth)
        hits.append(
            [
                i.low <= v <= i.high
                for i, v in (
                    (found.pixel_accuracy, exact.pixel_accuracy.estimate),
                    (found.miou, exact.miou.estimate),
                    (found.wrong_masks, left.sum()),
                    (found.wrong_pixels, area[left].sum()),
                )
            ]
        )
    assert (np.mean(hits, axis=0) >= 0.9).all()


def test_refused():
    area, labels, posterior, truth = table(masks=5)
    some = np.array([0, 1])
    pi = np.array([0.5, 0.5])
    told = truth.copy()
    told[1] = UNKNOWN
    for change, error in [
        ({"area": area[:3]}, ShapeError),
        ({"probabilities": pi[:1]}, ShapeError),
        ({"labels": labels + 9}, LabelRangeError),
        ({"truth": truth - 5}, LabelRangeError),
        ({"truth": told}, InputError),
        ({"drawn": np.array([1, 1])}, InputError),
        ({"drawn": np.array([1, 5])}, InputError),
        ({"probabilities": np.array([0.0, 0.5])}, InputError),
        ({"probabilities": np.array([1.1, 0.5])}, InputError),
        ({"confidence": 1.0}, InputError),
    ]:
        given = {"area": area, "labels": labels, "posterior": posterior, "truth": truth, "drawn": some}
        with pytest.raises(error):
            estimate_quality(**(given | {"probabilities": pi} | change))
    changed = np.where(labels == 0, 1, 0)
    with pytest.raises(InputError, match="changed after the audits"):
        estimate_quality(area, labels, posterior, told, some[:1], pi[:1], now=changed)


# ---- gain --------------------------------------------------------------------------------------------------------


def test_gain_is_the_ratio_of_sums():
    predicted = np.array([1.0, 2, 3, 4, 1, 2, 3, 4])
    found = expected_gain(predicted, predicted * 0.5 + np.tile([0.2, -0.2], 4), 6.0)
    assert found.estimate == pytest.approx(3.0) and found.low < 3 < found.high


@pytest.mark.parametrize(("predicted", "realised"), [(np.ones(7), np.ones(7)), (np.zeros(9), np.zeros(9)), ([], [])])
def test_too_little_to_tell(predicted, realised):
    found = expected_gain(predicted, realised, 2.0)
    assert (found.low, found.high) == (0, math.inf) and math.isnan(found.estimate)


def test_no_gain_seen_is_not_no_gain():
    found = expected_gain(np.ones(20), np.zeros(20), 10.0)
    assert found.low == found.estimate == 0 < 0.5 < found.high < 3


def test_interval_of_the_gain_covers():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        predicted = rng.lognormal(0, 0.7, 30)
        chance = 0.3
        realised = predicted / chance * (rng.random(30) < chance * 0.6)
        found = expected_gain(predicted, realised, 100.0)
        hits += found.low <= 60 <= found.high
    assert hits >= 180


def test_gain_refused():
    with pytest.raises(ShapeError):
        expected_gain(np.ones(8), np.ones(9), 1.0)
    for predicted, later, confidence in [(-1.0, 1.0, 0.9), (math.nan, 1.0, 0.9), (1.0, -1.0, 0.9), (1.0, 1.0, 1.0)]:
        with pytest.raises(InputError):
            expected_gain(np.full(8, predicted), np.ones(8), later, confidence)


def test_where_no_audit_is_wrong_nothing_speaks_against_faultless_labels():
    rng = np.random.default_rng(0)
    area, labels = rng.integers(1, 50, 300), rng.integers(0, 3, 300)
    posterior = np.full((300, 4), 0.1)
    posterior[np.arange(300), labels] = 0.7
    truth = np.full(300, UNKNOWN)
    drawn = np.arange(0, 300, 10)
    truth[drawn] = labels[drawn]
    found = estimate_quality(area, labels, posterior, truth, drawn, np.full(30, 0.1))
    assert found.pixel_accuracy.high == found.miou.high == 1 and found.wrong_masks.low == found.wrong_pixels.low == 0
    assert all(interval.high == 1 for interval in (*found.precision, *found.recall, *found.iou))
    assert found.pixel_accuracy.low < 0.95, "it may be worse all the same"
    # One wrong audit speaks against its label and its true class, and against no other.
    truth[drawn[0]] = (labels[drawn[0]] + 1) % 3
    found = estimate_quality(area, labels, posterior, truth, drawn, np.full(30, 0.1))
    mine, theirs, other = labels[drawn[0]], truth[drawn[0]], ({0, 1, 2} - {labels[drawn[0]], truth[drawn[0]]}).pop()
    assert found.wrong_masks.estimate > 0
    assert found.precision[theirs].high == found.recall[mine].high == found.iou[other].high == 1
    assert found.pixel_accuracy.high < 1
