"""Stage `evaluate`: measure labels and model against ground truth, where there is any."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from a2lc.errors import MissingFileError
from a2lc.io.files import json_safe, write_text
from a2lc.io.progress import Track, no_progress
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.rounds.context import Context
from a2lc.rounds.models import predictor_of
from a2lc.rounds.result import StageResult
from a2lc.rounds.shards import Shard, map_shards, shards_of
from a2lc.statistics.metrics import ConfusionCounts
from a2lc.training.provider import ImagePredictor

__all__ = ["count_predictions", "evaluate_shard", "run"]


def run(context: Context, round_index: int) -> StageResult:
    """Measure the round's model and labels, and write `evaluation.json`."""
    began = time.perf_counter()
    project = context.project
    details: dict[str, Any] = {"model_miou": None, "model_iou": None, "measured_on": None}
    images = project.validation_images or (project.images if context.truth.exists else [])
    if context.is_warm_up(round_index + 1):
        images = []  # nothing was trained
    missing = ""
    if images:
        counts = ConfusionCounts(project.classes.num_classes, project.classes.ignore_index)
        forward = 0.0
        try:
            shards = shards_of(images, context.shard_size)
            for part, seconds in map_shards(context, round_index, evaluate_shard, shards, "evaluating"):
                counts.merge(part)
                forward += seconds
        except MissingFileError:
            # Probability files need not cover validation images; without them the model is not measured.
            if context.plan.training.model != "probabilities":
                raise
            missing = "model not measured: there are no probabilities of the images to measure it on"
        else:
            details |= {
                "forward_seconds": forward,
                "model_miou": counts.miou,
                "model_iou": [None if np.isnan(v) else float(v) for v in counts.iou],
                "measured_on": "validation images" if project.validation_images else "training images",
            }
    parts = []
    if context.truth.exists:
        quality = context.truth.confusion(project.state())
        details |= {"coverage": quality.coverage, "data_miou_of_all": quality.miou_of_all}
        details |= {"data_miou": quality.miou, "data_iou": [None if np.isnan(v) else float(v) for v in quality.iou]}
        parts.append("no label yet" if np.isnan(quality.miou) else f"data mIoU {quality.miou:.4f}")
    if details["model_miou"] is not None:
        where = "" if project.validation_images else " (on the training images)"
        parts.append(f"model mIoU {details['model_miou']:.4f}{where}")
    elif missing:
        parts.append(missing)
    write_text(project.round_folder(round_index) / "evaluation.json", json.dumps(json_safe(details), indent=1))
    seconds = time.perf_counter() - began
    project.ledger.finish_stage(round_index, "evaluate", seconds, details)
    return StageResult(
        stage="evaluate",
        round_index=round_index,
        seconds=seconds,
        summary=", ".join(parts) or "no ground truth to measure against",
        details=details,
    )


def evaluate_shard(context: Context, round_index: int, shard: Shard) -> tuple[ConfusionCounts, float]:
    """Count a shard's predictions against ground truth; return the counts and the seconds spent in the network."""
    project = context.project
    kept = context.loaded.get("evaluating")
    if kept is None or kept[0] != round_index:
        kept = context.loaded["evaluating"] = (round_index, predictor_of(context, round_index + 1))
    predictor = kept[1]
    before = predictor.forward_seconds
    counts = count_predictions(project, predictor, shard.records(project))
    return counts, predictor.forward_seconds - before


def count_predictions(
    project: Project, predictor: ImagePredictor, images: Sequence[ImageRecord], track: Track = no_progress
) -> ConfusionCounts:
    """Count predictions of images with ground truth against it.

    Args:
        project: Opened.
        predictor: The model.
        images: Images with ground truth.
        track: Shows progress.
    """
    counts = ConfusionCounts(project.classes.num_classes, project.classes.ignore_index)
    with track("evaluating", len(images)) as advance:
        for image in images:
            probs: Any = predictor(image).probs
            pred = np.asarray(probs.argmax(0) if isinstance(probs, np.ndarray) else probs.argmax(0).cpu())
            counts.update(pred, project.truth.pixels(image))
            advance()
    return counts
