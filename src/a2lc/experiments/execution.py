"""Execute one run of an experiment in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from a2lc.acquisition.cost import AnswerTimes, classification_bits, correction_bits, precise_clicks
from a2lc.classes.table import ClassTable, read_classes
from a2lc.creation.importer import create_project
from a2lc.creation.masks import make_masks
from a2lc.demo.looks import scene_classes
from a2lc.demo.settings import SceneSettings
from a2lc.errors import A2LCError, InputError, MissingExtraError, PoolExhaustedError
from a2lc.experiments.protocol import FilesData, Protocol, Run, ScenesData
from a2lc.formats.base import Sources
from a2lc.formats.registry import find_reader
from a2lc.formats.voc import voc_classes
from a2lc.images.options import ReadingOptions
from a2lc.io.files import json_safe, new_folder, write_text
from a2lc.project.config import MethodConfig
from a2lc.project.project import Project
from a2lc.records import AnswerKind, QueryKind
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.status import project_status
from a2lc.version import versions

__all__ = [
    "MISSING",
    "MISTAKE",
    "Failed",
    "Outcome",
    "answer_bits",
    "answer_seconds",
    "begin",
    "child",
    "data_root",
    "device_name",
    "execute",
    "fault_file",
    "format_figure",
    "make_loop",
    "one_line",
    "read_state",
    "record_state",
    "run_folder",
    "scene_settings",
    "scenes_place",
    "sources_of",
]


Say = Callable[[str], None]


_STATE = "bench.json"


_OURS, MISSING, MISTAKE = 1, 3, 2
"""How a run's process ends: an error of ours, a package that is missing, or what the user can mend."""


class Failed(Exception):
    """A run came to no end, in one line."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run.

    Attributes:
        run: Which.
        found: As `execute` returns it, None where it came to no end.
        fault: Why, in one line; empty where it did.
        skipped: Left out, since it was optional and something it needs is missing.
    """

    run: Run
    found: dict[str, Any] | None = None
    fault: str = ""
    skipped: bool = False


def run_folder(out: Path, run: Run) -> Path:
    """Return the project folder of a run."""
    return out / "runs" / f"{run.name}.a2lc"


def data_root(protocol: Protocol, home: Path, given: Path | None) -> Path | None:
    """Return the folder of the data: as given, or as the protocol names it, relative to its own folder; None without either.

    Raises:
        InputError: A folder was given for scenes that are made up.
    """
    data = protocol.data
    if isinstance(data, ScenesData):
        if given is not None:
            raise InputError(f"`data` is {given}, but the scenes of this protocol are synthetic, so no folder is read.")
        return None
    return given.absolute() if given is not None else (home / data.root).absolute() if data.root else None


def read_state(folder: Path) -> dict[str, Any]:
    """Read what is recorded of a run, or of a beginning."""
    try:
        return dict(json.loads((folder / _STATE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def record_state(folder: Path, **told: Any) -> None:
    """Add figures to what is recorded of a run, or of a beginning."""
    write_text(folder / _STATE, json.dumps(read_state(folder) | json_safe(told), indent=1))


def fault_file(out: Path, run: Run) -> Path:
    """Return the file that records why a run failed."""
    return out / "runs" / f"{run.name}.failed.json"


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def format_figure(value: float | None) -> str:
    """Return a figure with four decimals, and a dash for None."""
    return "-" if value is None else f"{value:.4f}"


def scene_settings(data: ScenesData) -> SceneSettings:
    """Return the settings of the scenes that a protocol describes."""
    return SceneSettings(**data.model_dump(exclude={"kind"}))


def scenes_place(out: Path, data: ScenesData) -> Path:
    """Return the folder of made-up scenes, named by their settings."""
    told = "-".join(str(value) for value in data.model_dump(exclude={"kind"}).values())
    return out / f"scenes-{told}"


def sources_of(data: ScenesData | FilesData, out: Path, root: Path | None) -> tuple[Sources, ClassTable]:
    """Return the files of the data, all of them, and their classes.

    Raises:
        InputError: The protocol names no folder, and neither does the command line.
        MissingFileError: A folder is not there.
    """
    if isinstance(data, ScenesData):
        scenes = scenes_place(out, data)
        given = Sources(
            images=scenes / "images",
            labels=scenes / "labels",
            masks=scenes / "masks",
            ground_truth=scenes / "ground_truth",
        )
        return given, scene_classes()
    if root is None:
        raise InputError("The protocol names no folder of data. Set `data`.")

    def place(name: str | None) -> Path | None:
        return None if name is None else root / name

    sources = Sources(
        format=data.format,
        images=root / data.images,
        labels=place(data.labels),
        masks=place(data.masks),
        ground_truth=place(data.ground_truth),
        validation_images=place(data.validation_images),
        validation_ground_truth=place(data.validation_ground_truth),
    )
    for folder in (sources.images, sources.labels, sources.masks, sources.ground_truth):
        if folder is not None and not folder.is_dir():
            raise InputError(
                f"There is no folder {folder}, where the protocol expects the data. Set `data` to their folder."
            )
    if data.classes is None:
        return sources, voc_classes()
    return sources, read_classes(root / data.classes)


def _write_subset(sources: Sources, folder: Path, images: int, seed: int) -> Path:
    """Ground truth of a few images drawn by the seed, as label files; the folder of them comes back."""
    if folder.is_dir():
        return folder
    everything = Sources(
        format=sources.format, images=sources.images, labels=sources.ground_truth, ground_truth=sources.ground_truth
    )
    if sources.format != "folder":  # their splits come from lists
        everything = sources
    reader = find_reader(sources.format)
    samples = [sample for sample in reader(everything, partial=True).train if sample.ground_truth is not None]
    if images > len(samples):
        raise InputError(f"subset.images is {images}, but only {len(samples)} images have ground truth.")
    chosen = np.random.default_rng([seed, len(samples)]).choice(len(samples), size=images, replace=False)
    with new_folder(folder) as partial:
        for index in sorted(chosen.tolist()):
            truth = samples[index].ground_truth
            if not isinstance(truth, Path):
                raise InputError(f"{truth}: a subset is copied from files, but this format draws its labels.")
            to = partial / f"{samples[index].image_id}{truth.suffix}"
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(truth, to)
    return folder


def execute(run: Run, out: Path, root: Path | None, say: Say = lambda line: None) -> dict[str, Any]:
    """Run one method with one seed to its end, going on where a killed one stopped.

    Args:
        run: Which.
        out: Folder of the benchmark.
        root: Folder of the data.
        say: Gets a line as each round ends.

    Returns:
        `rounds`: of `project_status`, finished ones, each with `bits` and `person_seconds`; `start_clicks`,
        `labelled_images`, `peak_mib`, `note`, `asked_rounds`, `versions`, `device`, `classes`, `masks`,
        `images`. The same is recorded in the run's folder.

    Raises:
        A2LCError: What the user can mend.
    """
    folder = run_folder(out, run)
    if not folder.is_dir():
        beginning = begin(run, out, root, say)
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(beginning, partial)
        record_state(partial, digest=run.digest, decided_by=run.model_dump(mode="json"))
        os.replace(partial, folder)
    note = ""
    with Project(folder) as project, project.lock():
        method = MethodConfig(name=run.method, settings=run.settings, budget=run.budget)
        project.config = project.config.model_copy(
            update={"method": method, "training": run.training, "annotator": run.annotator}
        )
        project.config.save(folder / "project.yaml")

        def after(number: int) -> None:
            record_state(folder, peak_mib=max(_peak_mib(), read_state(folder).get("peak_mib", 0.0)))
            row = project_status(project)["rounds"][number]
            data_miou, model_miou = json_safe(row["data_miou"]), row["model_miou"]
            say(
                f"{run.name} round {number}: {row['clicks']:g} clicks, data mIoU {format_figure(data_miou)}, "
                f"model mIoU {format_figure(model_miou)}, {sum(row['seconds'].values()):.1f} s"
            )

        loop = make_loop(project, run, after)
        for number in range(run.rounds + 1):
            try:
                loop.run(number)
            except PoolExhaustedError as error:
                note = f"ended after round {number - 1}: {one_line(error)}"
                break
        found = _measure(project, run) | {"note": note, "asked_rounds": run.rounds}
    found["peak_mib"] = max(_peak_mib(), read_state(folder).get("peak_mib", 0.0))
    record_state(folder, result=found)
    return dict(read_state(folder)["result"])


def begin(run: Run, out: Path, root: Path | None, say: Say) -> Path:
    """Return a project with its masks at the end of round 0, made by whichever run needs it first."""
    folder = out / "beginnings" / f"{run.beginning}.a2lc"
    state = read_state(folder)
    if not state:
        shutil.rmtree(folder, ignore_errors=True)  # a process was killed before its masks were there
        sources, classes = sources_of(run.data, out, root)
        options = ReadingOptions(partial=run.start == "subset")
        labels, masks = sources.labels, sources.masks
        if run.start == "nothing":
            labels = masks = None
        elif run.start == "subset":
            assert run.subset is not None
            place = out / "subsets" / f"{run.beginning}-{run.subset}"
            labels, masks = _write_subset(sources, place, run.subset, run.seed), None
        given = Sources(
            format=sources.format,
            images=sources.images,
            labels=labels,
            masks=masks,
            ground_truth=sources.ground_truth,
            validation_images=sources.validation_images,
            validation_ground_truth=sources.validation_ground_truth,
        )
        summary = create_project(folder, given, classes, options, name=run.name, seed=run.seed)
        if run.start == "nothing" and summary.unlabelled < summary.images:
            shutil.rmtree(folder)
            raise InputError(
                "The format finds labels by itself, so the project would not start from nothing. Use format 'folder'."
            )
        labelled: list[int] = []
        with Project(folder) as project, project.lock():
            if run.masks is not None:
                make_masks(project, run.masks.method, count=run.masks.count, size=run.masks.size, replace=True)
            if run.start == "subset":
                # What these labels cost is not given to anyone for free.
                void = project.classes.ignore_index
                some = [image for image in project.images if bool((project.first_labels(image) != void).any())]
                labelled = [precise_clicks(project.truth.pixels(image)) for image in some]
        record_state(folder, start_clicks=sum(labelled), labelled_images=len(labelled))
    with Project(folder) as project, project.lock():

        def after(number: int) -> None:
            say(f"{run.name} round 0: trained for all runs that start the same way")

        make_loop(project, run, after).run(0)
    record_state(folder, peak_mib=max(_peak_mib(), read_state(folder).get("peak_mib", 0.0)))
    return folder


def make_loop(project: Project, run: Run, after: Callable[[int], None]) -> Loop:
    """Create the loop of a run on a project."""
    plan = RoundPlan(
        method=run.method,
        settings=run.settings,
        budget=run.budget,
        training=run.training,
        annotator=run.annotator,
        seed=run.seed,
    )
    return Loop(project, plan, after_round=after)


def _measure(project: Project, run: Run) -> dict[str, Any]:
    """Figures of the finished rounds."""
    status = project_status(project)
    rounds = []
    for row in status["rounds"]:
        if row["finished"] and row["round"] <= run.rounds:
            number = row["round"]
            rounds.append(
                row | {"bits": answer_bits(project, number), "person_seconds": answer_seconds(project, number)}
            )
    state = read_state(project.folder)
    return {
        "rounds": rounds,
        "start_clicks": state["start_clicks"],
        "labelled_images": state["labelled_images"],
        "images": status["images"],
        "masks": status["masks"],
        "classes": len(status["classes"]),
        "versions": versions(),
        "device": device_name(),
    }


def answer_bits(project: Project, number: int) -> float | None:
    """Bits that a round's answers cost (see `a2lc.cost`); None where no model says what they do.

    A question whether a class is right, and which if not: by the share of answers that did not confirm. The main class of
    a region: one choice among all classes; each class of a region: one such choice a class. Polygons are no choice among
    classes, so precise labels have no bits.
    """
    classes = project.classes.num_classes
    if classes < 2:
        return None
    kinds = {query.query_id: query.kind for query in project.ledger.queries(number)}
    # Answers of the round's own questions; a skipped one told nothing.
    said = [(kinds[a.query_id], a) for a, _ in project.ledger.answers(number) if a.kind != AnswerKind.SKIP]
    if any(kind == QueryKind.PRECISE for kind, _ in said):
        return None
    checks = [answer for kind, answer in said if kind in {QueryKind.CORRECTION, QueryKind.GRID, QueryKind.PIXEL}]
    wrong = sum(answer.kind != AnswerKind.CONFIRM for answer in checks)
    bits = len(checks) * correction_bits(wrong / len(checks), classes) if checks else 0.0
    for kind, answer in said:
        if kind == QueryKind.DOMINANT:
            bits += classification_bits(classes)
        elif kind == QueryKind.CLASSES:
            bits += max(1, len(answer.classes)) * classification_bits(classes)
    return bits


def answer_seconds(project: Project, number: int) -> float | None:
    """Seconds that a person is reckoned to take for a round's answers, see `a2lc.acquisition.cost.AnswerTimes`.

    None where polygons are drawn, of which nothing is assumed.
    """
    queries = {query.query_id: query for query in project.ledger.queries(number)}
    if any(query.kind == QueryKind.PRECISE for query in queries.values()):
        return None
    times = AnswerTimes()
    replies = project.ledger.answers(number)
    return sum((times.of_reply(queries[answer.query_id], answer, clicks) for answer, clicks in replies), 0.0)


def _peak_mib() -> float:
    """Most memory this process has held, MiB; 0.0 where the system does not say."""
    try:
        # What the process before it held counts in getrusage, even after a program of its own has begun.
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            held = [line.split()[1] for line in file if line.startswith("VmHWM")]
        if held:
            return int(held[0]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def device_name() -> str:
    """Return the name of the device that models train on."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return "cpu"


def child() -> NoReturn:
    """Read a run from standard input, run it, and exit."""
    job = json.loads(sys.stdin.readline())

    def watch() -> None:
        # Whoever waited was killed: a second run of the same project must not meet this one.
        sys.stdin.read()
        os._exit(_OURS)

    threading.Thread(target=watch, daemon=True).start()
    code = 0
    try:
        root = job["root"]
        execute(
            Run.model_validate(job["run"]),
            Path(job["out"]),
            None if root is None else Path(root),
            lambda line: print(line, flush=True),
        )
    except MissingExtraError as error:
        print(one_line(error), file=sys.stderr)
        code = MISSING
    except (A2LCError, OSError) as error:
        print(one_line(error), file=sys.stderr)
        code = MISTAKE
    except Exception:
        traceback.print_exc()
        code = _OURS
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by way of the interpreter's end: the watching thread holds standard input.
    os._exit(code)


if __name__ == "__main__":
    child()
