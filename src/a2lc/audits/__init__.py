"""Audits: draw masks at random, certify automatic corrections, and estimate label quality with intervals.

A guarantee and an estimate both rest on drawing at random from a finite set of masks with known probabilities, after all
else is decided. Neither needs the posterior to be right: a bad one costs audits and width, not validity. `Session` needs no
project: see `a2lc.audits.source.RoundSource`.
"""

from __future__ import annotations

from a2lc.audits.estimate import estimate_quality, expected_gain
from a2lc.audits.gain_certificate import GainPromise, certify_gain
from a2lc.audits.intervals import Interval, QualityEstimate
from a2lc.audits.precision_certificate import Promise, certify, smallest_sample
from a2lc.audits.sampling import audit_sizes, draw, inclusion_probabilities
from a2lc.audits.stakes import draw_by_stake, effects, stake_inclusion, stakes

__all__ = [
    "GainPromise",
    "Interval",
    "Promise",
    "QualityEstimate",
    "audit_sizes",
    "certify",
    "certify_gain",
    "draw",
    "draw_by_stake",
    "effects",
    "estimate_quality",
    "expected_gain",
    "inclusion_probabilities",
    "smallest_sample",
    "stake_inclusion",
    "stakes",
]
