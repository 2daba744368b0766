"""Propagate the answers of a round to masks nobody looked at, as a method does."""

from __future__ import annotations

import numpy as np

from a2lc.correction.manual import answered_class
from a2lc.ledger.replay import MaskState
from a2lc.records import Changes, RoundView
from a2lc.rounds.context import Context
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["propagated"]


def propagated(context: Context, round_index: int, state: MaskState) -> Changes:
    """Return what the method proposes for masks nobody looked at."""
    project = context.project
    current = project.masks.current(state)
    asked = np.isin(project.masks.keys, project.ledger.asked_masks(answered=True))
    queries = {query.query_id: query for query in project.ledger.queries(round_index)}
    # Answers that name no class of the mask teach nothing.
    learnt = [
        queries[answer.query_id]
        for answer, _ in project.ledger.answers(round_index)
        if answered_class(answer) is not None
    ]
    rows = project.masks.rows(
        np.array([query.image for query in learnt for _ in query.mask_ids], dtype=np.int64),
        np.array([mask for query in learnt for mask in query.mask_ids], dtype=np.int64),
    )
    columns = frozenset({"image", "mask_ids", "prob_sums", "area"})
    stats = MaskStats.concat([stats for stats, _ in context.statistics(round_index).read(columns)])
    pixels, void = project.masks.pixels_by_class(state, project.classes.num_classes)
    view = RoundView(
        stats=stats,
        current=current,
        asked=asked,
        pixels_per_class=pixels,
        void_pixels=void,
        round=round_index,
        seed=context.seed(round_index),
    )
    return context.method.propagate(view, rows, current[rows])
