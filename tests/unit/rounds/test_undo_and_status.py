"""Undo, and what `a2lc status` says, on the tiny project with rounds written by hand."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest

from a2lc.ledger import FIRST, VOID
from a2lc.ledger.undo import undo_rows
from a2lc.project.label_history import LabelHistory
from a2lc.records import Answer, AnswerKind, Query, Source
from a2lc.rounds.recorder import record_answer
from a2lc.rounds.stages import STAGES, next_stage, require_stage
from a2lc.rounds.status import automatic_precision, project_status, round_changes


def open_round(project, number):
    project.ledger.open_round(number, method="a2lc", config={}, model="m", seed=0, versions={})


def standing(project, row):
    return int(project.state().classes[row])


def ask(project, number, *rows):
    masks = project.masks
    current = masks.current(project.state())
    queries = [
        Query(
            round=number,
            image=int(masks.image[r]),
            mask_ids=(int(masks.mask_ids[r]),),
            proposed=int(current[r]),
            score=1.0,
        )
        for r in rows
    ]
    project.ledger.add_queries(number, queries, 0.25, {})
    return [q.query_id for q in project.ledger.queries(number)]


def reply(project, query, kind, *classes, **more):
    return record_answer(
        project, Answer(query_id=query, annotator="eve", kind=AnswerKind(kind), classes=classes, **more)
    )


def automatic(project, number, row, new):
    masks = project.masks
    project.ledger.add_corrections(
        number, Source.AUTOMATIC, masks.image[[row]], masks.mask_ids[[row]], np.array([standing(project, row)]),
        np.array([new]), confidences=np.array([0.99]), model="lcm",
    )  # fmt: skip


def undo(project, number, source="all", last=None):
    keys, old, new = undo_rows(project.corrections(), project.ledger.undos(), number, source)
    image, mask = (keys >> np.uint64(32)).astype(int), (keys & np.uint64(0xFFFFFFFF)).astype(int)
    project.ledger.add_undo(number, source, last or number, image, mask, old, new)
    return len(keys)


@pytest.fixture
def rounds(tiny_project):
    """Round 1 corrects masks 0 and 1 by hand, 2 and 3 automatically; round 2 confirms 2, corrects 4 automatically."""
    project = tiny_project
    label = project.masks.label
    other = [(int(label[r]) + 1) % 11 for r in range(6)]
    for number in (0, 1):
        open_round(project, number)
    first, second = ask(project, 1, 0, 1)
    reply(project, first, "correct", other[0])
    reply(project, second, "void")
    automatic(project, 1, 2, other[2])
    automatic(project, 1, 3, other[3])
    open_round(project, 2)
    (third,) = ask(project, 2, 2)
    reply(project, third, "confirm", int(project.masks.current(project.state())[2]))
    automatic(project, 2, 4, other[4])
    return project, other


def test_undo_all_of_a_round_leaves_later_ones(rounds):
    project, other = rounds
    assert undo(project, 1, last=2) == 3
    assert [standing(project, r) for r in range(5)] == [FIRST, FIRST, other[2], FIRST, other[4]]
    assert undo(project, 1, last=2) == 0, "what a person confirmed in round 2 is the person's own"


def test_undo_by_source(rounds):
    project, other = rounds
    assert undo(project, 1, "automatic", last=2) == 1
    assert [standing(project, r) for r in range(4)] == [other[0], VOID, other[2], FIRST]
    assert undo(project, 1, "manual", last=2) == 2
    assert [standing(project, r) for r in range(4)] == [FIRST, FIRST, other[2], FIRST]


def test_undo_of_the_last_round_goes_back_to_what_stood(rounds):
    project, other = rounds
    assert undo(project, 2) == 1, "mask 2 keeps its class: round 1 gave the same"
    assert [standing(project, r) for r in (2, 4)] == [other[2], FIRST]
    assert undo(project, 1, last=2) == 4
    assert (project.state().classes == FIRST).all()


def test_corrected_labels_as_of_a_round_do_not_know_later_ones(rounds):
    project, _ = rounds
    before = project.state(through=1).classes.tolist()
    undo(project, 1, last=2)
    assert project.state(through=1).classes.tolist() == before, "an undo belongs to the last round"


def test_an_answer_given_after_an_undo_survives_another_undo(rounds):
    project, other = rounds
    undo(project, 1, last=2)
    standing_answer = project.ledger.answers(1)[0][0]
    again = (other[0] + 1) % 11
    reply(project, standing_answer.query_id, "correct", again, replaces=standing_answer.answer_id)
    assert standing(project, 0) == again
    assert undo(project, 1, last=2) == 0
    assert standing(project, 0) == again
    undo(project, 2)
    assert standing(project, 0) == FIRST, "a changed answer belongs to the round it was given in"


@pytest.mark.parametrize("kind", ["skip", "mixed"])
def test_replacing_an_answer_by_one_without_a_class_takes_its_correction_back(rounds, kind):
    project, _ = rounds
    first = project.ledger.answers(1)[0][0]
    reply(project, first.query_id, kind, replaces=first.answer_id)
    assert standing(project, 0) == FIRST


def test_replacing_an_answer_changes_the_mask(rounds):
    project, other = rounds
    first = project.ledger.answers(1)[0][0]
    new = (other[0] + 1) % 11
    assert reply(project, first.query_id, "correct", new, replaces=first.answer_id)
    assert not reply(project, first.query_id, "correct", new, replaces=first.answer_id), "sent twice"
    assert standing(project, 0) == new
    second = project.ledger.answers(1)[1][0]
    assert second.query_id == first.query_id
    assert reply(project, first.query_id, "confirm", int(project.masks.label[0]), replaces=second.answer_id)
    assert standing(project, 0) == FIRST, "keeping the proposed class keeps the first labels to the pixel"


# ---- status ------------------------------------------------------------------------------------------------------


def test_changes_of_a_round(rounds):
    project, other = rounds
    changes = round_changes(project, 1)
    assert changes["row"].tolist() == [0, 1, 2, 3]
    assert changes["old"].tolist() == project.masks.label[:4].tolist()
    assert changes["new"].tolist() == [other[0], VOID, other[2], other[3]]
    assert round_changes(project, 2)["row"].tolist() == [4], "a confirmed class is no change"


def test_status_of_rounds(rounds):
    project, _ = rounds
    project.ledger.finish_stage(1, "train", 1.5, {})
    status = project_status(project)
    one, two = status["rounds"][1:]
    assert (one["queries"], one["answered"], one["clicks"]) == (2, 2, 2.0)
    assert (one["manual_changed"], one["automatic_changed"]) == (2, 2)
    assert (two["queries"], two["manual_changed"], two["automatic_changed"]) == (1, 0, 1)
    assert one["seconds"] == {"select": 0.25, "train": 1.5}
    assert one["model_miou"] is None
    assert (status["images"], status["validation_images"], status["masks"]) == (4, 2, len(project.masks))
    truths = np.stack([project.truth.pixels(i) for i in project.images])
    labels = np.stack([project.corrected_labels(i, through=1) for i in project.images])
    both = (truths != 255) & (labels != 255)
    assert one["pixel_accuracy"] == pytest.approx((truths == labels)[both].mean())
    assert one["coverage"] == pytest.approx(both.sum() / (truths != 255).sum())
    ious = [
        ((truths == c) & (labels == c)).sum() / (((truths == c) | (labels == c)) & (truths != 255)).sum()
        for c in range(11)
        if ((truths == c) | ((labels == c) & (truths != 255))).any()
    ]
    assert one["data_miou_of_all"] == pytest.approx(np.mean(ious)), "pixels without a label are wrong"
    json.dumps(status)


def test_status_after_an_undo_and_a_replaced_answer(rounds):
    project, other = rounds
    before = project_status(project)
    first = project.ledger.answers(1)[0][0]
    reply(project, first.query_id, "correct", (other[0] + 1) % 11, replaces=first.answer_id)
    undo(project, 1, "automatic", last=2)
    status = project_status(project)
    one = status["rounds"][1]
    assert one["answered"] == 2, "a replaced answer answers no second question"
    assert one["clicks"] == 3.0, "but it was paid for"
    assert [u["round"] for u in status["undone"]] == [1]
    assert status["rounds"][1]["automatic_changed"] == before["rounds"][1]["automatic_changed"] == 2


def test_a_history_knows_the_end_of_every_round_from_one_reading(rounds, monkeypatch):
    project, _ = rounds
    undo(project, 1, "automatic", last=2)
    history = LabelHistory(project)
    ends = {number: project.state(number).classes.tolist() for number in (0, 1, 2, None)}
    assert len({str(end) for end in ends.values()}) == 4, "the undo came after round 2"
    monkeypatch.setattr(project.ledger, "correction_rows", None)
    assert {number: history.state(number).classes.tolist() for number in ends} == ends


def test_status_reads_the_ledger_once_however_many_rounds_there_are(rounds, monkeypatch):
    project, _ = rounds
    read = Counter()
    for name in ("correction_rows", "stages", "undos", "layers"):
        real = getattr(project.ledger, name)

        def counted(*args, real=real, name=name, **kwargs):
            read[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(project.ledger, name, counted)
    assert len(project_status(project)["rounds"]) == 3
    assert read == {"correction_rows": 1, "stages": 1, "undos": 1, "layers": 1}


def test_status_without_ground_truth(make_dataset):
    from a2lc.project.project import Project

    data = make_dataset(("a",))
    data.create()
    with Project(data.project) as project:
        open_round(project, 1)
        automatic(project, 1, 0, 2)
        status = project_status(project)
        (one,) = status["rounds"]
        assert one["automatic_changed"] == 1
        for name in (
            "automatic_precision",
            "data_miou",
            "data_miou_of_all",
            "coverage",
            "pixel_accuracy",
            "model_miou",
        ):
            assert one[name] is None
        assert status["now"] is None


def test_automatic_precision(tiny_project):
    masks, truth = tiny_project.masks, tiny_project.truth.table
    modes = []
    for row in range(3):
        image = tiny_project.images[int(masks.image[row])]
        inside = tiny_project.truth.pixels(image)[tiny_project.mask_map(image) == masks.mask_ids[row]]
        modes.append(int(np.bincount(inside, minlength=256).argmax()))
    new = np.array([modes[0], (modes[1] + 1) % 11, modes[2], modes[0]])
    found = automatic_precision(masks, truth, np.array([0, 1, 2, 0]), new, 11)
    assert found == 3 / 4
    assert math.isnan(automatic_precision(masks, truth, np.empty(0, dtype=int), np.empty(0, dtype=int), 11))


# ---- stages ------------------------------------------------------------------------------------------------------


def test_stages_follow_each_other(tiny_project):
    from a2lc.errors import StageError

    ledger = tiny_project.ledger
    assert next_stage(tiny_project) == (0, "train")
    with pytest.raises(StageError, match=r"Round 0 is at stage 'train', not at 'score'\. Run this first: a2lc train"):
        require_stage(tiny_project, "score")
    open_round(tiny_project, 0)
    assert next_stage(tiny_project) == (0, "train")
    ledger.finish_stage(0, "train", 0, {})
    assert next_stage(tiny_project) == (0, "evaluate")
    ledger.finish_stage(0, "evaluate", 0, {})
    assert next_stage(tiny_project) == (1, "score")
    assert require_stage(tiny_project, "score") == 1
    open_round(tiny_project, 1)
    for stage in STAGES:
        assert next_stage(tiny_project) == (1, stage)
        ledger.finish_stage(1, stage, 0, {})
    assert next_stage(tiny_project) == (2, "score")
