"""The stages of a round, and which one is next: read from the ledger, so that a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from a2lc.errors import InputError, StageError
from a2lc.ledger.records import RoundRecord, StageRecord
from a2lc.ledger.undo import undo_rows
from a2lc.project.project import Project

__all__ = [
    "FIRST_STAGES",
    "STAGES",
    "is_between_rounds",
    "next_stage",
    "require_between_rounds",
    "require_stage",
    "stage_after",
    "take_back",
]

FIRST_STAGES = ("train", "evaluate")
"""Round 0: a model of the first labels."""

STAGES = ("score", "select", "answer", "correct", "train", "evaluate")
"""Every later round."""


def next_stage(project: Project) -> tuple[int, str]:
    """Return the round and stage that run next: the first unfinished one, or a new round's first.

    The last round may have begun before the one before it has ended: people are asked ahead while its model is trained.
    """
    return stage_after(project.ledger.rounds(), project.ledger.stages())


def stage_after(records: Sequence[RoundRecord], finished: Iterable[StageRecord]) -> tuple[int, str]:
    """Return the round and stage that run next, see `next_stage`, after rounds and stages of the ledger."""
    rounds = [record.round for record in records]
    if not rounds:
        return 0, FIRST_STAGES[0]
    done = {(stage.round, stage.stage) for stage in finished}
    for number in rounds[-2:]:
        for stage in FIRST_STAGES if number == 0 else STAGES:
            if (number, stage) not in done:
                return number, stage
    return rounds[-1] + 1, STAGES[0]


def is_between_rounds(project: Project) -> bool:
    """Return whether no round is open."""
    return next_stage(project)[0] not in {record.round for record in project.ledger.rounds()}


def require_between_rounds(project: Project) -> None:
    """Refuse if a round is open, so that all of a round is about the same classes.

    Raises:
        StageError: One is.
    """
    if not is_between_rounds(project):
        number, stage = next_stage(project)
        raise StageError(
            f"Round {number} is open at stage '{stage}'. Finish it first: a2lc run {project.folder} --rounds {number}"
        )


def require_stage(project: Project, stage: str) -> int:
    """Return the round in which a stage runs next.

    Raises:
        StageError: Another stage comes first.
    """
    number, following = next_stage(project)
    if stage != following:
        raise StageError(
            f"Round {number} is at stage '{following}', not at '{stage}'. Run this first: a2lc {following} DIR"
        )
    return number


def take_back(project: Project, number: int, source: str, *, dry_run: bool = False) -> int:
    """Undo the corrections of a round; later ones stay.

    Args:
        project: Opened, its lock held by the caller.
        number: The round.
        source: `manual`, `automatic` or `all`.
        dry_run: Only count.

    Returns:
        How many masks change.

    Raises:
        InputError: There is no such round, or it was taken back before.
        StageError: A round is open. What was changed automatically may be taken back while nothing was made of it yet: until
            the next model is trained.
    """
    rounds = [record.round for record in project.ledger.rounds()]
    if number not in rounds:
        known = f"rounds 1 to {rounds[-1]}" if rounds and rounds[-1] > 0 else "no round with corrections"
        raise InputError(f"There is no round {number} in {project.folder}: it has {known}.")
    opened, stage = next_stage(project)
    if opened in rounds and (opened, stage, source) != (number, "train", "automatic"):
        raise StageError(
            f"Round {opened} is open at stage '{stage}'. Finish it first: a2lc run {project.folder} --rounds {opened}"
        )
    taken = project.ledger.undos()
    before = {undo.source for undo in taken if undo.undone == number}
    if before & {"all", source} or before >= {"manual", "automatic"}:
        raise InputError(f"Round {number} has already been undone.")
    keys, old, new = undo_rows(project.corrections(), taken, number, source)
    if not dry_run:
        image, mask = (keys >> np.uint64(32)).astype(int), (keys & np.uint64(0xFFFFFFFF)).astype(int)
        # In an open round it is older than all that the round comes to, as if it had been done at the end of the one before.
        last = opened - 1 if opened in rounds else rounds[-1]
        project.ledger.add_undo(number, source, last, image, mask, old, new)
    return len(keys)
