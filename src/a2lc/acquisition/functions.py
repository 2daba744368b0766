"""Acquisition functions: what ranks masks; the higher the score, the earlier a mask is asked about.

Each is a pure function of `MaskStats`. They differ in whether they grow with the mask: `sim` and `abc` are sums
over pixels, so large masks come first, as published; the others are means or values of one pixel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ShapeError, require_known
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["ACQUISITIONS", "Acquisition", "class_weights", "pixbal_weights", "score", "share_weights"]

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Acquisition:
    """An acquisition function and what it reads.

    Attributes:
        name: As the command line has it.
        function: From statistics, class weights or None, and a seed, to (M,) scores.
        columns: Fields of `MaskStats` it needs, so that selection reads no others from disk.
        summary: One line for `a2lc methods`.
    """

    name: str
    function: Callable[[MaskStats, NDArray[Any] | None, int], Scores]
    columns: frozenset[str]
    summary: str


ACQUISITIONS: dict[str, Acquisition] = {}


def _register(name: str, columns: str, summary: str) -> Callable[[Any], Any]:
    def add(function: Callable[[MaskStats, NDArray[Any] | None, int], Scores]) -> Any:
        ACQUISITIONS[name] = Acquisition(name, function, frozenset(columns.split()) | {"image", "mask_ids"}, summary)
        return function

    return add


def score(name: str, stats: MaskStats, *, weights: NDArray[Any] | None = None, seed: int = 0) -> Scores:
    """Score masks by an acquisition function.

    Args:
        name: One of `ACQUISITIONS`.
        stats: Statistics of M masks.
        weights: (K,) class weights: for `abc` by label, None weighs all alike; for `classbal`, `amss` and `pixbal` by
            predicted class, None takes the masks of `stats` for the whole pool and derives the weights from them.
        seed: For `random` alone.

    Returns:
        (M,) float64, finite; higher is asked first.

    Raises:
        UnknownNameError: There is no function of that name.
        ShapeError: `weights` is not (K,).
    """
    require_known("acquisition function", name, ACQUISITIONS)
    if weights is not None and np.shape(weights) != (stats.num_classes,):
        raise ShapeError(f"Expected a weight for each of {stats.num_classes} classes, found {np.shape(weights)}.")
    return ACQUISITIONS[name].function(stats, weights, seed)


@_register("random", "", "uniform over masks")
def _random(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """Uniform in [0, 1), a function of seed, image and mask alone: shards and their order leave it alone."""
    # splitmix64 (Steele, Lea and Flood 2014), whose output bits pass the usual tests of randomness.
    key = (stats.image.astype(np.uint64) << np.uint64(32)) | stats.mask_ids.astype(np.uint64)
    with np.errstate(over="ignore"):
        z = key * np.uint64(0x9E3779B97F4A7C15) + np.uint64((seed * 0xD1342543DE82EF95 + 1) % 2**64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    return np.asarray((z >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


@_register("entropy", "entropy_sum area", "mean entropy of the mask's pixels")
def _entropy(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """Average the entropy of the probabilities over the pixels, in nats, [0, ln K]."""
    return np.asarray(stats.entropy_sum / stats.area, dtype=np.float64)


@_register("margin", "bvsb_sum area", "mean ratio of the second-best to the best probability (BvSB)")
def _margin(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """Average second-best over best probability (BvSB) over the pixels, [0, 1]: u(s) of ClassBal and AMSS."""
    return np.asarray(stats.bvsb_sum / stats.area, dtype=np.float64)


@_register("softmin", "softmin", "soft minimum of the confidence in the labels (cleanlab)")
def _softmin(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """Return one minus the soft minimum of label confidences over the mask's pixels, [0, 1] (arXiv:2307.05080)."""
    return 1.0 - stats.softmin.astype(np.float64)


@_register("cil", "representative_doubt", "one minus the probability of the label, at the representative pixel (CIL)")
def _cil(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """CIL of ALC at the representative pixel, [0, 1] (arXiv:2403.10820)."""
    return stats.representative_doubt.astype(np.float64)


@_register("lcil", "pair_doubt area", "one minus the probability of the label, mean over the mask (LCIL)")
def _lcil(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """LCIL of ALC: mean of CIL over the mask, [0, 1] (arXiv:2403.10820)."""
    return stats.sum_pairs(stats.pair_doubt) / stats.area


@_register(
    "sim",
    "pair_similar_representative",
    "CIL times similarity to the representative pixel, summed over pixels (ALC)",
)
def _sim(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """SIM of ALC: sum of CIL times the cosine to the representative pixel, [0, area] (arXiv:2403.10820)."""
    return stats.sum_pairs(stats.pair_similar_representative)


@_register(
    "abc",
    "pair_similar pair_label",
    "CIL times similarity to the mask, summed over pixels, rare classes weighted up (A2LC)",
)
def _abc(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """Score ABC of A2LC: the sum of w[label] times CIL times the cosine to the mask's direction (arXiv:2506.11599)."""
    if weights is None:
        return stats.sum_pairs(stats.pair_similar)
    return stats.sum_pairs(stats.pair_similar * np.asarray(weights, dtype=np.float64)[stats.pair_label])


@_register("classbal", "bvsb_sum area dominant", "BvSB, lower for classes that are predicted for many masks (ClassBal)")
def _classbal(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """ClassBal: u(s)·exp(−p(Do(s))), [0, 1], p the share of masks by dominant prediction (Cai et al., CVPR 2021)."""
    if weights is None:
        weights = share_weights(np.bincount(stats.dominant, minlength=stats.num_classes))
    return np.asarray(score("margin", stats) * np.asarray(weights, dtype=np.float64)[stats.dominant])


@_register("amss", "bvsb_sum area dominant", "BvSB, lower for classes that are predicted for many pixels (AMSS)")
def _amss(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """Score AMSS: u(s)·exp(−p(D(s))), [0, 1], p the share of pixels by dominant prediction (arXiv:2303.16817)."""
    if weights is None:
        weights = share_weights(np.bincount(stats.dominant, weights=stats.area, minlength=stats.num_classes))
    return np.asarray(score("margin", stats) * np.asarray(weights, dtype=np.float64)[stats.dominant])


@_register(
    "pixbal", "pred_bvsb prob_sums area", "BvSB, lower for pixels of classes that are predicted often (MulActSeg)"
)
def _pixbal(stats: MaskStats, weights: NDArray[Any] | None, seed: int) -> Scores:
    """PixBal: mean over pixels of u(x)/(1 + ν·P(c_b(x)))², [0, 1] (arXiv:2309.09319)."""
    if weights is None:
        pixels = max(1, int(stats.area.sum()))
        weights = pixbal_weights(stats.prob_sums.sum(axis=0, dtype=np.float64) / pixels)
    return np.asarray(stats.pred_bvsb.astype(np.float64) @ np.asarray(weights, dtype=np.float64) / stats.area)


def share_weights(counts: NDArray[Any] | list[int]) -> NDArray[np.float64]:
    """Return the weights of ClassBal and AMSS: exp(−p) of the share p of each class, [1/e, 1].

    Args:
        counts: (K,) masks (ClassBal) or pixels (AMSS) by dominant predicted class, over the whole pool.

    Example:
        >>> share_weights([3, 1, 0]).round(6)
        array([0.472367, 0.778801, 1.      ])
    """
    counts = np.asarray(counts, dtype=np.float64)
    return np.asarray(np.exp(-counts / max(float(counts.sum()), 1e-300)), dtype=np.float64)


def pixbal_weights(mean_probs: NDArray[Any] | list[float], nu: float = 6.0) -> NDArray[np.float64]:
    """Return the weights of PixBal: (1 + ν·P(c))⁻², (0, 1].

    Args:
        mean_probs: (K,) mean predicted probability of each class over all pixels of the pool.
        nu: ν: 6 on Cityscapes, 12 on PASCAL VOC as published.

    Example:
        >>> pixbal_weights([0, 0.01, 0.1, 0.37]).round(4)
        array([1.    , 0.89  , 0.3906, 0.0964])
    """
    return np.asarray((1.0 + nu * np.asarray(mean_probs, dtype=np.float64)) ** -2.0, dtype=np.float64)


@overload
def class_weights(
    pixels_per_class: Mapping[int, int], *, void_pixels: int = 0, power: float = 3.0
) -> dict[int, float]: ...
@overload
def class_weights(
    pixels_per_class: NDArray[Any] | list[int], *, void_pixels: int = 0, power: float = 3.0
) -> NDArray[np.float64]: ...
def class_weights(
    pixels_per_class: Mapping[int, int] | NDArray[Any] | list[int], *, void_pixels: int = 0, power: float = 3.0
) -> dict[int, float] | NDArray[np.float64]:
    """Return ABC's adaptive class weights: (min N / N[c]) ** KL(P‖U)^power, over the classes that occur.

    As coded by the authors, void counts as a class of its own in the minimum, in P and in the number of classes;
    pass `void_pixels=0` to leave it out (what that changes is in docs/methods/a2lc.md). The numerator is the same
    for all classes and never changes a ranking.

    Args:
        pixels_per_class: (K,) pixels now labelled with each class inside masks not yet asked about, or a
            mapping from class to pixels, in which void is one more key.
        void_pixels: Pixels in those masks without a class, for the published rule; 0 leaves void out.
        power: Exponent of the divergence; 3 as published, 0 weighs by inverse frequency.

    Returns:
        (K,) float64 in [0, 1], 0 for a class that does not occur; a mapping gets a mapping.

    Source:
        A2LC (arXiv:2506.11599), class rarity and data set imbalance scores; P is of pixels, logarithms natural.

    Example:
        >>> class_weights(np.array([1000, 100, 10])).round(6)
        array([0.148571, 0.385449, 1.      ])
    """
    if isinstance(pixels_per_class, Mapping):
        keys = list(pixels_per_class)
        values = class_weights(np.array([pixels_per_class[key] for key in keys]), void_pixels=void_pixels, power=power)
        return {key: float(value) for key, value in zip(keys, values, strict=True)}
    counts = np.append(np.asarray(pixels_per_class, dtype=np.float64), float(void_pixels))
    present = counts > 0
    weights = np.zeros(len(counts))
    if present.any():
        some = counts[present]
        share = some / some.sum()
        divergence = max(0.0, float(np.sum(share * np.log(share * len(some)))))
        weights[present] = (some.min() / some) ** (divergence**power)
    return weights[:-1]
