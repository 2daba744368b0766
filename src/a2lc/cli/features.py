"""The command that makes the learned features of a project's masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from a2lc.cli.console import app, print_line
from a2lc.cli.options import AcceptLicense, BackboneName, Download, ProjectDir
from a2lc.cli.weights import obtain_weights
from a2lc.io.progress import console_progress

if TYPE_CHECKING:
    from a2lc.features import Backbone
    from a2lc.project.project import Project

__all__ = ["features"]


@app.command()
def features(
    folder: ProjectDir,
    backbone: BackboneName = None,
    device: Annotated[
        str | None,
        typer.Option("--device", help="Device of a backbone of timm or transformers: auto, cpu, cuda or cuda:N."),
    ] = None,
    download: Download = False,
    accept_license: AcceptLicense = None,
) -> None:
    """Make learned features of the masks by a frozen network, which `gain` and the head then learn from.

    They are made once for the life of the masks, or anew between two rounds for another backbone. Repeat the command to resume
    after an interruption.
    """
    from a2lc.project.config import with_options
    from a2lc.project.project import Project
    from a2lc.rounds.backbone import use_backbone

    with Project(folder) as project, project.lock():
        accepted = dict.fromkeys([*project.config.features.accepted_licenses, *(accept_license or [])])
        settings: dict[str, object] = {"features.accepted_licenses": list(accepted)}
        if device is not None:
            settings["features.device"] = device
        config = with_options(project.config, settings=settings)
        network = _network(project, backbone or config.features.backbone, config.features.device, download, accepted)
        project.config = config
        made = use_backbone(project, network, track=console_progress())
        project.config.save(project.folder / "project.yaml")
    what = "are there already" if not made.made else f"made in {made.seconds:.1f} s"
    print_line(
        f"features of {made.masks:,} masks of {made.images:,} images {what}: {made.channels} channels of {made.backbone}"
    )
    print_line(f"next: a2lc run {folder}")


def _network(project: Project, name: str, device: str, download: bool, accepted: dict[str, None]) -> Backbone:
    """Load a backbone, after its weights were obtained."""
    from a2lc.features import load_backbone
    from a2lc.features.choice import find_backbone, is_same_backbone, pinned_name
    from a2lc.rounds.backbone import require_change

    settings = project.config.features
    if is_same_backbone(name, settings.backbone):
        name = settings.backbone  # at the commit that the project remembers
    weights = find_backbone(name)
    require_change(project, name)  # before anything is downloaded
    if weights is None:
        return load_backbone(name)
    (ready,) = obtain_weights([weights], download, accepted)
    from a2lc.features.torch_backbone import open_backbone

    return open_backbone(pinned_name(ready), ready, device=device, mixed_precision=settings.mixed_precision)
