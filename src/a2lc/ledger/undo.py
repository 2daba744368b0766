"""What was taken back, and what decides each mask's class, from the rows of the ledger (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import FIRST
from a2lc.ledger.replay import SOURCES, CorrectionRows, MaskState, UndoRecord

__all__ = ["deciders", "taken_back", "undo_rows"]

_UNDO = SOURCES.index("undo")


def taken_back(rows: CorrectionRows, undos: Sequence[UndoRecord]) -> NDArray[np.bool_]:
    """Mark the corrections that were undone: (n,) bool."""
    gone = np.zeros(len(rows), dtype=bool)
    for undo in undos:
        of_source = rows.source != _UNDO if undo.source == "all" else rows.source == SOURCES.index(undo.source)
        gone |= (rows.rounds == undo.undone) & of_source & (rows.ids <= undo.after)
    return gone


def undo_rows(
    rows: CorrectionRows, undos: Sequence[UndoRecord], undone: int, source: str
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """Return what masks change to when the corrections of a round are undone.

    A mask changes if its standing class comes from that round; it goes back to its last correction that was
    never taken back, or to its first labels. A class given in a later round stays.

    Args:
        rows: All corrections, in recorded order.
        undos: What was taken back earlier.
        undone: The round to take back.
        source: `manual`, `automatic` or `all`.

    Returns:
        Keys of the masks that change, the classes they carry, and those they get.
    """
    last = int(rows.ids[-1]) if len(rows) else 0
    gone = taken_back(rows, [*undos, UndoRecord(undone=undone, source=source, round=undone, after=last)])
    standing = _last(rows)
    # Undo rows only say what a replay would: what is left after them is found from the corrections themselves.
    kept = _last(rows.take(~gone & (rows.source != _UNDO)))
    changed = [(key, now, kept.get(key, FIRST)) for key, now in standing.items() if kept.get(key, FIRST) != now]
    keys, old, new = zip(*changed, strict=True) if changed else ((), (), ())
    return np.array(keys, dtype=np.uint64), np.array(old, dtype=np.int32), np.array(new, dtype=np.int32)


def deciders(
    rows: CorrectionRows, undos: Sequence[UndoRecord], state: MaskState, keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return the correction each mask's standing class comes from; behind an undo, the one it went back to.

    Args:
        rows: All corrections, in recorded order.
        undos: What was taken back.
        state: Their replay.
        keys: (M,) ascending keys of the masks.

    Returns:
        (M,) positions among the rows, -1 for masks that carry their first labels.
    """
    decider = np.full(len(state.classes), -1, dtype=np.int64)
    if not len(rows) or not len(keys):
        return decider
    place = np.minimum(np.searchsorted(keys, rows.keys), len(keys) - 1)
    gives = (keys[place] == rows.keys) & (rows.source != _UNDO) & ~taken_back(rows, undos)
    gives &= (state.classes[place] == rows.new) & (rows.new != FIRST)
    np.maximum.at(decider, place[gives], np.flatnonzero(gives))
    # A standing class that no kept row gives would be a ledger written by other hands: its last row has the say.
    lost = (decider < 0) & (state.classes != FIRST)
    return np.where(lost, state.winner, decider)


def _last(rows: CorrectionRows) -> dict[Any, int]:
    """Return the last class of each mask that any row names."""
    return dict(zip(rows.keys.tolist(), rows.new.tolist(), strict=True))
