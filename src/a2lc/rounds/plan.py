"""The settings that decide a round."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from a2lc.methods import create_method
from a2lc.project.config import AnnotatorConfig, ProjectConfig, TrainingConfig

__all__ = ["RoundPlan"]


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """All that decides a round, beside the project's files.

    Attributes:
        method: Name of the method.
        settings: Its settings, where they are not the defaults.
        budget: Clicks a round.
        training: How models are trained.
        annotator: Who answers.
        seed: Of the project; each round draws its own from it.
    """

    method: str
    settings: dict[str, Any]
    budget: float
    training: TrainingConfig
    annotator: AnnotatorConfig
    seed: int

    @classmethod
    def of(cls, config: ProjectConfig) -> RoundPlan:
        """Make the plan of a project's settings."""
        return cls(
            method=config.method.name,
            settings=config.method.settings,
            budget=config.method.budget,
            training=config.training,
            annotator=config.annotator,
            seed=config.seed,
        )

    def defaults(self) -> dict[str, Any]:
        """Return all settings of the method as they are by default, as the ledger records them."""
        return dict(json.loads(json.dumps(asdict(create_method(self.method)))))  # type: ignore[call-overload]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as the ledger records it."""
        return {
            "method": self.method,
            "settings": asdict(create_method(self.method, self.settings)),  # type: ignore[call-overload]
            "budget": self.budget,
            "training": self.training.model_dump(mode="json"),
            "annotator": self.annotator.model_dump(mode="json"),
            "seed": self.seed,
        }
