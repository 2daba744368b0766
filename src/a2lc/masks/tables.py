"""Masks of a project and their labels as tables: what a round reads instead of pixels (pure, but for two readers)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.classes.edits import ClassView
from a2lc.classes.sentinels import FIRST
from a2lc.errors import MissingFileError
from a2lc.io.files import atomic_path
from a2lc.ledger.replay import MaskState
from a2lc.masks.counting import most_frequent
from a2lc.statistics.keys import mask_keys

__all__ = ["MaskTable", "Table"]


Int = NDArray[np.int32]


class Table:
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
        table = pq.ParquetFile(path, memory_map=True).read()  # not read_table, which imports pandas if it is there
        # A column that an earlier version wrote and nobody reads any more is passed over.
        names = [field.name for field in fields(cls) if field.name in table.column_names]  # type: ignore[arg-type]
        # Not to_numpy, which imports pandas if it is there, nor flatten, which imports all compute functions.
        return cls(**{name: np.from_dlpack(table.column(name).combine_chunks().values) for name in names})


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskTable(Table):
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
        """Return the number of masks."""
        return len(self.mask_ids)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(M,) ascending mask keys."""
        return mask_keys(self.image, self.mask_ids)

    def seen_by(self, view: ClassView) -> MaskTable:
        """Translate the table to the classes of a view; labels of merged classes become one."""
        if view.plain:
            return self
        key = (self.pair_row.astype(np.int64) << 20) | (view.indices(self.pair_label).astype(np.int64) + 1)
        keys, place = np.unique(key, return_inverse=True)
        row, label = (keys >> 20).astype(np.int32), ((keys & 0xFFFFF) - 1).astype(np.int32)
        pixels = np.bincount(place, weights=self.pair_pixels, minlength=len(keys)).astype(np.int32)
        frequent = most_frequent(row, label, pixels)
        return replace(self, label=frequent, pair_row=row, pair_label=label, pair_pixels=pixels)

    def rows(self, image: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows of masks by image and id; each must be in the table."""
        return np.searchsorted(self.keys, mask_keys(image, mask_ids))

    def current(self, state: MaskState) -> Int:
        """Return the (M,) class each mask carries now, its most frequent label if nothing was corrected; VOID for none."""
        return np.where(state.classes == FIRST, self.label, state.classes)

    def changed_pixels(self, before: MaskState, after: MaskState) -> NDArray[np.int64]:
        """Return the (M,) pixels of each mask whose label differs between two states."""
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
        """Count pixels by current label, (K,), and those without a class, in all masks or those `keep` names."""
        keep = np.ones(len(self), dtype=bool) if keep is None else keep
        untouched = keep & (state.classes == FIRST)
        corrected = keep & ~untouched
        pairs = untouched[self.pair_row]
        labels = np.concatenate([self.pair_label[pairs], state.classes[corrected]])
        pixels = np.concatenate([self.pair_pixels[pairs], self.area[corrected]])
        counts = np.bincount(labels + 1, weights=pixels, minlength=num_classes + 1).astype(np.int64)
        return counts[1:], int(counts[0])
