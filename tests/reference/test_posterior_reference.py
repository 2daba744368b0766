"""The regression, the worth of answers, labels and batches against plain loops written from the equations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from a2lc.acquisition import gain as gain_module
from a2lc.acquisition.gain import best_labels, class_unions, expected_iou_gain, label_values, pick_batch
from a2lc.posterior.features import MaskFeatures
from a2lc.posterior.regression import Posterior, _loss, fit_posterior

# ---- plain loops ---------------------------------------------------------------------------------------------------


def plain_softmax(logits):
    top = max(logits)
    exponents = [math.exp(v - top) for v in logits]
    return [v / sum(exponents) for v in exponents]


def plain_loss(weights, inputs, classes, counts, ridge):
    """Σ w·cross entropy + Σ ridge/2·W², and its gradient."""
    features, columns = len(weights), len(weights[0])
    value, gradient = 0.0, [[0.0] * columns for _ in range(features)]
    for row, label, count in zip(inputs, classes, counts, strict=True):
        probs = plain_softmax([sum(row[f] * weights[f][k] for f in range(features)) for k in range(columns)])
        value -= count * math.log(probs[label])
        for f in range(features):
            for k in range(columns):
                gradient[f][k] += count * row[f] * (probs[k] - (k == label))
    for f in range(features):
        for k in range(columns):
            value += 0.5 * ridge[f] * weights[f][k] ** 2
            gradient[f][k] += ridge[f] * weights[f][k]
    return value, np.array(gradient)


def plain_gain(area, labels, posterior):
    masks, classes = len(area), len(posterior[0]) - 1
    mean = sum(area) / masks
    found = []
    for i in range(masks):
        worth = 0.0
        if labels[i] >= 0:
            labelled = sum(area[j] for j in range(masks) if labels[j] == labels[i])
            worth += (1 - posterior[i][labels[i]]) / (labelled + mean)
        for c in range(classes):
            if c != labels[i]:
                worth += posterior[i][c] / (sum(area[j] * posterior[j][c] for j in range(masks)) + mean)
        found.append(area[i] * worth)
    return found


def plain_unions(area, labels, posterior):
    masks, classes = len(area), len(posterior[0]) - 1
    mean = sum(area) / masks
    unions, ious = [], []
    for c in range(classes):
        union, both = mean, 0.0
        for i in range(masks):
            if labels[i] == c:  # all of it, unless it is of no class
                union += area[i] * (1 - posterior[i][classes])
                both += area[i] * posterior[i][c]
            else:
                union += area[i] * posterior[i][c]
        unions.append(union)
        ious.append(both / union)
    return unions, ious


def plain_value(probs, c, unions, ious):
    wrong = sum(probs[other] for other in range(len(probs) - 1) if other != c)
    return (probs[c] - wrong * ious[c]) / unions[c]


def plain_labels(area, first, posterior, known, floor):
    masks, classes = len(area), len(posterior[0]) - 1
    labels = [first[i] if known[i] else max(range(classes), key=lambda c: posterior[i][c]) for i in range(masks)]
    for _ in range(2):
        unions, ious = plain_unions(area, labels, posterior)
        values = [[plain_value(posterior[i], c, unions, ious) for c in range(classes)] for i in range(masks)]
        labels = [first[i] if known[i] else max(range(classes), key=lambda c: values[i][c]) for i in range(masks)]
    found = []
    for i in range(masks):
        worth_it = first[i] < 0 or values[i][labels[i]] > values[i][first[i]]
        found.append(labels[i] if not known[i] and worth_it and posterior[i][labels[i]] >= floor else first[i])
    return found


def plain_batch(scores, looks, count, alike, pool):
    def cosine(i, j):
        norms = math.sqrt(sum(v * v for v in looks[i])) * math.sqrt(sum(v * v for v in looks[j]))
        return sum(a * b for a, b in zip(looks[i], looks[j], strict=True)) / norms if norms else 0.0

    open_ = [i for i in range(len(scores)) if scores[i] > 0 and math.isfinite(scores[i])]
    order = sorted(open_, key=lambda i: (-scores[i], i))[: count * pool]
    taken, passed = [], []
    for i in order:
        if len(taken) < count:
            (passed if any(cosine(i, j) >= alike for j in taken) else taken).append(i)
    taken += passed[: count - len(taken)]
    return sorted(taken, key=lambda i: (-scores[i], i))


# ---- the regression ------------------------------------------------------------------------------------------------


def problem(seed, answers=25, features=6, classes=3):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(answers, features)).astype(np.float32)
    inputs[:, -1] = 1
    said = rng.integers(0, classes + 1, answers)
    counts = rng.integers(0, 3, answers).astype(np.float32) + np.float32(0.5)
    targets = np.eye(classes + 1, dtype=np.float32)[said] * counts[:, None]
    ridge = np.full((features, 1), 2.0)
    ridge[-1] = 0.1
    return rng.normal(size=(features, classes + 1)), inputs, said, counts, targets, ridge


@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradient(seed):
    weights, inputs, said, counts, targets, ridge = problem(seed)
    value, gradient = _loss(weights, inputs, targets, counts[:, None], ridge)
    expected, slope = plain_loss(weights.tolist(), inputs.tolist(), said, counts, ridge[:, 0])
    assert value == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_the_slope(seed):
    """Central differences; in single precision they are good to three digits."""
    weights, inputs, _, counts, targets, ridge = problem(seed)
    _, gradient = _loss(weights, inputs, targets, counts[:, None], ridge)
    step = 1e-2
    for place in np.ndindex(weights.shape):
        up, down = weights.copy(), weights.copy()
        up[place] += step
        down[place] -= step
        above, below = (_loss(w, inputs, targets, counts[:, None], ridge)[0] for w in (up, down))
        assert gradient[place] == pytest.approx((above - below) / (2 * step), rel=2e-3, abs=5e-3)


@pytest.mark.parametrize("seed", range(2))
def test_the_fit_is_the_minimum(seed):
    """Plain gradient descent on the plain loss comes to the same probabilities."""
    _, inputs, said, counts, _, _ = problem(seed, answers=15, features=4, classes=2)
    features = MaskFeatures(base=inputs[:, :-1], blocks=(), scale=1.0)
    fitted = fit_posterior(features, np.arange(15), said, counts, num_classes=2, ridge=2.0, steps=500)
    held = [2.0, 2.0, 2.0, 0.1]
    weights = np.zeros((4, 3))
    for _ in range(3000):
        _, slope = plain_loss(weights.tolist(), inputs.tolist(), said, counts, held)
        weights -= 0.03 * slope
        if np.abs(slope).max() < 1e-5:
            break
    expected = [plain_softmax(list(row @ weights)) for row in inputs]
    np.testing.assert_allclose(fitted.predict(features), expected, atol=5e-3)


def test_random_features():
    """scale·cos(x·ω + φ) of the block's columns."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(5, 4)).astype(np.float32)
    blocks = tuple(
        (columns, rng.normal(size=(2, 3)).astype(np.float32), rng.uniform(0, 6, 3).astype(np.float32))
        for columns in (slice(1, 3), slice(2, 4))
    )
    features = MaskFeatures(base=base, blocks=blocks, scale=0.7)
    expected = []
    for x in base.tolist():
        row = list(x)
        for columns, frequencies, phases in blocks:
            for r in range(3):
                turn = sum(v * float(w) for v, w in zip(x[columns], frequencies[:, r], strict=True))
                row.append(0.7 * math.cos(turn + float(phases[r])))
        expected.append([*row, 1.0])
    np.testing.assert_allclose(features.rows(slice(None)), expected, atol=1e-5)
    weights = rng.normal(size=(11, 3)).astype(np.float32)
    said = Posterior(weights=weights).predict(features)
    np.testing.assert_allclose(said, [plain_softmax(list(row @ weights)) for row in np.array(expected)], atol=1e-5)


# ---- worth, labels, batches ----------------------------------------------------------------------------------------


def masks_of(seed, masks=80, classes=4):
    rng = np.random.default_rng(seed)
    area = rng.integers(1, 200, masks)
    posterior = rng.dirichlet(np.full(classes + 1, 0.4), masks).astype(np.float32)
    posterior[:5] = np.eye(classes + 1)[rng.integers(0, classes + 1, 5)]
    labels = rng.integers(-1, classes, masks)
    return area, labels, posterior, rng


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [1 << 14, 7])
def test_worth_of_answers(seed, chunk, monkeypatch):
    monkeypatch.setattr(gain_module, "_CHUNK", chunk)
    area, labels, posterior, _ = masks_of(seed)
    expected = plain_gain(area.tolist(), labels.tolist(), posterior.tolist())
    np.testing.assert_allclose(expected_iou_gain(area, labels, posterior), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [1 << 14, 7])
def test_unions_values_and_labels(seed, chunk, monkeypatch):
    monkeypatch.setattr(gain_module, "_CHUNK", chunk)
    area, labels, posterior, rng = masks_of(seed)
    unions, ious = class_unions(area, labels, posterior)
    plain = plain_unions(area.tolist(), labels.tolist(), posterior.tolist())
    np.testing.assert_allclose(unions, plain[0], rtol=1e-5)
    np.testing.assert_allclose(ious, plain[1], rtol=1e-5)
    values = [[plain_value(row, c, *plain) for c in range(4)] for row in posterior.tolist()]
    np.testing.assert_allclose(label_values(posterior, unions, ious), values, rtol=1e-4, atol=1e-7)
    known = rng.random(len(area)) < 0.3
    for floor in (0.0, 0.3, 0.8):
        found = best_labels(area, labels, posterior, known=known, floor=floor)
        expected = plain_labels(area.tolist(), labels.tolist(), posterior.tolist(), known, floor)
        assert found.dtype == np.int32 and found.tolist() == expected


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [256, 3])
@pytest.mark.parametrize(("count", "pool"), [(1, 8), (6, 2), (20, 8), (20, 1), (500, 8)])
def test_batches(seed, block, count, pool, monkeypatch):
    monkeypatch.setattr(gain_module, "_BLOCK", block)
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 12, 120) / 4  # many ties
    scores[rng.random(120) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
    looks = rng.normal(size=(6, 5))[rng.integers(0, 6, 120)] + rng.normal(size=(120, 5)) * 0.6
    looks[3] = 0
    for alike in (0.5, 0.9, 1.1):
        found = pick_batch(scores, looks, count, alike=alike, pool=pool)
        assert found.dtype == np.int64
        assert found.tolist() == plain_batch(scores.tolist(), looks.tolist(), count, alike, pool)


@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_with_errors_of_answers(seed):
    """Σ -w·log((1 - e)·P + e·(1 - P)/K) of the class named, and its slope by differences."""
    rng = np.random.default_rng(seed)
    n, width, classes = 6, 4, 3
    weights, inputs = rng.normal(size=(width, classes + 1)), rng.normal(size=(n, width)).astype(np.float32)
    said, counts = rng.integers(0, classes + 1, n), rng.uniform(0.5, 2, n)
    errors, ridge = rng.uniform(0, 0.4, n), rng.uniform(0.1, 2, (width, 1))
    targets = (np.eye(classes + 1)[said] * counts[:, None]).astype(np.float32)

    def plain(weights):
        value = 0.0
        for i in range(n):
            logits = [sum(float(inputs[i, f]) * weights[f][k] for f in range(width)) for k in range(classes + 1)]
            named = math.exp(logits[said[i]]) / sum(math.exp(logit) for logit in logits)
            value -= counts[i] * math.log((1 - errors[i]) * named + errors[i] * (1 - named) / classes)
        return value + sum(float(ridge[f, 0]) * w * w / 2 for f in range(width) for w in weights[f])

    value, gradient = _loss(weights, inputs, targets, counts[:, None].astype(np.float32), ridge, None, errors[:, None])
    assert value == pytest.approx(plain(weights), rel=1e-5)
    for f in range(width):
        for k in range(classes + 1):
            up, down = weights.copy(), weights.copy()
            up[f, k] += 1e-5
            down[f, k] -= 1e-5
            assert gradient[f, k] == pytest.approx((plain(up) - plain(down)) / 2e-5, rel=1e-3, abs=1e-4)
