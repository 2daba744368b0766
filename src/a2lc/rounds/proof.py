"""Which automatic corrections a certificate covers, by what the rounds recorded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.tables import AuditTable
from a2lc.ledger.replay import SOURCES, MaskState
from a2lc.project.project import Project

__all__ = ["not_proven"]


def not_proven(project: Project, state: MaskState, through: int | None = None) -> NDArray[np.bool_]:
    """Return (M,) whether each mask's class comes from an automatic correction that no certificate covers.

    What the last audited round proved counts; one that was undone, in whole or in part, proves nothing any more.
    Corrections of methods without audits are never proven.

    Args:
        project: Opened.
        state: What each mask carries.
        through: At the end of this round; None for now.
    """
    automatic = state.source == SOURCES.index("automatic")
    certified = np.zeros(len(state.classes), dtype=np.bool_)
    corrected = {stage.round for stage in project.ledger.stages() if stage.stage == "correct"}
    corrected -= {undo.undone for undo in project.ledger.undos() if through is None or undo.round < through}
    for number in sorted(corrected, reverse=True):
        path = project.round_folder(number) / "measured.parquet"
        if (through is not None and number > through) or not path.is_file():
            continue
        table = AuditTable.load(path)
        labels = project.labels_since(number, table.labels)
        certified[table.certified] = labels[table.certified] == state.classes[table.certified]
        break
    return np.asarray(automatic & ~certified, dtype=np.bool_)
