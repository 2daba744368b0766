"""Where features of masks and of cells are kept: one Parquet file of each per shard of images, in half precision."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.errors import ImageFileError, InputError, MissingFileError
from a2lc.features.backbone import Backbone
from a2lc.features.cells import CellBasis, CellFeatures
from a2lc.features.choice import BUILT_IN
from a2lc.features.grids import Grid
from a2lc.io.files import atomic_path
from a2lc.records import ImageRecord

__all__ = ["CellStore", "FeatureStore"]

IMAGES_A_SHARD = 64
"""Images whose features are written together: what a killed command loses at most."""

CELL_LAYOUT = "float16 bytes"
"""How the values of cells are written; files of another layout are made anew."""

_SIGNATURE = b"a2lc_features_of"
_BACKBONE = b"a2lc_backbone"


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Say in one line that a file is damaged, should reading it fail."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as error:
        raise ImageFileError(
            f"{path} is damaged ({str(error).splitlines()[0]}). Delete it and run the command again: it is made anew."
        ) from None


def _facts(signature: str, backbone: Backbone | None) -> dict[bytes, str]:
    """Return what a file says of itself: what it was made of, and by which backbone with which weights."""
    made_by = {} if backbone is None else {"name": backbone.name, "sha256": backbone.digest}
    return {_SIGNATURE: signature, _BACKBONE: json.dumps(made_by)}


def _has(path: Path, signature: str) -> bool:
    """Return whether a file is there, made of what the signature says."""
    if not path.is_file():
        return False
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowInvalid, OSError):
        return False  # damaged: it is made again
    return bool(metadata.get(_SIGNATURE, b"").decode() == signature)


class FeatureStore:
    """Features of all masks of a project.

    Args:
        project: Folder of the project; the files lie in `tables/features`.
    """

    def __init__(self, project: Path) -> None:
        self.folder = project / "tables" / "features"

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"part-{shard:05d}.parquet"

    def has(self, shard: int, signature: str) -> bool:
        """Return whether a shard is there, made of what the signature says."""
        return _has(self.path(shard), signature)

    def made_by(self) -> str:
        """Return the identity of the backbone that the first shard was made by; "" if it is not there."""
        if not self.path(0).is_file():
            return ""
        try:
            metadata = pq.read_schema(self.path(0)).metadata or {}
            backbone = json.loads(metadata.get(_BACKBONE, b"{}"))
        except (pa.ArrowInvalid, OSError, ValueError):
            return ""  # damaged: it is made again
        # Files of versions before other backbones do not say.
        return BUILT_IN if backbone.get("name", BUILT_IN) == BUILT_IN else "{name} sha256:{sha256}".format(**backbone)

    def write(
        self, shard: int, features: NDArray[np.float16], signature: str, backbone: Backbone | None = None
    ) -> None:
        """Write the (m, D) features of a shard's masks, whole or not at all."""
        values = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        table = pa.table({"features": values}).replace_schema_metadata(_facts(signature, backbone))
        with atomic_path(self.path(shard)) as temporary:
            # Features of neighbouring masks share no bytes: to look for repetitions would cost time and save nothing.
            pq.write_table(table, temporary, use_dictionary=False, compression="none")

    def read(self, shards: int) -> Iterator[NDArray[Any]]:
        """Yield the (m, D) features of each shard, in order."""
        for shard in range(shards):
            with _whole(self.path(shard)):
                column = pq.ParquetFile(self.path(shard)).read().column("features").combine_chunks()
                found = np.asarray(np.from_dlpack(column.values)).reshape(len(column), column.type.list_size)
            yield found


class CellStore:
    """Cell features of all images of a project, those to validate on included, and their basis.

    Args:
        project: Folder of the project; the files lie in `tables/cells`.
    """

    def __init__(self, project: Path) -> None:
        self.folder = project / "tables" / "cells"
        self._project = project
        self._open: tuple[int, pq.ParquetFile] | None = None

    def path(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.folder / f"part-{shard:05d}.parquet"

    def has(self, shard: int, signature: str) -> bool:
        """Return whether a shard is there, made of what the signature says."""
        return _has(self.path(shard), signature)

    @property
    def _remedy(self) -> str:
        return f"Make them: a2lc features {self._project}"

    @property
    def basis(self) -> CellBasis:
        """The basis that the cells were reduced by; setting it writes the file.

        Raises:
            MissingFileError: There is none.
            ImageFileError: It is damaged.
        """
        path = self.folder / "basis.npz"
        if not path.is_file():
            raise MissingFileError(f"There are no cell features at {self.folder}. {self._remedy}")
        return CellBasis.load(path)

    @basis.setter
    def basis(self, basis: CellBasis) -> None:
        basis.save(self.folder / "basis.npz")

    def write(
        self,
        shard: int,
        images: list[ImageRecord],
        cells: list[CellFeatures],
        signature: str,
        backbone: Backbone | None = None,
    ) -> None:
        """Write the cells of a shard's images, whole or not at all, values as float16 bytes; one row group an image."""
        columns: dict[str, Any] = {
            "image_id": pa.array([image.image_id for image in images]),
            "height": pa.array([image.height for image in images], pa.int32()),
            "width": pa.array([image.width for image in images], pa.int32()),
        }
        for number in range(len(cells[0].levels)):
            grids = [features.levels[number] for features in cells]
            # As bytes: a list of a hundred thousand numbers takes Parquet ten times as long to read.
            data = [np.ascontiguousarray(grid.values, dtype="<f2").tobytes() for grid in grids]
            columns[f"values{number}"] = pa.array(data, pa.binary())
            columns[f"cells{number}"] = pa.array([list(grid.cells) for grid in grids], pa.list_(pa.int32()))
            columns[f"reach{number}"] = pa.array([list(grid.reach) for grid in grids], pa.list_(pa.float64()))
        table = pa.table(columns).replace_schema_metadata(_facts(signature, backbone))
        with atomic_path(self.path(shard)) as temporary:
            pq.write_table(
                table, temporary, row_group_size=1, use_dictionary=False, write_statistics=False, compression="none"
            )

    def read(self, image: ImageRecord) -> CellFeatures:
        """Read the cells of an image.

        Raises:
            MissingFileError: They were not made.
            InputError: They are of another image.
        """
        shard, row = divmod(image.index, IMAGES_A_SHARD)
        if self._open is None or self._open[0] != shard:
            path = self.path(shard)
            if not path.is_file():
                raise MissingFileError(
                    f"{path}, the cell features of image {image.image_id}, is missing. {self._remedy}"
                )
            with _whole(path):
                self._open = shard, pq.ParquetFile(path)
        file = self._open[1]
        if row >= file.num_row_groups:
            raise InputError(f"{self.path(shard)} has no cell features of image {image.image_id}. {self._remedy}")
        with _whole(self.path(shard)):
            table = file.read_row_group(row)
            found = {name: table.column(name)[0] for name in table.column_names}
        known = found["image_id"].as_py(), found["height"].as_py(), found["width"].as_py()
        if known != (image.image_id, image.height, image.width):
            raise InputError(f"{self.path(shard)} has cell features of other images. {self._remedy}")
        levels = []
        with _whole(self.path(shard)):
            for number in range((len(table.column_names) - 3) // 3):
                values = np.frombuffer(found[f"values{number}"].as_buffer(), dtype="<f2")
                values = values.reshape(-1, *found[f"cells{number}"].as_py())
                down, across = found[f"reach{number}"].as_py()
                levels.append(Grid(values=values, reach=(float(down), float(across))))
        return CellFeatures(levels=tuple(levels))
