"""The Python interface: create a project, run rounds, answer queries, and read the results.

Import it with `from a2lc import Project, create_project`. The other packages work on
`a2lc.project.Project`, which only reads and writes the project folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from a2lc.classes.table import ClassTable, read_classes
from a2lc.errors import InputError, require_known
from a2lc.formats.base import Sources
from a2lc.images.options import ReadingOptions
from a2lc.io.progress import Track, no_progress
from a2lc.project import project as base
from a2lc.project.config import with_options
from a2lc.records import Answer, AnswerKind, Query
from a2lc.rounds import status
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.recorder import record_answer
from a2lc.rounds.result import StageResult
from a2lc.rounds.shards import available_cores
from a2lc.rounds.stages import take_back
from a2lc.rounds.stopping import parse_until
from a2lc.training.provider import ModelProvider

# Each function loads what it needs: reading a project takes a third of the time that loading everything does.
if TYPE_CHECKING:
    from torch import nn

    from a2lc.export import ExportSummary

__all__ = ["Project", "RunResult", "create_project"]

Classes = str | os.PathLike[str] | Sequence[str] | Mapping[str, Any] | ClassTable
"""A classes file, class names, the content of a classes file, or a table."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What `Project.run` did.

    Attributes:
        finished: False if queries wait for answers of a person: see `Project.queries` and `Project.answer`.
        stages: The stages that ran, in order.
        rounds: A row for each round so far, with the keys of `a2lc status --json`.
        stopped: Why the run ended early, if its stopping rule was met.
    """

    finished: bool
    stages: tuple[StageResult, ...]
    rounds: list[dict[str, Any]]
    stopped: str | None = None


class Project(base.Project):
    """A project folder, with everything that the command line does to it.

    Args:
        folder: The project folder.

    Example:
        >>> import a2lc
        >>> with a2lc.Project("my.a2lc") as project:                            # doctest: +SKIP
        ...     project.run(method="gain", rounds=3, budget=500)
        ...     project.label_quality()["after"]["pixel_accuracy"]
        ...     project.export("corrected", format="voc")
        {'low': 0.913, 'estimate': 0.942, 'high': 0.966}
    """

    def run(
        self,
        *,
        rounds: int = 1,
        method: str | None = None,
        budget: float | None = None,
        annotator: str | None = None,
        preset: str | None = None,
        probabilities: str | os.PathLike[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        until: str | None = None,
        models: ModelProvider | nn.Module | None = None,
        workers: int | None = None,
        on_stage: Callable[[StageResult], None] = lambda result: None,
        track: Track = no_progress,
    ) -> RunResult:
        """Run rounds: score, select, answer, correct, train, evaluate.

        Options are saved in project.yaml, as those of the command line are. An interrupted
        run is resumed.

        Args:
            rounds: Number of rounds to run, in addition to finished ones. An open round is finished first, and counts.
            method: Name of a method, see `a2lc methods`, or `package.module:Class`.
            budget: Clicks per round.
            annotator: `oracle` (simulated from ground truth) or `human`.
            preset: Training preset: `cpu`, `tiny` or `paper`.
            probabilities: Folder of class probabilities, IMAGE_ID.npy of shape (K, H, W), instead of a network.
            settings: Other settings by dotted name, such as `{"training.iterations": 600}`.
            until: Stop early once audits show this, such as `accuracy=0.95`.
            models: A model provider, or a network (`torch.nn.Module`) that replaces the configured one.
            workers: Number of processes that share the work on images; default: one per core. Results are the same.
            on_stage: Called with the result of each stage.
            track: Progress reporter; default: none.

        Raises:
            InputError: An option does not fit the project; the subclass tells which.
            LockedError: Another process is changing the project.
        """
        from a2lc.methods import create_method
        from a2lc.rounds.loop import Loop

        with self.lock():
            config = with_options(
                self.config,
                method=method,
                budget=budget,
                annotator=annotator,
                preset=preset,
                probabilities=None if probabilities is None else Path(probabilities),
                settings=settings,
            )
            create_method(config.method.name, config.method.settings)
            if config.annotator.kind == "oracle" and not self.has_ground_truth:
                raise InputError(
                    "The project has no ground truth, so answers cannot be simulated. Set `annotator` to human."
                )
            stages: list[StageResult] = []

            def keep(result: StageResult) -> None:
                stages.append(result)
                on_stage(result)

            loop = Loop(
                self,
                RoundPlan.of(config),
                models=_provider_of(models),
                workers=workers or available_cores(),
                track=track,
                on_stage=keep,
            )
            loop.check()
            self.config = config
            config.save(self.folder / "project.yaml")
            done = (
                sum(stage.stage == "evaluate" for stage in self.ledger.stages()) - 1
            )  # round 0 is no round of answers
            rule = None if until is None else parse_until(until)
            finished = loop.run(max(done, 0) + rounds, rule)
        return RunResult(finished=finished, stages=tuple(stages), rounds=self.status()["rounds"], stopped=loop.stopped)

    def queries(self) -> list[Query]:
        """Return the queries without an answer, in the order in which to ask them."""
        return self.ledger.queries(unanswered=True)

    def answer(
        self,
        query: Query | int,
        answer: str | int | Iterable[str | int] | None,
        *,
        annotator: str = "api",
        milliseconds: int | None = None,
        in_grid: bool = False,
    ) -> bool:
        """Record the answer to a query.

        Args:
            query: The query, or its id.
            answer: The class, by name or index; several classes for a query of kind `classes`; None if the mask belongs
                to no class; `"skip"` if the annotator cannot tell; `"mixed"` if no single class fits.
            annotator: Name of the annotator.
            milliseconds: Time that the answer took.
            in_grid: Whether the whole grid of a query of kind `grid` was shown: an answer then costs no click of its own if
                it is the class of the grid.

        Returns:
            False if the same answer was recorded before.

        Raises:
            InputError: There is no such query, or the answer does not fit it.
            UnknownNameError: There is no such class.
            AlreadyAnsweredError: The query has a different answer already.
        """
        if isinstance(query, int):
            asked = {one.query_id: one for one in self.ledger.queries()}
            if query not in asked:
                raise InputError(f"There is no query {query} in {self.folder}.")
            query = asked[query]
        kind, classes = self._kind_of(query, answer)
        reply = Answer(
            query_id=query.query_id,
            annotator=annotator,
            kind=kind,
            classes=classes,
            milliseconds=milliseconds,
            in_grid=in_grid,
        )
        with self.lock():
            return record_answer(self, reply)

    def _kind_of(
        self, query: Query, answer: str | int | Iterable[str | int] | None
    ) -> tuple[AnswerKind, tuple[int, ...]]:
        """Translate an answer into what the ledger records."""
        if answer is None:
            return AnswerKind.VOID, ()
        if isinstance(answer, str) and answer in {"skip", "mixed"} and answer not in self.classes.names:
            return AnswerKind(answer), ()
        if not isinstance(answer, str | int):
            return AnswerKind.CLASSES, tuple(self._class_index(one) for one in answer)
        index = self._class_index(answer)
        return (AnswerKind.CONFIRM if index == query.proposed else AnswerKind.CORRECT), (index,)

    def _class_index(self, name: str | int) -> int:
        names = self.classes.names
        if isinstance(name, int):
            if not 0 <= name < len(names):
                raise InputError(f"There is no class index {name}; expected 0..{len(names) - 1}.")
            return name
        return names.index(require_known("class", name, names))

    def status(self) -> dict[str, Any]:
        """Return the rounds, their figures and the next stage, with the keys of `a2lc status --json`."""
        return status.project_status(self)

    def label_quality(self, round_index: int | None = None) -> dict[str, Any] | None:
        """Estimate label quality from audits and answers alone; see `a2lc.rounds.status.label_quality`.

        Args:
            round_index: Estimate the labels at the end of this round; None for the last audited round.

        Returns:
            The estimates, or None if no round was audited.
        """
        return status.label_quality(self, round_index)

    def report(self, path: str | os.PathLike[str] | None = None, *, through: int | None = None) -> Path:
        """Write a report on the project as one self-contained HTML file, and return its path.

        Args:
            path: File to write; default: `report.html` in the project folder.
            through: Use the state at the end of this round; default: the current state.
        """
        from a2lc.report import write_report

        return write_report(self, self.folder / "report.html" if path is None else Path(path), through=through)

    def export(
        self,
        out: str | os.PathLike[str],
        format: str = "folder",
        *,
        through: int | None = None,
        changes_only: bool = False,
        proven_only: bool = False,
        track: Track = no_progress,
    ) -> ExportSummary:
        """Write the corrected data set into a new folder; see `a2lc.export.export_project`.

        Args:
            out: Folder to write to; must not exist, or be empty.
            format: Name of a format.
            through: Use the state at the end of this round; default: the current state.
            changes_only: Write only images whose labels changed, with pictures of each change.
            proven_only: Leave out automatic corrections that no certificate covers.
            track: Progress reporter; default: none.
        """
        from a2lc.export import export_project

        return export_project(
            self,
            Path(out),
            format,
            through=through,
            changes_only=changes_only,
            proven_only=proven_only,
            track=track,
        )

    def undo(self, round_index: int, source: str = "all") -> int:
        """Undo the corrections of a round, keep later ones, and return the number of masks that change.

        Args:
            round_index: Round to undo.
            source: `manual`, `automatic` or `all`.
        """
        with self.lock():
            return take_back(self, round_index, source)


def create_project(
    folder: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    labels: str | os.PathLike[str] | None = None,
    masks: str | os.PathLike[str] | None = None,
    ground_truth: str | os.PathLike[str] | None = None,
    classes: Classes | None = None,
    format: str = "folder",
    validation_images: str | os.PathLike[str] | None = None,
    validation_ground_truth: str | os.PathLike[str] | None = None,
    name: str | None = None,
    seed: int = 0,
    track: Track = no_progress,
    **reading: Any,
) -> Project:
    """Check a data set and create a project from it; the files are read, never changed.

    Args:
        folder: Project folder; must not exist, or be empty.
        images: Folder of images, root folder of the format, or a URL such as `s3://bucket/images`.
        labels: Labels to correct: a folder, or the file of the format; None to start without labels.
        masks: Folder of mask maps; None for the connected components of the labels.
        ground_truth: Folder of true labels, if there are any.
        classes: A classes file, class names, or a class table; None for the classes that the format defines.
        format: Format of the data set.
        validation_images: Images used only to measure models.
        validation_ground_truth: Ground truth of the validation images.
        name: Name of the project; default: that of the folder.
        seed: Seed of all random numbers.
        track: Progress reporter; default: none.
        **reading: Reading options, fields of `a2lc.images.options.ReadingOptions`, such as `skip_bad=True`.

    Returns:
        The open project.

    Raises:
        InputError: A file cannot be used; the message names it and says what to do. Nothing was written.

    Example:
        >>> import a2lc
        >>> project = a2lc.create_project(                                       # doctest: +SKIP
        ...     "my.a2lc", images="images", labels="labels", classes=["road", "car", "tree"]
        ... )
    """
    from a2lc.creation import importer

    for key in reading:
        require_known("reading option", key, sorted(ReadingOptions.__dataclass_fields__))
    elsewhere = images is not None and "://" in str(images)

    def path(value: str | os.PathLike[str] | None) -> Path | None:
        return None if value is None else Path(value)

    sources = Sources(
        format=format,
        images=None if elsewhere else path(images),
        labels=path(labels),
        masks=path(masks),
        ground_truth=path(ground_truth),
        validation_images=path(validation_images),
        validation_ground_truth=path(validation_ground_truth),
        address=str(images) if elsewhere else None,
    )
    importer.create_project(
        Path(folder), sources, _table_of(classes), ReadingOptions(**reading), name=name, seed=seed, track=track
    )
    return Project(folder)


def _provider_of(models: ModelProvider | nn.Module | None) -> ModelProvider | None:
    """Take a network for the model of a provider."""
    if models is None or hasattr(models, "from_weights"):
        return cast("ModelProvider | None", models)
    from a2lc.rounds.providers import ConfiguredModels

    return ConfiguredModels(cast("nn.Module", models))


def _table_of(classes: Classes | None) -> ClassTable | None:
    """Make a class table of what a caller may give."""
    if classes is None or isinstance(classes, ClassTable):
        return classes
    if isinstance(classes, str | os.PathLike):
        return read_classes(Path(classes))
    if isinstance(classes, Mapping):
        return ClassTable.from_json(dict(classes), "classes")
    return ClassTable.from_json({"classes": [{"name": name} for name in classes]}, "classes")
