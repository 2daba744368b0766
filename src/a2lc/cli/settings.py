"""Apply options to a project's settings, and run its rounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2lc.cli.console import print_line
from a2lc.cli.options import check_names
from a2lc.cli.tables import format_figure, print_status
from a2lc.errors import ConfigError, InputError
from a2lc.io.files import json_safe
from a2lc.io.progress import console_progress

if TYPE_CHECKING:
    from a2lc.project.config import ProjectConfig
    from a2lc.project.project import Project
    from a2lc.rounds.loop import Loop
    from a2lc.rounds.result import StageResult
    from a2lc.rounds.stopping import Until

__all__ = ["check_masks", "configure", "first_figures", "make_loop", "run_rounds"]


def configure(
    project: Project,
    *,
    preset: str | None = None,
    method: str | None = None,
    budget: float | None = None,
    annotator: str | None = None,
    error_rate: float | None = None,
    settings: list[str] | None = None,
    probabilities: Path | None = None,
    backbone: str | None = None,
    min_precision: float | None = None,
    confidence: float | None = None,
    guarantee: str | None = None,
    locked: bool = False,
) -> None:
    """Apply the options of a command to the project's settings.

    `make_loop` writes them to project.yaml for the next command, once the open round has accepted them; without the lock
    they are written at once.
    """
    from a2lc.io.yaml_text import YAMLError, read_yaml
    from a2lc.methods import create_method, load_methods
    from a2lc.project.config import with_options

    check_names(preset=preset, method=method, backbone=backbone)
    changes: dict[str, Any] = {}
    for name, value in (
        ("min_precision", min_precision),
        ("confidence", confidence),
        ("guarantee", guarantee),
    ):
        if value is not None:
            chosen = method or project.config.method.name
            able = [known for known, kind in load_methods().items() if name in {field.name for field in fields(kind)}]  # type: ignore[arg-type]
            if chosen not in able:
                raise InputError(
                    f"--{name.replace('_', '-')} needs a method that audits its corrections: pass --method {' or '.join(able)}, "
                    f"not {chosen}."
                )
            changes[f"method.{name}"] = value
    for setting in settings or []:
        key, sign, text = setting.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set {setting}: expected KEY=VALUE, such as training.iterations=600.")
        try:
            changes[key] = read_yaml(text)
        except YAMLError:
            raise ConfigError(f"--set {setting}: {text!r} is not a YAML value.") from None
    config: ProjectConfig = with_options(
        project.config,
        method=method,
        budget=budget,
        annotator=annotator,
        error_rate=error_rate,
        preset=preset,
        probabilities=probabilities,
        backbone=backbone,
        settings=changes,
    )
    create_method(config.method.name, config.method.settings)
    if config == project.config:
        return
    project.config = config
    if not locked:
        with project.lock():
            config.save(project.folder / "project.yaml")


def check_masks(project: Project) -> None:
    """Raise an error if the project has no masks."""
    if not len(project.masks):
        raise InputError(
            f"{project.folder} has no masks to ask about. Create them first: a2lc masks {project.folder} --method seeds"
        )


def make_loop(
    project: Project, workers: int | None = None, after_round: Callable[[int], None] = lambda round_index: None
) -> Loop:
    """Create the loop of a project, which prints results as stages end; save the settings once the open round accepts them."""
    from a2lc.rounds.loop import Loop
    from a2lc.rounds.plan import RoundPlan
    from a2lc.rounds.shards import available_cores

    config = project.config
    check_masks(project)
    if config.annotator.kind == "oracle" and not project.has_ground_truth:
        raise InputError(
            "The project has no ground truth, so answers cannot be simulated. Pass --annotator human, or create the project "
            "with --ground-truth."
        )
    if config.annotator.kind == "oracle" and config.sources.partial_ground_truth:
        raise InputError(
            "Some images have no ground truth, so not all answers can be simulated. Pass --annotator human, or create a "
            "project of the images that have it."
        )
    if not project.has_images and config.training.model != "probabilities":
        raise InputError(
            "The project has no images to train a model on. Pass a model's probabilities with --probabilities DIR, or create "
            "the project with --images."
        )
    plan = RoundPlan.of(config)
    loop = Loop(
        project,
        plan,
        workers=workers or available_cores(),
        track=console_progress(),
        on_stage=print_stage,
        after_round=after_round,
    )
    loop.check()
    # Only settings that the round accepts are saved for the next command.
    config.save(project.folder / "project.yaml")
    return loop


def print_stage(result: StageResult) -> None:
    """Print the result of a stage."""
    for line in result.lines():
        print_line(line)


def first_figures(project: Project) -> None:
    """Print the size of the project, its data mIoU if there is ground truth, and the method."""
    line = f"{project.config.name}: {len(project.images):,} images, {len(project.masks):,} masks"
    if project.has_ground_truth:
        quality = project.truth.confusion(project.state())
        line += f", data mIoU {format_figure(json_safe(quality.miou))}"
    print_line(f"{line}; method {project.config.method.name}, {project.config.method.budget:g} clicks per round")


def run_rounds(project: Project, rounds: int, until: Until | None = None, workers: int | None = None) -> None:
    """Run rounds, write their reports, and print the status or that answers are needed."""
    from a2lc.report import write_report
    from a2lc.rounds.stages import next_stage
    from a2lc.rounds.status import project_status

    def report_of(number: int) -> None:
        write_report(project, project.round_folder(number) / "report.html", through=number)

    loop = make_loop(project, workers, report_of)
    done = loop.run(rounds, until)
    if loop.stopped:
        print_line(f"stopped {loop.stopped}")
    write_report(project, project.folder / "report.html")
    print_status(json_safe(project_status(project)))
    if not done:
        number, _ = next_stage(project)
        print_line(
            f"round {number} waits for answers: a2lc serve {project.folder}; repeat the command when they are answered"
        )
