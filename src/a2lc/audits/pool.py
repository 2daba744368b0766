"""The pool of masks with their statistics and features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from a2lc.statistics.mask_stats import MaskStats

ReadStatistics = Callable[[frozenset[str]], Iterator[tuple[MaskStats, dict[str, NDArray[Any]]]]]
