"""What wrong answers leave open of the true classes of answered masks (pure).

The true class t of a mask whose answer was c has the probability

    q(t) ∝ [(1 - ε)·P(t) + ε/(K + 1)]·L[t, c]

with L the table of answers by true class (see `a2lc.audits.annotators`), and P from a posterior fitted without this answer.
What is fitted to answers predicts answers, so P is what errors at that rate leave of it: (posterior - e/K)/(1 - e - e/K),
cut at 0. The rate is thereby bounded from above and from there alone: were 5 % of the answers wrong, no posterior could
predict them with 99 %, and be right. ε is the
share of masks of which the posterior knows nothing: where answers contradict it, either it or they are wrong, and which is
for all answers together to say. So the rate of wrong answers and ε, one of masks drawn at random and one of masks chosen, have a
joint distribution: what repeats say of the rate, times how probable all answers are. True classes are drawn at values
of it (multiple imputation, Rubin 1987), and every figure is computed from each draw.

What breaks it: a posterior that is wrong as people are, in the same masks and with the same classes; and people who are misled
by the same masks, for repeats then agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

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

__all__ = ["AnswerNoise", "AnsweredMasks", "Flips"]

_BLIND = np.array([0.0, 0.01, 0.03, 0.08, 0.16, 0.3, 0.5, 0.8])
"""ε, shares of masks of which the posterior knows nothing."""

_BLOCKS = 40
"""Values of rate and shares at which true classes are drawn."""

_SURE = 200
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Flips:
    """Answers that are wrong in a draw of the true classes.

    Attributes:
        draw: (f,) number of the draw.
        rows: (f,) masks.
        change: (f, K + 1) 1 at the true class, -1 at the answer.
    """

    draw: NDArray[np.int64]
    rows: NDArray[np.int64]
    change: Floats


class AnsweredMasks:
    """Pixels of answered masks by label and true class, as answers say them or with what their errors leave open.

    Args:
        area: (M,) pixels.
        label: (M,) labels the figures are of, K for void.
        answer: (M,) answers, K for void; of no meaning where there is none.
        known: (M,) masks with an answer.
        posterior: (M, K+1) probabilities without the mask's own answer.
        audited: (n,) rows that were drawn at random.
        noise: Of the answers; None if they are right.

    Attributes:
        said: (K+1, K+1) pixels by label and answer.
    """

    def __init__(
        self,
        area: Floats,
        label: NDArray[np.int64],
        answer: NDArray[np.int64],
        known: NDArray[np.bool_],
        posterior: NDArray[np.floating],
        audited: NDArray[np.int64],
        noise: AnswerNoise | None,
    ) -> None:
        self._size = posterior.shape[1]
        if noise is not None:
            noise.check(len(area), self._size)
        self._noise = noise
        self._rows: NDArray[np.int64] = np.flatnonzero(known)
        self._place = np.cumsum(known) - 1
        self._area, self._label, self._answer = area[self._rows], label[self._rows], answer[self._rows]
        self._random = np.isin(self._rows, audited)
        self._posterior = posterior[self._rows].astype(np.float64) if noise is not None else np.empty((0, self._size))
        said = class_sums(self._label * self._size + self._answer, self._area, self._size**2)
        self.said: Floats = said.reshape(self._size, self._size)

    @cached_property
    def _settings(self) -> list[tuple[float, Floats]]:
        """Rates of wrong answers, and with each the ε of random and of chosen masks: a sample of their joint distribution."""
        assert self._noise is not None
        noise, answer = self._noise, self._answer
        flat = noise.confusion.mean(axis=0)[answer]
        log = np.zeros((len(noise.rates), 2, len(_BLIND)))
        for number, rate in enumerate(noise.rates):
            own = self._own(rate)
            true = self._without_errors(own, slice(None))
            named = true[np.arange(len(answer)), answer]
            misnamed = np.einsum("ij,ji->i", true, noise.confusion[:, answer])
            believed, blind = (1 - own) * named + own * misnamed, (1 - own) / self._size + own * flat
            for place, share in enumerate(_BLIND):
                each = np.log(np.maximum((1 - share) * believed + share * blind, 1e-300))
                log[number, :, place] = each[self._random].sum(), each[~self._random].sum()
        joint = log[:, 0, :, None] + log[:, 1, None, :]
        weight = np.exp(joint - joint.max()).ravel()
        ends = np.cumsum(weight / weight.sum())
        # Every so many parts of the distribution, laid end to end.
        taken = np.searchsorted(ends, (np.arange(_BLOCKS) + 0.5) / _BLOCKS).clip(max=len(weight) - 1)
        triples = np.stack(np.unravel_index(taken, joint.shape), axis=1).tolist()
        return [(float(noise.rates[i]), np.where(self._random, _BLIND[a], _BLIND[b])) for i, a, b in triples]

    def _own(self, rate: float) -> Floats:
        """Return (n,) error rates of the answers, at a rate of all."""
        assert self._noise is not None
        own = rate * self._noise.factor[self._rows]
        return np.asarray(np.minimum(own, 0.6 * (self._size - 1) / self._size), dtype=np.float64)

    def _without_errors(self, own: Floats, rows: NDArray[np.int64] | slice) -> Floats:
        """Return (m, K + 1) probabilities of the true class, of the posterior that predicts answers."""
        wrong = own[rows, None] / max(self._size - 1, 1)
        true = np.maximum(self._posterior[rows] - wrong, 1e-9)
        return np.asarray(true / true.sum(axis=1, keepdims=True), dtype=np.float64)

    def _believed(self, own: Floats, blind: Floats, rows: NDArray[np.int64] | slice) -> Floats:
        """Return probabilities of the true class without the answer, with a share of which nothing is known."""
        share = blind[rows, None]
        return np.asarray((1 - share) * self._without_errors(own, rows) + share / self._size, dtype=np.float64)

    def _wrong(self, rate: float, blind: Floats) -> Floats:
        """Return (n,) probabilities that answers are wrong."""
        assert self._noise is not None
        own = self._own(rate)
        believed = self._believed(own, blind, slice(None))
        right = (1 - own) * believed[np.arange(len(own)), self._answer]
        wrong = own * np.einsum("ij,ji->i", believed, self._noise.confusion[:, self._answer])
        return np.asarray(wrong / np.maximum(right + wrong, 1e-300), dtype=np.float64)

    def _otherwise(self, rate: float, blind: Floats, rows: NDArray[np.int64]) -> Floats:
        """Return (n, K + 1) probabilities of the true classes of masks whose answers are wrong."""
        assert self._noise is not None
        other = self._believed(self._own(rate), blind, rows) * self._noise.confusion[:, self._answer[rows]].T
        return np.asarray(other / np.maximum(other.sum(axis=1, keepdims=True), 1e-300), dtype=np.float64)

    @cached_property
    def _means(self) -> Floats:
        """(n, K + 1) probabilities of the true class of each answered mask."""
        found = np.zeros((len(self._rows), self._size))
        every, each = np.arange(len(self._rows)), np.eye(self._size)[self._answer]
        for rate, blind in self._settings:
            wrong = self._wrong(rate, blind)[:, None]
            found += (1 - wrong) * each + wrong * self._otherwise(rate, blind, every)
        return np.asarray(found / len(self._settings), dtype=np.float64)

    def mean(self) -> Floats:
        """Return the (K+1, K+1) pixels that are expected."""
        if self._noise is None:
            return self.said
        parts = [class_sums(self._label, self._area * part, self._size) for part in self._means.T]
        return np.stack(parts, axis=1)

    def worth(self, rows: NDArray[np.int64]) -> Floats:
        """Return (n, K + 1) probabilities of the true classes of answered masks."""
        place = self._place[rows]
        said = np.eye(self._size)[self._answer[place]] if self._noise is None else self._means[place]
        return np.asarray(said, dtype=np.float64)

    def blocks(self, count: int, seed: int) -> Iterator[tuple[slice, Flips | None, Floats]]:
        """Draw the true classes of answered masks so many times, in blocks.

        Yields:
            Which draws, the wrong answers in them, and (B, K+1, K+1) pixels by label and true class. Where answers are right,
            one block with None and the (1, K+1, K+1) pixels of all draws.
        """
        if self._noise is None:
            yield slice(0, count), None, self.said[None]
            return
        rng = np.random.default_rng([SEED, seed])
        ends = np.linspace(0, count, len(self._settings) + 1).astype(int)
        for (rate, blind), begin, end in zip(self._settings, ends[:-1], ends[1:], strict=True):
            number = int(end - begin)
            draw, place = np.nonzero(rng.random((number, len(self._rows))) < self._wrong(rate, blind))
            chances = self._otherwise(rate, blind, place).cumsum(axis=1)
            into = (chances < rng.random((len(place), 1))).sum(axis=1).clip(max=self._size - 1)
            # What no other class could have been named for stays as it is.
            into = np.where(chances[:, -1] > 0.5, into, self._answer[place])
            eye = np.eye(self._size)
            cell = (draw * self._size + self._label[place]) * self._size
            moved = class_sums(cell + into, self._area[place], number * self._size**2)
            moved -= class_sums(cell + self._answer[place], self._area[place], number * self._size**2)
            yield (
                slice(int(begin), int(end)),
                Flips(draw=draw, rows=self._rows[place], change=eye[into] - eye[self._answer[place]]),
                self.said + moved.reshape(number, self._size, self._size),
            )

    def sure_ends(self, hidden: Floats, tail: float) -> tuple[Floats, Floats]:
        """Return the (3K+3,) bounds that no truth of the unknown masks can pass, but for that tail where answers may be wrong.

        Args:
            hidden: (K+1,) unknown pixels by label.
            tail: Probability.
        """
        if self._noise is None:
            return sure_bounds(self.said, hidden)
        found = [sure_bounds(joint, hidden) for _, _, joints in self.blocks(_SURE, 2) for joint in joints]
        low, high = (np.stack(ends) for ends in zip(*found, strict=True))
        return _defined(quantile(low, tail), low), _defined(quantile(high, 1 - tail), high)

    def ends(self, occurs: NDArray[np.bool_], tail: float) -> tuple[Floats, Floats]:
        """Return the (3K+3,) ends of the figures where no mask is unknown."""
        if self._noise is None:
            exact = replicate_figures(class_totals(self.said), rows_by_class(self.said), occurs)[0]
            return exact, exact
        figures = np.concatenate(
            [
                replicate_figures(class_totals(joints), rows_by_class(joints), occurs)
                for _, _, joints in self.blocks(1000, 3)
            ]
        )
        return _defined(quantile(figures, tail), figures), _defined(quantile(figures, 1 - tail), figures)


def _defined(ends: Floats, draws: Floats) -> Floats:
    """Keep ends in 0..1, and NaN where a figure is undefined in every draw."""
    return np.where(np.isnan(draws).all(axis=0), np.nan, np.clip(ends, 0.0, 1.0))
