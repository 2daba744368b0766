"""What was asked and answered."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from a2lc.classes.sentinels import VOID
from a2lc.correction.manual import answered_class
from a2lc.records import Answer, AnswerKind, Query, QueryKind
from a2lc.report.facts import Facts

__all__ = ["LogSection", "says"]


FREQUENT = 15
"""Corrections listed from the annotation log."""


@dataclass(frozen=True, kw_only=True)
class AskedRow:
    """What a round's answers said of the labels asked about.

    Attributes:
        round: Round.
        queries: Questions.
        kinds: Standing answers by kind.
        judged: Answers that say whether the label is right: all but skips.
        wrong: Of them, those that say it is wrong.
        seconds: Median time of an answer, None where it was not taken.
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
        rows: By round.
        kinds: Kinds of answers that were given.
        annotators: Answers by annotator, the busiest first.
        frequent: Most frequent corrections: class given, class answered, answers.
        replaced: Answers that another has replaced.
    """

    rows: list[AskedRow]
    kinds: list[str]
    annotators: list[tuple[str, int]]
    frequent: list[tuple[int, int, int]]
    replaced: int


def annotation_log(facts: Facts) -> LogSection:
    """Make section 7."""
    queries = {query.query_id: query for query in facts.queries}
    by_round: dict[int, list[tuple[Query, Answer]]] = {}
    frequent: Counter[tuple[int, int]] = Counter()
    for answer, _ in facts.answers:
        query = queries[answer.query_id]
        by_round.setdefault(query.round, []).append((query, answer))
        given = answered_class(answer)
        if says(query, answer) is False and given is not None:
            frequent[(VOID if query.proposed is None else query.proposed, given)] += 1
    asked = Counter(query.round for query in facts.queries)
    rows = []
    for number in sorted(asked):
        pairs = by_round.get(number, [])
        said = [verdict for query, answer in pairs if (verdict := says(query, answer)) is not None]
        times = [answer.milliseconds for _, answer in pairs if answer.milliseconds is not None]
        rows.append(
            AskedRow(
                round=number,
                queries=asked[number],
                kinds=dict(Counter(answer.kind.value for _, answer in pairs)),
                judged=len(said),
                wrong=said.count(False),
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


def says(query: Query, answer: Answer) -> bool | None:
    """Whether an answer says that the label asked about is right; None for a skip, or where none was asked about."""
    if answer.kind == AnswerKind.SKIP or query.kind not in {QueryKind.CORRECTION, QueryKind.PIXEL}:
        return None
    given = answered_class(answer)
    # Several classes in a mask, or none that fits: one class over all of it was wrong.
    return given is not None and given == (VOID if query.proposed is None else query.proposed)
