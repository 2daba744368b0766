"""Corrections: those that follow from an answer, and those propagated to masks nobody was asked about."""

from a2lc.correction.manual import manual_corrections
from a2lc.correction.module import LabelCorrectionModule
from a2lc.correction.rules import automatic_changes, class_ranks

__all__ = ["LabelCorrectionModule", "automatic_changes", "class_ranks", "manual_corrections"]
