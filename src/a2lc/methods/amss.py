"""AMSS: superpixels merged anew each round by what the model says of them, and answers sieved by its confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.functions import ACQUISITIONS, score, share_weights
from a2lc.classes.sentinels import KEEP, VOID
from a2lc.correction.sieve import sieve
from a2lc.errors import ConfigError, require_known
from a2lc.masks.merge import adjacency, merge_masks
from a2lc.methods.base import Labeller, MaskColumns, Method, PixelLabels, PoolSpec, QuerySpec, register
from a2lc.records import AnswerKind, Inspection, PixelView, QueryKind, RoundView
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["AMSS"]

_OF_SUMS = ("amss", "classbal", "margin", "entropy", "lcil", "pixbal", "random")


@register(
    "amss",
    paper="Kim et al., ICCV 2023, arXiv:2303.16817",
    summary=("starts without labels: merges similar superpixels, asks for their dominant class, drops unlikely pixels"),
)
@dataclass(frozen=True, kw_only=True)
class AMSS(Method):
    """Adaptive superpixel merging and sieving (Kim et al., ICCV 2023, arXiv:2303.16817).

    A merged superpixel is a group of base masks: the base masks never change, so neither does what the ledger means.
    Differences from the paper and its code are listed in docs/methods/amss.md.
    """

    acquisition: str = "amss"
    merge: bool = True
    epsilon: float = 0.1  # ε: largest divergence from the root of a merged superpixel
    partial: float = 1.0  # share of the base masks that may be absorbed; 0.1 is the published partial merging
    sieving: bool = True
    sieve_pixels: int = 512  # regions of fewer pixels are kept whole, as coded
    sieve_points: int = 20  # of the sorted confidences among which the knee is sought
    ask_again: bool = False  # True: regions may hold masks that were answered, as coded
    share_divisor: float = 1.0  # 4 as coded on Cityscapes: pixels counted at half, divided at full resolution

    starts: ClassVar[str] = "nothing"
    pool: ClassVar[PoolSpec] = PoolSpec(totals=True, extra_columns=("region",))

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ConfigError: A number is outside its range, or scores cannot be added up.
            UnknownNameError: There is no such acquisition function.
        """
        for name, low, high in (("epsilon", 0, 1), ("partial", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"{name} must be in [{low}, {high}], found {getattr(self, name)}.")
        require_known("acquisition function", self.acquisition, ACQUISITIONS)
        if self.acquisition not in _OF_SUMS:
            raise ConfigError(
                f"acquisition {self.acquisition!r} cannot be summed over merged masks; use {', '.join(_OF_SUMS)}."
            )
        if self.sieve_points < 2 or self.sieve_pixels < 1 or not self.share_divisor > 0:
            raise ConfigError("sieve_points must be 2 or more, sieve_pixels 1 or more, share_divisor above 0.")

    def columns(self) -> frozenset[str]:
        """Return the sums that groups of masks are scored by."""
        return super().columns() | {"pred_counts", "prob_sums", "pred_bvsb", "label"}

    def mask_columns(self, view: PixelView) -> MaskColumns:
        """Add `region`: the mask id of the root that each base mask was merged into."""

        def columns(
            image: int, inspection: Inspection, stats: MaskStats, mask_map: NDArray[Any]
        ) -> dict[str, NDArray[Any]]:
            if not self.merge or not len(stats):
                return {"region": stats.mask_ids}
            edges = adjacency(mask_map, stats.mask_ids)
            limit = None if self.partial >= 1 else int(self.partial * len(stats))
            uncertainty = stats.bvsb_sum / stats.area
            root = merge_masks(stats.mean_probs, uncertainty, edges, epsilon=self.epsilon, max_absorbed=limit)
            return {"region": stats.mask_ids[root]}

        return columns

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """BvSB by e to the minus share of pixels in regions that are mainly taken for the same class."""
        if self.acquisition != "amss" or view.totals is None:
            return super().score(view)
        weights = share_weights(view.totals.pixels_by_dominant) ** (1 / self.share_divisor)
        return score("amss", view.stats, weights=weights)

    def labeller(self, view: PixelView) -> Labeller:
        """Mark as void the pixels of answered regions that the model finds unlikely to be of the answered class."""

        def label(image: int) -> NDArray[np.int32] | None:
            answers = [
                answer
                for answer in view.answers.get(image, ())
                if answer.kind in {AnswerKind.CONFIRM, AnswerKind.CORRECT}
            ]
            if not answers or view.inspect is None:
                return None
            mask_map, probs = view.mask_map(image), view.inspect(image).probs
            said = np.full(mask_map.shape, KEEP, dtype=np.int32)
            area = np.bincount(mask_map.ravel())
            for answer in answers:
                masks = [mask for mask in answer.mask_ids if mask < len(area)]
                if int(area[masks].sum()) < self.sieve_pixels:
                    continue
                inside = np.isin(mask_map, masks)
                keep = sieve(probs[answer.classes[0]][inside], points=self.sieve_points)
                said[inside] = np.where(keep, KEEP, VOID)
            return said

        return label

    @property
    def query(self) -> QuerySpec:
        """Ask for the main class of a merged superpixel."""
        return QuerySpec(kind=QueryKind.DOMINANT, once=not self.ask_again)

    @property
    def pixel_labels(self) -> PixelLabels | None:
        """Sieve the pixels of answered regions, unless sieving is off."""
        return PixelLabels(labeller=self.labeller) if self.sieving else None
