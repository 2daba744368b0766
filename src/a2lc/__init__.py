"""Active and automated label correction for semantic segmentation data sets."""

import importlib
from typing import TYPE_CHECKING, Any

from a2lc.version import __version__

if TYPE_CHECKING:
    from a2lc.acquisition import class_weights, score
    from a2lc.api import Project, RunResult, create_project
    from a2lc.correction import LabelCorrectionModule
    from a2lc.statistics.mask_stats import MaskStats, mask_statistics
    from a2lc.statistics.metrics import ConfusionCounts

__all__ = [
    "ConfusionCounts",
    "LabelCorrectionModule",
    "MaskStats",
    "Project",
    "RunResult",
    "__version__",
    "class_weights",
    "create_project",
    "mask_statistics",
    "score",
]

_HOMES = {
    "ConfusionCounts": "a2lc.metrics",
    "LabelCorrectionModule": "a2lc.correction",
    "MaskStats": "a2lc.stats",
    "Project": "a2lc.api",
    "RunResult": "a2lc.api",
    "class_weights": "a2lc.acquisition",
    "create_project": "a2lc.api",
    "mask_statistics": "a2lc.stats",
    "score": "a2lc.acquisition",
}


def __getattr__(name: str) -> Any:
    # `import a2lc` does no work: each name is loaded from its home when it is first used.
    if name not in _HOMES:
        raise AttributeError(f"module 'a2lc' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
