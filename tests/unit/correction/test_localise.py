from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.sentinels import KEEP
from a2lc.correction.localise import localise
from a2lc.errors import InputError, ShapeError, UnknownNameError
from a2lc.ledger import KEEP as LEDGER_KEEP
from a2lc.statistics.features import FeatureMap


def pixelwise(values) -> FeatureMap:
    """Features (D, H, W) whose grid is the image's."""
    values = np.asarray(values, dtype=np.float32)
    return FeatureMap(
        values=values,
        rows=np.eye(values.shape[1], dtype=np.float32),
        cols=np.eye(values.shape[2], dtype=np.float32),
    )


def unit(first, second):
    """A unit vector whose products with (1, 0, 0) and (0.3, √0.91, 0) are given."""
    y = (second - 0.3 * first) / np.sqrt(0.91)
    return [first, y, np.sqrt(max(1 - first**2 - y**2, 0))]


def one_row(cosines, masks, surest=(0, 3)):
    """An image of one row whose pixels have these cosines to the prototypes of classes 0 and 1."""
    values = np.array([unit(*pair) for pair in cosines]).T[:, None, :]
    logits = np.zeros((2, 1, len(cosines)))
    for c, pixel in enumerate(surest):
        logits[c, 0, pixel] = 5
    return pixelwise(values), logits, np.array([masks])


# Medians of the cosines of the first mask's pixels: 0.85 of class 0, 0.60 of class 1.
MASK = [(1, 0.3), (0.85, 0.2), (0.7, 0.2), (0.3, 1), (0, 0.6), (0, 0.5)]


@pytest.mark.parametrize(("variant", "expected"), [("slides", 1), ("code", 0)])
def test_expansion_rule_of_the_two_variants(variant, expected):
    """Cosines (0.80, 0.70) against medians (0.85, 0.60): the check value of the expansion rule."""
    features, logits, mask_map = one_row([*MASK, (0.8, 0.7)], [1] * 6 + [2])
    found = localise(features, logits, mask_map, {1: (0, 1)}, variant=variant)
    assert found.tolist() == [[0, 0, 0, 1, 1, 1, expected]]


def test_the_slides_are_the_default():
    features, logits, mask_map = one_row([*MASK, (0.8, 0.7)], [1] * 6 + [2])
    assert localise(features, logits, mask_map, {1: (0, 1)})[0, 6] == 1


@pytest.mark.parametrize("variant", ["slides", "code"])
@pytest.mark.parametrize(("pair", "expected"), [((0.84, 0.59), KEEP), ((0.86, 0.59), 0), ((0.9, 0.65), 0)])
def test_pixels_pass_above_the_median(variant, pair, expected):
    features, logits, mask_map = one_row([*MASK, pair], [1] * 6 + [2])
    assert localise(features, logits, mask_map, {1: (0, 1)}, variant=variant)[0, 6] == expected


def test_the_median_itself_does_not_pass():
    features, logits, mask_map = one_row([*MASK, MASK[1]], [1] * 6 + [2])
    assert localise(features, logits, mask_map, {1: (0, 1)})[0, 6] == KEEP


def test_only_masks_that_touch_and_were_not_answered_are_reached():
    near = [(0.9, 0.3)] * 4
    features, logits, mask_map = one_row([*MASK, *near], [1] * 6 + [2, 3, 0, 1], surest=(0, 3))
    expected = [0, 0, 0, 1, 1, 1, 0, KEEP, KEEP, 0]
    assert localise(features, logits, mask_map, {1: (0, 1)}).tolist()[0][:7] == expected[:7]
    assert localise(features, logits, mask_map, {1: (0, 1)})[0, 8] == KEEP, "0 is no mask"
    features, logits, mask_map = one_row([*MASK, *near[:2]], [1] * 6 + [2, 3])
    assert localise(features, logits, mask_map, {1: (0, 1)}).tolist()[0][6:] == [0, KEEP], "3 does not touch 1"
    assert localise(features, logits, mask_map, {1: (0, 1), 2: (1,)}).tolist()[0][6] == 1
    assert localise(features, logits, mask_map, {1: (0, 1), 2: ()}).tolist()[0][6] == KEEP, "no class is an answer"


def test_masks_that_touch_at_a_corner_are_reached():
    values = np.zeros((2, 2, 3))
    values[0] = 1
    values[:, 0, 0] = [0.8, 0.6]
    mask_map = np.array([[1, 1, 0], [0, 0, 4]])
    logits = np.zeros((1, 2, 3))
    logits[0, 0, 1] = 1
    found = localise(pixelwise(values), np.concatenate([logits, -logits]), mask_map, {1: (0,)})
    assert found.tolist() == [[0, 0, KEEP], [KEEP, KEEP, 0]]


def test_without_expansion():
    features, logits, mask_map = one_row([*MASK, (0.9, 0.3)], [1] * 6 + [2])
    assert localise(features, logits, mask_map, {1: (0, 1)}, expand=False).tolist() == [[0, 0, 0, 1, 1, 1, KEEP]]


def test_a_single_class_is_taken_by_all_pixels_and_spreads_if_asked():
    """Cosines to class 0 are 1, .85, .7, .3, 0, 0: the median is .5."""
    features, logits, mask_map = one_row([*MASK, (0.51, 0.3), (0.49, 0.3)], [1] * 6 + [2, 2])
    assert localise(features, logits, mask_map, {1: (0,)}).tolist() == [[0] * 7 + [KEEP]]
    found = localise(features, logits, mask_map, {1: (0,)}, expand_single=False)
    assert found.tolist() == [[0] * 6 + [KEEP] * 2]
    assert localise(features, logits, mask_map, {1: (0, 1)}, expand_single=False)[0, 6] == KEEP


def test_a_class_that_wins_no_pixel_does_not_spread():
    """Both classes are surest of one pixel, so class 1 is nowhere nearer; the neighbour is as near as can be."""
    features, logits, mask_map = one_row([(1, 0.3), (0.6, 0.2), (0.8, 0.1), (1, 0.3)], [1, 1, 1, 2], surest=(0, 0))
    for variant in ("slides", "code"):
        assert localise(features, logits, mask_map, {1: (1, 0)}, variant=variant).tolist() == [[0, 0, 0, 0]]


def test_later_regions_overwrite_earlier_ones():
    cosines = [(1, 0.3), (0.5, 0.1), (0.9, 0.9), (0.1, 0.5), (0.3, 1)]
    features, logits, mask_map = one_row(cosines, [1, 1, 2, 3, 3], surest=(0, 4))
    assert localise(features, logits, mask_map, {1: (0,)})[0, 2] == 0
    assert localise(features, logits, mask_map, {3: (1,), 1: (0,)})[0, 2] == 1
    features, logits, mask_map = one_row(cosines, [3, 3, 2, 1, 1], surest=(0, 4))
    assert localise(features, logits, mask_map, {1: (1,), 3: (0,)})[0, 2] == 0


def test_a_later_region_that_does_not_reach_a_pixel_leaves_it():
    cosines = [(1, 0.3), (0.5, 0.1), (0.9, 0.4), (0.1, 0.6), (0.3, 1)]
    features, logits, mask_map = one_row(cosines, [1, 1, 2, 3, 3], surest=(0, 4))
    assert localise(features, logits, mask_map, {1: (0,), 3: (1,)})[0, 2] == 0


def test_prototypes_are_where_the_class_is_most_probable_and_not_where_its_logit_is_largest():
    values = np.array([[1, 0, 0.6, 0], [0, 1, 0.8, 1]])[:, None]
    # Class 0 has its largest logit at pixel 1, where class 2 has a larger one still.
    logits = np.array([[2, 3, 0, 0], [0, 0, 0, 4], [0, 9, 0, 0]], dtype=float)[:, None]
    mask_map = np.array([[1, 1, 1, 1]])
    assert localise(pixelwise(values), logits, mask_map, {1: (0, 1)}).tolist() == [[0, 1, 1, 1]]


def test_ties_go_to_the_lower_class_in_whatever_order_they_were_ticked():
    values = np.ones((1, 1, 3))
    for ticked in ((0, 1), (1, 0)):
        found = localise(pixelwise(values), np.zeros((2, 1, 3)), np.array([[1, 1, 1]]), {1: ticked})
        assert found.tolist() == [[0, 0, 0]]


def test_nothing_answered_says_nothing():
    features, logits, mask_map = one_row(MASK, [1] * 6)
    found = localise(features, logits, mask_map, {})
    assert found.tolist() == [[KEEP] * 6]
    assert found.dtype == np.int32
    assert KEEP == LEDGER_KEEP == -3


def test_what_does_not_belong_together():
    features, logits, mask_map = one_row(MASK, [1] * 6)
    with pytest.raises(ShapeError, match=r"mask map \(H, W\) = \(1, 6\)"):
        localise(features, logits, mask_map[:, :5], {1: (0,)})
    with pytest.raises(ShapeError, match="float64"):
        localise(features, logits, mask_map * 1.0, {1: (0,)})
    with pytest.raises(ShapeError, match=r"\(K, h, w\)"):
        localise(features, logits[:, :, :4], mask_map, {1: (0,)})
    with pytest.raises(InputError, match="Mask 2 was answered"):
        localise(features, logits, mask_map, {2: (0,)})
    with pytest.raises(InputError, match="Mask 0 was answered"):
        localise(features, logits, mask_map * 0, {0: (0,)})
    with pytest.raises(InputError, match="Class 2 of mask 1 is not one of the 2"):
        localise(features, logits, mask_map, {1: (0, 2)})
    with pytest.raises(InputError, match=r"found 70000\.\.70000|found 0\.\.70000"):
        localise(features, logits, mask_map * 70000, {1: (0,)})
    with pytest.raises(UnknownNameError, match="Did you mean 'slides'"):
        localise(features, logits, mask_map, {1: (0,)}, variant="slide")
