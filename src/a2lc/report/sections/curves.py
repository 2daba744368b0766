"""Quality and changes over the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from a2lc.report.facts import Facts
from a2lc.report.sections.headline import measured_on_text
from a2lc.rounds.stages import STAGES

__all__ = ["Curves"]


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Quality against clicks, round by round.

    Attributes:
        rows: A row a round, as `project_status` has them, each with `total_clicks`, spent until its end.
        stages: Stages that took time in any round, in order.
        measured_on: What models were measured on, in words; empty where they were not.
    """

    rows: list[dict[str, Any]]
    stages: list[str]
    measured_on: str

    def points(self, key: str) -> tuple[list[float], list[float]]:
        """Clicks and values of a figure, where it was measured."""
        rows = [row for row in self.rows if row[key] is not None and np.isfinite(row[key])]
        return [row["total_clicks"] for row in rows], [row[key] for row in rows]


def curves(facts: Facts) -> Curves:
    """Make section 2."""
    total = 0.0
    rows = []
    for row in facts.status["rounds"]:
        total += row["clicks"]
        rows.append(row | {"total_clicks": total})
    used = {stage for row in rows for stage in row["seconds"]}
    return Curves(
        rows=rows,
        stages=[stage for stage in STAGES if stage in used],
        measured_on=" and ".join(sorted(set(measured_on_text(facts).values()))),
    )
