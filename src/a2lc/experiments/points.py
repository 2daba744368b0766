"""Measured points of runs, and curves through them."""

from __future__ import annotations

from typing import Any

from a2lc.experiments.execution import Outcome

__all__ = ["COLUMNS", "curve_of", "table_rows"]


COLUMNS = (
    *(
        "method",
        "seed",
        "round",
        "clicks",
        "queries",
        "bits",
        "person_seconds",
        "data_miou",
        "data_miou_of_all",
        "coverage",
    ),
    *("pixel_accuracy", "model_miou"),
    *("automatic_changed", "automatic_precision", "seconds", "peak_mib"),
)


Points = list[tuple[float, float]]


def table_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return a row for each finished round: clicks, queries, bits and seconds of a person are sums of all rounds so far."""
    if outcome.found is None:
        return []
    rows: list[dict[str, Any]] = []
    clicks, queries = float(outcome.found["start_clicks"]), 0
    bits: float | None = 0.0
    person: float | None = 0.0
    for row in outcome.found["rounds"]:
        if row["round"] > outcome.run.rounds:
            break
        clicks += row["clicks"]
        queries += row["queries"]
        bits = None if bits is None or row["bits"] is None else bits + row["bits"]
        taken = row.get("person_seconds")  # runs made before version 0.2.0 have none
        person = None if person is None or taken is None else person + taken
        rows.append(
            {key: row.get(key) for key in COLUMNS}
            | {
                "method": outcome.run.label,
                "seed": outcome.run.seed,
                "clicks": clicks,
                "queries": queries,
                "bits": bits,
                "person_seconds": person,
                "seconds": sum(row["seconds"].values()),
                "peak_mib": outcome.found["peak_mib"],
            }
        )
    return rows


def curve_of(outcome: Outcome, over: str, figure: str) -> Points:
    """(x, y) of a run's rounds, those without the figure left out.

    Args:
        outcome: Of the run.
        over: `clicks`, `queries` or `bits`, summed up to each round; clicks of labelled images are in `clicks` alone.
        figure: `data_miou`, `data_miou_of_all` or `model_miou`.
    """
    points = [(row[over], row[figure]) for row in table_rows(outcome)]
    return [(float(x), float(y)) for x, y in points if x is not None and y is not None]
