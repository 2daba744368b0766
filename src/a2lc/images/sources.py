"""Where an image or a label map comes from when it is not a plain file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

__all__ = ["DrawnMap", "MapSource", "PackedImage"]


@dataclass(frozen=True, kw_only=True)
class DrawnMap:
    """A label map that is no file of its own: drawn from what an annotation file says of one image.

    Attributes:
        where: What messages call it: the file, and the image's name in it.
        draw: Gives (H, W) values of label files, uint8 or uint16, the same each time, from any thread. Raises an
            `InputError` that begins with `where` if it cannot.
        stored: Gives the bytes of a PNG that holds these very values, where there is one: the project keeps those bytes.
    """

    where: str
    draw: Callable[[], NDArray[Any]]
    stored: Callable[[], bytes] | None = None

    def __str__(self) -> str:
        """Return what messages call it."""
        return self.where


MapSource = Path | DrawnMap
"""Where a label map comes from: a file of ids, or annotations to draw."""


@dataclass(frozen=True, kw_only=True)
class PackedImage:
    """An image that lies in an archive, a table, or elsewhere: it is put into the project's own `images/`.

    Attributes:
        where: What messages call it.
        suffix: Of the file it becomes, such as `.jpg`.
        read: Gives the bytes of the image file, the same each time, from any thread.
        address: Where it can be fetched from again, if it can.
    """

    where: str
    suffix: str
    read: Callable[[], bytes]
    address: str | None = None

    def __str__(self) -> str:
        """Return what messages call it."""
        return self.where
