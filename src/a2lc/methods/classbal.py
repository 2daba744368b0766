"""ClassBal: superpixels asked about where the model wavers, rarer classes first, at realistic click costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.functions import score, share_weights
from a2lc.methods.base import Method, PixelLabels, PoolSpec, QuerySpec, register
from a2lc.records import QueryKind, RoundView

__all__ = ["ClassBal"]


@register(
    "classbal",
    paper="Cai et al., CVPR 2021 (Revisiting Superpixels for Active Learning)",
    summary="starts without labels: asks for the dominant class of uncertain superpixels, rare classes first",
)
@dataclass(frozen=True, kw_only=True)
class ClassBal(Method):
    """Superpixels with realistic annotation costs (Cai et al., CVPR 2021).

    `labelling="dominant"` asks for one class a region, one click; `precise` for the class of every pixel, at the clicks
    of polygons. With rectangles as masks (`a2lc masks --method grid`) the second is the paper's Rec+Pr.
    Differences from the paper and its code are listed in docs/methods/classbal.md.
    """

    acquisition: str = "classbal"
    labelling: Literal["dominant", "precise"] = "dominant"
    overshoot: bool = False  # True: the answer that passes the budget is taken, as coded

    starts: ClassVar[str] = "nothing"
    pool: ClassVar[PoolSpec] = PoolSpec(totals=True)

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """BvSB by e to the minus share of masks that are mainly taken for the same class."""
        if self.acquisition != "classbal" or view.totals is None:
            return super().score(view)
        return score("classbal", view.stats, weights=share_weights(view.totals.masks_by_dominant))

    @property
    def query(self) -> QuerySpec:
        """Ask for the main class of a region, or for the class of each of its pixels."""
        kind = QueryKind.DOMINANT if self.labelling == "dominant" else QueryKind.PRECISE
        return QuerySpec(kind=kind, overshoots=self.overshoot)

    @property
    def pixel_labels(self) -> PixelLabels | None:
        """With precise labelling, the pixels come with the answers; the method adds nothing to them."""
        return (
            PixelLabels(labeller=lambda view: lambda image: None, by_hand=True) if self.labelling == "precise" else None
        )
