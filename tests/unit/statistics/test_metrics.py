from __future__ import annotations

import math

import numpy as np
import pytest

from a2lc.errors import LabelRangeError, ShapeError
from a2lc.statistics.metrics import ConfusionCounts


def test_by_hand():
    counts = ConfusionCounts(3)
    truth = np.array([[0, 0, 1], [1, 255, 1]])
    labels = np.array([[0, 1, 1], [255, 0, 1]])
    counts.update(labels, truth)
    assert counts.counts.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert counts.unlabelled == 1
    np.testing.assert_allclose(counts.iou, [1 / 2, 2 / 3, np.nan])
    assert counts.miou == pytest.approx((1 / 2 + 2 / 3) / 2), "an absent class leaves the mean"
    assert counts.pixel_accuracy == 3 / 4
    assert counts.coverage == 4 / 5


def test_leaving_out_hard_pixels_is_seen_in_coverage():
    truth = np.array([[0, 1, 1, 0]])
    full, sparse = ConfusionCounts(2), ConfusionCounts(2)
    full.update(np.array([[0, 1, 0, 0]]), truth)
    sparse.update(np.array([[0, 1, 255, 0]]), truth)
    assert sparse.miou > full.miou
    assert (full.coverage, sparse.coverage) == (1.0, 0.75)


def test_unlabeled_pixels_count_as_wrong_where_all_pixels_are_measured():
    counts = ConfusionCounts(3)
    truth = np.array([[0, 0, 1, 1, 255, 2]])
    counts.update(np.array([[0, 255, 1, 0, 255, 255]]), truth)
    assert counts.missing.tolist() == [1, 0, 1]
    assert counts.miou == pytest.approx((1 / 2 + 1 / 2) / 2)
    # Class 2 occurs in the ground truth alone, so its IoU is 0 and not left out.
    assert counts.miou_of_all == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    both = counts + counts
    assert both.missing.tolist() == [2, 0, 2] and both.miou_of_all == counts.miou_of_all


def test_miou_of_all_is_miou_where_every_pixel_has_a_label():
    counts = ConfusionCounts(2)
    counts.update(np.array([[0, 1, 0, 0]]), np.array([[0, 1, 1, 255]]))
    assert counts.miou_of_all == counts.miou


def test_nothing_counted_is_nan():
    counts = ConfusionCounts(2)
    for value in (counts.miou, counts.miou_of_all, counts.pixel_accuracy, counts.coverage):
        assert math.isnan(value)
    counts.update(np.full((2, 3), 255), np.zeros((2, 3), dtype=int))
    assert counts.coverage == 0
    assert counts.miou_of_all == 0, "nothing labelled is nothing right"
    assert math.isnan(counts.miou)


def test_pairs_with_pixels_are_exact_beyond_single_precision():
    counts = ConfusionCounts(2, -1)
    counts.add(np.array([0, 1, -1, 0]), np.array([0, 0, 1, -1]), np.array([2**40 + 1, 3, 5, 7]))
    assert counts.counts.tolist() == [[2**40 + 1, 3], [0, 0]]
    assert counts.unlabelled == 5


@pytest.mark.parametrize("bad", [3, -1, 254])
@pytest.mark.parametrize("where", ["labels", "truth"])
def test_values_out_of_range(bad, where):
    maps = {"labels": np.zeros((1, 2), dtype=int), "truth": np.zeros((1, 2), dtype=int)}
    maps[where][0, 1] = bad
    with pytest.raises(LabelRangeError, match=rf"Value {bad} is neither one of the 3 classes nor ignore_index=255"):
        ConfusionCounts(3).update(maps["labels"], maps["truth"])


def test_shapes_and_sums_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"Labels have shape \(2, 3\), but ground truth has shape \(3, 2\)"):
        ConfusionCounts(2).update(np.zeros((2, 3), dtype=int), np.zeros((3, 2), dtype=int))
    with pytest.raises(ShapeError, match="different classes"):
        ConfusionCounts(2) + ConfusionCounts(3)
    with pytest.raises(ShapeError, match="different classes"):
        ConfusionCounts(2) + ConfusionCounts(2, 65535)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_any_integer_type_and_a_wide_ignore_index(dtype):
    ignore = 255 if dtype == np.uint8 else 65535
    counts = ConfusionCounts(2, ignore)
    counts.update(np.array([[0, 1, ignore]], dtype=dtype), np.array([[0, 1, 1]], dtype=dtype))
    assert counts.counts.tolist() == [[1, 0], [0, 1]]
    assert counts.unlabelled == 1
