"""A ledger of an older version becomes the one a new project has, with all that was recorded."""

import sqlite3

import pytest

from a2lc.ledger import FIRST, Ledger
from a2lc.ledger.schema import LATEST
from a2lc.records import Answer, AnswerKind, Query, QueryKind

# Version 1 is the latest without these.
_ADDED_COLUMNS = {"queries": ("kind", "pixel", "grid"), "answers": ("pixels",)}
_ADDED_TABLES = ("layer_files", "layers", "leases", "class_edits")


def shape(path):
    """Columns with their types, defaults and whether they may be null, and triggers."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        columns = {table: {row[1:5] for row in connection.execute(f"PRAGMA table_info({table})")} for (table,) in found}
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
        return columns, triggers.fetchall()


def to_version_1(path):
    connection = sqlite3.connect(path, isolation_level=None)
    for table in _ADDED_TABLES:
        connection.execute(f"DROP TABLE {table}")
    triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for table, columns in _ADDED_COLUMNS.items():
        # SQLite drops no column that a CHECK names, so the table is made anew from its other columns.
        kept = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] not in columns]
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        lines = [line for line in sql.splitlines() if not any(line.strip().startswith(f"{c} ") for c in columns)]
        text = "\n".join(
            line
            for line in lines
            if "CHECK (kind in ('correction'" not in line and "pixel >= 0" not in line and "grid > 0" not in line
        )
        connection.execute(text.replace(f"CREATE TABLE {table}", f"CREATE TABLE old_{table}").replace(", \n)", "\n)"))
        names = ", ".join(kept)
        connection.execute(f"INSERT INTO old_{table} ({names}) SELECT {names} FROM {table}")
        connection.execute("PRAGMA legacy_alter_table=ON")
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute(f"DROP TABLE {table}")
        connection.execute(f"ALTER TABLE old_{table} RENAME TO {table}")
    for name, sql in triggers:
        if not name.startswith(("layer", "class_edits")):
            connection.execute(sql)
    connection.execute("DELETE FROM schema_versions WHERE version > 1")
    connection.close()


@pytest.fixture
def old(ledger):
    ledger.add_queries(1, [Query(round=1, image=0, mask_ids=(5,), proposed=0, score=1.0)], 0.1, {})
    answer = Answer(query_id=1, annotator="eve", kind=AnswerKind.CORRECT, classes=(2,))
    ledger.add_answers(1, [(answer, 1.0, [(0, 5, FIRST, 2)])])
    ledger.close()
    to_version_1(ledger.path)
    columns, _ = shape(ledger.path)
    assert "layers" not in columns and not {"kind", "pixel"} & {c[0] for c in columns["queries"]}
    return ledger.path


def test_an_old_ledger_becomes_a_new_one(old, tmp_path):
    Ledger(old).close()
    Ledger(tmp_path / "new.sqlite").close()
    assert shape(old) == shape(tmp_path / "new.sqlite")
    with sqlite3.connect(old) as connection:
        assert [v for (v,) in connection.execute("SELECT version FROM schema_versions")] == list(range(1, LATEST + 1))


def test_nothing_recorded_is_lost(old):
    book = Ledger(old)
    (query,) = book.queries()
    assert query.kind == QueryKind.CORRECTION and query.pixel is None and query.mask_ids == (5,)
    ((answer, clicks),) = book.answers()
    assert answer.classes == (2,) and answer.pixels is None and clicks == 1.0
    assert len(book.correction_rows()) == 1 and book.layers() == []
    book.close()


def test_questions_of_all_kinds_are_read_as_written(ledger):
    queries = [
        Query(
            round=1,
            image=0,
            mask_ids=(m,),
            proposed=None,
            score=1.0,
            kind=kind,
            pixel=7 if kind == "pixel" else None,
            grid=0 if kind == "grid" else None,
        )
        for m, kind in enumerate([*QueryKind, QueryKind.GRID], start=1)
    ]
    ledger.add_queries(1, queries, 0.1, {})
    assert [(q.kind, q.pixel) for q in ledger.queries()] == [(q.kind, q.pixel) for q in queries]
    # A grid is named by the first of its queries, whatever it was called before.
    assert {q.grid for q in ledger.queries() if q.kind == "grid"} == {2}


def test_questions_left_over_when_the_clicks_were_spent_were_not_asked(ledger):
    ledger.add_queries(1, [Query(round=1, image=0, mask_ids=(m,), proposed=0, score=1.0) for m in (3, 4)], 0.1, {})
    assert len(ledger.asked_masks()) == 2, "the round is open: both wait"
    answer = Answer(query_id=1, annotator="oracle", kind=AnswerKind.CLASSES, classes=(0, 1))
    ledger.add_answers(1, [(answer, 2.0, [])], stage=(0.1, {}))
    assert ledger.asked_masks().tolist() == [3]


def test_a_layer_and_the_corrections_of_its_round_are_one_transaction(ledger):
    import numpy as np

    from a2lc.errors import LedgerError
    from a2lc.records import Source

    def add(pixels):
        one = np.array([1])
        ledger.add_corrections(
            1, Source.AUTOMATIC, one, one, one, one, confidences=np.ones(1), model="m", layer={0: ("f" * 64, pixels)}
        )

    with pytest.raises(LedgerError, match="rejected"):
        add(0)
    assert not len(ledger.correction_rows()) and not ledger.layers()
    add(4)
    (layer,) = ledger.layers()
    assert layer.round == 1 and layer.after == 1 and ledger.layer_files(1) == {0: ("f" * 64, 4)}
