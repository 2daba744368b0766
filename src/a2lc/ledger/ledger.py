"""Write and read queries, answers and corrections: one writer, and every write one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Insert, func, select
from sqlalchemy.exc import DatabaseError, IntegrityError

from a2lc.classes.edits import ClassEdit, ClassView
from a2lc.classes.sentinels import FIRST, VOID
from a2lc.errors import AlreadyAnsweredError, LedgerError
from a2lc.io.files import json_safe
from a2lc.ledger import schema
from a2lc.ledger.engine import open_engine, utc_now
from a2lc.ledger.records import LayerRecord, RoundRecord, StageRecord
from a2lc.ledger.replay import SOURCES, CorrectionRows, UndoRecord, mask_keys
from a2lc.records import Answer, AnswerKind, ImageRecord, Query, QueryKind, Reason, Source

__all__ = ["Ledger"]


class Ledger:
    """Reads and writes of one ledger file.

    Any number of readers may look on while one writer works: SQLite in WAL mode. A write returns when it is on
    the disk.
    """

    def __init__(self, path: Path) -> None:
        """Open a ledger, made or migrated as needed.

        Raises:
            NewerProjectError: A newer version of the package made it.
            LedgerError: The file is no ledger.
        """
        self.path = path
        self._view: ClassView | None = None
        self._engine = open_engine(path)
        try:
            with self._engine.connect() as connection:
                current = schema.schema_version(connection)
            if current != schema.LATEST:
                with self._write() as connection:
                    schema.migrate(connection)
        except DatabaseError as error:
            raise LedgerError(f"{path} cannot be read as a ledger: {error.orig}.") from error

    def speak(self, view: ClassView) -> None:
        """Take and give classes as a view counts them from now on; rows hold their codes."""
        self._view = None if view.plain else view

    def _coded(self, value: int | None) -> int | None:
        return value if self._view is None else self._view.code(value)

    def _index(self, value: int | None) -> int | None:
        return value if self._view is None else self._view.index(value)

    def _indices(self, values: Iterable[int]) -> tuple[int, ...]:
        """Classes of a list, each once, in its order: two that were merged are one."""
        if self._view is None:
            return tuple(values)
        found = (self._index(value) for value in values)
        return tuple(dict.fromkeys(value for value in found if value is not None and value != -1))

    def _class_in(self, value: int | None) -> int | None:
        """A class for a column: its code, and null for FIRST."""
        return None if value is None or value == FIRST else self._coded(int(value))

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise LedgerError(
                f"The ledger refuses what was to be recorded, and recorded nothing: {error.orig}."
            ) from error
        except (DatabaseError, sqlite3.DatabaseError) as error:
            cause = getattr(error, "orig", error)
            raise LedgerError(
                f"{self.path} cannot be read or written: {cause}. If it is damaged, restore a copy."
            ) from error

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._told(), self._engine.connect().execution_options(a2lc_write=True) as connection, connection.begin():
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._told(), self._engine.connect() as connection:
            yield connection

    # ---- images -----------------------------------------------------------------------------------------------

    def add_images(self, records: Sequence[ImageRecord]) -> None:
        """Record the images of a project, once."""
        with self._write() as connection:
            connection.execute(
                schema.images.insert(),
                [
                    {
                        "id": r.index,
                        "image_id": r.image_id,
                        "file": r.file,
                        "width": r.width,
                        "height": r.height,
                        "split": r.split,
                        "sha256": r.sha256,
                    }
                    for r in records
                ],
            )

    def images(self) -> list[ImageRecord]:
        """All images, by position."""
        with self._read() as connection:
            rows = connection.execute(select(schema.images).order_by(schema.images.c.id))
            return [
                ImageRecord(
                    index=row.id,
                    image_id=row.image_id,
                    file=row.file,
                    width=row.width,
                    height=row.height,
                    split=row.split,
                    sha256=row.sha256,
                )
                for row in rows
            ]

    # ---- rounds and stages ------------------------------------------------------------------------------------

    def open_round(
        self, number: int, *, method: str, config: Mapping[str, Any], model: str, seed: int, versions: Mapping[str, str]
    ) -> None:
        """Record that a round begins, with all that decides its outcome."""
        with self._write() as connection:
            connection.execute(
                schema.rounds.insert().values(
                    round=number,
                    method=method,
                    config=json.dumps(config, sort_keys=True),
                    model=model,
                    seed=seed,
                    versions=json.dumps(versions, sort_keys=True),
                    started=utc_now(),
                )
            )

    def rounds(self) -> list[RoundRecord]:
        """All rounds, in order."""
        with self._read() as connection:
            return [
                RoundRecord(
                    round=row.round,
                    method=row.method,
                    config=json.loads(row.config),
                    model=row.model,
                    seed=row.seed,
                    versions=json.loads(row.versions),
                    started=row.started,
                )
                for row in connection.execute(select(schema.rounds).order_by(schema.rounds.c.round))
            ]

    def stages(self, round_index: int | None = None, stage: str | None = None) -> list[StageRecord]:
        """Return finished stages in the order they ended, of one round or one kind where these are given."""
        rows = select(schema.stages).order_by(schema.stages.c.id)
        if round_index is not None:
            rows = rows.where(schema.stages.c.round == round_index)
        if stage is not None:
            rows = rows.where(schema.stages.c.stage == stage)
        with self._read() as connection:
            return [
                StageRecord(
                    round=row.round,
                    stage=row.stage,
                    seconds=row.seconds,
                    details=json.loads(row.details),
                    ended=row.ended,
                )
                for row in connection.execute(rows)
            ]

    def finish_stage(self, number: int, stage: str, seconds: float, details: Mapping[str, Any]) -> None:
        """Record that a stage without rows of its own has ended."""
        with self._write() as connection:
            _add_stage(connection, number, stage, seconds, details)

    # ---- queries and answers ----------------------------------------------------------------------------------

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
            if queries:
                connection.execute(
                    schema.queries.insert(),
                    [
                        {
                            "id": first + i,
                            "round": number,
                            "image": q.image,
                            "proposed": self._coded(q.proposed),
                            "suggestions": json.dumps([self._coded(one) for one in q.suggestions]),
                            "score": q.score,
                            "reason": q.reason.value,
                            "inclusion_probability": q.inclusion_probability,
                            "kind": q.kind.value,
                            "pixel": q.pixel,
                        }
                        for i, q in enumerate(queries)
                    ],
                )
                connection.execute(
                    schema.query_masks.insert(),
                    [
                        {"query": first + i, "mask_id": mask, "image": q.image}
                        for i, q in enumerate(queries)
                        for mask in q.mask_ids
                    ],
                )
            if seconds is not None:
                _add_stage(connection, number, "select", seconds, details or {})

    def queries(self, number: int | None = None, *, unanswered: bool = False, after: int = 0) -> list[Query]:
        """The questions of a round, or of all, in the order they are to be asked; only those recorded `after` one."""
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
                    kind=QueryKind(row.kind),
                    pixel=row.pixel,
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
        """Keys of the masks that were asked about, ascending.

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
        """Questions whose answers name a class that was split since: which part it is may be asked again."""
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
                        f"Question {answer.query_id} was answered {before.kind.value!r} by {before.annotator}. To change "
                        f"that, say that the new answer replaces answer {before.answer_id}."
                    )
                if answer.annotator not in names:
                    names[answer.annotator] = _annotator(connection, answer.annotator)
                answer_id = _inserted(
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
                _add_stage(connection, number, "answer", *stage)
        return new

    def answers(self, number: int | None = None, *, standing: bool = True) -> list[tuple[Answer, float]]:
        """Answers with their clicks, in recorded order.

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
        """All answers with their clicks and times, in recorded order, replaced ones too; or those after one of them."""
        table = schema.answers
        statement = select(table, schema.annotators.c.name).join(
            schema.annotators, schema.annotators.c.id == table.c.annotator
        )
        with self._read() as connection:
            rows = connection.execute(statement.where(table.c.id > after).order_by(table.c.id)).all()
        return [(self._answer(row), row.clicks, row.time) for row in rows]

    # ---- leases -----------------------------------------------------------------------------------------------

    def lend(self, queries: Sequence[int], annotator: str, until: float) -> None:
        """Lend questions to an annotator until a time, in seconds since 1970, in place of any lease they have."""
        if not queries:
            return
        with self._write() as connection:
            connection.execute(schema.leases.delete().where(schema.leases.c.query.in_(list(queries))))
            connection.execute(
                schema.leases.insert(), [{"query": q, "annotator": annotator, "until": until} for q in queries]
            )

    def end_leases(self, queries: Sequence[int]) -> None:
        """End the leases of questions; an answer ends that of its own."""
        with self._write() as connection:
            connection.execute(schema.leases.delete().where(schema.leases.c.query.in_(list(queries))))

    def leases(self) -> dict[int, tuple[str, float]]:
        """Annotator and end of each lease, by question, run out or not."""
        with self._read() as connection:
            return {row.query: (row.annotator, row.until) for row in connection.execute(select(schema.leases))}

    def annotators(self) -> list[str]:
        """Names of all who have answered, in order of their first answer."""
        with self._read() as connection:
            rows = connection.execute(select(schema.annotators.c.name).order_by(schema.annotators.c.id))
            return [row.name for row in rows]

    # ---- corrections ------------------------------------------------------------------------------------------

    def add_corrections(
        self,
        number: int,
        source: Source,
        image: NDArray[Any],
        mask_ids: NDArray[Any],
        old: NDArray[Any],
        new: NDArray[Any],
        *,
        confidences: NDArray[Any] | None = None,
        model: str | None = None,
        layer: Mapping[int, tuple[str, int]] | None = None,
        layer_model: str | None = None,
        stage: tuple[str, float, Mapping[str, Any]] | None = None,
    ) -> None:
        """Record corrections that rest on no answer, and the end of the stage that made them.

        Args:
            number: The round.
            source: Where the corrections come from.
            image: (n,) images.
            mask_ids: (n,) masks.
            old: (n,) class before, VOID or FIRST.
            new: (n,) class after.
            confidences: (n,) in [0, 1].
            model: What they rest on.
            layer: The round's labels below the mask, if it makes any: hash and pixels of the file of each image.
            layer_model: What those rest on, where it is something else.
            stage: Name, seconds and details of the stage that ends with them.

        Raises:
            LedgerError: One would overwrite an answer; none is recorded then.
        """
        confidence = [None] * len(image) if confidences is None else np.clip(confidences, 0, 1).tolist()
        rows = [
            {
                "round": number,
                "image": i,
                "mask_id": m,
                "old_class": self._class_in(o),
                "new_class": self._class_in(n),
                "source": source.value,
                "confidence": c,
                "model": model,
            }
            for i, m, o, n, c in zip(
                image.tolist(), mask_ids.tolist(), old.tolist(), new.tolist(), confidence, strict=True
            )
        ]
        with self._write() as connection:
            if rows:
                connection.execute(schema.corrections.insert(), rows)
            if layer is not None:
                after = connection.execute(select(func.max(schema.corrections.c.id))).scalar_one() or 0
                connection.execute(
                    schema.layers.insert().values(
                        round=number, after=after, model=layer_model or model or "", time=utc_now()
                    )
                )
                files = [{"round": number, "image": i, "sha256": h, "pixels": n} for i, (h, n) in layer.items()]
                if files:
                    connection.execute(schema.layer_files.insert(), files)
            if stage is not None:
                _add_stage(connection, number, *stage)

    def layers(self) -> list[LayerRecord]:
        """Layers of labels below the mask, by round."""
        table = schema.layers
        with self._read() as connection:
            return [
                LayerRecord(round=row.round, after=row.after, model=row.model, time=row.time)
                for row in connection.execute(select(table).order_by(table.c.round))
            ]

    def layer_files(self, number: int) -> dict[int, tuple[str, int]]:
        """Hash and pixels of the file of each image that a round's layer says anything of."""
        table = schema.layer_files
        with self._read() as connection:
            rows = connection.execute(select(table).where(table.c.round == number).order_by(table.c.image))
            return {row.image: (row.sha256, row.pixels) for row in rows}

    def add_undo(
        self,
        undone: int,
        source: str,
        number: int,
        image: NDArray[Any],
        mask_ids: NDArray[Any],
        old: NDArray[Any],
        new: NDArray[Any],
    ) -> None:
        """Record that the corrections of a round are taken back, and what the masks carry instead.

        Args:
            undone: The round taken back.
            source: `manual`, `automatic` or `all`.
            number: The last round, to which the new rows belong.
            image: (n,) images of the masks that change.
            mask_ids: (n,) their ids.
            old: (n,) what they carry.
            new: (n,) what they carried before that round.
        """
        with self._write() as connection:
            after = connection.execute(select(func.max(schema.corrections.c.id))).scalar_one() or 0
            connection.execute(
                schema.undos.insert().values(
                    undone_round=undone, source=source, round=number, after=after, time=utc_now()
                )
            )
            rows = [
                {
                    "round": number,
                    "image": i,
                    "mask_id": m,
                    "old_class": self._class_in(o),
                    "new_class": self._class_in(n),
                    "source": Source.UNDO.value,
                }
                for i, m, o, n in zip(image.tolist(), mask_ids.tolist(), old.tolist(), new.tolist(), strict=True)
            ]
            if rows:
                connection.execute(schema.corrections.insert(), rows)

    def undos(self) -> list[UndoRecord]:
        """What was taken back, in recorded order."""
        with self._read() as connection:
            table = schema.undos
            return [
                UndoRecord(undone=row.undone_round, source=row.source, round=row.round, after=row.after, time=row.time)
                for row in connection.execute(select(table).order_by(table.c.id))
            ]

    def correction_rows(self, *, through: int | None = None) -> CorrectionRows:
        """Corrections in recorded order, as columns.

        Args:
            through: Only those that stood at the end of this round. What was undone later on, before the next round
                began, is not among them.
        """
        codes = " ".join(f"WHEN '{name}' THEN {code}" for code, name in enumerate(SOURCES))
        # Plain SQL and the driver's own rows: a million of them are read in a second.
        statement = (
            f"SELECT id, round, image, mask_id, coalesce(old_class, {FIRST}), coalesce(new_class, {FIRST}), "
            f"CASE source {codes} END FROM corrections"
        )
        if through is not None:
            statement += f" WHERE round < {int(through)} OR (round = {int(through)} AND source <> 'undo')"
        with self._read() as connection:
            cursor: Any = connection.exec_driver_sql(statement + " ORDER BY id").cursor
            flat = np.fromiter((value for row in cursor for value in row), dtype=np.int64)
        table = flat.reshape(-1, 7).T
        return CorrectionRows(
            ids=table[0].copy(),
            rounds=table[1].astype(np.int32),
            keys=mask_keys(table[2], table[3]),
            old=self._read_classes(table[4]),
            new=self._read_classes(table[5]),
            source=table[6].astype(np.int8),
        )

    def _read_classes(self, codes: NDArray[np.int64]) -> NDArray[np.int32]:
        found = codes if self._view is None else self._view.indices(codes)
        return found.astype(np.int32)

    def corrections_of_answers(self, answers: Sequence[int]) -> dict[int, dict[int, int]]:
        """For each answer, the class each mask had before the correction that rests on it: {answer: {mask id: class}}."""
        table = schema.corrections
        found: dict[int, dict[int, int]] = {}
        with self._read() as connection:
            rows = connection.execute(
                select(table.c.answer, table.c.mask_id, table.c.old_class)
                .where(table.c.answer.in_(list(answers)))
                .order_by(table.c.id)
            )
            for answer, mask, old in rows:
                found.setdefault(answer, {})[mask] = FIRST if old is None else int(self._index(old) or 0)
        return found

    def correction_details(self) -> Iterator[Any]:
        """Every correction as a row with all columns and the annotator's name, in recorded order."""
        statement = (
            select(schema.corrections, schema.annotators.c.name.label("annotator"))
            .outerjoin(schema.answers, schema.answers.c.id == schema.corrections.c.answer)
            .outerjoin(schema.annotators, schema.annotators.c.id == schema.answers.c.annotator)
            .order_by(schema.corrections.c.id)
        )
        with self._read() as connection:
            for row in connection.execute(statement):
                if self._view is None:
                    yield row
                else:
                    values = dict(row._mapping)
                    for name in ("old_class", "new_class"):
                        values[name] = self._index(values[name])
                    yield SimpleNamespace(**values)

    # ---- classes ----------------------------------------------------------------------------------------------

    def class_edits(self) -> list[ClassEdit]:
        """What was done to the classes, in recorded order."""
        table = schema.class_edits
        with self._read() as connection:
            return [
                ClassEdit(
                    kind=row.kind,
                    codes=tuple(json.loads(row.codes)),
                    details=json.loads(row.details),
                    round=row.round,
                    after=row.after,
                    number=row.id,
                    time=row.time,
                )
                for row in connection.execute(select(table).order_by(table.c.id))
            ]

    def add_class_edit(self, edit: ClassEdit) -> None:
        """Record what is done to the classes, as of the last round and the last question there are."""
        with self._write() as connection:
            last = connection.execute(select(func.max(schema.rounds.c.round))).scalar_one()
            after = connection.execute(select(func.max(schema.queries.c.id))).scalar_one() or 0
            connection.execute(
                schema.class_edits.insert().values(
                    kind=edit.kind,
                    codes=json.dumps(list(edit.codes)),
                    details=json.dumps(edit.details, ensure_ascii=False),
                    round=-1 if last is None else last,
                    after=after,
                    time=utc_now(),
                )
            )

    def uses_code(self, code: int) -> bool:
        """Whether any answer or correction names a class by this code."""
        rows = schema.corrections.c
        with self._read() as connection:
            statement = select(rows.id).where((rows.new_class == code) | (rows.old_class == code)).limit(1)
            if connection.execute(statement).first() is not None:
                return True
            found = connection.execute(select(schema.answers.c.classes).distinct())
            return any(code in json.loads(text) for (text,) in found)

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
    """The class that a class is now, after merges."""
    while code in into:
        code = into[code]
    return code


def _add_stage(connection: Connection, number: int, stage: str, seconds: float, details: Mapping[str, Any]) -> None:
    connection.execute(
        schema.stages.insert().values(
            round=number,
            stage=stage,
            seconds=max(seconds, 0.0),
            details=json.dumps(json_safe(dict(details))),
            ended=utc_now(),
        )
    )


def _annotator(connection: Connection, name: str) -> int:
    found = connection.execute(select(schema.annotators.c.id).where(schema.annotators.c.name == name)).scalar()
    if found is None:
        return _inserted(connection, schema.annotators.insert().values(name=name, created=utc_now()))
    return int(found)


def _inserted(connection: Connection, statement: Insert) -> int:
    """Run an insert of one row; its key."""
    key = connection.execute(statement).inserted_primary_key
    assert key is not None
    return int(key[0])


assert VOID == -1  # the schema's comment and its constraints say so
