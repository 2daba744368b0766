"""A perceptron with one hidden layer, fitted by NumPy in seconds (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from a2lc.errors import InputError

__all__ = ["Perceptron", "fit_perceptron"]

HIDDEN = 128
"""Units of the hidden layer."""

STEPS = 400
"""Steps of the optimiser."""

BATCH = 1024
"""Cells a step."""

RATE = 4e-3
"""Highest learning rate, reached after `WARM_UP` of the steps and lowered to 0 by a cosine."""

WARM_UP = 0.3

DECAY = 1e-2
"""Decoupled weight decay (Loshchilov and Hutter 2019)."""

DROPPED = 0.2
"""Share of hidden units that are left out of a step."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Perceptron:
    """Logits = relu(x W + b) V + c.

    Attributes:
        hidden_weights: (D, H) float32.
        hidden_bias: (H,).
        class_weights: (H, K).
        class_bias: (K,).
    """

    hidden_weights: FloatArray
    hidden_bias: FloatArray
    class_weights: FloatArray
    class_bias: FloatArray

    def hidden(self, inputs: FloatArray) -> FloatArray:
        """Return (n, H) activations of the hidden layer for (n, D) inputs."""
        found = inputs @ self.hidden_weights
        found += self.hidden_bias
        return np.asarray(np.maximum(found, 0, out=found), dtype=np.float32)

    def logits(self, hidden: FloatArray) -> FloatArray:
        """Return (n, K) logits for (n, H) activations of the hidden layer."""
        return np.asarray(hidden @ self.class_weights + self.class_bias, dtype=np.float32)


def fit_perceptron(
    inputs: NDArray[Any], classes: NDArray[Any], *, num_classes: int, seed: int, steps: int = STEPS
) -> Perceptron:
    """Minimise the mean cross entropy by AdamW on batches drawn with replacement, with dropout of the hidden layer.

    Computed on one thread, for the number of threads changes the last bits of sums.

    Args:
        inputs: (n, D) floats.
        classes: (n,) class indices in [0, K).
        num_classes: K.
        seed: Of the first weights, the batches and the dropout.
        steps: Steps of the optimiser.

    Raises:
        InputError: There is nothing to learn from, or a class is outside [0, K).
    """
    if not len(inputs):
        raise InputError("There are no labelled cells to learn from.")
    if classes.min() < 0 or classes.max() >= num_classes:
        raise InputError(f"Expected classes in [0, {num_classes}), found {classes.min()}..{classes.max()}.")
    rng = np.random.default_rng([seed, 7])
    depth = inputs.shape[1]
    weights = [
        rng.normal(0, np.sqrt(2 / depth), (depth, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, dtype=np.float32),
        rng.normal(0, np.sqrt(1 / HIDDEN), (HIDDEN, num_classes)).astype(np.float32),
        np.zeros(num_classes, dtype=np.float32),
    ]
    optimizer = _AdamW(weights)
    with threadpool_limits(limits=1, user_api="blas"):
        for step in range(steps):
            rows = rng.integers(len(inputs), size=min(BATCH, 4 * len(inputs)))
            batch = np.asarray(inputs[rows], dtype=np.float32)
            kept = rng.random((len(rows), HIDDEN), dtype=np.float32) >= DROPPED
            gradients = _gradients(weights, batch, classes[rows], kept.astype(np.float32) / np.float32(1 - DROPPED))
            optimizer.step(gradients, _rate(step / steps))
    return Perceptron(
        hidden_weights=weights[0], hidden_bias=weights[1], class_weights=weights[2], class_bias=weights[3]
    )


def _rate(progress: float) -> float:
    """Return the learning rate after a share of the steps."""
    if progress < WARM_UP:
        return RATE * progress / WARM_UP
    return RATE * 0.5 * (1 + float(np.cos(np.pi * (progress - WARM_UP) / (1 - WARM_UP))))


def _gradients(
    weights: list[FloatArray], inputs: FloatArray, classes: NDArray[Any], kept: FloatArray
) -> list[FloatArray]:
    """Return the gradients of the mean cross entropy of a batch.

    Args:
        weights: Of both layers, see `Perceptron`.
        inputs: (n, D).
        classes: (n,).
        kept: (n, H) factors of the hidden units, 0 for those that are dropped.
    """
    hidden_weights, hidden_bias, class_weights, class_bias = weights
    hidden = inputs @ hidden_weights
    hidden += hidden_bias
    factors = kept * (hidden > 0)
    hidden *= factors
    residual = hidden @ class_weights
    residual += class_bias
    residual -= residual.max(axis=1, keepdims=True)
    np.exp(residual, out=residual)
    residual /= residual.sum(axis=1, keepdims=True)
    residual[np.arange(len(classes)), classes] -= 1
    residual /= np.float32(len(classes))
    back = residual @ class_weights.T
    back *= factors
    return [inputs.T @ back, back.sum(axis=0), hidden.T @ residual, residual.sum(axis=0)]


class _AdamW:
    """Adam with decoupled weight decay on matrices (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

    def __init__(self, weights: list[FloatArray]) -> None:
        self.weights = weights
        self.means = [np.zeros_like(array) for array in weights]
        self.squares = [np.zeros_like(array) for array in weights]
        self.steps = 0

    def step(self, gradients: list[FloatArray], rate: float) -> None:
        """Change the weights in place."""
        self.steps += 1
        first, second = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        for array, gradient, mean, square in zip(self.weights, gradients, self.means, self.squares, strict=True):
            mean += np.float32(0.1) * (gradient - mean)
            square += np.float32(0.001) * (gradient * gradient - square)
            if array.ndim == 2:
                array *= np.float32(1 - rate * DECAY)
            array -= np.float32(rate / first) * mean / (np.sqrt(square / np.float32(second)) + np.float32(1e-8))
