"""Pixel-level labels of a round: those a method gives, and those that came with answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import KEEP
from a2lc.ledger import BY_HAND
from a2lc.masks.counting import joint_counts
from a2lc.masks.truth import TruthTable
from a2lc.project.project import Project
from a2lc.records import ImageRecord, PixelView
from a2lc.rounds.context import Context
from a2lc.rounds.models import predictor_of, region_predictor
from a2lc.rounds.shards import Shard, map_shards, shards_of
from a2lc.rounds.views import pixel_view
from a2lc.training.provider import ImagePredictor

__all__ = ["label_shard", "write_pixel_labels"]

LayerFiles = dict[int, tuple[str, int]]
"""By image: hash of the file of pixel-level labels, and its labelled pixels."""


def write_pixel_labels(context: Context, round_index: int) -> tuple[LayerFiles | None, str]:
    """Write the pixel-level labels of a round.

    Returns:
        The files, or None if neither the method nor any answer gives such labels; and what they rest on.
    """
    project, labels = context.project, context.method.pixel_labels
    name = f"{context.plan.method} round {round_index}"
    if labels is None:
        # Answers that were undone or replaced count too: the layer they were in is to be replaced.
        if not any(answer.pixels is not None for answer, _ in project.ledger.answers(standing=False)):
            return None, ""
        by = BY_HAND + name
    else:
        if labels.region_losses is not None:
            region_predictor(context, round_index)  # trained here, before any worker process looks for it
        by = (BY_HAND if labels.by_hand else "") + name
    files: LayerFiles = {}
    truth: list[NDArray[np.int64]] = []
    shards = shards_of(project.images, context.shard_size)
    for written, joined in map_shards(context, round_index, label_shard, shards, "labelling pixels"):
        files |= written
        truth += joined
    if context.truth.exists:
        table = np.concatenate(truth, axis=1)
        names = ("row", "label", "truth", "layer", "pixels")
        columns = {name: values.astype(np.int32) for name, values in zip(names, table, strict=True)}
        context.truth.write(project.round_folder(round_index) / "truth.parquet", TruthTable(**columns))
    return files, by


def label_shard(context: Context, round_index: int, shard: Shard) -> tuple[LayerFiles, list[NDArray[np.int64]]]:
    """Write the pixel-level labels of a shard; return its files, and their counts against ground truth, if any."""
    project = context.project
    labelling = _Labelling.of(context, round_index)
    files: LayerFiles = {}
    truth: list[NDArray[np.int64]] = []
    for image in shard.records(project):
        labels = labelling.image(image)
        if labels is not None:
            written = project.layers.write(round_index, image, labels)
            if written is not None:
                files[image.index] = written
        if context.truth.exists:
            truth.append(join_with_truth(project, image, labels, context.truth.pixels(image)))
    return files, truth


class _Labelling:
    """The view and the labeller of a round, made once for all shards."""

    def __init__(self, context: Context, round_index: int) -> None:
        self.project = context.project
        self.round_index = round_index
        labels = context.method.pixel_labels
        predictor: ImagePredictor | None = None
        if labels is not None and labels.region_losses is not None:
            predictor = region_predictor(context, round_index)
        elif labels is not None and not context.is_warm_up(round_index):
            predictor = predictor_of(context, round_index)
        self.view: PixelView = pixel_view(context, round_index, predictor)
        self.label = (lambda image: None) if labels is None else labels.labeller(self.view)

    @classmethod
    def of(cls, context: Context, round_index: int) -> _Labelling:
        """Return the one of a context, made when the first shard asks for it."""
        kept = context.loaded.get("labelling")
        if not isinstance(kept, cls) or kept.round_index != round_index:
            kept = context.loaded["labelling"] = cls(context, round_index)
        return kept

    def image(self, image: ImageRecord) -> NDArray[np.int32] | None:
        """Label an image, with labels that came with answers above those of the method; None for no label."""
        labels = self.label(image.index)
        for answer in self.view.answers.get(image.index, ()):
            if answer.pixels is not None:  # what someone drew stands above what any method finds
                own = self.project.answered_pixels(answer.pixels)
                labels = own if labels is None else np.where(own == KEEP, labels, own)
        return labels


def join_with_truth(
    project: Project, image: ImageRecord, labels: NDArray[Any] | None, truth: NDArray[Any]
) -> NDArray[np.int64]:
    """Count the pixels of each (mask row, initial label, true class, pixel-level label) of an image.

    Args:
        project: Opened.
        image: The image.
        labels: (H, W) its pixel-level labels, or None.
        truth: (H, W) its true classes.

    Returns:
        (5, n): row of the mask or -1, initial label, true class, pixel-level label, pixels.
    """
    mask_map = project.mask_map(image)
    first, last = np.searchsorted(project.masks.image, [image.index, image.index + 1])
    # Position among the image's masks from 1; 0 outside masks.
    position = np.zeros(int(mask_map.max(initial=0)) + 1, dtype=np.int64)
    position[project.masks.mask_ids[first:last]] = np.arange(1, last - first + 1)
    classes, ignore = project.classes.num_classes, project.classes.ignore_index
    initial, truth = project.first_labels(image).astype(np.int64), truth.astype(np.int64)
    layer = np.full(mask_map.shape, KEEP) if labels is None else labels
    row, label, true, own, pixels = joint_counts(
        position[mask_map],
        np.where(initial == ignore, 0, initial + 1),
        np.where(truth == ignore, 0, truth + 1),
        layer - KEEP,
        sizes=(int(last - first) + 1, classes + 1, classes + 1, classes - KEEP),
    )
    return np.stack([np.where(row > 0, row - 1 + first, -1), label - 1, true - 1, own + KEEP, pixels])
