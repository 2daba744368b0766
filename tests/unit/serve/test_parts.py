"""Masks cut into parts: they cover the mask, repeat themselves and hold together."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from skimage.measure import label

from a2lc.errors import InputError
from a2lc.ledger import KEEP, VOID
from a2lc.serve import parts as module
from a2lc.serve.parts import click_parts, pixel_labels, superpixel_parts, value_runs


def blob(seed, height=40, width=57, noise=30):
    """An image of two colours with noise, and a mask of a few pieces with crumbs and holes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    pixels = np.where((x < width // 2)[..., None], (200, 60, 40), (30, 90, 210)) + rng.normal(
        0, noise, (height, width, 3)
    )
    inside = (y - height / 2) ** 2 / (height * 0.4) ** 2 + (x - width / 2) ** 2 / (width * 0.45) ** 2 < 1
    inside &= rng.random((height, width)) < 0.97
    inside |= rng.random((height, width)) < 0.01
    inside[2:9, 0:6] = True
    return pixels.clip(0, 255).astype(np.uint8), inside


def check_parts(parts, inside):
    """1..n in reading order over the mask; in each piece of the mask a part is in one piece."""
    assert parts.dtype == np.int32 and parts.shape == inside.shape
    assert_array_equal(parts > 0, inside)
    seen = parts[inside]
    known, first = np.unique(seen, return_index=True)
    assert known.tolist() == list(range(1, len(known) + 1)) and (np.diff(first) > 0).all()
    pieces = label(inside, connectivity=1)
    both = np.unique(np.stack([pieces[inside], seen]), axis=1).shape[1]
    assert label(np.where(inside, parts + pieces * (parts.max() + 1), 0), connectivity=1).max() == both


# ---- superpixels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [2, 5, 12, 60])
def test_superpixels_cover_the_mask_and_hold_together(seed, count):
    pixels, inside = blob(seed)
    parts = superpixel_parts(pixels, inside, count)
    check_parts(parts, inside)
    assert max(2, count // 3) <= parts.max() <= 3 * count


@pytest.mark.parametrize("working", [100, 500])
def test_so_do_those_of_large_masks(monkeypatch, working):
    monkeypatch.setattr(module, "_WORKING_PIXELS", working)
    for seed in range(4):
        pixels, inside = blob(seed)
        check_parts(superpixel_parts(pixels, inside, 8), inside)


@given(st.integers(1, 9), st.integers(1, 11), st.floats(0.05, 1.0), st.integers(1, 60), st.integers(0, 10**6))
def test_masks_of_any_form(height, width, filled, count, seed):
    rng = np.random.default_rng(seed)
    inside = rng.random((height, width)) < filled
    inside[rng.integers(height), rng.integers(width)] = True
    parts = superpixel_parts(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), inside, count)
    check_parts(parts, inside)
    assert parts.max() >= 1


def test_superpixels_repeat_themselves():
    pixels, inside = blob(1)
    first = superpixel_parts(pixels, inside, 9)
    np.random.default_rng().random(3)
    assert_array_equal(first, superpixel_parts(pixels.copy(), inside.copy(), 9))


def test_superpixels_follow_colour():
    pixels, inside = blob(2, noise=3)
    parts = superpixel_parts(pixels, inside, 6)
    left = np.arange(pixels.shape[1])[None] < pixels.shape[1] // 2
    sizes = [
        (np.count_nonzero((parts == n) & left), np.count_nonzero((parts == n) & ~left))
        for n in range(1, parts.max() + 1)
    ]
    assert sum(min(both) for both in sizes) < 0.02 * inside.sum()


def test_strong_texture_is_cut_by_place():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    parts = superpixel_parts(pixels, np.ones((60, 80), dtype=bool), 12)
    assert 6 <= parts.max() <= 24
    check_parts(parts, np.ones((60, 80), dtype=bool))


@pytest.mark.parametrize("working", [300, 10**6])
def test_what_is_outside_a_mask_does_not_matter(monkeypatch, working):
    monkeypatch.setattr(module, "_WORKING_PIXELS", working)
    pixels, inside = blob(3)
    other = np.where(inside[..., None], pixels, 255 - pixels)
    assert_array_equal(superpixel_parts(pixels, inside, 7), superpixel_parts(other, inside, 7))


def test_crumbs():
    cut = np.zeros((6, 30), dtype=np.int32)
    cut[:, :6] = 1
    cut[2, 3] = 2  # within a part
    cut[:, 12:17] = 3 + np.indices((6, 5)).sum(axis=0) % 2  # nothing but crumbs, but many
    cut[3, 20] = 5  # on its own, nearer to the piece of crumbs
    parts = module._without_crumbs(cut, cut > 0, least=8)
    assert len(np.unique(parts)) == 3
    assert (parts[:, :6] == parts[0, 0]).all() and (parts[:, 12:17] == parts[0, 12]).all()
    assert parts[3, 20] == parts[0, 12] != parts[0, 0]


def test_tiny_masks_are_one_part():
    inside = np.zeros((5, 7), dtype=bool)
    inside[2, 3] = True
    assert_array_equal(superpixel_parts(np.zeros((5, 7, 3), dtype=np.uint8), inside, 60), inside)


@pytest.mark.parametrize(("filled", "count"), [(False, 5), (True, 0)])
def test_no_mask_or_no_parts(filled, count):
    inside = np.full((4, 5), filled)
    with pytest.raises(InputError, match="Expected a mask of at least one pixel and one part"):
        superpixel_parts(np.zeros((4, 5, 3), dtype=np.uint8), inside, count)


# ---- clicks ---------------------------------------------------------------------------------------------------------


def test_clicks_cut_at_the_edge():
    pixels, inside = blob(0, noise=3)
    inside[20, [15, 45]] = True
    parts = click_parts(pixels, inside, [(15, 20, 4), (45, 20, 0)])
    assert_array_equal(parts > 0, inside)
    left = (np.arange(pixels.shape[1]) < pixels.shape[1] // 2)[None] & inside
    assert (parts[left] == 5).mean() > 0.97 and (parts[inside & ~left] == 1).mean() > 0.97


def test_pieces_without_a_click_get_the_nearest():
    inside = np.zeros((9, 30), dtype=bool)
    inside[2:7, 2:9] = inside[2:7, 20:28] = True
    inside[4, 11] = inside[4, 17] = True
    parts = click_parts(np.zeros((9, 30, 3), dtype=np.uint8), inside, [(4, 4, 7), (22, 4, 2)])
    assert_array_equal(parts > 0, inside)
    assert parts[4, 11] == 8 and parts[4, 17] == 3 and (parts[:, :10] == 8).sum() == 35


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_clicks_cover_the_mask_and_hold(seed, count):
    rng = np.random.default_rng(seed)
    inside = rng.random((8, 11)) < 0.6
    inside[3, 4] = True
    ys, xs = np.nonzero(inside)
    chosen = rng.permutation(len(ys))[:count]
    points = [(int(xs[i]), int(ys[i]), int(rng.integers(0, 4))) for i in chosen]
    pixels = rng.integers(0, 256, (8, 11, 3), dtype=np.uint8)
    parts = click_parts(pixels, inside, points)
    assert_array_equal(parts > 0, inside)
    assert all(parts[y, x] == name + 1 for x, y, name in points)
    assert set(np.unique(parts[inside])) == {name + 1 for _, _, name in points}
    assert_array_equal(parts, click_parts(pixels, inside, points))


def test_the_later_click_at_a_pixel_holds():
    inside = np.ones((3, 4), dtype=bool)
    parts = click_parts(np.zeros((3, 4, 3), dtype=np.uint8), inside, [(1, 1, 6), (1, 1, 2)])
    assert (parts == 3).all()


@pytest.mark.parametrize("point", [(0, 0, 1), (5, 1, 1), (-4, 1, 1), (1, 3, 1), (1, -2, 1)])
def test_clicks_outside_are_refused(point):
    inside = np.ones((3, 5), dtype=bool)
    inside[0, 0] = False
    with pytest.raises(InputError, match=r"lies outside the mask. Click inside it"):
        click_parts(np.zeros((3, 5, 3), dtype=np.uint8), inside, [(2, 2, 0), point])


def test_clicks_that_say_nothing_are_refused():
    pixels, inside = np.zeros((3, 5, 3), dtype=np.uint8), np.ones((3, 5), dtype=bool)
    with pytest.raises(InputError, match="at least one point, found none"):
        click_parts(pixels, inside, [])
    with pytest.raises(InputError, match="has class -1"):
        click_parts(pixels, inside, [(1, 1, -1)])


# ---- what is recorded -----------------------------------------------------------------------------------------------

PARTS = np.array([[0, 1, 1], [2, 3, 0]], dtype=np.int32)


def test_named_superpixels_as_labels():
    said = pixel_labels(PARTS, (4, 1, 7, 3), (4, 8), [9, VOID, None])
    expected = np.full((4, 8), KEEP)
    expected[1, 5:7], expected[2, 4] = 9, VOID
    assert said.dtype == np.int32
    assert_array_equal(said, expected)


def test_clicks_as_labels():
    said = pixel_labels(PARTS, (0, 0, 3, 2), (2, 3))
    assert_array_equal(said, [[KEEP, 0, 0], [1, 2, KEEP]])


@pytest.mark.parametrize("classes", [[1, 2], [1, 2, 3, 4], []])
def test_as_many_classes_as_parts(classes):
    with pytest.raises(InputError, match=f"has 3 parts, but classes of {len(classes)} were given"):
        pixel_labels(PARTS, (0, 0, 3, 2), (2, 3), classes)


def test_odd_classes_and_crops_are_refused():
    with pytest.raises(InputError, match=r"Class -3 of a part is neither a class index nor -1 \(unlabeled\)"):
        pixel_labels(PARTS, (0, 0, 3, 2), (2, 3), [1, KEEP, 2])
    with pytest.raises(InputError, match=r"Parts are 3 x 2 pixels, but their crop is 4 x 2"):
        pixel_labels(PARTS, (0, 0, 4, 2), (9, 9))


def test_what_was_drawn_comes_back_from_the_project(tiny_project):
    image = tiny_project.images[0]
    said = pixel_labels(
        PARTS, (4, 1, 7, 3), (image.height, image.width), [tiny_project.classes.num_classes - 1, VOID, None]
    )
    assert_array_equal(tiny_project.answered_pixels(tiny_project.write_answered_pixels(said)), said)


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=5))
def test_value_runs(rows):
    values = np.array(rows, dtype=np.int32)
    runs = value_runs(values)
    pairs = list(zip(runs[::2], runs[1::2], strict=True))
    assert [value for value, length in pairs for _ in range(length)] == values.ravel().tolist()
    assert all(a != b for (a, _), (b, _) in pairwise(pairs))
