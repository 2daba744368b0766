"""Commands that show a project and undo corrections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from a2lc.cli.console import app, print_line
from a2lc.cli.options import Json, ProjectDir
from a2lc.cli.tables import print_status
from a2lc.errors import InputError, require_known
from a2lc.io.files import json_safe

if TYPE_CHECKING:
    from a2lc.project.project import Project


@app.command()
def status(folder: ProjectDir, as_json: Json = False) -> None:
    """Show the cost and the results of each round."""
    from a2lc.project.project import Project
    from a2lc.rounds.status import project_status

    with Project(folder) as project:
        found = json_safe(project_status(project))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_status(found)


@app.command()
def log(
    folder: ProjectDir,
    full: Annotated[bool, typer.Option("--full", help="Include every answer and correction.")] = False,
    as_json: Json = False,
) -> None:
    """List the events of the project in order of time."""
    from a2lc.project.project import Project

    with Project(folder) as project:
        events = _events(project, full=full)
    if as_json:
        print(json.dumps(events, indent=1))
        return
    for event in events:
        print_line(f"{event['time'][:19].replace('T', ' ')}  {event['what']}")


@app.command()
def diff(
    folder: ProjectDir,
    first: Annotated[int, typer.Argument(metavar="ROUND", min=0, help="First round; labels are compared at its end.")],
    second: Annotated[int, typer.Argument(metavar="ROUND", min=0, help="Second round.")],
    as_json: Json = False,
    masks: Annotated[bool, typer.Option("--masks", help="List every mask.")] = False,
) -> None:
    """Show which masks changed class between the ends of two rounds."""
    from a2lc.project.project import Project

    with Project(folder) as project:
        found = _difference(project, first, second)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    print_line(
        f"{len(found['masks'])} masks, {found['pixels']:,} pixels differ between the ends of rounds {first} and {second}"
    )
    for change in found["changes"]:
        print_line(f"{change['masks']:>7} masks {change['pixels']:>10,} pixels  {change['old']} -> {change['new']}")
    if masks:
        for mask in found["masks"]:
            print_line(f"{mask['image_id']} {mask['mask_id']}  {mask['old']} -> {mask['new']}")


@app.command()
def undo(
    folder: ProjectDir,
    number: Annotated[int, typer.Argument(metavar="ROUND", min=1, help="Round to undo.")],
    source: Annotated[str, typer.Option("--source", help="Corrections to undo: all, manual or automatic.")] = "all",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print how many masks would change, and change nothing.")
    ] = False,
) -> None:
    """Undo the corrections of a round. Later corrections are kept, and answers remain in the ledger."""
    from a2lc.project.project import Project
    from a2lc.rounds.stages import take_back

    require_known("value of --source", source, ["all", "manual", "automatic"])
    with Project(folder) as project, project.lock():
        changed = take_back(project, number, source, dry_run=dry_run)
    print_line(f"{'would change' if dry_run else 'changed'} {changed} masks back")


@app.command()
def report(
    folder: ProjectDir,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; default: report.html in the project.")
    ] = None,
    through: Annotated[
        int | None, typer.Option("--round", min=0, help="State at the end of this round; default: the current state.")
    ] = None,
) -> None:
    """Write a report on the project as one self-contained HTML file."""
    from a2lc.project.project import Project
    from a2lc.report import write_report

    with Project(folder) as project:
        print_line(f"report: {write_report(project, out or folder / 'report.html', through=through)}")


@app.command()
def methods(as_json: Json = False) -> None:
    """List methods with their papers, and acquisition functions."""
    from a2lc.acquisition.functions import ACQUISITIONS
    from a2lc.methods import load_methods

    rows = [{"name": n, "paper": m.paper, "starts": m.starts, "summary": m.summary} for n, m in load_methods().items()]
    functions = [{"name": name, "summary": a.summary} for name, a in ACQUISITIONS.items()]
    if as_json:
        print(json.dumps({"methods": rows, "acquisition": functions}, indent=1))
        return
    for row in rows:
        print_line(f"{row['name']:<10} {row['summary']}\n{'':<10} {row['paper']}")
    print_line("\nacquisition functions (--set method.acquisition=NAME with a2lc)")
    for row in functions:
        print_line(f"{row['name']:<10} {row['summary']}")


def _events(project: Project, *, full: bool) -> list[dict[str, Any]]:
    from a2lc.classes.edits import described
    from a2lc.classes.table import VOID_NAME

    events: list[dict[str, Any]] = []
    for record in project.ledger.rounds():
        what = f"round {record.round} opened: {record.method}, seed {record.seed}, scored by {record.model}"
        events.append({"time": record.started, "round": record.round, "what": what})
    for stage in project.ledger.stages():
        # Tables are left to `status` and the report.
        details = {k: v for k, v in stage.details.items() if not isinstance(v, list | dict)}
        figures = ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in details.items() if v is not None
        )
        what = f"round {stage.round} {stage.stage} ended after {stage.seconds:.1f} s: {figures}"
        events.append({"time": stage.ended, "round": stage.round, "what": what})
    edits = project.ledger.class_edits()
    for edit, line in zip(edits, described(project.imported_classes, edits), strict=True):
        events.append({"time": edit.time, "round": edit.round, "what": f"classes: {line}"})
    for taken in project.ledger.undos():
        what = f"round {taken.undone} undone: {taken.source} corrections"
        events.append({"time": taken.time, "round": taken.undone, "what": what})
    if full:
        names = project.classes.names
        queries = {query.query_id: query for query in project.ledger.queries()}

        def name(value: int | None) -> str:
            return "initial labels" if value is None else project.classes.name_of(value, void=VOID_NAME)

        def mask(image: int, masks: Sequence[int]) -> str:
            return f"{project.images[image].image_id} mask {' '.join(map(str, masks))}"

        when: dict[int, str] = {}
        for answer, clicks, time in project.ledger.timed_answers():
            query = queries[answer.query_id]
            when[answer.answer_id] = time
            said = ", ".join(names[c] for c in answer.classes)
            what = (
                f"round {query.round} question {answer.query_id} on {mask(query.image, query.mask_ids)}, proposed "
                f"{name(-1 if query.proposed is None else query.proposed)}: {answer.kind.value} {said} by {answer.annotator}, "
                f"{clicks:g} clicks" + (f", replaces answer {answer.replaces}" if answer.replaces else "")
            )
            events.append({"time": time, "round": query.round, "what": what})
        ended = {stage.round: stage.ended for stage in project.ledger.stages() if stage.stage == "correct"}
        undone = project.ledger.undos()
        for row in project.ledger.correction_details():
            by = row.annotator or row.model or row.source
            what = (
                f"round {row.round} {row.source} by {by}: {mask(row.image, [row.mask_id])} "
                f"{name(row.old_class)} -> {name(row.new_class)}"
            )
            time = when.get(row.answer) or ended.get(row.round, "")
            if row.source == "undo":
                time = max((undo.time for undo in undone if undo.after < row.id), default=time)
            events.append({"time": time, "round": row.round, "what": what})
    events.sort(key=lambda event: str(event["time"]))
    return events


def _difference(project: Project, first: int, second: int) -> dict[str, Any]:
    import numpy as np

    from a2lc.classes.table import VOID_NAME

    last = max((record.round for record in project.ledger.rounds()), default=-1)
    for number in (first, second):
        if number > last:
            raise InputError(f"There is no round {number}: the last one is {last}.")
    masks = project.masks
    states = [project.state(through=number) for number in (first, second)]
    before, after = (masks.current(state) for state in states)
    pixels = masks.changed_pixels(*states)
    changed = np.flatnonzero(pixels)

    def name(value: int) -> str:
        return project.classes.name_of(value, void=VOID_NAME)

    rows: list[dict[str, Any]] = [
        {
            "image_id": project.images[masks.image[row]].image_id,
            "mask_id": int(masks.mask_ids[row]),
            "pixels": int(pixels[row]),
            "old": name(int(before[row])),
            "new": name(int(after[row])),
        }
        for row in changed
    ]
    pairs: dict[tuple[str, str], list[int]] = {}
    for entry in rows:
        pairs.setdefault((entry["old"], entry["new"]), []).append(entry["pixels"])
    changes: list[dict[str, Any]] = [
        {"old": old, "new": new, "masks": len(sizes), "pixels": sum(sizes)} for (old, new), sizes in pairs.items()
    ]
    changes.sort(key=lambda change: -change["masks"])
    found = {"from": first, "to": second, "pixels": int(pixels.sum()), "changes": changes, "masks": rows}
    layers = [state.layer for state in states if state.layer is not None]
    if layers:
        # Pixel-level labels are compared pixel by pixel, in the images that have any.
        touched = sorted({image for layer in layers for image in project.ledger.layer_files(layer)})
        touched = sorted({*touched, *masks.image[changed].tolist()})
        labels = ([project.corrected_labels(project.images[i], state) for state in states] for i in touched)
        found["pixels"] = sum(int((old != new).sum()) for old, new in labels)
    return found
