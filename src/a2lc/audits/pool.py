"""The pool of masks with their statistics and features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from a2lc.audits.settings import SessionSettings
from a2lc.audits.source import RoundSource
from a2lc.posterior.features import COLUMNS, MaskFeatures, mask_features
from a2lc.statistics.features import EMBEDDING
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["Pool", "read_pool"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """Statistics and features of all masks, in the order of the mask table."""

    stats: MaskStats
    features: MaskFeatures


def read_pool(source: RoundSource, settings: SessionSettings) -> Pool:
    """Read the statistics of a round and describe each mask by them, its appearance, and what lies beside it."""
    parts = list(source.statistics(COLUMNS | {EMBEDDING}))
    stats = MaskStats.concat([part for part, _ in parts])
    embedding = None
    if parts and all(EMBEDDING in extra for _, extra in parts):
        embedding = np.concatenate([extra[EMBEDDING] for _, extra in parts])
    appearance, near = source.appearance()
    own = source.embedding()
    if own is not None:
        embedding = own if embedding is None else np.concatenate([embedding, own], axis=1)
    features = mask_features(
        stats,
        appearance,
        near,
        source.masks.label,
        embedding,
        random=settings.random_features,
        seed=source.seed,
    )
    return Pool(stats=stats, features=features)
