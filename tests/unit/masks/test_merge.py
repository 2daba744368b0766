from __future__ import annotations

import numpy as np
import pytest

from a2lc.errors import InputError, ShapeError
from a2lc.masks.merge import adjacency, merge_masks, sqrt_js

# ---- which masks touch -------------------------------------------------------------------------------------------


def test_masks_touch_by_sides_and_not_by_corners():
    mask_map = np.array([[1, 1, 2], [1, 3, 2], [4, 3, 5]])
    assert adjacency(mask_map, np.arange(1, 6)).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 4], [2, 3], [2, 4]]


def test_no_mask_and_masks_not_listed_have_no_edges():
    mask_map = np.array([[1, 0, 2], [1, 9, 2]])
    assert adjacency(mask_map, np.array([1, 2])).shape == (0, 2)
    assert adjacency(mask_map, np.array([1, 2, 9])).tolist() == [[0, 2], [1, 2]]
    assert adjacency(mask_map, np.array([], dtype=int)).shape == (0, 2)


def test_listed_masks_that_do_not_occur_have_no_edges():
    assert adjacency(np.array([[5, 7]]), np.array([2, 5, 6, 7, 900])).tolist() == [[1, 3]]


def test_sparse_ids():
    mask_map = np.array([[5, 5, 2_000_000_000], [0, 40_000_000, 7]])
    ids = np.array([5, 40_000_000, 2_000_000_000])
    assert adjacency(mask_map, ids).tolist() == [[0, 1], [0, 2]], "7 is not listed"


def test_many_boundaries():
    """More pairs than the first guess of their number."""
    rng = np.random.default_rng(0)
    mask_map = rng.permutation(60 * 70).reshape(60, 70) + 1
    found = adjacency(mask_map, np.arange(1, 60 * 70 + 1))
    assert len(found) == 60 * 69 + 59 * 70
    assert len(np.unique(found, axis=0)) == len(found)


def test_maps_that_are_none():
    with pytest.raises(ShapeError, match=r"mask map \(H, W\)"):
        adjacency(np.zeros(4, dtype=int), np.array([1]))
    with pytest.raises(ShapeError, match="integer type"):
        adjacency(np.zeros((2, 2)), np.array([1]))
    with pytest.raises(InputError, match="ascend"):
        adjacency(np.ones((2, 2), dtype=int), np.array([2, 1]))
    with pytest.raises(InputError, match="ascend"):
        adjacency(np.ones((2, 2), dtype=int), np.array([0, 1]))
    with pytest.raises(InputError, match="found -1"):
        adjacency(np.full((2, 2), -1), np.array([1]))


# ---- the distance ------------------------------------------------------------------------------------------------


def test_distance_broadcasts_and_has_its_bounds():
    p = np.array([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    found = sqrt_js(p[:, None], p[None])
    np.testing.assert_allclose(found, np.sqrt(np.log(2)) * (1 - np.eye(2)), atol=1e-12)
    assert found.dtype == np.float64
    assert np.isscalar(sqrt_js(p[0], p[1]))


def test_distance_of_other_classes():
    with pytest.raises(ShapeError, match="same classes"):
        sqrt_js([0.5, 0.5], [0.2, 0.3, 0.5])


# ---- merging -----------------------------------------------------------------------------------------------------

# A chain whose neighbours are all near each other and whose ends are far apart.
CHAIN = np.stack([np.linspace(0.9, 0.1, 9), np.linspace(0.1, 0.9, 9)], axis=1)
NEXT = np.stack([np.arange(8), np.arange(1, 9)], axis=1)


def test_masks_are_compared_with_the_root_and_not_with_the_next():
    assert (sqrt_js(CHAIN[1:], CHAIN[:-1]) < 0.1).all()
    assert merge_masks(CHAIN, np.linspace(1, 0, 9), NEXT).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8]
    assert merge_masks(CHAIN, np.linspace(0, 1, 9), NEXT).tolist() == [0, 2, 2, 4, 4, 6, 6, 8, 8]


def test_the_most_uncertain_mask_is_the_root_and_the_lower_row_of_equals():
    alike = np.tile([0.6, 0.4], (4, 1))
    edges = [[0, 1], [1, 2], [2, 3]]
    assert merge_masks(alike, [0.1, 0.3, 0.7, 0.2], edges).tolist() == [2, 2, 2, 2]
    assert merge_masks(alike, [0.1, 0.3, 0.3, 0.2], edges).tolist() == [1, 1, 1, 1]


def test_masks_that_do_not_touch_stay_apart():
    alike = np.tile([0.6, 0.4], (4, 1))
    assert merge_masks(alike, [4, 3, 2, 1], [[0, 1], [2, 3]]).tolist() == [0, 0, 2, 2]
    found = merge_masks(alike, [4, 3, 2, 1], [])
    assert found.tolist() == [0, 1, 2, 3]
    assert found.dtype == np.int32
    assert merge_masks(np.empty((0, 2)), [], []).shape == (0,)


def test_a_mask_between_two_regions_goes_to_the_more_uncertain_root():
    probs = [[0.62, 0.38], [0.6, 0.4], [0.58, 0.42]]
    assert merge_masks(probs, [0.5, 0.1, 0.9], [[0, 1], [1, 2]], epsilon=0.025).tolist() == [0, 2, 2]


def test_epsilon_itself_is_too_far():
    p, q = [0.7, 0.2, 0.1], [0.6, 0.3, 0.1]
    distance = float(sqrt_js(p, q))
    assert merge_masks([p, q], [1, 0], [[0, 1]], epsilon=distance).tolist() == [0, 1]
    assert merge_masks([p, q], [1, 0], [[0, 1]], epsilon=np.nextafter(distance, 1)).tolist() == [0, 0]


def test_partial_merging_stops_after_so_many_masks():
    alike = np.tile([0.6, 0.4], (6, 1))
    star = [[0, 1], [0, 2], [1, 3], [2, 4], [4, 5]]
    sure = [9, 1, 1, 1, 1, 5]
    assert merge_masks(alike, sure, star, max_absorbed=0).tolist() == [0, 1, 2, 3, 4, 5]
    assert merge_masks(alike, sure, star, max_absorbed=3).tolist() == [0, 0, 0, 0, 4, 5], "breadth first"
    assert merge_masks(alike, sure, star, max_absorbed=5).tolist() == [0] * 6


def test_partial_merging_counts_over_regions():
    alike = np.tile([0.6, 0.4], (6, 1))
    pairs = [[0, 1], [2, 3], [4, 5]]
    assert merge_masks(alike, [6, 5, 4, 3, 2, 1], pairs, max_absorbed=2).tolist() == [0, 0, 2, 2, 4, 5]


def test_what_does_not_belong_together():
    with pytest.raises(ShapeError, match=r"\(M,\) values"):
        merge_masks(CHAIN, [1, 2], NEXT)
    with pytest.raises(ShapeError, match=r"edges \(E, 2\)"):
        merge_masks(CHAIN, np.ones(9), [[0, 1, 2]])
    with pytest.raises(ShapeError, match="integer type"):
        merge_masks(CHAIN, np.ones(9), [[0.0, 1.0]])
    with pytest.raises(InputError, match=r"rows 0\.\.9; there are 9 masks"):
        merge_masks(CHAIN, np.ones(9), [[0, 9]])
    with pytest.raises(InputError, match="masks to absorb is -1"):
        merge_masks(CHAIN, np.ones(9), NEXT, max_absorbed=-1)
