"""The stages of a round, and which one is next: read from the ledger, so that a killed run goes on where it was."""

from __future__ import annotations

from a2lc.errors import StageError
from a2lc.project import Project

__all__ = ["FIRST_STAGES", "STAGES", "next_stage", "require_stage"]

FIRST_STAGES = ("train", "evaluate")
"""Round 0: a model of the first labels."""

STAGES = ("score", "select", "answer", "correct", "train", "evaluate")
"""Every later round."""


def next_stage(project: Project) -> tuple[int, str]:
    """The round and stage that run next: the first unfinished one of the last round, or a new round's first."""
    rounds = project.ledger.rounds()
    if not rounds:
        return 0, FIRST_STAGES[0]
    last = rounds[-1].round
    done = {stage.stage for stage in project.ledger.stages() if stage.round == last}
    for stage in FIRST_STAGES if last == 0 else STAGES:
        if stage not in done:
            return last, stage
    return last + 1, STAGES[0]


def require_stage(project: Project, stage: str) -> int:
    """The round in which a stage runs next.

    Raises:
        StageError: Another stage comes first.
    """
    number, following = next_stage(project)
    if stage != following:
        raise StageError(
            f"Round {number} is at its stage '{following}', not at '{stage}'. Run first: a2lc {following} DIR"
        )
    return number
