"""Masks that are asked about together, by expected gain per click."""

import itertools

import numpy as np
import pytest

from a2lc.acquisition.cost import ClickCost
from a2lc.acquisition.grids import FEWEST, choose_asks, grid_of
from a2lc.records import Answer, AnswerKind, Query, QueryKind, numbered


def best_of_all(values, misses, size):
    """The best value per click over all sets of masks, one by one."""
    best = 0.0
    for count in range(FEWEST, min(size, len(values)) + 1):
        for rows in itertools.combinations(range(len(values)), count):
            clicks = 1.0
            worth = 0.0
            for row in rows:
                worth += values[row]
                clicks += 2 * misses[row]
            best = max(best, worth / clicks)
    return best


@pytest.mark.parametrize("seed", range(20))
def test_a_grid_is_the_best_of_all_sets(seed):
    rng = np.random.default_rng(seed)
    values, misses = rng.exponential(size=9), rng.random(9) * rng.choice([0.1, 0.5, 1.0])
    places, worth = grid_of(values, misses, 7)
    assert FEWEST <= len(places) <= 7 and len(set(places.tolist())) == len(places)
    assert worth == pytest.approx(values[places].sum() / (1 + 2 * misses[places].sum()))
    assert worth == pytest.approx(best_of_all(values, misses, 7))


def test_too_few_make_no_grid():
    assert [len(grid_of(np.ones(n), np.zeros(n), size)[0]) for n, size in ((3, 24), (9, 3), (0, 24))] == [0, 0, 0]


def pool(rng, masks=300, classes=4):
    values = rng.exponential(size=masks) * (rng.random(masks) < 0.8)
    labels = rng.integers(-1, classes, masks)
    chances = rng.beta(5, 1, masks)
    return values, labels, chances, np.argsort(-values, kind="stable")[:40]


@pytest.mark.parametrize("seed", range(8))
def test_questions_are_apart_of_one_class_and_never_pass_what_may_be_spent(seed):
    rng = np.random.default_rng(seed)
    values, labels, chances, singles = pool(rng)
    most = float(rng.integers(1, 90))
    asks = choose_asks(values, labels, chances, singles, clicks=20, most=most, size=24)
    rows = np.concatenate(asks)
    assert len(rows) == len(np.unique(rows)) and (values[rows] > 0).all()
    dearest = sum(1 if len(ask) == 1 else 1 + 2 * len(ask) for ask in asks)
    assert dearest <= most
    for ask in asks:
        assert len(ask) == 1 or (FEWEST <= len(ask) <= 24 and len(set(labels[ask])) == 1 and labels[ask[0]] >= 0)
    expected = [1.0 if len(ask) == 1 else 1 + 2 * (1 - chances[ask]).sum() for ask in asks]
    assert sum(expected[:-1]) < 20, "one more was chosen than was to be"


def test_each_is_worth_most_per_click_of_what_is_left():
    rng = np.random.default_rng(3)
    values, labels, chances, singles = pool(rng)
    asks = choose_asks(values, labels, chances, singles, clicks=30, most=1000, size=24)
    worth = [values[ask].sum() / (1 if len(ask) == 1 else 1 + 2 * (1 - chances[ask]).sum()) for ask in asks]
    assert worth == sorted(worth, reverse=True)
    assert {len(ask) for ask in asks} > {1}


def test_without_grids_and_without_singles():
    values, labels, chances = np.ones(30), np.zeros(30, dtype=int), np.ones(30)
    assert [ask.tolist() for ask in choose_asks(values, labels, chances, [4, 2, 7], clicks=2, most=9, size=0)] == [
        [4],
        [2],
    ]
    assert [ask.tolist() for ask in choose_asks(values, labels, chances, [4], clicks=3, most=9, size=0)] == [
        [4],
        [0],
        [1],
    ]
    doubtful = choose_asks(values, labels, np.zeros(30), [], clicks=6, most=99, size=10)
    assert [len(ask) for ask in doubtful] == [1] * 6, (
        "a grid of which all would be marked is worth less than its masks alone"
    )
    (grid, *_) = choose_asks(values, labels, chances, [], clicks=1, most=99, size=10)
    assert grid.tolist() == list(range(10))
    assert choose_asks(values, labels, chances, [1], clicks=5, most=0.5, size=10) == []
    assert choose_asks(np.zeros(30), labels, chances, [1], clicks=5, most=50, size=10) == []


# ---- what they cost -------------------------------------------------------------------------------------------------


def tiles(count=3):
    asked = [
        Query(round=1, image=0, mask_ids=(m,), proposed=0, suggestions=(2, 0), score=1, kind=QueryKind.GRID, grid=9)
        for m in range(1, count + 1)
    ]
    alone = Query(round=1, image=0, mask_ids=(99,), proposed=0, suggestions=(2,), score=1)
    return numbered([alone, *asked], 5)


def test_a_grid_is_named_by_its_first_query():
    assert [(query.query_id, query.grid) for query in tiles()] == [(5, None), (6, 6), (7, 6), (8, 6)]


def test_confirming_costs_one_click_and_a_mark_one_more_than_an_answer():
    cost = ClickCost(confirm=1.0, correct=2.5)
    alone, first, second, third = tiles()

    def paid(query, kind, *classes, in_grid=True):
        answer = Answer(query_id=query.query_id, annotator="eve", kind=kind, classes=classes, in_grid=in_grid)
        return cost.of_reply(query, answer)

    assert paid(first, AnswerKind.CORRECT, 2) == 1.0, "the click that confirms the grid"
    assert paid(second, AnswerKind.CORRECT, 2) == 0.0
    assert paid(third, AnswerKind.CONFIRM, 0) == 2.0, "marked, and its own class confirmed"
    assert paid(third, AnswerKind.VOID) == 3.5 and paid(first, AnswerKind.CORRECT, 1) == 4.5
    assert paid(third, AnswerKind.SKIP) == 1.0
    assert paid(second, AnswerKind.CORRECT, 2, in_grid=False) == 2.5 == paid(alone, AnswerKind.CORRECT, 2)
