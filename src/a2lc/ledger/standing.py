"""Answers that stand: those that were neither replaced nor undone."""

from __future__ import annotations

from a2lc.ledger.ledger import Ledger
from a2lc.records import Answer, Query

__all__ = ["standing_answers"]


def standing_answers(ledger: Ledger) -> list[tuple[Query, Answer]]:
    """Return queries with the answers that stand, in recorded order, without those of rounds that were undone."""
    queries = {query.query_id: query for query in ledger.queries()}
    undone = {undo.undone: undo.time for undo in ledger.undos() if undo.source != "automatic"}
    times = {answer.answer_id: when for answer, _, when in ledger.timed_answers()} if undone else {}
    standing = []
    for answer, _ in ledger.answers():
        query = queries[answer.query_id]
        if query.round in undone and times[answer.answer_id] <= undone[query.round]:
            continue
        standing.append((query, answer))
    return standing
