"""Commands that export labels and exchange questions with other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from a2lc.cli.console import FormatCommand, app, print_line
from a2lc.cli.options import ProjectDir
from a2lc.errors import require_known
from a2lc.io.progress import console_progress

if TYPE_CHECKING:
    pass


@app.command()
def handover(
    folder: ProjectDir,
    to: Annotated[str, typer.Option("--to", help="Format of the files: label-studio, cvat-xml or cvat-mask.")],
    out: Annotated[Path, typer.Option("--out", help="New folder to write to.")],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Maximum number of questions, from the front of the queue.")
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option("--image-root", help="Folder that Label Studio serves and that contains the images.")
    ] = None,
) -> None:
    """Write the open questions as files for Label Studio or CVAT. The project is not changed."""
    from a2lc.handover import hand_over
    from a2lc.project.project import Project

    with Project(folder) as project:
        root = None if image_root is None else str(image_root)
        found = hand_over(project, out, to, limit=limit, image_root=root)
    for message in found.messages:
        print_line(message)
    left = f"; {found.waiting:,} more are waiting" if found.waiting else ""
    print_line(f"{found.questions:,} questions of round {found.round} about {found.images:,} images in {out}{left}")
    print_line(f"instructions: {out / 'README.txt'}")


@app.command()
def takeback(
    folder: ProjectDir,
    source: Annotated[Path, typer.Option("--from", help="File exported by the tool, or the folder that contains it.")],
    annotator: Annotated[str, typer.Option("--annotator", help="Name of the person who gave the answers.")],
    untouched: Annotated[
        str,
        typer.Option(
            "--untouched",
            help="Unchanged masks of CVAT: leave (their questions stay open) or confirm.",
        ),
    ] = "leave",
    handed: Annotated[
        Path | None, typer.Option("--handover", help="Path of handover.json, if it is not beside the exported file.")
    ] = None,
) -> None:
    """Record the answers in an export of Label Studio or CVAT."""
    from a2lc.handover import take_back
    from a2lc.project.project import Project

    meaning: Literal["leave", "confirm"] = "confirm" if untouched == "confirm" else "leave"
    require_known("value of --untouched", untouched, ["leave", "confirm"])
    with Project(folder) as project, project.lock():
        found = take_back(project, source, annotator=annotator, untouched=meaning, handover=handed)
    for message in found.messages:
        print_line(message)
    print_line(
        f"{found.recorded:,} recorded ({found.skipped:,} of them skipped), {found.same:,} already recorded, {found.conflict:,} "
        f"answered differently before, {found.refused:,} refused, {found.untouched:,} untouched; {found.outside:,} pixels outside"
    )


@app.command(cls=FormatCommand)
def export(
    folder: ProjectDir,
    out: Annotated[Path, typer.Option("--out", help="New folder to write to.")],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format to write: FORMATS_WRITTEN; see docs/formats.md. Also package.module:NAME.",
        ),
    ] = "folder",
    through: Annotated[
        int | None, typer.Option("--round", min=0, help="Labels at the end of this round; default: the current labels.")
    ] = None,
    changes_only: Annotated[
        bool,
        typer.Option(
            "--changes-only", help="Write only the changes, with pictures before and after, for the owner of the data."
        ),
    ] = False,
    proven_only: Annotated[
        bool,
        typer.Option("--proven-only", help="Leave out automatic corrections that audits have not proven to help."),
    ] = False,
) -> None:
    """Write the corrected labels, the changes, and their provenance."""
    from a2lc.export import export_project
    from a2lc.project.project import Project
    from a2lc.rounds.final import final_model

    with Project(folder) as project:
        summary = export_project(
            project,
            out,
            format,
            through=through,
            changes_only=changes_only,
            proven_only=proven_only,
            track=console_progress(),
        )
        network = final_model(project)
    print_line(
        f"{summary.images:,} label maps in {out}; {summary.changed_images:,} of them with changes, in {summary.changed_masks:,} "
        f"masks and {summary.changed_pixels:,} pixels"
    )
    if network is not None:
        print_line(f"{network.sentence}; to hand it over: a2lc train {folder} --final --out FILE.safetensors")
