"""Cell features: what the head learns from, 0.3 MB for an image of 360 x 480 pixels and 1.7 MB at most.

The grids of a backbone are reduced to principal components, those of each resolution by themselves, so that what is kept
is small and of one scale. Components are found once, on some images drawn at random, and are the same for all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ImageFileError
from a2lc.features.grids import Grid
from a2lc.io.files import atomic_path

__all__ = ["COARSE_COMPONENTS", "FINE_COMPONENTS", "CellBasis", "CellFeatures"]

FINE_COMPONENTS = 24
"""Components kept of each resolution but the coarsest."""

COARSE_COMPONENTS = 104
"""Components kept of the coarsest resolution."""

_LEAST_DEVIATION = 0.05
"""Components of a smaller deviation, relative to the first, are not blown up to 1: they are mostly noise."""

_CELLS_AN_IMAGE = 1024
"""Cells of an image at most that the components are found on."""

_LIMIT = 16.0
"""Largest magnitude of a component."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class CellFeatures:
    """Components of one image, finest resolution first.

    Attributes:
        levels: A grid for each resolution, its values float16.
    """

    levels: tuple[Grid, ...]

    @property
    def finest(self) -> Grid:
        """The grid whose cells are classified."""
        return self.levels[0]

    def matrix(self) -> FloatArray:
        """Return (h * w, D + 4) float32 inputs of the head for the finest cells, row by row.

        The components of all resolutions, interpolated, and where the cell lies: y, x, y² and x², from -1 to 1.
        """
        height, width = self.finest.cells
        maps = [level.on_cells(self.finest) for level in self.levels[1:]]
        parts = [np.asarray(self.finest.values, dtype=np.float32), *(level.upsample(level.values) for level in maps)]
        rows, cols = np.divmod(np.arange(height * width), width)
        stacked = np.concatenate([part.reshape(len(part), -1) for part in parts] + [self._place(rows, cols)])
        return np.ascontiguousarray(stacked.T)

    def inputs(self, cells: NDArray[np.int64]) -> FloatArray:
        """Return (n, D + 4) rows of `matrix` for some cells alone."""
        rows, cols = np.divmod(cells, self.finest.cells[1])
        parts = [np.asarray(self.finest.values[:, rows, cols], dtype=np.float32).T]
        parts += [level.on_cells(self.finest).at(rows, cols) for level in self.levels[1:]]
        return np.concatenate([*parts, self._place(rows, cols).T], axis=1)

    def _place(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> FloatArray:
        y, x = (rows + 0.5) / self.finest.reach[0], (cols + 0.5) / self.finest.reach[1]
        place = np.minimum(np.stack([y, x, y * y, x * x]), 1) * 2 - 1
        return np.asarray(place, dtype=np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class CellBasis:
    """The principal components of each resolution.

    Attributes:
        backbone: Name of the backbone whose grids it reduces.
        means: For each resolution, finest first, the (D,) mean of its channels.
        directions: For each, (D, C) from centred channels to components.
    """

    backbone: str
    means: tuple[FloatArray, ...]
    directions: tuple[FloatArray, ...]

    @classmethod
    def fit(cls, backbone: str, images: Sequence[Sequence[Grid]]) -> CellBasis:
        """Find the components of some images.

        Args:
            backbone: Name of the backbone.
            images: The grids of each image, of the same channels and strides.
        """
        means, directions = [], []
        levels = [_levels(grids) for grids in images]
        for number in range(len(levels[0])):
            cells = np.concatenate([_thinned(_cells(level[number])) for level in levels])
            last = number == len(levels[0]) - 1
            mean, direction = _components(cells, COARSE_COMPONENTS if last else FINE_COMPONENTS)
            means.append(mean)
            directions.append(direction)
        return cls(backbone=backbone, means=tuple(means), directions=tuple(directions))

    def apply(self, grids: Sequence[Grid]) -> CellFeatures:
        """Reduce the grids of an image."""
        found = []
        for level, mean, direction in zip(_levels(grids), self.means, self.directions, strict=True):
            components = np.clip(((_cells(level) - mean) @ direction).T, -_LIMIT, _LIMIT)
            values = components.astype(np.float16).reshape(-1, *level[0].cells)
            found.append(Grid(values=values, reach=level[0].reach))
        return CellFeatures(levels=tuple(found))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it: cells and heads belong to a basis."""
        total = hashlib.sha256(self.backbone.encode())
        for array in (*self.means, *self.directions):
            total.update(array.tobytes())
        return total.hexdigest()

    def save(self, path: Path) -> None:
        """Write it as .npz, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {"backbone": np.array(self.backbone)}
        arrays |= {f"mean{n}": array for n, array in enumerate(self.means)}
        arrays |= {f"directions{n}": array for n, array in enumerate(self.directions)}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # no name is an option of savez

    @classmethod
    def load(cls, path: Path) -> CellBasis:
        """Read what `save` wrote.

        Raises:
            ImageFileError: It is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                count = len(arrays.files) // 2
                return cls(
                    backbone=str(arrays["backbone"]),
                    means=tuple(arrays[f"mean{n}"] for n in range(count)),
                    directions=tuple(arrays[f"directions{n}"] for n in range(count)),
                )
        except Exception as error:
            raise ImageFileError(
                f"{path} is damaged ({error}). Delete it and run the command again: the features are made anew."
            ) from None


def _levels(grids: Sequence[Grid]) -> list[list[Grid]]:
    """Group grids of the same cells, the finest first."""
    groups: dict[tuple[int, int], list[Grid]] = {}
    for grid in grids:
        groups.setdefault(grid.cells, []).append(grid)
    return [groups[cells] for cells in sorted(groups, reverse=True)]


def _cells(level: Sequence[Grid]) -> FloatArray:
    """Return (h * w, D) channels of the grids of a resolution, side by side."""
    values = np.concatenate([np.asarray(grid.values, dtype=np.float32) for grid in level])
    return np.ascontiguousarray(values.reshape(len(values), -1).T)


def _thinned(cells: FloatArray) -> FloatArray:
    """Take evenly spaced cells of an image, a bounded number."""
    return cells[:: -(-len(cells) // _CELLS_AN_IMAGE)]


def _components(cells: NDArray[Any], count: int) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the (D, C) directions of the leading components of standardised channels."""
    mean = cells.mean(axis=0, dtype=np.float64)
    centred = cells - mean.astype(np.float32)
    deviation = np.sqrt(np.square(centred, dtype=np.float64).mean(axis=0))
    # A channel that is constant here says nothing, whatever it is elsewhere.
    factor = np.where(deviation > 1e-6, 1 / np.maximum(deviation, 1e-6), 0).astype(np.float32)
    centred *= factor
    values, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(centred))
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    # The sign of an eigenvector is arbitrary: the largest entry is made positive, so that all machines agree.
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    spread = np.sqrt(np.maximum(values, 1e-12))
    spread = np.maximum(spread, _LEAST_DEVIATION * spread[0])
    return mean.astype(np.float32), np.asarray(factor[:, None] * vectors / spread, dtype=np.float32)
