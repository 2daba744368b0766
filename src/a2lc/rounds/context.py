"""What every stage of a run is handed: the project, the plan of the round, its method, and the model provider."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from a2lc.acquisition.cost import ClickCost
from a2lc.errors import ConfigError, InputError
from a2lc.io.progress import Track, no_progress
from a2lc.methods import Method, create_method
from a2lc.project.project import Project
from a2lc.project.truth import TruthStore
from a2lc.records import QueryKind
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.providers import ConfiguredModels
from a2lc.statistics.store import ParquetStats
from a2lc.training.provider import ModelProvider

__all__ = ["NO_LABELS", "SHARD", "Context"]

SHARD = 64
"""Images a shard holds: what a killed scoring loses at most."""

NO_LABELS = "no label to learn from yet"
"""Why a training was skipped before anyone has answered, where a project starts from nothing."""


@dataclass(eq=False, kw_only=True)
class Context:
    """All that decides what a stage does.

    Attributes:
        project: Opened, its lock held by the caller.
        plan: Settings of the round.
        models: Who trains and predicts.
        workers: Processes that share the work on images; 1 works in this process.
        shard_size: Images of a shard.
        track: Shows progress.
        truth: Ground truth of the project, read by the simulated annotator and the metrics alone.

    Raises:
        UnknownNameError: There is no such method or setting.
        ConfigError: The method cannot work with the training settings or with this kind of annotator.
        InputError: The budget buys no answer.
    """

    project: Project
    plan: RoundPlan
    models: ModelProvider = field(default_factory=ConfiguredModels)
    workers: int = 1
    shard_size: int = SHARD
    track: Track = no_progress
    truth: TruthStore = field(init=False)
    loaded: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """Models and views that work on shards has loaded, emptied when the stage ends."""

    def __post_init__(self) -> None:
        """Refuse plans that cannot be carried out."""
        self.truth = self.project.truth
        method, plan = self.method, self.plan
        if plan.training.model == "probabilities" and self.needs_network:
            raise ConfigError(
                f"Method {plan.method!r} trains networks of its own and cannot use files of probabilities. Omit "
                "`probabilities` and set training.model, or choose another method."
            )
        if plan.annotator.kind == "human" and method.query.kind == QueryKind.PRECISE:
            raise ConfigError(
                "Precise labels are drawn and cannot be given by keys; only the simulated annotator gives them. "
                "Set method.labelling=dominant, or choose another method."
            )
        if not plan.budget >= self.cost.highest:
            raise InputError(
                f"A budget of {plan.budget:g} clicks pays for no answer; one answer costs up to {self.cost.highest:g}."
            )

    @cached_property
    def method(self) -> Method:
        """The method of the plan, with its settings."""
        return create_method(self.plan.method, self.plan.settings)

    @property
    def needs_network(self) -> bool:
        """Whether the method trains a network of its own: neither the head nor files of probabilities stand for it."""
        labels, network = self.method.pixel_labels, self.method.network
        own_losses = labels is not None and labels.region_losses is not None
        return network.head != "linear" or network.objective != "labels" or own_losses

    @property
    def uses_head(self) -> bool:
        """Whether the head is the model of the rounds."""
        return self.plan.training.model == "head" and not self.needs_network and not self.models.has_own_model

    @cached_property
    def cost(self) -> ClickCost:
        """Clicks of each kind of answer."""
        return ClickCost(confirm=self.plan.annotator.confirm_clicks, correct=self.plan.annotator.correct_clicks)

    def seed(self, round_index: int) -> int:
        """Draw the seed of a round from that of the project."""
        return int(np.random.default_rng([self.plan.seed, round_index]).integers(2**31))

    def statistics(self, round_index: int) -> ParquetStats:
        """Return the store of a round's statistics."""
        return ParquetStats(self.project.round_folder(round_index) / "stats", self.method.pool.extra_columns)

    def is_warm_up(self, round_index: int) -> bool:
        """Whether nothing was trained before this round, for want of labels: masks are then asked about at random."""
        return any(
            stage.details.get("skipped") == NO_LABELS for stage in self.project.ledger.stages(round_index - 1, "train")
        )

    def settled(self, queries: int) -> dict[str, Any]:
        """Return what the choice of queries settles for the round."""
        plan = {key: value for key, value in self.plan.to_json().items() if key not in {"training", "annotator"}}
        return {"queries": queries, "plan": json.loads(json.dumps(plan))}

    def masks_left(self) -> int:
        """Count the masks that may still be asked about."""
        masks = len(self.project.masks)
        return masks - len(self.project.ledger.asked_masks(closed=True)) if self.method.query.once else masks

    @property
    def queries_per_round(self) -> int:
        """Queries that a round's budget always pays for; one, where answers differ in clicks or masks are merged."""
        if self.method.query.priced_by_answer or self.method.pool.merges:
            return 1
        return int(self.plan.budget / self.cost.highest + 1e-9)

    def queries_prepared(self, left: int) -> int:
        """Count the queries that a round prepares of the masks left: those that the fewest clicks pay for."""
        if self.method.pool.merges:
            return min(left, int(self.plan.budget / self.cost.highest + 1e-9))
        query = self.method.query
        if not query.priced_by_answer:
            return self.queries_per_round
        lowest = self.cost.per_class if query.kind == QueryKind.CLASSES else 1.0
        return min(left, max(1, int(self.plan.budget / lowest + 1e-9)) + query.overshoots)
