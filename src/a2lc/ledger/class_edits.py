"""Class edits in the ledger."""

from __future__ import annotations

import json

from sqlalchemy import func, select

from a2lc.classes.edits import ClassEdit
from a2lc.ledger import schema
from a2lc.ledger.engine import LedgerFile, utc_now

__all__ = ["ClassEditRows"]


class ClassEditRows(LedgerFile):
    """Rows of edits to the class table."""

    def class_edits(self) -> list[ClassEdit]:
        """Return the edits of the classes, in recorded order."""
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
        """Return whether any answer or correction names a class by this code."""
        rows = schema.corrections.c
        with self._read() as connection:
            statement = select(rows.id).where((rows.new_class == code) | (rows.old_class == code)).limit(1)
            if connection.execute(statement).first() is not None:
                return True
            found = connection.execute(select(schema.answers.c.classes).distinct())
            return any(code in json.loads(text) for (text,) in found)
