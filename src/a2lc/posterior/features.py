"""Describe each mask by numbers that a linear model can learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ShapeError
from a2lc.posterior.prior import prior_logits
from a2lc.statistics.appearance import Borders, neighbour_means
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["CHUNK", "MaskFeatures", "mask_features", "principal_components", "standardised"]


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


CHUNK = 1 << 14  # smaller ones fit the cache better, but make the threads of a matrix product wait more often


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskFeatures:
    """Features of M masks; the random ones are made when they are needed.

    Attributes:
        base: (M, B) float32, standardised, cut at 4 standard deviations and weighed by group.
        blocks: For each block of random features, its columns in `base`, (b, r) frequencies and (r,) phases.
        scale: Of each random feature.
        start: (M, K + 1) float32 logits to which weighed features add, or None for 0.
    """

    base: FloatArray
    blocks: tuple[tuple[slice, FloatArray, FloatArray], ...]
    scale: float
    start: FloatArray | None = None

    def __len__(self) -> int:
        """Return the number of masks, M."""
        return len(self.base)

    @property
    def width(self) -> int:
        """Number of features, with the constant one."""
        return int(self.base.shape[1]) + sum(len(phase) for _, _, phase in self.blocks) + 1

    def rows(self, which: NDArray[Any] | slice) -> FloatArray:
        """Return the (n, F) features of some masks; the last column is 1."""
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
        """Compute `start[which] + rows(which) @ weights` without putting the rows together."""
        base = self.base[which]
        begin = base.shape[1]
        found: FloatArray = base @ weights[:begin]
        found += weights[-1]
        if self.start is not None:
            found += self.start[which]
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
    """Describe all that is known of masks before anyone is asked, as numbers of one scale.

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
        groups.append((principal_components(np.asarray(embedding, dtype=np.float32), seed), 0.5))
    base = np.concatenate([standardised(values) * np.float32(weight) for values, weight in groups], axis=1)
    starts = np.cumsum([0, *(values.shape[1] for values, _ in groups)])
    look, near = slice(starts[2], starts[3]), slice(starts[3], starts[4])
    rng = np.random.default_rng([seed, 1])
    blocks = tuple(_random_block(base, columns, random, width, rng) for columns, width in ((look, 1.5), (near, 1.0)))
    return MaskFeatures(
        base=base, blocks=blocks, scale=0.85 * float(np.sqrt(300 / max(random, 1))), start=prior_logits(stats, first)
    )


def _waves(values: FloatArray, frequencies: FloatArray, phases: FloatArray) -> FloatArray:
    """Random Fourier features, before they are scaled."""
    angle: FloatArray = values @ frequencies
    angle += phases
    np.cos(angle, out=angle)
    return angle


def standardised(values: NDArray[Any]) -> FloatArray:
    """Scale columns to mean 0 and deviation 1, clipped; a constant column becomes 0."""
    values = np.asarray(values, dtype=np.float32)
    if not len(values):
        return values
    mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
    scaled = values - mean
    scaled /= np.maximum(np.sqrt(_squares(scaled) / len(values)), 1e-6).astype(np.float32)
    return np.asarray(np.clip(scaled, -_CLIP, _CLIP, out=scaled), dtype=np.float32)


def _squares(values: FloatArray) -> NDArray[np.float64]:
    """Sum squares of columns in double precision, without a double copy of all values."""
    total = np.zeros(values.shape[1])
    for begin in range(0, len(values), CHUNK):
        total += np.square(values[begin : begin + CHUNK], dtype=np.float64).sum(axis=0)
    return total


def principal_components(values: FloatArray, seed: int) -> FloatArray:
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
    for begin in range(0, len(values), CHUNK):
        found[begin : begin + CHUNK] = (values[begin : begin + CHUNK] - mean) @ project
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
