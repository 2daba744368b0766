"""Stage `correct`: record automatic corrections, none over an answer, and pixel-level labels."""

from __future__ import annotations

import time
from typing import Any

from a2lc.records import Source
from a2lc.rounds.context import Context
from a2lc.rounds.pixels import write_pixel_labels
from a2lc.rounds.questioner import Limits, Questioner
from a2lc.rounds.result import StageResult

__all__ = ["run"]


def run(context: Context, round_index: int, questioner: Questioner, limits: Limits) -> StageResult:
    """Record what the answers of the round support, in one transaction."""
    began = time.perf_counter()
    project, method = context.project, context.method
    state = project.state()
    corrections = questioner.corrections(state, limits)
    layer, by = write_pixel_labels(context, round_index)
    details: dict[str, Any] = dict(corrections.details)
    nothing = not len(corrections.changes.rows) and not corrections.guarantee and layer is None
    if nothing and not method.corrects:
        seconds = time.perf_counter() - began
        project.ledger.finish_stage(round_index, "correct", seconds, details)
        summary = "this method makes no automatic corrections"
    else:
        if layer is not None:
            details["pixels"] = sum(pixels for _, pixels in layer.values())
        changes = corrections.changes
        seconds = time.perf_counter() - began
        project.ledger.add_corrections(
            round_index,
            Source.AUTOMATIC,
            project.masks.image[changes.rows],
            project.masks.mask_ids[changes.rows],
            state.classes[changes.rows],
            changes.classes,
            confidences=changes.confidences,
            model=f"{context.plan.method} round {round_index}",
            layer=layer,
            layer_model=by,
            stage=("correct", seconds, details),
        )
        parts = [corrections.summary] if corrections.summary else []
        if layer is not None:
            parts.append(f"{details['pixels']:,} pixels labelled individually in {len(layer)} images")
        summary = ", ".join(parts)
    return StageResult(stage="correct", round_index=round_index, seconds=seconds, summary=summary, details=details)
