"""Pseudo-labels corrected by comparing features with those of labelled pixels (pure).

The idea is PLAR's (arXiv:2501.19227): pixels of one class have similar features, so a pixel whose label is doubted is
compared with the labelled ones by Euclidean and by Mahalanobis distance, corrected where that decides the class, and
left to a person where it does not. The paper's equations were not available to us and its code was not found: every
rule and number below is our own design from that description, not the paper's method.

What is ours: covariances shrunk towards a sphere; a decision only where both distances name the same class; the margin
and its scale; a cap on the distances, beyond which a feature is taken for a class nobody has labelled yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

from a2lc.classes.sentinels import KEEP
from a2lc.errors import InputError, ShapeError

__all__ = ["ClassClusters", "ClusterSums", "Decision"]

DoubleArray = NDArray[np.float64]


@dataclass(kw_only=True)
class ClusterSums:
    """What clusters are made of, added up batch by batch: a data set's features are never in memory together.

    Attributes:
        num_classes: K.
        depth: D, numbers of a feature.
        seed: Of the sample of features kept for the caps.
        capacity: Features kept of each class; 1,024 place a quantile of 0.95 to within 0.7 %.
        count: (K,) features of each class.
        weight: (K,) their summed weights.
        mean: (K, D) weighted mean.
        scatter: (K, D, D) weighted sum of outer products of deviations from the mean. Kept this way and not as a raw
            second moment, from which the mean's square would have to be subtracted with all its digits.
    """

    num_classes: int
    depth: int
    seed: int = 0
    capacity: int = 1024
    count: NDArray[np.int64] = field(init=False)
    weight: DoubleArray = field(init=False)
    mean: DoubleArray = field(init=False)
    scatter: DoubleArray = field(init=False)

    def __post_init__(self) -> None:
        if self.num_classes < 1 or self.depth < 1 or self.capacity < 1:
            raise InputError(
                f"Expected at least one class, one number per feature and one feature kept, found {self.num_classes}, "
                f"{self.depth} and {self.capacity}."
            )
        self.count = np.zeros(self.num_classes, dtype=np.int64)
        self.weight = np.zeros(self.num_classes)
        self.mean = np.zeros((self.num_classes, self.depth))
        self.scatter = np.zeros((self.num_classes, self.depth, self.depth))
        # A generator a class: which features are kept does not depend on how the stream is cut into batches.
        self._random = [np.random.default_rng([self.seed, c]) for c in range(self.num_classes)]
        self._keys = [np.empty(0) for _ in range(self.num_classes)]
        self._kept = [np.empty((0, self.depth), dtype=np.float32) for _ in range(self.num_classes)]
        self._kept_weights = [np.empty(0) for _ in range(self.num_classes)]

    def add(self, features: NDArray[Any], classes: NDArray[Any], weights: NDArray[Any] | None = None) -> None:
        """Add labelled features.

        Args:
            features: (n, D) floating point.
            classes: (n,) integer in [0, K).
            weights: (n,) how much each counts, 0 or more; None for 1.

        Raises:
            ShapeError: The arrays do not belong together, or features are not of D numbers.
            InputError: A class is none of K, a feature is not a number, or a weight is negative or none.
        """
        features = _features(features, self.depth)
        classes = np.asarray(classes)
        given = np.ones(len(features)) if weights is None else np.asarray(weights, dtype=np.float64)
        if classes.shape != features.shape[:1] or given.shape != classes.shape:
            raise ShapeError(
                f"Expected a class and a weight for each of {len(features)} features, found {classes.shape} and "
                f"{given.shape}."
            )
        if not len(classes):
            return
        if classes.min() < 0 or classes.max() >= self.num_classes:
            raise InputError(
                f"Classes must be in [0, {self.num_classes}), found {classes.min()}..{classes.max()}. Omit void."
            )
        if not np.isfinite(given).all() or given.min() < 0:
            raise InputError("Expected weights of at least 0, found a negative one, NaN or infinity.")
        for c in np.unique(classes[given > 0]).tolist():
            mine = (classes == c) & (given > 0)
            self._add_class(c, features[mine], given[mine])

    def sample(self, c: int) -> tuple[DoubleArray, DoubleArray]:
        """Return (m, D) features of class c drawn uniformly, at most `capacity`, and their (m,) weights."""
        return self._kept[c].astype(np.float64), self._kept_weights[c]

    def _add_class(self, c: int, features: DoubleArray, weights: DoubleArray) -> None:
        total = weights.sum()
        mean = weights @ features / total
        deviations = (features - mean) * np.sqrt(weights)[:, None]
        # Two sets put together (Chan, Golub and LeVeque 1979).
        step = mean - self.mean[c]
        both = self.weight[c] + total
        self.scatter[c] += deviations.T @ deviations + np.outer(step, step) * (self.weight[c] * total / both)
        self.mean[c] += step * (total / both)
        self.weight[c] = both
        self.count[c] += len(features)
        # Each feature draws a number, and those with the smallest stay.
        keys = np.concatenate([self._keys[c], self._random[c].random(len(features))])
        stay = np.sort(np.argsort(keys, kind="stable")[: self.capacity])
        old, new = stay[stay < len(self._keys[c])], stay[stay >= len(self._keys[c])] - len(self._keys[c])
        self._keys[c] = keys[stay]
        self._kept[c] = np.concatenate([self._kept[c][old], features[new].astype(np.float32)])
        self._kept_weights[c] = np.concatenate([self._kept_weights[c][old], weights[new]])


@dataclass(frozen=True, eq=False, kw_only=True)
class Decision:
    """What clusters say of n features.

    Attributes:
        classes: (n,) int32, the class where it is decided; elsewhere the class the feature had, or KEEP where none was
            given.
        undecided: (n,) True where a person would have to be asked.
        margin: (n,) float64 in [0, 1], how much nearer the nearest cluster is than the second, see
            `ClassClusters.decide`.
    """

    classes: NDArray[np.int32]
    undecided: NDArray[np.bool_]
    margin: DoubleArray


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassClusters:
    """A Gaussian for each class, and how far from it its own labelled features lie.

    Of n features of class c with covariance S: Σ = (1−γ)·S + γ·(tr S/D)·I. Classes of fewer than two features are left
    out and never named: how far a feature of theirs may lie cannot be told from a single one, and to leave a pixel to
    a person costs a question where to name the wrong class costs a label.

    Attributes:
        classes: (C,) int64, classes that have a cluster, ascending; the rows of what follows.
        means: (C, D) float64.
        whiteners: (C, D, D) float64, inverse Cholesky factors L⁻¹ of the covariances Σ = L·Lᵀ.
        log_dets: (C,) float64, ln det Σ.
        euclidean_caps: (C,) float64, beyond this Euclidean distance a feature is no member.
        mahalanobis_caps: (C,) float64, the same of the Mahalanobis distance √((h−μ)ᵀ Σ⁻¹ (h−μ)).
    """

    classes: NDArray[np.int64]
    means: DoubleArray
    whiteners: DoubleArray
    log_dets: DoubleArray
    euclidean_caps: DoubleArray
    mahalanobis_caps: DoubleArray

    @classmethod
    def fit(
        cls,
        features: NDArray[Any],
        classes: NDArray[Any],
        num_classes: int,
        *,
        shrinkage: float = 0.1,
        distance_quantile: float = 0.95,
        weights: NDArray[Any] | None = None,
        seed: int = 0,
    ) -> Self:
        """Fit clusters to labelled features that fit in memory.

        Args:
            features: (n, D) floating point.
            classes: (n,) integer in [0, K).
            num_classes: K.
            shrinkage: γ in [0, 1], see `from_sums`.
            distance_quantile: See `from_sums`.
            weights: (n,) how much each feature counts, 0 or more; None for 1.
            seed: Of the sample the caps are taken from, where a class has more than 1,024 features.

        Raises:
            ShapeError: The arrays do not belong together.
            InputError: A class is none of K, a feature is not a number, or a setting is out of range.
        """
        array = np.asarray(features)
        if array.ndim != 2:
            raise ShapeError(f"Expected features (n, D), found an array of shape {array.shape}.")
        sums = ClusterSums(num_classes=num_classes, depth=array.shape[1], seed=seed)
        sums.add(array, classes, weights)
        return cls.from_sums(sums, shrinkage=shrinkage, distance_quantile=distance_quantile)

    @classmethod
    def from_sums(cls, sums: ClusterSums, *, shrinkage: float = 0.1, distance_quantile: float = 0.95) -> Self:
        """Fit clusters to accumulated sums.

        The caps are a quantile of the distances of a class's own features, each from the cluster the others would
        make without it. From a cluster it has itself pulled and stretched a feature looks nearer than any new one
        will be, the more so the fewer features there are for D numbers.

        Args:
            sums: At least one class of two features, or nothing will ever be decided.
            shrinkage: γ in [0, 1]: how much of the covariance is a sphere; ours.
            distance_quantile: In (0, 1]: the share of a class's own features that each of the two caps admits; ours.

        Raises:
            InputError: A setting is out of range.
        """
        if not 0 <= shrinkage <= 1:
            raise InputError(f"The share of the sphere in a covariance is {shrinkage}; expected 0..1.")
        if not 0 < distance_quantile <= 1:
            raise InputError(f"The quantile of distances is {distance_quantile}; expected a number above 0, at most 1.")
        classes = np.flatnonzero(sums.count >= 2)
        count, depth = len(classes), sums.depth
        whiteners, log_dets = np.empty((count, depth, depth)), np.empty(count)
        caps = np.empty((2, count))
        weight = sums.weight[classes]
        spread = np.trace(sums.scatter[classes], axis1=1, axis2=2) / depth
        # Features that are all the same have no spread: one that is nothing beside the others', so that the matrix has
        # an inverse.
        least = 1e-9 * spread.sum() / weight.sum() + 1e-12 if count else 0.0
        for row, c in enumerate(classes.tolist()):
            sphere = max(shrinkage * spread[row] / weight[row], least)
            covariance = (1 - shrinkage) * sums.scatter[c] / weight[row] + sphere * np.eye(depth)
            factor = np.linalg.cholesky(covariance)
            whiteners[row] = solve_triangular(factor, np.eye(depth), lower=True)
            log_dets[row] = 2 * np.log(np.diag(factor)).sum()
            sample, given = sums.sample(c)
            deviations = sample - sums.mean[c]
            squares = np.square(deviations @ whiteners[row].T).sum(axis=1)
            # Without the feature, of weight w of W: mean and covariance by a rank-one step of the scatter; its trace, and
            # so the sphere, is left as it is.
            rest = weight[row] / np.maximum(weight[row] - given, 1e-12 * weight[row])
            bent = 1 - (1 - shrinkage) * given * squares * rest / weight[row]
            mahalanobis = np.sqrt(rest * squares / np.maximum(bent, 1e-12))
            euclidean = np.linalg.norm(deviations, axis=1) * rest
            for place, distances in enumerate((euclidean, mahalanobis)):
                caps[place, row] = np.quantile(distances, distance_quantile, weights=given, method="inverted_cdf")
        return cls(
            classes=classes,
            means=sums.mean[classes],
            whiteners=whiteners,
            log_dets=log_dets,
            euclidean_caps=caps[0],
            mahalanobis_caps=caps[1],
        )

    def decide(self, features: NDArray[Any], *, margin: float = 0.1, current: NDArray[Any] | None = None) -> Decision:
        """Name the class of features where that can be told.

        c_E is the class of the nearest mean, c_M that of the smallest s = (h−μ)ᵀ Σ⁻¹ (h−μ) + ln det Σ. A feature is
        decided where the two are the same class, its margin is above `margin`, and neither of its distances to that
        class is beyond the cap.

        The margin is t / (t + max(m, D)), where t ≥ 0 is how much larger s is for the second-best class, and m the
        squared Mahalanobis distance to the best. With equal determinants and m of D or more this is 1 − m/m₂, the
        share by which the best is nearer. D is what a cluster's own features have on average: between two means
        that coincide, the ratio of two distances much smaller than that says nothing. With a single cluster it is 1.

        Args:
            features: (n, D) floating point.
            margin: In [0, 1].
            current: (n,) classes the features have now, any integers; kept where nothing is decided.

        Raises:
            ShapeError: The features are not of D numbers, or `current` not of n.
            InputError: A feature is not a number, or the margin is out of range.
        """
        features = _features(features, self.means.shape[1])
        if not 0 <= margin <= 1:
            raise InputError(f"The margin is {margin}; expected 0..1.")
        count = len(features)
        kept = np.full(count, KEEP) if current is None else np.asarray(current)
        if kept.shape != (count,):
            raise ShapeError(f"Expected a current class for each of {count} features, found {kept.shape}.")
        if not len(self.classes) or not count:
            return Decision(classes=kept.astype(np.int32), undecided=np.ones(count, dtype=bool), margin=np.zeros(count))
        euclidean, mahalanobis = np.empty((2, len(self.classes), count))
        for row, (mean, whitener) in enumerate(zip(self.means, self.whiteners, strict=True)):
            deviations = features - mean
            euclidean[row] = np.einsum("nd,nd->n", deviations, deviations)
            white = deviations @ whitener.T
            mahalanobis[row] = np.einsum("nd,nd->n", white, white)
        scores = mahalanobis + self.log_dets[:, None]
        best, each = scores.argmin(axis=0), np.arange(count)
        nearest = mahalanobis[best, each]
        if len(self.classes) > 1:
            lead = np.partition(scores, 1, axis=0)[1] - scores[best, each]
            margins = lead / (lead + np.maximum(nearest, features.shape[1]))
        else:
            margins = np.ones(count)
        decided = (
            (best == euclidean.argmin(axis=0))
            & (margins > margin)
            & (nearest <= self.mahalanobis_caps[best] ** 2)
            & (euclidean[best, each] <= self.euclidean_caps[best] ** 2)
        )
        return Decision(
            classes=np.where(decided, self.classes[best], kept).astype(np.int32), undecided=~decided, margin=margins
        )


def _features(features: NDArray[Any], depth: int) -> DoubleArray:
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != depth:
        raise ShapeError(f"Expected features (n, {depth}), found an array of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError("Expected features that are numbers, found NaN or infinity.")
    return array
