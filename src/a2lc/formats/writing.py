"""What the writer of a format receives and returns, and the helpers that writers share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError
from a2lc.images.label_maps import write_ids
from a2lc.images.opening import open_image
from a2lc.io.files import write_bytes
from a2lc.records import ImageRecord

__all__ = ["Corrected", "Writer", "class_values", "require_eight_bits", "stored_bytes", "write_map"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Corrected:
    """An image with its corrected labels, as a format's writer gets it; tiles are put together again.

    Attributes:
        image_id: Its name: that of the image the tiles were cut from, where it was cut.
        file: Name of the image file below the folder of images, with its suffix; `.png` where there is no image.
        image: The image file; None for labels without an image, and for tiles of an image that is no file.
        values: (H, W) uint8 or uint16, values of label files: those of corrected pixels are of their classes, all others
            as the user's file has them.
        first: (H, W) the values as imported.
        labels: (H, W) class indices or the ignore index, corrected.
        provenance: (H, W) uint8, see `a2lc.export.corrected.PROVENANCE`.
        source: The copy of the user's label file; None where tiles were put together.
        records: The images of the project it is made of: one, or its tiles.
    """

    image_id: str
    file: str
    image: Path | None
    values: NDArray[Any]
    first: NDArray[Any]
    labels: NDArray[Any]
    provenance: NDArray[np.uint8]
    source: Path | None
    records: tuple[ImageRecord, ...]

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.values.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.values.shape[1])

    @property
    def changed(self) -> int:
        """Pixels whose value differs from the user's."""
        return int((self.values != self.first).sum())


class Writer(Protocol):
    """Writes a data set in one format. Made of the opened project and the new folder; both are there."""

    def add(self, corrected: Corrected) -> None:
        """Write an image, or keep what is needed of it: never its pixels, there may be a million."""
        ...

    def finish(self) -> ClassTable | None:
        """Write what is of the whole data set; the classes by the ids that its files hold, if those are not the project's."""
        ...


def stored_bytes(corrected: Corrected, values: NDArray[Any], modes: Iterable[str]) -> bytes | None:
    """Return the bytes of the user's own label file, if it holds these very values in one of these modes of Pillow's."""
    if corrected.source is None or not np.array_equal(values, corrected.first):
        return None
    with open_image(corrected.source, max_pixels=values.size) as image:
        mode = image.mode
    return corrected.source.read_bytes() if mode in modes else None


def write_map(path: Path, corrected: Corrected, values: NDArray[Any], modes: Iterable[str] = ("L",)) -> None:
    """Write a label map without a palette: the bytes of the user's file where it holds these values already.

    Args:
        path: Where to.
        corrected: The image.
        values: (H, W) uint8 or uint16.
        modes: Modes of Pillow's that the format takes.
    """
    data = stored_bytes(corrected, values, modes)
    if data is None:
        write_ids(path, values)
    else:
        write_bytes(path, data)


def class_values(labels: NDArray[Any], values: Iterable[int], void: int) -> NDArray[Any]:
    """(H, W) a value for each class index, another one for void (pure).

    Args:
        labels: (H, W) class indices; those at or beyond the number of classes are void.
        values: One for each class, 0..65535.
        void: That of void.

    Example:
        >>> class_values(np.array([[0, 1, 255]], dtype=np.uint8), [7, 300], 0)
        array([[  7, 300,   0]], dtype=uint16)
    """
    table = [*values, void]
    kind = np.uint16 if max(table) > 255 else np.uint8
    return np.asarray(np.array(table, dtype=kind)[np.minimum(labels, len(table) - 1)])


def require_eight_bits(classes: ClassTable, format: str) -> None:
    """Refuse classes whose values do not fit 8 bits.

    Raises:
        InputError: They do not.
    """
    if max(*classes.file_values, classes.ignore) > 255:
        raise InputError(
            f"{format} label maps hold values up to 255, but this project has higher ones. Set `format` to folder."
        )
