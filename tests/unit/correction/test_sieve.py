from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from a2lc.correction.sieve import knee_threshold, sieve
from a2lc.errors import InputError, MissingExtraError, ShapeError

# Rises steeply to 0.8 at the sixth of eleven points and then hardly at all.
BENT = np.array([0.0, 0.16, 0.32, 0.48, 0.64, 0.8, 0.84, 0.88, 0.92, 0.96, 1.0])


def test_pixels_at_the_knee_and_above_it_stay(rng):
    assert knee_threshold(BENT) == 0.8
    order = rng.permutation(len(BENT))
    assert knee_threshold(BENT[order]) == 0.8
    assert sieve(BENT[order]).tolist() == (BENT[order] >= 0.8).tolist()


def test_an_image_keeps_its_shape():
    confidences = np.concatenate([BENT, [1.0]]).reshape(3, 4)
    assert knee_threshold(confidences.ravel()) == 0.8
    found = sieve(confidences)
    assert found.tolist() == [[False] * 4, [False, True, True, True], [True] * 4]
    assert found.dtype == bool


def test_the_curve_is_subsampled():
    """41 values with a stride of 2: the knee at the 17th is seen, one at the 16th is not and the 17th stands for it."""
    curve = np.concatenate([np.linspace(0, 0.8, 17), np.linspace(0.8, 1, 25)[1:]])
    assert len(curve) == 41
    assert knee_threshold(curve) == pytest.approx(curve[16])
    odd = np.concatenate([np.linspace(0, 0.8, 16), np.linspace(0.8, 1, 26)[1:]])
    assert knee_threshold(odd) in odd[::2].tolist()
    assert knee_threshold(odd, points=41) == pytest.approx(0.8)


def test_a_higher_sensitivity_wants_a_flatter_curve():
    assert knee_threshold(BENT, sensitivity=1) == 0.8
    assert knee_threshold(BENT, sensitivity=20) is None


@pytest.mark.parametrize(
    "confidences", [[], [0.4], [0.1, 0.9], [0.7] * 50, [0.7] * 2000], ids=["none", "one", "two", "equal", "long"]
)
def test_without_a_curve_all_pixels_stay(confidences):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert knee_threshold(np.array(confidences)) is None
        assert sieve(np.array(confidences)).tolist() == [True] * len(confidences)


def test_without_a_knee_all_pixels_stay():
    assert knee_threshold(BENT, sensitivity=20) is None
    assert sieve(BENT, sensitivity=20).all()


@pytest.mark.parametrize("count", [40, 2000])
def test_a_curve_that_bends_the_other_way_keeps_all_pixels(count):
    assert sieve(np.linspace(0, 1, count) ** 4).all()


def test_warnings_of_kneed_are_not_passed_on(monkeypatch):
    class Warns:
        knee = None

        def __init__(self, *args, **kwargs):
            warnings.warn("No knee/elbow found", stacklevel=2)

    monkeypatch.setattr("kneed.KneeLocator", Warns)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert knee_threshold(BENT) is None


def test_small_masks_can_be_kept_whole():
    assert not sieve(BENT, min_pixels=11).all()
    assert sieve(BENT, min_pixels=12).all()


def test_what_is_no_confidence():
    with pytest.raises(InputError, match="NaN"):
        sieve(np.array([0.1, np.nan, 0.3]))
    with pytest.raises(ShapeError, match=r"confidences \(n,\)"):
        knee_threshold(np.zeros((2, 3)))
    with pytest.raises(InputError, match="0 points"):
        knee_threshold(BENT, points=0)


def test_without_kneed(monkeypatch):
    monkeypatch.setitem(sys.modules, "kneed", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'a2lc\[train\]'"):
        sieve(BENT)
