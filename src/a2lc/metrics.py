"""Metrics of label maps under a stable module path; see `a2lc.statistics.metrics`."""

from a2lc.statistics.metrics import ConfusionCounts

__all__ = ["ConfusionCounts"]
