"""Average grids of features over masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.features.grids import Grid
from a2lc.statistics.features import mask_embedding

__all__ = ["mask_features_of"]


def mask_features_of(grids: Sequence[Grid], mask_map: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.float16]:
    """Average each grid over each mask, the grids side by side: (M, D) float16.

    Args:
        grids: Of one image, with D channels together.
        mask_map: (H, W) mask ids.
        mask_ids: (M,) ids, ascending.
    """
    means = [mask_embedding(grid.on_image(*mask_map.shape), mask_map, mask_ids) for grid in grids]
    # Half precision holds three digits up to 65,504; activations of a frozen network stay far below.
    limit = np.finfo(np.float16).max
    return np.clip(np.concatenate(means, axis=1), -limit, limit).astype(np.float16)
