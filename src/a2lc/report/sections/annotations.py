"""Summarise the annotation log: questions and answers by round, kind and annotator."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from a2lc.classes.sentinels import VOID
from a2lc.correction.manual import answered_class
from a2lc.records import Answer, AnswerKind, Query, QueryKind
from a2lc.report.facts import Facts

__all__ = ["LogSection", "confirms_label"]


FREQUENT = 15
"""Corrections listed in the annotation log."""


@dataclass(frozen=True, kw_only=True)
class AskedRow:
    """Answers of a round.

    Attributes:
        round: Round index.
        queries: Number of questions.
        kinds: Number of current answers of each kind.
        judged: Answers that judge the label: all but skips.
        wrong: Those of them that reject the label.
        seconds: Median time of an answer in seconds; None if it was not recorded.
    """

    round: int
    queries: int
    kinds: dict[str, int]
    judged: int
    wrong: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class LogSection:
    """The annotation log in figures.

    Attributes:
        rows: One for each round.
        kinds: Kinds of answers that occur.
        annotators: Annotators and their numbers of answers, most active first.
        frequent: Most frequent corrections: labelled class, answered class, number of answers.
        replaced: Number of answers that were replaced by a later one.
    """

    rows: list[AskedRow]
    kinds: list[str]
    annotators: list[tuple[str, int]]
    frequent: list[tuple[int, int, int]]
    replaced: int


def annotation_log(facts: Facts) -> LogSection:
    """Compute the section."""
    queries = {query.query_id: query for query in facts.queries}
    by_round: dict[int, list[tuple[Query, Answer]]] = {}
    frequent: Counter[tuple[int, int]] = Counter()
    for answer, _ in facts.answers:
        query = queries[answer.query_id]
        by_round.setdefault(query.round, []).append((query, answer))
        given = answered_class(answer)
        if confirms_label(query, answer) is False and given is not None:
            frequent[(VOID if query.proposed is None else query.proposed, given)] += 1
    asked = Counter(query.round for query in facts.queries)
    rows = []
    for number in sorted(asked):
        pairs = by_round.get(number, [])
        verdicts = [verdict for query, answer in pairs if (verdict := confirms_label(query, answer)) is not None]
        times = [answer.milliseconds for _, answer in pairs if answer.milliseconds is not None]
        rows.append(
            AskedRow(
                round=number,
                queries=asked[number],
                kinds=dict(Counter(answer.kind.value for _, answer in pairs)),
                judged=len(verdicts),
                wrong=verdicts.count(False),
                seconds=float(np.median(times)) / 1000 if times else None,
            )
        )
    every = [answer for answer, _ in facts.project.ledger.answers(standing=False) if answer.query_id in queries]
    return LogSection(
        rows=rows,
        kinds=[kind.value for kind in AnswerKind if any(kind.value in row.kinds for row in rows)],
        annotators=Counter(answer.annotator for answer, _ in facts.answers).most_common(),
        frequent=[(*pair, count) for pair, count in sorted(frequent.items(), key=lambda i: (-i[1], i[0]))[:FREQUENT]],
        replaced=len(every) - len(facts.answers),
    )


def confirms_label(query: Query, answer: Answer) -> bool | None:
    """Return whether an answer confirms the label in question; None for a skip, or if no label was in question."""
    if answer.kind == AnswerKind.SKIP or query.kind not in {QueryKind.CORRECTION, QueryKind.GRID, QueryKind.PIXEL}:
        return None
    given = answered_class(answer)
    # Where a mask has several classes or none that fits, one label for all of it was wrong.
    return given is not None and given == (VOID if query.proposed is None else query.proposed)
