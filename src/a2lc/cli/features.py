"""The command that makes the learned features of a project's masks."""

from __future__ import annotations

from typing import Annotated

import typer

from a2lc.cli.console import app, print_line
from a2lc.cli.options import ProjectDir
from a2lc.io.progress import console_progress

__all__ = ["features"]


@app.command()
def features(
    folder: ProjectDir,
    backbone: Annotated[
        str, typer.Option("--backbone", help="Frozen network that the features come from.")
    ] = "efficientnet-lite0",
) -> None:
    """Make learned features of the masks by a network trained on ImageNet, which `gain` then learns from.

    They are made once for the life of the masks. Repeat the command to resume after an interruption.
    """
    from a2lc.project.project import Project
    from a2lc.rounds.learned import make_features

    with Project(folder) as project, project.lock():
        made = make_features(project, backbone, track=console_progress())
    what = "are there already" if not made.made else f"made in {made.seconds:.1f} s"
    print_line(
        f"features of {made.masks:,} masks of {made.images:,} images {what}: {made.channels} channels of {made.backbone}"
    )
    print_line(f"next: a2lc run {folder}")
