"""Label quality of masks by cleanlab (extra `[cleanlab]`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import MissingExtraError
from a2lc.methods.base import Method, PoolSpec, register
from a2lc.records import RoundView

__all__ = ["Cleanlab"]


@register(
    "cleanlab",
    paper="Northcutt et al. 2021, arXiv:1911.00068; Kuan and Mueller 2022",
    summary="asks where cleanlab finds the lowest label quality (extra [cleanlab])",
)
@dataclass(frozen=True, kw_only=True)
class Cleanlab(Method):
    """Each mask is an example: its class and its mean probabilities go to cleanlab's `get_label_quality_scores`.

    With `adjust` the probabilities are first shifted by each class's mean self-confidence over the whole pool (confident
    learning), so all masks are needed at once.
    """

    acquisition: str = "lcil"  # for masks without a class, which cleanlab cannot judge
    quality: Literal["self_confidence", "normalized_margin", "confidence_weighted_entropy"] = "self_confidence"
    adjust: bool = True

    pool: ClassVar[PoolSpec] = PoolSpec(whole=True)

    def columns(self) -> frozenset[str]:
        """Return mean probabilities, and what `lcil` reads."""
        return super().columns() | {"prob_sums", "area", "label"}

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """Return one minus the label quality, [0, 1].

        Raises:
            MissingExtraError: cleanlab is not installed.
        """
        try:
            from cleanlab.rank import get_label_quality_scores
        except ImportError:
            raise MissingExtraError("Method 'cleanlab' needs cleanlab 2.9: pip install 'a2lc[cleanlab]'") from None
        scores = super().score(view)
        some = view.current >= 0
        # Confident learning needs two classes to tell apart.
        if not some.any() or view.stats.num_classes < 2:
            return scores
        probs = view.stats.mean_probs[some].astype(np.float64)
        probs /= probs.sum(axis=1, keepdims=True)
        labels = view.current[some].astype(np.int64)
        entropy = self.quality == "confidence_weighted_entropy"
        # Its scores by entropy take no shift.
        quality = get_label_quality_scores(
            labels, probs, method=self.quality, adjust_pred_probs=self.adjust and not entropy
        )
        scores[some] = 1.0 - np.nan_to_num(quality, nan=0.5)
        return scores
