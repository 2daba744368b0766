"""Choose first questions where nothing is known of any mask: spread over the features, large masks before small ones (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["spread_rows"]


def spread_rows(
    area: NDArray[np.integer] | NDArray[np.floating],
    looks: NDArray[np.floating],
    count: int,
    rng: np.random.Generator,
    *,
    taken: Sequence[int] | NDArray[np.integer] = (),
) -> NDArray[np.int64]:
    """Draw rows by area times the squared distance to the nearest row drawn before, as the seeding of k-means++ does.

    Answers to masks that look alike tell the same, and all classes are to be seen soon. To take the farthest mask each time
    would ask about odd ones; a draw asks about the kinds that cover most pixels.

    Args:
        area: (M,) pixels, above 0.
        looks: (M, D) standardised features.
        count: How many to draw.
        rng: Source of the draws.
        taken: (t,) rows drawn or asked about before: none of them is drawn again.

    Returns:
        (n,) int64 rows in the order they were drawn, n at most `count`.

    Source:
        Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007.

    Example:
        >>> looks = np.array([[0.0], [0.1], [9.0]])
        >>> spread_rows(np.array([1, 1, 1]), looks, 1, np.random.default_rng(0), taken=[0, 1]).tolist()
        [2]
    """
    weights = np.array(area, dtype=np.float64)
    looks = np.asarray(looks, dtype=np.float32)
    # No distance is known before the first row, so that one is drawn by area alone.
    distance = np.ones(len(weights))
    chosen: list[int] = []

    def keep_away(row: int, *, first: bool) -> None:
        apart = np.square(looks - looks[row]).sum(axis=1, dtype=np.float64)
        np.copyto(distance, apart if first else np.minimum(distance, apart))
        weights[row] = 0

    for place, row in enumerate(taken):
        keep_away(int(row), first=place == 0)
    for _ in range(min(count, int(np.count_nonzero(weights)))):
        chances = weights * distance
        if not chances.any():  # those left look exactly like others
            chances = weights
        chosen.append(int(rng.choice(len(chances), p=chances / chances.sum())))
        keep_away(chosen[-1], first=len(chosen) == 1 and not len(taken))
    return np.array(chosen, dtype=np.int64)
