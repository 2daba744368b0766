"""What an answer is worth, which labels are best, whom to ask next: cases worked out by hand and small data sets in full."""

from __future__ import annotations

import numpy as np
import pytest

from a2lc.acquisition.gain import best_labels, class_unions, expected_iou_gain, label_values, pick_batch


def mean_iou(area, labels, truth, classes):
    """Over classes that are labelled or true somewhere; masks that truly have no class are left out."""
    ious = []
    for c in range(classes):
        real = truth < classes
        union = area[real & ((labels == c) | (truth == c))].sum()
        if union:
            ious.append(area[real & (labels == c) & (truth == c)].sum() / union)
    return float(np.mean(ious))


def mostly_right(rng, masks=300, classes=3):
    """A data set whose labels are right and sure, but for one small mask in doubt, the first."""
    truth = rng.integers(0, classes, masks)
    area = rng.integers(50, 150, masks)
    area[0] = 40
    posterior = np.eye(classes + 1)[truth]
    return area, truth, posterior


# ---- worth of answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [-1, 0, 2])
@pytest.mark.parametrize("none", [0.0, 0.3])
def test_worth_is_the_change_of_mean_iou(rng, label, none):
    """Every true class of the mask in turn: label it right, and see what the mean IoU gains."""
    area, truth, posterior = mostly_right(rng)
    posterior[0] = [*(np.array([0.5, 0.2, 0.3]) * (1 - none)), none]
    labels = truth.copy()
    labels[0] = label
    change = 0.0
    for c in range(3):
        truth[0] = c
        asked = labels.copy()
        asked[0] = c
        change += posterior[0, c] * (mean_iou(area, asked, truth, 3) - mean_iou(area, labels, truth, 3))
    found = expected_iou_gain(area, labels, posterior)
    if none == 0 or label < 0:
        assert found[0] / 3 == pytest.approx(change, rel=0.03)
    else:
        # That a mask has no class takes it out of its label's pixels, which the evaluation never counted.
        extra = posterior[0, 3] * area[0] / (area[labels == label].sum() + area.mean()) / 3
        assert found[0] / 3 == pytest.approx(change + extra, rel=0.03)
    np.testing.assert_array_equal(found[1:], 0)


def test_the_error_of_the_linear_form_falls_with_the_mask(rng):
    area, truth, posterior = mostly_right(rng, masks=2000)
    posterior[0] = [0.5, 0.5, 0, 0]
    labels = truth.copy()
    labels[0] = 0
    errors = []
    for size in (60_000, 6_000, 60):
        area[0] = size
        truth[0] = 1
        asked = labels.copy()
        asked[0] = 1
        change = 0.5 * (mean_iou(area, asked, truth, 3) - mean_iou(area, labels, truth, 3))
        errors.append(abs(expected_iou_gain(area, labels, posterior)[0] / 3 / change - 1))
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.005


def test_a_mask_of_no_class_is_worth_its_place(rng):
    area, truth, posterior = mostly_right(rng)
    posterior[0] = [0, 0, 0, 1]
    labels = truth.copy()
    labels[0] = -1
    assert expected_iou_gain(area, labels, posterior)[0] == 0
    labels[0] = 1
    assert expected_iou_gain(area, labels, posterior)[0] == pytest.approx(
        area[0] / (area[labels == 1].sum() + area.mean())
    )


def test_nothing_asked_of_nothing():
    none, posterior = np.empty(0, dtype=int), np.empty((0, 4), dtype=np.float32)
    assert expected_iou_gain(none, none, posterior).shape == (0,)
    assert best_labels(none, none, posterior, known=np.empty(0, dtype=bool)).shape == (0,)
    unions, ious = class_unions(none, none, posterior)
    assert unions.tolist() == [1, 1, 1] and ious.tolist() == [0, 0, 0]
    assert pick_batch(np.empty(0), np.empty((0, 2)), 3).tolist() == []


# ---- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [0, 1, 2, 3])
def test_values_are_the_change_of_mean_iou(rng, true):
    """Of labelling an unlabelled mask: every label under every truth."""
    area, truth, posterior = mostly_right(rng)
    truth[0] = true
    labels = truth.copy()
    labels[1:60] = rng.integers(0, 3, 59)  # a good part is wrong
    labels[0] = -1
    posterior[0] = np.eye(4)[true]
    unions, ious = class_unions(area, labels, posterior)
    found = label_values(posterior[:1], unions, ious)[0] * area[0] / 3
    for c in range(3):
        asked = labels.copy()
        asked[0] = c
        change = mean_iou(area, asked, truth, 3) - mean_iou(area, labels, truth, 3)
        assert found[c] == pytest.approx(change, rel=0.03, abs=1e-9)


def test_unions_are_the_true_ones_of_a_sure_posterior(rng):
    area = rng.integers(1, 100, 50)
    truth, labels = rng.integers(0, 4, 50), rng.integers(-1, 3, 50)
    unions, ious = class_unions(area, labels, np.eye(4)[truth])
    for c in range(3):
        union = area[(truth < 3) & ((labels == c) | (truth == c))].sum() + area.mean()
        assert unions[c] == pytest.approx(union)
        assert ious[c] == pytest.approx(area[(labels == c) & (truth == c)].sum() / union)


def test_likely_errors_are_relabelled_and_the_rest_left():
    area = np.full(6, 10)
    first = np.array([0, 0, 0, 1, -1, -1])
    posterior = np.array(
        [
            [0.9, 0.1, 0.0],  # right
            [0.05, 0.95, 0.0],  # wrong
            [0.05, 0.95, 0.0],  # wrong, but known to be right
            [0.2, 0.8, 0.0],
            [0.1, 0.85, 0.05],
            [0.1, 0.1, 0.8],  # most likely of no class
        ]
    )
    known = np.array([False, False, True, False, False, False])
    found = best_labels(area, first, posterior, known=known)
    assert found.tolist() == [0, 1, 0, 1, 1, -1] and found.dtype == np.int32
    assert best_labels(area, first, posterior, known=known, floor=0.96).tolist() == first.tolist()
    assert best_labels(area, first, posterior, known=np.ones(6, dtype=bool)).tolist() == first.tolist()


def test_a_rare_class_wins_a_close_call():
    """The same doubt is worth more to the class with the smaller union."""
    area = np.full(101, 10)
    first = np.zeros(101, dtype=int)
    posterior = np.tile([0.98, 0.02, 0.0], (101, 1))
    posterior[0] = [0.52, 0.48, 0.0]
    found = best_labels(area, first, posterior, known=np.zeros(101, dtype=bool))
    assert found[0] == 1 and (found[1:] == 0).all()


# ---- the next questions --------------------------------------------------------------------------------------------


def test_alike_are_passed_over():
    scores = np.array([5.0, 4.0, 3.0, 2.0, 0.0, -1.0, np.nan, np.inf, -np.inf])
    looks = np.eye(9)
    looks[1] = looks[0] * 3
    assert pick_batch(scores, looks, 2).tolist() == [0, 2]
    assert pick_batch(scores, looks, 2, alike=1.5).tolist() == [0, 1]
    assert pick_batch(scores, looks, 4).tolist() == [0, 1, 2, 3]
    assert pick_batch(scores, looks, 9).tolist() == [0, 1, 2, 3]
    # One in a batch of one is not compared; none is asked of none.
    assert pick_batch(scores, looks, 1).tolist() == [0]
    assert pick_batch(scores, looks, 0).tolist() == []


def test_too_few_that_differ_are_filled_up():
    scores = np.arange(10.0, 0, -1)
    assert pick_batch(scores, np.ones((10, 3)), 3).tolist() == [0, 1, 2]
    looks = np.ones((10, 2))
    looks[9] = [1, -1]
    assert pick_batch(scores, looks, 3, pool=8).tolist() == [0, 1, 9]
    assert pick_batch(scores, looks, 3, pool=3).tolist() == [0, 1, 2]


def test_ties_go_to_the_lower_row_within_the_pool():
    scores = np.full(1000, 0.5)
    looks = np.random.default_rng(0).normal(size=(1000, 12))
    assert pick_batch(scores, looks, 5, alike=1.1).tolist() == [0, 1, 2, 3, 4]
    looks[1:39] = looks[0]
    looks[41:] = looks[0]
    # The pool ends at row 39, whatever else scores the same.
    assert pick_batch(scores, looks, 5).tolist() == [0, 1, 2, 3, 39]


def test_masks_that_look_like_nothing_are_alike_to_none():
    assert pick_batch(np.array([3.0, 2.0, 1.0]), np.zeros((3, 4)), 2).tolist() == [0, 1]
    assert pick_batch(np.array([3.0, 2.0, 1.0]), np.zeros((3, 0)), 2).tolist() == [0, 1]
