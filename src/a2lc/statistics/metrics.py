"""Confusion counts of a whole data set, and the figures that come from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import LabelRangeError, ShapeError

__all__ = ["ConfusionCounts"]


class ConfusionCounts:
    """Pixels by label and ground truth, added up over a data set.

    mIoU comes from counts summed over all images, as in all six published code bases; the mean of
    per-image IoUs is another number. A pixel counts for IoU where both label and ground truth are classes;
    pixels without a label are seen in `coverage` instead, so that nobody gains by leaving out the hard ones. In
    `miou_of_all` they count as wrong, which compares sets of labels that cover different shares of the pixels.

    Attributes:
        counts: (K, K) int64, rows ground truth, columns labels (or predictions).
        missing: (K,) int64, pixels of each true class that have no label.

    Example:
        >>> counts = ConfusionCounts(2)
        >>> counts.update(np.array([[0, 1, 1, 255]]), np.array([[0, 1, 0, 1]]))
        >>> counts.iou, counts.miou, counts.pixel_accuracy, counts.coverage
        (array([0.5, 0.5]), 0.5, 0.6666666666666666, 0.75)
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts: NDArray[np.int64] = np.zeros((num_classes, num_classes), dtype=np.int64)
        self.missing: NDArray[np.int64] = np.zeros(num_classes, dtype=np.int64)

    def merge(self, other: ConfusionCounts) -> None:
        """Add the counts of other images."""
        self.counts += other.counts
        self.missing += other.missing

    def update(self, labels: NDArray[Any], ground_truth: NDArray[Any]) -> None:
        """Count an image.

        Args:
            labels: Labels or predictions, (H, W) integer in [0, K) or `ignore_index`.
            ground_truth: The true classes, of the same shape and range.

        Raises:
            ShapeError: The two differ in shape.
            LabelRangeError: A value is neither a class nor `ignore_index`.
        """
        if labels.shape != ground_truth.shape:
            raise ShapeError(f"Labels have shape {labels.shape}, but ground truth has shape {ground_truth.shape}.")
        self.add(labels.ravel(), ground_truth.ravel(), None)

    def add(self, labels: NDArray[Any], ground_truth: NDArray[Any], pixels: NDArray[Any] | None) -> None:
        """Count (N,) pairs of label and ground truth, each standing for (N,) `pixels`, or for one.

        Raises:
            LabelRangeError: A value is neither a class nor `ignore_index`.
        """
        size = self.num_classes + 1
        flat = self._index(ground_truth) * size + self._index(labels)
        # Sums of whole numbers below 2^53 are exact in double precision.
        joint = np.bincount(flat, weights=pixels, minlength=size * size).astype(np.int64).reshape(size, size)
        self.counts += joint[:-1, :-1]
        self.missing += joint[:-1, -1]

    def _index(self, values: NDArray[Any]) -> NDArray[np.int64]:
        index = values.astype(np.int64)
        index[values == self.ignore_index] = self.num_classes
        bad = (index < 0) | (index > self.num_classes)
        bad |= (index == self.num_classes) & (values != self.ignore_index)
        if bad.any():
            raise LabelRangeError(
                f"Value {values[bad][0]} is neither one of the {self.num_classes} classes nor "
                f"ignore_index={self.ignore_index}."
            )
        return index

    def __add__(self, other: ConfusionCounts) -> ConfusionCounts:
        """Add the counts of two disjoint sets of pixels together.

        Raises:
            ShapeError: The two count different classes.
        """
        if (self.num_classes, self.ignore_index) != (other.num_classes, other.ignore_index):
            raise ShapeError("Confusion counts of different classes cannot be added.")
        total = ConfusionCounts(self.num_classes, self.ignore_index)
        total.counts = self.counts + other.counts
        total.missing = self.missing + other.missing
        return total

    @property
    def unlabelled(self) -> int:
        """Number of pixels that have ground truth and no label."""
        return int(self.missing.sum())

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,) intersection over union in [0, 1]; NaN for a class in neither labels nor ground truth."""
        return self._iou(np.zeros_like(self.missing))

    @property
    def miou(self) -> float:
        """Mean of `iou` over the classes that occur; NaN where none does."""
        return _mean(self.iou)

    @property
    def miou_of_all(self) -> float:
        """Mean IoU over all pixels with ground truth, unlabeled ones counted as wrong, in [0, 1]; NaN where there are none."""
        return _mean(self._iou(self.missing))

    def _iou(self, missing: NDArray[np.int64]) -> NDArray[np.float64]:
        """Compute (K,) IoU with (K,) further pixels in the unions."""
        inside = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - inside + missing
        iou: NDArray[np.float64] = np.divide(inside, union, out=np.full(self.num_classes, np.nan), where=union > 0)
        return iou

    @property
    def pixel_accuracy(self) -> float:
        """Share of the counted pixels with the right class; NaN where none was counted."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")

    @property
    def coverage(self) -> float:
        """Share of the pixels with ground truth that carry a label; NaN where there is no ground truth."""
        total = int(self.counts.sum()) + self.unlabelled
        return float(self.counts.sum() / total) if total else float("nan")


def _mean(iou: NDArray[np.float64]) -> float:
    """Mean over the classes that occur; NaN where none does."""
    return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
