"""Follow quality and cost from round to round."""

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
        rows: The rounds of `project_status`, each with `total_clicks`, the clicks until its end.
        stages: Stages that ran in any round, in order.
        measured_on: Images that models were measured on, in words; empty if no model was measured.
    """

    rows: list[dict[str, Any]]
    stages: list[str]
    measured_on: str

    def points(self, key: str) -> tuple[list[float], list[float]]:
        """Return clicks and values of a figure for the rounds in which it was measured."""
        rows = [row for row in self.rows if row[key] is not None and np.isfinite(row[key])]
        return [row["total_clicks"] for row in rows], [row[key] for row in rows]


def curves(facts: Facts) -> Curves:
    """Compute the section."""
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
