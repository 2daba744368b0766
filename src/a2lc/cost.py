"""What an answer costs, so that budgets of different questions compare (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from a2lc.errors import ConfigError

__all__ = ["ClickCost"]


@dataclass(frozen=True, kw_only=True)
class ClickCost:
    """Clicks of an answer to a correction query.

    A2LC and ALC count one click a query, whether the label is kept or corrected.

    Attributes:
        confirm: Clicks to keep the proposed class.
        correct: Clicks to name another class, or void.
    """

    confirm: float = 1.0
    correct: float = 1.0

    def __post_init__(self) -> None:
        """Refuse costs that no budget could bound.

        Raises:
            ConfigError: A cost is not above 0.
        """
        if not (self.confirm > 0 and self.correct > 0):
            raise ConfigError(f"Clicks of an answer must be above 0, found {self.confirm} and {self.correct}.")

    @property
    def highest(self) -> float:
        """The most a query can cost: what a budget is divided by, so that it is never passed."""
        return max(self.confirm, self.correct)

    def of(self, kind: str) -> float:
        """Clicks of an answer of a kind: 0 for a skipped question."""
        return {"confirm": self.confirm, "skip": 0.0}.get(kind, self.correct)
