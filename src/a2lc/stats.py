"""Mask statistics under a stable module path; see `a2lc.statistics`."""

from a2lc.statistics.mask_stats import MaskStats, mask_statistics

__all__ = ["MaskStats", "mask_statistics"]
