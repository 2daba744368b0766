"""Leases of queries in the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from a2lc.ledger import schema
from a2lc.ledger.engine import LedgerFile

__all__ = ["LeaseRows"]


class LeaseRows(LedgerFile):
    """Rows of leases: who holds which query, and until when."""

    def lend(self, queries: Sequence[int], annotator: str, until: float) -> None:
        """Lend queries to an annotator until a time, in seconds since 1970, in place of any lease they have."""
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
        """Return annotator and end of each lease, by query, expired or not."""
        with self._read() as connection:
            return {row.query: (row.annotator, row.until) for row in connection.execute(select(schema.leases))}
