"""Rows of the ledger as records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["BY_HAND", "LayerRecord", "RoundRecord", "StageRecord"]


@dataclass(frozen=True, kw_only=True)
class RoundRecord:
    """A round as it was opened: its method, the whole configuration, what scored it, and the versions in use."""

    round: int
    method: str
    config: dict[str, Any]
    model: str
    seed: int
    versions: dict[str, str]
    started: str


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A finished stage of a round: how long it took, and what it found."""

    round: int
    stage: str
    seconds: float
    details: dict[str, Any]
    ended: str


BY_HAND = "answers of "
"""How the model of a layer begins that holds nothing but pixel labels that came with answers."""


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """A round's labels below the mask.

    Attributes:
        round: The round; a later layer takes the place of an earlier one as a whole.
        after: The last correction there was: masks corrected later are not covered.
        model: What it rests on.
        time: When.
    """

    round: int
    after: int
    model: str
    time: str = ""

    @property
    def by_hand(self) -> bool:
        """Whether people gave these labels, pixel by pixel, and no method did."""
        return self.model.startswith(BY_HAND)
