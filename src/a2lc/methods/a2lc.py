"""A2LC: active and automated label correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.functions import ACQUISITIONS, class_weights, score
from a2lc.correction.module import LabelCorrectionModule
from a2lc.correction.rules import automatic_changes, class_ranks
from a2lc.errors import ConfigError, require_known
from a2lc.methods.base import Method, register
from a2lc.records import Changes, RoundView

__all__ = ["A2LC"]


@register(
    "a2lc",
    paper="Jeon et al., AAAI 2026, arXiv:2506.11599",
    summary="asks about doubtful labels, first of rare classes; propagates the answers to similar masks",
)
@dataclass(frozen=True, kw_only=True)
class A2LC(Method):
    """Active and automated label correction (Jeon et al., AAAI 2026, arXiv:2506.11599).

    Differences from the paper and from the authors' code are listed in docs/methods/a2lc.md.
    """

    acquisition: str = "abc"
    lcm: bool = True  # False: no automatic corrections
    parts: Literal["both", "abc", "lcm", "neither"] = "both"  # the published ablation: without ABC, SIM asks
    thresholds: tuple[float, ...] = (0.99,)  # τ of round 1, 2, ..; the last goes on. The code's default
    tail_fraction: float = 0.5  # α
    power: float = 3.0  # of the divergence in ABC's weights
    count_void: bool = True  # void counts as a class in those weights, as coded
    double_softmax: bool = True  # in the module's loss, as coded
    epochs: int = 100
    learning_rate: float = 1e-4
    batch_size: int = 8

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ConfigError: A share or a threshold is outside [0, 1].
            UnknownNameError: There is no such acquisition function.
        """
        require_known("acquisition function", self.acquisition, ACQUISITIONS)
        if not self.thresholds or not all(0 <= t <= 1 for t in self.thresholds):
            raise ConfigError(f"thresholds must be one or more numbers in [0, 1], found {self.thresholds}.")
        for name, low in (("epochs", 1), ("batch_size", 1), ("power", 0), ("learning_rate", 1e-30)):
            value = getattr(self, name)
            if not low <= value < float("inf"):
                raise ConfigError(f"{name} must be {'above 0' if low == 1e-30 else f'{low} or more'}, found {value}.")
        if not 0 <= self.tail_fraction <= 1:
            raise ConfigError(f"tail_fraction must be in [0, 1], found {self.tail_fraction}.")

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """Score ABC with weights from what the masks not asked about before carry now."""
        if self._asks_by != "abc":
            return score(self._asks_by, view.stats, seed=view.seed)
        void = view.void_pixels if self.count_void else 0
        weights = class_weights(view.pixels_per_class, void_pixels=void, power=self.power)
        return score("abc", view.stats, weights=weights)

    @property
    def _asks_by(self) -> str:
        """The acquisition function, unless the ablation takes ABC away."""
        return "sim" if self.acquisition == "abc" and self.parts in {"lcm", "neither"} else self.acquisition

    def columns(self) -> frozenset[str]:
        """Return what the acquisition function in use reads."""
        return ACQUISITIONS[self._asks_by].columns

    @property
    def corrects(self) -> bool:
        """With the label correction module on."""
        return self.lcm and self.parts in {"both", "lcm"}

    def propagate(self, view: RoundView, answered: NDArray[Any], classes: NDArray[Any]) -> Changes:
        """Fit the label correction module on this round's answers and keep the proposals that pass its rule."""
        named = classes >= 0  # void is no target
        if not self.corrects or not named.any():
            return super().propagate(view, answered, classes)
        order = np.argsort(answered[named])
        module = LabelCorrectionModule(
            learning_rate=self.learning_rate,
            epochs=self.epochs,
            batch_size=self.batch_size,
            double_softmax=self.double_softmax,
            seed=view.seed,
        ).fit(view.stats.take(answered[named][order]), classes[named][order])
        proposed, confidences = module.propose(view.stats)
        changed = automatic_changes(
            proposed,
            confidences,
            view.current,
            view.asked,
            class_ranks(classes[named], view.stats.num_classes),
            threshold=self.thresholds[min(view.round, len(self.thresholds)) - 1],
            tail_fraction=self.tail_fraction,
        )
        rows = np.flatnonzero(changed)
        return Changes(rows=rows, classes=proposed[rows], confidences=confidences[rows].astype(np.float64))
