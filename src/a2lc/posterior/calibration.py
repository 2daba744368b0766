"""Choose the temperature under which held-out audits are predicted best, unless they are too few to say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.posterior.features import MaskFeatures
from a2lc.posterior.regression import fit_posterior, softmax

__all__ = ["calibrate"]

_SPREAD = 0.15
"""Standard deviation of the logarithm of the temperature, before any audit is looked at."""


def calibrate(
    features: MaskFeatures,
    rows: NDArray[Any],
    classes: NDArray[Any],
    weights: NDArray[Any],
    drawn: NDArray[Any],
    *,
    num_classes: int,
    ridge: float = 10.0,
    errors: NDArray[Any] | None = None,
    folds: int = 4,
    fewest: int = 24,
) -> float:
    """Find the temperature that best predicts masks drawn at random, each left out of the fit.

    Args:
        features: Of all masks.
        rows: (n,) masks to learn from.
        classes: (n,) their classes in [0, K].
        weights: (n,) weights in the fit.
        drawn: (n,) weight of each as a random draw, one over its inclusion probability; 0 for masks that were chosen.
        num_classes: K.
        ridge: As in `fit_posterior`.
        errors: (n,) as in `fit_posterior`; what an audit says may be wrong, too.
        folds: Parts that are left out in turn.
        fewest: Draws below which nothing is changed: 1 comes back.

    A few audits of great weight can ask for any temperature. So no draw weighs more than three times the median, the
    weights count as their effective number of draws, and a temperature far from 1 needs many that ask for it: its
    logarithm has a normal prior of deviation 0.15.

    Source:
        Temperature scaling (Guo et al. 2017, arXiv:1706.04599), on weighted out-of-fold predictions.
    """
    random = np.flatnonzero(drawn > 0)
    if len(random) < fewest:
        return 1.0
    heavy = np.minimum(drawn[random], 3 * np.median(drawn[random]))
    heavy = heavy * heavy.sum() / np.square(heavy).sum()
    logits = np.empty((len(random), num_classes + 1), dtype=np.float32)
    for fold in range(folds):
        out = np.arange(len(random)) % folds == fold
        keep = np.ones(len(rows), dtype=bool)
        keep[np.isin(rows, rows[random[out]])] = False
        if not keep.any():
            return 1.0
        fitted = fit_posterior(
            features,
            rows[keep],
            classes[keep],
            weights[keep],
            num_classes=num_classes,
            ridge=ridge,
            errors=None if errors is None else errors[keep],
        )
        logits[out] = features.logits(rows[random[out]], fitted.weights)
    wrong = np.zeros(len(random)) if errors is None else errors[random]
    best, lowest = 1.0, np.inf
    for temperature in np.exp(np.linspace(np.log(0.5), np.log(4.0), 25)):
        probs = softmax(logits / np.float32(temperature))
        said = probs[np.arange(len(random)), classes[random]]
        said = (1 - wrong) * said + wrong * (1 - said) / num_classes
        value = -float((heavy * np.log(np.maximum(said, 1e-6))).sum()) + np.log(temperature) ** 2 / (2 * _SPREAD**2)
        if value < lowest:
            best, lowest = float(temperature), value
    return best
