"""The draws of all rounds of a session in memory, and a posterior without each mask's own answer."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from a2lc.audits.annotators import PRIOR
from a2lc.audits.evidence import gather
from a2lc.audits.memory import MemorySource
from a2lc.audits.session import Session
from a2lc.classes.sentinels import UNKNOWN
from a2lc.records import Answer, AnswerKind, Reason
from a2lc.rounds.loop import Loop
from a2lc.rounds.source import ProjectSource
from a2lc.statistics.mask_stats import LAYOUT
from a2lc.statistics.store import joined


@pytest.fixture(scope="module")
def played(scored):
    """Two rounds of 60 questions, answered with the most frequent true class by two people in turn."""
    with scored.project("evidence.a2lc") as project:
        loop = Loop(project, scored.plan(project))
        for stage in ("train", "evaluate", "score"):
            loop.run_stage(stage)
        folder = ProjectSource(loop.context, 1)
        stats, _ = next(joined(loop.context.statistics(1).read(frozenset(LAYOUT))))
        looks, near = folder.appearance()
        classes = project.classes.num_classes
        source = MemorySource(project.masks, stats, looks, near, num_classes=classes, seed=project.config.seed)
        truth = project.truth.table
        votes = np.zeros((len(project.masks), classes))
        inside = (truth.row >= 0) & (truth.truth >= 0)
        np.add.at(votes, (truth.row[inside], truth.truth[inside]), truth.pixels[inside])
        true = votes.argmax(axis=1)
        settings = dataclasses.replace(loop.method, gold=0.1, guarantee="expected")
    for number in (1, 2):
        session = Session(source, settings, number, seed=number, questions=60)
        while queries := session.next_questions():
            for query in source.ask(queries):
                row = source.masks.rows([query.image], query.mask_ids)
                said = Answer(
                    query_id=query.query_id,
                    annotator=("ann", "bob")[query.query_id % 2],
                    kind=AnswerKind.CORRECT,
                    classes=(int(true[row[0]]),),
                )
                source.answer(query, said)
        source.change(session.changes(source.state()))
    return session, true


def evidence_of(session):
    certification = session.certification
    frozen, measured, known = certification.frozen(), certification.measured(), session.belief.known()
    return gather(certification, frozen, measured, known, frozen.posteriors(session.source.num_classes)), known


def test_draws_of_both_rounds_are_there(played):
    session, _ = played
    evidence, known = evidence_of(session)
    asked = {row for draws in evidence.drawn for row in draws.rows.tolist()}
    masks = session.source.masks
    audits = [q for number in (1, 2) for q in session.source.queries(number) if q.reason == Reason.AUDIT]
    rows = masks.rows([q.image for q in audits], [q.mask_ids[0] for q in audits])
    assert asked == set(rows.tolist()) and len(evidence.drawn) == 4
    assert [draws.replaced for draws in evidence.drawn] == [False] * 4
    for draws in evidence.drawn:
        assert draws.expected.sum() == pytest.approx(len(draws.rows), rel=1e-6)
    for changed in (False, True):
        given = evidence.draws(masks.label, changed=changed)
        total = sum(draws.share for draws in given)
        assert (total <= 1 + 1e-12).all() and total.max() > 0
        if changed:
            assert (total[evidence.proposed] == 0).all()
    assert (evidence.before & (known.truth == UNKNOWN)).sum() == 0


def test_an_answer_is_left_out_of_what_is_predicted_for_it(played):
    session, _ = played
    known = session.belief.known()
    found = session.belief.left_out(known)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    # Was another class named, the prediction for this mask stays as it is, and others change.
    row = known.rows[5]
    other = known.truth.copy()
    other[row] = (other[row] + 1) % session.source.num_classes
    changed = session.belief.left_out(dataclasses.replace(known, truth=other))
    np.testing.assert_array_equal(changed[5], found[5])
    assert np.abs(changed - found).max() > 1e-4


def test_people_and_repeats_are_known(played):
    session, _ = played
    known = session.belief.known()
    assert known.repeats.num_people == 2 and set(known.person.tolist()) == {0, 1}
    assert known.confirmed.sum() == len(known.checked) > 0
    assert (known.factors[known.confirmed] == 0).all() and (known.factors[~known.confirmed] > 0).all()
    # All repeats agree: fits and guarantees take answers for right, intervals know that few were seen.
    assert not known.shows_errors and known.error_rate == 0 == known.most_errors(0.01) and not known.wrong.any()
    assert 0 < known.noise().rates.mean() < PRIOR[0] / sum(PRIOR)


def test_figures_hold_the_truth(played):
    session, true = played
    found = session.findings()
    masks = session.source.masks
    exact = masks.area[masks.label == true].sum() / masks.area[masks.label >= 0].sum()
    ends = found["before"]["pixel_accuracy"]
    assert ends["low"] <= exact <= ends["high"] and found["promise"]["wrong_answers"] == 0
    assert session.findings() == found
