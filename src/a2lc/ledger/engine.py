"""Open the ledger's database: SQLite settings and the clock."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, Insert, QueuePool, create_engine
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.util import LRUCache

from a2lc.classes.edits import ClassView
from a2lc.classes.sentinels import FIRST
from a2lc.errors import LedgerError
from a2lc.io.files import json_safe
from a2lc.ledger import schema

__all__ = ["LedgerFile", "add_stage", "inserted_key", "open_engine", "utc_now"]


def utc_now() -> str:
    """Return the time as the ledger records it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@cache
def _shared() -> tuple[Dialect, LRUCache[Any, Any]]:
    """Return the dialect and the compiled statements of all ledgers of this process.

    A statement is compiled for one dialect object. With a dialect for each file, as `create_engine` makes them, every
    ledger that is opened would compile every statement again, which takes longer than reading a small one.
    """
    engine = create_engine("sqlite://")
    engine.connect().close()  # the dialect learns what the version of SQLite can do
    engine.dispose()
    return engine.dialect, LRUCache(500)


def _connect(path: Path) -> Any:
    # Connections go from thread to thread by the pool. The driver's own handling of transactions would leave DDL outside
    # them, so each is begun explicitly.
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA recursive_triggers=ON")  # else INSERT OR REPLACE would delete unseen by the triggers
    return connection


def open_engine(path: Path) -> Engine:
    """Open a SQLite file in WAL mode, every write safe on disk before it returns."""
    dialect, compiled = _shared()
    pool = QueuePool(lambda: _connect(path), dialect=dialect)
    url = URL.create("sqlite", database=str(path))
    return Engine(pool, dialect, url, execution_options={"compiled_cache": compiled})


class LedgerFile:
    """One ledger file: its transactions, and the translation of class codes.

    Rows hold codes of classes, which never change; what is given and returned are class indices of the view that is set.

    Args:
        path: The file, made or migrated as needed.

    Raises:
        NewerProjectError: A newer version of the package made it.
        LedgerError: The file is no ledger.
    """

    def __init__(self, path: Path) -> None:
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

    def set_class_view(self, view: ClassView) -> None:
        """Translate class indices through `view` from now on."""
        self._view = None if view.plain else view

    def _coded(self, value: int | None) -> int | None:
        return value if self._view is None else self._view.code(value)

    def _index(self, value: int | None) -> int | None:
        return value if self._view is None else self._view.index(value)

    def _indices(self, values: Iterable[int]) -> tuple[int, ...]:
        """Translate a list of codes, each class once, in its order: two that were merged are one."""
        if self._view is None:
            return tuple(values)
        found = (self._index(value) for value in values)
        return tuple(dict.fromkeys(value for value in found if value is not None and value != -1))

    def _class_in(self, value: int | None) -> int | None:
        """Translate a class for a column: its code, and null for FIRST."""
        return None if value is None or value == FIRST else self._coded(int(value))

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise LedgerError(f"The ledger rejected the rows and recorded nothing: {error.orig}.") from error
        except (DatabaseError, sqlite3.DatabaseError) as error:
            cause = getattr(error, "orig", error)
            raise LedgerError(
                f"{self.path} cannot be read or written: {cause}. If it is damaged, restore a copy."
            ) from error

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with (
            self._errors(),
            self._engine.connect().execution_options(a2lc_write=True) as connection,
            connection.begin(),
        ):
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._errors(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection


def add_stage(connection: Connection, number: int, stage: str, seconds: float, details: Mapping[str, Any]) -> None:
    """Insert the row of a finished stage."""
    connection.execute(
        schema.stages.insert().values(
            round=number,
            stage=stage,
            seconds=max(seconds, 0.0),
            details=json.dumps(json_safe(dict(details))),
            ended=utc_now(),
        )
    )


def inserted_key(connection: Connection, statement: Insert) -> int:
    """Run an insert of one row and return its key."""
    key = connection.execute(statement).inserted_primary_key
    assert key is not None
    return int(key[0])
