"""One posterior per mask, P(true class | mask): from what is known of a mask to how likely each class is (pure).

A ridge-regularised softmax regression on features of the mask: what the model says of it, its first label, how it looks, where it
lies, what lies around it. What these weigh adds to the logits that the prior gives each mask (`MaskFeatures.start`): with few
answers a mask is believed to be what label and model say, and not anything. Colour, texture and place do not add up linearly to
a class, so random Fourier features of them are added (Rahimi and Recht 2007), which makes the regression one with a Gaussian
kernel at the cost of a linear one. It learns from answers, but for a small share of the weight that rests on first labels, drawn
at random: answers are asked where labels are doubted, and without that share the regression would hold every mask for doubtful.

A refit starts from the weights of the last one, so it takes a few steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController

from a2lc.errors import InputError
from a2lc.posterior.features import CHUNK, FloatArray, MaskFeatures

__all__ = ["Posterior", "fit_posterior", "softmax"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Posterior:
    """A fitted regression.

    Attributes:
        weights: (F, K + 1) float32; the last class is "none" (void).
        temperature: Divides the logits; 1 where it was never calibrated.
    """

    weights: FloatArray
    temperature: float = 1.0

    def predict(self, features: MaskFeatures, which: NDArray[Any] | None = None) -> FloatArray:
        """Return (M, K + 1) float32 probabilities, summing to 1, of all masks or those `which` names."""
        rows = None if which is None else np.arange(len(features))[which]
        count = len(features) if rows is None else len(rows)
        found = np.empty((count, self.weights.shape[1]), dtype=np.float32)
        for begin in range(0, count, CHUNK):
            chunk = slice(begin, min(begin + CHUNK, count))
            logits = features.logits(chunk if rows is None else rows[chunk], self.weights)
            found[chunk] = softmax(logits / np.float32(self.temperature))
        return found


def fit_posterior(
    features: MaskFeatures,
    rows: NDArray[Any],
    classes: NDArray[Any],
    weights: NDArray[Any],
    *,
    num_classes: int,
    ridge: float = 10.0,
    errors: NDArray[Any] | None = None,
    temperature: float = 1.0,
    start: Posterior | None = None,
    steps: int = 60,
) -> Posterior:
    """Fit the regression: minimise Σ w·cross entropy + ridge/2·‖W‖², the constant's weights only lightly held.

    Args:
        features: Of all masks.
        rows: (n,) masks to learn from; a mask may occur more than once.
        classes: (n,) their classes in [0, K], K for none.
        weights: (n,) weight of each.
        num_classes: K.
        ridge: Strength of the regularisation.
        errors: (n,) probability that each class is wrong, in [0, 1), any other then being as likely; None for 0. The
            regression predicts true classes: what is fitted to the answers is (1 - e)·P + e·(1 - P)/K (Raykar et al. 2010).
        temperature: See `Posterior`.
        start: A posterior fitted before, to go on from.
        steps: Steps of L-BFGS at most.

    Raises:
        InputError: There is nothing to learn from, or a class is outside [0, K].
    """
    if not len(rows):
        raise InputError("There are no answers to learn from yet.")
    if classes.min() < 0 or classes.max() > num_classes:
        raise InputError(f"Expected classes in [0, {num_classes}], found {classes.min()}..{classes.max()}.")
    rows = np.asarray(rows)
    inputs = features.rows(rows)
    begun = None if features.start is None else features.start[rows].astype(np.float64)
    totals = weights.astype(np.float32)[:, None]
    targets = np.eye(num_classes + 1, dtype=np.float32)[classes] * totals
    wrong = None if errors is None or not np.any(errors) else np.asarray(errors, dtype=np.float64)[:, None]
    shape = (inputs.shape[1], num_classes + 1)
    held = np.full((shape[0], 1), ridge)
    # A class that nobody named must not drift away without end.
    held[-1] = 0.1

    def loss(flat: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = _loss(flat.reshape(shape), inputs, targets, totals, held, begun, wrong)
        return value, gradient.ravel()

    begin = np.zeros(shape) if start is None or start.weights.shape != shape else start.weights.astype(np.float64)
    # Products this small are over before a second thread has begun; threads that wait for each other cost tenfold.
    with _threads().limit(limits=1, user_api="blas"):
        found = minimize(
            loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxcor": 8, "gtol": 1e-2}
        )
    fitted = found.x.reshape(shape).astype(np.float32)
    return Posterior(weights=fitted, temperature=temperature)


@cache
def _threads() -> ThreadpoolController:
    """Look up the loaded thread pools once: finding them takes longer than a refit."""
    return ThreadpoolController()


def _loss(
    weights: NDArray[np.float64],
    inputs: FloatArray,
    targets: FloatArray,
    totals: FloatArray,
    held: NDArray[np.float64],
    begun: NDArray[np.float64] | None = None,
    wrong: NDArray[np.float64] | None = None,
) -> tuple[float, NDArray[np.float64]]:
    """Compute the objective of `fit_posterior`, and its gradient.

    Args:
        weights: (F, K + 1).
        inputs: (n, F) features.
        targets: (n, K + 1) weight of each at its class, else 0.
        totals: (n, 1) weight of each.
        held: (F, 1) strength of the regularisation.
        begun: (n, K + 1) logits to which the features add, or None for 0.
        wrong: (n, 1) probabilities that the targets' classes are wrong, or None for 0.
    """
    logits = (inputs @ weights.astype(np.float32)).astype(np.float64)
    if begun is not None:
        logits += begun
    logits -= logits.max(axis=1, keepdims=True)
    exponents = np.exp(logits)
    sums = exponents.sum(axis=1, keepdims=True)
    if wrong is None:
        value = float((totals * np.log(sums)).sum() - (targets * logits).sum())
        residual = (exponents / sums * totals - targets).astype(np.float32)
    else:
        probs, others = exponents / sums, targets.shape[1] - 1
        named = (probs * (targets > 0)).sum(axis=1, keepdims=True)
        right = (1 - wrong - wrong / others) * named
        said = right + wrong / others
        value = -float((totals * np.log(np.maximum(said, 1e-300))).sum())
        # An answer that the rest contradicts is likely wrong, and pulls less.
        residual = ((probs * totals - targets) * right / np.maximum(said, 1e-300)).astype(np.float32)
    gradient = (inputs.T @ residual).astype(np.float64) + held * weights
    return value + 0.5 * float((held * np.square(weights)).sum()), gradient


def softmax(logits: NDArray[Any]) -> FloatArray:
    """Turn logits into probabilities, row by row."""
    logits = logits - logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    return np.asarray(logits / logits.sum(axis=1, keepdims=True), dtype=np.float32)
