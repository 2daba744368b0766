"""Baselines: an acquisition function alone, nothing corrected that nobody looked at."""

from __future__ import annotations

from dataclasses import dataclass

from a2lc.methods.base import Method, register

__all__ = ["CIL", "LCIL", "Entropy", "Margin", "Random", "Softmin"]


@register("random", paper="baseline", summary="asks about masks at random")
@dataclass(frozen=True, kw_only=True)
class Random(Method):
    """Masks in random order."""

    acquisition: str = "random"


@register("entropy", paper="baseline", summary="asks where the model's probabilities have the highest entropy")
@dataclass(frozen=True, kw_only=True)
class Entropy(Method):
    """Masks of highest mean entropy."""

    acquisition: str = "entropy"


@register("margin", paper="baseline (BvSB)", summary="asks where the second-best class is closest to the best one")
@dataclass(frozen=True, kw_only=True)
class Margin(Method):
    """Masks of highest mean best-versus-second-best ratio."""

    acquisition: str = "margin"


@register(
    "softmin",
    paper="Lad and Mueller 2023, arXiv:2307.05080",
    summary="asks where the labels have the lowest confidence (soft minimum)",
)
@dataclass(frozen=True, kw_only=True)
class Softmin(Method):
    """Masks of lowest soft-minimum label confidence."""

    acquisition: str = "softmin"


@register(
    "cil",
    paper="ALC, arXiv:2403.10820",
    summary="asks where the label of the mask's representative pixel is least likely",
)
@dataclass(frozen=True, kw_only=True)
class CIL(Method):
    """ALC without look-ahead: doubt of the label at the representative pixel."""

    acquisition: str = "cil"


@register("lcil", paper="ALC, arXiv:2403.10820", summary="asks where the labels of a mask are least likely on average")
@dataclass(frozen=True, kw_only=True)
class LCIL(Method):
    """Mean doubt of the labels over the mask."""

    acquisition: str = "lcil"
