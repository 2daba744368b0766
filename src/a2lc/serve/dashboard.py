"""The figures of the page's dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

__all__ = ["pace"]


def pace(times: Sequence[datetime]) -> float | None:
    """Answers a minute over the last ones, pauses of more than a minute left out; None for fewer than three."""
    gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
    gaps = [gap for gap in gaps if gap <= 60]
    return 60 * len(gaps) / sum(gaps) if len(gaps) >= 2 and sum(gaps) > 0 else None
