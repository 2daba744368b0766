"""What a session reads and writes: the seam that lets it run on a project, on a cluster, or in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.tables import AuditTable, FrozenTable
from a2lc.ledger.replay import MaskState
from a2lc.masks.tables import MaskTable
from a2lc.records import Answer, Query
from a2lc.statistics.appearance import Borders
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["RoundSource"]


class RoundSource(Protocol):
    """The data of one round, as a session needs it.

    `a2lc.rounds.source.ProjectSource` implements it over a project folder; `benchmarks/promises.py` in memory.
    """

    @property
    def masks(self) -> MaskTable:
        """All M masks, with their initial labels."""
        ...

    @property
    def num_classes(self) -> int:
        """K."""
        ...

    @property
    def seed(self) -> int:
        """Seed of the project, the same in all rounds."""
        ...

    def state(self) -> MaskState:
        """Return what each mask carries now."""
        ...

    def queries(self, round_index: int) -> list[Query]:
        """Return the recorded queries of a round, in order."""
        ...

    def standing_answers(self) -> list[tuple[Query, Answer]]:
        """Return all queries with the answers that stand, in recorded order, without rounds that were undone."""
        ...

    def answered(self, round_index: int) -> dict[int, float]:
        """Return the queries of a round that have an answer, and what it cost, in answers to a query of one mask at most."""
        ...

    def asked_masks(self, *, closed: bool = False) -> NDArray[np.uint64]:
        """Return the keys of masks with a query; with `closed`, without those that may be asked about again."""
        ...

    def reopened(self) -> Collection[int]:
        """Return the ids of queries whose answered class was split since."""
        ...

    def statistics(self, columns: frozenset[str]) -> Iterator[tuple[MaskStats, dict[str, NDArray[Any]]]]:
        """Yield the round's statistics shard by shard, with the extra columns that were asked for."""
        ...

    def appearance(self) -> tuple[NDArray[np.float32], Borders]:
        """Return (M, A) appearance of all masks, and their common borders."""
        ...

    def embedding(self) -> NDArray[np.float32] | None:
        """Return (M, D) features of the user's own backbone, or None."""
        ...

    def load_frozen(self, round_index: int) -> FrozenTable | None:
        """Read what a round froze, in the classes there are now; None before it froze anything."""
        ...

    def save_frozen(self, round_index: int, table: FrozenTable) -> None:
        """Write what a round froze, whole or not at all."""
        ...

    def load_measured(self, round_index: int) -> AuditTable | None:
        """Read the labels a round measured, in the classes there are now; None before it measured anything."""
        ...

    def save_measured(self, round_index: int, table: AuditTable) -> None:
        """Write the labels a round measures, whole or not at all."""
        ...
