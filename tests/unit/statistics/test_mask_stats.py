from __future__ import annotations

import numpy as np
import pytest

from a2lc.errors import InputError, LabelRangeError, ShapeError
from a2lc.statistics.mask_stats import MaskStats, mask_statistics


def on_torch(probs, labels, mask_map, ignore_index=255):
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    from a2lc.statistics.torch_kernel import mask_statistics_torch

    return mask_statistics_torch(torch.from_numpy(np.array(probs, dtype=np.float32)), labels, mask_map, ignore_index)


both = pytest.mark.parametrize("fast", [mask_statistics, on_torch], ids=["numba", "torch"])
PROBS = np.full((3, 4, 6), 1 / 3, dtype=np.float32)
ZERO = np.zeros((4, 6), dtype=int)
ONE = np.ones((4, 6), dtype=int)


@both
@pytest.mark.parametrize(
    ("probs", "labels", "masks"),
    [(PROBS, ZERO.T, ONE), (PROBS, ZERO, ONE.T), (PROBS[0], ZERO, ONE), (PROBS, ZERO[:3], ONE[:3])],
)
def test_arrays_of_different_images(fast, probs, labels, masks):
    with pytest.raises(ShapeError, match=r"Expected .*\(H, W\)|Expected probs \(K, H, W\)"):
        fast(probs, labels, masks)


@both
@pytest.mark.parametrize("bad", [3, 254, -1, 300])
def test_label_out_of_range_inside_a_mask(fast, bad):
    labels = ZERO.copy()
    labels[2, 5] = bad
    with pytest.raises(LabelRangeError, match=rf"Label {bad} is neither one of the 3 classes nor ignore_index=255"):
        fast(PROBS, labels, ONE)
    uncovered = ONE.copy()
    uncovered[2, 5] = 0
    assert fast(PROBS, labels, uncovered).area.tolist() == [23]


@both
def test_logits_are_refused(fast, rng):
    with pytest.raises(InputError, match=r"sum to 1 over the classes; those of mask 1 sum to .* Apply softmax"):
        fast(rng.normal(size=PROBS.shape) * 3 + 2, ZERO, ONE)


@both
def test_negative_numbers_are_refused(fast):
    probs = PROBS.copy()
    probs[0], probs[1] = -0.5, 1.5 - 1 / 3
    with pytest.raises(InputError, match=r"found negative ones. Apply softmax to logits first"):
        fast(probs, ZERO, ONE)


@both
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_numbers_are_refused(fast, bad):
    probs = PROBS.copy()
    probs[:, 3, 2] = bad
    with pytest.raises(InputError, match=r"sum to 1 over the classes; those of mask 8 sum to (nan|inf)"):
        masks = ONE.copy()
        masks[3] = 8
        fast(probs, ZERO, masks)


@both
def test_negative_mask_ids_are_refused(fast):
    masks = ONE.copy()
    masks[0, 0] = -4
    with pytest.raises(ShapeError, match="Expected mask ids of 0 and above, found -4"):
        fast(PROBS, ZERO, masks)


@both
@pytest.mark.parametrize("what", ["labels", "mask_map"])
def test_maps_of_fractions_are_refused(fast, what):
    maps = {"labels": ZERO, "mask_map": ONE}
    maps[what] = maps[what] + 0.5
    with pytest.raises(ShapeError, match=f"Expected {what} of an integer type, found float64"):
        fast(PROBS, **maps)


@both
@pytest.mark.parametrize("what", ["labels", "mask_map"])
def test_ids_that_do_not_fit_32_bits_are_not_wrapped_around(fast, what):
    maps = {"labels": ZERO.copy(), "mask_map": ONE.copy()}
    maps[what][0, 0] = 2**32 + 1
    with pytest.raises(InputError, match=str(2**32 + 1)):
        fast(PROBS, **maps)


@both
def test_inputs_are_left_alone(fast, rng, make_probs):
    probs, labels, masks = make_probs(rng, 3, 4, 6), rng.integers(0, 3, (4, 6)), rng.integers(0, 3, (4, 6))
    copies = [a.copy() for a in (probs, labels, masks)]
    fast(probs, labels, masks)
    for array, copy in zip((probs, labels, masks), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_concat_of_nothing_or_of_different_classes(make_stats):
    with pytest.raises(ShapeError, match="at least one part"):
        MaskStats.concat([])
    with pytest.raises(ShapeError, match=r"different numbers of classes or ignore values: \[\(3, 255\), \(4, 255\)\]"):
        MaskStats.concat([make_stats(classes=4), make_stats(classes=3)])


def test_with_image_names_the_image_and_nothing_else(make_stats):
    stats = make_stats()
    other = stats.with_image(9)
    assert set(other.image) == {9}
    assert other.image.dtype == np.int32
    assert set(stats.image) == {0, 1, 2}
    assert other.area is stats.area


def test_sum_pairs(make_stats):
    stats = make_stats()
    np.testing.assert_array_equal(stats.sum_pairs(stats.pair_pixels), stats.area)
    none = stats.take(np.zeros(len(stats), dtype=bool))
    assert none.sum_pairs(none.pair_doubt).dtype == np.float64
