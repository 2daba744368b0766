from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.color import rgb2lab

from a2lc.errors import InputError, ShapeError
from a2lc.statistics.appearance import APPEARANCE, Borders, borders, mask_appearance, neighbour_means
from a2lc.statistics.appearance_kernel import to_lab


def grey(levels) -> np.ndarray:
    return np.repeat(np.asarray(levels, dtype=np.uint8)[..., None], 3, axis=2)


def by_name(pixels, mask_map, ids) -> dict[str, np.ndarray]:
    found = mask_appearance(pixels, np.asarray(mask_map), np.asarray(ids))
    assert found.dtype == np.float32
    assert found.shape == (len(ids), len(APPEARANCE))
    assert np.isfinite(found).all()
    return dict(zip(APPEARANCE, found.T, strict=True))


def listed(found: Borders) -> list[tuple[int, int, float, bool]]:
    columns = (found.first, found.second, found.length, found.vertical)
    assert [column.dtype for column in columns] == [np.int32, np.int32, np.float32, np.bool_]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def made(*rows: tuple[int, int, float, bool]) -> Borders:
    first, second, length, vertical = (list(column) for column in zip(*rows, strict=True))
    return Borders(
        first=np.array(first, dtype=np.int32),
        second=np.array(second, dtype=np.int32),
        length=np.array(length, dtype=np.float32),
        vertical=np.array(vertical),
    )


# ---- colour ------------------------------------------------------------------------------------------------------


def test_lab_is_that_of_scikit_image(rng):
    """Every grey, the corners of the cube, dark colours near the linear part, and random ones."""
    ramp = grey(np.arange(256)[None])
    corners = np.stack(np.meshgrid([0, 255], [0, 255], [0, 255], indexing="ij"), axis=-1).reshape(1, 8, 3)
    dark = rng.integers(0, 30, size=(1, 2000, 3))
    pixels = np.concatenate([ramp, corners, dark, rng.integers(0, 256, size=(1, 5000, 3))], axis=1).astype(np.uint8)
    np.testing.assert_allclose(to_lab(pixels), rgb2lab(pixels).transpose(2, 0, 1), atol=5e-4)


def test_colour_of_masks(rng):
    pixels = rng.integers(0, 256, size=(7, 11, 3), dtype=np.uint8)
    masks = rng.integers(0, 4, size=(7, 11))
    lab = rgb2lab(pixels)
    found = mask_appearance(pixels, masks, np.arange(1, 4))
    for row in range(3):
        part = lab[masks == row + 1]
        np.testing.assert_allclose(found[row, :6], [*part.mean(axis=0), *part.std(axis=0)], atol=1e-3)


def test_a_mask_of_one_colour_has_no_deviation_at_all():
    pixels = np.full((5, 9, 3), (200, 30, 90), dtype=np.uint8)
    found = by_name(pixels, np.ones((5, 9), dtype=int), [1])
    for name in ("l_std", "a_std", "b_std", "gradient", "laplacian"):
        assert found[name] == 0, name


# ---- texture -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn, name", [(0, "gradient_0"), (1, "gradient_90")])
def test_a_step_has_the_direction_it_goes_in(turn, name):
    """Black to white: L from 0 to 100, so that the two pixels at the step have a central difference of 50."""
    levels = np.rot90(np.repeat([[0, 0, 255, 255]], 3, axis=0), turn)
    found = by_name(grey(levels), np.ones(levels.shape, dtype=int), [1])
    assert found["gradient"] == pytest.approx(25, abs=1e-3)
    assert found["laplacian"] == pytest.approx(50, abs=1e-3)
    for other in ("gradient_0", "gradient_45", "gradient_90", "gradient_135"):
        assert found[other] == pytest.approx(25 if other == name else 0, abs=1e-3), other


@pytest.mark.parametrize("mirror, name", [(1, "gradient_45"), (-1, "gradient_135")])
def test_a_slope_to_the_right_and_down_is_45(mirror, name):
    levels = (10 * (np.arange(8)[:, None] + np.arange(9)[None]))[:, ::mirror]
    inner = np.zeros((8, 9), dtype=int)
    inner[1:-1, 1:-1] = 1
    found = by_name(grey(levels), inner, [1])
    assert found["gradient"] > 1
    assert found[name] == pytest.approx(found["gradient"])


def test_texture_looks_across_the_border_of_a_mask():
    found = by_name(grey([[0, 255, 255]]), [[1, 0, 0]], [1])
    assert found["gradient"] == pytest.approx(50, abs=1e-3), "the edge of the image is repeated"
    assert found["laplacian"] == pytest.approx(100, abs=1e-3)


# ---- place and size ----------------------------------------------------------------------------------------------


def test_place_and_size_by_hand():
    masks = [
        [0, 0, 0, 0, 0],
        [0, 6, 6, 0, 0],
        [0, 6, 0, 0, 0],
        [0, 0, 0, 0, 9],
    ]
    found = by_name(grey(np.zeros((4, 5))), masks, [6, 9])
    third = math.sqrt(2) / 3  # deviation of 0, 0, 1
    expected = {
        "centre_y": [(4 / 3 + 0.5) / 4, 3.5 / 4],
        "centre_x": [(4 / 3 + 0.5) / 5, 4.5 / 5],
        "off_centre": [0.5 - (4 / 3 + 0.5) / 5, 0.4],
        "spread_y": [third / 4, 0],
        "spread_x": [third / 5, 0],
        "top": [1 / 4, 3 / 4],
        "bottom": [3 / 4, 1],
        "box_height": [2 / 4, 1 / 4],
        "box_width": [2 / 5, 1 / 5],
        "log_area": [math.log(3 / 20), math.log(1 / 20)],
        "log_aspect": [0, 0],
        "extent": [3 / 4, 1],
        "compactness": [4 * math.pi * 3 / 8**2, math.pi / 4],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-7, err_msg=name)


def test_aspect_is_height_over_width_in_pixels():
    masks = np.zeros((9, 5), dtype=int)
    masks[1:9, 2:4] = 3
    assert by_name(grey(masks), masks, [3])["log_aspect"] == pytest.approx(math.log(4))


def test_a_ring_has_an_inner_perimeter():
    masks = np.ones((3, 3), dtype=int)
    masks[1, 1] = 0
    assert by_name(grey(masks), masks, [1])["compactness"] == pytest.approx(4 * math.pi * 8 / 16**2)


def test_one_pixel_images_and_no_masks():
    found = by_name(grey([[77]]), [[1]], [1])
    assert (found["log_area"], found["extent"], found["centre_y"], found["bottom"]) == (0, 1, 0.5, 1)
    assert mask_appearance(grey([[77]]), np.array([[1]]), np.array([], dtype=int)).shape == (0, 25)
    for shape in ((0, 4), (4, 0)):
        empty = mask_appearance(np.zeros((*shape, 3), dtype=np.uint8), np.zeros(shape, dtype=int), np.array([1]))
        assert empty.tolist() == [[0] * 25]


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (2, 2), (1, 2)])
def test_narrow_images(shape, rng):
    pixels = rng.integers(0, 256, size=(*shape, 3), dtype=np.uint8)
    by_name(pixels, np.arange(shape[0] * shape[1]).reshape(shape), np.arange(1, shape[0] * shape[1]))


def test_masks_not_listed_and_listed_masks_that_do_not_occur(rng):
    pixels = rng.integers(0, 256, size=(3, 4, 3), dtype=np.uint8)
    masks = np.array([[5, 5, 7, 0], [5, 5, 7, 9], [0, 0, 9, 9]])
    whole = mask_appearance(pixels, masks, np.array([5, 7, 9]))
    some = mask_appearance(pixels, masks, np.array([5, 6, 9, 2_000_000_000]))
    np.testing.assert_array_equal(some[[0, 2]], whole[[0, 2]])
    assert not some[[1, 3]].any()


def test_sparse_ids_types_and_views(rng):
    pixels = rng.integers(0, 256, size=(4, 6, 3), dtype=np.uint8)
    masks = rng.integers(0, 3, size=(4, 6))
    expected = mask_appearance(pixels, masks, np.array([1, 2]))
    sparse = np.array([0, 40_000_000, 2_000_000_000])
    np.testing.assert_array_equal(mask_appearance(pixels, sparse[masks], sparse[1:]), expected)
    np.testing.assert_array_equal(mask_appearance(pixels, masks.astype(np.uint16), np.array([1, 2])), expected)
    wide = np.repeat(pixels, 2, axis=1)[:, ::2]
    np.testing.assert_array_equal(mask_appearance(wide, np.asfortranarray(masks), np.array([1, 2])), expected)


# ---- borders -----------------------------------------------------------------------------------------------------


def test_borders_are_ordered_above_and_unordered_beside():
    masks = np.array([[2, 2, 1], [1, 1, 1]])
    assert listed(borders(masks, np.array([1, 2]), reach=1)) == [(1, 0, 2.0, True), (0, 1, 1.0, False)]


def test_both_may_lie_above_the_other():
    masks = np.array([[1, 2], [2, 1]])
    assert listed(borders(masks, np.array([1, 2]), reach=1)) == [
        (0, 1, 1.0, True),
        (1, 0, 1.0, True),
        (0, 1, 2.0, False),
    ]


@pytest.mark.parametrize("gap, length", [(0, 4 / 3), (1, 2 / 3), (2, 8 / 15), (3, 2 / 5), (4, 1 / 5), (5, 0)])
def test_a_thin_gap_does_not_part_neighbours(gap, length):
    """Two pixels, `gap` of no mask, two of another: one pair gap + 1 apart, two gap + 2, one gap + 3."""
    column = np.array([1, 1] + [0] * gap + [2, 2])
    expected = [(0, 1, pytest.approx(length), True)] if length else []
    assert listed(borders(column[:, None], np.array([1, 2]))) == expected
    sideways = [(*row[:3], False) for row in expected]
    assert listed(borders(column[None], np.array([1, 2]))) == sideways
    assert listed(borders(np.where(column == 0, 9, column)[None], np.array([1, 2]))) == sideways, "9 is not listed"


def test_a_straight_border_counts_once_a_step():
    masks = np.repeat([1, 2], 10)[:, None] * np.ones((1, 7), dtype=int)
    for reach, steps in ((1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (7, 4)):
        assert listed(borders(masks, np.array([1, 2]), reach)) == [(0, 1, pytest.approx(7 * steps), True)]
    assert borders(masks, np.array([1, 2])).length.tolist() == pytest.approx([21]), "the reach is 5 unless told"


def test_many_masks():
    """More pairs than the first table has room for."""
    masks = np.random.default_rng(0).permutation(60 * 70).reshape(60, 70) + 1
    found = borders(masks, np.arange(1, 60 * 70 + 1))
    vertical = 70 * (59 + 57 + 55)
    assert found.vertical.sum() == vertical
    assert len(found) == vertical + 60 * (69 + 67 + 65)
    assert found.length.sum(dtype=float) == pytest.approx(
        70 * (59 + 57 / 3 + 55 / 5) + 60 * (69 + 67 / 3 + 65 / 5), rel=1e-6
    )
    key = (~found.vertical).astype(np.int64) << 62 | found.first.astype(np.int64) << 31 | found.second
    assert (np.diff(key) > 0).all()


def test_no_borders():
    for masks in (np.ones((3, 4), dtype=int), np.zeros((3, 4), dtype=int), np.zeros((0, 4), dtype=int), [[1]]):
        assert listed(borders(np.asarray(masks), np.array([1]))) == []
    assert listed(borders(np.array([[1, 2]]), np.array([], dtype=int))) == []


def test_shifted_and_put_together():
    one = made((0, 1, 2.0, True), (0, 1, 1.0, False))
    both = Borders.concat([one, one.shifted(7)])
    assert listed(both) == [(0, 1, 2.0, True), (0, 1, 1.0, False), (7, 8, 2.0, True), (7, 8, 1.0, False)]
    assert len(both) == 4
    none = Borders.concat([])
    assert listed(none) == [] == listed(none.shifted(-3))
    with pytest.raises(InputError, match=r"rows -1\.\.0;"):
        one.shifted(-1)
    with pytest.raises(InputError, match="2147483648"):
        one.shifted(2**31 - 1)


# ---- neighbours --------------------------------------------------------------------------------------------------


def test_means_by_hand():
    found = made((0, 1, 1.0, True), (0, 2, 3.0, True), (1, 2, 2.0, False), (3, 1, 0.5, False))
    values = [[1, 10], [2, 20], [6, 60], [-1, -10], [100, 100]]
    below, above, beside = np.split(neighbour_means(values, found, 5), 3, axis=1)
    assert below.tolist() == [[5, 50], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert above.tolist() == [[0, 0], [1, 10], [1, 10], [0, 0], [0, 0]]
    np.testing.assert_allclose(beside, [[0, 0], [11.5 / 2.5, 115 / 2.5], [2, 20], [2, 20], [0, 0]], rtol=1e-6)
    assert beside.dtype == np.float32


def test_means_of_no_borders_and_no_masks():
    none = Borders.concat([])
    assert neighbour_means(np.ones((2, 3)), none, 2).tolist() == [[0] * 9] * 2
    assert neighbour_means(np.ones((0, 3)), none, 0).shape == (0, 9)
    assert neighbour_means(np.ones((2, 0)), made((0, 1, 1.0, True)), 2).shape == (2, 0)


# ---- errors ------------------------------------------------------------------------------------------------------


def test_pictures_that_are_none():
    masks, ids = np.ones((2, 3), dtype=int), np.array([1])
    for pixels in (np.zeros((2, 3), dtype=np.uint8), np.zeros((2, 3, 4), dtype=np.uint8), np.zeros((2, 3, 3))):
        with pytest.raises(ShapeError, match=r"pixels \(H, W, 3\) uint8"):
            mask_appearance(pixels, masks, ids)
    with pytest.raises(ShapeError, match=r"\(3, 2\) as the pixels have, found \(2, 3\)"):
        mask_appearance(np.zeros((3, 2, 3), dtype=np.uint8), masks, ids)


@pytest.mark.parametrize("call", [lambda m, i: mask_appearance(grey(np.zeros(np.shape(m))), m, i), borders])
def test_maps_and_ids_that_are_none(call):
    masks = np.ones((2, 3), dtype=int)
    with pytest.raises(ShapeError, match="integer type"):
        call(np.zeros((2, 2)), np.array([1]))
    with pytest.raises(ShapeError, match=r"ids \(M,\)"):
        call(masks, np.array([[1]]))
    with pytest.raises(ShapeError, match="ids of an integer type"):
        call(masks, np.array([1.5]))
    for ids in ([2, 1], [1, 1], [0, 1]):
        with pytest.raises(InputError, match="ascend"):
            call(masks, np.array(ids))
    with pytest.raises(InputError, match="found -1"):
        call(-masks, np.array([1]))


def test_borders_of_what_is_no_map_or_reach():
    with pytest.raises(ShapeError, match=r"mask map \(H, W\)"):
        borders(np.ones(4, dtype=int), np.array([1]))
    with pytest.raises(InputError, match="reach of 1 pixel or more, found 0"):
        borders(np.ones((2, 2), dtype=int), np.array([1]), reach=0)


def test_means_of_what_does_not_belong_together():
    found = made((0, 2, 1.0, True))
    with pytest.raises(ShapeError, match=r"of 3 masks, found \(2, 1\)"):
        neighbour_means(np.ones((2, 1)), found, 3)
    with pytest.raises(ShapeError, match=r"found \(3,\)"):
        neighbour_means(np.ones(3), found, 3)
    with pytest.raises(InputError, match=r"rows 0\.\.2; there are 2 masks"):
        neighbour_means(np.ones((2, 1)), found, 2)
    torn = Borders(first=found.first, second=found.second, length=found.length[:0], vertical=found.vertical)
    with pytest.raises(ShapeError, match="four arrays"):
        neighbour_means(np.ones((3, 1)), torn, 3)
