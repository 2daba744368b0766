from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.sentinels import FIRST, KEEP, VOID
from a2lc.ledger.replay import MaskState
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable
from a2lc.records import AnswerKind, Query, QueryKind
from a2lc.rounds.oracle import ORACLE, Oracle


def world(*masks):
    """Masks of one image, each with one first label and its pixels by true class: (label, {truth: pixels})."""
    areas = [sum(truth.values()) for _, truth in masks]
    table = MaskTable(
        image=np.zeros(len(masks), dtype=np.int32),
        mask_ids=np.arange(1, len(masks) + 1, dtype=np.int32),
        area=np.array(areas, dtype=np.int32),
        label=np.array([label for label, _ in masks], dtype=np.int32),
        pair_row=np.arange(len(masks), dtype=np.int32),
        pair_label=np.array([label for label, _ in masks], dtype=np.int32),
        pair_pixels=np.array(areas, dtype=np.int32),
    )
    rows = [(row, label, true, n) for row, (label, truth) in enumerate(masks) for true, n in truth.items()]
    row, first, true, pixels = np.array(rows, dtype=np.int32).T
    truth = TruthTable(row=row, label=first, truth=true, pixels=pixels)
    state = MaskState(
        classes=np.full(len(masks), FIRST, dtype=np.int32),
        source=np.zeros(len(masks), dtype=np.int8),
        winner=np.full(len(masks), -1, dtype=np.int64),
    )
    return table, truth, state


def ask(table, *groups):
    groups = groups or [(i,) for i in table.mask_ids.tolist()]
    proposed = [int(table.label[g[0] - 1]) for g in groups]
    return [
        Query(query_id=10 + i, round=1, image=0, mask_ids=g, proposed=None if p == VOID else p, score=0.0)
        for i, (g, p) in enumerate(zip(groups, proposed, strict=True))
    ]


def said(answer):
    return answer.kind, answer.classes


@pytest.mark.parametrize(
    ("label", "truth", "expected"),
    [
        (0, {0: 6, 1: 4}, ("confirm", (0,))),
        (0, {0: 5, 1: 5}, ("confirm", (0,))),  # relabelled by the mode, and a tie goes to the smallest: itself
        (1, {0: 5, 1: 5}, ("correct", (0,))),
        (0, {1: 4, 2: 6}, ("correct", (2,))),
        (2, {0: 3, 1: 3, 2: 4}, ("confirm", (2,))),  # less than half right, yet still the most frequent
        (0, {0: 2, VOID: 8}, ("void", ())),
        (0, {1: 5, VOID: 5}, ("correct", (1,))),  # void loses ties
        (VOID, {1: 10}, ("correct", (1,))),
        (VOID, {VOID: 10}, ("void", ())),  # void truth is a mismatch, so the mode is taken: void
        (0, {VOID: 10}, ("void", ())),
    ],
)
def test_rule(label, truth, expected):
    table, truth_table, state = world((label, truth))
    (answer,) = Oracle(num_classes=3).answer(ask(table), table, truth_table, state)
    assert said(answer) == expected
    assert (answer.query_id, answer.annotator) == (10, ORACLE)


def test_labels_as_they_stand_are_judged_and_not_the_first_ones():
    table, truth, state = world((0, {1: 10}))
    state.classes[0] = 1
    query = Query(query_id=1, round=2, image=0, mask_ids=(1,), proposed=1, score=0.0)
    (answer,) = Oracle(num_classes=3).answer([query], table, truth, state)
    assert said(answer) == (AnswerKind.CONFIRM, (1,))


def test_masks_of_one_question_are_taken_together():
    table, truth, state = world((0, {0: 3}), (0, {1: 4}), (0, {2: 3}))
    (answer,) = Oracle(num_classes=3).answer(ask(table, (1, 2, 3)), table, truth, state)
    assert said(answer) == (AnswerKind.CORRECT, (1,))


def test_nothing_asked():
    table, truth, state = world((0, {0: 3}))
    assert Oracle(num_classes=3).answer([], table, truth, state) == []


def many(n=400):
    return world(*[(i % 5, {i % 5: 6 if i % 2 else 2, (i + 1) % 5: 4}) for i in range(n)])


def answers(order, rate, seed=3):
    table, truth, state = many()
    queries = [ask(table)[i] for i in order]
    found = Oracle(num_classes=5, error_rate=rate, seed=seed).answer(queries, table, truth, state)
    return {a.query_id: said(a) for a in found}


@pytest.mark.slow
def test_order_and_interruption_change_no_answer():
    whole = answers(range(400), 0.4)
    assert answers(reversed(range(400)), 0.4) == whole
    assert {**answers(range(150), 0.4), **answers(range(150, 400), 0.4)} == whole
    assert answers(range(400), 0.4) == whole
    assert answers(range(400), 0.4, seed=4) != whole


def test_error_rate_is_the_share_of_wrong_answers():
    right, wrong = answers(range(400), 0.0), answers(range(400), 0.3)
    differ = [q for q in right if right[q] != wrong[q]]
    assert 0.3 * 400 - 40 < len(differ) < 0.3 * 400 + 40
    for query in differ:
        assert wrong[query][1] != right[query][1], "an error names another class"
        (named,) = wrong[query][1]
        assert 0 <= named < 5
        kind = "confirm" if named == (query - 10) % 5 else "correct"
        assert wrong[query][0] == kind
    named = {wrong[q][1] for q in differ}
    assert len(named) == 5, "any wrong class may be named"


def test_no_error_without_another_class():
    table, truth, state = world((0, {0: 10}))
    (answer,) = Oracle(num_classes=1, error_rate=0.999).answer(ask(table), table, truth, state)
    assert said(answer) == (AnswerKind.CONFIRM, (0,))


# ---- questions that need a look at the pixels -------------------------------------------------------------------

TRUTH = np.array([[0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 255]], dtype=np.uint8)
MASKS = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 1, 2, 2, 2]], dtype=np.uint16)
LABELS = np.array([[0, 0, 0, 2, 2, 2], [0, 0, 0, 2, 2, 2]], dtype=np.uint8)


def look(kind, *, mask=1, proposed=0, pixel=None, labels=LABELS, **oracle):
    query = Query(
        query_id=7, round=1, image=0, mask_ids=(mask,), proposed=proposed, score=0.0, kind=QueryKind(kind), pixel=pixel
    )
    (seen,) = Oracle(num_classes=3, **oracle).look([query], MASKS, TRUTH, labels, 255)
    return seen


@pytest.mark.parametrize(
    ("pixel", "gate", "expected"),
    [
        (0, False, ("confirm", (0,))),
        (2, False, ("correct", (1,))),  # the class of that pixel, though most of the mask is right
        (2, True, ("confirm", (0,))),  # the code's gate: four of six pixels are right already
        (8, True, ("confirm", (0,))),
    ],
)
def test_a_pixel_is_looked_at(pixel, gate, expected):
    assert said(look("pixel", pixel=pixel, gate=gate).answer) == expected


def test_a_pixel_of_no_class():
    assert said(look("pixel", mask=2, proposed=2, pixel=11).answer) == ("void", ())


def test_the_gate_opens_at_half():
    half = np.array([[0, 2, 2, 2, 2, 2], [0, 0, 2, 2, 2, 2]], dtype=np.uint8)
    assert said(look("pixel", pixel=2, gate=True, labels=half).answer) == ("correct", (1,)), "three of six are right"


def test_all_classes_of_a_region():
    # The band along the border leaves nothing of so small a region, so all of it counts.
    assert said(look("classes").answer) == ("classes", (0, 1))
    assert said(look("classes", mask=2, proposed=None).answer) == ("classes", (1, 2)), "void is no class"


def test_a_region_of_no_class_is_void():
    query = Query(query_id=1, round=1, image=0, mask_ids=(1,), proposed=None, score=0, kind=QueryKind.CLASSES)
    (seen,) = Oracle(num_classes=3).look([query], MASKS, np.full_like(TRUTH, 255), LABELS, 255)
    assert said(seen.answer) == ("void", ())


def test_precise_labels_are_those_of_the_region_alone():
    seen = look("precise", mask=2, proposed=None)
    assert said(seen.answer) == ("classes", (1, 2))
    query = Query(query_id=7, round=1, image=0, mask_ids=(2,), proposed=None, score=0.0, kind=QueryKind.PRECISE)
    drawn = Oracle(num_classes=3).draw(query, MASKS, TRUTH, 255)
    np.testing.assert_array_equal(drawn, [[KEEP, KEEP, KEEP, 1, 2, 2], [KEEP, KEEP, KEEP, 1, 2, VOID]])
    assert seen.clicks == int(seen.clicks) >= 3, "three pieces, the void one too, are each given a class"


def test_errors_tick_a_wrong_class_in_place_of_a_right_one():
    replies = {said(look("classes", error_rate=0.999, seed=seed).answer)[1] for seed in range(20)}
    assert replies == {(1, 2)}, "class 2 is the only wrong one"
    assert said(look("pixel", pixel=0, error_rate=0.999).answer)[0] == "correct"


def test_a_dominant_query_gets_the_mode_whatever_the_mask_carries():
    table, truth, state = world((0, {0: 6, 1: 4}), (2, {0: 4, 1: 6}))
    said_of = []
    for masks in [(1,), (2,), (1, 2)]:
        query = Query(query_id=1, round=1, image=0, mask_ids=masks, proposed=None, score=0, kind=QueryKind.DOMINANT)
        said_of += [said(a) for a in Oracle(num_classes=3).answer([query], table, truth, state)]
    assert said_of == [("correct", (0,)), ("correct", (1,)), ("correct", (0,))]
