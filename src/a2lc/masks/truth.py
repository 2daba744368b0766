"""Ground truth joined with masks: what the simulated annotator and the metrics read instead of pixels (pure).

A module of its own: nothing that a method imports leads here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.edits import ClassView
from a2lc.classes.sentinels import FIRST, KEEP, VOID
from a2lc.ledger.replay import MaskState
from a2lc.masks.tables import Table
from a2lc.statistics.metrics import ConfusionCounts

__all__ = ["TruthTable"]


Int = NDArray[np.int32]


@dataclass(frozen=True, eq=False, kw_only=True)
class TruthTable(Table):
    """Ground truth joined with masks and first labels: what the simulated annotator and the metrics hold.

    No method is ever given one.

    Attributes:
        row: (T,) row of the mask, -1 for pixels outside masks.
        label: (T,) first label, VOID for the ignore value.
        truth: (T,) true class, VOID for the ignore value.
        pixels: (T,) pixels of this combination.
        layer: (T,) class that a layer of labels below the mask gives, VOID, or KEEP; None without a layer.
    """

    row: Int
    label: Int
    truth: Int
    pixels: Int
    layer: Int | None = None

    def seen_by(self, view: ClassView) -> TruthTable:
        """Translate the table to the classes of a view."""
        return self._translated(view.indices)

    def coded(self, view: ClassView) -> TruthTable:
        """Translate the table to the codes of classes, in which it is stored."""
        return self._translated(view.coded)

    def _translated(self, translate: Callable[[NDArray[Any]], NDArray[Any]]) -> TruthTable:
        layer = None if self.layer is None else translate(self.layer)
        return replace(self, label=translate(self.label), truth=translate(self.truth), layer=layer)

    def confusion(self, state: MaskState, num_classes: int) -> ConfusionCounts:
        """Count the corrected labels of a state of the ledger against ground truth."""
        counts = ConfusionCounts(num_classes, VOID)
        inside = self.row >= 0
        labels = self.label.copy()
        now = state.classes[self.row[inside]]
        labels[inside] = np.where(now == FIRST, labels[inside], now)
        if self.layer is not None:
            said = self.layer != KEEP
            if state.newer is not None:
                said[inside] &= ~state.newer[self.row[inside]]
            labels = np.where(said, self.layer, labels)
        counts.add(labels, self.truth, self.pixels)
        return counts

    def masks(self, state: MaskState, rows: NDArray[Any], num_classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Count pixels of masks that agree with ground truth now, (n,), and pixels by true class, (n, K + 1), void last."""
        place = np.full(len(state.classes) + 1, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        place[-1] = -1  # pixels outside masks have row -1
        position = place[self.row]
        some = position >= 0
        position, truth, pixels = position[some], self.truth[some], self.pixels[some]
        now = state.classes[self.row[some]]
        label = np.where(now == FIRST, self.label[some], now)
        # Ground truth without a class counts as a mismatch, as published.
        right = np.bincount(position, weights=pixels * ((label == truth) & (truth != VOID)), minlength=len(rows))
        column = np.where(truth == VOID, num_classes, truth)
        # Sums of whole numbers below 2^53 are exact in double precision.
        size = len(rows) * (num_classes + 1)
        by_class = np.bincount(position * (num_classes + 1) + column, weights=pixels, minlength=size)
        return right.astype(np.int64), by_class.astype(np.int64).reshape(len(rows), num_classes + 1)
