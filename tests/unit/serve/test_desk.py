"""The desk: lending, recording, ending rounds, previews, asking ahead, and what several people at once must not break."""

import threading
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from a2lc.errors import StageError
from a2lc.ledger import FIRST, KEEP, VOID
from a2lc.ledger.replay import SOURCES
from a2lc.masks.tables import MaskTable
from a2lc.methods import METHODS
from a2lc.methods.base import QuerySpec
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query, QueryKind, Reason
from a2lc.rounds.loop import Loop
from a2lc.rounds.recorder import Recorder
from a2lc.rounds.settled import open_round
from a2lc.rounds.stages import next_stage, take_back
from a2lc.rounds.status import project_status
from a2lc.serve.desk import Desk
from a2lc.serve.queue import NotNowError, UnknownQuestionError, likely_class

AUTOMATIC = SOURCES.index("automatic")
SPREADS = {
    "budget": 120,
    "method": "a2lc",
    "many": True,
}  # all questions are chosen at once, so what comes of them is always the same


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_desk(few_scored, scored, request, clock):
    """Opens desks on a project of the test's own, of few scenes or of many; closed when it ends."""
    name = request.node.name.translate(str.maketrans("[]/", "---")) + ".a2lc"
    opened = []

    def make(budget=60, method="gain", settings=None, new=True, many=False, **more):
        scenes = scored if many else few_scored
        project = scenes.project(name) if new else Project(scenes.root / name)
        desk = Desk(project, scenes.plan(project, budget, method=method, settings=settings), clock=clock, **more)
        opened.append(desk)
        return desk

    yield make
    for desk in opened:
        desk.close()
        desk.project.close()


def until(true, seconds=60):
    """Wait for the worker, as a page polls."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "the worker did not get there"
        threading.Event().wait(0.01)
    return found


def reply(query, annotator="eve", **more):
    """What the system thinks is right."""
    return Answer(
        query_id=query.query_id, annotator=annotator, kind=AnswerKind.CORRECT, classes=(likely_class(query),), **more
    )


def lend(desk, annotator="eve", count=8):
    """Questions, once there are any."""
    return until(lambda: desk.lease(annotator, count)[0])


def answer_round(desk, annotator="eve", truth=False):
    """Answer all of a round; by ground truth, if wanted."""
    number = until(lambda: desk.status()["waiting"] and desk.status()["round"])
    by_class = None
    if truth:
        masks = desk.project.masks
        nothing = desk.project.state(through=0)
        _, by_class = desk.project.truth.table.masks(nothing, np.arange(len(masks)), desk.project.classes.num_classes)
    count, end = 0, time.monotonic() + 60
    while True:
        assert time.monotonic() < end, desk.status()
        status = desk.status()
        if status["round"] != number or status["stage"] not in {"answer", "select"}:
            return count
        answers = []
        for query in desk.lease(annotator, 8)[0]:
            said = reply(query, annotator)
            if truth:
                (row,) = desk.project.masks.rows(np.array([query.image]), np.array(query.mask_ids[:1]))
                true = int(np.argmax(by_class[row]))
                kind = AnswerKind.VOID if true == desk.project.classes.num_classes else AnswerKind.CORRECT
                said = Answer(
                    query_id=query.query_id, annotator=annotator, kind=kind, classes=() if kind == "void" else (true,)
                )
            answers.append(said)
        assert all(outcome.status == "recorded" for outcome in desk.answer(answers))
        count += len(answers)
        if not answers:  # the worker chooses the next
            threading.Event().wait(0.005)


# ---- lending --------------------------------------------------------------------------------------------------------


def test_a_question_is_lent_to_one(open_desk):
    desk = open_desk()
    eve = {query.query_id for query in lend(desk, "eve", 5)}
    bob = {query.query_id for query in lend(desk, "bob", 5)}
    assert len(eve) == len(bob) == 5 and not eve & bob
    again, gone = desk.lease("eve", 5)
    assert {query.query_id for query in again} == eve and not gone, "after a reload the same ones come first"
    more = until(lambda: desk.lease("eve", 3, have=sorted(eve))[0])
    assert not {query.query_id for query in more} & (eve | bob)
    assert desk.lease("bob", 1, have=sorted(eve)[:2])[1] == sorted(eve)[:2], "not theirs"


def test_what_is_lent_too_long_goes_back(open_desk, clock):
    desk = open_desk(lease_seconds=30)
    eve = [query.query_id for query in lend(desk, "eve", 4)]
    clock.now += 20
    desk.lease("eve", 1, have=eve[:2])  # a sign for two of them
    clock.now += 15
    bob = [query.query_id for query in lend(desk, "bob", 4)]
    assert eve[3] in bob and not set(eve[:3]) & set(bob), "two were renewed, one handed over anew"
    _, gone = desk.lease("eve", 1, have=eve)
    assert gone == eve[3:]
    # An answer that comes late is still one, if nobody was quicker.
    late = desk.question(eve[3])
    assert desk.answer([reply(late)])[0].status == "recorded"
    (outcome,) = desk.answer([reply(late, "bob")])
    assert outcome.status == "conflict" and "eve" in outcome.message


def test_what_is_put_off_comes_after_all_others(open_desk):
    desk = open_desk(budget=12, settings={"certify": 0, "measure": 0, "batch": 12})
    first = [query.query_id for query in lend(desk, "eve", 2)]
    assert desk.release("bob", first) == 0, "not theirs to give back"
    assert desk.release("eve", first) == 2
    rest = [query.query_id for query in lend(desk, "eve", 12)]
    assert rest[-2:] == first or set(rest[-2:]) == set(first)


def test_leases_outlive_the_server(open_desk):
    desk = open_desk()
    eve = [query.query_id for query in lend(desk, "eve", 4)]
    desk.answer([reply(desk.question(eve[0]))])
    desk.close()
    desk = open_desk(new=False)
    bob = [query.query_id for query in lend(desk, "bob", 8)]
    assert not set(eve) & set(bob)
    assert [query.query_id for query in desk.lease("eve", 3)[0]] == sorted(eve[1:])


def test_many_at_once_lose_and_double_nothing(open_desk):
    desk = open_desk(budget=300, settings={"batch": 20})
    said, broken = Counter(), []

    def work(name):
        try:
            for _ in range(12):
                queries, _ = desk.lease(name, 4)
                for outcome in desk.answer([reply(query, name) for query in queries]):
                    assert outcome.status == "recorded", outcome
                    said[outcome.query_id] += 1
        except Exception as error:
            broken.append(error)

    until(lambda: desk.status()["waiting"])
    threads = [threading.Thread(target=work, args=(f"p{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken, broken[0]
    assert said and max(said.values()) == 1
    recorded = [answer.query_id for answer, _ in desk.project.ledger.answers()]
    assert sorted(recorded) == sorted(said)


def test_a_round_finished_early_asks_its_audits_and_goes_on_to_its_corrections(open_desk):
    desk = open_desk(budget=200, settings={"batch": 10, "grid": 0, "guarantee": "expected"}, many=True)
    planned = desk.status()
    assert planned["budget"] == 200 and not planned["finishing"]
    for _ in range(3):
        desk.answer([reply(query) for query in lend(desk, count=10)])
    total = desk.finish_round()
    status = desk.status()
    assert 30 < total < 120 and status["budget"] == total and status["finishing"]

    def corrected():
        queries, _ = desk.lease("eve", 40)
        desk.answer([reply(query) for query in queries])
        return next_stage(desk.project)[1] not in {"select", "answer"}

    until(corrected)
    queries = desk.project.ledger.queries(1)
    assert 30 < len(queries) <= total and sum(query.reason == Reason.AUDIT for query in queries) >= 5


def test_a_round_of_fixed_size_is_not_finished_early(open_desk):
    desk = open_desk(budget=12, method="alc")
    with pytest.raises(NotNowError, match="cannot be finished early"):
        desk.finish_round()


# ---- answers --------------------------------------------------------------------------------------------------------


def test_answers_fit_or_are_refused_one_by_one(open_desk):
    desk = open_desk()
    first, second, third = lend(desk, count=3)
    outcomes = desk.answer(
        [
            reply(first),
            Answer(query_id=second.query_id, annotator="eve", kind=AnswerKind.CORRECT, classes=(99,)),
            Answer(query_id=10**6, annotator="eve", kind=AnswerKind.VOID),
            Answer(query_id=third.query_id, annotator="eve", kind=AnswerKind.SKIP, replaces=4711),
            reply(first),
        ]
    )
    assert [outcome.status for outcome in outcomes] == ["recorded", "refused", "refused", "refused", "refused"]
    assert "Class 99" in outcomes[1].message and "no question" in outcomes[2].message
    assert len(desk.project.ledger.answers()) == 1
    (again,) = desk.answer([reply(first)])
    assert again.status == "same" and again.answer_id == outcomes[0].answer_id


def test_an_answer_is_changed_by_naming_the_one_it_replaces(open_desk):
    desk = open_desk()
    (query,) = lend(desk, count=1)
    (old,) = desk.answer([reply(query)])
    other = next(c for c in range(desk.project.classes.num_classes) if c != likely_class(query))
    new = Answer(query_id=query.query_id, annotator="eve", kind=AnswerKind.CORRECT, classes=(other,))
    assert desk.answer([new])[0].status == "conflict"
    (done,) = desk.answer([replace(new, replaces=old.answer_id)])
    assert done.status == "recorded"
    (row,) = desk.project.masks.rows(np.array([query.image]), np.array(query.mask_ids))
    assert desk.project.state().classes[row] == other
    # The one it replaced, sent again by whoever recorded the page's traffic, does nothing.
    assert desk.answer([reply(query)])[0].status == "conflict"
    ((found, stands, when),) = desk.history("eve", 10)
    assert found == query and stands.classes == (other,) and when and desk.standing(query.query_id) == stands


def test_unknown_questions_are_said_to_be(open_desk):
    desk = open_desk()
    with pytest.raises(UnknownQuestionError, match="no question 123456"):
        desk.question(123456)
    assert desk.standing(123456) is None


# ---- rounds ---------------------------------------------------------------------------------------------------------


def test_a_round_is_answered_looked_at_accepted_and_the_next_begins(open_desk):
    pytest.importorskip("torch", reason="the label correction module needs the extra [train]")
    desk = open_desk(**SPREADS)
    assert answer_round(desk, truth=True) == 120
    assert until(lambda: desk.status()["phase"] == "spread")
    proposed = until(lambda: desk.status()["proposed"])
    spread = desk.spread()
    assert proposed == spread["total"]
    assert spread["ready"] and spread["total"] == len(spread["rows"]) > 5 and "gives no guarantee" in spread["promise"]
    assert (np.diff(spread["probability"]) <= 0).all() and (spread["old"] != spread["new"]).all()
    assert not (desk.project.state().source == AUTOMATIC).any(), "a preview writes nothing"
    done = desk.accept_spread(0.0, [])
    assert done["changed"] == spread["total"] and done["left_out"] == 0
    state = desk.project.state()
    assert (state.classes[spread["rows"]] == spread["new"]).all()
    with pytest.raises(NotNowError):
        desk.accept_spread(0.0, [])
    assert until(lambda: desk.status()["round"] == 2 and desk.status()["waiting"])
    assert desk.status()["phase"] == "answering"


def test_what_a_person_leaves_out_is_not_made(open_desk):
    desk = open_desk(**SPREADS)
    answer_round(desk, truth=True)
    until(lambda: desk.status()["phase"] == "spread")
    spread = desk.spread()
    pair = (int(spread["old"][0]), int(spread["new"][0]))
    threshold = float(np.median(spread["probability"]))
    of_pair = (spread["old"] == pair[0]) & (spread["new"] == pair[1])
    out = of_pair | (spread["probability"] < threshold)
    done = desk.accept_spread(threshold, [pair])
    assert done == {"changed": int((~out).sum()), "left_out": int(out.sum()), "message": done["message"]}
    assert 0 < out.sum() < len(out) and f"{out.sum()} excluded in review" in done["message"]
    state = desk.project.state()
    assert (state.classes[spread["rows"][out]] == FIRST).all() and (state.classes[spread["rows"][~out]] != FIRST).all()
    (details,) = [s.details for s in desk.project.ledger.stages() if (s.round, s.stage) == (1, "correct")]
    assert details["left_out"] == out.sum()
    assert details["rejected"] == [list(pair)] and details["threshold"] == threshold


def test_accepted_changes_are_taken_back_until_a_model_is_trained_on_them(open_desk, monkeypatch):
    desk = open_desk(**SPREADS)
    answer_round(desk, truth=True)
    until(lambda: desk.status()["phase"] == "spread")
    monkeypatch.setattr(desk.worker, "needs_no_network", lambda stage: stage == "correct")  # training waits
    done = desk.accept_spread(0.0, [])
    assert (desk.project.state().source == AUTOMATIC).sum() == done["changed"] > 0
    assert desk.undo_spread() == done["changed"]
    assert "were undone" in desk.status()["message"]
    assert not (desk.project.state().source == AUTOMATIC).any()
    with pytest.raises(NotNowError, match="already been undone"):
        desk.undo_spread()
    monkeypatch.undo()
    desk.worker.wake.set()
    until(lambda: desk.status()["round"] == 2)
    with pytest.raises(NotNowError):
        desk.undo_spread()


def test_only_changes_nothing_was_made_of_are_taken_back_in_an_open_round(open_desk):
    desk = open_desk()
    until(lambda: desk.status()["waiting"])
    with desk.worker.lock, pytest.raises(StageError, match="open"):
        take_back(desk.project, 1, "automatic")


def test_a_module_that_learns_from_answers_is_previewed_before_the_round_ends(open_desk):
    desk = open_desk(budget=24, method="a2lc")
    for query in lend(desk, count=20):
        desk.answer([reply(query)])
    spread = desk.spread()
    assert not spread["ready"] and spread["stage"] == "answer" and spread["total"] >= 0
    with pytest.raises(NotNowError, match="no corrections to accept"):
        desk.accept_spread(0.0, [])
    answer_round(desk)
    until(lambda: desk.status()["stage"] == "correct" or desk.status()["round"] == 2)


def test_a_method_that_changes_nothing_goes_on_by_itself(open_desk):
    desk = open_desk(budget=10, method="alc")
    assert answer_round(desk) == 10
    until(lambda: desk.status()["round"] == 2 and desk.status()["waiting"] == 10)
    assert "makes no automatic corrections" in desk.spread()["promise"]


def test_a_budget_of_clicks_ends_a_round_of_answers_of_different_prices(open_desk, monkeypatch):
    class AllClasses(METHODS["random"]):
        query = QuerySpec(kind=QueryKind.CLASSES)

    monkeypatch.setitem(METHODS, "all-classes", AllClasses)
    desk = open_desk(budget=6, method="all-classes")
    (query, *_) = lend(desk, count=3)
    assert query.kind == "classes"
    said = Answer(query_id=query.query_id, annotator="eve", kind=AnswerKind.CLASSES, classes=(0, 1, 2, 3, 4, 5))
    desk.answer([said])
    until(lambda: desk.status()["stage"] != "answer")
    assert not desk.lease("eve", 3)[0], "what was left over is not asked any more"


@pytest.mark.slow
def test_questions_of_the_next_round_are_asked_ahead_and_count_in_it(open_desk):
    desk = open_desk(budget=60, settings={"grid": 0}, many=True)
    answer_round(desk)
    until(lambda: next_stage(desk.project) == (2, "answer") and desk.status()["waiting"])
    loop = desk.worker.loop
    desk.close()
    for query in desk.project.ledger.queries(2, unanswered=True):
        desk.answer([reply(query)])
    while not loop.run_stage("answer").complete:
        for query in desk.project.ledger.queries(2, unanswered=True):
            desk.queue.recorder.learn_queries()
            desk.answer([reply(query)])
    loop.run_stage("correct")
    assert next_stage(desk.project) == (2, "train")
    assert loop.ask_ahead(12) == 20, "whole batches"
    assert loop.ask_ahead(12) == 10, "as many as the round may ask before its audits"
    assert loop.ask_ahead(12) == 0
    assert next_stage(desk.project) == (2, "train"), "the round before goes on"
    ahead = desk.project.ledger.queries(3)
    assert len(ahead) == 30
    desk.queue.recorder.learn_queries()
    desk.answer([reply(query) for query in ahead[:25]])
    for stage in ("train", "evaluate", "score", "select"):
        assert loop.run_stage(stage).complete
    assert len(desk.project.ledger.queries(3)) == 30, "five of them wait: no new ones are chosen"
    desk.answer([reply(query) for query in ahead[25:]])
    while not loop.run_stage("answer").complete:
        desk.queue.recorder.learn_queries()
        desk.answer([reply(query) for query in desk.project.ledger.queries(3, unanswered=True)])
    assert len(desk.project.ledger.answers(3)) == 60, "the round's clicks, those ahead among them"


def at_train(desk, rounds=1):
    """The loop of a desk, closed, whose round was answered and corrected."""
    until(lambda: desk.status()["waiting"])
    desk.close()
    loop = desk.worker.loop
    while next_stage(desk.project) != (rounds, "train"):
        if not loop.run_stage(next_stage(desk.project)[1]).complete:
            desk.queue.recorder.learn_queries()
            waiting = desk.project.ledger.queries(unanswered=True)
            desk.answer([reply(query) for query in waiting])
    return loop


@pytest.mark.slow
def test_a_round_begun_ahead_keeps_the_plan_it_was_begun_with(open_desk, few_scored):
    desk = open_desk(budget=100, settings={"grid": 0})
    loop = at_train(desk)
    assert loop.ask_ahead(40) == 40
    for stage in ("train", "evaluate"):
        loop.run_stage(stage)
    same = {"budget": 100, "settings": {"grid": 0}}
    for change in ({"budget": 20}, {"method": "alc", "settings": {}}, {"settings": {"grid": 0, "certify": 0.5}}):
        other = Loop(desk.project, few_scored.plan(desk.project, **(same | change), kind="human"))
        with pytest.raises(StageError, match="started with a different"):
            other.check()
    again = Loop(desk.project, few_scored.plan(desk.project, **same, kind="human"))
    for stage in ("score", "select"):
        assert again.run_stage(stage)


def test_questions_asked_ahead_are_not_asked_for_twice(open_desk, few_scored):
    half = len(MaskTable.load(few_scored.template / "tables" / "masks.parquet")) // 2
    desk = open_desk(budget=half, method="random")
    loop = at_train(desk)
    assert loop.ask_ahead(16) == 16
    assert not loop.run(2), "enough masks are left, and people are waited for"
    assert len(desk.project.ledger.queries(2)) == half > 32


@pytest.mark.slow
def test_masks_are_checked_once_though_nobody_has_answered_yet(open_desk):
    desk = open_desk(budget=200, settings={"gold": 0.2, "grid": 0}, many=True)
    loop = at_train(desk)
    assert loop.ask_ahead(30) == loop.ask_ahead(30) == loop.ask_ahead(30) == 30
    again = [(q.image, q.mask_ids) for q in desk.project.ledger.queries(2) if q.reason == Reason.GOLD]
    assert len(again) == 18 == len(set(again))


@pytest.mark.slow
@pytest.mark.parametrize("grid", [0, 24])
def test_what_is_asked_ahead_freezes_nothing(open_desk, grid):
    desk = open_desk(budget=60, settings={"grid": grid})
    loop = at_train(desk)
    while loop.ask_ahead(12):
        pass
    asked = desk.project.ledger.queries(2)
    # As if every mask of every grid were of another class: so many clicks are sure to pay for what is asked ahead.
    tiles = [query for query in asked if query.grid is not None]
    dearest = len(asked) - len(tiles) + 2 * len(tiles) + len({query.grid for query in tiles})
    assert dearest == 30 if grid == 0 else 28 <= dearest <= 30
    assert not (desk.project.round_folder(2) / "posterior.parquet").exists()


def test_what_was_taken_back_in_an_open_round_is_part_of_it(open_desk):
    desk = open_desk(**SPREADS)
    project = desk.project
    loop = at_train(desk)
    changed = (project.state().source == AUTOMATIC).sum()
    assert changed > 5 and loop.ask_ahead(8) == 8
    assert take_back(project, 1, "automatic") == changed
    desk.queue.recorder.learn_queries()
    desk.answer([reply(query) for query in project.ledger.queries(2)])
    for stage in ("train", "evaluate"):
        loop.run_stage(stage)
    first, second = (project.state(through=number) for number in (1, 2))
    assert not (first.source == AUTOMATIC).any()
    assert np.array_equal(second.classes, project.state().classes)
    rows = project_status(project)["rounds"]
    (evaluated,) = [s.details["data_miou"] for s in project.ledger.stages() if (s.round, s.stage) == (1, "evaluate")]
    # Answers given ahead are the next round's, though its labels had them when they were evaluated.
    assert rows[2]["data_miou"] == pytest.approx(evaluated)
    assert rows[1]["data_miou"] == pytest.approx(project.truth.confusion(first).miou)


def test_a_round_is_opened_once_by_whoever_is_first(open_desk, monkeypatch):
    """The process that trains and the server that asks ahead come to it at the same moment."""
    desk = open_desk(budget=10, method="alc")
    loop, ledger = at_train(desk), desk.project.ledger
    before = ledger.rounds()
    open_round(loop.context, 2)
    record, real, calls = ledger.rounds()[-1], ledger.rounds, []

    def late():
        calls.append(1)
        # Two looks before, by the check and by the opening.
        return before if len(calls) <= 2 else real()

    monkeypatch.setattr(ledger, "rounds", late)
    open_round(Loop(desk.project, loop.plan).context, 2)
    assert len(calls) > 2 and ledger.rounds()[-1] == record


@pytest.mark.parametrize("method", ["alc", "a2lc", "margin"])
def test_methods_that_choose_all_at_once_ask_ahead_too(open_desk, method):
    desk = open_desk(budget=10, method=method)
    until(lambda: desk.status()["waiting"])
    loop = desk.worker.loop
    desk.close()
    desk.answer([reply(query) for query in desk.project.ledger.queries(1)])
    for stage in ("answer", "correct"):
        assert loop.run_stage(stage).complete
    assert loop.ask_ahead(4) == 4 and loop.ask_ahead(100) == 6 and loop.ask_ahead(4) == 0
    asked = [(q.image, q.mask_ids) for q in desk.project.ledger.queries()]
    assert len(set(asked)) == 20, "nothing is asked twice"
    for stage in ("train", "evaluate", "score", "select"):
        assert loop.run_stage(stage).complete
    assert len(desk.project.ledger.queries(2)) == 10


def test_parts_of_a_mask_are_written_with_the_round(open_desk):
    """A person cuts a mask in two; the ledger renumbers nothing."""
    desk = open_desk(budget=10, method="alc")
    project = desk.project
    queries = lend(desk, count=10)
    query = queries[0]
    image = project.images[query.image]
    mask_map = project.mask_map(image)
    inside = mask_map == query.mask_ids[0]
    left = inside & (np.cumsum(inside, axis=1) % 2 == 1)
    said = np.where(left, 3, np.where(inside, VOID, KEEP)).astype(np.int32)
    digest = project.write_answered_pixels(said)
    cut = Answer(query_id=query.query_id, annotator="eve", kind=AnswerKind.CLASSES, classes=(3,), pixels=digest)
    assert desk.answer([cut])[0].status == "recorded"
    assert desk.answer([cut])[0].status == "same"
    desk.answer([reply(other) for other in queries[1:]])
    until(lambda: desk.status()["round"] == 2)
    labels = project.corrected_labels(image)
    assert (labels[left] == 3).all() and (labels[inside & ~left] == project.classes.ignore_index).all()
    before = project.corrected_labels(image, through=0)
    others = ~np.isin(mask_map, [m for q in queries if q.image == image.index for m in q.mask_ids])
    np.testing.assert_array_equal(labels[others], before[others])
    assert project.layers.in_force().by_hand and np.array_equal(project.mask_map(image), mask_map)
    quality = project.truth.confusion(project.state())
    assert np.isfinite(quality.miou)
    # Named as one class after all, it is one.
    (row,) = [a.answer_id for a, _ in project.ledger.answers() if a.query_id == query.query_id]
    whole = Answer(query_id=query.query_id, annotator="eve", kind=AnswerKind.CORRECT, classes=(4,), replaces=row)
    assert desk.answer([whole])[0].status == "recorded"
    assert (project.corrected_labels(image)[inside] == 4).all()


# ---- grid -----------------------------------------------------------------------------------------------------------


def test_a_grid_holds_look_alikes_of_one_class(open_desk):
    desk = open_desk(budget=150, method="random")
    until(lambda: desk.status()["waiting"])
    label, queries = desk.grid("eve", 24)
    assert label is not None and 2 <= len(queries) <= 24
    assert {likely_class(query) for query in queries} == {label}
    vectors = desk.similarity.vectors(1, queries)
    near = vectors @ vectors[0]
    assert (np.diff(near) <= 1e-6).all(), "the most alike first"
    others = [
        q
        for q in desk.queue.open_questions()
        if likely_class(q) == label and q.query_id not in {x.query_id for x in queries}
    ]
    if others:
        assert (desk.similarity.vectors(1, others) @ vectors[0]).max() <= near[-1] + 1e-6
    taken = {query.query_id for query in queries}
    assert not taken & {query.query_id for query in desk.grid("bob", 24)[1]}


def test_a_grid_that_the_round_asks_is_lent_whole_and_paid_as_one(open_desk):
    desk = open_desk(budget=40)
    until(lambda: desk.status()["waiting"])
    masks, ledger = desk.project.masks, desk.project.ledger
    rows = np.flatnonzero(~np.isin(masks.keys, ledger.asked_masks()))[:5]
    tiles = [
        Query(
            round=1,
            image=int(masks.image[row]),
            mask_ids=(int(masks.mask_ids[row]),),
            proposed=None if masks.label[row] == VOID else int(masks.label[row]),
            suggestions=(2,),
            score=1.0,
            kind=QueryKind.GRID,
            grid=7,
        )
        for row in rows
    ]
    ledger.add_queries(1, tiles)
    desk.queue.refresh()
    label, lent = desk.grid("eve", 24)
    assert label == 2 and len(lent) == 5 and {query.grid for query in lent} == {lent[0].query_id}
    assert not {query.query_id for query in lent} & {query.query_id for query in desk.grid("bob", 24)[1]}
    kinds = [AnswerKind.CONFIRM if query.proposed == 2 else AnswerKind.CORRECT for query in lent]
    kept = [
        Answer(query_id=query.query_id, annotator="eve", kind=kind, classes=(2,), in_grid=True)
        for query, kind in zip(lent[:4], kinds, strict=False)
    ]
    other = 1 if lent[4].proposed != 1 else 3
    marked = replace(kept[0], query_id=lent[4].query_id, kind=AnswerKind.CORRECT, classes=(other,))
    assert {outcome.status for outcome in desk.answer(kept)} == {"recorded"}
    # What was marked is given back, and is asked alone from then on.
    desk.release("eve", [lent[4].query_id])
    assert lent[4].query_id not in {query.query_id for query in desk.grid("eve", 24)[1]}
    assert {outcome.status for outcome in desk.answer([marked])} == {"recorded"}
    assert sum(clicks for _, clicks in ledger.answers(1)) == 3 == desk.status()["answered"]
    assert Recorder(desk.project).progress == {1: 3}, "as a server that starts again reads it"


def test_a_grid_is_there_while_the_next_round_is_scored(open_desk):
    desk = open_desk(budget=40, method="random")
    loop = at_train(desk)
    assert loop.ask_ahead(30) == 30
    desk.queue.refresh()
    (desk.project.round_folder(2) / "stats").mkdir(parents=True)
    for _ in range(3):
        assert len(desk.grid("eve", 4)[1]) > 0
    assert np.abs(np.linalg.norm(desk.similarity.vectors(2, desk.project.ledger.queries(2)), axis=1) - 1).max() < 1e-5


def test_requests_do_not_wait_for_a_loop_at_work(open_desk, monkeypatch):
    monkeypatch.setattr("a2lc.serve.worker._PATIENCE_SECONDS", 0.05)
    desk = open_desk()
    until(lambda: desk.status()["waiting"])
    broken = []

    def look():
        for ask in (desk.spread, lambda: desk.accept_spread(0.0, []), desk.undo_spread):
            try:
                ask()
            except NotNowError as error:
                broken.append(str(error))

    with desk.worker.lock:
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        (query, *_) = desk.lease("eve", 1)[0]
        assert desk.answer([reply(query)])[0].status == "recorded"
    assert broken == ["The server is preparing questions. Try again in a moment."] * 3


def test_nothing_is_worked_out_while_nobody_answers(open_desk, monkeypatch, clock):
    pytest.importorskip("torch", reason="the label correction module needs the extra [train]")
    desk = open_desk(**SPREADS)
    answer_round(desk, truth=True)
    until(lambda: desk.status()["proposed"])
    looked = []
    monkeypatch.setattr(desk.worker.loop, "proposed", lambda: looked.append(1))
    with desk.worker.lock:
        for _ in range(3):
            clock.now += 60
            assert not desk.worker._step()
    assert not looked


# ---- looking on -----------------------------------------------------------------------------------------------------


def test_the_dashboard_counts_what_was_done(open_desk):
    desk = open_desk()
    queries = lend(desk, "eve", 6)
    desk.answer([reply(query) for query in queries[:4]])
    desk.answer([Answer(query_id=queries[4].query_id, annotator="bob", kind=AnswerKind.VOID)])
    changed = desk.standing(queries[0].query_id)
    desk.answer([replace(changed, answer_id=0, kind=AnswerKind.MIXED, classes=(), replaces=changed.answer_id)])
    found = desk.dashboard()
    assert {row["name"]: row["answers"] for row in found["annotators"]} == {"eve": 4, "bob": 1}
    assert found["answers"] == 5 and found["clicks"] == 6 and sum(m["answers"] for m in found["minutes"]) == 5
    state = desk.project.state()
    changed = desk.project.masks.current(state) != desk.project.masks.label
    assert sum(row["from"] for row in found["changes"]) == int(changed.sum())
    assert found["rounds"][-1]["round"] == 1 and len(found["minutes"]) == 60


def test_exports_lie_in_the_project(open_desk):
    desk = open_desk()
    names = {desk.export()[0], desk.export()[0]}
    assert len(names) == 2
    for name in names:
        folder = desk.project.folder / "exports" / name
        assert (folder / "labels").is_dir() and (folder / "manifest.json").is_file()


def test_the_overview_needs_no_torch_and_names_classes(open_desk):
    found = open_desk().overview()
    assert found["classes"][0] == {"index": 0, "name": "sky", "color": "#4682b4"}
    assert found["masks"] > 100 and found["method"] == "gain" and found["annotators"] == []
