"""The project's own method: asks where an answer is worth most IoU, and changes the rest only where audits allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from a2lc.acquisition.gain import expected_iou_gain
from a2lc.errors import ConfigError
from a2lc.methods.base import MaskColumns, Method, register
from a2lc.posterior.regression import prior_posterior
from a2lc.records import Inspection, PixelView, RoundView
from a2lc.statistics.features import FeatureMap
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["EMBEDDING", "Gain", "mask_embedding"]

EMBEDDING = "embedding"
"""Column of mask statistics with the mean penultimate features of a mask."""


@register(
    "gain",
    paper="this project, docs/methods/gain.md",
    summary="asks where an answer is worth most IoU, by one posterior per mask; changes the rest where audits prove it good",
)
@dataclass(frozen=True, kw_only=True)
class Gain(Method):
    """Expected gain of IoU under one posterior per mask (docs/methods/gain.md).

    The posterior asks, corrects, suggests and, together with audits, measures. The questions of a round are chosen a batch at a
    time, after a refit on the answers so far; the last of them are audits: of the changes it would make, then of the labels.
    """

    whole_pool: ClassVar[bool] = True
    extra_columns: ClassVar[tuple[str, ...]] = (EMBEDDING,)
    columns_by_settings: ClassVar[bool] = False

    batch: int = 20  # questions between two refits
    certify: float = 0.1  # share of a round's questions that audit proposed changes
    measure: float = 0.1  # share that measures the labels
    gold: float = 0.02  # share that asks again what was answered, to learn how often answers are wrong
    automatic: bool = True  # False: no change without an answer
    min_precision: float = 0.0  # of automatic changes; 0: they only must raise the mean IoU
    confidence: float = 0.95  # of the promise and of all intervals
    floor: float = 0.3  # probability below which no class is proposed
    alike: float = 0.9  # cosine of features from which two masks are not asked about in one batch
    ridge: float = 10.0
    anchors: float = 20.0  # weight, in answers, of first labels drawn at random
    audit_weight: float = 2.0  # weight in the fit of an answer to a mask drawn at random
    random_features: int = 256  # a block: of appearance, of surroundings
    embeddings: str | None = None  # folder of IMAGE_ID.npy, (D, h, w) features of a backbone of one's own

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ConfigError: A share is outside [0, 1), or a number below what it can be.
        """
        for name in ("certify", "measure", "gold", "min_precision", "floor"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigError(f"{name} must be in [0, 1), found {value}.")
        if self.certify + self.measure > 0.9:
            raise ConfigError(f"certify and measure leave nothing to ask: {self.certify:g} and {self.measure:g}.")
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"confidence must be in [0.5, 1), found {self.confidence}.")
        for name, low in (("batch", 1), ("random_features", 1), ("anchors", 0), ("audit_weight", 0), ("alike", 0)):
            value = getattr(self, name)
            if not low <= value < float("inf"):
                raise ConfigError(f"{name} must be {low} or more, found {value}.")
        if not 0 < self.ridge < float("inf"):
            raise ConfigError(f"ridge must be above 0, found {self.ridge}.")

    @property
    def asks_in_batches(self) -> bool:
        """After a refit each."""
        return True

    def mask_columns(self, view: PixelView) -> MaskColumns:
        """Mean penultimate features of each mask, where the network shows them."""

        def columns(
            image: int, inspection: Inspection, stats: MaskStats, mask_map: NDArray[Any]
        ) -> dict[str, NDArray[Any]]:
            if inspection.features is None:
                return {}
            return {EMBEDDING: mask_embedding(inspection.features, mask_map, stats.mask_ids)}

        return columns

    def columns(self) -> frozenset[str]:
        """For the prior alone."""
        return frozenset({"image", "mask_ids", "area", "prob_sums"})

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """Expected gain before anyone has answered: by first label and model alone."""
        prior = prior_posterior(view.stats, view.current)
        return expected_iou_gain(view.stats.area, view.current, prior)

    @property
    def corrects(self) -> bool:
        """Unless switched off."""
        return self.automatic


def mask_embedding(features: FeatureMap, mask_map: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.float32]:
    """(M, D) float32 mean features over each mask, each pixel taking those of the cell it weighs most.

    Args:
        features: Of the image, (D, h, w) on their grid.
        mask_map: (H, W) mask ids.
        mask_ids: (M,) ids, ascending.
    """
    width = features.values.shape[2]
    cells = features.rows.argmax(axis=1)[:, None] * width + features.cols.argmax(axis=1)[None]
    place = np.searchsorted(mask_ids, mask_map)
    inside = (
        mask_ids[np.minimum(place, len(mask_ids) - 1)] == mask_map if len(mask_ids) else np.zeros_like(mask_map, bool)
    )
    size = features.values.shape[1] * width
    counts = sparse.coo_matrix(
        (np.ones(int(inside.sum()), dtype=np.float32), (place[inside], cells[inside])), shape=(len(mask_ids), size)
    ).tocsr()
    area = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    total = counts @ features.values.reshape(len(features.values), -1).T
    return np.asarray(total / area[:, None], dtype=np.float32)
