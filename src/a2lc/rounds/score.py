"""Stage `score`: reduce each image's probabilities to one row of statistics per mask."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError
from a2lc.ledger.replay import MaskState
from a2lc.methods.base import MaskColumns
from a2lc.records import ImageRecord, Inspection
from a2lc.rounds.context import Context
from a2lc.rounds.models import columns_by, scorer_of
from a2lc.rounds.result import StageResult
from a2lc.rounds.shards import Shard, map_shards, shards_of
from a2lc.rounds.views import pixel_view
from a2lc.statistics.mask_stats import MaskStats, mask_statistics
from a2lc.training.provider import ImagePredictor

__all__ = ["run", "score_shard"]


def run(context: Context, round_index: int) -> StageResult:
    """Write the statistics of every mask, a file per shard of images; files that are there are not made again."""
    began = time.perf_counter()
    project = context.project
    store, signature = context.statistics(round_index), columns_by(context, round_index)
    shards = shards_of(project.images, context.shard_size)
    # A killed run of another method, or with other settings, left other columns.
    missing = [shard for shard in shards if not store.has(shard.index, signature)]
    forward = sum(map_shards(context, round_index, score_shard, missing, "scoring"))
    images, masks = len(project.images), len(project.masks)
    details = {"images": images, "masks": masks, "forward_seconds": float(forward), "columns_by": signature}
    seconds = time.perf_counter() - began
    project.ledger.finish_stage(round_index, "score", seconds, details)
    return StageResult(
        stage="score",
        round_index=round_index,
        seconds=seconds,
        summary=f"{masks:,} masks of {images:,} images",
        details=details,
    )


def score_shard(context: Context, round_index: int, shard: Shard) -> float:
    """Write the statistics of a shard's masks; return the seconds spent in the network."""
    scoring = _Scoring.of(context, round_index)
    before = scoring.predictor.forward_seconds
    parts, extra = [], []
    for image in shard.records(context.project):
        stats, columns = scoring.image(image)
        parts.append(stats)
        extra.append(columns)
    context.statistics(round_index).write(shard.index, parts, extra, columns_by(context, round_index))
    return scoring.predictor.forward_seconds - before


class _Scoring:
    """The model of a round and what a method adds to its statistics, loaded once for all shards."""

    def __init__(self, context: Context, round_index: int) -> None:
        self.project = context.project
        self.round_index = round_index
        self.predictor: ImagePredictor = scorer_of(context, round_index)
        self.inspects = bool(context.method.pool.extra_columns) and not context.is_warm_up(round_index)
        self.state: MaskState = self.project.state()
        self.columns: MaskColumns | None = None
        if self.inspects:
            self.columns = context.method.mask_columns(pixel_view(context, round_index, self.predictor))

    @classmethod
    def of(cls, context: Context, round_index: int) -> _Scoring:
        """Return the one of a context, made when the first shard asks for it."""
        kept = context.loaded.get("scoring")
        if not isinstance(kept, cls) or kept.round_index != round_index:
            kept = context.loaded["scoring"] = cls(context, round_index)
        return kept

    def image(self, image: ImageRecord) -> tuple[MaskStats, dict[str, NDArray[Any]]]:
        """Reduce one image: statistics of its masks, and the columns that the method adds."""
        inspection = self.predictor.inspect(image) if self.inspects else self.predictor(image)
        mask_map = self.project.mask_map(image)
        labels = self.project.corrected_labels(image, self.state, mask_map=mask_map)
        try:
            stats = _reduce(inspection, labels, mask_map, self.project.classes.ignore_index)
        except InputError as error:
            raise type(error)(f"Image {image.image_id}: {error}") from None
        columns = {} if self.columns is None else self.columns(image.index, inspection, stats, mask_map)
        return stats.with_image(image.index), columns


def _reduce(inspection: Inspection, labels: NDArray[Any], mask_map: NDArray[Any], ignore_index: int) -> MaskStats:
    """Compute the statistics where the probabilities are: by NumPy, or by torch on a GPU."""
    probs: Any = inspection.probs
    if isinstance(probs, np.ndarray):
        return mask_statistics(probs, labels, mask_map, ignore_index)
    from a2lc.statistics.torch_kernel import mask_statistics_torch

    return mask_statistics_torch(probs, labels, mask_map, ignore_index)
