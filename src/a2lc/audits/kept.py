"""What earlier rounds proved, and whether it still stands."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import class_unions
from a2lc.audits.knowledge import Known
from a2lc.audits.proof import found_ratios
from a2lc.audits.settings import SessionSettings
from a2lc.audits.source import RoundSource
from a2lc.audits.stakes import effects, stakes
from a2lc.audits.tables import AuditTable
from a2lc.classes.sentinels import VOID
from a2lc.ledger.replay import SOURCES

__all__ = ["Kept"]


class Kept:
    """Corrections that an earlier round proved and that no later audit contradicts.

    A small round cannot prove again what a larger effect proved before: most of what was wrong has been asked about. So its
    silence withdraws nothing. All go if the audits that proved them and those since, taken together, speak against them:
    their estimated effect is negative, or too few of them were right. Only what passed under a guarantee as strict as this
    round's is kept.

    Args:
        source: The data.
        settings: Of the session.
        round_index: The round.
    """

    def __init__(self, source: RoundSource, settings: SessionSettings, round_index: int) -> None:
        self.source = source
        self.settings = settings
        self.round_index = round_index

    @cached_property
    def before(self) -> AuditTable | None:
        """What the last audited round before this one measured."""
        for number in range(self.round_index - 1, 0, -1):
            found = self.source.load_measured(number)
            if found is not None:
                return found
        return None

    def unchanged(self, labels: NDArray[np.int32], posterior: NDArray[np.float32], known: Known) -> NDArray[np.int64]:
        """Return the rows that stand and that would still be changed so.

        Args:
            labels: (M,) labels that masks would have by the posterior.
            posterior: (M, K + 1) probabilities.
            known: What the answers say.
        """
        if self.before is None:
            return np.empty(0, dtype=np.int64)
        held = self._standing(self.before, labels, posterior, known)
        same = (labels == self.before.labels) & (labels != self.source.masks.label)
        return np.asarray(held[same[held]], dtype=np.int64)

    def preferred(self, labels: NDArray[np.int32], posterior: NDArray[np.float32], known: Known) -> NDArray[np.int32]:
        """Return (M,) labels in which what was proven stays while it is likelier than the initial label.

        It need not be the likeliest, as it must be to be proposed: what was proven is not given up for a mere change of mind.

        Args:
            labels: (M,) labels that masks would have by the posterior.
            posterior: (M, K + 1) probabilities.
            known: What the answers say.
        """
        if self.before is None:
            return labels
        held = self._standing(self.before, labels, posterior, known)
        first = self.source.masks.label[held]
        new, old = self.before.labels[held], np.where(first == VOID, self.source.num_classes, first)
        held = held[posterior[held, new] >= posterior[held, old]]
        found = labels.copy()
        found[held] = self.before.labels[held]
        return found

    def _standing(
        self, before: AuditTable, labels: NDArray[np.int32], posterior: NDArray[np.float32], known: Known
    ) -> NDArray[np.int64]:
        """Return the rows that the last audited round proved and that no later audit contradicts."""
        held = before.certified
        if before.promise is None or self._is_laxer(*before.promise.tolist()):
            return np.empty(0, dtype=np.int64)
        drawn, weight = self._audited_since(held, known)
        if len(drawn) and self._contradicted(before, drawn, weight, labels, posterior, known):
            return np.empty(0, dtype=np.int64)
        state = self.source.state()
        standing = (state.source == SOURCES.index("automatic")) & (state.classes == before.labels) & ~known.asked
        return np.asarray(held[standing[held]], dtype=np.int64)

    def _is_laxer(self, precision: float, confidence: float) -> bool:
        """Return whether a guarantee promises less than this round's."""
        asked = self.settings.min_precision
        strict = precision >= asked if asked > 0 else precision == 0
        return not strict or confidence < self.settings.confidence

    def _audited_since(self, held: NDArray[np.int64], known: Known) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return those rows of what was proven that were drawn at random since, and one over their probabilities."""
        random = np.isin(known.rows, held) & (known.random > 0)
        measured = self.source.load_measured(self.round_index)
        if measured is not None:
            # What measures the labels of this round must not decide what they are.
            random &= ~np.isin(known.rows, measured.drawn)
        return known.rows[random], known.random[random]

    def _contradicted(
        self,
        before: AuditTable,
        drawn: NDArray[np.int64],
        weight: NDArray[np.float64],
        labels: NDArray[np.int32],
        posterior: NDArray[np.float32],
        known: Known,
    ) -> bool:
        """Return whether audits speak against what was proven."""
        said, new = known.truth[drawn], before.labels[drawn]
        if self.settings.min_precision > 0:
            return bool(np.average(said == new, weights=weight) < self.settings.min_precision)
        masks = self.source.masks
        unions, ious = class_unions(masks.area, labels, posterior)
        area, old = masks.area[drawn], masks.label[drawn]
        stake = stakes(area, old, new, unions, ious) @ weight
        ratio = effects(area, old, new, said, unions, ious) @ weight / max(float(stake), 1e-300)
        # The audits that proved it count as much as those since.
        return bool(self._proved(before, known) + len(drawn) * float(ratio) < 0)

    def _proved(self, before: AuditTable, known: Known) -> float:
        """Return the sum of the ratios of effect to stake that the audits found by which all this was proven, as answered now."""
        found = 0.0
        for number in range(1, self.round_index):
            table = self.source.load_frozen(number)
            if table is not None and table.tested is not None and np.isin(before.certified, table.tested).any():
                ratios, _ = found_ratios(table, self.source.masks, known, self.source.num_classes)
                found += float(ratios.sum())
        return found
