"""Queries and answers in the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from a2lc.errors import AlreadyAnsweredError
from a2lc.ledger import schema
from a2lc.ledger.engine import LedgerFile, add_stage, inserted_key, utc_now
from a2lc.records import Answer, AnswerKind, Query, QueryKind, Reason, Source, numbered
from a2lc.statistics.keys import mask_keys

__all__ = ["QuestionRows"]


class QuestionRows(LedgerFile):
    """Rows of queries, answers and annotators."""

    def add_queries(
        self,
        number: int,
        queries: Sequence[Query],
        seconds: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Record questions of a round, in one transaction.

        Args:
            number: The round.
            queries: In the order they are to be asked.
            seconds: Of the selection, which ends with them; None where it has ended and these are asked on top.
            details: Of the selection.
        """
        with self._write() as connection:
            first = (connection.execute(select(func.max(schema.queries.c.id))).scalar_one() or 0) + 1
            recorded = numbered(queries, first)
            if recorded:
                connection.execute(
                    schema.queries.insert(),
                    [
                        {
                            "id": q.query_id,
                            "round": number,
                            "image": q.image,
                            "proposed": self._coded(q.proposed),
                            "suggestions": json.dumps([self._coded(one) for one in q.suggestions]),
                            "score": q.score,
                            "reason": q.reason.value,
                            "inclusion_probability": q.inclusion_probability,
                            # That it is shown in a grid is said by the number of the grid.
                            "kind": (QueryKind.CORRECTION if q.kind == QueryKind.GRID else q.kind).value,
                            "pixel": q.pixel,
                            "grid": q.grid,
                        }
                        for q in recorded
                    ],
                )
                connection.execute(
                    schema.query_masks.insert(),
                    [{"query": q.query_id, "mask_id": mask, "image": q.image} for q in recorded for mask in q.mask_ids],
                )
            if seconds is not None:
                add_stage(connection, number, "select", seconds, details or {})

    def queries(self, number: int | None = None, *, unanswered: bool = False, after: int = 0) -> list[Query]:
        """Return the queries of a round, or of all, in the order they are to be asked; only those recorded after `after`."""
        table = schema.queries
        statement = select(table).where(table.c.id > after).order_by(table.c.id)
        if number is not None:
            statement = statement.where(table.c.round == number)
        if unanswered:
            statement = statement.where(~table.c.id.in_(select(schema.answers.c.query)))
        with self._read() as connection:
            masks: dict[int, tuple[int, ...]] = {}
            chosen = select(statement.subquery().c.id)
            for query, mask in connection.execute(
                select(schema.query_masks.c.query, schema.query_masks.c.mask_id)
                .where(schema.query_masks.c.query.in_(chosen))
                .order_by(schema.query_masks.c.query, schema.query_masks.c.mask_id)
                .execution_options(yield_per=10_000)
            ):
                masks[query] = (*masks.get(query, ()), mask)
            # A queue may be long: rows are read as they come, and what is alike is kept once.
            known: dict[str, tuple[int, ...]] = {}
            return [
                Query(
                    query_id=row.id,
                    round=row.round,
                    image=row.image,
                    mask_ids=masks[row.id],
                    proposed=self._index(row.proposed),
                    suggestions=self._known_list(known, row.suggestions),
                    score=row.score,
                    reason=Reason(row.reason),
                    inclusion_probability=row.inclusion_probability,
                    kind=QueryKind(row.kind) if row.grid is None else QueryKind.GRID,
                    pixel=row.pixel,
                    grid=row.grid,
                )
                for row in connection.execute(statement.execution_options(yield_per=10_000))
            ]

    def _known_list(self, known: dict[str, tuple[int, ...]], text: str) -> tuple[int, ...]:
        if text not in known:
            known[text] = self._indices(json.loads(text))
        return known[text]

    def asked_masks(
        self, *, before: int | None = None, answered: bool = False, closed: bool = False
    ) -> NDArray[np.uint64]:
        """Return the keys of the masks that were asked about, ascending.

        Questions that were left over when the clicks of their round were spent were never put to anyone: their masks are
        not among these.

        Args:
            before: Only in rounds below this one.
            answered: Only those with an answer that is not a skip.
            closed: Without those that may be asked about again, as their class was split since.
        """
        statement = select(schema.query_masks.c.image, schema.query_masks.c.mask_id, schema.query_masks.c.query)
        if before is not None:
            statement = statement.join(schema.queries, schema.queries.c.id == schema.query_masks.c.query).where(
                schema.queries.c.round < before
            )
        if answered:
            later = schema.answers.alias()
            statement = statement.join(schema.answers, schema.answers.c.query == schema.query_masks.c.query).where(
                schema.answers.c.kind != AnswerKind.SKIP.value,
                ~select(later.c.id).where(later.c.replaces == schema.answers.c.id).exists(),
            )
        else:
            of_query = schema.queries.alias()
            over = select(schema.stages.c.round).where(schema.stages.c.stage == "answer")
            left_over = select(of_query.c.id).where(
                of_query.c.round.in_(over), ~of_query.c.id.in_(select(schema.answers.c.query))
            )
            statement = statement.where(~schema.query_masks.c.query.in_(left_over))
        with self._read() as connection:
            rows = np.array([tuple(row) for row in connection.execute(statement)], dtype=np.int64).reshape(-1, 3)
            if closed:
                rows = rows[~np.isin(rows[:, 2], self._reopened(connection))]
        return np.unique(mask_keys(rows[:, 0], rows[:, 1]))

    def reopened(self) -> frozenset[int]:
        """Return queries whose answered class was split since: they may be asked again."""
        with self._read() as connection:
            return frozenset(self._reopened(connection))

    def _reopened(self, connection: Connection) -> list[int]:
        table = schema.class_edits
        edits = connection.execute(select(table).order_by(table.c.id)).all()
        gone = {json.loads(row.details)["edit"] for row in edits if row.kind == "undo"}
        into: dict[int, int] = {}
        found: list[int] = []
        for row in edits:
            if row.id in gone:
                continue
            if row.kind == "merge":
                into |= dict.fromkeys(json.loads(row.codes), json.loads(row.details)["into"])
            if row.kind != "split":
                continue
            (split,) = json.loads(row.codes)
            answers = connection.execute(
                select(schema.answers.c.query, schema.answers.c.classes).where(schema.answers.c.query <= row.after)
            )
            # What was merged into the class before it was split is of it as well.
            found += [query for query, classes in answers if any(_root(into, c) == split for c in json.loads(classes))]
        return found

    def add_answers(
        self,
        number: int,
        answers: Sequence[tuple[Answer, float, Sequence[tuple[int, int, int, int]]]],
        stage: tuple[float, Mapping[str, Any]] | None = None,
    ) -> int:
        """Record answers and the corrections that follow from them, in one transaction.

        Args:
            number: Round the corrections belong to.
            answers: Triples of an answer, its clicks, and its corrections as (image, mask id, old class, new
                class) with VOID and FIRST for no class and for first labels.
            stage: Seconds and details of the answer stage, where these answers end it.

        Returns:
            How many were new: an answer sent twice is recorded once.

        Raises:
            AlreadyAnsweredError: The question has another answer, and the new one does not say which it replaces.
            LedgerError: There is no such question, or no such answer to replace; none is recorded then.
        """
        new = 0
        with self._write() as connection:
            standing = self._standing_answers(connection, [answer.query_id for answer, _, _ in answers])
            names: dict[str, int] = {}
            for answer, clicks, rows in answers:
                before = standing.get(answer.query_id)
                if before is not None and answer.replaces != before.answer_id:
                    same = (before.kind, before.classes, before.annotator, before.pixels)
                    if same == (answer.kind, answer.classes, answer.annotator, answer.pixels):
                        continue
                    raise AlreadyAnsweredError(
                        f"Question {answer.query_id} was answered {before.kind.value!r} by {before.annotator}. To "
                        f"change the answer, state that it replaces answer {before.answer_id}."
                    )
                if answer.annotator not in names:
                    names[answer.annotator] = _annotator(connection, answer.annotator)
                answer_id = inserted_key(
                    connection,
                    schema.answers.insert().values(
                        query=answer.query_id,
                        annotator=names[answer.annotator],
                        kind=answer.kind.value,
                        classes=json.dumps([self._coded(one) for one in answer.classes]),
                        clicks=clicks,
                        milliseconds=answer.milliseconds,
                        time=utc_now(),
                        replaces=answer.replaces,
                        pixels=answer.pixels,
                    ),
                )
                standing[answer.query_id] = replace(answer, answer_id=answer_id)
                connection.execute(schema.leases.delete().where(schema.leases.c.query == answer.query_id))
                new += 1
                if rows:
                    connection.execute(
                        schema.corrections.insert(),
                        [
                            {
                                "round": number,
                                "image": image,
                                "mask_id": mask,
                                "old_class": self._class_in(old),
                                "new_class": self._class_in(now),
                                "source": Source.MANUAL.value,
                                "answer": answer_id,
                            }
                            for image, mask, old, now in rows
                        ],
                    )
            if stage is not None:
                add_stage(connection, number, "answer", *stage)
        return new

    def answers(self, number: int | None = None, *, standing: bool = True) -> list[tuple[Answer, float]]:
        """Return answers with their clicks, in recorded order.

        Args:
            number: Only to the questions of this round.
            standing: Leave out those that another has replaced.
        """
        table = schema.answers
        statement = select(table, schema.annotators.c.name).join(
            schema.annotators, schema.annotators.c.id == table.c.annotator
        )
        if number is not None:
            statement = statement.join(schema.queries, schema.queries.c.id == table.c.query).where(
                schema.queries.c.round == number
            )
        with self._read() as connection:
            rows = connection.execute(statement.order_by(table.c.id)).all()
        replaced = {row.replaces for row in rows if row.replaces is not None} if standing else set()
        return [(self._answer(row), row.clicks) for row in rows if row.id not in replaced]

    def timed_answers(self, *, after: int = 0) -> list[tuple[Answer, float, str]]:
        """Return all answers with clicks and times, in recorded order, replaced ones too; or those after one of them."""
        table = schema.answers
        statement = select(table, schema.annotators.c.name).join(
            schema.annotators, schema.annotators.c.id == table.c.annotator
        )
        with self._read() as connection:
            rows = connection.execute(statement.where(table.c.id > after).order_by(table.c.id)).all()
        return [(self._answer(row), row.clicks, row.time) for row in rows]

    def annotators(self) -> list[str]:
        """Return the names of all who have answered, in order of their first answer."""
        with self._read() as connection:
            rows = connection.execute(select(schema.annotators.c.name).order_by(schema.annotators.c.id))
            return [row.name for row in rows]

    def _answer(self, row: Any) -> Answer:
        return Answer(
            answer_id=row.id,
            query_id=row.query,
            annotator=row.name,
            kind=AnswerKind(row.kind),
            classes=self._indices(json.loads(row.classes)),
            milliseconds=row.milliseconds,
            replaces=row.replaces,
            pixels=row.pixels,
        )

    def _standing_answers(self, connection: Connection, queries: Iterable[int]) -> dict[int, Answer]:
        table = schema.answers
        wanted = set(queries)
        if not wanted:
            return {}
        statement = (
            select(table, schema.annotators.c.name)
            .join(schema.annotators, schema.annotators.c.id == table.c.annotator)
            .where(table.c.query.between(min(wanted), max(wanted)))
            .order_by(table.c.id)
        )
        return {row.query: self._answer(row) for row in connection.execute(statement) if row.query in wanted}


def _root(into: Mapping[int, int], code: int) -> int:
    """Return the class that a class is now, after merges."""
    while code in into:
        code = into[code]
    return code


def _annotator(connection: Connection, name: str) -> int:
    found = connection.execute(select(schema.annotators.c.id).where(schema.annotators.c.name == name)).scalar()
    if found is None:
        return inserted_key(connection, schema.annotators.insert().values(name=name, created=utc_now()))
    return int(found)
