"""Rounds of the method gain on made-up scenes with probabilities from files: asking, audits, promises, figures."""

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from a2lc.audits import effects
from a2lc.audits.wording import guarantee_line
from a2lc.classes.sentinels import UNKNOWN
from a2lc.cli.app import _main
from a2lc.errors import ImageFileError, InputError, MissingFileError, UnknownNameError
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.ledger import FIRST
from a2lc.ledger.replay import SOURCES
from a2lc.ledger.standing import standing_answers
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, QueryKind, Reason
from a2lc.rounds.loop import Loop
from a2lc.rounds.proof import not_proven
from a2lc.rounds.recorder import record_answer
from a2lc.rounds.stages import next_stage, take_back
from a2lc.rounds.status import label_quality, project_status
from a2lc.rounds.stopping import parse_until
from a2lc.statistics.keys import mask_keys

AUTOMATIC = SOURCES.index("automatic")


@pytest.fixture(scope="session")
def made(scored):
    """Scenes and probabilities; projects are made beside them."""
    return scored


def loop_of(project, made, budget=60, settings=None, **annotator):
    return Loop(project, made.plan(project, budget, settings=settings, **annotator))


@pytest.fixture
def project(made, request):
    name = request.node.name.translate(str.maketrans("[]/", "---"))
    with made.project(f"{name}.a2lc") as opened:
        yield opened


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Rounds of the usual plan, run once.

    Attributes:
        one: Folder of a project that has run one.
    """

    one: Path

    def copy(self, name):
        """A project that has run one round."""
        return Project(shutil.copytree(self.one, self.one.parent / name))


@pytest.fixture(scope="session")
def rounds(made):
    with made.project("one.a2lc") as project:
        loop_of(project, made).run(1)
    return Rounds(made.root / "one.a2lc")


@pytest.fixture(scope="session")
def unbroken(made, rounds):
    """What two rounds asked and came to."""
    with rounds.copy("two.a2lc") as project:
        loop_of(project, made).run(2)
        return comes_to(project)


@pytest.fixture(scope="session")
def eighty(made):
    """Folder of a project after two rounds of 80 questions."""
    with made.project("eighty.a2lc") as project:
        loop_of(project, made, budget=80).run(2)
    return made.root / "eighty.a2lc"


def asked_of(project):
    return [
        (q.image, q.mask_ids, q.reason, q.score, q.inclusion_probability, q.suggestions)
        for q in project.ledger.queries()
    ]


def comes_to(project):
    """What was asked, and the labels."""
    return asked_of(project), project.state().classes.tolist()


def found_in(project, number=1):
    (stage,) = [s for s in project.ledger.stages() if (s.round, s.stage) == (number, "correct")]
    return stage.details


# ---- questions ------------------------------------------------------------------------------------------------------


def test_a_round_asks_in_batches_and_ends_with_audits(project, made):
    assert loop_of(project, made, settings={"gold": 0.0, "guarantee": "expected"}).run(1)
    queries = project.ledger.queries(1)
    assert len(queries) == 60
    audits = [q for q in queries if q.reason == Reason.AUDIT]
    chosen = [q for q in queries if q.reason == Reason.ACQUISITION]
    assert len(audits) + len(chosen) == 60 and 25 <= len(audits) <= 30
    assert queries[-1].reason == Reason.AUDIT and [q.reason for q in queries[:30]] == [Reason.ACQUISITION] * 30
    assert all(q.inclusion_probability == 1 for q in chosen)
    assert all(0 < q.inclusion_probability <= 1 for q in audits)
    assert len({q.inclusion_probability for q in audits}) > 5, "drawn with probabilities of their own"
    keys = [(q.image, q.mask_ids) for q in queries]
    assert len(set(keys)) == len(keys)
    for start in range(0, 30, 10):
        scores = [q.score for q in queries[start : start + 10]]
        assert scores == sorted(scores, reverse=True)
    assert all(len(set(q.suggestions)) == len(q.suggestions) for q in queries)


def test_answers_change_what_is_asked_next(project, made):
    loop = loop_of(project, made)
    for stage in ("train", "evaluate", "score", "select"):
        loop.run_stage(stage)
    first = {(q.image, q.mask_ids) for q in project.ledger.queries(1)}
    belief = loop.questioner(1).session.belief
    before = belief.posterior(belief.known())
    loop.run_stage("answer")
    after = belief.posterior(belief.known())
    assert len(first) == 10
    assert np.abs(after - before).max() > 0.2


def check_killed_between_batches(made, start, monkeypatch, calls, last, wanted):
    with start as project:
        folder, loop = project.folder, loop_of(project, made)
        real, left = project.ledger.add_queries, [calls]

        def dying(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        monkeypatch.setattr(project.ledger, "add_queries", dying)
        with pytest.raises(KeyboardInterrupt):
            loop.run(last)
        assert len(project.ledger.queries()) < 60 * last
    with Project(folder) as project:
        assert loop_of(project, made).run(last)
        assert comes_to(project) == wanted


def test_killed_between_batches_it_asks_what_the_same_seed_asks_of_one_that_was_not(made, rounds, monkeypatch):
    """Five lots of questions a round."""
    with Project(rounds.one) as project:
        wanted = comes_to(project)
    check_killed_between_batches(made, made.project("killed.a2lc"), monkeypatch, 3, 1, wanted)


@pytest.mark.slow
@pytest.mark.parametrize("calls", [1, 3, 4, 6, 8, 9])
def test_killed_in_either_of_two_rounds(made, rounds, unbroken, monkeypatch, calls):
    """In the second there are audits enough for a temperature; what is killed there begins with a first that was not."""
    name = f"killed{calls}.a2lc"
    start = rounds.copy(name) if calls > 5 else made.project(name)
    check_killed_between_batches(made, start, monkeypatch, calls - 5 * (calls > 5), 2, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize("gold", [0.0, 0.9])
def test_batches_of_one_ask_as_much(project, made, gold):
    assert loop_of(project, made, settings={"batch": 1, "gold": gold, "guarantee": "expected"}).run(1)
    queries = project.ledger.queries(1)
    assert len(queries) == 60
    assert sum(q.reason != Reason.AUDIT for q in queries) == 30


def test_a_person_answers_batch_by_batch(project, made):
    loop = loop_of(project, made, kind="human")
    assert not loop.run(1), "questions wait"
    seen = set()
    for _ in range(20):
        waiting = project.ledger.queries(1, unanswered=True)
        if not waiting:
            break
        assert not seen & {q.query_id for q in waiting}
        for query in waiting:
            seen.add(query.query_id)
            named = (0,) if query.proposed is None else (query.proposed,)
            kind = AnswerKind.CORRECT if query.proposed is None else AnswerKind.CONFIRM
            assert record_answer(project, Answer(query_id=query.query_id, annotator="eve", kind=kind, classes=named))
        done = loop.run(1)
    assert done and len(seen) == 60


@pytest.mark.slow
def test_grids_cost_clicks_by_what_is_marked_and_never_pass_the_budget(project, made):
    loop = loop_of(project, made, budget=120, settings={"certify": 0.1, "measure": 0.2})
    loop.run(1)
    queries = project.ledger.queries(1)
    clicks = {answer.query_id: (answer, clicks) for answer, clicks in project.ledger.answers(1)}
    grids = {}
    for query in queries:
        assert (query.kind == QueryKind.GRID) == (query.grid is not None)
        if query.grid is not None:
            grids.setdefault(query.grid, []).append(query)
    assert grids and all(4 <= len(tiles) <= 24 for tiles in grids.values())
    marked = 0
    for lead, tiles in grids.items():
        assert lead == tiles[0].query_id and len({tile.suggestions[0] for tile in tiles}) == 1
        assert all(tile.reason == Reason.ACQUISITION for tile in tiles), "audits are asked alone"
        wrong = [tile for tile in tiles if clicks[tile.query_id][0].classes != tile.suggestions[:1]]
        marked += len(wrong)
        assert sum(clicks[tile.query_id][1] for tile in tiles) == 1 + 2 * len(wrong)
    assert marked
    spent = sum(paid for _, paid in clicks.values())
    assert len(queries) > spent and 118 <= spent <= 120
    assert sum(query.reason == Reason.AUDIT for query in queries) >= 30


def test_without_grids_every_mask_is_a_click(project, made):
    loop_of(project, made, budget=40, settings={"grid": 0}).run(1)
    queries = project.ledger.queries(1)
    assert len(queries) == 40 and {query.kind for query in queries} == {QueryKind.CORRECTION}


# ---- changes --------------------------------------------------------------------------------------------------------


def before_correcting(made, name, **plan):
    """Folder of a project whose first round is answered and not yet corrected."""
    with made.project(name) as project:
        loop = loop_of(project, made, **plan)
        while next_stage(project) != (1, "correct"):
            loop.run_stage(next_stage(project)[1])
    return made.root / name


CERTIFIED = {"budget": 150, "settings": {"certify": 0.4, "grid": 0, "anchors": 0.0}}


@pytest.fixture(scope="session")
def answered(made):
    """A round with many audits of proposals, about to be corrected."""
    return before_correcting(made, "session-answered.a2lc", **CERTIFIED)


@pytest.fixture(scope="session")
def certified(made, answered):
    """The same at its end."""
    with copied(made, answered, "certified.a2lc") as project:
        loop_of(project, made, **CERTIFIED).run(1)
    return made.root / "certified.a2lc"


@pytest.fixture
def later(made, certified, request):
    """The test's own project that begins with the round of `certified`."""
    name = request.node.name.translate(str.maketrans("[]/", "---"))
    with copied(made, certified, f"{name}.a2lc") as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [2, 3])
def test_changes_are_what_audits_allow_and_follow_from_first_labels_alone(later, made, rounds):
    project = later
    loop = loop_of(project, made, **CERTIFIED)
    loop.run(rounds)
    asked = np.isin(project.masks.keys, project.ledger.asked_masks())
    numbers = range(1, rounds + 1)
    for number in numbers:
        state = project.state(through=number)
        measured, frozen = (
            getattr(loop.questioner(number).session.certification, name)() for name in ("measured", "frozen")
        )
        wanted = np.full(len(state.classes), FIRST)
        wanted[measured.accepted] = frozen.labels[measured.accepted]
        automatic = state.source == AUTOMATIC
        unseen = ~asked
        np.testing.assert_array_equal(
            np.where(automatic, state.classes, FIRST)[unseen], np.where(unseen, wanted, FIRST)[unseen]
        )
    assert sum(found_in(project, n)["automatic"] for n in numbers) > 0, "the test must see changes"
    status = project_status(project)
    first, last = status["rounds"][0]["data_miou"], status["rounds"][-1]["data_miou"]
    assert last > first + 0.1


@pytest.fixture(scope="session")
def proving(made):
    """A round whose audits prove changes, about to be corrected."""
    return before_correcting(made, "proving.a2lc", budget=200, settings=PROVES)


@pytest.fixture(scope="session")
def proved(made, proving):
    """The same at its end."""
    with copied(made, proving, "proved.a2lc") as project:
        loop_of(project, made, budget=200, settings=PROVES).run(1)
        assert (project.state().source == AUTOMATIC).sum() > 20
    return made.root / "proved.a2lc"


PROVES = {"certify": 0.4, "measure": 0.3, "grid": 0, "anchors": 0.0}
SILENT = {"certify": 0.0, "measure": 0.3, "grid": 0, "anchors": 0.0}  # no audits of proposals: nothing can be proved


def copied(made, proved, name):
    shutil.copytree(proved, made.root / name)
    return Project(made.root / name)


@pytest.mark.slow
def test_what_a_round_proved_stands_while_no_audit_speaks_against_it(made, proved):
    with copied(made, proved, "stands.a2lc") as project:
        before = project.state()
        held = before.source == AUTOMATIC
        loop = loop_of(project, made, budget=60, settings=SILENT)
        for number in (2, 3):
            asked_before = np.isin(project.masks.keys, project.ledger.asked_masks())
            loop.run(number)
            after, details = project.state(through=number), found_in(project, number)
            stand = after.source == AUTOMATIC
            asked = np.isin(project.masks.keys, project.ledger.asked_masks())
            frozen = loop.questioner(number).session.certification.frozen()
            # All of them, but what was asked about and what the posterior takes back.
            wanted = held & ~asked & (frozen.labels == before.classes)
            assert np.array_equal(stand, wanted) and stand.sum() > 10 and not (held & asked_before & stand).any()
            assert (after.classes[stand] == before.classes[stand]).all()
            promise = details["promise"]
            assert (
                promise["accepted"] == 0
                and promise["reason"].startswith("no audits")
                and promise["kept"] == stand.sum()
            )
            assert f"{stand.sum()} from earlier rounds kept" in guarantee_line(details)
            held = stand
        # Taken back by hand, they do not come back.
        assert _main(["undo", str(project.folder), "1", "--source", "automatic"]) == 0
        assert not (project.state().source == AUTOMATIC).any()
        loop.run(4)
        assert not (project.state().source == AUTOMATIC).any()


@pytest.mark.slow
def test_what_someone_leaves_out_is_not_made_and_the_figures_say_so(made, proving):
    found = []
    for name, left_out in (("all", False), ("some", True)):
        with copied(made, proving, f"left-out-{name}.a2lc") as project:
            loop = loop_of(project, made, budget=200, settings=PROVES)
            changes, promise = loop.proposed()
            assert len(changes.rows) > 20 and "mean IoU" in promise
            old, new = loop.old_and_new(changes)
            pair = (int(old[0]), int(new[0]))
            threshold = float(np.median(changes.confidences))
            out = (changes.confidences < threshold) | ((old == pair[0]) & (new == pair[1]))
            loop.correct(threshold=threshold if left_out else 0.0, rejected=[pair] if left_out else [])
            state, details = project.state(), found_in(project)
            assert (state.classes[changes.rows[~out]] == changes.classes[~out]).all()
            assert (state.classes[changes.rows[out]] == (FIRST if left_out else changes.classes[out])).all()
            assert details.get("left_out", 0) == details["promise"].get("left_out", 0) == left_out * out.sum()
            found.append((details["after"], label_quality(project)["true"]["after"]))
    (all_made, all_true), (some_made, some_true) = found
    # The same audits on other labels: what is measured moves as the truth does.
    moved = some_made["pixel_accuracy"]["estimate"] - all_made["pixel_accuracy"]["estimate"]
    assert moved == pytest.approx(some_true["pixel_accuracy"] - all_true["pixel_accuracy"], abs=0.03) and abs(moved) > 0


@pytest.mark.slow
@pytest.mark.parametrize("stricter", [{"min_precision": 0.8}, {"confidence": 0.99}])
def test_what_was_proved_under_a_laxer_promise_does_not_stand_under_a_stricter(made, proved, stricter):
    (name,) = stricter
    with copied(made, proved, f"stricter-{name}.a2lc") as project:
        loop_of(project, made, budget=60, settings=SILENT | stricter).run(2)
        assert found_in(project, 2)["promise"]["kept"] == 0
        assert not (project.state().source == AUTOMATIC).any()


@pytest.mark.slow
def test_what_was_proved_goes_when_audits_speak_against_it(made, proved):
    with copied(made, proved, "against.a2lc") as project:
        certification = loop_of(project, made).questioner(1).session.certification
        audited = certification.measured()
        rows = np.intersect1d(audited.accepted, audited.drawn)
        assert len(rows), "masks accepted and then drawn to measure"
        # Those that proved it, too: what they said counts as it is answered now.
        rows = np.union1d(rows, certification.frozen().drawn[: audited.audits[0]])
        wrong = dict(zip(project.masks.keys[rows].tolist(), project.masks.label[rows].tolist(), strict=True))
        said = {answer.query_id: answer.answer_id for answer, _ in project.ledger.answers()}
        for query in project.ledger.queries(1):
            (key,) = mask_keys(np.array([query.image]), np.array(query.mask_ids)).tolist()
            if key in wrong:
                # The first label was right after all.
                answer = Answer(
                    query_id=query.query_id,
                    annotator="eve",
                    kind=AnswerKind.CORRECT,
                    classes=(wrong[key],),
                    replaces=said[query.query_id],
                )
                assert record_answer(project, answer)
        loop_of(project, made, budget=60, settings=SILENT).run(2)
        assert found_in(project, 2)["promise"]["kept"] == 0
        assert not (project.state().source == AUTOMATIC).any()


@pytest.mark.slow
def test_a_precision_proved_stands_until_audits_speak_against_it(made):
    asked = {"min_precision": 0.4}
    with made.project("precise.a2lc") as project:
        loop_of(project, made, budget=120, settings={"certify": 0.3, "measure": 0.2} | asked).run(1)
        held = int((project.state().source == AUTOMATIC).sum())
        assert held > 10, found_in(project)["promise"]
        loop = loop_of(project, made, budget=60, settings=SILENT | asked)
        loop.run(2)
        kept = int((project.state().source == AUTOMATIC).sum())
        assert held / 3 < kept <= held
        # Half of what a later promise asks for cannot be shown by them.
        loop_of(project, made, budget=60, settings=SILENT | {"min_precision": 0.9}).run(3)
        assert not (project.state().source == AUTOMATIC).any()


@pytest.mark.slow
def test_no_answer_is_ever_changed(made, eighty):
    with copied(made, eighty, "kept.a2lc") as project:
        state = project.state()
        for query, answer in standing_answers(project.ledger):
            row = int(project.masks.rows(np.array([query.image]), np.array(query.mask_ids))[0])
            assert state.source[row] != AUTOMATIC
            if answer.kind == AnswerKind.CORRECT and query.reason != Reason.GOLD:
                assert state.classes[row] == answer.classes[0]


@pytest.mark.slow
def test_labels_without_errors_are_left_alone(made):
    clean = made.root / "clean"
    with made.project("clean-truth.a2lc") as project:
        for image in project.images:
            # Each mask of its most frequent true class, void elsewhere, as right masks are.
            truth, masks = project.truth.pixels(image), project.mask_map(image)
            labels = np.full(truth.shape, 255, dtype=np.uint8)
            for mask in np.unique(masks[masks > 0]):
                labels[masks == mask] = np.bincount(truth[masks == mask]).argmax()
            write_ids(clean / f"{image.image_id}.png", labels)
    with made.project("clean.a2lc", labels=clean) as project:
        loop_of(project, made, budget=80).run(2)
        changed = (project.state().source == AUTOMATIC).sum()
        assert changed <= 0.001 * len(project.masks)
        assert (
            found_in(project)["promise"]["reason"]
            in {"audits do not show a gain", "no audits, as too few could be asked to prove a gain"}
            or not found_in(project)["promise"]["proposed"]
        )
        after = label_quality(project)["after"]["pixel_accuracy"]
        assert after["high"] == pytest.approx(1.0, abs=0.02) and after["low"] > 0.75


@pytest.mark.slow
def test_labels_at_random_are_said_to_tell_nothing(made, capsys):
    random = made.root / "random"
    rng = np.random.default_rng(1)
    for path in sorted((made.root / "scenes" / "labels").rglob("*.png")):
        masks = read_ids(made.root / "scenes" / "masks" / path.relative_to(made.root / "scenes" / "labels"))
        table = rng.integers(0, 8, masks.max() + 1).astype(np.uint8)
        write_ids(
            random / path.relative_to(made.root / "scenes" / "labels"),
            np.where(masks > 0, table[masks], 255).astype(np.uint8),
        )
    with made.project("random.a2lc", labels=random) as project:
        loop_of(project, made, budget=80).run(1)
        agreement = label_quality(project)["agreement"]
        assert agreement["informative"] is False
        folder = project.folder
    assert _main(["status", str(folder)]) == 0
    # By luck of the draw, the audits may find more right than chance would.
    says = "do not yet show that" if agreement["right"] > agreement["chance"] else "no more often than chance"
    assert says in capsys.readouterr().out


def test_too_few_audits_promise_nothing(project, made):
    loop_of(project, made, budget=40, settings={"min_precision": 0.9, "grid": 0, "anchors": 0.0}).run(1)
    promise = found_in(project)["promise"]
    assert promise["kind"] == "precision" and promise["accepted"] == 0 and promise["reason"] == "too few"
    assert not (project.state().source == AUTOMATIC).any()


@pytest.mark.slow
def test_no_audits_change_nothing(project, made):
    loop_of(project, made, settings={"certify": 0.0}).run(1)
    assert found_in(project)["promise"]["accepted"] == 0
    assert "no audits" in found_in(project)["promise"]["reason"]


@pytest.mark.slow
def test_automatic_changes_can_be_switched_off(project, made):
    loop_of(project, made, settings={"automatic": False}).run(1)
    assert found_in(project)["automatic"] == 0 and found_in(project)["promise"]["reason"] == "switched off"
    audits = [q for q in project.ledger.queries(1) if q.reason == Reason.AUDIT]
    assert len(audits) == 15, "no questions are spent on proposals that nobody wants"


@pytest.mark.slow
def test_the_precision_promised_is_reached(project, made):
    loop_of(project, made, budget=200, settings={"min_precision": 0.4, "certify": 0.4, "grid": 0, "anchors": 0.0}).run(
        1
    )
    promise = found_in(project)["promise"]
    assert promise["accepted"] > 0 and promise["lower"] >= 0.4
    row = project_status(project)["rounds"][1]
    assert row["automatic_precision"] >= promise["lower"]


@pytest.mark.slow
def test_taking_back_what_was_changed_leaves_the_answers(later):
    project = later
    by_hand = (project.state().source == SOURCES.index("manual")).sum()
    assert (project.state().source == AUTOMATIC).any()
    folder = project.folder
    project.close()
    assert _main(["undo", str(folder), "1", "--source", "automatic"]) == 0
    with Project(folder) as again:
        assert not (again.state().source == AUTOMATIC).any()
        assert (again.state().source == SOURCES.index("manual")).sum() == by_hand


@pytest.mark.slow
def test_a_preview_writes_nothing_and_says_what_will_be(made, answered):
    with copied(made, answered, "preview.a2lc") as project:
        loop = loop_of(project, made, **CERTIFIED)
        before = len(project.corrections())
        told = loop.preview("correct")
        assert len(project.corrections()) == before
        loop.run_stage("correct")
        rows = project.corrections()
        assert told["total"] == (rows.source == AUTOMATIC).sum() > 0
        assert told["total"] == sum(pair["masks"] for pair in told["pairs"])
        assert all(pair["old"] != pair["new"] and pair["examples"] for pair in told["pairs"])
        with pytest.raises(InputError, match=r"^`preview` works only for the stage correct"):
            loop.preview("train")


# ---- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_figures_hold_the_truth_and_need_none(made, eighty):
    with copied(made, eighty, "figures.a2lc") as project:
        quality = label_quality(project)
        for when in ("before", "after"):
            for name in ("pixel_accuracy", "miou"):
                interval, true = quality[when][name], quality["true"][when][name]
                assert interval["low"] <= true <= interval["high"], (when, name)
                assert interval["low"] <= interval["estimate"] <= interval["high"]
        assert quality["after"]["audits"] >= 20
        assert len(quality["after"]["recall"]) == project.classes.num_classes
        assert label_quality(project, 0) is None and label_quality(project, 1)["round"] == 1
        assert quality["next"]["gain"]["low"] <= quality["next"]["gain"]["estimate"] <= quality["next"]["gain"]["high"]
        folder = project.folder
    # The same without ground truth: nothing of it went into the figures.
    shutil.rmtree(folder / "ground_truth")
    (folder / "tables" / "truth.parquet").unlink()
    with Project(folder) as project:
        blind = label_quality(project)
    assert blind["true"] is None
    assert {**blind, "true": 0} == {**quality, "true": 0}


@pytest.mark.slow
def test_until_ends_a_run(project, made):
    loop = loop_of(project, made, budget=80)
    assert loop.run(9, parse_until("accuracy=0.5"))
    assert project.ledger.rounds()[-1].round == 1
    assert loop.stopped.startswith("after round 1: pixel accuracy at least 0.")
    assert loop.run(2, parse_until("gain<0.0001")) and loop.stopped is None, "never reached: all rounds are run"
    assert project.ledger.rounds()[-1].round == 2


def test_until_needs_audits(project, made):
    loop = loop_of(project, made, settings={"measure": 0.0})
    with pytest.raises(InputError, match=r"^`until` needs audits"):
        loop.run(1, parse_until("accuracy=0.5"))


@pytest.mark.slow
def test_figures_of_labels_taken_back_stop_nothing_and_are_told_so(made, eighty, capsys):
    folder = shutil.copytree(eighty, made.root / "taken-back.a2lc")
    assert _main(["undo", str(folder), "2"]) == 0
    with Project(folder) as again:
        assert label_quality(again)["undone"] and label_quality(again, 1)["undone"]
        assert loop_of(again, made, budget=80).run(3, parse_until("accuracy=0.1"))
        assert again.ledger.rounds()[-1].round == 3, "the rule did not end it on figures of other labels"
        assert not label_quality(again)["undone"]
    capsys.readouterr()


@pytest.mark.slow
def test_what_is_promised_is_less_what_was_asked_about_since(made, proved):
    with copied(made, proved, "promised.a2lc") as project:
        _check_promise(project, loop_of(project, made, budget=200, settings=PROVES))


def _check_promise(project, loop):
    certification = loop.questioner(1).session.certification
    frozen, measured = certification.frozen(), certification.measured()
    accepted = certification.accepted(frozen)
    rows, told = accepted.rows, accepted.guarantee
    gone = np.setdiff1d(measured.accepted, rows)
    assert len(gone), "the test must see masks that were drawn to measure"
    assert not certification.belief.known().asked[rows].any() and told["accepted"] == len(rows)
    posterior = frozen.posteriors(project.classes.num_classes)
    unions, ious = certification.unions(frozen.labels, posterior)
    masks, classes = project.masks, project.classes.num_classes

    def brought(some):
        true = project.truth.table.masks(project.state(through=0), some, classes)[1].argmax(axis=1)
        true = np.where(true == classes, -1, true)
        return effects(masks.area[some], masks.label[some], frozen.labels[some], true, unions, ious).sum() / classes

    assert brought(rows) >= told["lower"]
    # As it was before they were drawn: the same bound of all that was accepted then.
    before = told["lower"] + brought(gone)
    assert before > told["lower"] or brought(gone) <= 0
    assert brought(measured.accepted) >= before > 0


@pytest.mark.slow
def test_answers_that_name_no_class_change_nothing_and_say_so(project, made):
    loop = loop_of(project, made, kind="human")
    rng = np.random.default_rng(0)
    while not loop.run(1):
        for query in project.ledger.queries(1, unanswered=True):
            kind = [AnswerKind.SKIP, AnswerKind.MIXED, AnswerKind.VOID][rng.integers(3)]
            record_answer(project, Answer(query_id=query.query_id, annotator="eve", kind=kind))
    assert project_status(project)["rounds"][1]["finished"]
    unsaid = [q for q, a in standing_answers(project.ledger) if a.kind in {AnswerKind.SKIP, AnswerKind.MIXED}]
    rows = project.masks.rows(np.array([q.image for q in unsaid]), np.array([q.mask_ids[0] for q in unsaid]))
    assert (project.state().classes[rows] == FIRST).all()


# ---- annotators err -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_error_rate_is_found_by_asking_again_and_the_labels_still_improve(project, made):
    loop_of(project, made, budget=150, settings={"gold": 0.3}, error_rate=0.1).run(2)
    gold = [q for q in project.ledger.queries() if q.reason == Reason.GOLD]
    assert len(gold) > 20 and all(0 < q.inclusion_probability <= 1 for q in gold)
    assert 0.01 < label_quality(project)["error_rate"] < 0.3
    rounds = project_status(project)["rounds"]
    assert rounds[-1]["data_miou"] > rounds[0]["data_miou"] + 0.1


@pytest.mark.slow
def test_without_errors_nobody_is_said_to_err(project, made):
    loop_of(project, made, budget=150, settings={"gold": 0.3}).run(1)
    assert label_quality(project)["error_rate"] == 0 and label_quality(project)["gold"] >= 8


@pytest.mark.slow
def test_disputed_answers_are_asked_a_third_time(project, made):
    loop = loop_of(project, made, budget=200, settings={"gold": 0.3}, error_rate=0.3)
    loop.run(1)
    said = {}
    for query, _ in standing_answers(project.ledger):
        said.setdefault((query.image, query.mask_ids), []).append(query.query_id)
    times = [len(ids) for ids in said.values()]
    assert max(times) == 3 and times.count(2) > 3
    assert (loop.questioner(1).session.belief.known().truth != UNKNOWN).sum() == len(said)


# ---- features of one's own ------------------------------------------------------------------------------------------


def test_embeddings_from_files_are_used(project, made, tmp_path):
    for image in project.images:
        truth = project.truth.pixels(image)[::8, ::8].astype(int)
        np.save(tmp_path / f"{image.image_id}.npy", np.eye(256, dtype=np.float32)[truth].transpose(2, 0, 1)[:9])
    shutil.rmtree(project.folder / "tables" / "features")  # they stand in for them
    loop = loop_of(project, made, settings={"embeddings": str(tmp_path)})
    for stage in ("train", "evaluate", "score"):
        loop.run_stage(stage)
    plain = loop_of(project, made)
    with_them, without = (one.questioner(1).session.belief.pool.features for one in (loop, plain))
    assert with_them.base.shape[1] == without.base.shape[1] + 9


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda path: path.unlink(), MissingFileError, r"no embedding of image .*; expected .*\.npy"),
        (lambda path: path.write_bytes(b"no"), ImageFileError, "not a plain NumPy array"),
        (
            lambda path: np.save(path, np.zeros((3, 4))),
            ImageFileError,
            r"expected floats \(D, h, w\), found float64 \(3, 4\)",
        ),
        (lambda path: np.save(path, np.full((3, 4, 4), np.nan)), ImageFileError, "contains values that are not finite"),
        (lambda path: np.save(path, np.zeros((5, 4, 4))), ImageFileError, "5 features, but the files before it have 3"),
    ],
)
def test_bad_embeddings_are_named(project, made, tmp_path, spoil, error, message):
    for image in project.images:
        np.save(tmp_path / f"{image.image_id}.npy", np.zeros((3, 4, 4), dtype=np.float32))
    spoil(tmp_path / f"{project.images[1].image_id}.npy")
    loop = loop_of(project, made, settings={"embeddings": str(tmp_path)})
    for stage in ("train", "evaluate", "score"):
        loop.run_stage(stage)
    with pytest.raises(error, match=message):
        loop.run_stage("select")


def test_looks_of_other_masks_are_made_anew(project, made):
    loop = loop_of(project, made)
    first, _ = loop.questioner(1).session.source.appearance()
    path = project.folder / "tables" / "appearance.parquet"
    assert path.is_file()
    again, _ = loop.questioner(1).session.source.appearance()
    np.testing.assert_array_equal(first, again)
    from a2lc.audits.tables import AppearanceTable

    table = AppearanceTable.load(path)
    others = dataclasses.replace(table, area=table.area + 1, looks=table.looks * 0)
    others.save(path)
    np.testing.assert_array_equal(loop.questioner(1).session.source.appearance()[0], first)


# ---- what corrections rest on ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def dialled(made):
    """Folders of projects after two rounds, by guarantee; three audits a round prove nothing."""
    folders = {}
    for guarantee in ("expected", "none"):
        with made.project(f"dialled-{guarantee}.a2lc") as project:
            loop_of(project, made, settings={"guarantee": guarantee, "certify": 0.05}).run(2)
            folders[guarantee] = project.folder
    return folders


@pytest.mark.slow
def test_what_is_expected_to_help_is_made_and_marked(dialled):
    with Project(dialled["expected"]) as project:
        promise = found_in(project, 2)["promise"]
        state = project.state()
        bare = not_proven(project, state)
        assert promise["not_proven"] == bare.sum() > 0 and promise["expected"] > 0
        assert (state.source[bare] == AUTOMATIC).all()
        line = guarantee_line(found_in(project, 2))
        assert f"{promise['not_proven']} corrections are made that are not proven to help" in line
        assert "expected by posterior and audits" in line
        assert any(query.reason == Reason.AUDIT for query in project.ledger.queries(2))


@pytest.mark.slow
def test_without_a_guarantee_no_question_goes_into_a_proof(dialled):
    with Project(dialled["none"]) as project, Project(dialled["expected"]) as expecting:
        audits = [query for query in project.ledger.queries(1) if query.reason == Reason.AUDIT]
        usual = [query for query in expecting.ledger.queries(1) if query.reason == Reason.AUDIT]
        assert 0 < len(audits) <= 16 < len(usual), "those that measure the labels remain"
        promise = found_in(project, 2)["promise"]
        assert promise["accepted"] == 0 and promise["not_proven"] == not_proven(project, project.state()).sum() > 0
        assert "no proof was asked for" in guarantee_line(found_in(project, 2))
        assert "the posterior alone" in guarantee_line(found_in(project, 2))


@pytest.mark.slow
def test_what_is_proven_is_never_marked(made, eighty):
    with Project(shutil.copytree(eighty, made.root / "unmarked.a2lc")) as project:
        state = project.state()
        assert (state.source == AUTOMATIC).any(), "the test must see corrections"
        assert not not_proven(project, state).any()
        assert "not_proven" not in found_in(project, 2)["promise"]


def test_an_unknown_guarantee_is_refused(project, made):
    with pytest.raises(UnknownNameError, match="expected"):
        loop_of(project, made, settings={"guarantee": "expceted"})


@pytest.mark.slow
def test_an_export_can_leave_out_what_is_not_proven(dialled, tmp_path):
    folder = dialled["expected"]
    assert _main(["export", str(folder), "--out", str(tmp_path / "all")]) == 0
    assert _main(["export", str(folder), "--out", str(tmp_path / "proven"), "--proven-only"]) == 0
    rows = {}
    for name in ("all", "proven"):
        with (tmp_path / name / "changes.csv").open(encoding="utf-8", newline="") as file:
            rows[name] = {(row["image_id"], row["mask_id"]): row["proven"] for row in csv.DictReader(file)}
    with Project(folder) as project:
        bare = np.flatnonzero(not_proven(project, project.state()))
        masks = project.masks
        left_out = {(project.images[masks.image[m]].image_id, str(masks.mask_ids[m])) for m in bare}
        assert left_out and {key for key, proven in rows["all"].items() if proven == "no"} == left_out
        assert "no" not in rows["proven"].values() and set(rows["all"]) - set(rows["proven"]) == left_out
        image = project.images[masks.image[bare[0]]]
        inside = project.mask_map(image) == masks.mask_ids[bare[0]]
        first = read_ids(next((tmp_path / "proven").rglob(f"labels/**/{image.image_id}.png")))[inside]
        assert (first == project.raw_labels(image)[inside]).all()
        changed = read_ids(next((tmp_path / "all").rglob(f"labels/**/{image.image_id}.png")))[inside]
        assert (changed != first).any()


@pytest.mark.slow
def test_the_command_takes_the_guarantee(made, capsys):
    with made.project("commanded.a2lc") as project:
        made.plan(project, 60)
        folder = project.folder
    assert _main(["run", str(folder), "--rounds", "1", "--guarantee", "none"]) == 0
    assert "no proof was asked for" in capsys.readouterr().out
    assert _main(["run", str(folder), "--rounds", "2", "--guarantee", "proven", "--method", "alc"]) == 2
    assert "--guarantee needs a method that audits" in capsys.readouterr().err


@pytest.mark.slow
def test_what_an_undone_round_proved_is_not_proven(made, eighty):
    with Project(shutil.copytree(eighty, made.root / "unproven.a2lc")) as project, project.lock():
        state = project.state()
        assert (state.source == AUTOMATIC).any() and not not_proven(project, state).any()
        for number in (1, 2):
            take_back(project, number, "manual")
        left = project.state()
        automatic = left.source == AUTOMATIC
        assert automatic.any() and (not_proven(project, left) == automatic).all()
        assert not not_proven(project, state, through=2).any(), "at the end of the round it was"
