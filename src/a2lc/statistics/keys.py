"""Keys of masks: one number per mask of a project."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mask_keys"]


def mask_keys(image: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Return one number per mask, ordered by image and then mask id: image · 2³² + mask id."""
    return (np.asarray(image).astype(np.uint64) << np.uint64(32)) | np.asarray(mask_ids).astype(np.uint64)
