"""Acquisition: score masks, value questions, select the best, and count what answers cost."""

from a2lc.acquisition.functions import ACQUISITIONS, Acquisition, class_weights, score

__all__ = ["ACQUISITIONS", "Acquisition", "class_weights", "score"]
