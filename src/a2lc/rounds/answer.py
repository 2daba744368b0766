"""Stage `answer`: let the simulated annotator answer, or see whether people have answered all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from a2lc.errors import PoolExhaustedError
from a2lc.ledger.replay import MaskState
from a2lc.records import Answer, AnswerKind, Query, QueryKind, Reason
from a2lc.rounds.context import Context
from a2lc.rounds.oracle import Oracle, Seen
from a2lc.rounds.questioner import Questioner
from a2lc.rounds.recorder import corrections_of
from a2lc.rounds.result import StageResult

__all__ = ["run"]

Row = tuple[Answer, float, list[tuple[int, int, int, int]]]
"""An answer, its clicks, and the corrections that follow from it."""


def run(context: Context, round_index: int, questioner: Questioner) -> StageResult:
    """Record the simulated annotator's answers; a person's arrive on their own."""
    began = time.perf_counter()
    work = _in_batches if questioner.in_batches else _at_once
    return work(context, round_index, questioner, began)


def _in_batches(context: Context, round_index: int, questioner: Questioner, began: float) -> StageResult:
    """Answer batch after batch, each in one transaction."""
    project = context.project
    while True:
        waiting = project.ledger.queries(round_index, unanswered=True)
        if waiting and context.plan.annotator.kind == "human":
            return _waits(round_index, began, f"{len(waiting)} questions are waiting for answers.")
        if waiting:
            state = project.state()
            rows: list[Row] = []
            for query, answer, clicks in _replies(context, round_index, waiting, state):
                given = answer()
                rows.append((given, clicks, corrections_of(project, query, given, state.classes)))
            project.ledger.add_answers(round_index, rows)
        more = questioner.more()
        if not more:
            break
        project.ledger.add_queries(round_index, more)
    answers = project.ledger.answers(round_index)
    spent = float(sum(clicks for _, clicks in answers))
    changed = sum(answer.kind != AnswerKind.CONFIRM for answer, _ in answers)
    audits = sum(query.reason == Reason.AUDIT for query in project.ledger.queries(round_index))
    summary = f"{len(answers)} answers, {audits} of them audits, {spent:g} clicks, {changed} corrected"
    details = {"answers": len(answers), "clicks": spent, "budget": context.plan.budget}
    return _finish(context, round_index, began, details, summary)


def _at_once(context: Context, round_index: int, questioner: Questioner, began: float) -> StageResult:
    """Answer queries that were all chosen before, as far as the budget pays for them."""
    project, plan, query_spec = context.project, context.plan, context.method.query
    priced = query_spec.priced_by_answer
    waiting = project.ledger.queries(round_index, unanswered=True)
    answers = project.ledger.answers(round_index)
    spent = float(sum(clicks for _, clicks in answers))
    if plan.annotator.kind == "human":
        if waiting and not (priced and spent + 1e-9 >= plan.budget):
            if priced:
                return _waits(
                    round_index,
                    began,
                    f"{spent:g} of {plan.budget:g} clicks are spent; questions are waiting for answers.",
                )
            total = len(waiting) + len(answers)
            return _waits(round_index, began, f"{len(waiting)} of {total} questions are waiting for answers.")
        details: dict[str, Any] = {"answers": len(answers), "clicks": spent}
        return _finish(context, round_index, began, details, f"{len(answers)} answers")
    state = project.state()
    rows: list[Row] = []
    cheapest = float("inf")
    for query, answer, clicks in _replies(context, round_index, waiting, state):
        if priced and not query_spec.overshoots and spent + clicks > plan.budget + 1e-9:
            if rows or answers:
                break
            cheapest = min(cheapest, clicks)
            continue  # the first that the budget pays for
        given = answer()
        rows.append((given, clicks, corrections_of(project, query, given, state.classes)))
        spent += clicks
        if priced and spent + 1e-9 >= plan.budget + (1e-6 if query_spec.overshoots else 0):
            break
    if waiting and not rows and not answers:
        raise PoolExhaustedError(
            f"A budget of {plan.budget:g} clicks pays for none of the {len(waiting)} questions; the cheapest answer "
            f"costs {cheapest:g}. Raise `budget`."
        )
    details = {"answers": len(rows) + len(answers), "clicks": spent, "budget": plan.budget}
    seconds = time.perf_counter() - began
    project.ledger.add_answers(round_index, rows, stage=(seconds, details))
    changed = sum(bool(corrections) for _, _, corrections in rows)
    return StageResult(
        stage="answer",
        round_index=round_index,
        seconds=seconds,
        summary=f"{details['answers']} answers, {spent:g} clicks, {changed} corrected",
        details=details,
    )


def _waits(round_index: int, began: float, summary: str) -> StageResult:
    seconds = time.perf_counter() - began
    return StageResult(stage="answer", round_index=round_index, seconds=seconds, summary=summary, complete=False)


def _finish(context: Context, round_index: int, began: float, details: dict[str, Any], summary: str) -> StageResult:
    seconds = time.perf_counter() - began
    context.project.ledger.finish_stage(round_index, "answer", seconds, details)
    return StageResult(stage="answer", round_index=round_index, seconds=seconds, summary=summary, details=details)


def _replies(
    context: Context, round_index: int, queries: Sequence[Query], state: MaskState
) -> Iterator[tuple[Query, Callable[[], Answer], float]]:
    """Yield the simulated annotator's replies in the order of the queries, with their clicks; each is made when taken."""
    project = context.project
    oracle = Oracle(
        num_classes=project.classes.num_classes,
        error_rate=context.plan.annotator.error_rate,
        seed=context.seed(round_index),
        gate=context.method.query.gated,
    )
    by_table = {QueryKind.CORRECTION, QueryKind.GRID, QueryKind.DOMINANT}
    asked = [query for query in queries if query.kind in by_table]
    replies = dict(zip(asked, oracle.answer(asked, project.masks, context.truth.table, state), strict=True))
    looked: dict[Query, Seen] = {}
    # An image is read once, however many queries there are about it.
    for index in sorted({query.image for query in queries if query.kind not in by_table}):
        image = project.images[index]
        mask_map, truth = project.mask_map(image), context.truth.pixels(image)
        labels = project.corrected_labels(image, state, mask_map=mask_map)
        mine = [query for query in queries if query.image == index and query.kind not in by_table]
        seen_here = oracle.look(mine, mask_map, truth, labels, project.classes.ignore_index)
        looked |= dict(zip(mine, seen_here, strict=True))
    for query in queries:
        seen = looked[query] if query in looked else Seen(answer=replies[query])
        given = replace(seen.answer, in_grid=query.grid is not None)
        clicks = context.cost.of_reply(query, given)
        yield (
            query,
            partial(_with_pixels, context, oracle, query, given),
            clicks if seen.clicks is None else seen.clicks,
        )


def _with_pixels(context: Context, oracle: Oracle, query: Query, answer: Answer) -> Answer:
    """Return an answer, with its pixel-level labels written down where it is a precise one."""
    if query.kind != QueryKind.PRECISE:
        return answer
    project = context.project
    image = project.images[query.image]
    mask_map, truth = project.mask_map(image), context.truth.pixels(image)
    drawn = oracle.draw(query, mask_map, truth, project.classes.ignore_index)
    return replace(answer, pixels=project.write_answered_pixels(drawn))
