"""Draws of earlier rounds, as evidence of what is unknown now (pure).

A round's audits were drawn with known probabilities from the masks unknown then. With a share s of each mask,

    Σ_drawn s·(seen - expected)/π  -  Σ_answered since s·(seen - expected)

estimates the residuals s·(seen - expected) of the masks unknown now: the first sum those of all that could be drawn then,
the second, known exactly, those of them that have an answer by now, the drawn ones included. The shares of all draws
sum to 1 for each mask, so the sum of these estimates is one of the whole, and it is unbiased for any shares that do not
depend on which masks were drawn. What is expected must come, for each answered mask, from a fit without its answer.

The shares are inverse variances by the posterior. Masks are grouped by how sure their label is and whether the posterior
would change it. In a group nearly all of
which was answered since, an old draw says little of the few that are left, and its share is small; in a group of sure
labels, few of which were asked about, draws of all rounds count nearly alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.answer_noise import Flips
from a2lc.audits.resampling import Floats, residuals
from a2lc.errors import InputError, ShapeError

__all__ = ["AuditDraws", "MovedDraws", "PooledDraws", "moved_draws", "pool", "with_shares"]

_EDGES = (0.02, 0.1, 0.3)
"""Probabilities of a wrong label between the groups."""

_LEAST = 0.02
"""Probability of a wrong label that shares reckon with where the posterior says less."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AuditDraws:
    """Masks drawn at random at one time.

    Attributes:
        rows: (n,) rows drawn; one may come twice where draws are independent.
        expected: (M,) expected number of times each mask is drawn; 0 for those that could not be.
        replaced: Whether draws are independent, so that a row may come twice.
        share: (M,) part of each mask that these draws answer for, in [0, 1]; 0 where `expected` is.
    """

    rows: NDArray[np.int64]
    expected: Floats
    replaced: bool
    share: Floats

    def check(self, masks: int, known: NDArray[np.bool_]) -> None:
        """Refuse draws that do not fit so many masks, those with an answer marked in `known`.

        Raises:
            ShapeError: The arrays are not of that length.
            InputError: A drawn row could not be drawn, or has no answer, or a share is out of range.
        """
        if not self.expected.shape == self.share.shape == (masks,):
            raise ShapeError(
                f"Expected draws {self.expected.shape} and shares {self.share.shape}; expected ({masks},)."
            )
        if len(self.rows) and not (self.rows.min() >= 0 and self.rows.max() < masks and known[self.rows].all()):
            raise InputError(f"Drawn rows must be in 0..{masks - 1} and have an answer.")
        if not (self.expected[self.rows] > 0).all():
            raise InputError("A row was drawn that could not be.")
        if not ((self.share >= 0) & (self.share <= 1)).all() or (self.share[self.expected <= 0] > 0).any():
            raise InputError("Shares must be in 0..1, and 0 for masks that could not be drawn.")


@dataclass(frozen=True, eq=False, kw_only=True)
class PooledDraws:
    """Draws of several times, those of now first.

    Attributes:
        rows: (n,) rows drawn.
        weight: (n,) what multiplies their residuals in the sum over the unknown.
        spread: (n,) the same, shrunk for draws without replacement by what they leave of the spread (Hájek 1964).
        random: (n,) False for masks that were drawn with certainty.
        since: (m,) rows answered by now, a row once for each time it could have been drawn.
        subtracted: (m,) what multiplies the residuals that are subtracted.
        added: Weight of the draw that is added at either end, 1 where all draws are of one time.
    """

    rows: NDArray[np.int64]
    weight: Floats
    spread: Floats
    random: NDArray[np.bool_]
    since: NDArray[np.int64]
    subtracted: Floats
    added: float


def pool(
    drawn: NDArray[np.int64], probabilities: Floats, earlier: Sequence[AuditDraws], known: NDArray[np.bool_]
) -> PooledDraws:
    """Join the draws of now and others.

    Args:
        drawn: (n,) rows drawn now.
        probabilities: (n,) inclusion probabilities.
        earlier: Other draws; what their shares leave of a mask is that of the draws of now.
        known: (M,) masks with an answer.
    """
    left = np.ones(len(known))
    for draws in earlier:
        draws.check(len(known), known)
        left -= draws.share
    left = np.maximum(left, 0.0)
    # The masks drawn now are the ones known since they could be drawn: weight and subtraction in one.
    rows, weight = [drawn], [left[drawn] * (1 / probabilities - 1)]
    spread, random = [left[drawn] * np.sqrt(1 - probabilities) / probabilities], [probabilities < 1]
    since, subtracted = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    reach = [float((left[drawn] / probabilities).sum())]
    for draws in earlier:
        expected = draws.expected[draws.rows]
        own = draws.share[draws.rows] / expected
        rows.append(draws.rows)
        weight.append(own)
        spread.append(own if draws.replaced else own * np.sqrt(1 - np.minimum(expected, 1.0)))
        random.append(np.full(len(own), True) if draws.replaced else expected < 1)
        since.append(np.flatnonzero(known & (draws.share > 0)))
        subtracted.append(draws.share[since[-1]])
        reach.append(float(own.sum()))
    counts = np.array([max(len(part), 1) for part in rows], dtype=np.float64)
    parts = np.array(reach) / max(sum(reach), 1e-300)
    # As many draws of equal weight would show as much.
    equal = 1 / max(float((parts**2 / counts).sum()), 1e-300)
    total = float(sum(part.sum() for part in random))
    return PooledDraws(
        rows=np.concatenate(rows),
        weight=np.concatenate(weight),
        spread=np.concatenate(spread),
        random=np.concatenate(random),
        since=np.concatenate(since),
        subtracted=np.concatenate(subtracted),
        added=max(1.0, total / equal) if len(earlier) else 1.0,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class MovedDraws:
    """What wrong answers change in B resampled sums over the drawn.

    Attributes:
        sums: (B, F) of the values weighted by gammas.
        centre: (B, F) of the sum itself, less the mean of the values.
        rows: (B, 2, K) of what was seen by label, weighted by gammas: right pixels, and pixels of any class.
    """

    sums: Floats
    centre: Floats
    rows: Floats


def moved_draws(
    draws: PooledDraws, flips: Flips, area: Floats, label: NDArray[np.int64], gammas: Floats, weight: Floats
) -> MovedDraws:
    """Carry wrong answers to drawn masks into the resampled sums.

    Args:
        draws: Of all times.
        flips: The wrong answers in B draws of the true classes.
        area: (M,) pixels.
        label: (M,) labels, K for void.
        gammas: (B, n) weights of the draws that are random.
        weight: (m,) weights by label of the draws of now that are random, the first of the n.
    """
    number, classes = len(gammas), flips.change.shape[1] - 1
    sums, centre = np.zeros((number, 3 * classes + 3)), np.zeros((number, 3 * classes + 3))
    rows = np.zeros((number, 2, classes))
    gamma = np.where(draws.random, np.cumsum(draws.random) - 1, -1)
    count = gammas.shape[1]

    def met(masks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return pairs of a flip and a place in `masks` that are of one mask."""
        order = np.argsort(masks, kind="stable")
        begin = np.searchsorted(masks[order], flips.rows)
        length = np.searchsorted(masks[order], flips.rows, side="right") - begin
        flip = np.repeat(np.arange(len(length)), length)
        return flip, order[np.arange(len(flip)) - np.repeat(np.cumsum(length) - length - begin, length)]

    def change(flip: NDArray[np.int64]) -> Floats:
        mask, off = flips.rows[flip], flips.change[flip]
        return residuals(area[mask], label[mask], off, np.zeros_like(off))

    flip, place = met(draws.since)
    np.subtract.at(centre, flips.draw[flip], draws.subtracted[place, None] * change(flip))
    flip, place = met(draws.rows)
    moved, draw = change(flip), flips.draw[flip]
    np.add.at(centre, draw, draws.weight[place, None] * moved)
    free = draws.random[place]
    draw, place, moved = draw[free], place[free], moved[free]
    drawn = gammas[draw, gamma[place]]
    np.add.at(sums, draw, (count * draws.spread[place] * drawn)[:, None] * moved)
    # The values' mean is part of the centre, so that the sums deviate from it.
    np.subtract.at(centre, draw, draws.spread[place, None] * moved)
    own = (gamma[place] < len(weight)) & (label[draws.rows[place]] < classes)
    draw, place, moved, drawn = draw[own], place[own], moved[own], drawn[own]
    of = label[draws.rows[place]]
    for part, column in ((0, of), (1, 2 * classes + of)):
        seen = drawn * weight[gamma[place]] * moved[np.arange(len(of)), column]
        np.add.at(rows, (draw, part, of), seen)
    return MovedDraws(sums=sums, centre=centre, rows=rows)


def with_shares(
    drawn: Sequence[AuditDraws],
    area: NDArray[Any],
    right: Floats,
    unknown: NDArray[np.bool_],
    proposed: NDArray[np.bool_],
    *,
    proposals: bool = True,
) -> list[AuditDraws]:
    """Divide each mask among the draws that could have drawn it, by the inverse variances of what they say of its group.

    Args:
        drawn: The last ones are those of now, which could draw every mask unknown before them; their shares are ignored.
        area: (M,) pixels.
        right: (M,) probability of each label, for an answered mask without its answer.
        unknown: (M,) masks without an answer now.
        proposed: (M,) masks that the posterior would change, for an answered one without its answer.
        proposals: Whether other draws than the last may speak of these.

    Returns:
        The same draws with shares, the last ones not in the list.
    """
    wrong = np.clip(1 - right, 0.0, 1.0)
    group = 2 * np.searchsorted(_EDGES, wrong) + proposed
    moved = np.square(area.astype(np.float64)) * np.clip(wrong, _LEAST, 0.98) * (1 - np.clip(wrong, _LEAST, 0.98))
    precision = np.zeros((len(drawn), 2 * len(_EDGES) + 2))
    for number, draws in enumerate(drawn):
        could = draws.expected > 0
        spread = np.divide(moved, draws.expected, out=np.zeros(len(area)), where=could)
        total = np.bincount(group[could], weights=spread[could], minlength=precision.shape[1])
        # Draws that could miss a mask of a group, such as those of proposals alone, say nothing of the group.
        missed = np.bincount(group[unknown & ~could], minlength=precision.shape[1])
        precision[number] = np.divide(1.0, total, out=np.zeros(len(total)), where=(total > 0) & (missed == 0))
    if not proposals:
        precision[:-1, 1::2] = 0.0
    sums = precision.sum(axis=0)
    shares = np.divide(precision, sums, out=np.zeros_like(precision), where=sums > 0)
    return [
        AuditDraws(
            rows=draws.rows,
            expected=draws.expected,
            replaced=draws.replaced,
            share=np.where(draws.expected > 0, share[group], 0.0),
        )
        for draws, share in zip(drawn[:-1], shares, strict=False)
    ]
