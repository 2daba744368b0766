"""Views of a round for methods: none has a field for ground truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID
from a2lc.ledger.standing import standing_answers
from a2lc.records import PixelView, RegionAnswer
from a2lc.rounds.context import Context
from a2lc.training.provider import ImagePredictor

__all__ = ["pixel_view"]


def pixel_view(context: Context, round_index: int, predictor: ImagePredictor | None) -> PixelView:
    """Return what a method that labels single pixels is shown.

    Args:
        context: Of the run.
        round_index: The round.
        predictor: The network that the view inspects images with, or None.
    """
    project = context.project
    answers: dict[int, list[RegionAnswer]] = {}
    for query, answer in standing_answers(project.ledger):
        answers.setdefault(query.image, []).append(
            RegionAnswer(
                mask_ids=query.mask_ids,
                kind=answer.kind,
                classes=answer.classes,
                round=query.round,
                pixels=answer.pixels,
            )
        )
    by_masks = replace(project.state(), layer=None)
    ignore = project.classes.ignore_index

    def labels(index: int) -> NDArray[np.int32]:
        corrected = project.corrected_labels(project.images[index], by_masks).astype(np.int32)
        return np.where(corrected == ignore, VOID, corrected).astype(np.int32)

    return PixelView(
        images=range(len(project.images)),
        num_classes=project.classes.num_classes,
        round=round_index,
        seed=context.seed(round_index),
        answers=answers,
        mask_map=lambda index: project.mask_map(project.images[index]),
        labels=labels,
        answered_pixels=project.answered_pixels,
        inspect=None if predictor is None else lambda index: predictor.inspect(project.images[index]),
    )
