"""What wrong answers do to totals over masks: corrected means, and draws of what remains uncertain (pure).

With L the table of answers by true class (see `a2lc.audits.annotators`), an answer c is worth row c of the inverse of L:
on average 1 for the true class and 0 for the others, whatever the mask and whatever is believed of it. Totals made of such
rows are unbiased. What they miss by is drawn as it would be if all answers were right and were given again: with
probability e an answer flips into a wrong one, which moves area·(row c - row c') between the classes. The rate itself is
uncertain, so the draws are made at several rates, equally likely ones of its posterior distribution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.annotators import decoder
from a2lc.audits.resampling import (
    SEED,
    Floats,
    class_sums,
    class_totals,
    quantile,
    replicate_figures,
    rows_by_class,
    sure_bounds,
)
from a2lc.errors import InputError, ShapeError

__all__ = ["AnswerNoise", "AnsweredMasks", "corrected_joint", "flipped_joints"]

_SURE = 100
"""Draws of the bounds that no truth of unknown masks can pass."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerNoise:
    """How likely the answers to masks are wrong.

    Attributes:
        rates: (G,) equally likely error rates of all people.
        factor: (M,) what multiplies the rate for the answer of a mask, by who gave it; 0 where it was confirmed by another
            answer, and of no meaning for masks without one.
        confusion: (K + 1, K + 1) what wrong answers name, by true class.
    """

    rates: Floats
    factor: Floats
    confusion: Floats

    def check(self, masks: int, size: int) -> None:
        """Refuse arrays that do not fit so many masks, or classes and void.

        Raises:
            ShapeError: The shapes do not fit.
            InputError: A rate or a factor is negative, or there is no rate.
        """
        if self.factor.shape != (masks,) or self.confusion.shape != (size, size):
            raise ShapeError(
                f"Factors {self.factor.shape} and confusions {self.confusion.shape}; expected ({masks},), ({size}, {size})."
            )
        if not (len(self.rates) and (self.rates >= 0).all() and (self.factor >= 0).all()):
            raise InputError("Error rates and factors must be 0 or more, and there must be one rate at least.")

    @property
    def mean(self) -> float:
        """Mean of the rates."""
        return float(self.rates.mean())

    def worth(self, rate: float, factor: Floats, answers: NDArray[np.int64]) -> Floats:
        """Return (n, K + 1) what each answer says of the true class, at a rate."""
        found = np.empty((len(answers), len(self.confusion)))
        for one in np.unique(factor):
            rows = factor == one
            found[rows] = decoder(rate * float(one), self.confusion)[answers[rows]]
        return found


def corrected_joint(
    noise: AnswerNoise, rate: float, area: Floats, label: NDArray[np.int64], answer: NDArray[np.int64], factor: Floats
) -> Floats:
    """Return the (K+1, K+1) pixels by label and true class of answered masks, without what errors at a rate add.

    Args:
        noise: Of the answers.
        rate: Of all people.
        area: (n,) pixels.
        label: (n,) labels, K for void.
        answer: (n,) answers, K for void.
        factor: (n,) factors of the masks.
    """
    size = len(noise.confusion)
    found = np.zeros((size, size))
    for one in np.unique(factor):
        rows = factor == one
        said = class_sums(label[rows] * size + answer[rows], area[rows], size**2).reshape(size, size)
        found += said @ decoder(rate * float(one), noise.confusion)
    return found


def flipped_joints(
    noise: AnswerNoise,
    rate: float,
    area: Floats,
    label: NDArray[np.int64],
    answer: NDArray[np.int64],
    factor: Floats,
    count: int,
    rng: np.random.Generator,
) -> Floats:
    """Draw what errors at a rate may have done, as (count, K+1, K+1) pixels by label and true class.

    Their mean is `corrected_joint`. The number of flipped answers is drawn, and then which and into what.
    """
    size = len(noise.confusion)
    found = np.zeros((count, size, size))
    cumulated = noise.confusion.cumsum(axis=1)
    for one in np.unique(factor):
        rows = np.flatnonzero(factor == one)
        own = min(rate * float(one), 0.95)
        found += class_sums(label[rows] * size + answer[rows], area[rows], size**2).reshape(size, size)
        if own <= 0 or size < 2:
            continue
        number = rng.binomial(len(rows), own, count)
        hit = rows[rng.integers(0, len(rows), int(number.sum()))]
        into = (cumulated[answer[hit]] < rng.random((len(hit), 1))).sum(axis=1).clip(0, size - 1)
        cell = (np.repeat(np.arange(count), number) * size + label[hit]) * size
        moved = class_sums(cell + answer[hit], area[hit], count * size**2)
        moved -= class_sums(cell + into, area[hit], count * size**2)
        found += moved.reshape(count, size, size) @ decoder(own, noise.confusion)
    return found


class AnsweredMasks:
    """Pixels of answered masks by label and true class, as answers say them or with what their errors leave open.

    Args:
        area: (M,) pixels.
        label: (M,) labels the figures are of, K for void.
        answer: (M,) answers, K for void; of no meaning where there is none.
        known: (M,) masks with an answer.
        size: K + 1.
        noise: Of the answers; None if they are right.

    Attributes:
        said: (K+1, K+1) pixels by label and answer.
        rate: The error rate that estimates reckon with.
    """

    def __init__(
        self,
        area: Floats,
        label: NDArray[np.int64],
        answer: NDArray[np.int64],
        known: NDArray[np.bool_],
        size: int,
        noise: AnswerNoise | None,
    ) -> None:
        if noise is not None:
            noise.check(len(area), size)
        rows = np.flatnonzero(known)
        self._noise, self._answer, self._size = noise, answer, size
        self._masks = area[rows], label[rows], answer[rows]
        self._factor = np.zeros(len(rows)) if noise is None else noise.factor[rows]
        self._rng = np.random.default_rng([SEED, 1])
        self.said = class_sums(label[rows] * size + answer[rows], area[rows], size**2).reshape(size, size)
        self.rate = 0.0 if noise is None else noise.mean

    def mean(self) -> Floats:
        """Return the (K+1, K+1) pixels that are estimated."""
        return self.said if self._noise is None else corrected_joint(self._noise, self.rate, *self._masks, self._factor)

    def worth(self, rate: float, rows: NDArray[np.int64]) -> Floats:
        """Return (n, K + 1) what the answers of rows say of their true classes, at a rate."""
        if self._noise is None or rate <= 0:
            return np.eye(self._size)[self._answer[rows]]
        return self._noise.worth(rate, self._noise.factor[rows], self._answer[rows])

    def blocks(self, count: int) -> Iterator[tuple[float, slice]]:
        """Yield the error rates, and for each its part of so many replicates."""
        rates = [0.0] if self._noise is None else self._noise.rates.tolist()
        ends = np.linspace(0, count, len(rates) + 1).astype(int)
        for rate, begin, end in zip(rates, ends[:-1], ends[1:], strict=True):
            yield rate, slice(int(begin), int(end))

    def replicates(self, rate: float, block: slice) -> Floats:
        """Return (B, K+1, K+1) draws of the pixels at a rate, or the (1, K+1, K+1) of right answers."""
        if self._noise is None:
            return self.said[None]
        return flipped_joints(self._noise, rate, *self._masks, self._factor, block.stop - block.start, self._rng)

    def sure_ends(self, hidden: Floats, tail: float) -> tuple[Floats, Floats]:
        """Return the (3K+3,) bounds that no truth of the unknown masks can pass, but for that tail where answers may be wrong.

        Args:
            hidden: (K+1,) unknown pixels by label.
            tail: Probability.
        """
        if self._noise is None:
            return sure_bounds(self.said, hidden)
        found = [
            sure_bounds(joint, hidden) for rate, block in self.blocks(_SURE) for joint in self.replicates(rate, block)
        ]
        low, high = (np.clip(np.stack(ends), 0.0, 1.0) for ends in zip(*found, strict=True))
        return quantile(low, tail), quantile(high, 1 - tail)

    def ends(self, occurs: NDArray[np.bool_], tail: float) -> tuple[Floats, Floats]:
        """Return the (3K+3,) ends of the figures where no mask is unknown."""
        if self._noise is None:
            exact = replicate_figures(class_totals(self.said), rows_by_class(self.said), occurs)[0]
            return exact, exact
        figures = np.concatenate(
            [
                replicate_figures(class_totals(joints), rows_by_class(joints), occurs)
                for rate, block in self.blocks(1000)
                for joints in (self.replicates(rate, block),)
            ]
        )
        return quantile(figures, tail), quantile(figures, 1 - tail)
