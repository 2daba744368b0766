"""The first questions of gain where neither a label nor an answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from a2lc.audits.memory import MemorySource
from a2lc.audits.session import Session
from a2lc.classes.sentinels import VOID
from a2lc.methods.gain import Gain
from a2lc.records import Answer, AnswerKind
from a2lc.rounds.loop import Loop
from a2lc.rounds.source import ProjectSource
from a2lc.statistics.mask_stats import LAYOUT
from a2lc.statistics.store import joined


@pytest.fixture(scope="module")
def read(scored):
    """Masks, statistics, appearance, borders and number of classes of a scored project."""
    with scored.project("first.a2lc") as project:
        loop = Loop(project, scored.plan(project))
        for stage in ("train", "evaluate", "score"):
            loop.run_stage(stage)
        stats, _ = next(joined(loop.context.statistics(1).read(frozenset(LAYOUT))))
        looks, near = ProjectSource(loop.context, 1).appearance()
        return project.masks, stats, looks, near, project.classes.num_classes


class ByGainAlone(Session):
    """Begins as it goes on."""

    def _knows_nothing(self, known):
        return False


def sessions_on(read, *, labels):
    masks, stats, looks, near, classes = read
    if not labels:
        nothing = np.full(len(masks), VOID, dtype=np.int32)
        masks = replace(masks, label=nothing, pair_label=np.full_like(masks.pair_label, VOID))
        stats = replace(stats, prob_sums=np.repeat(stats.area[:, None] / classes, classes, axis=1).astype(np.float32))
    method = Gain(batch=10, random_features=32, gold=0.0)
    sources = [MemorySource(masks, stats, looks, near, num_classes=classes) for _ in range(2)]
    kinds = (Session, ByGainAlone)
    return [kind(source, method, 1, seed=3, questions=60) for kind, source in zip(kinds, sources, strict=True)]


def rows_of(session, queries):
    return session.source.masks.rows([query.image for query in queries], [query.mask_ids[0] for query in queries])


def test_where_nothing_is_known_the_first_questions_are_spread(read):
    spread, plain = sessions_on(read, labels=False)
    looks = spread.belief.pool.features.base

    def reach(session):
        """Mean distance of all masks to the nearest one asked about."""
        rows = rows_of(session, session.next_questions())
        assert len(set(rows.tolist())) == 10
        return np.linalg.norm(looks[:, None] - looks[rows][None], axis=2).min(axis=1).mean()

    assert reach(spread) < 0.95 * reach(plain)


def test_masks_that_wait_for_an_answer_are_not_asked_about_twice(read):
    session, _ = sessions_on(read, labels=False)
    first = session.source.ask(session.next_questions())
    more = session.free_questions(20)
    rows = rows_of(session, [*first, *more])
    assert len(more) == 20 and len(set(rows.tolist())) == 30


def test_after_an_answer_questions_are_chosen_by_gain(read):
    one, two = sessions_on(read, labels=False)
    asked = two.next_questions()
    for session in (one, two):
        for query in session.source.ask(asked):
            said = (query.mask_ids[0] % 3,)
            answer = Answer(query_id=query.query_id, annotator="eve", kind=AnswerKind.CORRECT, classes=said)
            session.source.answer(query, answer)
    assert one.next_questions() == two.next_questions()


def test_with_labels_the_first_questions_are_those_of_highest_gain(read):
    spread, plain = sessions_on(read, labels=True)
    assert spread.next_questions() == plain.next_questions()
