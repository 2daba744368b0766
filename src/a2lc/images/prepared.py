"""Records of images that the project keeps a prepared copy of, such as tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Prepared", "Tile"]


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Where a tile lies in the image it was cut from, and the size of that image; in pixels."""

    of: str
    left: int
    top: int
    width: int
    height: int
    of_width: int
    of_height: int


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was done to an image.

    Attributes:
        source: The file or place it comes from.
        address: Where it can be fetched from again.
        how: What was done, in words.
        tile: Where it lies in the image it was cut from.
    """

    source: str
    address: str | None = None
    how: tuple[str, ...] = ()
    tile: Tile | None = None

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Prepared:
        """As `dataclasses.asdict` wrote it."""
        tile = row["tile"]
        return cls(
            source=row["source"],
            address=row["address"],
            how=tuple(row["how"]),
            tile=None if tile is None else Tile(**tile),
        )
