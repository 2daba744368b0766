"""Choose answered masks to ask about again: what two answers of one mask say of the people who gave them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.knowledge import Known
from a2lc.audits.sampling import draw, inclusion_probabilities
from a2lc.audits.source import RoundSource
from a2lc.classes.sentinels import VOID
from a2lc.records import Reason

__all__ = ["choose_repeats"]


def choose_repeats(
    source: RoundSource, round_index: int, known: Known, posterior: NDArray[np.float32], count: int, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose answered masks to repeat: disputed ones, then a draw by how much the posterior doubts the answer.

    Args:
        source: The data.
        round_index: The round.
        known: What the answers say.
        posterior: (M, K + 1) probabilities.
        count: How many at most.
        seed: Of the round.

    Returns:
        Rows, and their inclusion probabilities.
    """
    pending = _asked_again(source, round_index)
    disputed = known.disputed[~np.isin(known.disputed, pending)][:count]
    open_rows = known.rows[~np.isin(known.rows, known.checked) & ~np.isin(known.rows, pending)]
    count = min(count - len(disputed), len(open_rows))
    if count <= 0:
        return disputed, np.ones(len(disputed))
    said = known.truth[open_rows]
    said = np.where(said == VOID, posterior.shape[1] - 1, said)
    doubt = 0.05 + 1 - posterior[open_rows, said].astype(np.float64)
    chance = inclusion_probabilities(doubt, count)
    rng = np.random.default_rng([seed, 4, len(known.rows), *([len(pending)] if len(pending) else [])])
    taken = draw(chance, rng)
    rows = np.concatenate([disputed, open_rows[taken]])
    return rows, np.concatenate([np.ones(len(disputed)), chance[taken]])


def _asked_again(source: RoundSource, round_index: int) -> NDArray[np.int64]:
    """Return the rows of repeats in a round that wait for their answer."""
    answered = source.answered(round_index)
    again = [query for query in source.queries(round_index) if query.reason == Reason.GOLD]
    again = [query for query in again if query.query_id not in answered]
    image = np.array([query.image for query in again], dtype=np.int64)
    return source.masks.rows(image, np.array([query.mask_ids[0] for query in again], dtype=np.int64))
