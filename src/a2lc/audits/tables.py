"""Tables that a round of `gain` writes: appearance, frozen posterior, and audit sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import NO_ANSWER, UNKNOWN
from a2lc.masks.tables import Int, MaskTable, Table
from a2lc.statistics.appearance import Borders

__all__ = ["AppearanceTable", "AuditTable", "FrozenTable"]


@dataclass(frozen=True, eq=False, kw_only=True)
class AppearanceTable(Table):
    """How M masks look and what lies beside them, see `a2lc.appearance`.

    Attributes:
        mask_ids: (M,) ids, so that a table of other masks is seen.
        area: (M,) pixels, likewise.
        looks: (M * A,) appearance, row by row.
        first: (E,) rows.
        second: (E,) rows.
        length: (E,) lengths of their borders.
        vertical: (E,) 1 where the first lies above the second.
    """

    mask_ids: Int
    area: Int
    looks: NDArray[np.float32]
    first: Int
    second: Int
    length: NDArray[np.float32]
    vertical: NDArray[np.uint8]

    @classmethod
    def of(cls, masks: MaskTable, looks: NDArray[Any], borders: Borders) -> AppearanceTable:
        """Make a table of arrays in their own shapes."""
        return cls(
            mask_ids=masks.mask_ids,
            area=masks.area,
            looks=looks.astype(np.float32).ravel(),
            first=borders.first,
            second=borders.second,
            length=borders.length,
            vertical=borders.vertical.astype(np.uint8),
        )

    def fits(self, masks: MaskTable) -> bool:
        """Return whether the table describes these masks."""
        return np.array_equal(self.mask_ids, masks.mask_ids) and np.array_equal(self.area, masks.area)

    def appearance(self) -> tuple[NDArray[np.float32], Borders]:
        """Return the (M, A) appearance and the borders."""
        near = Borders(first=self.first, second=self.second, length=self.length, vertical=self.vertical.astype(bool))
        return self.looks.reshape(len(self.mask_ids), -1), near


@dataclass(frozen=True, eq=False, kw_only=True)
class FrozenTable(Table):
    """What a posterior said when it was frozen, and which of its proposals were drawn to audit them.

    Attributes:
        labels: (M,) labels it would give, VOID for none.
        posterior: (M * (K + 1),) probabilities, row by row.
        drawn: (n,) rows drawn, in their order where there is a tested set; one may come more than once where there is none.
        probability: Inclusion probability of each row drawn; where draws are independent, of each different one, ascending.
        known: (M,) what was known of the true class then: class, VOID, UNKNOWN, or NO_ANSWER.
        tested: Rows of the proposals that are tested as one set, see `a2lc.audits.sequential_certificate`; None where draws
            are independent, as before version 0.2.0, or where a precision is asked for.
        expected: (1,) ratio of effect to stake that was expected of the tested set.
        surely: (1,) how many of the drawn, from the first, are audited whatever the answers are.
    """

    labels: Int
    posterior: NDArray[np.float32]
    drawn: NDArray[np.int64]
    probability: NDArray[np.float64]
    known: Int
    tested: NDArray[np.int64] | None = None
    expected: NDArray[np.float64] | None = None
    surely: NDArray[np.int64] | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote, in this version or in 0.1.0.

        Raises:
            MissingFileError: It is not there.
        """
        table = super().load(path)
        # Version 0.1.0 wrote -2 and -3, which are other sentinels elsewhere. Neither is written any more.
        known = table.known.copy()
        known[table.known == -2] = UNKNOWN
        known[table.known == -3] = NO_ANSWER
        return replace(table, known=known)

    def posteriors(self, num_classes: int) -> NDArray[np.float32]:
        """Return the probabilities as (M, K + 1)."""
        return self.posterior.reshape(-1, num_classes + 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class AuditTable(Table):
    """Labels as audits allowed them, and the masks drawn to measure them.

    Attributes:
        labels: (M,) as they were when the masks were drawn, VOID for none.
        accepted: Rows changed without being looked at.
        drawn: (n,) rows.
        probability: (n,) their inclusion probabilities.
        design: (M,) those of all masks.
        promise: (2,) the precision asked for, 0 for a gain, and the confidence.
        proven: Rows of `accepted` that a certificate covers; None, as in version 0.1.0, if it covers them all.
        audits: (1,) how many masks were audited before; None, as before version 0.2.0, for all that were drawn.
    """

    labels: Int
    accepted: NDArray[np.int64]
    drawn: NDArray[np.int64]
    probability: NDArray[np.float64]
    design: NDArray[np.float64] | None = None
    promise: NDArray[np.float64] | None = None
    proven: NDArray[np.int64] | None = None
    audits: NDArray[np.int64] | None = None

    @property
    def certified(self) -> NDArray[np.int64]:
        """Rows that a certificate covers."""
        return self.accepted if self.proven is None else self.proven
