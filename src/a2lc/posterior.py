"""One posterior per mask, P(true class | mask): from what is known of a mask to how likely each class is (pure).

A ridge-regularised softmax regression on features of the mask: what the model says of it, its first label, how it looks, where it
lies, what lies around it. Colour, texture and place do not add up linearly to a class, so random Fourier features of them are
added (Rahimi and Recht 2007), which makes the regression one with a Gaussian kernel at the cost of a linear one. It learns from
answers alone, but for a small share of the weight that rests on first labels, drawn at random: answers are asked where labels are
doubted, and without that share the regression would hold every mask for doubtful.

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

from a2lc.appearance import Borders, neighbour_means
from a2lc.errors import InputError, ShapeError
from a2lc.stats import MaskStats

__all__ = ["MaskFeatures", "Posterior", "calibrate", "fit_posterior", "mask_features", "prior_posterior"]

FloatArray = NDArray[np.float32]

COLUMNS = frozenset(
    {
        "area",
        "bvsb_sum",
        "entropy_sum",
        "image",
        "label",
        "mask_ids",
        "pair_doubt",
        "pair_label",
        "pair_pixels",
        "pair_similar",
        "pred_counts",
        "prob_sums",
        "softmin",
    }
)
"""Fields of `MaskStats` that `mask_features` reads."""

_CLIP = 4.0  # standard deviations beyond which a feature is cut
_COLOURS = 6  # first columns of the appearance: colour alone, for what lies around
_EMBEDDED = 64  # principal components kept of an embedding
_CHUNK = 1 << 14  # smaller ones fit the cache better, but make the threads of a matrix product wait more often


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskFeatures:
    """Features of M masks; the random ones are made when they are needed.

    Attributes:
        base: (M, B) float32, standardised, cut at 4 standard deviations and weighed by group.
        blocks: For each block of random features, its columns in `base`, (b, r) frequencies and (r,) phases.
        scale: Of each random feature.
    """

    base: FloatArray
    blocks: tuple[tuple[slice, FloatArray, FloatArray], ...]
    scale: float

    def __len__(self) -> int:
        """Number of masks, M."""
        return len(self.base)

    @property
    def width(self) -> int:
        """Number of features, with the constant one."""
        return int(self.base.shape[1]) + sum(len(phase) for _, _, phase in self.blocks) + 1

    def rows(self, which: NDArray[Any] | slice) -> FloatArray:
        """(n, F) features of some masks; the last is 1."""
        base = self.base[which]
        found = np.empty((len(base), self.width), dtype=np.float32)
        found[:, : base.shape[1]] = base
        begin = base.shape[1]
        for columns, frequencies, phases in self.blocks:
            end = begin + len(phases)
            found[:, begin:end] = _waves(base[:, columns], frequencies, phases)
            found[:, begin:end] *= np.float32(self.scale)
            begin = end
        found[:, -1] = 1
        return found

    def logits(self, which: NDArray[Any] | slice, weights: FloatArray) -> FloatArray:
        """`rows(which) @ weights`, without putting the rows together."""
        base = self.base[which]
        begin = base.shape[1]
        found: FloatArray = base @ weights[:begin]
        found += weights[-1]
        for columns, frequencies, phases in self.blocks:
            end = begin + len(phases)
            found += _waves(base[:, columns], frequencies, phases) @ (weights[begin:end] * np.float32(self.scale))
            begin = end
        return found


def mask_features(
    stats: MaskStats,
    appearance: NDArray[Any],
    borders: Borders,
    first: NDArray[Any],
    embedding: NDArray[Any] | None = None,
    *,
    random: int = 256,
    seed: int = 0,
) -> MaskFeatures:
    """Everything known of masks before anyone is asked, as numbers of one scale.

    Args:
        stats: Statistics of all M masks, the fields of `COLUMNS`.
        appearance: (M, A) of `a2lc.appearance.mask_appearance`.
        borders: Which masks lie next to each other.
        first: (M,) first labels, class index or -1 for none.
        embedding: (M, D) mean features of a network over each mask, if there are any.
        random: Random features a block: one of appearance, one of what lies around.
        seed: Of those.

    Raises:
        ShapeError: The arrays are not of the same masks.
    """
    count, classes = len(stats), stats.num_classes
    for name, array in (("appearance", appearance), ("first", first), ("embedding", embedding)):
        if array is not None and len(array) != count:
            raise ShapeError(f"Expected {name} of {count} masks, found {len(array)}.")
    probs = stats.mean_probs
    area = np.maximum(stats.area, 1).astype(np.float32)
    # A mask without a first label has no 1.
    label = np.eye(classes + 1, dtype=np.float32)[np.where(first < 0, classes, first)][:, :classes]
    model = np.concatenate(
        [
            probs,
            np.log(probs + np.float32(1e-4)),
            (stats.pred_counts / area[:, None]).astype(np.float32),
            np.stack(
                [
                    stats.entropy_sum / area,
                    stats.bvsb_sum / area,
                    stats.softmin,
                    stats.sum_pairs(stats.pair_doubt) / area,
                    stats.sum_pairs(stats.pair_similar) / area,
                    (probs * label).sum(axis=1),
                ],
                axis=1,
            ).astype(np.float32),
        ],
        axis=1,
    )
    around = neighbour_means(
        np.concatenate([probs, label, appearance[:, :_COLOURS]], axis=1).astype(np.float32), borders, count
    )
    groups: list[tuple[NDArray[Any], float]] = [(model, 1.0), (label, 1.0), (appearance, 2.0), (around, 1.0)]
    if embedding is not None:
        groups.append((_principal(np.asarray(embedding, dtype=np.float32), seed), 0.5))
    base = np.concatenate([_standard(values) * np.float32(weight) for values, weight in groups], axis=1)
    starts = np.cumsum([0, *(values.shape[1] for values, _ in groups)])
    look, near = slice(starts[2], starts[3]), slice(starts[3], starts[4])
    rng = np.random.default_rng([seed, 1])
    blocks = tuple(_random_block(base, columns, random, width, rng) for columns, width in ((look, 1.5), (near, 1.0)))
    return MaskFeatures(base=base, blocks=blocks, scale=0.85 * float(np.sqrt(300 / max(random, 1))))


def _waves(values: FloatArray, frequencies: FloatArray, phases: FloatArray) -> FloatArray:
    """Random Fourier features, before they are scaled."""
    angle: FloatArray = values @ frequencies
    angle += phases
    np.cos(angle, out=angle)
    return angle


def _standard(values: NDArray[Any]) -> FloatArray:
    """Columns of mean 0 and deviation 1, cut; a constant column becomes 0."""
    values = np.asarray(values, dtype=np.float32)
    if not len(values):
        return values
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled = values - mean
    scaled /= np.maximum(np.sqrt(_squares(scaled) / len(values)), 1e-6).astype(np.float32)
    return np.asarray(np.clip(scaled, -_CLIP, _CLIP, out=scaled), dtype=np.float32)


def _squares(values: FloatArray) -> NDArray[np.float64]:
    """Sums of squares of columns, added up in double precision, with no double of all values."""
    total = np.zeros(values.shape[1])
    for begin in range(0, len(values), _CHUNK):
        total += np.square(values[begin : begin + _CHUNK], dtype=np.float64).sum(axis=0)
    return total


def _principal(values: FloatArray, seed: int) -> FloatArray:
    """Principal components of an embedding, found on at most 20,000 masks."""
    if values.shape[1] <= _EMBEDDED or len(values) <= _EMBEDDED:
        return values
    some = values[np.random.default_rng([seed, 2]).permutation(len(values))[:20_000]]
    mean = some.mean(axis=0, dtype=np.float64).astype(np.float32)
    some -= mean
    deviation = np.sqrt(_squares(some) / len(some)).astype(np.float32)
    # A column that is constant there says nothing, whatever it is elsewhere.
    factor = np.where(deviation > 1e-6, 1 / np.maximum(deviation, np.float32(1e-6)), np.float32(0))
    some *= factor
    _, directions = np.linalg.eigh((some.T @ some).astype(np.float64))
    project = factor[:, None] * directions[:, ::-1][:, :_EMBEDDED].astype(np.float32)
    found = np.empty((len(values), _EMBEDDED), dtype=np.float32)
    for begin in range(0, len(values), _CHUNK):
        found[begin : begin + _CHUNK] = (values[begin : begin + _CHUNK] - mean) @ project
    return found


def _random_block(
    base: FloatArray, columns: slice, random: int, width: float, rng: np.random.Generator
) -> tuple[slice, FloatArray, FloatArray]:
    """Random Fourier features of a Gaussian kernel over some columns, its width in root mean square distances."""
    values = base[:, columns]
    spread = float(np.sqrt(_squares(values).sum() / values.size)) if values.size else 1.0
    scale = width / (max(spread, 1e-6) * np.sqrt(max(values.shape[1], 1)))
    frequencies = rng.normal(size=(values.shape[1], random)) * scale
    phases = rng.uniform(0, 2 * np.pi, random)
    return columns, frequencies.astype(np.float32), phases.astype(np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class Posterior:
    """A fitted regression.

    Attributes:
        weights: (F, K + 1) float32; the last class is "none" (void).
        temperature: Divides the logits; 1 where it was never calibrated.
        error_rate: How often answers name a wrong class, taken out of what was learnt from them.
    """

    weights: FloatArray
    temperature: float = 1.0
    error_rate: float = 0.0

    def predict(self, features: MaskFeatures, which: NDArray[Any] | None = None) -> FloatArray:
        """(M, K + 1) float32 probabilities, summing to 1, of all masks or those `which` names."""
        rows = None if which is None else np.arange(len(features))[which]
        count = len(features) if rows is None else len(rows)
        found = np.empty((count, self.weights.shape[1]), dtype=np.float32)
        for begin in range(0, count, _CHUNK):
            chunk = slice(begin, min(begin + _CHUNK, count))
            logits = features.logits(chunk if rows is None else rows[chunk], self.weights)
            found[chunk] = _softmax(logits / np.float32(self.temperature))
        return _without_errors(found, self.error_rate)


def prior_posterior(stats: MaskStats, first: NDArray[Any]) -> FloatArray:
    """(M, K + 1) what to believe before anyone answered: the first label and the model's mean softmax, half and half."""
    classes = stats.num_classes
    found = np.zeros((len(stats), classes + 1), dtype=np.float32)
    found[:, :classes] = stats.mean_probs
    label = np.eye(classes + 1, dtype=np.float32)[np.where(first < 0, classes, first)]
    found = np.where((first < 0)[:, None], found, 0.5 * found + 0.5 * label)
    return np.asarray(found / np.maximum(found.sum(axis=1, keepdims=True), 1e-9), dtype=np.float32)


def fit_posterior(
    features: MaskFeatures,
    rows: NDArray[Any],
    classes: NDArray[Any],
    weights: NDArray[Any],
    *,
    num_classes: int,
    ridge: float = 10.0,
    error_rate: float = 0.0,
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
        error_rate: Of the answers, see `Posterior`.
        temperature: See `Posterior`.
        start: A posterior fitted before, to go on from.
        steps: Steps of L-BFGS at most.

    Raises:
        InputError: There is nothing to learn from, or a class is outside [0, K].
    """
    if not len(rows):
        raise InputError("There is no answer to learn from yet.")
    if classes.min() < 0 or classes.max() > num_classes:
        raise InputError(f"Expected classes in [0, {num_classes}], found {classes.min()}..{classes.max()}.")
    inputs = features.rows(np.asarray(rows))
    totals = weights.astype(np.float32)[:, None]
    targets = np.eye(num_classes + 1, dtype=np.float32)[classes] * totals
    shape = (inputs.shape[1], num_classes + 1)
    held = np.full((shape[0], 1), ridge)
    # A class that nobody named must not drift away without end.
    held[-1] = 0.1

    def loss(flat: NDArray[Any]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = _loss(flat.reshape(shape), inputs, targets, totals, held)
        return value, gradient.ravel()

    begin = np.zeros(shape) if start is None or start.weights.shape != shape else start.weights.astype(np.float64)
    # Products this small are over before a second thread has begun; threads that wait for each other cost tenfold.
    with _threads().limit(limits=1, user_api="blas"):
        found = minimize(
            loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxcor": 8, "gtol": 1e-2}
        )
    fitted = found.x.reshape(shape).astype(np.float32)
    return Posterior(weights=fitted, temperature=temperature, error_rate=error_rate)


@cache
def _threads() -> ThreadpoolController:
    """Looked up once: finding the loaded libraries takes longer than a refit."""
    return ThreadpoolController()


def _loss(
    weights: NDArray[np.float64], inputs: FloatArray, targets: FloatArray, totals: FloatArray, held: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """What `fit_posterior` minimises, and its gradient.

    Args:
        weights: (F, K + 1).
        inputs: (n, F) features.
        targets: (n, K + 1) weight of each at its class, else 0.
        totals: (n, 1) weight of each.
        held: (F, 1) strength of the regularisation.
    """
    logits = (inputs @ weights.astype(np.float32)).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    exponents = np.exp(logits)
    sums = exponents.sum(axis=1, keepdims=True)
    value = float((totals * np.log(sums)).sum() - (targets * logits).sum())
    residual = (exponents / sums * totals - targets).astype(np.float32)
    gradient = (inputs.T @ residual).astype(np.float64) + held * weights
    return value + 0.5 * float((held * np.square(weights)).sum()), gradient


def calibrate(
    features: MaskFeatures,
    rows: NDArray[Any],
    classes: NDArray[Any],
    weights: NDArray[Any],
    drawn: NDArray[Any],
    *,
    num_classes: int,
    ridge: float = 10.0,
    folds: int = 4,
    fewest: int = 24,
) -> float:
    """The temperature under which masks drawn at random, each left out of the fit, are foretold best.

    Args:
        features: Of all masks.
        rows: (n,) masks to learn from.
        classes: (n,) their classes in [0, K].
        weights: (n,) weights in the fit.
        drawn: (n,) weight of each as a random draw, one over its inclusion probability; 0 for masks that were chosen.
        num_classes: K.
        ridge: As in `fit_posterior`.
        folds: Parts that are left out in turn.
        fewest: Draws below which nothing is changed: 1 comes back.

    Source:
        Temperature scaling (Guo et al. 2017, arXiv:1706.04599), on weighted out-of-fold predictions.
    """
    random = np.flatnonzero(drawn > 0)
    if len(random) < fewest:
        return 1.0
    # Very heavy draws would decide alone.
    heavy = np.minimum(drawn[random], 10 * np.median(drawn[random]))
    logits = np.empty((len(random), num_classes + 1), dtype=np.float32)
    for fold in range(folds):
        out = np.arange(len(random)) % folds == fold
        keep = np.ones(len(rows), dtype=bool)
        keep[np.isin(rows, rows[random[out]])] = False
        if not keep.any():
            return 1.0
        fitted = fit_posterior(features, rows[keep], classes[keep], weights[keep], num_classes=num_classes, ridge=ridge)
        logits[out] = features.logits(rows[random[out]], fitted.weights)
    best, lowest = 1.0, np.inf
    for temperature in np.exp(np.linspace(np.log(0.5), np.log(4.0), 25)):
        probs = _softmax(logits / np.float32(temperature))
        said = probs[np.arange(len(random)), classes[random]]
        value = -float((heavy * np.log(np.maximum(said, 1e-6))).sum())
        if value < lowest:
            best, lowest = float(temperature), value
    return best


def _softmax(logits: NDArray[Any]) -> FloatArray:
    logits = logits - logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    return np.asarray(logits / logits.sum(axis=1, keepdims=True), dtype=np.float32)


def _without_errors(probs: FloatArray, error_rate: float) -> FloatArray:
    """Probabilities of the true class from those of the answer, where an error names any other class alike."""
    others = probs.shape[1] - 1
    if error_rate <= 0 or others < 1:
        return probs
    wrong = error_rate / others
    true = np.maximum(probs - np.float32(wrong), 0) / np.float32(max(1 - error_rate - wrong, 1e-6))
    return np.asarray(true / np.maximum(true.sum(axis=1, keepdims=True), 1e-9), dtype=np.float32)
