"""Superpixels: of one piece, numbered in reading order, for every image, and the same each time."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from skimage.measure import label

from a2lc.errors import InputError, MissingExtraError
from a2lc.masks import superpixels
from a2lc.masks.superpixels import grid, seeds, slic

METHODS = [seeds, slic]


@pytest.fixture(autouse=True)
def _needs_opencv():
    pytest.importorskip("cv2", reason="SEEDS is OpenCV's")


def picture(rng, height=60, width=88):
    """Discs of one colour each on a ground of two, with some noise: pixels (H, W, 3) and what is in them (H, W)."""
    rows, cols = np.mgrid[:height, :width]
    content = (cols > width // 3).astype(int)
    for number, (row, col, radius) in enumerate([(14, 20, 9), (40, 60, 13), (48, 15, 8)], start=2):
        content[(rows - row) ** 2 + (cols - col) ** 2 < radius**2] = number
    colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 220], [230, 230, 60], [20, 20, 20]])
    noise = rng.integers(-12, 13, (height, width, 3))
    return np.clip(colours[content] + noise, 0, 255).astype(np.uint8), content


def check_map(found, height, width):
    assert found.shape == (height, width)
    assert found.dtype == np.int32
    number = int(found.max())
    _, first = np.unique(found, return_index=True)
    assert len(first) == number, "no number is left out, and 0 is none"
    assert (np.diff(first) > 0).all(), "reading order"
    assert label(found, background=0, connectivity=1).max() == number, "one piece each"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("height", [1, 3, 8, 17, 40])
@pytest.mark.parametrize("width", [1, 5, 16, 75])
def test_every_image_and_every_count_gets_superpixels(method, height, width, rng):
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    for count in (1, 2, 9, 50, 400, 65535):
        check_map(method(pixels, count), height, width)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [12, 40, 100, 300])
def test_about_as_many_as_asked_for(method, count, rng):
    found = method(picture(rng, 120, 160)[0], count)
    assert 0.55 * count <= found.max() <= 1.45 * count


def test_seeds_come_near_the_count_where_opencv_alone_does_not(rng):
    cv2 = pytest.importorskip("cv2")
    alone = cv2.ximgproc.createSuperpixelSEEDS(480, 360, 3, 1000, 5, 3, 10, True).getNumberOfSuperpixels()
    found = int(seeds(picture(rng, 360, 480)[0], 1000).max())
    assert (alone, found) == (660, 850)


@pytest.mark.parametrize("method", METHODS)
def test_superpixels_follow_colours(method, rng):
    pixels, content = picture(rng)
    found = method(pixels, 60)
    counts = np.zeros((found.max() + 1, 5), dtype=int)
    np.add.at(counts, (found, content), 1)
    assert counts.max(axis=1).sum() / content.size > 0.95
    squares = grid(60, 88, 9)
    counts = np.zeros((squares.max() + 1, 5), dtype=int)
    np.add.at(counts, (squares, content), 1)
    assert counts.max(axis=1).sum() / content.size < 0.91, "squares of that size do not"


@pytest.mark.parametrize("method", METHODS)
def test_the_same_each_time_and_the_image_is_left_alone(method, rng):
    pixels, _ = picture(rng)
    before = pixels.copy()
    np.testing.assert_array_equal(method(pixels, 60), method(pixels, 60))
    np.testing.assert_array_equal(pixels, before)


def test_hue_counts_in_seeds(rng):
    """Colours of one saturation and value: with hue cut off at 1, as in the published script, nothing tells them apart."""
    pixels = np.empty((48, 64, 3), dtype=np.uint8)
    rows, cols = np.mgrid[:48, :64]
    side = cols + rows // 3 > 37
    pixels[side], pixels[~side] = (20, 220, 120), (20, 120, 220)
    found = seeds(pixels, 30)
    counts = np.zeros((found.max() + 1, 2), dtype=int)
    np.add.at(counts, (found, side.astype(int)), 1)
    assert counts.max(axis=1).sum() / side.size > 0.98


def test_seeds_keep_blocks_from_becoming_too_many():
    assert superpixels._plan(1024, 2048, 8192, 5) == (3, 8192), "blocks of 4 pixels"
    assert superpixels._plan(360, 480, 1000, 5)[0] == 2
    assert superpixels._plan(1024, 2048, 100, 3)[0] <= 3, "never more than asked for"


def test_loose_pieces_go_to_the_neighbour_of_the_longest_boundary():
    given = np.array(
        [
            [0, 0, 0, 1, 1],
            [0, 2, 0, 1, 1],
            [0, 0, 0, 1, 0],
            [2, 2, 2, 1, 1],
            [2, 2, 2, 1, 1],
        ]
    )
    expected = [[1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [1, 1, 1, 2, 2], [3, 3, 3, 2, 2], [3, 3, 3, 2, 2]]
    assert superpixels._connected(given).tolist() == expected


def test_the_longest_boundary_counts_not_the_first_neighbour():
    # The loose 3 touches 0 and 2 once, 1 twice.
    given = np.array([[0, 0, 1], [2, 3, 1], [2, 1, 1], [2, 2, 3], [2, 3, 3]])
    expected = [[1, 1, 2], [3, 2, 2], [3, 2, 2], [3, 3, 4], [3, 4, 4]]
    assert superpixels._connected(given).tolist() == expected
    # The same to the left: 2 is the neighbour of the longest boundary, and neither the first nor the last.
    given = np.array([[0, 0, 0], [1, 4, 2], [1, 2, 2], [1, 1, 3], [4, 4, 3]])
    assert superpixels._connected(given)[1, 1] == 3


def test_loose_pieces_within_loose_pieces(rng):
    for case in range(20):
        given = np.random.default_rng(case).integers(0, 3, (9, 13))
        found = superpixels._connected(given)
        check_map(found, 9, 13)
        assert found.max() == len(np.unique(given))


# ---- squares -----------------------------------------------------------------------------------------------------


def test_last_row_and_column_are_cut_off():
    found = grid(5, 7, 3)
    check_map(found, 5, 7)
    assert np.bincount(found.ravel())[1:].tolist() == [9, 9, 3, 6, 6, 2]
    assert grid(5, 7, 100).tolist() == [[1] * 7] * 5
    assert grid(2, 3, 1).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_squares_that_a_mask_map_cannot_number():
    message = (
        r"Squares of 1 pixels give 65,536 masks for an image of 256 x 256; at most 65,535 .*Set `size` to 2 or more"
    )
    with pytest.raises(InputError, match=message):
        grid(256, 256, 1)
    with pytest.raises(InputError, match="side of the squares is 0; expected at least 1 pixel"):
        grid(5, 5, 0)


# ---- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_bad_input(method):
    pixels = np.zeros((8, 9, 3), dtype=np.uint8)
    for count in (0, -3, 65536):
        with pytest.raises(InputError, match=f"^{count:,} superpixels per image; expected 1 to 65,535"):
            method(pixels, count)
    for wrong in (pixels[..., 0], pixels.astype(float), pixels[..., :2], pixels[:0]):
        with pytest.raises(InputError, match="Expected RGB pixels"):
            method(wrong, 5)
    with pytest.raises(InputError, match="Compactness of SLIC must be above 0, found 0"):
        slic(pixels, 5, compactness=0)


@pytest.mark.parametrize("contributed", [False, True])
def test_without_opencv(monkeypatch, rng, contributed):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "cv2":
            if contributed:
                raise ImportError
            return object()  # OpenCV without its contributed modules
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'a2lc\[train\]'"):
        seeds(picture(rng)[0], 60)
    check_map(slic(picture(rng)[0], 60), 60, 88)
