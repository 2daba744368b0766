"""MulActSeg: "which classes are in this region?", losses on such sets, and labels found inside and beside the region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.functions import pixbal_weights, score
from a2lc.correction.localise import localise
from a2lc.errors import ConfigError
from a2lc.methods.base import Labeller, Method, NetworkSpec, PixelLabels, PoolSpec, QuerySpec, register
from a2lc.records import AnswerKind, PixelView, QueryKind, RoundView

__all__ = ["MulActSeg"]


@register(
    "mulactseg",
    paper="Hwang et al., NeurIPS 2023, arXiv:2309.09319",
    summary="starts without labels: asks for all classes of a superpixel, then assigns them to its pixels",
)
@dataclass(frozen=True, kw_only=True)
class MulActSeg(Method):
    """Active learning with multi-class queries (Hwang et al., NeurIPS 2023, arXiv:2309.09319).

    Two networks a round: the first learns from sets of classes and chooses the next regions; the second learns from the
    pixel labels that the first one's features give, and is the one that is measured and kept.
    Differences from the paper and its code are listed in docs/methods/mulactseg.md.
    """

    acquisition: str = "pixbal"
    nu: float = 6.0  # ν of PixBal: 6 on Cityscapes, 12 on PASCAL VOC
    variant: Literal["code", "slides"] = "slides"  # where the two differ: pooling of losses, and expansion
    expand: bool = True
    expand_single: bool = True  # regions of one class spread their label too, the code's default
    single_weight: float = 16.0
    several_weight: float = 8.0
    prototype_weight: float = 1.0
    overshoot: bool = False  # True: the answer that passes the budget is taken, as coded

    starts: ClassVar[str] = "nothing"
    pool: ClassVar[PoolSpec] = PoolSpec(totals=True)

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ConfigError: A weight is negative.
        """
        for name in ("nu", "single_weight", "several_weight", "prototype_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be 0 or more, found {getattr(self, name)}.")

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """PixBal, by the mean prediction over the whole pool."""
        if self.acquisition != "pixbal" or view.totals is None:
            return super().score(view)
        return score("pixbal", view.stats, weights=pixbal_weights(view.totals.mean_probs, self.nu))

    def labeller(self, view: PixelView) -> Labeller:
        """Label the pixels of answered regions of an image by their prototypes, and those of neighbouring regions."""

        def label(image: int) -> NDArray[np.int32] | None:
            # Void is an answer too: nothing spreads into such a region.
            answered = {
                mask: () if answer.kind == AnswerKind.VOID else answer.classes
                for answer in view.answers.get(image, ())
                if answer.classes or answer.kind == AnswerKind.VOID
                for mask in answer.mask_ids
            }
            if not any(answered.values()) or view.inspect is None:
                return None
            seen = view.inspect(image)
            assert seen.features is not None and seen.class_logits is not None  # the network is this method's own
            return localise(
                seen.features,
                seen.class_logits,
                view.mask_map(image),
                answered,
                variant=self.variant,
                expand=self.expand,
                expand_single=self.expand_single,
            )

        return label

    @property
    def query(self) -> QuerySpec:
        """Ask for all classes of a region; each is a click."""
        return QuerySpec(kind=QueryKind.CLASSES, overshoots=self.overshoot)

    @property
    def network(self) -> NetworkSpec:
        """Train with a cosine classifier, whose weights are the prototypes."""
        return NetworkSpec(head="cosine")

    @property
    def pixel_labels(self) -> PixelLabels:
        """Localise the classes of answered regions by the features of a first network; a second one learns from them."""
        losses = {
            "pooling": self.variant,
            "single_weight": self.single_weight,
            "several_weight": self.several_weight,
            "prototype_weight": self.prototype_weight,
        }
        return PixelLabels(labeller=self.labeller, region_losses=losses)
