"""Which masks to ask about alone and which together in a grid: the highest expected gain per click (pure).

A grid shows masks thought to be of one class. One click confirms all of them, and one that is not of the class costs two
more, to mark it and to name it. So n masks of values v and probabilities p of that class are worth Σv for an expected
1 + 2·Σ(1 − p) clicks, and a mask alone is worth v for one. Each choice takes what is worth most per click.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST", "choose_asks", "grid_of"]

FEWEST = 4
"""Masks of a grid at least."""

Rows = NDArray[np.int64]


def grid_of(values: NDArray[Any], misses: NDArray[Any], size: int) -> tuple[NDArray[np.int64], float]:
    """Choose the grid of highest value per expected click among masks that are thought to be of one class.

    At a price r of a click a mask is worth v - 2·r·miss, and the best grid at that price is of the masks where that is
    most. Its own value per click is the next price, which rises until it is that of the best grid of all.

    Args:
        values: (n,) of knowing each mask's class, 0 or more.
        misses: (n,) probability that it is of another class, in [0, 1].
        size: Masks at most.

    Returns:
        (m,) places, `FEWEST` <= m <= `size`, and the value per expected click; no place and 0 where n or `size` is below
        `FEWEST`.

    Source:
        Dinkelbach 1967 (doi:10.1287/mnsc.13.7.492), which finds the largest ratio exactly.

    Example:
        >>> places, worth = grid_of(np.array([3.0, 3, 3, 3, 1]), np.array([0.0, 0, 0, 0, 1]), 24)
        >>> places.tolist(), worth
        ([0, 1, 2, 3], 12.0)
    """
    places, price = np.empty(0, dtype=np.int64), 0.0
    if min(len(values), size) < FEWEST:
        return places, price
    while True:
        net = values - 2 * price * misses
        order = np.argsort(-net, kind="stable")[:size]
        chosen = order[: max(FEWEST, int((net[order] > 0).sum()))]
        worth = float(values[chosen].sum() / (1 + 2 * misses[chosen].sum()))
        if len(places) and worth <= price * (1 + 1e-12):
            return places, price
        places, price = chosen.astype(np.int64), worth


def choose_asks(
    values: NDArray[Any],
    labels: NDArray[Any],
    chances: NDArray[Any],
    singles: Sequence[int] | NDArray[Any],
    *,
    clicks: float,
    most: float,
    size: int,
) -> list[Rows]:
    """Choose what to ask next, for an expected number of clicks: single masks, and grids of masks of one class.

    Args:
        values: (M,) expected gain of knowing each mask's class; 0 or less for masks not to be asked.
        labels: (M,) class that each mask is thought to have, -1 for none: such a mask is in no grid.
        chances: (M,) probability of that class.
        singles: Rows to ask about alone, in order of preference; after them, by value.
        clicks: Expected clicks from which no more is chosen.
        most: Clicks that must not be passed even if every mask of every grid is of another class.
        size: Masks of a grid at most; below `FEWEST` none is made.

    Returns:
        Rows of each question, in the order they are chosen. A row is in one question.

    Example:
        >>> values, labels = np.array([9.0, 1, 1, 1, 1, 0]), np.zeros(6, dtype=int)
        >>> [rows.tolist() for rows in choose_asks(values, labels, np.ones(6), [0], clicks=2, most=20, size=4)]
        [[0, 1, 2, 3], [4]]
    """
    values, labels = np.asarray(values, dtype=np.float64), np.asarray(labels)
    misses = 1 - np.asarray(chances, dtype=np.float64)
    free = values > 0
    found: list[Rows] = []
    spent = worst = 0.0
    waiting = [int(row) for row in singles][::-1]
    grids: dict[int, tuple[Rows, float]] = {}
    stale = set(np.unique(labels[free & (labels >= 0)]).tolist()) if size >= FEWEST else set()
    while spent < clicks and worst + 1 <= most + 1e-9:
        room = min(size, int((most - worst - 1) / 2 + 1e-9))
        for label in stale | {label for label, (rows, _) in grids.items() if len(rows) > room}:
            rows = np.flatnonzero(free & (labels == label))
            places, worth = grid_of(values[rows], misses[rows], room)
            grids[label] = rows[places], worth
        stale = set()
        while waiting and not free[waiting[-1]]:
            waiting.pop()
        if not waiting and free.any():
            waiting = [int(np.argmax(np.where(free, values, -np.inf)))]
        label, (rows, worth) = max(grids.items(), key=lambda item: item[1][1], default=(-1, (np.empty(0, np.int64), 0)))
        if waiting and values[waiting[-1]] >= worth:
            rows = np.array([waiting.pop()], dtype=np.int64)
            cost, dearest = 1.0, 1.0
        elif len(rows):
            cost, dearest = 1 + 2 * float(misses[rows].sum()), 1.0 + 2 * len(rows)
        else:
            break
        found.append(rows)
        free[rows] = False
        stale = set(labels[rows].tolist()) & set(grids)
        spent, worst = spent + cost, worst + dearest
    return found
