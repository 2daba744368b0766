"""Undo and differences between rounds, from the rows of the ledger (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.ledger.replay import FIRST, SOURCES, CorrectionRows

__all__ = ["undo_rows"]

_UNDO = SOURCES.index("undo")


def undo_rows(
    rows: CorrectionRows, taken_back: list[tuple[int, str]], undone: int, source: str
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int32]]:
    """What masks change to when the corrections of a round are taken back.

    A mask changes if its standing class comes from that round; it goes back to its last correction that was
    never taken back, or to its first labels. A class given in a later round stays.

    Args:
        rows: All corrections, in recorded order.
        taken_back: Rounds and sources taken back earlier.
        undone: The round to take back.
        source: `manual`, `automatic` or `all`.

    Returns:
        Keys of the masks that change, the classes they carry, and those they get.
    """
    void = np.zeros(len(rows), dtype=bool)
    for number, what in [*taken_back, (undone, source)]:
        of_round = (rows.rounds == number) & (rows.source != _UNDO)
        void |= of_round & ((what == "all") | (rows.source == SOURCES.index(what) if what != "all" else True))
    standing = _last(rows)
    # Undo rows only say what a replay would: what is left after them is found from the corrections themselves.
    kept = _last(rows.take(~void & (rows.source != _UNDO)))
    keys, old, new = [], [], []
    for key, now in standing.items():
        then = kept.get(key, FIRST)
        if then != now:
            keys.append(key)
            old.append(now)
            new.append(then)
    return np.array(keys, dtype=np.uint64), np.array(old, dtype=np.int32), np.array(new, dtype=np.int32)


def _last(rows: CorrectionRows) -> dict[Any, int]:
    """The last class of each mask that any row names."""
    return dict(zip(rows.keys.tolist(), rows.new.tolist(), strict=True))
