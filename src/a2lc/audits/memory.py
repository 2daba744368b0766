"""A session's data in memory: for simulations, notebooks and tests, without a project folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.cost import ClickCost
from a2lc.audits.tables import AuditTable, FrozenTable
from a2lc.classes.sentinels import FIRST, VOID
from a2lc.ledger.replay import SOURCES, MaskState
from a2lc.masks.tables import MaskTable
from a2lc.records import Answer, AnswerKind, Changes, Query, numbered
from a2lc.statistics.appearance import Borders
from a2lc.statistics.keys import mask_keys
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["MemorySource"]


class MemorySource:
    """Implements `a2lc.audits.source.RoundSource` over arrays.

    Args:
        masks: All M masks, with their initial labels.
        stats: Their statistics, in the same order.
        appearance: (M, A) float32 appearance, see `a2lc.statistics.appearance.mask_appearance`.
        near: Their common borders.
        num_classes: K.
        seed: Of the session's random draws that all rounds share.
        extra: (M, D) columns by name, such as `embedding`.
    """

    def __init__(
        self,
        masks: MaskTable,
        stats: MaskStats,
        appearance: NDArray[np.float32],
        near: Borders,
        *,
        num_classes: int,
        seed: int = 0,
        extra: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self.masks = masks
        self.num_classes = num_classes
        self.seed = seed
        self._stats = stats
        self._extra = dict(extra or {})
        self._appearance = appearance, near
        self._queries: list[Query] = []
        self._answers: dict[int, Answer] = {}
        self._frozen: dict[int, FrozenTable] = {}
        self._measured: dict[int, AuditTable] = {}
        self._state = MaskState(
            classes=np.full(len(masks), FIRST, dtype=np.int32),
            source=np.zeros(len(masks), dtype=np.int8),
            winner=np.full(len(masks), -1, dtype=np.int64),
        )

    def ask(self, queries: Sequence[Query]) -> list[Query]:
        """Record queries, and return them with their ids."""
        recorded = numbered(queries, len(self._queries) + 1)
        self._queries += recorded
        return recorded

    def answer(self, query: Query, answer: Answer) -> None:
        """Record an answer to a query of one mask, and what follows from it for the mask's class."""
        self._answers[query.query_id] = answer
        row = self.masks.rows(np.array([query.image]), np.array(query.mask_ids[:1]))
        corrected = self._state.classes[row] != FIRST
        if answer.kind == AnswerKind.CORRECT or (answer.kind == AnswerKind.CONFIRM and corrected.any()):
            self._set(row, answer.classes[0], "manual")
        elif answer.kind == AnswerKind.VOID:
            self._set(row, VOID, "manual")

    def change(self, changes: Changes) -> None:
        """Record automatic corrections."""
        self._set(changes.rows, changes.classes, "automatic")

    def _set(self, rows: NDArray[np.int64], classes: Any, source: str) -> None:
        self._state.classes[rows] = classes
        self._state.source[rows] = SOURCES.index(source)

    # ---- what a session reads and writes ------------------------------------------------------------------------

    def state(self) -> MaskState:
        """Return what each mask carries now."""
        return self._state

    def queries(self, round_index: int) -> list[Query]:
        """Return the recorded queries of a round, in order."""
        return [query for query in self._queries if query.round == round_index]

    def standing_answers(self) -> list[tuple[Query, Answer]]:
        """Return all answered queries with their answers, in the order they were asked."""
        return [(query, self._answers[query.query_id]) for query in self._queries if query.query_id in self._answers]

    def answered(self, round_index: int) -> dict[int, float]:
        """Return the queries of a round that have an answer, and its clicks."""
        cost, answers = ClickCost(), self._answers
        return {
            query.query_id: cost.of_reply(query, answers[query.query_id])
            for query in self.queries(round_index)
            if query.query_id in answers
        }

    def asked_masks(self, *, closed: bool = False) -> NDArray[np.uint64]:
        """Return the keys of masks with a query."""
        asked = self._queries
        images = np.array([query.image for query in asked], dtype=np.int64)
        return np.unique(mask_keys(images, np.array([query.mask_ids[0] for query in asked], dtype=np.int64)))

    def reopened(self) -> Collection[int]:
        """Return nothing: classes are not edited in memory."""
        return ()

    def statistics(self, columns: frozenset[str]) -> Iterator[tuple[MaskStats, dict[str, NDArray[Any]]]]:
        """Yield the statistics of all masks, with the extra columns that were asked for."""
        yield self._stats, {name: values for name, values in self._extra.items() if name in columns}

    def appearance(self) -> tuple[NDArray[np.float32], Borders]:
        """Return (M, A) appearance of all masks, and their common borders."""
        return self._appearance

    def embedding(self) -> NDArray[np.float32] | None:
        """Return None: embeddings are given as an extra column."""
        return None

    def load_frozen(self, round_index: int) -> FrozenTable | None:
        """Return what a round froze."""
        return self._frozen.get(round_index)

    def save_frozen(self, round_index: int, table: FrozenTable) -> None:
        """Keep what a round froze."""
        self._frozen[round_index] = table

    def load_measured(self, round_index: int) -> AuditTable | None:
        """Return the labels a round measured."""
        return self._measured.get(round_index)

    def save_measured(self, round_index: int, table: AuditTable) -> None:
        """Keep the labels a round measures."""
        self._measured[round_index] = table
