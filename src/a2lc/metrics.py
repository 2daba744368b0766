"""Metrics of label maps, under the module path that stays: see `a2lc.statistics.metrics`."""

from a2lc.statistics.metrics import ConfusionCounts

__all__ = ["ConfusionCounts"]
