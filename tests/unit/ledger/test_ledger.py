"""The ledger: append-only, one standing answer a question, no automatic correction over an answer."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
import sqlalchemy

from a2lc.classes.edits import ClassEdit
from a2lc.errors import AlreadyAnsweredError, LedgerError, NewerProjectError
from a2lc.ledger import FIRST, VOID, Ledger, mask_keys
from a2lc.ledger.schema import LATEST, metadata
from a2lc.records import Answer, AnswerKind, Query, Source


def ask(ledger, *masks, number=1):
    """One question a mask, given as (image, mask id)."""
    queries = [Query(round=number, image=i, mask_ids=(m,), proposed=0, score=1.0) for i, m in masks]
    ledger.add_queries(number, queries, 0.1, {})
    return [q.query_id for q in ledger.queries(number)]


def reply(query, kind="correct", classes=(1,), **more):
    return Answer(
        query_id=query, annotator=more.pop("annotator", "eve"), kind=AnswerKind(kind), classes=classes, **more
    )


def arrays(*rows):
    return [np.array(column) for column in zip(*rows, strict=True)]


def automatic(ledger, *rows, number=1, **more):
    """Rows of (image, mask, old, new)."""
    more = {"confidences": np.full(len(rows), 0.9), "model": "lcm"} | more
    ledger.add_corrections(number, Source.AUTOMATIC, *arrays(*rows), **more)


@pytest.fixture
def full(ledger):
    """A ledger with a row in every table."""
    query, other = ask(ledger, (0, 5), (1, 6))
    ledger.add_answers(1, [(reply(query), 1.0, [(0, 5, FIRST, 1)]), (reply(other, "skip", ()), 0.0, [])])
    automatic(ledger, (2, 7, FIRST, 2), layer={0: ("a" * 64, 9)})
    ledger.add_undo(1, "automatic", 2, *arrays((2, 7, 2, FIRST)))
    ledger.add_class_edit(ClassEdit(kind="rename", codes=(1,), details={"classes": [{"name": "lorry"}]}))
    return ledger


# ---- leases ------------------------------------------------------------------------------------------------------


def test_leases_come_and_go(ledger):
    first, second, third = ask(ledger, (0, 5), (1, 6), (1, 7))
    ledger.lend([first, second], "eve", 10.5)
    ledger.lend([second, third], "bob", 20.0)
    assert ledger.leases() == {first: ("eve", 10.5), second: ("bob", 20.0), third: ("bob", 20.0)}
    ledger.end_leases([third])
    assert set(ledger.leases()) == {first, second}
    assert ledger.annotators() == []
    ledger.add_answers(1, [(reply(first), 1.0, [])])
    ledger.lend([], "eve", 1.0)
    assert set(ledger.leases()) == {second}, "an answer ends the lease of its question"
    assert ledger.annotators() == ["eve"]


# ---- append-only -------------------------------------------------------------------------------------------------

TABLES = sorted(set(metadata.tables) - {"leases"})  # nothing that was said


def test_there_is_a_row_in_every_table(full):
    with sqlite3.connect(full.path) as connection:
        for table in TABLES:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0, table


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("verb", ["UPDATE", "DELETE"])
def test_rows_are_never_changed_or_taken_away(full, table, verb):
    first = next(iter(metadata.tables[table].columns)).name
    statement = f"UPDATE {table} SET {first} = {first}" if verb == "UPDATE" else f"DELETE FROM {table}"
    connection = sqlite3.connect(full.path)
    with pytest.raises(sqlite3.IntegrityError, match=f"the ledger is append-only: {verb} on {table}"):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("table", TABLES)
def test_replacing_a_row_is_refused_too(full, table):
    """INSERT OR REPLACE deletes the row that is in its way."""
    with pytest.raises(LedgerError, match=r"append-only|has an answer already"), full._write() as connection:
        connection.exec_driver_sql(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")


def test_foreign_keys_and_durability_are_on(ledger):
    with ledger._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


# ---- answers -----------------------------------------------------------------------------------------------------


def test_an_answer_sent_twice_is_recorded_once(ledger):
    (query,) = ask(ledger, (0, 5))
    rows = [(0, 5, FIRST, 1)]
    assert ledger.add_answers(1, [(reply(query), 1.0, rows)]) == 1
    assert ledger.add_answers(1, [(reply(query, milliseconds=99), 1.0, rows)]) == 0
    assert len(ledger.answers()) == 1
    assert len(ledger.correction_rows()) == 1


def test_an_answer_sent_twice_at_once_is_recorded_once(ledger):
    (query,) = ask(ledger, (0, 5))
    rows = [(0, 5, FIRST, 1)]
    assert ledger.add_answers(1, [(reply(query), 1.0, rows), (reply(query), 1.0, rows)]) == 1
    assert len(ledger.correction_rows()) == 1


@pytest.mark.parametrize(
    "other", [{"classes": (2,)}, {"kind": "confirm"}, {"kind": "skip", "classes": ()}, {"annotator": "adam"}]
)
def test_another_answer_is_refused_and_says_how_to_replace(ledger, other):
    (query,) = ask(ledger, (0, 5))
    ledger.add_answers(1, [(reply(query), 1.0, [(0, 5, FIRST, 1)])])
    message = rf"Question {query} was answered 'correct' by eve\. To change the answer, state that it replaces answer 1"
    with pytest.raises(AlreadyAnsweredError, match=message):
        ledger.add_answers(1, [(reply(query, **other), 1.0, [(0, 5, 1, 2)])])
    assert len(ledger.answers()) == len(ledger.correction_rows()) == 1


def test_two_different_answers_at_once(ledger):
    (query,) = ask(ledger, (0, 5))
    with pytest.raises(AlreadyAnsweredError, match=f"Question {query} was answered"):
        ledger.add_answers(1, [(reply(query), 1.0, []), (reply(query, classes=(2,)), 1.0, [])])
    assert ledger.answers() == [], "none of a refused batch is recorded"


def test_a_refused_answer_takes_the_whole_batch_with_it(ledger):
    first, second = ask(ledger, (0, 5), (1, 5))
    ledger.add_answers(1, [(reply(first), 1.0, [])])
    with pytest.raises(AlreadyAnsweredError, match=f"Question {first}"):
        ledger.add_answers(1, [(reply(second), 1.0, []), (reply(first, classes=(2,)), 1.0, [])], stage=(0.1, {}))
    assert [a.query_id for a, _ in ledger.answers()] == [first]
    assert [s.stage for s in ledger.stages()] == ["select"]


def test_an_answer_that_replaces(ledger):
    (query,) = ask(ledger, (0, 5))
    ledger.add_answers(1, [(reply(query), 1.0, [(0, 5, FIRST, 1)])])
    second = reply(query, classes=(2,), replaces=1)
    assert ledger.add_answers(1, [(second, 1.0, [(0, 5, 1, 2)])]) == 1
    assert ledger.add_answers(1, [(second, 1.0, [(0, 5, 1, 2)])]) == 0, "sent twice"
    assert [a.classes for a, _ in ledger.answers()] == [(2,)]
    assert [a.classes for a, _ in ledger.answers(standing=False)] == [(1,), (2,)]
    assert ledger.correction_rows().new.tolist() == [1, 2]
    with pytest.raises(AlreadyAnsweredError, match="replaces answer 2"):
        ledger.add_answers(1, [(reply(query, classes=(3,), replaces=1), 1.0, [])])
    with pytest.raises(AlreadyAnsweredError, match="replaces answer 2"):
        ledger.add_answers(1, [(reply(query), 1.0, [])])


def test_the_database_itself_keeps_one_standing_answer(full):
    connection = sqlite3.connect(full.path)
    with pytest.raises(sqlite3.IntegrityError, match="the question has an answer already"):
        connection.execute(
            "INSERT INTO answers (query, annotator, kind, classes, clicks, time) VALUES (1,1,'void','[]',1,'')"
        )
    connection.close()


@pytest.mark.parametrize("bad", [{"query": 99}, {"replaces": 77}])
def test_answers_to_nothing(ledger, bad):
    (query,) = ask(ledger, (0, 5))
    answer = reply(bad.get("query", query), replaces=bad.get("replaces"))
    with pytest.raises(LedgerError, match=r"ledger rejected .*FOREIGN KEY"):
        ledger.add_answers(1, [(answer, 1.0, [])])
    assert ledger.answers() == []


def test_unanswered_and_asked(ledger):
    ids = ask(ledger, (0, 5), (1, 5), (2, 65535))
    ledger.add_answers(1, [(reply(ids[0]), 1.0, []), (reply(ids[1], "skip", ()), 0.0, [])])
    ask(ledger, (0, 9), number=2)
    assert [q.query_id for q in ledger.queries(1, unanswered=True)] == [ids[2]]
    assert [q.image for q in ledger.queries()] == [0, 1, 2, 0]
    keys = mask_keys(np.array([0, 0, 1, 2]), np.array([5, 9, 5, 65535]))
    assert ledger.asked_masks().tolist() == keys.tolist()
    assert ledger.asked_masks(before=2).tolist() == keys[[0, 2, 3]].tolist()
    assert ledger.asked_masks(answered=True).tolist() == [keys[0]], "a skip is no answer"
    assert ledger.asked_masks(before=1).tolist() == []
    assert ledger.asked_masks().dtype == np.uint64


def test_a_query_of_several_masks_comes_back_whole(ledger):
    query = Query(round=1, image=1, mask_ids=(3, 8, 70), proposed=None, score=0.0, suggestions=(4, 1))
    ledger.add_queries(1, [query], 0.0, {})
    (back,) = ledger.queries(1)
    assert (back.mask_ids, back.proposed, back.suggestions) == ((3, 8, 70), None, (4, 1))


# ---- corrections -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["confirm", "correct", "void", "mixed", "classes"])
def test_automatic_over_an_answer_is_refused_whole(ledger, kind):
    (query,) = ask(ledger, (0, 5))
    ledger.add_answers(1, [(reply(query, kind, (1,) if kind in {"confirm", "correct", "classes"} else ()), 1.0, [])])
    with pytest.raises(LedgerError, match="an answer is never overwritten by an automatic correction"):
        automatic(ledger, (1, 5, FIRST, 2), (0, 5, FIRST, 2), stage=("correct", 0.1, {}))
    assert len(ledger.correction_rows()) == 0
    assert [s.stage for s in ledger.stages()] == ["select"]
    automatic(ledger, (1, 5, FIRST, 2), (0, 6, FIRST, 2))


def test_automatic_over_a_skip_is_allowed(ledger):
    (query,) = ask(ledger, (0, 5))
    ledger.add_answers(1, [(reply(query, "skip", ()), 0.0, [])])
    automatic(ledger, (0, 5, FIRST, 2))
    assert ledger.correction_rows().new.tolist() == [2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"confidences": None}, "automatic_says_why"),
        ({"model": None}, "automatic_says_why"),
    ],
)
def test_automatic_says_why(ledger, more, message):
    with pytest.raises(LedgerError, match=message):
        automatic(ledger, (0, 5, FIRST, 2), **more)


@pytest.mark.parametrize("row", [(9, 5, FIRST, 2), (0, 0, FIRST, 2), (0, -1, FIRST, 2)])
def test_corrections_of_no_image_or_no_mask(ledger, row):
    with pytest.raises(LedgerError, match=r"(FOREIGN KEY|CHECK) constraint failed"):
        automatic(ledger, row)


def test_corrections_through_a_round(full):
    assert full.correction_rows().rounds.tolist() == [1, 1, 2]
    assert full.correction_rows(through=1).rounds.tolist() == [1, 1]
    assert full.correction_rows(through=0).keys.dtype == np.uint64
    assert full.correction_rows().new.tolist() == [1, 2, FIRST]


def test_details_name_the_annotator(full):
    rows = list(full.correction_details())
    assert [(r.source, r.annotator, r.new_class, r.confidence) for r in rows] == [
        ("manual", "eve", 1, None), ("automatic", None, 2, 0.9), ("undo", None, None, None)
    ]  # fmt: skip


def test_void_and_first_are_kept_apart(ledger):
    automatic(ledger, (0, 5, FIRST, VOID), (0, 6, VOID, 3), (0, 7, 3, FIRST))
    rows = ledger.correction_rows()
    assert (rows.old.tolist(), rows.new.tolist()) == ([FIRST, VOID, 3], [VOID, 3, FIRST])


# ---- rounds and stages -------------------------------------------------------------------------------------------


def test_rounds_and_stages_come_back(ledger):
    ledger.finish_stage(1, "score", -0.5, {"images": 3})
    (stage,) = ledger.stages()
    assert (stage.round, stage.stage, stage.seconds, stage.details) == (1, "score", 0.0, {"images": 3})
    assert [(r.round, r.seed, r.config, r.versions) for r in ledger.rounds()] == [
        (n, n, {"budget": 2}, {"a2lc": "0"}) for n in range(3)
    ]
    assert ledger.undos() == []


def test_a_stage_ends_once_and_a_round_begins_once(ledger):
    ledger.finish_stage(1, "score", 0.1, {})
    with pytest.raises(LedgerError, match=r"ledger rejected .*UNIQUE constraint failed: stages"):
        ledger.finish_stage(1, "score", 0.1, {})
    with pytest.raises(LedgerError, match=r"ledger rejected .*UNIQUE constraint failed: rounds"):
        ledger.open_round(1, method="a", config={}, model="", seed=0, versions={})


# ---- files -------------------------------------------------------------------------------------------------------


def test_reopening_keeps_everything(full):
    full.close()
    again = Ledger(full.path)
    assert len(again.images()) == 3
    assert len(again.answers()) == 2
    assert len(again.correction_rows()) == 3
    assert [(u.undone, u.source) for u in again.undos()] == [(1, "automatic")]
    again.close()


def test_a_newer_ledger_is_refused_and_left_alone(ledger):
    ledger.close()
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("INSERT INTO schema_versions VALUES (?)", (LATEST + 3,))
    message = rf"schema version {LATEST + 3}, but this a2lc knows versions up to {LATEST}\. .*pip install -U a2lc"
    for _ in range(2):
        with pytest.raises(NewerProjectError, match=message):
            Ledger(ledger.path)


@pytest.mark.parametrize("content", [b"this is no database, but it is long enough to be looked at" * 20, b"\0" * 5000])
def test_a_file_that_is_no_ledger(tmp_path, content):
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite cannot be read as a ledger: "):
        Ledger(path)
    assert path.read_bytes() == content


def test_a_truncated_ledger(full):
    with full._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    full.close()
    data = full.path.read_bytes()
    full.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(LedgerError, match=r"ledger\.sqlite .*(malformed|not a database|damaged|cannot be read)"):
        book = Ledger(full.path)
        book.images()
        book.answers()
        book.correction_rows()


@pytest.mark.parametrize("table", ["images", "answers", "corrections", "rounds"])
def test_a_damaged_page_is_told_when_it_is_read(full, table):
    with full._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.exec_driver_sql(f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'").scalar()
        size = connection.exec_driver_sql("PRAGMA page_size").scalar()
    full.close()
    data = bytearray(full.path.read_bytes())
    data[(page - 1) * size : page * size] = b"\x5a" * size
    full.path.write_bytes(bytes(data))
    book = Ledger(full.path)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite cannot be read or written: .*malformed.* restore a copy"):
        {"images": book.images, "answers": book.answers, "corrections": book.correction_rows, "rounds": book.rounds}[
            table
        ]()
    book.close()


def test_a_write_that_fails_leaves_nothing_half_done(ledger, monkeypatch):
    (query,) = ask(ledger, (0, 5))
    with pytest.raises(TypeError):
        ledger.add_answers(1, [(reply(query), 1.0, [(0, 5, FIRST, 1)])], stage=(0.1, {"a": object()}))
    assert ledger.answers() == []
    assert len(ledger.correction_rows()) == 0


def test_readers_see_the_ledger_while_one_writes(ledger):
    with ledger._write() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO annotators (name, created) VALUES ('x', '')"))
        reader = Ledger(ledger.path)
        assert len(reader.images()) == 3
        reader.close()
