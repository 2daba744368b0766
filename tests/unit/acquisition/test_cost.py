"""Costs: of an answer, in bits of a question, and in clicks of labelling a region precisely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.measure import label

from a2lc.acquisition.cost import (
    AnswerTimes,
    ClickCost,
    break_even_error_rate,
    classification_bits,
    correction_bits,
    correction_bits_entropy,
    polygon_vertices,
    precise_clicks,
    region_clicks,
)
from a2lc.errors import ConfigError, InputError, ShapeError
from a2lc.masks.superpixels import grid
from a2lc.records import Answer, AnswerKind, Query, QueryKind

# ---- clicks of an answer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "named", "clicks"),
    [("confirm", 1, 2), ("correct", 1, 3), ("void", 0, 3), ("mixed", 0, 3), ("skip", 0, 0), ("classes", 3, 1.5),
     ("classes", 1, 0.5), ("classes", 0, 0.5)],
)  # fmt: skip
def test_clicks_of_an_answer(kind, named, clicks):
    assert ClickCost(confirm=2, correct=3, per_class=0.5).of_answer(kind, named) == clicks


def test_a_click_a_class_unless_said_otherwise():
    assert ClickCost().of_answer("classes", 4) == 4


def test_costs_that_no_budget_bounds():
    with pytest.raises(ConfigError, match=r"Clicks of an answer must be above 0, found 1.0 and 1.0, and 0 per class\."):
        ClickCost(per_class=0)


# ---- bits --------------------------------------------------------------------------------------------------------


def test_bits_of_19_classes():
    assert classification_bits(19) == pytest.approx(4.2479, abs=1e-4)
    np.testing.assert_allclose(correction_bits(np.array([0.1, 0.3, 0.5]), 19), [1.41699, 2.25098, 3.08496], atol=1e-5)
    assert correction_bits(0.0, 19) == 1


@pytest.mark.parametrize("classes", [3, 19, 21, 150])
def test_correcting_and_picking_cost_the_same_at_the_break_even(classes):
    even = break_even_error_rate(classes)
    assert correction_bits(even, classes) == pytest.approx(classification_bits(classes))
    assert correction_bits(even - 0.01, classes) < classification_bits(classes) < correction_bits(even + 0.01, classes)


def test_break_even_of_known_data_sets_and_of_two_classes():
    assert round(break_even_error_rate(19), 3) == 0.779
    assert round(break_even_error_rate(21), 3) == 0.785
    assert break_even_error_rate(2) == 0
    assert correction_bits(0.3, 2) == 1 == classification_bits(2)


@pytest.mark.parametrize("classes", [2, 3, 19])
def test_entropy_bounds_both(classes):
    rates = np.linspace(0, 1, 41)
    bits = correction_bits_entropy(rates, classes)
    assert (bits <= classification_bits(classes) + 1e-12).all()
    assert (bits <= correction_bits(rates, classes) + 1e-12).all()
    top = (classes - 1) / classes
    assert correction_bits_entropy(top, classes) == pytest.approx(classification_bits(classes))
    assert isinstance(correction_bits_entropy(0.2, classes), float)
    assert (correction_bits_entropy(0.0, classes), correction_bits_entropy(1.0, classes)) == (0, np.log2(classes - 1))
    by_hand = -0.2 * np.log2(0.2) - 0.8 * np.log2(0.8) + 0.2 * np.log2(classes - 1)
    assert correction_bits_entropy(0.2, classes) == pytest.approx(by_hand)


@pytest.mark.parametrize("function", [correction_bits, correction_bits_entropy])
@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), np.array([0.2, 2.0])])
def test_rates_out_of_range(function, rate):
    with pytest.raises(InputError, match=r"error rate is .*; expected 0 to 1"):
        function(rate, 5)


def test_too_few_classes():
    for call in (classification_bits, break_even_error_rate, lambda n: correction_bits(0.1, n)):
        with pytest.raises(InputError, match="With 1 classes there is nothing to ask"):
            call(1)


# ---- polygons ----------------------------------------------------------------------------------------------------


def test_corners_of_rectangles():
    truth = np.zeros((12, 20), dtype=np.uint8)
    truth[3:9, 5:15] = 255
    corners = {tuple(v) for v in polygon_vertices(truth).tolist()}
    assert corners == {(0, 0), (0, 19), (11, 0), (11, 19), (3, 5), (3, 14), (8, 5), (8, 14)}
    assert precise_clicks(truth) == 8 + 2, "corners, and a class for each of two pieces, void as well"


def test_a_pixel_is_one_click_and_its_class():
    truth = np.full((5, 7), 3)
    truth[2, 4] = 1
    corners = polygon_vertices(truth)
    assert corners.dtype == np.int64
    assert [2, 4] in corners.tolist()
    assert len(corners) == 5
    assert precise_clicks(np.array([[1]])) == 2


def test_a_hole_is_outlined_by_what_lies_in_it():
    truth = np.zeros((20, 30), dtype=np.uint8)
    truth[1:8, 2:9] = 1
    truth[3:6, 4:7] = 2
    ring = [v for v in polygon_vertices(truth).tolist() if truth[tuple(v)] == 1]
    assert sorted(ring) == [[1, 2], [1, 8], [7, 2], [7, 8]]


def test_vertices_are_pixels_of_their_piece_and_fewer_with_more_tolerance(rng):
    coarse = rng.integers(0, 4, (6, 8))
    truth = np.kron(coarse, np.ones((9, 11), dtype=int))
    rows, cols = np.mgrid[:54, :88]
    truth[(rows - 27) ** 2 + (cols - 44) ** 2 < 300] = 7
    found = [polygon_vertices(truth, tolerance=t) for t in (0, 1, 4)]
    assert len(found[0]) > len(found[1]) > len(found[2])
    disc = [v for v in found[1].tolist() if truth[tuple(v)] == 7]
    assert 6 <= len(disc) <= 24
    for row, col in disc:
        assert abs(np.hypot(row - 27, col - 44) - np.sqrt(300)) < 2, "on the outline"
    pieces = label(truth, background=-1, connectivity=2)
    assert set(pieces[tuple(found[1].T)]) == set(range(1, pieces.max() + 1)), "each piece has one"


def test_touching_corners_are_one_piece():
    truth = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert sum(truth[tuple(v)] == 1 for v in polygon_vertices(truth).tolist()) == 2


def test_negative_tolerance():
    with pytest.raises(InputError, match="tolerance of outlines is -1"):
        polygon_vertices(np.zeros((2, 2), dtype=int), tolerance=-1)


# ---- regions -----------------------------------------------------------------------------------------------------


def four_sides(truth, top, left, bottom, right):
    """Changes of class along the four sides of a rectangle, ends included."""
    total = 0
    for row in (top, bottom):
        total += sum(truth[row, c] != truth[row, c + 1] for c in range(left, right))
    for col in (left, right):
        total += sum(truth[r, col] != truth[r + 1, col] for r in range(top, bottom))
    return total


def walk(truth, inside):
    """Changes of class along the borders of a region: walk the edges of its pixels, the region at the right hand."""
    height, width = inside.shape

    def has(r, c):
        return 0 <= r < height and 0 <= c < width and inside[r, c]

    steps = [(-1, 0), (0, 1), (1, 0), (0, -1)]  # up, right, down, left

    def sides(r, c, way):
        """Pixels ahead of corner (r, c), to the left and to the right of the way."""
        ahead = {
            0: ((r - 1, c - 1), (r - 1, c)),
            1: ((r - 1, c), (r, c)),
            2: ((r, c), (r, c - 1)),
            3: ((r, c - 1), (r - 1, c - 1)),
        }
        return ahead[way]

    edges = set()
    for r in range(height + 1):
        for c in range(width + 1):
            for way in range(4):
                left, right = sides(r, c, way)
                if has(*right) and not has(*left):
                    edges.add((r, c, way))
    changes = 0
    while edges:
        start = edge = next(iter(edges))
        while True:
            edges.discard(edge)
            r, c, way = edge
            here = sides(r, c, way)[1]
            r, c = r + steps[way][0], c + steps[way][1]
            # Turn left first: pixels that touch in a corner belong together.
            for turn in (3, 0, 1):
                left, right = sides(r, c, (way + turn) % 4)
                if has(*right) and not has(*left):
                    edge = (r, c, (way + turn) % 4)
                    break
            there = sides(*edge)[1]
            changes += truth[here] != truth[there]
            if edge == start:
                break
    return changes


def flood_pieces(truth, inside):
    """8-connected pieces of one value in a region."""
    left = {tuple(p) for p in np.argwhere(inside).tolist()}
    count = 0
    while left:
        count += 1
        stack = [left.pop()]
        while stack:
            r, c = stack.pop()
            near = {(r + y, c + x) for y in (-1, 0, 1) for x in (-1, 0, 1)} & left
            near = {p for p in near if truth[p] == truth[r, c]}
            left -= near
            stack += near
    return count


def plain_clicks(truth, masks, vertices):
    rows = []
    for mask in sorted(set(masks.ravel().tolist()) - {0}):
        inside = masks == mask
        points = 0
        for r, c in vertices.tolist():
            near = [(r + y, c + x) for y, x in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
            near = [(y, x) for y, x in near if 0 <= y < masks.shape[0] and 0 <= x < masks.shape[1]]
            points += all(inside[p] for p in near)
        rows.append([mask, points, flood_pieces(truth, inside), walk(truth, inside)])
    return np.array(rows)


def as_rows(clicks):
    return np.stack([clicks.mask_ids, clicks.polygon, clicks.classes, clicks.intersections], axis=1)


@pytest.mark.parametrize("case", range(40))
def test_regions_of_any_shape_against_plain_loops(case):
    rng = np.random.default_rng(case)
    shape = (int(rng.integers(1, 9)), int(rng.integers(1, 12)))
    truth = rng.choice([0, 1, 2, 255], size=shape, p=[0.5, 0.2, 0.2, 0.1]).astype(np.uint8)
    masks = rng.choice([0, 3, 4, 900], size=shape, p=[0.1, 0.5, 0.3, 0.1]).astype(np.uint16)
    vertices = np.argwhere(rng.random(shape) < 0.4)
    clicks = region_clicks(truth, masks, vertices)
    np.testing.assert_array_equal(as_rows(clicks), plain_clicks(truth, masks, vertices).reshape(-1, 4))
    np.testing.assert_array_equal(clicks.precise, clicks.polygon + clicks.classes + clicks.intersections)
    assert clicks.dominant.tolist() == [1] * len(clicks.mask_ids)


@pytest.mark.parametrize("case", range(8))
def test_smooth_regions_against_plain_loops(case):
    rng = np.random.default_rng(case)
    rows, cols = np.mgrid[:17, :23]
    centres = rng.random((7, 2)) * (17, 23)
    masks = ((rows[..., None] - centres[:, 0]) ** 2 + (cols[..., None] - centres[:, 1]) ** 2).argmin(-1)
    truth = np.kron(rng.integers(0, 3, (4, 4)), np.ones((5, 6), dtype=int))[:17, :23]
    vertices = polygon_vertices(truth)
    clicks = region_clicks(truth, masks, vertices)
    np.testing.assert_array_equal(as_rows(clicks), plain_clicks(truth, masks, vertices))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_rectangles_count_their_four_sides(size, rng):
    truth = rng.integers(0, 3, (10, 13))
    clicks = region_clicks(truth, grid(10, 13, size), np.empty((0, 2), dtype=int))
    expected = [
        four_sides(truth, top, left, min(top + size, 10) - 1, min(left + size, 13) - 1)
        for top in range(0, 10, size)
        for left in range(0, 13, size)
    ]
    assert clicks.intersections.tolist() == expected


def test_by_hand():
    truth = np.zeros((8, 12), dtype=np.uint8)
    truth[2:6, 3:9] = 1
    clicks = region_clicks(truth, grid(8, 12, 6), polygon_vertices(truth))
    # Four regions: 6 x 6 above, 2 x 6 below; the box's corners (2, 3), (2, 8), (5, 3), (5, 8), those of the image beside.
    # Above, the lower corners of the box lie on the border to the regions below: intersections stand for them.
    assert clicks.polygon.tolist() == [2, 2, 1, 1]
    assert clicks.classes.tolist() == [2, 2, 1, 1]
    assert clicks.intersections.tolist() == [2, 2, 0, 0]
    assert clicks.precise.tolist() == [6, 6, 2, 2]


def test_a_region_of_one_class_costs_its_class():
    clicks = region_clicks(np.full((6, 6), 255), np.ones((6, 6), dtype=int), np.empty((0, 2), dtype=int))
    assert clicks.precise.tolist() == [1]


def test_no_regions():
    clicks = region_clicks(np.zeros((3, 4), dtype=int), np.zeros((3, 4), dtype=int), np.array([[0, 0]]))
    assert len(clicks.mask_ids) == len(clicks.precise) == 0


def test_maps_of_two_shapes():
    with pytest.raises(ShapeError, match=r"Ground truth has shape \(3, 4\), but the mask map has shape \(4, 3\)"):
        region_clicks(np.zeros((3, 4), dtype=int), np.zeros((4, 3), dtype=int), np.empty((0, 2), dtype=int))


@pytest.mark.parametrize(
    ("kind", "said", "lead", "clicks", "seconds"),
    [
        (AnswerKind.CONFIRM, (3,), None, 1.0, 2.5),  # look, key
        (AnswerKind.CORRECT, (3,), None, 1.0, 2.5),  # the first key names the proposed class
        (AnswerKind.CORRECT, (5,), None, 1.0, 4.0),  # another class has to be found
        (AnswerKind.VOID, (), None, 1.0, 4.0),
        (AnswerKind.CORRECT, (3,), 7, 1.0, 2.9),  # look at the grid, confirm it, and its first tile
        (AnswerKind.CORRECT, (3,), 6, 0.0, 0.4),  # a further tile
        (AnswerKind.CORRECT, (5,), 6, 2.0, 4.9),  # marked, and answered alone
        (AnswerKind.CORRECT, (5,), 7, 3.0, 7.4),  # the first, marked
        (AnswerKind.CORRECT, (5,), 6, 1.0, 4.0),  # shown alone after all
    ],
)
def test_seconds_of_an_answer_by_hand(kind, said, lead, clicks, seconds):
    query = Query(query_id=7, round=1, image=0, mask_ids=(1,), proposed=None, suggestions=(3, 5), score=0.0, grid=lead)
    if lead is not None:
        query = replace(query, kind=QueryKind.GRID)
    answer = Answer(query_id=7, annotator="eve", kind=kind, classes=said)
    assert AnswerTimes().of_reply(query, answer, clicks) == pytest.approx(seconds)
