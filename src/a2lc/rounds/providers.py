"""The models of the rounds: the head or a network, as the settings name it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from a2lc.head import HEAD_WEIGHTS
from a2lc.io.progress import Track, no_progress
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.training.objectives import Fitted, Objective
from a2lc.training.provider import ImagePredictor, LightningModels

__all__ = ["ConfiguredModels", "weights_name"]


def weights_name(config: TrainingConfig) -> str:
    """Return the file of a round's folder that holds its model."""
    return HEAD_WEIGHTS if config.model == "head" else "model.ckpt"


class ConfiguredModels(LightningModels):
    """The model that the setting `training.model` names: the head, or a network trained by Lightning.

    Args:
        model: The user's own network, in place of either.
    """

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
        """Fit the head, or train a network, see `ModelProvider.fit`."""
        if config.model != "head" or self.has_own_model:
            return super().fit(project, config, objective, folder, seed=seed, start=start, track=track)
        from a2lc.head.provider import fit_head

        return fit_head(project, objective, folder, seed=seed, track=track)

    def from_weights(
        self, project: Project, config: TrainingConfig, weights: Path, *, change: NDArray[np.float32] | None = None
    ) -> ImagePredictor:
        """Predict with the head or a network, see `ModelProvider.from_weights`."""
        if config.model != "head" or self.has_own_model:
            return super().from_weights(project, config, weights, change=change)
        from a2lc.head.provider import predict_from_head

        return predict_from_head(project, weights, change=change)
