"""Corrections, pixel-level labels and undos in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from a2lc.classes.sentinels import FIRST
from a2lc.ledger import schema
from a2lc.ledger.engine import LedgerFile, add_stage, utc_now
from a2lc.ledger.records import LayerRecord
from a2lc.ledger.replay import SOURCES, CorrectionRows, UndoRecord
from a2lc.records import Source
from a2lc.statistics.keys import mask_keys

__all__ = ["CorrectionLog"]


class CorrectionLog(LedgerFile):
    """Rows of corrections, layers and undos."""

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
                add_stage(connection, number, *stage)

    def layers(self) -> list[LayerRecord]:
        """Return the layers of pixel-level labels, by round."""
        table = schema.layers
        with self._read() as connection:
            return [
                LayerRecord(round=row.round, after=row.after, model=row.model, time=row.time)
                for row in connection.execute(select(table).order_by(table.c.round))
            ]

    def layer_files(self, number: int) -> dict[int, tuple[str, int]]:
        """Return hash and pixels of the file of each image that a round's layer labels."""
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
        """Return what was undone, in recorded order."""
        with self._read() as connection:
            table = schema.undos
            return [
                UndoRecord(undone=row.undone_round, source=row.source, round=row.round, after=row.after, time=row.time)
                for row in connection.execute(select(table).order_by(table.c.id))
            ]

    def correction_rows(self, *, through: int | None = None) -> CorrectionRows:
        """Return corrections in recorded order, as columns.

        Args:
            through: Only those that stood at the end of this round, see `CorrectionRows.through`.
        """
        codes = " ".join(f"WHEN '{name}' THEN {code}" for code, name in enumerate(SOURCES))
        # Plain SQL and the driver's own rows: a million of them are read in a second.
        statement = (
            f"SELECT id, round, image, mask_id, coalesce(old_class, {FIRST}), coalesce(new_class, {FIRST}), "
            f"CASE source {codes} END FROM corrections"
        )
        with self._read() as connection:
            cursor: Any = connection.exec_driver_sql(statement + " ORDER BY id").cursor
            flat = np.fromiter(chain.from_iterable(cursor), dtype=np.int64)
        table = flat.reshape(-1, 7).T
        rows = CorrectionRows(
            ids=table[0].copy(),
            rounds=table[1].astype(np.int32),
            keys=mask_keys(table[2], table[3]),
            old=self._read_classes(table[4]),
            new=self._read_classes(table[5]),
            source=table[6].astype(np.int8),
        )
        return rows.through(through)

    def _read_classes(self, codes: NDArray[np.int64]) -> NDArray[np.int32]:
        found = codes if self._view is None else self._view.indices(codes)
        return found.astype(np.int32)

    def corrections_of_answers(self, answers: Sequence[int]) -> dict[int, dict[int, int]]:
        """Return, for each answer, the class each mask had before its correction: {answer: {mask id: class}}."""
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
        """Yield every correction as a row with all columns and the annotator's name, in recorded order."""
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
