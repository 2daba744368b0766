"""Stage `select`: choose the masks to ask about."""

from __future__ import annotations

import time

from a2lc.rounds.context import Context
from a2lc.rounds.questioner import Questioner
from a2lc.rounds.result import StageResult

__all__ = ["run"]


def run(context: Context, round_index: int, questioner: Questioner) -> StageResult:
    """Record the first queries of a round and what chose them, in one transaction."""
    began = time.perf_counter()
    ledger = context.project.ledger
    asked = ledger.queries(round_index)
    selection = questioner.select(asked)
    details = context.settled(len(asked) + len(selection.queries)) | selection.details
    seconds = time.perf_counter() - began
    ledger.add_queries(round_index, selection.queries, seconds, details)
    return StageResult(
        stage="select", round_index=round_index, seconds=seconds, summary=selection.summary, details=details
    )
