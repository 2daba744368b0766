"""Which weights score a round, which ones train it, and with which settings."""

from __future__ import annotations

import json
from pathlib import Path

from a2lc.errors import MissingFileError
from a2lc.io.files import write_text
from a2lc.project.config import TrainingConfig
from a2lc.rounds.context import Context
from a2lc.rounds.providers import weights_name
from a2lc.rounds.views import pixel_view
from a2lc.training.objectives import RegionObjective
from a2lc.training.provider import ImagePredictor

__all__ = [
    "ARCHITECTURE",
    "columns_by",
    "model_file",
    "model_name",
    "predictor_of",
    "region_predictor",
    "scorer_of",
    "trained_with",
    "training_config",
]

REGION_WEIGHTS = "regions.ckpt"

NETWORK = "deeplabv3plus"
"""Network of methods that cannot do with the head."""

ARCHITECTURE = ("model", "encoder", "output_stride", "head")
"""Training settings that decide whether weights of one round fit the network of another."""


def training_config(context: Context) -> TrainingConfig:
    """Return the training settings, with the network and the classifier that the method needs."""
    config, head = context.plan.training, context.method.network.head
    if context.needs_network and config.model == "head":
        config = config.model_copy(update={"model": NETWORK})
    return config if head == "linear" else config.model_copy(update={"head": head})


def model_file(context: Context, config: TrainingConfig) -> str:
    """Return the name of the file that holds a model trained by some settings."""
    return "model.ckpt" if context.models.has_own_model else weights_name(config)


def trained_with(context: Context, round_index: int) -> TrainingConfig:
    """Return the settings that a round's model was trained by, which may have changed since."""
    for stage in context.project.ledger.stages(round_index, "train"):
        if "training" in stage.details:
            return TrainingConfig.model_validate(stage.details["training"])
    return context.plan.training


def model_name(context: Context, round_index: int) -> str:
    """Name what scores a round: the weights the round before ended with, or a folder of probabilities."""
    if context.plan.training.model == "probabilities":
        return str(context.plan.training.probabilities)
    folder = context.project.round_folder(max(round_index - 1, 0))
    return (folder / scored_by(context, round_index)).relative_to(context.project.folder).as_posix()


def scored_by(context: Context, round_index: int) -> str:
    """Name the weights of the round before that score: those of regions, as published, where the method trained any."""
    labels, before = context.method.pixel_labels, max(round_index - 1, 0)
    weights = context.project.round_folder(before) / REGION_WEIGHTS
    if labels is not None and labels.region_losses is not None and weights.with_suffix(".json").is_file():
        return REGION_WEIGHTS
    return model_file(context, trained_with(context, before))


def columns_by(context: Context, round_index: int) -> str:
    """Return the cache key of the statistics, besides the weights: method and settings of columns of its own."""
    own = context.method.pool.extra_columns or scored_by(context, round_index) == REGION_WEIGHTS
    if not own or context.is_warm_up(round_index):
        return ""
    settings = context.plan.to_json()["settings"] if context.method.pool.by_settings else {}
    return json.dumps([context.plan.method, settings], sort_keys=True)


def scorer_of(context: Context, round_index: int) -> ImagePredictor:
    """Return what gives the probabilities that score a round."""
    if context.is_warm_up(round_index):
        return context.models.uniform(context.project)
    config = _regions_trained_with(context, round_index - 1)
    if config is not None and scored_by(context, round_index) == REGION_WEIGHTS:
        weights = context.project.round_folder(round_index - 1) / REGION_WEIGHTS
        return _from_weights(context, round_index - 1, config, weights)
    return predictor_of(context, round_index)


def predictor_of(context: Context, round_index: int) -> ImagePredictor:
    """Return the model that a round begins with: that of the round before, or files of probabilities.

    Raises:
        MissingFileError: Its weights are gone.
    """
    training = trained_with(context, round_index - 1)
    if "probabilities" in {training.model, context.plan.training.model} and not context.models.has_own_model:
        # Files may have moved since: the settings of now count.
        folder = context.plan.training.probabilities or training.probabilities
        assert folder is not None
        return context.models.from_files(context.project, context.project.source_path(folder))
    weights = context.project.round_folder(round_index - 1) / model_file(context, training)
    if not weights.is_file():
        raise MissingFileError(
            f"{weights} is missing, so the model of round {round_index - 1} cannot score masks. Restore it from a copy."
        )
    return _from_weights(context, round_index - 1, training, weights)


def region_predictor(context: Context, round_index: int) -> ImagePredictor | None:
    """Train a network on the classes of regions in this round, unless it is there, and predict with it.

    Returns:
        None while no answer names a class.
    """
    project, labels = context.project, context.method.pixel_labels
    assert labels is not None and labels.region_losses is not None
    config = training_config(context)
    weights = project.round_folder(round_index) / REGION_WEIGHTS
    # A killed run that goes on with other settings has no use for this one's network.
    if not weights.is_file() or _regions_trained_with(context, round_index) != config:
        objective = RegionObjective(answers=pixel_view(context, round_index, None).answers, losses=labels.region_losses)
        if not objective.images(project):
            return None
        before = _regions_trained_with(context, round_index - 1)
        start = project.round_folder(round_index - 1) / REGION_WEIGHTS
        alike = before is not None and all(getattr(before, p) == getattr(config, p) for p in ARCHITECTURE)
        alike &= project.class_change_since(round_index - 1) is None
        weights.unlink(missing_ok=True)
        context.models.fit(
            project,
            config,
            objective,
            project.round_folder(round_index),
            seed=context.seed(round_index),
            start=start if config.warm_start and start.is_file() and alike else None,
            track=context.track,
        )
        write_text(weights.with_suffix(".json"), json.dumps(config.model_dump(mode="json")))
    return context.models.from_weights(project, config, weights)


def _regions_trained_with(context: Context, round_index: int) -> TrainingConfig | None:
    """Return the settings that a round's network of regions was trained by; None without one."""
    path = (context.project.round_folder(max(round_index, 0)) / REGION_WEIGHTS).with_suffix(".json")
    if not path.is_file():
        return None
    return TrainingConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))


def _from_weights(context: Context, trained: int, config: TrainingConfig, weights: Path) -> ImagePredictor:
    """Predict with a round's model over the classes there are now."""
    change = context.project.class_change_since(trained)
    return context.models.from_weights(context.project, config, weights, change=change)
