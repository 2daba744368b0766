"""Features on their own coarse grid, interpolated where they are needed (pure).

Interpolation is linear, so products of features with a direction are taken on the grid and interpolated: nothing of
D channels at the size of an image is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EMBEDDING", "FeatureMap", "interpolation_matrix", "mask_embedding"]

EMBEDDING = "embedding"
"""Column of statistics that holds the mean features of each mask."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureMap:
    """Features of one image.

    Attributes:
        values: (D, h, w) float32 on the grid.
        rows: (H, h) float32 weights that interpolate from the grid's rows to the image's.
        cols: (W, w) float32, the same for columns.
    """

    values: FloatArray
    rows: FloatArray
    cols: FloatArray

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return len(self.rows), len(self.cols)

    def upsample(self, maps: NDArray[Any]) -> FloatArray:
        """Interpolate (P, h, w) maps on the grid to (P, H, W) at the image's size."""
        return self.window(maps, slice(None), slice(None))

    def window(self, maps: NDArray[Any], rows: slice, cols: slice) -> FloatArray:
        """Interpolate maps in a window of the image alone."""
        found = self.rows[rows] @ np.asarray(maps, dtype=np.float32) @ self.cols[cols].T
        return np.asarray(found, dtype=np.float32)

    def at(self, rows: NDArray[Any], cols: NDArray[Any]) -> FloatArray:
        """Interpolate the features at pixels of the image: (n, D)."""
        # A pixel lies between two cells a side, and the matrices are 0 everywhere else.
        total = np.zeros((len(self.values), len(np.asarray(rows))), dtype=np.float32)
        top, top_weights = _taps(self.rows[rows])
        left, left_weights = _taps(self.cols[cols])
        for down in range(2):
            for across in range(2):
                cells = self.values[:, top[:, down], left[:, across]]
                total += cells * (top_weights[:, down] * left_weights[:, across])
        return np.ascontiguousarray(total.T)


def _taps(weights: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the (n, 2) cells that count for each of (n, cells) rows of weights, and by how much."""
    first = np.argmax(weights > 0, axis=1)
    second = np.minimum(first + 1, weights.shape[1] - 1)
    near = np.take_along_axis(weights, first[:, None], axis=1)[:, 0]
    far = np.where(second > first, np.take_along_axis(weights, second[:, None], axis=1)[:, 0], 0)
    return np.stack([first, second], axis=1), np.stack([near, far], axis=1).astype(np.float32)


def interpolation_matrix(size: int, fitted: float, cells: int, stride: float) -> FloatArray:
    """Bilinear weights from cells of features to pixels of an image side, as with `align_corners=False`.

    Args:
        size: Pixels of the image side.
        fitted: Pixels of the canvas that the side was scaled to.
        cells: Cells of the feature grid along the whole canvas side.
        stride: Canvas pixels a cell stands for.

    Returns:
        (size, cells) float32, rows summing to 1; beyond the outermost centres the edge cell counts alone.

    Example:
        >>> interpolation_matrix(4, 4, 2, 2.0)
        array([[1.  , 0.  ],
               [0.75, 0.25],
               [0.25, 0.75],
               [0.  , 1.  ]], dtype=float32)
    """
    place = ((np.arange(size) + 0.5) * fitted / size) / stride - 0.5
    # Padding beyond the fitted part belongs to no pixel, and the last cells that hold the image are its edge.
    last = min(cells - 1, max(0, int(np.ceil(fitted / stride)) - 1))
    place = np.clip(place, 0, last)
    low = np.minimum(place.astype(np.int64), max(last - 1, 0))
    part = place - low
    weights = np.zeros((size, cells), dtype=np.float32)
    weights[np.arange(size), low] = 1 - part
    if last > 0:
        weights[np.arange(size), low + 1] += part
    return weights


def mask_embedding(features: FeatureMap, mask_map: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.float32]:
    """Average features over each mask, each pixel taking those of the cell it weighs most: (M, D) float32.

    Args:
        features: Of the image, (D, h, w) on their grid.
        mask_map: (H, W) mask ids.
        mask_ids: (M,) ids, ascending.
    """
    from scipy import sparse

    width = features.values.shape[2]
    cells = features.rows.argmax(axis=1)[:, None] * width + features.cols.argmax(axis=1)[None]
    place = np.searchsorted(mask_ids, mask_map)
    inside = (
        mask_ids[np.minimum(place, len(mask_ids) - 1)] == mask_map if len(mask_ids) else np.zeros_like(mask_map, bool)
    )
    size = features.values.shape[1] * width
    counts = sparse.coo_matrix(
        (np.ones(int(inside.sum()), dtype=np.float32), (place[inside], cells[inside])), shape=(len(mask_ids), size)
    ).tocsr()
    area = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    total = counts @ features.values.reshape(len(features.values), -1).T
    return np.asarray(total / area[:, None], dtype=np.float32)
