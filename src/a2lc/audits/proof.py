"""Prove in order: which proposals a round tests, which audits come next, and what they show."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import class_unions
from a2lc.audits.gain_certificate import GainPromise, certify_gain
from a2lc.audits.knowledge import Known
from a2lc.audits.sequential_certificate import TestPlan, certify_in_order, plan_test, worth_going_on
from a2lc.audits.settings import SessionSettings
from a2lc.audits.stakes import Floats, effects, expected_effects, stakes
from a2lc.audits.tables import FrozenTable
from a2lc.classes.sentinels import UNKNOWN, VOID
from a2lc.masks.tables import MaskTable

__all__ = [
    "AT_ONCE",
    "Outcome",
    "Proposals",
    "audited_so_far",
    "found_ratios",
    "next_audits",
    "plan_round",
    "prove",
    "prove_at_once",
]

AT_ONCE = 5
"""Audits asked together where they are stopped as soon as they suffice."""

_USUAL = 1.4
"""What audits find by what the posterior expected, where none were made yet: it is cautious at first."""

_TRUST = 3.0
"""Expected ratios, summed over audits, that outweigh this."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposals:
    """Changes of labels, with what they can do to summed IoU.

    Attributes:
        rows: (n,) rows of masks.
        stakes: (n,) the most that each can change.
        expected: (n,) what the posterior expects.
        unions: (K,) pixels of each class.
        ious: (K,) in [0, 1].
    """

    rows: NDArray[np.int64]
    stakes: Floats
    expected: Floats
    unions: Floats
    ious: Floats

    @classmethod
    def of(
        cls, masks: MaskTable, rows: NDArray[np.int64], labels: NDArray[np.int32], posterior: NDArray[np.float32]
    ) -> Proposals:
        """Compute them for masks that would get other labels.

        Args:
            masks: All M masks.
            rows: (n,) those to change.
            labels: (M,) the labels that all would have.
            posterior: (M, K + 1) probabilities.
        """
        unions, ious = class_unions(masks.area, labels, posterior)
        area, old, new = masks.area[rows], masks.label[rows], labels[rows]
        return cls(
            rows=rows,
            stakes=stakes(area, old, new, unions, ious),
            expected=expected_effects(area, old, new, posterior[rows], unions, ious),
            unions=unions,
            ious=ious,
        )

    def found(self, masks: MaskTable, labels: NDArray[np.int32], truth: NDArray[np.int32]) -> Floats:
        """Return what each does by the truth; where no class was named, the worst.

        Args:
            masks: All M masks.
            labels: (M,) the labels that all would have.
            truth: (M,) class, VOID, or UNKNOWN.
        """
        rows, said = self.rows, truth[self.rows]
        gained = effects(
            masks.area[rows], masks.label[rows], labels[rows], np.maximum(said, VOID), self.unions, self.ious
        )
        return np.where(said == UNKNOWN, -self.stakes, gained)


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What the audits of a round show of the set that it tests.

    Attributes:
        rows: Rows that are proven to gain together.
        promise: The certificate.
        settled: Whether further audits are of no use: it is proven, or cannot be any more.
    """

    rows: NDArray[np.int64]
    promise: GainPromise
    settled: bool


def plan_round(
    proposals: Proposals, most: int, settings: SessionSettings, found: Floats, expected: Floats
) -> TestPlan | None:
    """Choose which proposals a round tests, and with how many audits.

    Args:
        proposals: Those that are not proven yet.
        most: Audits that can be paid for.
        settings: Of the session.
        found: (k,) ratios of effect to stake that audits of earlier rounds found.
        expected: (k,) ratios that the posterior expected of these then.
    """
    # What the posterior expects is corrected by how it did before; the answers to the audits to come enter nowhere.
    correction = (_TRUST * _USUAL + found.sum()) / (_TRUST + expected.sum())
    hoped = np.clip(correction, 0.5, 2.0) * proposals.expected
    return plan_test(np.minimum(hoped, proposals.stakes), proposals.stakes, most, confidence=settings.confidence)


def prove(
    frozen: FrozenTable,
    masks: MaskTable,
    truth: NDArray[np.int32],
    asked: int,
    *,
    num_classes: int,
    confidence: float,
    wrong_answers: float = 0.0,
) -> Outcome:
    """Return what the first audits of a round show.

    Args:
        frozen: Of the round, with a tested set.
        masks: All M masks.
        truth: (M,) class, VOID, or UNKNOWN; an audit that named no class counts as the worst.
        asked: How many audits were asked.
        num_classes: K.
        confidence: Of the certificate, in (0, 1).
        wrong_answers: Share of answers, in [0, 1), that may be wrong.
    """
    assert frozen.tested is not None
    assert frozen.expected is not None
    tested = Proposals.of(masks, frozen.tested, frozen.labels, frozen.posteriors(num_classes))
    place, left = np.searchsorted(tested.rows, frozen.drawn[:asked]), len(frozen.drawn) - asked
    found = tested.found(masks, frozen.labels, truth)[place]
    hoped = float(frozen.expected[0])
    promise = certify_in_order(
        tested.stakes, place, found, expected=hoped, confidence=confidence, wrong_answers=wrong_answers
    )
    if not len(tested.rows):
        promise = replace(promise, reason="no audits, as too few could be asked to prove a gain")
    settled = bool(promise.accepted.any()) or not worth_going_on(
        tested.stakes, place, found, left, expected=hoped, confidence=confidence, wrong_answers=wrong_answers
    )
    return Outcome(rows=tested.rows[promise.accepted], promise=promise, settled=settled)


def next_audits(frozen: FrozenTable, asked: int) -> NDArray[np.int64]:
    """Return the places in `drawn` of the next audits where those asked do not suffice yet."""
    return np.arange(asked, min(asked + AT_ONCE, len(frozen.drawn)))


def prove_at_once(
    frozen: FrozenTable,
    masks: MaskTable,
    truth: NDArray[np.int32],
    rows: NDArray[np.int64],
    *,
    num_classes: int,
    confidence: float,
    wrong_answers: float = 0.0,
) -> Outcome:
    """Return what independent draws show, as they were made before version 0.2.0.

    Args:
        frozen: Of the round.
        masks: All M masks.
        truth: (M,) class, VOID, or UNKNOWN.
        rows: (n,) what was proposed.
        num_classes: K.
        confidence: Of the certificate, in (0, 1).
        wrong_answers: Share of answers, in [0, 1), that may be wrong.
    """
    posterior = frozen.posteriors(num_classes)
    proposals = Proposals.of(masks, rows, frozen.labels, posterior)
    sure = posterior[rows, frozen.labels[rows]].astype(np.float64)
    drawn = np.searchsorted(rows, frozen.drawn)
    found = proposals.found(masks, frozen.labels, truth)[drawn]
    promise = certify_gain(sure, proposals.stakes, drawn, found, confidence=confidence, wrong_answers=wrong_answers)
    return Outcome(rows=rows[promise.accepted], promise=promise, settled=True)


def audited_so_far(
    tables: list[tuple[FrozenTable, float]], masks: MaskTable, known: Known, unions: Floats, ious: Floats
) -> tuple[Floats, Floats, NDArray[np.bool_], Floats]:
    """Return what audits of proposals have shown, of this round and of those before.

    Args:
        tables: What the rounds froze, and the weights of their audits.
        masks: All M masks.
        known: What answers say.
        unions: (K,) pixels of each class now.
        ious: (K,) in [0, 1], now.

    Returns:
        Scores that the audited had, their effects by their stakes, whether they were right, and weights.
    """
    parts, random = [], known.rows[known.random > 0]
    for table, weight in tables:
        drawn = table.drawn[np.isin(table.drawn, random)]
        area, old, new, said = masks.area[drawn], masks.label[drawn], table.labels[drawn], known.truth[drawn]
        stake = stakes(area, old, new, unions, ious)
        ratio = effects(area, old, new, said, unions, ious) / np.maximum(stake, 1e-300)
        sure = table.posteriors(len(unions))[drawn, new].astype(np.float64)
        parts.append((sure, np.clip(ratio, -1, 1), said == new, np.full(len(drawn), weight)))
    sures, ratios, rights, weights = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return sures, ratios, rights, weights


def found_ratios(frozen: FrozenTable, masks: MaskTable, known: Known, num_classes: int) -> tuple[Floats, Floats]:
    """Return ratios of effect to stake that audits of a round found, and those that its posterior expected.

    Args:
        frozen: Of the round.
        masks: All M masks.
        known: What answers say.
        num_classes: K.
    """
    rows = np.intersect1d(frozen.drawn, known.rows[known.random > 0])
    proposals = Proposals.of(masks, rows, frozen.labels, frozen.posteriors(num_classes))
    stake = np.maximum(proposals.stakes, 1e-300)
    return proposals.found(masks, frozen.labels, known.truth) / stake, proposals.expected / stake
