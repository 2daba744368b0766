"""Tables and curves of a benchmark, from what its runs recorded."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from a2lc.experiments.execution import Outcome
from a2lc.experiments.points import COLUMNS, Points, curve_of, table_rows
from a2lc.experiments.protocol import Protocol
from a2lc.io.files import json_safe, write_text
from a2lc.version import versions

__all__ = ["area_under", "mean_and_spread", "write_results"]


NONE = "–"
"""Stands where a figure is not known."""


def write_results(
    protocol: Protocol, outcomes: Sequence[Outcome], out: Path, *, command: str, where: str = ""
) -> list[Path]:
    """Write results.json, results.csv, results.md, curves.png and curves.svg.

    Args:
        protocol: What was to run.
        outcomes: What came of the runs, method by method.
        out: Folder of the benchmark.
        command: The command line, as it was given.
        where: Path of the protocol.

    Returns:
        The files, the table first.
    """
    rows = [row for outcome in outcomes for row in table_rows(outcome)]
    document = {
        "protocol": protocol.model_dump(mode="json"),
        "protocol_file": where,
        "protocol_hash": protocol.digest,
        "command": command,
        "versions": versions(),
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "devices": _devices(outcomes)},
        "runs": [
            {"method": o.run.label, "seed": o.run.seed, "start": o.run.start, "fault": o.fault, "skipped": o.skipped}
            | (o.found or {})
            | {"areas": {figure: area_under(curve_of(o, "clicks", figure)) for figure in ("data_miou", "model_miou")}}
            for o in outcomes
        ],
    }
    write_text(out / "results.json", json.dumps(json_safe(document), indent=1))
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows({key: _cell(row[key]) for key in COLUMNS} for row in rows)
    write_text(out / "results.csv", text.getvalue())
    write_text(out / "results.md", _page(protocol, outcomes, command, where))
    written = [out / "results.md", out / "results.csv", out / "results.json"]
    if any(outcome.found for outcome in outcomes):
        from a2lc.experiments.curves import write_curves  # drawing is slow to load

        written += write_curves(protocol, outcomes, out)
    return written


def area_under(points: Points) -> float | None:
    """Mean height of a curve: its area by the trapezoid rule over its own range, None for less than two points.

    Example:
        >>> area_under([(0, 0.4), (100, 0.6), (300, 0.6)])
        0.5666666666666667
    """
    if len(points) < 2 or not points[-1][0] > points[0][0]:
        return None
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))
    return area / (points[-1][0] - points[0][0])


def mean_and_spread(values: Iterable[float | None]) -> tuple[float, float | None, int] | None:
    """Mean, sample standard deviation (n-1; None for one value) and number of the values that are known.

    Example:
        >>> mean_and_spread([1.0, 3.0, None]), mean_and_spread([2.0]), mean_and_spread([])
        ((2.0, 1.4142135623730951, 2), (2.0, None, 1), None)
    """
    known = [float(value) for value in values if value is not None]
    if not known:
        return None
    return statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known)


def _devices(outcomes: Iterable[Outcome]) -> list[str]:
    return sorted({outcome.found["device"] for outcome in outcomes if outcome.found})


def _cell(value: Any) -> Any:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else value


def _page(protocol: Protocol, outcomes: Sequence[Outcome], command: str, where: str) -> str:
    labels = list(dict.fromkeys(outcome.run.label for outcome in outcomes))
    by_label = {label: [o for o in outcomes if o.run.label == label] for label in labels}
    done = {label: [o for o in some if o.found] for label, some in by_label.items()}
    last = max((o.run.rounds for o in outcomes), default=protocol.rounds)
    seeds = sorted({o.run.seed for o in outcomes if o.found})
    lines = [f"# Benchmark {protocol.name}", ""]
    data = next((o.found for o in outcomes if o.found), None)
    if data is not None:
        lines += [
            (
                f"{data['images']:,} images, {data['classes']} classes; {protocol.budget:g} clicks per round unless "
                f"stated otherwise; seeds {', '.join(map(str, seeds))}."
            ),
            "",
        ]
    tables = [("Data mIoU", "data_miou"), ("Model mIoU", "model_miou")]
    if any(o.found and o.run.start != "pseudo" for o in outcomes):
        tables.insert(1, ("Data mIoU of all pixels", "data_miou_of_all"))
    for title, figure in tables:
        lines += [f"## {title}", ""]
        lines += _table(
            ["method", *(f"round {number}" for number in range(last + 1))],
            [[label, *_by_round(done[label], figure, last)] for label in labels if done[label]],
        )
    lines += ["## All rounds", ""]
    columns = (
        "method",
        "start",
        "area, data",
        "area, model",
        "clicks",
        "queries",
        "bits",
        "person, s",
        "coverage",
        "auto. right",
    )
    lines += _table(
        [*columns, "seconds", "peak MiB"],
        [[label, *_summary(done[label])] for label in labels if done[label]],
    )
    lines += [*_notes(outcomes, done), ""]
    faults = [o for o in outcomes if not o.found]
    if faults:
        lines += ["## Without a result", ""]
        lines += [f"- {o.run.name}: {'left out' if o.skipped else 'failed'}: {o.fault}" for o in faults]
        lines += [""]
    told = ", ".join(f"{name} {version}" for name, version in versions().items())
    lines += [
        f"Protocol {where or protocol.name}, {protocol.digest}: `{command}`. {os.cpu_count()} cores, "
        f"{', '.join(_devices(outcomes)) or 'nothing run'}; {told}.",
        "",
    ]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" for _ in head[1:])]
    # A stroke in a label would end its cell.
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [*(f"| {' | '.join(row)} |" for row in (head, rule, *rows)), ""]


def _by_round(outcomes: Sequence[Outcome], figure: str, last: int) -> list[str]:
    cells = []
    for number in range(last + 1):
        values = [row[figure] for o in outcomes for row in table_rows(o) if row["round"] == number]
        cells.append(_spread(values, len(outcomes), lambda value: f"{value:.4f}"))
    return cells


def _summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Cells of a method's line of the last table."""
    ends = [rows[-1] for o in outcomes if (rows := table_rows(o))]
    all_rows = [table_rows(o) for o in outcomes]

    def over(values: Iterable[float | None], shown: Callable[[float], str]) -> str:
        return _spread(list(values), len(outcomes), shown)

    start: str = outcomes[0].run.start
    offsets = [o.found["start_clicks"] for o in outcomes if o.found]
    if any(offsets):
        start += f", {over(offsets, _whole)} clicks"
    right = [_automatic(rows) for rows in (o.found["rounds"] for o in outcomes if o.found)]
    return [
        start,
        over((area_under(curve_of(o, "clicks", "data_miou")) for o in outcomes), lambda v: f"{v:.4f}"),
        over((area_under(curve_of(o, "clicks", "model_miou")) for o in outcomes), lambda v: f"{v:.4f}"),
        *(over((row[key] for row in ends), _whole) for key in ("clicks", "queries", "bits", "person_seconds")),
        over((row["coverage"] for row in ends), lambda v: f"{v:.3f}"),
        over(right, lambda v: f"{v:.2f}"),
        over((sum(row["seconds"] for row in rows) for rows in all_rows), _whole),
        f"{max(o.found['peak_mib'] for o in outcomes if o.found):,.0f}",
    ]


def _automatic(rows: Iterable[dict[str, Any]]) -> float | None:
    """Share of all automatic changes of a run that were right."""
    known = [(row["automatic_changed"], row["automatic_precision"]) for row in rows if row["automatic_changed"]]
    known = [(changed, share) for changed, share in known if share is not None]
    total = sum(changed for changed, _ in known)
    return sum(changed * share for changed, share in known) / total if total else None


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _spread(values: Sequence[float | None], expected: int, shown: Callable[[float], str]) -> str:
    found = mean_and_spread(values)
    if found is None:
        return NONE
    mean, spread, count = found
    text = shown(mean) + ("" if spread is None else f" ± {shown(spread)}")
    return text if count == expected else f"{text} ({count} of {expected})"


def _notes(outcomes: Sequence[Outcome], done: dict[str, list[Outcome]]) -> list[str]:
    starts = {o.run.start for o in outcomes if o.found}
    notes = [
        (
            "Area: mean height of the curve over clicks, by trapezoids, from the first to the last round with "
            "the figure. Clicks, queries and bits are sums over all rounds. Seconds are those of all stages, "
            "where round 0 counts for each run even if several runs share it. ± is the sample standard deviation "
            "over seeds (n-1); peak MiB is the maximum over seeds."
        )
    ]
    if starts - {"pseudo"}:
        notes.append(
            "Data mIoU counts labelled pixels only, and data mIoU of all pixels counts unlabeled ones as wrong. Methods "
            "that start from nothing or from a subset may label few pixels well, so read the first together with "
            "coverage, the share of labelled pixels. The areas of their curves cover a range of clicks of their own."
        )
    if "subset" in starts:
        notes.append(
            "Labelled images are not free: for methods that start from a subset, the clicks include from the "
            "start what polygons around their ground truth would cost. Queries and bits do not include it."
        )
    kept = [f"{o.run.name} {o.found['note']}" for some in done.values() for o in some if o.found and o.found["note"]]
    if kept:
        notes.append(f"Ended early: {'; '.join(kept)}")
    return [f"- {note}" for note in notes]
