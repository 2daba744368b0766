"""The perceptron: its gradients against differences, what it can learn, and that it is the same every time."""

import numpy as np
import pytest

from a2lc.errors import InputError
from a2lc.head import perceptron
from a2lc.head.perceptron import _gradients, _rate, fit_perceptron


def loss_of(weights, inputs, classes, kept):
    """Mean cross entropy by plain loops."""
    total = 0.0
    for x, y, factors in zip(inputs, classes, kept, strict=True):
        hidden = np.maximum(x @ weights[0] + weights[1], 0) * factors
        logits = hidden @ weights[2] + weights[3]
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[y]
    return total / len(inputs)


def test_gradients_are_those_of_the_loss(rng):
    weights = [rng.normal(size=shape) for shape in ((3, 5), (5,), (5, 4), (4,))]
    inputs, classes = rng.normal(size=(7, 3)), rng.integers(0, 4, 7)
    kept = (rng.random((7, 5)) > 0.3) / 0.7
    found = _gradients(weights, inputs, classes, kept)
    for number, array in enumerate(weights):
        for place in np.ndindex(array.shape):
            moved = [w.copy() for w in weights]
            moved[number][place] += 1e-6
            difference = (loss_of(moved, inputs, classes, kept) - loss_of(weights, inputs, classes, kept)) / 1e-6
            assert found[number][place] == pytest.approx(difference, abs=1e-4)


def test_it_learns_what_no_plane_divides(rng):
    inputs = rng.normal(size=(2000, 2)).astype(np.float32)
    classes = ((inputs[:, 0] > 0) ^ (inputs[:, 1] > 0)).astype(np.int64)
    fitted = fit_perceptron(inputs, classes, num_classes=2, seed=0)
    assert (fitted.logits(fitted.hidden(inputs)).argmax(axis=1) == classes).mean() > 0.97


def test_the_same_seed_gives_the_same_weights(rng):
    inputs, classes = rng.normal(size=(50, 4)).astype(np.float16), rng.integers(0, 3, 50)
    one, again, other = (fit_perceptron(inputs, classes, num_classes=3, seed=seed, steps=20) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.hidden_weights, again.hidden_weights)
    assert not np.array_equal(one.hidden_weights, other.hidden_weights)


def test_a_class_nobody_named_is_unlikely_and_finite(rng):
    inputs, classes = rng.normal(size=(400, 4)), rng.integers(0, 2, 400)
    fitted = fit_perceptron(inputs, classes, num_classes=5, seed=0)
    logits = fitted.logits(fitted.hidden(inputs.astype(np.float32)))
    assert np.isfinite(logits).all() and (logits[:, 2:].max(axis=1) < logits[:, :2].max(axis=1)).mean() > 0.99


def test_one_cell_is_enough():
    fitted = fit_perceptron(np.ones((1, 3)), np.array([1]), num_classes=2, seed=0)
    assert fitted.logits(fitted.hidden(np.ones((1, 3), np.float32))).argmax() == 1


def test_the_rate_rises_and_falls():
    rates = [_rate(progress) for progress in np.linspace(0, 1, 101)]
    assert rates[0] == 0 and max(rates) == pytest.approx(perceptron.RATE) and rates[-1] == pytest.approx(0, abs=1e-9)
    assert int(np.argmax(rates)) == 30


def test_what_cannot_be_learnt_from_is_refused():
    with pytest.raises(InputError, match="no labelled cells"):
        fit_perceptron(np.empty((0, 3)), np.empty(0, int), num_classes=2, seed=0)
    with pytest.raises(InputError, match=r"\[0, 2\)"):
        fit_perceptron(np.ones((1, 3)), np.array([2]), num_classes=2, seed=0)
