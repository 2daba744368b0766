"""Overlapping masks become one map by the stated rule: checked against a loop over pixels, and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from a2lc.errors import InputError
from a2lc.foundation import compose as module
from a2lc.foundation.compose import compose, cover_pieces
from a2lc.foundation.packed import PackedMasks

HEIGHT, WIDTH, CLASSES = 5, 7, 4


@st.composite
def scenes(draw):
    number = draw(st.integers(min_value=0, max_value=6))
    return {
        "masks": [draw(arrays(np.bool_, (HEIGHT, WIDTH))) for _ in range(number)],
        "classes": draw(arrays(np.int64, number, elements=st.integers(0, CLASSES - 1))),
        # Few values, so that there are ties.
        "scores": draw(arrays(np.float32, number, elements=st.sampled_from([0.25, 0.5, 0.75]))),
        "priorities": draw(arrays(np.int64, CLASSES, elements=st.integers(-1, 1))),
        "superpixels": draw(st.none() | arrays(np.int64, (HEIGHT, WIDTH), elements=st.integers(1, 3))),
        "background": draw(st.none() | st.integers(0, CLASSES - 1)),
        "rule": draw(st.sampled_from(["score", "size"])),
    }


def composed(scene):
    others = {name: scene[name] for name in ("priorities", "superpixels", "background", "rule")}
    packed = PackedMasks.pack(scene["masks"], HEIGHT, WIDTH)
    return compose(packed, scene["classes"], scene["scores"], ignore_index=255, **others)


def loop(scene):
    """Who keeps each pixel, one pixel after the other: the object's place, or -1."""
    owner = np.full((HEIGHT, WIDTH), -1)
    for row in range(HEIGHT):
        for col in range(WIDTH):
            best = None
            for place, mask in enumerate(scene["masks"]):
                if not mask[row, col]:
                    continue
                priority, score = scene["priorities"][scene["classes"][place]], scene["scores"][place]
                keys = (score, -mask.sum()) if scene["rule"] == "score" else (-mask.sum(), score)
                rank = (priority, *keys, -place)
                if best is None or rank > best:
                    best, owner[row, col] = rank, place
    return owner


@given(scenes())
def test_against_a_loop_over_pixels(scene):
    found, owner = composed(scene), loop(scene)
    left = sorted(set(owner.ravel().tolist()) - {-1})
    of_objects = np.flatnonzero(found.origin >= 0) + 1
    assert found.origin[found.origin >= 0].tolist() == left, "covered masks vanish, the others keep their order"
    for number, place in enumerate(left, start=1):
        np.testing.assert_array_equal(found.masks == number, owner == place)
        assert set(found.labels[owner == place].tolist()) == {scene["classes"][place]}
    rest = owner < 0
    assert set(np.unique(found.labels[rest]).tolist()) <= {255 if scene["background"] is None else scene["background"]}
    if scene["superpixels"] is None:
        assert not found.masks[rest].any()
    else:
        assert not np.isin(found.masks[rest], [0, *of_objects]).any(), (
            "every pixel is in a mask, and not in an object's"
        )


@given(scenes())
def test_each_mask_has_one_label_and_numbers_have_no_gap(scene):
    found = composed(scene)
    assert found.masks.dtype == np.uint16
    ids = np.unique(found.masks[found.masks > 0])
    np.testing.assert_array_equal(ids, np.arange(1, len(found.origin) + 1))
    for mask in ids:
        assert len(np.unique(found.labels[found.masks == mask])) == 1


@given(scenes(), st.randoms(use_true_random=False))
def test_the_order_of_objects_matters_only_among_equals(scene, random):
    # Sizes and scores all differ: then there is nothing to break.
    areas = [int(mask.sum()) for mask in scene["masks"]]
    scene["scores"] = np.linspace(0.1, 0.9, len(areas)).astype(np.float32)
    if len(set(areas)) != len(areas):
        return
    order = list(range(len(areas)))
    random.shuffle(order)
    other = scene | {
        "masks": [scene["masks"][i] for i in order],
        "classes": scene["classes"][order],
        "scores": scene["scores"][order],
    }
    np.testing.assert_array_equal(composed(scene).labels, composed(other).labels)


def box(top, left, bottom, right):
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def objects(*masks):
    return PackedMasks.pack(masks, HEIGHT, WIDTH)


def test_priority_stands_above_score_and_score_above_size():
    large, small = box(0, 0, 5, 7), box(1, 1, 3, 3)

    def middle(scores, priorities, rule="score"):
        both = objects(large, small)
        found = compose(
            both, np.array([0, 1]), np.array(scores), priorities=np.array(priorities), ignore_index=255, rule=rule
        )
        return found.labels[1, 1]

    assert middle([0.9, 0.3], [0, 0]) == 0, "the higher score"
    assert middle([0.9, 0.3], [0, 0], "size") == 1, "the smaller"
    assert middle([0.5, 0.5], [0, 0]) == 1, "the smaller among equal scores"
    assert middle([0.9, 0.3], [0, 1]) == 1, "the class that matters more"
    assert middle([0.3, 0.9], [1, 0], "size") == 0


def test_a_mask_cut_in_two_stays_one():
    found = compose(
        objects(box(2, 0, 3, 7), box(0, 3, 5, 4)),
        np.array([0, 1]),
        np.array([0.3, 0.6]),
        priorities=np.zeros(2, dtype=int),
        ignore_index=255,
    )
    assert found.masks[2].tolist() == [1, 1, 1, 2, 1, 1, 1]
    assert found.labels[2].tolist() == [0, 0, 0, 1, 0, 0, 0]


def test_a_mask_that_is_covered_or_empty_vanishes():
    found = compose(
        objects(box(1, 1, 2, 2), box(0, 0, 0, 0), box(0, 0, 3, 3), box(4, 4, 5, 5)),
        np.array([0, 1, 2, 3]),
        np.array([0.2, 0.9, 0.8, 0.1]),
        priorities=np.zeros(4, dtype=int),
        ignore_index=255,
    )
    assert found.origin.tolist() == [2, 3]
    assert sorted(set(found.masks.ravel().tolist())) == [0, 1, 2]


def test_more_than_255_masks_do_not_wrap():
    # Ids of A2LC's masks were bytes: the 256th mask was none, the 257th was the first.
    height, width = 20, 31
    cells = np.arange(height * width).reshape(height, width)
    packed = PackedMasks.pack([cells == i for i in range(height * width)], height, width)
    count = height * width
    found = compose(
        packed,
        np.arange(count) % 300,
        np.linspace(1, 0, count),
        priorities=np.zeros(300, dtype=int),
        ignore_index=65535,
        dtype=np.uint16,
    )
    np.testing.assert_array_equal(found.masks, cells + 1)
    np.testing.assert_array_equal(found.labels, cells % 300)


def test_more_masks_than_a_map_can_number(monkeypatch):
    monkeypatch.setattr(module, "MAX_MASKS", 3)
    superpixels = np.arange(1, HEIGHT * WIDTH + 1).reshape(HEIGHT, WIDTH)
    message = r"35 masks; at most 3 fit a 16-bit mask map\. Raise `box_threshold`, or lower `cover_count`\."
    with pytest.raises(InputError, match=message):
        compose(
            objects(),
            np.empty(0, dtype=int),
            np.empty(0),
            priorities=np.zeros(1, dtype=int),
            ignore_index=255,
            superpixels=superpixels,
        )


def test_slivers_of_superpixels_join_their_neighbours():
    superpixels = np.array([[1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]] * 3)
    rest = np.ones((3, 12), dtype=bool)
    rest[:, 4:6] = rest[:, 8:] = False  # a column of 2 is left, and two of 3
    rest[0, 11] = True  # and a pixel of 4, with nothing beside it
    found = cover_pieces(superpixels, rest)
    row = [1, 1, 1, 2, 0, 0, 3, 3, 0, 0, 0]
    assert found[0].tolist() == [*row, 4] and found[1].tolist() == found[2].tolist() == [*row, 0]
    rest[1:, 3] = False  # of 2 a pixel is left: less than a quarter of nine
    assert cover_pieces(superpixels, rest)[0].tolist() == [1, 1, 1, 1, 0, 0, 3, 3, 0, 0, 0, 4]


@given(arrays(np.int64, (HEIGHT, WIDTH), elements=st.integers(1, 9)), arrays(np.bool_, (HEIGHT, WIDTH)))
def test_pieces_cover_the_rest_and_nothing_else(superpixels, rest):
    found = cover_pieces(superpixels, rest)
    np.testing.assert_array_equal(found > 0, rest)
    assert set(found[rest].tolist()) <= set(superpixels[rest].tolist())


@given(st.lists(arrays(np.bool_, (HEIGHT, WIDTH)), max_size=5))
def test_packed_masks_come_back(masks):
    packed = PackedMasks.pack(masks, HEIGHT, WIDTH)
    assert len(packed) == len(masks)
    assert packed.areas().tolist() == [int(mask.sum()) for mask in masks]
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(packed.mask(index), mask)
    order = np.arange(len(masks))[::-1]
    halves = [packed.select(order[:2]), packed.select(order[2:])]
    again = PackedMasks.concat(halves, HEIGHT, WIDTH)
    for index, mask in enumerate(masks[::-1]):
        np.testing.assert_array_equal(again.mask(index), mask)
