"""The project's own method: asks where an answer is worth most IoU, and corrects the rest only where audits allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import expected_iou_gain
from a2lc.acquisition.spread import spread_rows
from a2lc.audits.knowledge import Known
from a2lc.audits.session import Session
from a2lc.audits.settings import SessionSettings
from a2lc.audits.source import RoundSource
from a2lc.classes.sentinels import VOID
from a2lc.methods.base import MaskColumns, Method, PoolSpec, register
from a2lc.posterior.prior import prior_posterior
from a2lc.records import Inspection, PixelView, RoundView
from a2lc.statistics.features import EMBEDDING, mask_embedding
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["Gain", "GainSession"]

_AFTER = 1e-6
"""Worth of other masks beside those that the first questions are about."""


class GainSession(Session):
    """Asks as `Session` does, and where there is neither a label nor an answer yet, about masks spread over the features."""

    def _worth(self, labels: NDArray[Any], posterior: NDArray[np.float32], known: Known) -> NDArray[np.float64]:
        """Return the expected gain of an answer; before anything is known, of masks drawn by area and looks above all others."""
        worth = super()._worth(labels, posterior, known)
        masks = self.source.masks
        if len(known.rows) or (masks.label != VOID).any():
            return worth
        asked = np.flatnonzero(known.asked)
        rng = np.random.default_rng([self.seed, 7, len(asked)])
        looks = self.belief.pool.features.base
        first = spread_rows(masks.area, looks, self.settings.batch, rng, taken=asked)
        worth *= _AFTER
        worth[first] /= _AFTER
        return worth


@register(
    "gain",
    paper="this project, docs/methods/gain.md",
    summary=(
        "asks where an answer is expected to raise the mean IoU most; corrects other masks where audits support it"
    ),
)
@dataclass(frozen=True, kw_only=True)
class Gain(SessionSettings, Method):
    """Expected gain of IoU under one posterior per mask (docs/methods/gain.md).

    The posterior chooses queries, corrects, suggests and, together with audits, measures. The queries of a round are chosen a
    batch at a time, after a refit on the answers so far; the last of them are audits: of the corrections it would make, then
    of the labels.
    """

    former_defaults: ClassVar[Mapping[str, tuple[Any, ...]]] = {"anchors": (20.0,)}
    pool: ClassVar[PoolSpec] = PoolSpec(whole=True, extra_columns=(EMBEDDING,), by_settings=False)

    def mask_columns(self, view: PixelView) -> MaskColumns:
        """Average the penultimate features over each mask, where the network shows them."""

        def columns(
            image: int, inspection: Inspection, stats: MaskStats, mask_map: NDArray[Any]
        ) -> dict[str, NDArray[Any]]:
            if inspection.features is None:
                return {}
            return {EMBEDDING: mask_embedding(inspection.features, mask_map, stats.mask_ids)}

        return columns

    def columns(self) -> frozenset[str]:
        """Return what the prior reads."""
        return frozenset({"image", "mask_ids", "area", "prob_sums"})

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """Return the expected gain before anyone has answered, by initial label and model alone."""
        prior = prior_posterior(view.stats, view.current)
        return expected_iou_gain(view.stats.area, view.current, prior)

    @property
    def learns_features(self) -> bool:
        """Whether learned features of the masks are of use: those of the user's own backbone stand for them."""
        return self.embeddings is None

    @property
    def audited(self) -> bool:
        """Whether a share of the queries measures the labels."""
        return self.measure > 0

    def session(self, source: RoundSource, round_index: int, *, seed: int, questions: int) -> Session:
        """Open a session with the method's settings."""
        return GainSession(source, self, round_index, seed=seed, questions=questions)
