"""What goes into the ledger comes out of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from a2lc.ledger import FIRST, VOID, Ledger, mask_keys
from a2lc.ledger.replay import SOURCES
from a2lc.records import Answer, AnswerKind, ImageRecord, Query, Reason, Source

names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)
queries = st.builds(
    Query,
    round=st.just(1),
    image=st.integers(0, 2),
    mask_ids=st.sets(st.integers(1, 65535), min_size=1, max_size=3).map(lambda s: tuple(sorted(s))),
    proposed=st.none() | st.integers(0, 20),
    suggestions=st.lists(st.integers(0, 20), max_size=9, unique=True).map(tuple),
    score=st.floats(-1e6, 1e6),
    reason=st.sampled_from(Reason),
    inclusion_probability=st.none() | st.floats(0.001, 1),
)


def book(folder) -> Ledger:
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.add_images(
        [
            ImageRecord(
                index=i, image_id=f"d/im {i}", file=f"d/im {i}.jpg", width=9, height=5, split=s, sha256="f" * 64
            )
            for i, s in enumerate(["train", "train", "train", "validation"])
        ]
    )
    ledger.open_round(1, method="a2lc", config={"b": [1.5]}, model="", seed=7, versions={})
    return ledger


@settings(max_examples=15)
@given(asked=st.lists(queries, min_size=1, max_size=5), annotator=names, data=st.data())
def test_queries_and_answers(tmp_path_factory, asked, annotator, data):
    folder = tmp_path_factory.mktemp("ledger")
    ledger = book(folder)
    ledger.add_queries(1, asked, 0.5, {"a": 1})
    back = ledger.queries(1)
    assert [q.query_id for q in back] == list(range(1, len(asked) + 1))
    for sent, got in zip(asked, back, strict=True):
        assert replace(got, query_id=0) == sent
    answers = []
    for query in back:
        kind = data.draw(st.sampled_from(AnswerKind))
        classes = tuple(data.draw(st.lists(st.integers(0, 20), max_size=3)))
        sent = Answer(query_id=query.query_id, annotator=annotator, kind=kind, classes=classes, milliseconds=12)
        rows = [(query.image, mask, FIRST, data.draw(st.integers(VOID, 20))) for mask in query.mask_ids]
        answers.append((sent, 1.0, rows))
    assert ledger.add_answers(1, answers) == len(answers)
    ledger.close()
    again = Ledger(folder / "ledger.sqlite")  # as another process would find it
    for (sent, clicks, _), (got, paid) in zip(answers, again.answers(1), strict=True):
        assert replace(got, answer_id=0) == sent
        assert paid == clicks
    rows = again.correction_rows()
    expected = [row for _, _, rows in answers for row in rows]
    assert rows.keys.tolist() == mask_keys([r[0] for r in expected], [r[1] for r in expected]).tolist()
    assert rows.old.tolist() == [FIRST] * len(expected)
    assert rows.new.tolist() == [r[3] for r in expected]
    assert set(rows.source.tolist()) == {SOURCES.index("manual")}
    assert len(again.queries(1, unanswered=True)) == 0
    again.close()


@settings(max_examples=15)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 65535), st.integers(FIRST, 20), st.integers(FIRST, 20)), max_size=9
    ),
    confidence=st.floats(0, 1.0000002),
)
def test_corrections(tmp_path_factory, rows, confidence):
    folder = tmp_path_factory.mktemp("ledger")
    ledger = book(folder)
    columns = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    ledger.add_corrections(
        1, Source.AUTOMATIC, *columns, confidences=np.full(len(rows), confidence), model="m", stage=("correct", 0.1, {})
    )
    ledger.close()
    again = Ledger(folder / "ledger.sqlite")
    found = again.correction_rows()
    assert found.keys.tolist() == mask_keys(columns[0], columns[1]).tolist()
    assert found.old.tolist() == columns[2].tolist()
    assert found.new.tolist() == columns[3].tolist()
    assert found.ids.tolist() == list(range(1, len(rows) + 1))
    assert len(again.correction_rows(through=0)) == 0
    assert [s.stage for s in again.stages()] == ["correct"]
    assert [r.split for r in again.images()] == ["train"] * 3 + ["validation"]
    again.close()
