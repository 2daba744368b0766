"""Stage `train`: fit a model to the corrected labels."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from a2lc.project.config import TrainingConfig
from a2lc.rounds.context import NO_LABELS, Context
from a2lc.rounds.models import ARCHITECTURE, trained_with, training_config
from a2lc.rounds.result import StageResult
from a2lc.training.objectives import LabelObjective, Objective, SemiObjective

__all__ = ["run"]


def run(context: Context, round_index: int) -> StageResult:
    """Fit a model, unless probabilities come from files or there is no label to learn from."""
    began = time.perf_counter()
    project, config = context.project, training_config(context)
    notes: tuple[str, ...] = ()
    if context.plan.training.model == "probabilities" and not context.models.has_own_model:
        reason = "probabilities come from files"
        details = {"skipped": reason, "training": context.plan.training.model_dump(mode="json")}
        summary = f"nothing to train: {reason}"
    elif not (objective := _objective(context)).images(project):
        details = {"skipped": NO_LABELS}
        summary = f"nothing to train: {NO_LABELS}"
    else:
        start, note = _warm_start(context, round_index, config)
        notes = (note,) if note else ()
        fitted = context.models.fit(
            project,
            config,
            objective,
            project.round_folder(round_index),
            seed=context.seed(round_index),
            start=start,
            track=context.track,
        )
        details = asdict(fitted) | {"warm_start": start is not None, "training": config.model_dump(mode="json")}
        if context.uses_head:
            kept = "head on learned features"
        elif fitted.validation_miou is None:
            kept = "final checkpoint kept (no validation ground truth to select one by)"
        else:
            kept = f"{fitted.kept} checkpoint kept, validation mIoU {fitted.validation_miou:.4f}"
        summary = f"{fitted.steps} steps, {kept}"
    seconds = time.perf_counter() - began
    project.ledger.finish_stage(round_index, "train", seconds, details)
    return StageResult(
        stage="train", round_index=round_index, seconds=seconds, summary=summary, details=details, notes=notes
    )


def _objective(context: Context) -> Objective:
    """Return what the method's network learns from."""
    project, network = context.project, context.method.network
    state = project.state()
    if network.objective != "semi":
        return LabelObjective(state=state)
    given = None
    if not network.trusts_initial_labels:
        given = np.isin(project.masks.keys, project.ledger.asked_masks(answered=True))
    # Held out by the project's seed: later rounds go on from weights of earlier ones.
    return SemiObjective(state=state, seed=context.plan.seed, given=given)


def _warm_start(context: Context, round_index: int, config: TrainingConfig) -> tuple[Path | None, str]:
    """Return weights of the round before to start from, if any, and why not, if the user should know."""
    if round_index == 0 or not config.warm_start:
        return None, ""
    before = round_index - 1
    if context.uses_head:
        return None, ""  # it is fitted anew in seconds
    weights = context.project.round_folder(before) / "model.ckpt"
    if context.project.class_change_since(before) is not None:
        return (
            None,
            f"the classes have changed since round {before}; training starts from scratch" if weights.is_file() else "",
        )
    settings = trained_with(context, before)
    if weights.is_file() and all(getattr(settings, part) == getattr(config, part) for part in ARCHITECTURE):
        return weights, ""
    if not weights.is_file() and context.is_warm_up(round_index):
        return None, ""
    return None, f"the network differs from that of round {before}; training starts from scratch"
