"""Masks of a project and their labels as tables: what a round reads instead of pixels (pure, but for two readers)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.appearance import Borders
from a2lc.class_edits import ClassView
from a2lc.errors import MissingFileError
from a2lc.files import atomic_path
from a2lc.ledger.replay import FIRST, KEEP, VOID, MaskState, mask_keys
from a2lc.metrics import ConfusionCounts

__all__ = ["AppearanceTable", "AuditTable", "FrozenTable", "MaskTable", "TruthTable", "joint_counts", "most_frequent"]

Int = NDArray[np.int32]

_BLOCK = 1 << 22  # pixels counted at a time


class _Table:
    """Columns written to and read from Parquet by the names of the fields."""

    def save(self, path: Path) -> None:
        """Write as Parquet, whole or not at all."""
        # One list a column: columns of different lengths live in one file.
        columns = {
            field.name: pa.ListArray.from_arrays(
                pa.array([0, len(getattr(self, field.name))], pa.int32()), pa.array(getattr(self, field.name))
            )
            for field in fields(self)  # type: ignore[arg-type]
            if getattr(self, field.name) is not None
        }
        with atomic_path(path) as temporary:
            pq.write_table(pa.table(columns), temporary)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MissingFileError: It is not there.
        """
        if not path.is_file():
            raise MissingFileError(
                f"{path} is missing: the project folder is damaged. Run a2lc init again in a new folder."
            )
        table = pq.read_table(path, memory_map=True)
        # A column that an earlier version wrote and nobody reads any more is passed over.
        names = [field.name for field in fields(cls) if field.name in table.column_names]  # type: ignore[arg-type]
        return cls(**{name: table.column(name).combine_chunks().flatten().to_numpy() for name in names})


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskTable(_Table):
    """All M masks of a project, ordered by image and mask id, and the labels found in each at import.

    Attributes:
        image: (M,) position of the image.
        mask_ids: (M,) ids in the mask map.
        area: (M,) pixels.
        label: (M,) most frequent first label, VOID where it is the ignore value.
        pair_row: (P,) row of a mask, for each pair of a mask and a first label in it.
        pair_label: (P,) that label, VOID for the ignore value.
        pair_pixels: (P,) its pixels.
    """

    image: Int
    mask_ids: Int
    area: Int
    label: Int
    pair_row: Int
    pair_label: Int
    pair_pixels: Int

    def __len__(self) -> int:
        """Number of masks."""
        return len(self.mask_ids)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(M,) ascending mask keys."""
        return mask_keys(self.image, self.mask_ids)

    def seen_by(self, view: ClassView) -> MaskTable:
        """The same masks with labels as a view counts classes: those of classes that were merged are one label."""
        if view.plain:
            return self
        key = (self.pair_row.astype(np.int64) << 20) | (view.indices(self.pair_label).astype(np.int64) + 1)
        keys, place = np.unique(key, return_inverse=True)
        row, label = (keys >> 20).astype(np.int32), ((keys & 0xFFFFF) - 1).astype(np.int32)
        pixels = np.bincount(place, weights=self.pair_pixels, minlength=len(keys)).astype(np.int32)
        frequent = most_frequent(row, label, pixels)
        return replace(self, label=frequent, pair_row=row, pair_label=label, pair_pixels=pixels)

    def rows(self, image: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.int64]:
        """Rows of masks by image and id; each must be in the table."""
        return np.searchsorted(self.keys, mask_keys(image, mask_ids))

    def current(self, state: MaskState) -> Int:
        """(M,) class each mask carries now, its most frequent label where nothing was corrected; VOID for none."""
        return np.where(state.classes == FIRST, self.label, state.classes)

    def changed_pixels(self, before: MaskState, after: MaskState) -> NDArray[np.int64]:
        """(M,) pixels of each mask whose label differs between two states."""
        old, new = before.classes, after.classes
        # Where one of the two is the first labels, those may be several: their pairs say which pixels agree.
        one_first = (old == FIRST) != (new == FIRST)
        given = np.where(old == FIRST, new, old)
        agree = self.pair_pixels * (self.pair_label == given[self.pair_row])
        kept = np.bincount(self.pair_row, weights=agree, minlength=len(self)).astype(np.int64)
        return np.where(one_first, self.area - kept, np.where(old != new, self.area, 0)).astype(np.int64)

    def pixels_by_class(
        self, state: MaskState, num_classes: int, keep: NDArray[Any] | None = None
    ) -> tuple[NDArray[np.int64], int]:
        """Pixels by current label, (K,), and those without a class, in all masks or those `keep` names."""
        keep = np.ones(len(self), dtype=bool) if keep is None else keep
        untouched = keep & (state.classes == FIRST)
        corrected = keep & ~untouched
        pairs = untouched[self.pair_row]
        labels = np.concatenate([self.pair_label[pairs], state.classes[corrected]])
        pixels = np.concatenate([self.pair_pixels[pairs], self.area[corrected]])
        counts = np.bincount(labels + 1, weights=pixels, minlength=num_classes + 1).astype(np.int64)
        return counts[1:], int(counts[0])


@dataclass(frozen=True, eq=False, kw_only=True)
class TruthTable(_Table):
    """Ground truth joined with masks and first labels: what the simulated annotator and the metrics hold.

    No method is ever given one.

    Attributes:
        row: (T,) row of the mask, -1 for pixels outside masks.
        label: (T,) first label, VOID for the ignore value.
        truth: (T,) true class, VOID for the ignore value.
        pixels: (T,) pixels of this combination.
        layer: (T,) class that a layer of labels below the mask gives, VOID, or KEEP; None without a layer.
    """

    row: Int
    label: Int
    truth: Int
    pixels: Int
    layer: Int | None = None

    def seen_by(self, view: ClassView) -> TruthTable:
        """The same with classes as a view counts them."""
        return self._translated(view.indices)

    def coded(self, view: ClassView) -> TruthTable:
        """The same with the codes of classes, as they are kept."""
        return self._translated(view.coded)

    def _translated(self, translate: Callable[[NDArray[Any]], NDArray[Any]]) -> TruthTable:
        layer = None if self.layer is None else translate(self.layer)
        return replace(self, label=translate(self.label), truth=translate(self.truth), layer=layer)

    def confusion(self, state: MaskState, num_classes: int) -> ConfusionCounts:
        """Confusion of the corrected labels against ground truth, for any state of the ledger."""
        counts = ConfusionCounts(num_classes, VOID)
        inside = self.row >= 0
        labels = self.label.copy()
        now = state.classes[self.row[inside]]
        labels[inside] = np.where(now == FIRST, labels[inside], now)
        if self.layer is not None:
            said = self.layer != KEEP
            if state.newer is not None:
                said[inside] &= ~state.newer[self.row[inside]]
            labels = np.where(said, self.layer, labels)
        counts.add(labels, self.truth, self.pixels)
        return counts

    def masks(self, state: MaskState, rows: NDArray[Any], num_classes: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Pixels of masks that agree with ground truth now, (n,), and pixels by true class, (n, K + 1), void last."""
        place = np.full(len(state.classes) + 1, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        place[-1] = -1  # pixels outside masks have row -1
        position = place[self.row]
        some = position >= 0
        position, truth, pixels = position[some], self.truth[some], self.pixels[some]
        now = state.classes[self.row[some]]
        label = np.where(now == FIRST, self.label[some], now)
        # Ground truth without a class counts as a mismatch, as published.
        right = np.bincount(position, weights=pixels * ((label == truth) & (truth != VOID)), minlength=len(rows))
        column = np.where(truth == VOID, num_classes, truth)
        by_class = np.zeros((len(rows), num_classes + 1), dtype=np.int64)
        np.add.at(by_class, (position, column), pixels)
        return right.astype(np.int64), by_class


@dataclass(frozen=True, eq=False, kw_only=True)
class AppearanceTable(_Table):
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
        """From arrays of their own shapes."""
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
        """Whether it is of these masks."""
        return np.array_equal(self.mask_ids, masks.mask_ids) and np.array_equal(self.area, masks.area)

    def appearance(self) -> tuple[NDArray[np.float32], Borders]:
        """(M, A) appearance, and the borders."""
        near = Borders(first=self.first, second=self.second, length=self.length, vertical=self.vertical.astype(bool))
        return self.looks.reshape(len(self.mask_ids), -1), near


@dataclass(frozen=True, eq=False, kw_only=True)
class FrozenTable(_Table):
    """What a posterior said when it was frozen, and which of its proposals were drawn to audit them.

    Attributes:
        labels: (M,) labels it would give, VOID for none.
        posterior: (M * (K + 1),) probabilities, row by row.
        drawn: (n,) rows drawn; one may come more than once where draws are independent.
        probability: Inclusion probability of each different row drawn, ascending by row.
        known: (M,) class, VOID, -2 for a mask not asked about, or -3 for one asked about and given no class, as it was then.
    """

    labels: Int
    posterior: NDArray[np.float32]
    drawn: NDArray[np.int64]
    probability: NDArray[np.float64]
    known: Int

    def posteriors(self, num_classes: int) -> NDArray[np.float32]:
        """(M, K + 1)."""
        return self.posterior.reshape(-1, num_classes + 1)


@dataclass(frozen=True, eq=False, kw_only=True)
class AuditTable(_Table):
    """Labels as audits allowed them, and the masks drawn to measure them.

    Attributes:
        labels: (M,) as they were when the masks were drawn, VOID for none.
        accepted: Rows changed without being looked at.
        drawn: (n,) rows.
        probability: (n,) their inclusion probabilities.
        design: (M,) those of all masks.
        promise: (2,) the precision asked for, 0 for a gain, and the confidence.
    """

    labels: Int
    accepted: NDArray[np.int64]
    drawn: NDArray[np.int64]
    probability: NDArray[np.float64]
    design: NDArray[np.float64] | None = None
    promise: NDArray[np.float64] | None = None


def most_frequent(row: NDArray[Any], label: NDArray[Any], pixels: NDArray[Any]) -> Int:
    """The most frequent label of each row; among equals the smallest class wins, and void against none.

    Args:
        row: (P,) 0 .. M - 1, ascending, each of them at least once.
        label: (P,) labels, VOID for none; no two pairs of row and label are alike.
        pixels: (P,) their pixels.

    Returns:
        (M,) int32.
    """
    # The last of each row in the order of pixels; void stands for the largest value in files.
    rank = np.where(label == VOID, np.iinfo(np.int32).max, label).astype(np.int64)
    order = np.lexsort((-rank, pixels, row))
    last = np.flatnonzero(np.diff(row[order], append=-1) != 0)
    return label[order][last].astype(np.int32)


def joint_counts(*maps: NDArray[Any], sizes: tuple[int, ...]) -> tuple[NDArray[np.int64], ...]:
    """Combinations of values that occur in maps of one shape, and their pixels.

    Args:
        maps: Integer arrays of one shape; those of map i in [0, sizes[i]).
        sizes: How many values each map may have.

    Returns:
        A column of values for each map and, last, the pixels, ordered by the first map, then the second, and so on.
    """
    pixels = maps[0].size
    total = int(np.prod([float(size) for size in sizes]))
    dense = np.zeros(total, dtype=np.int64) if total <= min(4 * pixels + 1024, _BLOCK) else None
    keys: list[NDArray[np.int64]] = []
    numbers: list[NDArray[np.int64]] = []
    flat = [values.ravel() for values in maps]
    # A block at a time: keys of all pixels of a large image would take half a gigabyte.
    for start in range(0, pixels, _BLOCK):
        key = np.zeros(min(_BLOCK, pixels - start), dtype=np.int64)
        for values, size in zip(flat, sizes, strict=True):
            key *= size
            key += values[start : start + _BLOCK]
        if dense is not None:
            dense += np.bincount(key, minlength=total)
        else:
            found, number = np.unique(key, return_counts=True)
            keys.append(found)
            numbers.append(number)
    if dense is not None:
        found = np.flatnonzero(dense)
        counts = dense[found]
    elif len(keys) == 1:
        found, counts = keys[0], numbers[0]
    else:
        found, place = np.unique(np.concatenate(keys or [np.empty(0, np.int64)]), return_inverse=True)
        weights = np.concatenate(numbers or [np.empty(0, np.int64)])
        counts = np.bincount(place, weights=weights, minlength=len(found))
    columns = []
    for size in reversed(sizes):
        columns.append(found % size)
        found = found // size
    return (*reversed(columns), counts.astype(np.int64))
