"""Methods that ask in batches without audits: what they see between batches, and what a round does with them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from a2lc.errors import ConfigError, UnknownNameError
from a2lc.methods import METHODS, BatchMethod, create_method
from a2lc.methods.base import PoolSpec, QuerySpec
from a2lc.methods.batches import PlainSession
from a2lc.project.project import Project
from a2lc.records import Changes, QueryKind
from a2lc.rounds.context import Context
from a2lc.rounds.loop import Loop
from a2lc.rounds.source import ProjectSource
from a2lc.rounds.status import project_status

SEEN = []


@dataclass(frozen=True, kw_only=True)
class Watching(BatchMethod):
    """Asks about small masks first, and notes what it was shown."""

    pool: ClassVar[PoolSpec] = PoolSpec(whole=True)
    batch: int = 4

    def columns(self):
        return frozenset({"area"})

    def score(self, view):
        SEEN.append(view)
        return -view.stats.area.astype(float)


@dataclass(frozen=True, kw_only=True)
class Correcting(Watching):
    """Gives every mask without an answer the class that was answered last."""

    pool: ClassVar[PoolSpec] = PoolSpec()

    @property
    def corrects(self):
        return True

    def propagate(self, view, answered, classes):
        rows = np.flatnonzero(~view.asked & (view.current != classes[-1]))[:7]
        return Changes(rows=rows, classes=np.full(len(rows), classes[-1]), confidences=np.linspace(0.5, 0.9, len(rows)))


@dataclass(frozen=True, kw_only=True)
class Pixelwise(Watching):
    """Asks about pixels."""

    @property
    def query(self):
        return QuerySpec(kind=QueryKind.PIXEL)


@dataclass(frozen=True, kw_only=True)
class Totalled(Watching):
    """Needs sums over the pool."""

    pool: ClassVar[PoolSpec] = PoolSpec(totals=True)


@dataclass(frozen=True, kw_only=True)
class Misspelt(Watching):
    """Reads a column that there is not."""

    def columns(self):
        return frozenset({"areas"})


@dataclass(frozen=True, kw_only=True)
class Undeclared(Watching):
    """Reads a column that it does not declare, though the session does."""

    def score(self, view):
        return view.stats.prob_sums[:, 0]


@pytest.fixture(autouse=True)
def own_methods():
    known = dict(METHODS)
    for method in (Watching, Correcting, Pixelwise, Totalled, Misspelt, Undeclared):
        method.name = method.__name__.lower()
        METHODS[method.name] = method
    SEEN.clear()
    yield
    METHODS.clear()
    METHODS.update(known)


@pytest.fixture
def project(few_scored, tmp_path):
    with Project(few_scored.copy(tmp_path / "few.a2lc")) as project:
        yield project


def loop_of(few_scored, project, method, budget=10, **settings):
    return Loop(project, few_scored.plan(project, budget, method=method, settings=settings))


def test_each_batch_sees_the_answers_to_those_before(few_scored, project):
    loop_of(few_scored, project, "watching").run(1)
    queries = project.ledger.queries(1)
    assert [int(view.asked.sum()) for view in SEEN] == [0, 4, 8]
    masks = project.masks
    rows = masks.rows(*np.array([(query.image, query.mask_ids[0]) for query in queries]).T)
    assert len(set(rows.tolist())) == 10
    assert np.flatnonzero(SEEN[2].asked).tolist() == sorted(rows[:8].tolist())
    # What was answered shows as the current class, and its pixels no longer count as unasked.
    np.testing.assert_array_equal(SEEN[2].current[rows[:8]], masks.current(project.state())[rows[:8]])
    counted = [int(view.pixels_per_class.sum()) + view.void_pixels for view in SEEN]
    assert counted[0] - counted[1] == masks.area[rows[:4]].sum()
    # All batches together are what one look at unchanging scores would ask.
    assert masks.area[rows].tolist() == sorted(masks.area.tolist())[:10]


def test_a_second_round_asks_nothing_twice(few_scored, project):
    loop_of(few_scored, project, "watching", budget=6).run(2)
    asked = [(query.image, query.mask_ids) for query in project.ledger.queries()]
    assert len(asked) == len(set(asked)) == 12
    assert int(SEEN[2].asked.sum()) == 6


def test_an_interrupted_round_goes_on_with_the_same_queries(few_scored, project, tmp_path):
    def asked(project):
        return [(query.image, query.mask_ids, query.score, query.suggestions) for query in project.ledger.queries(1)]

    loop_of(few_scored, project, "watching").run(1)
    with Project(few_scored.copy(tmp_path / "again.a2lc")) as again:
        loop = loop_of(few_scored, again, "watching")
        for stage in ("train", "evaluate", "score", "select"):
            loop.run_stage(stage)
        answers = again.ledger.add_answers

        def killed(*arguments, **options):
            answers(*arguments, **options)
            raise RuntimeError("killed")

        again.ledger.add_answers = killed
        with pytest.raises(RuntimeError, match="killed"):
            loop.run_stage("answer")
        again.ledger.add_answers = answers
        assert len(again.ledger.queries(1)) == 4
        loop_of(few_scored, again, "watching").run(1)
        assert asked(again) == asked(project)


def test_people_who_answer_together_do_not_wait(few_scored, project):
    loop = loop_of(few_scored, project, "watching")
    for stage in ("train", "evaluate", "score", "select"):
        loop.run_stage(stage)
    questioner = loop.questioner(1)
    assert questioner.in_batches and questioner.asks_freely
    project.ledger.add_queries(1, questioner.free(3))
    assert len(project.ledger.queries(1)) == 8
    # Whole batches, but never more than the round may ask; what waits for an answer teaches nothing.
    project.ledger.add_queries(1, questioner.free(5))
    assert len(project.ledger.queries(1)) == 10 and not questioner.asks_freely and questioner.free(1) == []
    assert all(not view.asked.any() for view in SEEN)


def test_what_is_propagated_is_recorded_without_a_guarantee(few_scored, project):
    loop = loop_of(few_scored, project, "correcting")
    for stage in ("train", "evaluate", "score", "select"):
        loop.run_stage(stage)
    changes, note = loop.questioner(1).preview(project.state())
    assert (len(changes.rows), note) == (0, "Some answers of the round are still missing.")
    loop.run_stage("answer")
    changes, guarantee = loop.proposed()
    assert len(changes.rows) == 7 and guarantee == "Method correcting gives no guarantee for them."
    result = loop.correct(threshold=0.6)
    assert result.summary == "5 automatic corrections, 2 excluded in review"
    assert project_status(project)["rounds"][1]["automatic_changed"] == 5
    assert "promise" not in result.details and result.details["automatic"] == 5


def test_a_method_that_corrects_nothing_records_nothing(few_scored, project):
    lines = []
    loop = loop_of(few_scored, project, "watching")
    loop.on_stage = lambda result: lines.append(result.summary)
    loop.run(1)
    assert "this method makes no automatic corrections" in lines
    assert "4 questions in the first batch" in lines
    assert project_status(project)["rounds"][1]["automatic_changed"] == 0


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("pixelwise", ConfigError, "'pixelwise': batches ask for the class of a mask"),
        ("totalled", ConfigError, "'totalled': batches need a `pool` without `totals`"),
        ("misspelt", UnknownNameError, "column of method 'misspelt'.*Did you mean 'area'"),
        ("undeclared", ConfigError, "reads the column 'prob_sums', which `columns` does not name"),
    ],
)
def test_what_batches_cannot_do_is_refused(few_scored, project, method, error, message):
    with pytest.raises(error, match=message):
        loop_of(few_scored, project, method).run(1)


def test_a_batch_has_at_least_one_query():
    with pytest.raises(ConfigError, match=r"method.batch is 0; expected at least 1"):
        create_method("watching", {"batch": 0})


def test_without_a_model_the_first_round_asks_at_random(few_scored, project, monkeypatch):
    monkeypatch.setattr(Context, "is_warm_up", lambda self, round_index: round_index == 1)
    loop_of(few_scored, project, "watching").run(1)
    assert SEEN == [] and len(project.ledger.queries(1)) == 10


def test_a_subclass_may_choose_its_own_batches(few_scored, project, monkeypatch):
    class OneAnImage(PlainSession):
        def next_questions(self):
            found = {query.image: query for query in reversed(self._best(self.questions))}
            asked = {query.image for query in self.source.queries(self.round_index)}
            return [query for image, query in sorted(found.items()) if image not in asked]

    def session(self, source, round_index, *, seed, questions):
        assert isinstance(source, ProjectSource)
        return OneAnImage(self, source, round_index, seed=seed, questions=questions, batch=1)

    monkeypatch.setattr(Watching, "session", session)
    loop_of(few_scored, project, "watching", budget=150).run(1)
    assert sorted(query.image for query in project.ledger.queries(1)) == list(range(len(project.images)))
