"""Error rates of annotators, from masks that were answered more than once (pure).

Dawid and Skene (1979): each person names the true class t of a mask as class c with probability L[t, c], answers to one
mask are independent given its class, and expectation maximisation finds both the classes and L. Repeats are few, so
L has as little structure as they support:

    L[t, c] = 1 - e for c = t,  e·G[t, c] otherwise

with a rate e for each person, shrunk to that of all (as if `PERSON` of their answers had shown it), and one table G for
all of what a wrong answer names, shrunk to "any other class alike" (as if `CLASSES` wrong answers for each class had
shown that). The rate of all has a Beta prior. Its whole posterior distribution is kept, on a grid: eight repeats that
agree leave 2 % as likely as none, and intervals that rest on answers must know it.

What breaks it: a person who gives the same wrong answer twice, for then repeats agree; and errors that depend on the
mask: a repeat shows how often answers to masks like the repeated ones are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from a2lc.errors import InputError, ShapeError

__all__ = ["CLASSES", "PERSON", "PRIOR", "AnswerErrors", "estimate_errors"]

PRIOR = (1.0, 29.0)
"""Beta prior of the rate of all: mean 3.3 %, and above 10 % with probability 0.05."""

PERSON = 20.0
"""Answers with which a person's rate is shrunk to that of all."""

CLASSES = 10.0
"""Wrong answers for each class with which the table of confusions is shrunk to equal ones."""

_GRID = 120
_HIGHEST = 0.6  # rate; above it, answers say what a mask is not

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerErrors:
    """How often answers are wrong, and what wrong answers name.

    Attributes:
        rate: Share of all answers that are wrong: the mean of its posterior distribution.
        people: (P,) rate of each person.
        confusion: (C, C) probability that a wrong answer names a class, by the true one; rows sum to 1, 0 on the diagonal.
        repeated: Masks with two answers or more.
        differ: How many of them have answers that differ.
        grid: (G,) rates in (0, 0.6), ascending.
        density: (G,) their probabilities.
    """

    rate: float
    people: Floats
    confusion: Floats
    repeated: int
    differ: int
    grid: Floats
    density: Floats

    def quantile(self, share: float) -> float:
        """Return the rate that the true one is below with a given probability."""
        place = np.searchsorted(np.cumsum(self.density), share * self.density.sum())
        return float(self.grid[min(int(place), len(self.grid) - 1)])

    def draws(self, count: int) -> Floats:
        """Return (count,) equally likely rates, ascending: midpoints of the posterior's quantiles."""
        return np.array([self.quantile((i + 0.5) / count) for i in range(count)])

    def factors(self) -> Floats:
        """Return the (P,) rates of people, in parts of the rate of all."""
        return self.people / self.rate


def estimate_errors(
    masks: NDArray[np.int64],
    people: NDArray[np.int64],
    answers: NDArray[np.int64],
    weights: Floats,
    *,
    num_people: int,
    num_answers: int,
    prior: tuple[float, float] = PRIOR,
    steps: int = 200,
) -> AnswerErrors:
    """Estimate error rates from answers to the same masks.

    Args:
        masks: (n,) mask of each answer. Masks with one answer say nothing.
        people: (n,) who gave it, in [0, P).
        answers: (n,) what they said, in [0, C): a class, or C - 1 for none.
        weights: (n,) weight of the mask, above 0, the same for its answers: one over its probability to be repeated.
            Weights above five times the median are cut to it, and all are scaled to sum to their effective number.
        num_people: P.
        num_answers: C.
        prior: Of the rate of all: wrong and right answers with which it is shrunk.
        steps: Of expectation maximisation at most.

    Returns:
        The rates; those of the prior where no mask has two answers.

    Raises:
        ShapeError: The arrays differ in length.
        InputError: A person, an answer or a weight is out of range.

    Source:
        Dawid and Skene 1979 (doi:10.2307/2346806).

    Example:
        >>> twice = np.repeat(np.arange(50), 2)
        >>> said = np.zeros(100, dtype=int)
        >>> said[:8:2] = 1
        >>> found = estimate_errors(twice, np.zeros(100, dtype=int), said, np.ones(100), num_people=1, num_answers=3)
        >>> found.repeated, found.differ, round(found.rate, 3)
        (50, 4, 0.038)
    """
    if not masks.ndim == 1 or not masks.shape == people.shape == answers.shape == weights.shape:
        raise ShapeError(
            f"Masks {masks.shape}, people {people.shape}, answers {answers.shape}, weights {weights.shape}; expected (n,) each."
        )
    if len(masks) and not (
        people.min() >= 0 and people.max() < num_people and answers.min() >= 0 and answers.max() < num_answers
    ):
        raise InputError(f"Expected people in [0, {num_people}) and answers in [0, {num_answers}).")
    if not (weights > 0).all():
        raise InputError("Weights of repeated masks must be above 0.")
    _, which, count = np.unique(masks, return_inverse=True, return_counts=True)
    twice = count[which] > 1
    people, answers, weights = people[twice], answers[twice], weights[twice].astype(np.float64)
    _, first, which = np.unique(masks[twice], return_index=True, return_inverse=True)
    weight = _effective(weights[first])
    differ = np.zeros(len(first), dtype=bool)
    differ[which[answers != answers[first][which]]] = True

    apart = 1 - np.eye(num_answers)
    equal = apart / max(num_answers - 1, 1)
    rate, rates, confusion = prior[0] / sum(prior), np.full(num_people, prior[0] / sum(prior)), equal
    share = np.full(num_answers, 1 / num_answers)
    answered = np.bincount(people, weights=weight[which], minlength=num_people)
    for _ in range(steps if len(first) else 0):
        true = _true_classes(rates[people], confusion, share, which, answers)
        # Expected wrong answers of each person, and by true class and the class named.
        wrong = weight[which] * (1 - true[which, answers])
        by_person = np.bincount(people, weights=wrong, minlength=num_people)
        before = rates
        rate = (prior[0] + by_person.sum()) / (sum(prior) + answered.sum())
        rates = (PERSON * rate + by_person) / (PERSON + answered)
        # People differ by factors around the rate of all, which alone has the prior: one person has just that rate.
        rates *= rate * answered.sum() / (answered @ rates)
        named = np.zeros((num_answers, num_answers))
        np.add.at(named.T, answers, weight[which, None] * true[which])
        confusion = CLASSES * equal + named * apart
        confusion /= np.maximum(confusion.sum(axis=1, keepdims=True), 1e-12)
        share = 1.0 + weight @ true
        share /= share.sum()
        if np.abs(rates - before).max() < 1e-10:
            break
    grid, density = _posterior_of_rate(rates / rate, confusion, share, which, people, answers, weight, prior)
    mean = float(grid @ density)
    return AnswerErrors(
        rate=mean,
        people=np.minimum(rates / rate * mean, _HIGHEST),
        confusion=confusion,
        repeated=len(first),
        differ=int(differ.sum()),
        grid=grid,
        density=density,
    )


def _effective(weight: Floats) -> Floats:
    """Cut weights at five times their median and scale them to sum to their effective number."""
    if not len(weight):
        return weight
    weight = np.minimum(weight, 5 * np.median(weight))
    return np.asarray(weight * weight.sum() / np.square(weight).sum(), dtype=np.float64)


def _log_joint(
    rates: Floats, confusion: Floats, share: Floats, which: NDArray[np.int64], answers: NDArray[np.int64]
) -> Floats:
    """Return the (m, C) logarithm of the probability of a mask's class and its answers together."""
    said = rates[:, None] * confusion[:, answers].T
    said[np.arange(len(answers)), answers] = 1 - rates
    logs = np.zeros((which.max() + 1, len(share)))
    np.add.at(logs, which, np.log(np.maximum(said, 1e-300)))
    return np.asarray(logs + np.log(share), dtype=np.float64)


def _true_classes(
    rates: Floats, confusion: Floats, share: Floats, which: NDArray[np.int64], answers: NDArray[np.int64]
) -> Floats:
    """Return the (m, C) probabilities of each mask's class given its answers."""
    logs = _log_joint(rates, confusion, share, which, answers)
    return np.asarray(np.exp(logs - logsumexp(logs, axis=1, keepdims=True)), dtype=np.float64)


def _posterior_of_rate(
    factors: Floats,
    confusion: Floats,
    share: Floats,
    which: NDArray[np.int64],
    people: NDArray[np.int64],
    answers: NDArray[np.int64],
    weight: Floats,
    prior: tuple[float, float],
) -> tuple[Floats, Floats]:
    """Return rates on a grid and how probable each is, what people differ by and the confusions held as estimated."""
    place = (np.arange(_GRID) + 0.5) / _GRID
    # Finer near 0, where the prior has most of its weight.
    grid = _HIGHEST * place**2
    log = np.log(place) + (prior[0] - 1) * np.log(grid) + (prior[1] - 1) * np.log1p(-grid)
    if len(weight):
        # As `_log_joint`, with all that does not depend on the rate taken out of the loop.
        size, cell = (len(weight), len(share)), which * len(share) + answers
        said = factors[people, None] * confusion[:, answers].T
        said[np.arange(len(answers)), answers] = 1.0
        fixed = np.log(share) + np.zeros(size)
        np.add.at(fixed, which, np.log(np.maximum(said, 1e-300)))
        wrong = np.bincount(which)[:, None] - np.bincount(cell, minlength=fixed.size).reshape(size)
        for i, rate in enumerate(grid):
            right = np.log1p(-np.minimum(factors[people] * rate, 0.95))
            logs = fixed + wrong * np.log(rate) + np.bincount(cell, weights=right, minlength=fixed.size).reshape(size)
            most = logs.max(axis=1, keepdims=True)
            log[i] += weight @ (most[:, 0] + np.log(np.exp(logs - most).sum(axis=1)))
    density = np.exp(log - log.max())
    return grid, density / density.sum()
