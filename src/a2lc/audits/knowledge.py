"""What the recorded answers say about each mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.source import RoundSource
from a2lc.classes.sentinels import UNKNOWN
from a2lc.correction.manual import answered_class
from a2lc.records import Reason

__all__ = ["FEWEST_PAIRS", "Known", "error_rate_of", "read_knowledge"]

FEWEST_PAIRS = 8
"""Repeated queries below which nothing is said of how often answers are wrong."""

_TRIES = 3  # answers to one mask at most


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """What the answers say, per mask and answer by answer.

    Attributes:
        truth: (M,) class, VOID, or UNKNOWN.
        asked: (M,) whether the mask was asked about, answered or not.
        open: (M,) whether it was, and may be again: the class that was answered was split since.
        rows: (n,) answered masks, ascending.
        random: (n,) one over the inclusion probability of random draws, 0 for the others.
        error_rate: Share of answers that are wrong; 0 while it is not known.
        pairs: Repeats drawn at random that the error rate rests on.
        disputed: Rows of masks whose two answers differ.
        checked: Rows of masks with a repeat.
    """

    truth: NDArray[np.int32]
    asked: NDArray[np.bool_]
    open: NDArray[np.bool_]
    rows: NDArray[np.int64]
    random: NDArray[np.float64]
    error_rate: float
    pairs: int
    disputed: NDArray[np.int64]
    checked: NDArray[np.int64]


def read_knowledge(source: RoundSource, *, before: int | None = None) -> Known:
    """Collect what all standing answers say.

    Args:
        source: The data.
        before: Only answers of rounds below this one count.
    """
    masks = source.masks
    truth = np.full(len(masks), UNKNOWN, dtype=np.int32)
    values_of: dict[int, list[int]] = {}
    random: dict[int, float] = {}
    repeats: dict[int, float] = {}
    answered = [
        (query, answered_class(answer), mask)
        for query, answer in source.standing_answers()
        for mask in query.mask_ids
        if before is None or query.round < before
    ]
    rows_of = masks.rows(
        np.array([query.image for query, _, _ in answered], dtype=np.int64),
        np.array([mask for _, _, mask in answered], dtype=np.int64),
    )
    reopened = source.reopened()
    for (query, value, _), row in zip(answered, rows_of.tolist(), strict=True):
        if value is None:
            continue
        if query.query_id in reopened:
            # It holds until someone says which part of the split class it is, and teaches nothing of the parts.
            truth[row] = value
            continue
        values_of.setdefault(row, []).append(value)
        truth[row] = value
        if query.reason == Reason.AUDIT and query.inclusion_probability:
            random[row] = 1 / query.inclusion_probability
        elif query.reason == Reason.GOLD and query.inclusion_probability:
            repeats.setdefault(row, 1 / query.inclusion_probability)
    rows = np.array(sorted(values_of), dtype=np.int64)
    twice = [row for row, values in values_of.items() if len(values) > 1]
    # Two of three are enough; whoever never agrees with themselves is not asked for ever.
    disputed = [
        row
        for row in twice
        if len(values_of[row]) < _TRIES and max(values_of[row].count(value) for value in values_of[row]) < 2
    ]
    pairs = [(repeats[row], values_of[row][0] != values_of[row][1]) for row in twice if row in repeats]
    asked = np.isin(masks.keys, source.asked_masks())
    return Known(
        truth=truth,
        asked=asked,
        open=asked & ~np.isin(masks.keys, source.asked_masks(closed=True)),
        rows=rows,
        random=np.array([random.get(int(row), 0.0) for row in rows]),
        error_rate=error_rate_of(pairs, source.num_classes),
        pairs=len(pairs),
        disputed=np.array(sorted(disputed), dtype=np.int64),
        checked=np.array(sorted(twice), dtype=np.int64),
    )


def error_rate_of(pairs: list[tuple[float, bool]], classes: int) -> float:
    """Estimate how often an answer is wrong from masks answered twice.

    Two answers of error rate e agree with probability (1 − e)² + e²/(K − 1) if errors name any other class alike. Fewer than
    eight pairs say nothing: the result is 0.

    Args:
        pairs: Weight of the draw, and whether the two answers differ.
        classes: K.
    """
    if len(pairs) < FEWEST_PAIRS or classes < 2:
        return 0.0
    weight = np.array([weight for weight, _ in pairs])
    weight = np.minimum(weight, 5 * np.median(weight))
    differ = float(np.average([differ for _, differ in pairs], weights=weight))
    share = classes / (classes - 1)
    return float(min((1 - np.sqrt(max(0.0, 1 - differ * share))) / share, 0.5))
