"""Where the features of masks are kept: one Parquet file per shard of images, in half precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.io.files import atomic_path

__all__ = ["FeatureStore"]

_SIGNATURE = b"a2lc_features_of"


class FeatureStore:
    """Features of all masks of a project.

    Args:
        folder: `tables/features` of a project.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"part-{shard:05d}.parquet"

    def has(self, shard: int, signature: str) -> bool:
        """Return whether a shard is there, made of what the signature says."""
        path = self.path(shard)
        if not path.is_file():
            return False
        try:
            metadata = pq.read_schema(path).metadata or {}
        except (pa.ArrowInvalid, OSError):
            return False  # damaged: it is made again
        return bool(metadata.get(_SIGNATURE, b"").decode() == signature)

    def write(self, shard: int, features: NDArray[np.float16], signature: str) -> None:
        """Write the (m, D) features of a shard's masks, whole or not at all."""
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        table = pa.table({"features": values}).replace_schema_metadata({_SIGNATURE: signature})
        with atomic_path(self.path(shard)) as temporary:
            # Features of neighbouring masks share no bytes: to look for repetitions would cost time and save nothing.
            pq.write_table(table, temporary, use_dictionary=False, compression="none")

    def read(self, shards: int) -> Iterator[NDArray[Any]]:
        """Yield the (m, D) features of each shard, in order."""
        for shard in range(shards):
            column = pq.ParquetFile(self.path(shard)).read().column("features").combine_chunks()
            yield np.asarray(np.from_dlpack(column.values)).reshape(len(column), column.type.list_size)
