"""Where the statistics of a round are kept: one Parquet file per shard of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.io.files import atomic_path
from a2lc.statistics.keys import mask_keys
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["ParquetStats", "StatsPart", "StatsStore", "find_masks", "joined"]

StatsPart = tuple[MaskStats, dict[str, NDArray[Any]]]
"""Statistics of the masks of a shard, and the columns a method added, (M,) or (M, D), by name."""

_SIGNATURE = b"a2lc_columns_by"


class StatsStore(Protocol):
    """Reads the statistics of one round."""

    def read(self, columns: frozenset[str]) -> Iterator[StatsPart]:
        """Yield the shards in order, with the columns that were asked for.

        Args:
            columns: Fields of `MaskStats` and names of added columns. An added column that a shard lacks is left out.
        """
        ...


class ParquetStats:
    """Statistics in a folder of Parquet files.

    Args:
        folder: `rounds/NN/stats` of a project.
        extra_columns: Names of columns that a method adds.
    """

    def __init__(self, folder: Path, extra_columns: Sequence[str] = ()) -> None:
        self.folder = folder
        self.extra_columns = tuple(extra_columns)

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"part-{shard:05d}.parquet"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return not any(self.folder.glob("part-*.parquet"))

    def has(self, shard: int, signature: str) -> bool:
        """Return whether a shard is there, its added columns made by this signature."""
        path = self.path(shard)
        if not path.is_file():
            return False
        metadata: Mapping[bytes, bytes] = pq.read_schema(path).metadata or {}
        return metadata.get(_SIGNATURE, b"").decode() == signature

    def write(
        self, shard: int, parts: Sequence[MaskStats], extra: Sequence[Mapping[str, NDArray[Any]]], signature: str
    ) -> None:
        """Write the statistics of a shard's images, whole or not at all.

        Args:
            shard: Its position.
            parts: One per image.
            extra: Added columns, one mapping per image, all with the same names.
            signature: What the added columns depend on.
        """
        table = MaskStats.concat(list(parts)).to_table()
        for name in extra[0]:
            table = table.append_column(name, _column(np.concatenate([columns[name] for columns in extra])))
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SIGNATURE: signature})
        with atomic_path(self.path(shard)) as temporary:
            pq.write_table(table, temporary)

    def read(self, columns: frozenset[str]) -> Iterator[StatsPart]:
        """Yield the shards in order, with the columns that were asked for."""
        for path in sorted(self.folder.glob("part-*.parquet")):
            # One thread: decoding so few columns is over before a second one has begun.
            file = pq.ParquetFile(path)
            # A network that shows no features leaves their column out.
            table = file.read(columns=sorted(columns & set(file.schema_arrow.names)), use_threads=False)
            names = [name for name in self.extra_columns if name in table.column_names]
            added = {name: _values(table.column(name)) for name in names}
            yield MaskStats.from_table(table), added


def find_masks(
    store: StatsStore, images: NDArray[Any], mask_ids: NDArray[Any], columns: frozenset[str]
) -> Iterator[tuple[NDArray[np.int64], MaskStats]]:
    """Find the statistics of some masks, shard by shard.

    Args:
        store: The statistics.
        images: (n,) positions of images.
        mask_ids: (n,) mask ids in them; no mask comes twice.
        columns: Fields to read beside `image` and `mask_ids`.

    Yields:
        (m,) positions among the n masks, and the statistics of those m.
    """
    keys = mask_keys(images, mask_ids)
    order = np.argsort(keys)
    ordered = keys[order]
    for stats, _ in store.read(columns | {"image", "mask_ids"}):
        here = mask_keys(stats.image, stats.mask_ids)
        at = np.searchsorted(ordered, here)
        wanted = (at < len(keys)) & (ordered[np.minimum(at, len(keys) - 1)] == here) if len(keys) else at < 0
        if wanted.any():
            yield order[at[wanted]], stats.take(wanted)


def joined(parts: Iterator[StatsPart]) -> Iterator[StatsPart]:
    """Yield all parts as one."""
    stats, added = zip(*parts, strict=True)
    yield MaskStats.concat(list(stats)), {name: np.concatenate([a[name] for a in added]) for name in added[0]}


def _column(values: NDArray[Any]) -> pa.Array:
    """Make a column of (M,) or (M, D) values."""
    return (
        pa.array(values)
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    )


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    """Invert `_column`."""
    whole = column.combine_chunks()
    if not pa.types.is_fixed_size_list(whole.type):
        return np.asarray(whole.to_numpy(zero_copy_only=False))
    return np.asarray(whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size))
