"""Where an image or a label map comes from when it is not a plain file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import A2LCError, InputError

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

    def values(self) -> NDArray[Any]:
        """Draw the map, (H, W) uint8 or uint16, and see that it is one.

        Raises:
            InputError: It cannot be drawn, or what is drawn is no map of ids.
        """
        try:
            found = np.asarray(self.draw())
        except (A2LCError, OSError, MemoryError):
            raise
        except Exception as error:  # of a reader by somebody else: one file must not end the check of all
            raise InputError(f"{self.where}: it cannot be drawn: {type(error).__name__}: {error}.") from error
        ids = found.ndim == 2 and found.dtype.kind in "ui"
        if ids and found.dtype not in (np.uint8, np.uint16):
            ids = not found.size or (found.min() >= 0 and found.max() < 1 << 16)
            found = found.astype(np.uint16) if ids else found
        if not ids:
            raise InputError(
                f"{self.where}: its reader drew {found.dtype} {found.shape}; expected (H, W) whole numbers of 16 bits."
            )
        return found


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
