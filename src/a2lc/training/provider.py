"""The seam between rounds and models: who trains, and who predicts.

Nothing here imports torch: `LightningModels` loads it when a network is first needed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import MissingExtraError
from a2lc.io.progress import Track, no_progress
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.records import ImageRecord, Inspection
from a2lc.training.objectives import Fitted, LabelObjective, Objective, RegionObjective
from a2lc.training.predict import predict_from_files, predict_uniform

if TYPE_CHECKING:
    from torch import nn

__all__ = ["ImagePredictor", "LightningModels", "ModelProvider"]


class ImagePredictor(Protocol):
    """Predicts one image at a time."""

    forward_seconds: float
    """Time spent in the network so far, or in reading files that stand for it."""

    def __call__(self, image: ImageRecord) -> Inspection:
        """Predict an image: probabilities (K, H, W) float32, a NumPy array or a torch tensor on a GPU."""
        ...

    def inspect(self, image: ImageRecord) -> Inspection:
        """Predict an image, all of it NumPy arrays, with penultimate features where the network has some."""
        ...


class ModelProvider(Protocol):
    """Trains models and predicts with them."""

    @property
    def has_own_model(self) -> bool:
        """Whether it stands for a model of its own, in place of what the setting `training.model` names.

        Worker processes cannot build such a model: the work on images then stays in this process.
        """
        ...

    def fit(
        self,
        project: Project,
        config: TrainingConfig,
        objective: Objective,
        folder: Path,
        *,
        seed: int,
        start: Path | None = None,
        track: Track = no_progress,
    ) -> Fitted:
        """Train a model and write its weights, `model.ckpt` or `regions.ckpt`, into a folder.

        Args:
            project: Images and masks.
            config: Training settings.
            objective: What is fitted; it has images.
            folder: Of the round.
            seed: Of the round.
            start: Weights to start from.
            track: Shows progress.
        """
        ...

    def from_weights(
        self, project: Project, config: TrainingConfig, weights: Path, *, change: NDArray[np.float32] | None = None
    ) -> ImagePredictor:
        """Predict with weights that `fit` wrote.

        Args:
            project: Images.
            config: The settings the model was trained by.
            weights: Its weights.
            change: (K', K) that turns probabilities over the classes it was trained on into those over the classes now.
        """
        ...

    def from_files(self, project: Project, folder: Path) -> ImagePredictor:
        """Predict by reading files of probabilities."""
        ...

    def uniform(self, project: Project) -> ImagePredictor:
        """Predict every class alike, before anything was trained."""
        ...


class LightningModels:
    """Networks of PyTorch, trained by Lightning.

    Args:
        model: The user's own network, in place of the one that the settings name.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        self.model = model

    @property
    def has_own_model(self) -> bool:
        """Whether a network was handed over."""
        return self.model is not None

    def fit(
        self,
        project: Project,
        config: TrainingConfig,
        objective: Objective,
        folder: Path,
        *,
        seed: int,
        start: Path | None = None,
        track: Track = no_progress,
    ) -> Fitted:
        """Train a network, see `ModelProvider.fit`."""
        tasks = _training("tasks")
        if isinstance(objective, RegionObjective):
            task = tasks.regions(project, objective.answers, config, **objective.losses)
        elif isinstance(objective, LabelObjective):
            task = tasks.supervised(project, objective.state, config, seed)
        else:
            task = tasks.semi_supervised(project, objective.state, config, objective.seed, objective.given)
        fitted: Fitted = _training("fit").fit_model(
            project, config, task, folder, seed=seed, start=start, model=self.model, track=track
        )
        return fitted

    def from_weights(
        self, project: Project, config: TrainingConfig, weights: Path, *, change: NDArray[np.float32] | None = None
    ) -> ImagePredictor:
        """Predict with a network, see `a2lc.training.predict.predict_from_model`."""
        _training("fit")  # names the extra if torch is missing
        predictor: ImagePredictor = _training("predict").predict_from_model(
            project, config, weights, self.model, change=change
        )
        return predictor

    def from_files(self, project: Project, folder: Path) -> ImagePredictor:
        """Predict by reading files of probabilities, see `a2lc.training.predict.predict_from_files`."""
        return predict_from_files(project, folder)

    def uniform(self, project: Project) -> ImagePredictor:
        """Predict every class alike."""
        return predict_uniform(project)


def _training(name: str) -> Any:
    try:
        return importlib.import_module(f"a2lc.training.{name}")
    except ImportError as error:
        raise MissingExtraError(
            f"Training and prediction need the extra [train] ({error.name} is missing): pip install 'a2lc[train]'"
        ) from None
