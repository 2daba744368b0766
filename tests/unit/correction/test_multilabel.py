from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.sentinels import VOID
from a2lc.correction.multilabel import class_sets, trim_borders
from a2lc.errors import InputError, LabelRangeError, ShapeError

# Two regions side by side, the boundary between columns 5 and 6.
HALVES = np.repeat([[4] * 6 + [2] * 8], 5, axis=0)


@pytest.mark.parametrize(("kernel", "first", "last"), [(1, 5, 6), (3, 4, 7), (5, 3, 8), (7, 2, 9)])
def test_the_band_is_as_wide_as_the_kernel_and_a_pixel(kernel, first, last):
    found = trim_borders(HALVES, kernel)
    assert found.shape == HALVES.shape
    for row in found:
        assert np.flatnonzero(~row).tolist() == list(range(first, last + 1))


def test_the_band_is_square_at_a_corner():
    mask_map = np.ones((9, 9), dtype=int)
    mask_map[4, 4] = 2
    inside = ~trim_borders(mask_map, 3)
    assert inside[4].tolist() == [False, False] + [True] * 5 + [False] * 2
    assert inside[2].tolist() == [False] * 3 + [True] * 3 + [False] * 3, "a cross, each pixel widened to a square"


def test_the_edge_of_the_image_is_no_boundary():
    assert trim_borders(np.full((3, 5), 7)).all()


def test_classes_in_the_band_are_not_ticked():
    truth = np.zeros(HALVES.shape, dtype=int)
    truth[:, 4] = 3
    truth[:, 10] = 1
    assert class_sets(HALVES, truth, np.array([2, 4]), num_classes=4) == [(0, 1), (0,)]
    assert class_sets(HALVES, truth, np.array([4, 2]), num_classes=4, kernel=1) == [(0, 3), (0, 1)]


def test_a_region_within_the_band_is_taken_whole():
    mask_map = HALVES.copy()
    mask_map[1:3, 9:11] = 8
    truth = np.where(mask_map == 8, 3, 0)
    truth[1, 9] = 1
    assert class_sets(mask_map, truth, np.array([8]), num_classes=4) == [(1, 3)]


@pytest.mark.parametrize("nothing", [VOID, 255])
def test_void_is_no_class(nothing):
    truth = np.where(HALVES == 4, nothing, 2)
    truth[2, 13] = nothing
    assert class_sets(HALVES, truth, np.array([2, 4]), num_classes=3) == [(2,), ()]


def test_void_outside_the_band_does_not_bring_the_band_back():
    truth = np.where(HALVES == 4, 255, 2)
    truth[:, 5] = 1
    assert class_sets(HALVES, truth, np.array([4]), num_classes=3) == [()]


def test_small_types_of_truth():
    assert class_sets(HALVES, HALVES.astype(np.uint8), np.array([2, 4]), num_classes=5) == [(2,), (4,)]


def test_no_region_asked_about():
    assert class_sets(HALVES, HALVES, np.array([], dtype=int), num_classes=5) == []


def test_what_does_not_belong_together():
    with pytest.raises(ShapeError, match="belong to different images"):
        class_sets(HALVES, HALVES[:4], np.array([2]), num_classes=5)
    with pytest.raises(LabelRangeError, match="Ground truth 4 in mask 4 is neither one of the 3 classes"):
        class_sets(HALVES, HALVES, np.array([2, 4]), num_classes=3)
    assert class_sets(HALVES, HALVES, np.array([2]), num_classes=3) == [(2,)], "only where asked"
    with pytest.raises(InputError, match="Mask 3 is not in the mask map"):
        class_sets(HALVES, HALVES, np.array([2, 3, 4]), num_classes=5)
    for kernel in (0, 4, -1):
        with pytest.raises(InputError, match="odd number"):
            trim_borders(HALVES, kernel)
    with pytest.raises(ShapeError, match=r"mask map \(H, W\)"):
        trim_borders(np.zeros(4, dtype=int))
