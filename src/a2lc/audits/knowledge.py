"""What the recorded answers say about each mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.project.project import Project
from a2lc.records import Answer, Query

__all__ = ["FEWEST_PAIRS", "NO_ANSWER", "TRIES", "Known", "error_rate_of", "standing_answers"]


UNKNOWN = -2
"""Truth of a mask that nobody was asked about."""


NO_ANSWER = -3  # of one that was asked about and given no class, in a frozen table


FEWEST_PAIRS = 8  # of answers to the same mask that say how often answers are wrong


TRIES = 3  # answers to one mask at most


def standing_answers(project: Project) -> list[tuple[Query, Answer]]:
    """Questions with the answers that stand, in recorded order, without those of rounds that were taken back."""
    queries = {query.query_id: query for query in project.ledger.queries()}
    undone = {undo.undone: undo.time for undo in project.ledger.undos() if undo.source != "automatic"}
    times = {answer.answer_id: when for answer, _, when in project.ledger.timed_answers()} if undone else {}
    said = []
    for answer, _ in project.ledger.answers():
        query = queries[answer.query_id]
        if query.round in undone and times[answer.answer_id] <= undone[query.round]:
            continue
        said.append((query, answer))
    return said


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """What the answers say: per mask, and answer by answer."""

    truth: NDArray[np.int32]  # (M,) class, VOID, or UNKNOWN
    asked: NDArray[np.bool_]  # (M,) asked about, answered or not
    open: NDArray[np.bool_]  # (M,) asked about, and may be again: the class that was answered was split since
    rows: NDArray[np.int64]  # (n,) answered masks
    random: NDArray[np.float64]  # (n,) one over the inclusion probability of random draws, 0 of the others
    error_rate: float  # of answers; 0 where it is not known
    pairs: int  # masks asked about again at random, which it rests on
    disputed: NDArray[np.int64]  # rows of masks whose two answers differ
    checked: NDArray[np.int64]  # rows of masks asked about again


def error_rate_of(pairs: list[tuple[float, bool]], classes: int) -> float:
    """How often an answer is wrong, from masks answered twice: weights of the draw, and whether the two differ.

    Two answers of error rate e agree with probability (1 − e)² + e²/(K − 1) if errors name any other class alike. Fewer than
    eight pairs say nothing: 0 comes back.
    """
    if len(pairs) < FEWEST_PAIRS or classes < 2:
        return 0.0
    weight = np.array([weight for weight, _ in pairs])
    weight = np.minimum(weight, 5 * np.median(weight))
    differ = float(np.average([differ for _, differ in pairs], weights=weight))
    share = classes / (classes - 1)
    return float(min((1 - np.sqrt(max(0.0, 1 - differ * share))) / share, 0.5))
