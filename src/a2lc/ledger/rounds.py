"""Images, rounds and stages in the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select

from a2lc.ledger import schema
from a2lc.ledger.engine import LedgerFile, add_stage, utc_now
from a2lc.ledger.records import RoundRecord, StageRecord
from a2lc.records import ImageRecord

__all__ = ["RoundRows"]


class RoundRows(LedgerFile):
    """Rows of images, rounds and finished stages."""

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
        """Return all images, by position."""
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
        """Return all rounds, in order."""
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

    def questions_by_round(self) -> dict[int, int]:
        """Return the number of questions of each round that has any."""
        table = schema.queries
        with self._read() as connection:
            rows = connection.execute(select(table.c.round, func.count()).group_by(table.c.round))
            return {row[0]: row[1] for row in rows}

    def clicks_by_round(self) -> dict[int, list[tuple[int, float]]]:
        """Return the question and the clicks of every answer, replaced ones too, by the round of the question."""
        table = schema.answers
        statement = select(schema.queries.c.round, table.c.query, table.c.clicks).join(
            schema.queries, schema.queries.c.id == table.c.query
        )
        found: dict[int, list[tuple[int, float]]] = {}
        with self._read() as connection:
            for number, query, clicks in connection.execute(statement.order_by(table.c.id)):
                found.setdefault(number, []).append((query, clicks))
        return found

    def finish_stage(self, number: int, stage: str, seconds: float, details: Mapping[str, Any]) -> None:
        """Record that a stage without rows of its own has ended."""
        with self._write() as connection:
            add_stage(connection, number, stage, seconds, details)
