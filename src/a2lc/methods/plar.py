"""PLAR: pseudo labels refined where they are doubtful and their features decide; the undecided goes to the annotator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import KEEP, VOID
from a2lc.correction.clusters import ClassClusters, ClusterSums
from a2lc.errors import ConfigError, InputError
from a2lc.methods.base import Labeller, MaskColumns, Method, NetworkSpec, PixelLabels, PoolSpec, QuerySpec, register
from a2lc.records import AnswerKind, Inspection, PixelView, QueryKind, RoundView
from a2lc.statistics.features import FeatureMap
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["PLAR"]

_SAMPLES = 512  # labelled pixels of an image that its classes' clusters are fitted on


@register(
    "plar",
    paper="Ma et al. 2025, arXiv:2501.19227 (equations not available: our design from its description)",
    summary=("starts from some labelled images: refines doubtful pseudo labels by features, asks about undecided ones"),
)
@dataclass(frozen=True, kw_only=True)
class PLAR(Method):
    """Pseudo labels with automatic refinement (after Ma et al. 2025, arXiv:2501.19227).

    A teacher labels the unlabelled pixels. An error mask, by a head trained on labels the networks never saw, says where
    it is probably wrong. There the pixel's feature decides, if the nearest class of labelled pixels is the same by
    Euclidean and by Mahalanobis distance, clearly so, and near enough (cluster assumption); else the method abstains, and
    masks with most such pixels are asked about. The paper's equations were not available: docs/methods/plar.md says
    which choices are ours, which is all of them.
    """

    acquisition: str = "margin"  # between masks with nothing undecided
    error_threshold: float = 0.3  # τ_e: pseudo labels that are wrong with more than this chance are doubtful
    margin: float = 0.1  # least relative distance between the nearest and the second-nearest class
    shrinkage: float = 0.1  # of the covariances
    distance_quantile: float = 0.95  # of labelled pixels' distances: beyond it a pixel belongs to no known class
    refine: bool = True  # False: doubtful pixels are left without a label, all of them
    first_labels: Literal["trusted", "doubtful"] = "trusted"  # doubtful: only answers count as labelled

    starts: ClassVar[str] = "subset"
    pool: ClassVar[PoolSpec] = PoolSpec(extra_columns=("undecided",))

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ConfigError: A number is outside [0, 1].
        """
        for name in ("error_threshold", "margin", "shrinkage", "distance_quantile"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must be in [0, 1], found {getattr(self, name)}.")

    @property
    def query(self) -> QuerySpec:
        """Ask for the main class of a mask."""
        return QuerySpec(kind=QueryKind.DOMINANT)

    @property
    def network(self) -> NetworkSpec:
        """Train with a head that predicts errors, on unlabeled pixels as well."""
        return NetworkSpec(head="error", objective="semi", trusts_initial_labels=self.first_labels == "trusted")

    @property
    def pixel_labels(self) -> PixelLabels:
        """Refine the pseudo labels of unlabeled pixels."""
        return PixelLabels(labeller=self.labeller)

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """Return the expected wrong pixels among the undecided of a mask, then its margin."""
        return view.extra["undecided"].astype(np.float64) + 1e-3 * super().score(view)

    def mask_columns(self, view: PixelView) -> MaskColumns:
        """Add `undecided`: the summed chance of an error over the unlabeled pixels of a mask that nothing decides."""
        clusters = self._clusters(view)

        def columns(
            image: int, inspection: Inspection, stats: MaskStats, mask_map: NDArray[Any]
        ) -> dict[str, NDArray[Any]]:
            said = self._refined(view, image, inspection, clusters)
            assert inspection.errors is not None
            undecided = (said == KEEP) & (self._trusted(view, image) == VOID)
            mass = np.bincount(mask_map.ravel(), weights=(inspection.errors * undecided).ravel())
            return {"undecided": mass[stats.mask_ids].astype(np.float32)}

        return columns

    def labeller(self, view: PixelView) -> Labeller:
        """Label unlabeled pixels with pseudo labels, refined or withheld where they are doubtful."""
        if view.inspect is None:
            return lambda image: None
        clusters = self._clusters(view)
        inspect = view.inspect
        return lambda image: self._refined(view, image, inspect(image), clusters)

    def _trusted(self, view: PixelView, image: int) -> NDArray[np.int32]:
        """Return the (H, W) labels that were given: class, or VOID."""
        labels = view.labels(image)
        if self.first_labels == "trusted":
            return labels
        named = {AnswerKind.CONFIRM, AnswerKind.CORRECT, AnswerKind.CLASSES}
        masks = [m for a in view.answers.get(image, ()) if a.kind in named and len(a.classes) == 1 for m in a.mask_ids]
        return np.where(np.isin(view.mask_map(image), masks), labels, VOID).astype(np.int32)

    def _clusters(self, view: PixelView) -> ClassClusters | None:
        """Locate the features of each class, from a sample of the labelled pixels; None without any."""
        sums: ClusterSums | None = None
        assert view.inspect is not None
        # Many images with few labels each need no larger sample than a few with many.
        each = max(_SAMPLES // 8, _SAMPLES * 64 // max(64, len(view.images)))
        for image in view.images:
            trusted = self._trusted(view, image)
            places = np.flatnonzero(trusted != VOID)
            if not len(places):
                continue
            rng = np.random.default_rng([view.seed, image])
            places = np.sort(rng.choice(places, size=min(each, len(places)), replace=False))
            # Features of the cells themselves, as they are decided on: interpolated ones lie closer together.
            features = _features(view.inspect(image), image)
            rows, cols = np.unravel_index(places, trusted.shape)
            found = features.values[:, features.rows.argmax(axis=1)[rows], features.cols.argmax(axis=1)[cols]].T
            if sums is None:
                sums = ClusterSums(depth=found.shape[1], num_classes=view.num_classes, seed=view.seed)
            sums.add(found, trusted.ravel()[places])
        if sums is None:
            return None
        return ClassClusters.from_sums(sums, shrinkage=self.shrinkage, distance_quantile=self.distance_quantile)

    def _refined(
        self, view: PixelView, image: int, seen: Inspection, clusters: ClassClusters | None
    ) -> NDArray[np.int32]:
        """Return the (H, W) pseudo labels of unlabeled pixels; KEEP for undecided and for labelled ones."""
        features = _features(seen, image)
        assert seen.errors is not None
        said: NDArray[np.int32] = seen.probs.argmax(axis=0).astype(np.int32)
        doubtful = seen.errors > self.error_threshold
        if clusters is None or not self.refine:
            said[doubtful] = KEEP
        elif doubtful.any():
            rows, cols = features.rows.argmax(axis=1)[:, None], features.cols.argmax(axis=1)
            # Only cells with a doubtful pixel in them.
            wanted = np.zeros(features.values.shape[1:], dtype=bool)
            wanted[np.broadcast_to(rows, said.shape)[doubtful], np.broadcast_to(cols, said.shape)[doubtful]] = True
            decision = clusters.decide(features.values[:, wanted].T, margin=self.margin)
            by_cell = np.full(wanted.shape, KEEP, dtype=np.int32)
            by_cell[wanted] = np.where(decision.undecided, KEEP, decision.classes)
            said = np.where(doubtful, by_cell[rows, cols], said).astype(np.int32)
        said[self._trusted(view, image) != VOID] = KEEP
        void = [m for a in view.answers.get(image, ()) if a.kind == AnswerKind.VOID for m in a.mask_ids]
        if void:  # someone has said that there is no class
            said[np.isin(view.mask_map(image), void)] = KEEP
        return said


def _features(seen: Inspection, image: int) -> FeatureMap:
    if seen.features is None or seen.errors is None:
        raise InputError(
            "Method 'plar' needs a model that it trained itself, but the last one was trained for another "
            "method. Create a new project for it."
        )
    return seen.features
