"""Grids of features: the outputs of a backbone for one image, and how far they reach."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from a2lc.statistics.features import FeatureMap, interpolation_matrix

__all__ = ["Grid"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """Features of one image on a grid of cells.

    Attributes:
        values: (D, h, w) float32 or float16.
        reach: Cells that cover the image, down and across, counted from the first: real numbers, at most h and w. Cells
            beyond them are padding.
    """

    values: NDArray[np.floating]
    reach: tuple[float, float]

    @property
    def cells(self) -> tuple[int, int]:
        """(h, w)."""
        return self.values.shape[1], self.values.shape[2]

    def on_image(self, height: int, width: int) -> FeatureMap:
        """Return the grid as features of an image of a size."""
        return FeatureMap(
            values=np.asarray(self.values, dtype=np.float32),
            rows=interpolation_matrix(height, self.reach[0], self.cells[0], 1.0),
            cols=interpolation_matrix(width, self.reach[1], self.cells[1], 1.0),
        )

    def on_cells(self, other: Grid) -> FeatureMap:
        """Return the grid as features of another grid of the same image, whose cells take the place of pixels."""
        (h, w), (down, across) = other.cells, other.reach
        # Cells of padding are left out, for they are not of the image.
        rows, cols = (min(n, ceil(reach)) for n, reach in zip(self.cells, self.reach, strict=True))
        return FeatureMap(
            values=np.asarray(self.values[:, :rows, :cols], dtype=np.float32),
            rows=interpolation_matrix(h, h * self.reach[0] / down, rows, 1.0),
            cols=interpolation_matrix(w, w * self.reach[1] / across, cols, 1.0),
        )
