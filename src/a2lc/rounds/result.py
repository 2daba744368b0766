"""What a stage did, as a record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["StageResult"]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """The outcome of one stage of one round: the command line prints it, the server forwards it.

    Attributes:
        stage: `train`, `evaluate`, `score`, `select`, `answer` or `correct`; or `features`, which a stage may need first.
        round_index: The round.
        seconds: Time it took.
        summary: One line for people.
        complete: False if queries wait for a person; then nothing of the stage's end was recorded.
        details: What the ledger records of it.
        notes: Anything else people should know, one line each.
    """

    stage: str
    round_index: int
    seconds: float
    summary: str
    complete: bool = True
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Format the notes and the summary for a terminal."""
        head = f"round {self.round_index}  {self.stage:<8}"
        notes = [f"{head}  {note}" for note in self.notes]
        if not self.complete:
            return [*notes, f"{head}  {self.summary}"]
        return [*notes, f"{head} {self.seconds:7.1f} s  {self.summary}"]
