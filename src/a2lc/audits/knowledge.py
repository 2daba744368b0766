"""What the recorded answers say about each mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.annotators import AnswerErrors, estimate_errors
from a2lc.audits.answer_noise import AnswerNoise
from a2lc.audits.source import RoundSource
from a2lc.classes.sentinels import UNKNOWN, VOID
from a2lc.correction.manual import answered_class
from a2lc.records import Reason

__all__ = ["FEWEST_PAIRS", "Known", "Repeats", "read_knowledge"]

FEWEST_PAIRS = 8
"""Repeated queries below which nothing is said of how often answers are wrong."""

_TRIES = 3  # answers to one mask at most

_RATES = 20
"""Error rates at which intervals are drawn."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Repeats:
    """All answers to masks that have more than one.

    Attributes:
        rows: (n,) masks.
        people: (n,) who answered, in [0, P).
        answers: (n,) classes, K for none.
        weights: (n,) one over the inclusion probability of the mask's repeat; 1 for masks that were not drawn for it.
        num_people: P.
        num_classes: K.
    """

    rows: NDArray[np.int64]
    people: NDArray[np.int64]
    answers: NDArray[np.int64]
    weights: NDArray[np.float64]
    num_people: int
    num_classes: int

    @cached_property
    def errors(self) -> AnswerErrors:
        """How often answers are wrong, see `a2lc.audits.annotators.estimate_errors`."""
        return estimate_errors(
            self.rows,
            self.people,
            self.answers,
            self.weights,
            num_people=self.num_people,
            num_answers=self.num_classes + 1,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """What the answers say, per mask and answer by answer.

    Attributes:
        truth: (M,) class, VOID, or UNKNOWN.
        asked: (M,) whether the mask was asked about, answered or not.
        open: (M,) whether it was, and may be again: the class that was answered was split since.
        rows: (n,) answered masks, ascending.
        random: (n,) one over the inclusion probability of random draws, 0 for the others.
        person: (n,) who gave the answer that counts, as a number.
        confirmed: (n,) whether two answers agree on it.
        repeats: All answers to masks that have more than one.
        pairs: Repeats drawn at random that the error rate rests on.
        disputed: Rows of masks whose two answers differ.
        checked: Rows of masks with a repeat.
    """

    truth: NDArray[np.int32]
    asked: NDArray[np.bool_]
    open: NDArray[np.bool_]
    rows: NDArray[np.int64]
    random: NDArray[np.float64]
    person: NDArray[np.int64]
    confirmed: NDArray[np.bool_]
    repeats: Repeats
    pairs: int
    disputed: NDArray[np.int64]
    checked: NDArray[np.int64]

    @property
    def shows_errors(self) -> bool:
        """Whether there are enough repeats, and some of them differ."""
        return self.pairs >= FEWEST_PAIRS and self.repeats.errors.differ > 0

    @property
    def error_rate(self) -> float:
        """Share of answers that are wrong; 0 where repeats show none."""
        return self.repeats.errors.rate if self.shows_errors else 0.0

    @property
    def factors(self) -> NDArray[np.float64]:
        """(n,) what multiplies the rate of all for the answer that counts, by who gave it; 0 where another confirms it."""
        return np.where(self.confirmed, 0.0, self.repeats.errors.factors()[self.person])

    @property
    def wrong(self) -> NDArray[np.float64]:
        """(n,) probability that the answer that counts is wrong, before any look at the mask; 0 where repeats show no error."""
        return np.minimum(self.error_rate * self.factors, 0.5) if self.shows_errors else np.zeros(len(self.rows))

    def noise(self) -> AnswerNoise:
        """Return how likely answers are wrong, as estimates of label quality take it."""
        factor = np.zeros(len(self.truth))
        factor[self.rows] = self.factors
        errors = self.repeats.errors
        return AnswerNoise(rates=errors.draws(_RATES), factor=factor, confusion=errors.confusion)

    def most_errors(self, level: float) -> float:
        """Return a share of wrong answers that the true one exceeds with that probability; 0 where repeats show no error."""
        return self.repeats.errors.quantile(1 - level) if self.shows_errors else 0.0


def read_knowledge(source: RoundSource, *, before: int | None = None) -> Known:
    """Collect what all standing answers say.

    Args:
        source: The data.
        before: Only answers of rounds below this one count.
    """
    masks = source.masks
    truth = np.full(len(masks), UNKNOWN, dtype=np.int32)
    values_of: dict[int, list[int]] = {}
    people_of: dict[int, list[int]] = {}
    people: dict[str, int] = {}
    random: dict[int, float] = {}
    repeats: dict[int, float] = {}
    answered = [
        (query, answered_class(answer), answer.annotator, mask)
        for query, answer in source.standing_answers()
        for mask in query.mask_ids
        if before is None or query.round < before
    ]
    rows_of = masks.rows(
        np.array([query.image for query, _, _, _ in answered], dtype=np.int64),
        np.array([mask for _, _, _, mask in answered], dtype=np.int64),
    )
    reopened = source.reopened()
    for (query, value, person, _), row in zip(answered, rows_of.tolist(), strict=True):
        if value is None:
            continue
        if query.query_id in reopened:
            # It holds until someone says which part of the split class it is, and teaches nothing of the parts.
            truth[row] = value
            continue
        values_of.setdefault(row, []).append(value)
        people_of.setdefault(row, []).append(people.setdefault(person, len(people)))
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
    several = [
        (row, person, value, repeats.get(row, 1.0))
        for row in sorted(twice)
        for person, value in zip(people_of[row], values_of[row], strict=True)
    ]
    columns = np.array(several, dtype=np.float64).reshape(-1, 4).T
    said = np.where(columns[2] == VOID, source.num_classes, columns[2])
    asked = np.isin(masks.keys, source.asked_masks())
    return Known(
        truth=truth,
        asked=asked,
        open=asked & ~np.isin(masks.keys, source.asked_masks(closed=True)),
        rows=rows,
        random=np.array([random.get(int(row), 0.0) for row in rows]),
        person=np.array([people_of[int(row)][-1] for row in rows], dtype=np.int64),
        confirmed=np.array([values_of[int(row)].count(values_of[int(row)][-1]) > 1 for row in rows], dtype=np.bool_),
        repeats=Repeats(
            rows=columns[0].astype(np.int64),
            people=columns[1].astype(np.int64),
            answers=said.astype(np.int64),
            weights=columns[3],
            num_people=max(1, len(people)),
            num_classes=source.num_classes,
        ),
        pairs=sum(row in repeats for row in twice),
        disputed=np.array(sorted(disputed), dtype=np.int64),
        checked=np.array(sorted(twice), dtype=np.int64),
    )
