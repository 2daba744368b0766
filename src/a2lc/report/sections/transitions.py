"""Count which classes were changed to which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from a2lc.classes.sentinels import FIRST, VOID
from a2lc.report.facts import Facts, Int

__all__ = ["MATRIX_LIMIT", "MatrixSection", "PairRow"]


MATRIX_LIMIT = 40
"""Maximum classes of a readable matrix; with more classes the most changed pairs are listed."""


PAIRS = 40
"""Maximum pairs in that list."""


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Masks that changed from one class to another."""

    old: int
    new: int
    masks: int
    pixels: int


@dataclass(frozen=True, eq=False, kw_only=True)
class MatrixSection:
    """Initial against current classes. C classes occur; unlabeled comes last.

    Attributes:
        classes: C class indices, VOID for unlabeled.
        masks: (C, C) masks by most frequent initial label (rows) and current class (columns); None for many classes.
        pixels: (C, C) pixels by their own initial label and current class.
        pairs: The most changed pairs, most pixels first.
        left_out: Number of changed pairs that `pairs` leaves out.
    """

    classes: list[int]
    masks: Int | None
    pixels: Int | None
    pairs: list[PairRow]
    left_out: int


def matrix(facts: Facts) -> MatrixSection:
    """Compute the section."""
    masks, state, size = facts.masks, facts.now, facts.num_classes + 1
    current = masks.current(state)
    # VOID is -1, so counting from 1 puts it first; np.roll moves it to the end.
    by_mask = np.bincount((masks.label + 1) * size + current + 1, minlength=size * size)
    pair_now = state.classes[masks.pair_row]
    pair_now = np.where(pair_now == FIRST, masks.pair_label, pair_now)
    moves = (masks.pair_label + 1) * size + pair_now + 1
    by_pixel = np.bincount(moves, weights=masks.pair_pixels, minlength=size * size)
    tables = [np.roll(t.astype(np.int64).reshape(size, size), (-1, -1), (0, 1)) for t in (by_mask, by_pixel)]
    occurs = np.flatnonzero(tables[1].sum(axis=0) + tables[1].sum(axis=1))
    moved = tables[1].copy()
    np.fill_diagonal(moved, 0)
    order = np.argsort(-moved, axis=None, kind="stable")[: int((moved > 0).sum())]
    classes = [VOID if c == facts.num_classes else c for c in range(size)]
    pairs = [
        PairRow(old=classes[old], new=classes[new], masks=int(tables[0][old, new]), pixels=int(tables[1][old, new]))
        for old, new in zip(*np.unravel_index(order[:PAIRS], (size, size)), strict=True)
    ]
    few = len(occurs) <= MATRIX_LIMIT
    return MatrixSection(
        classes=[classes[c] for c in occurs],
        masks=tables[0][np.ix_(occurs, occurs)] if few else None,
        pixels=tables[1][np.ix_(occurs, occurs)] if few else None,
        pairs=pairs,
        left_out=max(0, len(order) - PAIRS),
    )
