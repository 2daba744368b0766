"""First labels + ledger rows -> corrected labels (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import FIRST
from a2lc.statistics.keys import mask_keys

__all__ = ["SOURCES", "CorrectionRows", "MaskState", "UndoRecord", "mask_keys", "replay"]


SOURCES = ("first", "manual", "automatic", "import", "undo")
"""What the codes of `MaskState.source` and `CorrectionRows.source` stand for."""

_UNDO = SOURCES.index("undo")


@dataclass(frozen=True, eq=False, kw_only=True)
class CorrectionRows:
    """Corrections as columns, n rows in the order they were recorded.

    Attributes:
        ids: (n,) rows in the ledger, ascending.
        rounds: (n,) round.
        keys: (n,) uint64 mask keys, see `mask_keys`.
        old: (n,) class before, VOID, or FIRST.
        new: (n,) class after, VOID, or FIRST.
        source: (n,) position in SOURCES.
    """

    ids: NDArray[np.int64]
    rounds: NDArray[np.int32]
    keys: NDArray[np.uint64]
    old: NDArray[np.int32]
    new: NDArray[np.int32]
    source: NDArray[np.int8]

    def __len__(self) -> int:
        """Return the number of corrections."""
        return len(self.ids)

    def through(self, round_index: int | None) -> CorrectionRows:
        """Return those that stood at the end of a round; all of them for None.

        What was undone later on, before the next round began, is not among them.
        """
        if round_index is None:
            return self
        undone_since = (self.rounds == round_index) & (self.source == _UNDO)
        return self.take((self.rounds <= round_index) & ~undone_since)

    def take(self, keep: NDArray[Any]) -> CorrectionRows:
        """Return the rows that a boolean or index array names."""
        return CorrectionRows(
            ids=self.ids[keep],
            rounds=self.rounds[keep],
            keys=self.keys[keep],
            old=self.old[keep],
            new=self.new[keep],
            source=self.source[keep],
        )


@dataclass(frozen=True, kw_only=True)
class UndoRecord:
    """The taking back of a round's corrections.

    Attributes:
        undone: The round.
        source: `manual`, `automatic` or `all` of its corrections.
        round: The last round that had ended then; the one before `undone`, where that one had not ended itself.
        after: The last correction there was then; later ones of that round, by changed answers, are not undone.
        time: When.
    """

    undone: int
    source: str
    round: int
    after: int
    time: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskState:
    """What each of M masks carries after a replay.

    Attributes:
        classes: (M,) class, VOID, or FIRST where nothing was corrected.
        source: (M,) position in SOURCES of what decided it; 0 where nothing did.
        winner: (M,) position among the rows of the correction that decided it, -1 where none did.
        layer: Round whose layer of labels below the mask is in force, None for none.
        newer: (M,) True where the mask was corrected after that layer was made, which does not cover it then.
    """

    classes: NDArray[np.int32]
    source: NDArray[np.int8]
    winner: NDArray[np.int64]
    layer: int | None = None
    newer: NDArray[np.bool_] | None = None


def replay(rows: CorrectionRows, keys: NDArray[np.uint64]) -> MaskState:
    """Return the state of every mask after all corrections: the last one of a mask decides.

    Args:
        rows: Corrections in recorded order.
        keys: (M,) ascending keys of the masks of the project.

    Returns:
        State of the M masks, in the order of `keys`. Rows of masks that are not among `keys` have no effect.
    """
    classes = np.full(len(keys), FIRST, dtype=np.int32)
    source = np.zeros(len(keys), dtype=np.int8)
    winner = np.full(len(keys), -1, dtype=np.int64)
    if len(rows) and len(keys):
        position = np.minimum(np.searchsorted(keys, rows.keys), len(keys) - 1)
        known = keys[position] == rows.keys
        # The largest row number of a mask wins; maximum.at is the same whichever order it runs in.
        np.maximum.at(winner, position[known], np.flatnonzero(known))
        decided = winner >= 0
        classes[decided] = rows.new[winner[decided]]
        source[decided] = rows.source[winner[decided]]
        # Back to the first labels: the mask counts as never touched.
        source[classes == FIRST] = 0
    return MaskState(classes=classes, source=source, winner=winner)
