"""What label and model say of a mask before anyone has answered (pure)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.statistics.mask_stats import MaskStats

__all__ = ["prior_logits", "prior_posterior"]

FloatArray = NDArray[np.float32]

_TRUST = 0.5
"""Power of the prior that a regression begins from: label and model err together more often than apart."""

_LEAST = 0.01
"""Probability of a class that neither label nor model speaks for, before that power."""


def prior_posterior(stats: MaskStats, first: NDArray[Any]) -> FloatArray:
    """Return (M, K + 1) prior probabilities: the initial label and the model's mean softmax, half and half."""
    classes = stats.num_classes
    found = np.zeros((len(stats), classes + 1), dtype=np.float32)
    found[:, :classes] = stats.mean_probs
    label = np.eye(classes + 1, dtype=np.float32)[np.where(first < 0, classes, first)]
    found = np.where((first < 0)[:, None], found, 0.5 * found + 0.5 * label)
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-9), dtype=np.float32)


def prior_logits(stats: MaskStats, first: NDArray[Any]) -> FloatArray:
    """Return the (M, K + 1) logits that the posterior's regression begins from: half the logarithm of the prior, 0.01 or more."""
    return np.asarray(_TRUST * np.log(np.maximum(prior_posterior(stats, first), np.float32(_LEAST))), dtype=np.float32)
