"""Read once the facts of a project that the sections of the report share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID
from a2lc.ledger.records import RoundRecord, StageRecord
from a2lc.ledger.replay import SOURCES, CorrectionRows, MaskState, UndoRecord, replay
from a2lc.ledger.undo import deciders, taken_back
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable
from a2lc.project.project import Project
from a2lc.records import Answer, Query
from a2lc.rounds.status import project_status

__all__ = ["AUTOMATIC", "MANUAL", "UNDO", "Facts", "load_facts", "true_classes"]


UNKNOWN = -3
"""True class of a mask without ground truth."""


MANUAL = SOURCES.index("manual")


AUTOMATIC = SOURCES.index("automatic")


UNDO = SOURCES.index("undo")


Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Facts:
    """Everything that sections are computed from. M masks, n corrections, K classes.

    Attributes:
        project: The project.
        through: Last round to report on; None for all.
        status: Result of `project_status`; its `rounds` only up to `through`.
        rounds: Opened rounds, up to `through`.
        stages: Finished stages of those rounds.
        masks: The mask table.
        truth: Ground truth joined with it; None without ground truth.
        rows: The n corrections.
        confidence: (n,) confidence of each; NaN if it has none.
        taken_back: (n,) True if the correction was undone.
        first: The state before any correction.
        now: The state after all of them.
        changed_pixels: (M,) pixels of each mask whose class differs from the initial labels.
        by: (M,) index in SOURCES of the origin of the current class; 0 if the mask was not corrected.
        decider: (M,) row of the correction that it comes from; -1 if the mask was not corrected.
        true_class: (M,) most frequent true class, VOID, or UNKNOWN.
        queries: Questions of those rounds.
        answers: Their current answers, with clicks.
        undos: The undo records.
    """

    project: Project
    through: int | None
    status: dict[str, Any]
    rounds: list[RoundRecord]
    stages: list[StageRecord]
    masks: MaskTable
    truth: TruthTable | None
    rows: CorrectionRows
    confidence: NDArray[np.float64]
    taken_back: NDArray[np.bool_]
    first: MaskState
    now: MaskState
    changed_pixels: Int
    by: NDArray[np.int8]
    decider: Int
    true_class: Int
    queries: list[Query]
    answers: list[tuple[Answer, float]]
    undos: list[UndoRecord]

    @property
    def num_classes(self) -> int:
        """Number of classes (K)."""
        return self.project.classes.num_classes

    def name(self, index: int) -> str:
        """Return the name of a class."""
        return self.project.classes.name_of(index)


def load_facts(project: Project, through: int | None = None) -> Facts:
    """Read tables and ledger.

    Args:
        project: Opened.
        through: The last round to report on; None for all rounds.
    """
    last = float("inf") if through is None else through
    status = project_status(project)
    status["rounds"] = [row for row in status["rounds"] if row["round"] <= last]
    rounds = [record for record in project.ledger.rounds() if record.round <= last]
    masks = project.masks
    truth = project.truth.table if project.has_ground_truth else None
    rows = project.corrections(through)
    confidences = {detail.id: detail.confidence for detail in project.ledger.correction_details()}
    values = (confidences[row] for row in rows.ids.tolist())
    confidence = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    undos = [undo for undo in project.ledger.undos() if through is None or undo.round < through]
    gone = taken_back(rows, undos)
    first = replay(rows.take(np.zeros(len(rows), dtype=bool)), masks.keys)
    now = project.with_layer(replay(rows, masks.keys), rows, through)
    decider = deciders(rows, undos, now, masks.keys)
    by = np.where(decider >= 0, rows.source[decider] if len(rows) else 0, 0).astype(np.int8)
    closed = {stage.round for stage in project.ledger.stages() if stage.stage == "answer"}
    answered = {answer.query_id for answer, _ in project.ledger.answers()}
    # Questions left over when the clicks of their round were spent were never asked.
    queries = [
        query
        for query in project.ledger.queries()
        if query.round <= last and (query.round not in closed or query.query_id in answered)
    ]
    asked = {query.query_id for query in queries}
    return Facts(
        project=project,
        through=through,
        status=status,
        rounds=rounds,
        stages=[stage for stage in project.ledger.stages() if stage.round <= last],
        masks=masks,
        truth=truth,
        rows=rows,
        confidence=confidence,
        taken_back=gone,
        first=first,
        now=now,
        changed_pixels=masks.changed_pixels(first, now),
        by=by,
        decider=decider,
        true_class=(
            np.full(len(masks), UNKNOWN, dtype=np.int64)
            if truth is None
            else true_classes(truth, len(masks), project.classes.num_classes)
        ),
        queries=queries,
        answers=[(answer, clicks) for answer, clicks in project.ledger.answers() if answer.query_id in asked],
        undos=undos,
    )


def true_classes(truth: TruthTable, num_masks: int, num_classes: int) -> Int:
    """Find the most frequent true class of each mask; ties go to the lowest class, and unlabeled loses them.

    Args:
        truth: Ground truth joined with the masks.
        num_masks: M.
        num_classes: K.

    Returns:
        (M,) class in [0, K), VOID, or UNKNOWN for masks without ground truth.
    """
    inside = truth.row >= 0
    column = np.where(truth.truth[inside] == VOID, num_classes, truth.truth[inside]).astype(np.int64)
    pairs, inverse = np.unique(truth.row[inside].astype(np.int64) * (num_classes + 1) + column, return_inverse=True)
    pixels = np.bincount(inverse, weights=truth.pixels[inside], minlength=len(pairs))
    row, column = pairs // (num_classes + 1), pairs % (num_classes + 1)
    order = np.lexsort((column, -pixels, row))
    rows, leading = np.unique(row[order], return_index=True)
    classes = np.full(num_masks, UNKNOWN, dtype=np.int64)
    best = column[order][leading]
    classes[rows] = np.where(best == num_classes, VOID, best)
    return classes
