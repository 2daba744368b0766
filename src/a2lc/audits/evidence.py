"""Collect the random draws of all rounds, and what the posterior says of answered masks without their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import best_labels
from a2lc.audits.certification import Certification
from a2lc.audits.knowledge import Known
from a2lc.audits.pooling import AuditDraws, with_shares
from a2lc.audits.proof import Proposals
from a2lc.audits.sequential_certificate import successive_inclusion
from a2lc.audits.stakes import shares_of, stakes
from a2lc.audits.tables import AuditTable, FrozenTable
from a2lc.classes.sentinels import UNKNOWN
from a2lc.masks.tables import Int

__all__ = ["Evidence", "gather"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """What all rounds show of the masks unknown now.

    Attributes:
        area: (M,) pixels.
        first: (M,) initial labels.
        posterior: (M, K + 1) probabilities; of an answered mask, without its answer.
        before: (M,) masks that had an answer when the posterior was frozen.
        unknown: (M,) masks without an answer that this round's audits could have drawn.
        proposed: (M,) masks that the posterior would change, of an answered one without its answer.
        drawn: Draws of earlier rounds and of this one's proposals, and last those that measure this round.
    """

    area: Int
    first: NDArray[np.int32]
    posterior: NDArray[np.float32]
    before: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    proposed: NDArray[np.bool_]
    drawn: Sequence[AuditDraws]

    def without_answers(self, labels: NDArray[np.int32]) -> NDArray[np.int32]:
        """Return labels in which masks answered before the round's audits have their initial ones."""
        return np.where(self.before, self.first, labels).astype(np.int32)

    def draws(self, labels: NDArray[np.int32], *, changed: bool) -> list[AuditDraws]:
        """Return the draws beside those that measure this round, with their shares.

        Args:
            labels: (M,) labels the figures are of.
            changed: Whether corrections are among them. Which are made was decided by audits, and nobody knows whether a
                mask answered before would have got one, so masks that the posterior would change are then left to the
                draws that measure this round.
        """
        label = self.without_answers(labels)
        column = np.where(label < 0, self.posterior.shape[1] - 1, label)
        right = self.posterior[np.arange(len(label)), column].astype(np.float64)
        return with_shares(self.drawn, self.area, right, self.unknown, self.proposed, proposals=not changed)


def gather(
    certification: Certification,
    frozen: FrozenTable,
    measured: AuditTable,
    known: Known,
    posterior: NDArray[np.float32],
) -> Evidence:
    """Collect the draws of all rounds so far.

    Args:
        certification: Of the round.
        frozen: What it froze.
        measured: What it measured.
        known: What is known now.
        posterior: (M, K + 1) as frozen.
    """
    belief, source = certification.belief, certification.source
    masks, unknown = source.masks, known.truth == UNKNOWN
    before = (frozen.known != UNKNOWN) & ~unknown
    without = posterior.copy()
    if before.any():
        place = np.isin(known.rows, np.flatnonzero(before))
        without[known.rows[place]] = belief.left_out(known)[place]
    none = np.zeros(len(masks), dtype=np.bool_)
    would = best_labels(masks.area, masks.label, without, known=none, floor=belief.settings.floor)
    proposed = np.where(before, would, frozen.labels) != masks.label
    drawn = []
    for number in range(1, certification.round_index + 1):
        table = frozen if number == certification.round_index else source.load_frozen(number)
        if table is not None and len(table.drawn):
            drawn.append(_proposals(certification, table, unknown))
        earlier = source.load_measured(number) if number < certification.round_index else None
        if earlier is not None and earlier.design is not None and len(earlier.drawn):
            drawn.append(_answered(earlier.drawn, earlier.design, unknown, replaced=False))
    now = measured.design if measured.design is not None else np.zeros(len(masks))
    last = _answered(measured.drawn, now, unknown, replaced=False)
    return Evidence(
        area=masks.area,
        first=masks.label,
        posterior=without,
        before=before,
        unknown=unknown & (now > 0),
        proposed=proposed,
        drawn=[*(one for one in drawn if len(one.rows)), last],
    )


def _answered(
    rows: NDArray[np.int64], expected: NDArray[np.float64], unknown: NDArray[np.bool_], *, replaced: bool
) -> AuditDraws:
    """Return the draws that have an answer; those without are taken to be like the rest."""
    answered = rows[~unknown[rows]]
    share = len(answered) / max(1, len(rows))
    return AuditDraws(rows=answered, expected=expected * share, replaced=replaced, share=np.zeros(len(expected)))


def _proposals(certification: Certification, table: FrozenTable, unknown: NDArray[np.bool_]) -> AuditDraws:
    """Return the draws that audited what a round would have changed."""
    masks, settings = certification.source.masks, certification.settings
    posterior = table.posteriors(certification.source.num_classes)
    rows = np.flatnonzero((table.labels != masks.label) & (table.known == UNKNOWN))
    expected = np.zeros(len(masks))
    if table.tested is not None and table.surely is not None:
        # Where audits end as soon as they suffice, only those that are asked in any case are a sample of known probabilities.
        count, tested = int(table.surely[0]), Proposals.of(masks, table.tested, table.labels, posterior)
        expected[tested.rows] = successive_inclusion(tested.stakes, count)
        # A class that was edited since can leave a drawn mask no proposal: then these draws are of no use.
        usable = (expected[table.drawn[:count]] > 0).all()
        return _answered(table.drawn[: count * usable], expected, unknown, replaced=False)
    if settings.min_precision > 0:
        expected[rows] = len(table.drawn) / max(1, len(rows))
        return _answered(table.drawn, expected, unknown, replaced=False)
    unions, ious = certification.unions(table.labels, posterior)
    stake = stakes(masks.area[rows], masks.label[rows], table.labels[rows], unions, ious)
    expected[rows] = len(table.drawn) * shares_of(stake, len(table.drawn))
    # A class that was edited since can leave a drawn mask no proposal: then these draws are of no use.
    if not (expected[table.drawn] > 0).all():
        return _answered(np.empty(0, dtype=np.int64), expected, unknown, replaced=True)
    return _answered(table.drawn, expected, unknown, replaced=True)
