"""Intervals, and estimates of label quality made of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Interval", "QualityEstimate"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Interval:
    """An estimate and the ends of its confidence interval; NaN for a figure that is not defined.

    Attributes:
        low: Lower end, never above `estimate`.
        estimate: The point estimate; NaN where there is none.
        high: Upper end.
    """

    low: float
    estimate: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True)
class QualityEstimate:
    """Label quality of a data set in pixels, mask by mask; a label or truth of void counts as in `ConfusionCounts`.

    Attributes:
        pixel_accuracy: Share of the pixels with label and truth that carry the right class.
        miou: Mean IoU over the classes that occur.
        coverage: Share of the pixels with truth that carry a label.
        precision: K intervals; NaN for a class that occurs in neither labels nor truth, as the next two.
        recall: K intervals, of the pixels that carry a label.
        iou: K intervals.
        wrong_masks: Masks nobody was asked about whose label, void included, is not the truth.
        wrong_pixels: Their pixels.
        audits: Masks the figures were measured with, n.
        confidence: Of each interval by itself.
    """

    pixel_accuracy: Interval
    miou: Interval
    coverage: Interval
    precision: tuple[Interval, ...]
    recall: tuple[Interval, ...]
    iou: tuple[Interval, ...]
    wrong_masks: Interval
    wrong_pixels: Interval
    audits: int
    confidence: float
