"""Commands that run rounds and serve the page."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from a2lc.cli.console import app, print_line
from a2lc.cli.options import Preview, ProjectDir, Workers, takes_plan
from a2lc.cli.settings import check_masks, configure, first_figures, make_loop, run_rounds
from a2lc.errors import InputError, MissingExtraError
from a2lc.io.progress import console_progress

if TYPE_CHECKING:
    from a2lc.project.project import Project

__all__ = ["stage_command"]


@app.command()
@takes_plan()
def run(
    folder: ProjectDir,
    *,
    rounds: Annotated[
        int, typer.Option("--rounds", min=0, help="Total number of rounds, including finished ones.")
    ] = 5,
    plan: dict[str, Any],
    until: Annotated[
        str | None,
        typer.Option(
            "--until", help="Stop once audits show accuracy=0.95, miou=0.7, gain<0.1 or errors<200 (method gain)."
        ),
    ] = None,
    workers: Workers = None,
) -> None:
    """Run rounds: score, select, answer, correct, train, evaluate. Repeat the command to resume after an interruption."""
    from a2lc.project.project import Project
    from a2lc.rounds.stopping import parse_until

    rule = None if until is None else parse_until(until)
    with Project(folder) as project, project.lock():
        configure(project, **plan, locked=True)
        first_figures(project)
        run_rounds(project, rounds, rule, workers)
    if (folder / "report.html").is_file():
        print_line(f"report: {folder / 'report.html'}")


def stage_command(stage: str, text: str) -> None:
    """Register the command that runs one stage of the open round; `text` is its help."""

    @takes_plan()
    def command(
        folder: ProjectDir,
        *,
        plan: dict[str, Any],
        preview: Preview = False,
        workers: Workers = None,
    ) -> None:
        _run_stage(folder, stage, plan, preview, workers)

    command.__doc__ = text
    app.command(name=stage)(command)


def _run_stage(folder: Path, stage: str, plan: dict[str, Any], preview: bool, workers: int | None) -> None:
    """Run one stage of the open round, or show what it would change."""
    from a2lc.project.project import Project

    with Project(folder) as project, project.lock():
        configure(project, **plan, locked=True)
        loop = make_loop(project, workers)
        if preview:
            _print_preview(project, loop.preview(stage))
        else:
            loop.run_stage(stage)


@app.command()
@takes_plan()
def train(
    folder: ProjectDir,
    *,
    plan: dict[str, Any],
    preview: Preview = False,
    workers: Workers = None,
    final: Annotated[
        bool,
        typer.Option(
            "--final",
            help="After the last round: train a network on the corrected labels, kept in `final/`. No stage is run.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --final: also copy the weights to this file, FILE.safetensors.")
    ] = None,
) -> None:
    """Train a model on the current labels: of the open round, or with --final the network to hand over."""
    if not final:
        if out is not None:
            raise InputError("--out needs --final.")
        _run_stage(folder, "train", plan, preview, workers)
        return
    from a2lc.project.project import Project
    from a2lc.report import write_report
    from a2lc.rounds.final import check_out, copy_weights, train_final

    if out is not None:
        check_out(out)
    with Project(folder) as project, project.lock():
        kept = project.config
        configure(project, **plan, locked=True)
        # The options are of this network alone: the rounds go on with the model of theirs.
        model = train_final(project, track=console_progress())
        project.config = kept
        if out is not None:
            copy_weights(model, out)
        if (folder / "report.html").is_file():
            write_report(project, folder / "report.html")
    print_line(f"{model.sentence}{'' if model.trained else ' (trained before)'}")
    print_line(f"weights: {out or model.weights}")


@app.command()
@takes_plan("annotator", "error_rate", "probabilities")
def serve(
    folder: ProjectDir,
    *,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 accepts connections from the network.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 8765,
    train: Annotated[
        bool, typer.Option("--train", help="Train networks in the background; the head is always fitted.")
    ] = False,
    lease: Annotated[
        float, typer.Option("--lease", min=5, help="Seconds after which an unanswered question is offered to others.")
    ] = 120,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="Host name under which others reach this machine, such as host.lan."),
    ] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="Create a new address; pages that are already open lose access.")
    ] = False,
    plan: dict[str, Any],
) -> None:
    """Serve the page on which people answer questions in the browser.

    Several people may answer at once. Each answer is recorded immediately. Stop the server with Ctrl-C, and repeat the command to
    resume. The address contains a token: anyone who has it can answer.
    """
    from a2lc.project.project import Project
    from a2lc.rounds.plan import RoundPlan
    from a2lc.serve.app import create_app
    from a2lc.serve.desk import Desk
    from a2lc.serve.process import Server
    from a2lc.serve.token import project_token

    server = Server(host, port, names=names or ())
    try:
        with Project(folder) as project, project.lock():
            configure(project, **plan, annotator="human", locked=True)
            check_masks(project)
            if train and project.config.training.model != "head" and find_spec("torch") is None:
                raise MissingExtraError("--train needs the extra `train`: pip install 'a2lc[train]'")
            desk = Desk(project, RoundPlan.of(project.config), trains=train, lease_seconds=lease, say=print_line)
            project.config.save(project.folder / "project.yaml")
            try:
                token = project_token(project.folder, new=new_token)
                application = create_app(desk, token=token, hosts=server.hosts)
                server.run(application, ready=lambda: print_line(f"open http://{server.address}/?token={token}"))
            finally:
                desk.close()
    finally:
        server.close()
    print_line("stopped; all answers are recorded")


def _print_preview(project: Project, changes: dict[str, Any]) -> None:
    """Print what the stage `correct` would change."""
    name = project.classes.name_of
    print_line(f"{changes['total']:,} masks would change; nothing was written. {changes['guarantee']}")
    for pair in changes["pairs"]:
        print_line(f"{pair['masks']:>7,} {name(pair['old'])} -> {name(pair['new'])}, {pair['pixels']:,} pixels")
        for example in pair["examples"]:
            print_line(
                f"        {example['image_id']} mask {example['mask_id']}, probability {example['probability']:.2f}"
            )


stage_command("score", "Score masks: reduce probabilities to one row per mask.")
stage_command("select", "Select the masks to ask about.")
stage_command("answer", "Answer the open questions with the simulated annotator.")
stage_command("correct", "Propagate the answers to other masks, if the method does so.")
stage_command("evaluate", "Measure labels and model against ground truth, if there is any.")
