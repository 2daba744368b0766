"""ClassBal: superpixels asked about where the model wavers, rarer classes first, at realistic click costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.functions import score, share_weights
from a2lc.methods.base import Method, register
from a2lc.records import QueryKind, RoundView

__all__ = ["ClassBal"]


@register(
    "classbal",
    paper="Cai et al., CVPR 2021 (Revisiting Superpixels for Active Learning)",
    summary="starts from nothing: asks for the main class of superpixels the model wavers on, rarer classes first",
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
    needs_totals: ClassVar[bool] = True

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """BvSB by e to the minus share of masks that are mainly taken for the same class."""
        if self.acquisition != "classbal" or view.totals is None:
            return super().score(view)
        return score("classbal", view.stats, weights=share_weights(view.totals.masks_by_dominant))

    @property
    def query_kind(self) -> QueryKind:
        """The main class of a region, or the class of each of its pixels."""
        return QueryKind.DOMINANT if self.labelling == "dominant" else QueryKind.PRECISE

    @property
    def overshoots(self) -> bool:
        """As set."""
        return self.overshoot

    @property
    def labels_pixels(self) -> bool:
        """With precise labelling: the pixels are in the answers."""
        return self.labelling == "precise"

    @property
    def pixels_by_hand(self) -> bool:
        """The loop lays pixel labels of answers over whatever a method says; this one adds nothing to them."""
        return self.labels_pixels
