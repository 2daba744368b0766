"""The command line: one verb an arrow of the data flow."""

from __future__ import annotations

import json
import logging
import math
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
import yaml
from rich.console import Console
from rich.table import Table

from a2lc.cli_classes import class_app
from a2lc.errors import A2LCError, ConfigError, InputError, MissingExtraError, first_names, require_known
from a2lc.files import free_space_error, json_safe
from a2lc.progress import console_progress
from a2lc.version import __version__

if TYPE_CHECKING:
    from a2lc.classes import ClassTable
    from a2lc.config import ProjectConfig
    from a2lc.data.png import Stretch
    from a2lc.doctor import Diagnosis
    from a2lc.foundation.weights import Ready, Weights
    from a2lc.loop import Loop
    from a2lc.project import Project
    from a2lc.until import Until

__all__ = ["app", "main"]

app = typer.Typer(
    name="a2lc",
    help="Active and automated label correction for semantic segmentation data sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Console(Console):
    """A console that leaves a reader who went away to `main`: Rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


# Tables of results are 100 characters wide whether a terminal or a file reads them.
_out = _Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
_err = _Console(stderr=True, highlight=False, soft_wrap=True)

ProjectDir = Annotated[Path, typer.Argument(metavar="DIR", help="Project folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MethodName = Annotated[str | None, typer.Option("--method", help="Method, see `a2lc methods`.")]
Budget = Annotated[float | None, typer.Option("--budget", min=0, help="Clicks a round.")]
Annotator = Annotated[str | None, typer.Option("--annotator", help="oracle (simulated, needs ground truth) or human.")]
ErrorRate = Annotated[float | None, typer.Option("--error-rate", help="Share of wrong answers of the oracle.")]
Preset = Annotated[str | None, typer.Option("--preset", help="Training preset: cpu, paper or tiny.")]
Preview = Annotated[bool, typer.Option("--preview", help="Of `correct`: only show what would change.")]
ValueMap = Annotated[
    list[str] | None, typer.Option("--map", metavar="VALUE=VALUE", help="Read a label value as another.")
]
Ignore = Annotated[
    int | None,
    typer.Option("--ignore", min=0, max=65535, help="Label value that means no class; default: the classes file's."),
]
Colours = Annotated[
    bool, typer.Option("--colours", help="Read coloured labels through the colours of the classes file.")
]
Snap = Annotated[
    int | None,
    typer.Option("--snap", min=0, max=255, help="Read pixels of JPEG labels as the known value at most so far away."),
]
MinPrecision = Annotated[
    float | None,
    typer.Option("--min-precision", help="Change unseen masks only if audits prove so many right, such as 0.9 (gain)."),
]
Confidence = Annotated[
    float | None, typer.Option("--confidence", help="Of promises and intervals; default 0.95 (gain).")
]
Segmenter = Annotated[
    str, typer.Option("--segmenter", help="Weights that find masks: a name of docs/pseudo.md, OWNER/NAME, or a folder.")
]
Device = Annotated[str, typer.Option("--device", help="Of foundation models: auto, cpu, cuda or cuda:N.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch weights that are not on this machine.")]
AcceptLicense = Annotated[
    list[str] | None,
    typer.Option("--accept-license", metavar="NAME", help="Weights whose licence you have read and accept."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as training.iterations=600 or method.lcm=false."),
]


def _line(text: str) -> None:
    _out.print(text, markup=False)
    # Whoever reads through a pipe sees each line when it is said.
    _out.file.flush()


app.add_typer(class_app, name="classes")

# ---- making a project -----------------------------------------------------------------------------------------------


@app.command()
def init(
    folder: ProjectDir,
    images: Annotated[
        str | None,
        typer.Option("--images", help="Folder of images, root of the format, an address (s3://..), or a list of them."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Doubtful labels: a folder, or the format's file; without, there are none."),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option("--masks", help="Folder of mask maps; default: components of the labels; see also a2lc masks."),
    ] = None,
    ground_truth: Annotated[Path | None, typer.Option("--ground-truth", help="Folder of true labels, if any.")] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Classes file (JSON, YAML, a name a line), or names: road,car,'traffic light'."),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="Layout of the files: folder, voc, cityscapes, ade20k, coco, coco-panoptic, huggingface, cvat-mask, cvat-xml, "
            "label-studio, fiftyone or labelme; see docs/formats.md.",
        ),
    ] = "folder",
    validation_images: Annotated[
        Path | None, typer.Option("--validation-images", help="Images that only measure models.")
    ] = None,
    validation_ground_truth: Annotated[
        Path | None, typer.Option("--validation-ground-truth", help="Their true labels.")
    ] = None,
    value_map: ValueMap = None,
    ignore: Ignore = None,
    colours: Colours = False,
    snap: Snap = None,
    exif: Annotated[
        str, typer.Option("--exif", help="Images turned by EXIF: refuse, apply or ignore the orientation.")
    ] = "refuse",
    bake_exif: Annotated[
        bool, typer.Option("--bake-exif", help="Keep upright copies of images turned by EXIF in the project.")
    ] = False,
    tile: Annotated[
        int | None, typer.Option("--tile", min=32, help="Cut images wider or higher than this into tiles.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option("--bands", help="Bands for red, green and blue, or grey, from 1: 4,3,2.")
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option("--stretch", help="More than 8 bits: values that become black and white, 0:3000 or 2%:98%."),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be used.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Images without a label map start without labels.")
    ] = False,
    partial_ground_truth: Annotated[
        bool, typer.Option("--partial-ground-truth", help="Measure on the images that have ground truth.")
    ] = False,
    max_pixels: Annotated[int | None, typer.Option("--max-pixels", min=1, help="Refuse larger images.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of everything drawn at random.")] = 0,
    preset: Preset = None,
    method: MethodName = None,
) -> None:
    """Make a project from images and, if there are any, labels and masks. Your files are read, never changed."""
    from a2lc.data.base import Sources
    from a2lc.data.intake import ReadRules, create_project
    from a2lc.project import Project

    require_known("value of --exif", exif, ["refuse", "apply", "ignore"])
    if bake_exif and exif != "refuse":
        raise InputError("--bake-exif and --exif say different things about the same images. Give one of them.")
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    elsewhere = images is not None and "://" in images
    if elsewhere and format != "folder":
        raise InputError(
            f"--images {images}: images at addresses go with plain folders of labels, not with --format {format}."
        )
    sources = Sources(
        format=format,
        images=None if images is None or elsewhere else Path(images),
        labels=labels,
        masks=masks,
        ground_truth=ground_truth,
        validation_images=validation_images,
        validation_ground_truth=validation_ground_truth,
        address=images if elsewhere else None,
    )
    rules = ReadRules(
        value_map=_value_map(value_map or []),
        ignore=ignore,
        colours=colours,
        snap=snap,
        exif="bake" if bake_exif else exif,
        tile=tile,
        bands=_bands(bands),
        stretch=_stretch(stretch),
        skip_bad=skip_bad,
        partial=partial,
        partial_truth=partial_ground_truth,
        **limit,
    )
    _check_names(preset=preset, method=method)
    table = None if classes is None else _classes(classes)
    summary = create_project(folder, sources, table, rules, seed=seed, track=console_progress(_err))
    with Project(folder) as project:
        _configure(project, preset=preset, method=method)
    for note in summary.notes:
        _line(f"note: {note}")
    for name, reason in list(summary.skipped.items())[:5]:
        _line(f"left out: {name}: {reason}")
    if summary.skipped:
        _line(f"left out {len(summary.skipped)} images in all; the list is in {folder / 'skipped.csv'}")
    _line(f"{summary.images:,} images, {summary.masks:,} masks, {summary.num_classes} classes in {folder}")
    if summary.validation_images:
        _line(f"{summary.validation_images:,} validation images")
    without = summary.unlabelled == summary.images
    if without:
        _line("there are no labels: every pixel starts without a class")
    elif summary.unlabelled:
        _line(f"{summary.unlabelled:,} images have no label map: their pixels start without a class")
    if 0 < summary.with_truth < summary.images:
        _line(f"{summary.with_truth:,} images have ground truth: figures are of those")
    if without and summary.quality is not None:
        _line("ground truth is there: answers can be simulated, and labels measured once there are any")
    elif summary.quality is not None:
        quality = summary.quality
        _line(
            f"data mIoU {quality.miou:.4f}, pixel accuracy {quality.pixel_accuracy:.4f}, coverage {quality.coverage:.4f}"
        )
    else:
        _line("no ground truth: label quality is not known")
    _line(f"next: {_next_command(folder, has_masks=summary.masks > 0, has_labels=not without)}")


def _classes(given: str) -> ClassTable:
    """A classes file, or names with commas between them."""
    from a2lc.classes import ClassTable, read_classes

    path = Path(given)
    if path.suffix.lower() in {".json", ".yaml", ".yml", ".txt"} or path.is_file() or "," not in given:
        return read_classes(path)
    names = [name.strip().strip("\"'").strip() for name in given.split(",")]
    return ClassTable.from_json({"classes": [{"name": name} for name in names]}, "--classes")


def _is_number(text: str) -> bool:
    """Whether text is a whole number of few digits: `isdigit` is also true of superscripts, which no number is made of."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def _bands(given: str | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    parts = given.split(",")
    if len(parts) not in (1, 3) or not all(_is_number(part.strip()) and int(part) > 0 for part in parts):
        raise InputError(f"--bands {given}: expected one band or three, from 1, such as 4,3,2.")
    return tuple(int(part) for part in parts)


def _stretch(given: str | None) -> Stretch | None:
    from a2lc.data.png import Stretch

    if given is None:
        return None
    low, _, high = given.partition(":")
    percent = low.endswith("%") and high.endswith("%")
    try:
        first, last = (float(part.rstrip("%") if percent else part) for part in (low, high))
    except ValueError:
        first = last = 0.0
    if (
        not math.isfinite(first)
        or not math.isfinite(last)
        or not first < last
        or (percent and not 0 <= first < last <= 100)
    ):
        raise InputError(f"--stretch {given}: expected LOW:HIGH with LOW below HIGH, such as 0:3000 or 2%:98%.")
    return Stretch(first, last, percent)


@app.command()
def doctor(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a data set, in any layout, or a project.")],
    images: Annotated[Path | None, typer.Option("--images", help="Images, where they are not found.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Labels, where they are not found.")] = None,
    masks: Annotated[Path | None, typer.Option("--masks", help="Mask maps, where they are not found.")] = None,
    ground_truth: Annotated[
        Path | None, typer.Option("--ground-truth", help="True labels, where they are not found.")
    ] = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Classes file, or names.")] = None,
    format: Annotated[str | None, typer.Option("--format", help="Layout, where it is not told right.")] = None,
    value_map: ValueMap = None,
    ignore: Ignore = None,
    colours: Colours = False,
    snap: Snap = None,
    exif: Annotated[str, typer.Option("--exif", help="As of init.")] = "refuse",
    bake_exif: Annotated[bool, typer.Option("--bake-exif", help="As of init.")] = False,
    bands: Annotated[str | None, typer.Option("--bands", help="As of init.")] = None,
    stretch: Annotated[str | None, typer.Option("--stretch", help="As of init.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="As of init.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="As of init.")] = False,
    partial_ground_truth: Annotated[bool, typer.Option("--partial-ground-truth", help="As of init.")] = False,
    max_pixels: Annotated[int | None, typer.Option("--max-pixels", min=1, help="As of init.")] = None,
    as_json: Json = False,
) -> None:
    """Say what is wrong with the files, where, and what mends it. Nothing is changed. Exits with 2 if init would refuse."""
    from a2lc.data.base import Sources
    from a2lc.data.intake import ReadRules
    from a2lc.doctor import examine, examine_project, find_layout, unknown_annotations, with_images
    from a2lc.project import Project

    if (folder / "project.yaml").is_file():
        with Project(folder) as project:
            diagnosis = examine_project(project, track=console_progress(_err))
        _print_diagnosis(diagnosis, f"project {folder}", None, as_json)
        return
    require_known("value of --exif", exif, ["refuse", "apply", "ignore"])
    if not folder.is_dir():
        raise InputError(f"No folder at {folder}. Name the folder of a data set, or of a project.")
    layout = find_layout(folder)
    if layout is None and images is None and labels is None:
        raise InputError(
            f"{folder} holds no image, label or annotation file that is known. Name them: --images, --labels."
        )
    if layout is not None and images is not None and format is None:
        layout = with_images(layout, folder, images)
        images = None  # they are where the layout has them now
    own = layout.sources if layout is not None and format in (None, layout.sources.format) else Sources(images=folder)
    sources = Sources(
        format=format or own.format,
        images=images or own.images,
        labels=labels or own.labels,
        masks=masks or own.masks,
        ground_truth=ground_truth or own.ground_truth,
    )
    given = classes or (str(layout.classes) if layout is not None and layout.classes is not None else None)
    table = None if given is None else _classes(given)
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    rules = ReadRules(
        value_map=_value_map(value_map or []),
        ignore=ignore,
        colours=colours,
        snap=snap,
        exif="bake" if bake_exif else exif,
        bands=_bands(bands),
        stretch=_stretch(stretch),
        skip_bad=skip_bad,
        partial=partial,
        partial_truth=partial_ground_truth,
        **limit,
    )
    unknown = unknown_annotations(folder) if sources.format == "folder" and format is None else []
    diagnosis = examine(sources, table, rules, unknown=unknown, track=console_progress(_err))
    command = ["a2lc", "init", f"{folder.absolute().name}.a2lc", "--images", str(sources.images)]
    if sources.images is None:
        command = command[:3]
    for flag, value in (
        ("--labels", sources.labels),
        ("--masks", sources.masks),
        ("--ground-truth", sources.ground_truth),
        ("--classes", given),
        ("--format", sources.format if sources.format != "folder" else None),
    ):
        command += [flag, str(value)] if value is not None else []
    said = " ".join(shlex.quote(part) for part in [*command, *_given_flags(context)])
    why = f" ({layout.why})" if layout is not None and own is layout.sources else ""
    _print_diagnosis(diagnosis, f"layout {sources.format}{why}", said, as_json)


_READING = frozenset({"--map", "--ignore", "--snap", "--exif", "--bands", "--stretch", "--max-pixels"})
_READING_ALONE = frozenset({"--colours", "--bake-exif", "--skip-bad", "--partial", "--partial-ground-truth"})


def _given_flags(context: typer.Context) -> list[str]:
    """The options of this very command that say how files are read, as they were given."""
    found: list[str] = []
    for parameter in context.command.params:
        flag = parameter.opts[0]
        value = context.params.get(str(parameter.name))
        if flag in _READING_ALONE and value:
            found.append(flag)
        elif flag in _READING and value is not None and value != parameter.default:
            for one in value if isinstance(value, list | tuple) else [value]:
                found += [flag, str(one)]
    return found


def _print_diagnosis(diagnosis: Diagnosis, what: str, command: str | None, as_json: bool) -> None:
    """Print what was found; exits with 2 if there are faults."""
    from dataclasses import asdict

    faults, flags = diagnosis.of("fault"), diagnosis.mended_by
    mended = None if command is None or flags is None else " ".join([command, *flags])
    if as_json:
        found = {"what": what, **asdict(diagnosis), "faults": len(faults), "command": mended}
        _line(json.dumps(json_safe(found), indent=1))
    else:
        _line(f"{what}: {diagnosis.images:,} images, {diagnosis.label_maps:,} label maps")
        for finding in diagnosis.findings:
            _line(
                f"{finding.level.upper() if finding.level == 'fault' else finding.level}  [{finding.code}] {finding.message}"
            )
            for value in finding.values:
                _line(f"       {value.value}: {value.pixels:,} pixels in {value.files:,} files")
            for file in finding.files:
                _line(f"       {file}")
            if finding.count > len(finding.files) > 0:
                _line(f"       and {finding.count - len(finding.files):,} more")
            if finding.mend:
                options = f"   {' '.join(finding.flags)}" if finding.flags else ""
                _line(f"       mend: {finding.mend}{options}")
        doubts = len(diagnosis.of("doubt"))
        if faults:
            _line(f"{len(faults)} faults, {doubts} doubts" + ("" if mended else "; mend the files, then look again"))
        else:
            _line("no fault" + (f", {doubts} doubts" if doubts else ": a clean bill"))
        if mended is not None:
            _line(f"next: {mended}")
    if faults:
        raise typer.Exit(2)


@app.command()
def masks(
    folder: ProjectDir,
    method: Annotated[str, typer.Option("--method", help="seeds, slic, grid, components (of the labels), or sam.")],
    count: Annotated[int, typer.Option("--count", min=1, help="Superpixels an image, about: seeds and slic.")] = 1024,
    size: Annotated[int, typer.Option("--size", min=1, help="Side of the squares in pixels: grid.")] = 32,
    replace: Annotated[bool, typer.Option("--replace", help="In place of the masks the project has.")] = False,
    segmenter: Segmenter = "sam2.1-hiera-small",
    points: Annotated[int, typer.Option("--points", min=1, help="A side of the grid of points: sam.")] = 32,
    min_iou: Annotated[float, typer.Option("--min-iou", help="How sure the model must be of a mask: sam.")] = 0.88,
    min_stability: Annotated[
        float, typer.Option("--min-stability", help="How little a mask may change with the threshold: sam.")
    ] = 0.95,
    cover: Annotated[
        str, typer.Option("--cover", help="Cover what sam leaves: none, or slic or seeds, about --count an image.")
    ] = "none",
    device: Device = "auto",
    download: Download = False,
    accept_license: AcceptLicense = None,
) -> None:
    """Make masks from the images, or from the labels, before the first round."""
    from a2lc.masks.make import MASK_METHODS, SamMasks, make_masks
    from a2lc.project import Project

    require_known("way to make masks", method, MASK_METHODS)
    sam, mended = None, None
    if method == "sam":
        from a2lc.foundation.pseudo import record_commits, recorded_commits
        from a2lc.foundation.segmenter import AutomaticSettings

        automatic = AutomaticSettings(points=points, min_iou=min_iou, min_stability=min_stability)
        automatic.check()
        with Project(folder) as project:  # nothing is fetched for a folder that is no project, or whose masks stay
            if len(project.masks) and not replace and project.mended_masks is None:
                raise InputError(
                    f"{folder} has {len(project.masks):,} masks already. Pass --replace to make others in their place."
                )
            mended = project.mended_masks
        (ready,) = _weights([(segmenter, "segmenter")], recorded_commits(folder), download, accept_license)
        sam = SamMasks(ready=ready, device=device, automatic=automatic, cover=cover)
    with Project(folder) as project, project.lock():
        if sam is not None:
            project.mended_masks = project.mended_masks or mended
            record_commits(folder, [sam.ready])
        track = console_progress(_err)
        number = make_masks(project, method, count=count, size=size, sam=sam, track=track, replace=replace)
        pixels = float(project.masks.area.mean())
        has_labels = bool((project.masks.pair_label >= 0).any())
    _line(f"{number:,} masks of {pixels:,.0f} pixels on average in {len(project.images):,} images")
    _line(f"next: {_next_command(folder, has_masks=True, has_labels=has_labels)}")


@app.command()
def pseudo(
    folder: ProjectDir,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of images: without a project at DIR, one is made of them.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Classes file (JSON, YAML, a name a line), or names: road,car,'traffic light'."),
    ] = None,
    detector: Annotated[
        str,
        typer.Option("--detector", help="Weights that find boxes: a name of docs/pseudo.md, OWNER/NAME, or a folder."),
    ] = "grounding-dino-tiny",
    segmenter: Segmenter = "sam2.1-hiera-small",
    box_threshold: Annotated[float, typer.Option("--box-threshold", help="Least score of a box, 0 to 1.")] = 0.2,
    one_class: Annotated[
        bool, typer.Option("--one-class-per-prompt", help="Look for one class at a time: slower.")
    ] = False,
    reduction: Annotated[
        str, typer.Option("--reduction", help="A class's score is the mean or the max of its words'.")
    ] = "mean",
    nms: Annotated[float, typer.Option("--nms", help="Boxes of one class that overlap more: the better stays.")] = 0.8,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", help="Who keeps a pixel after class priority: the higher score, or the smaller size."
        ),
    ] = "score",
    cover: Annotated[
        str, typer.Option("--cover", help="Cover pixels without an object by slic or seeds, or leave them: none.")
    ] = "slic",
    cover_count: Annotated[int, typer.Option("--cover-count", help="Superpixels an image to cover with, about.")] = 200,
    background: Annotated[
        str | None, typer.Option("--background", help="Class of pixels without an object; default: no class.")
    ] = None,
    shortest: Annotated[
        int, typer.Option("--shortest", help="Images are found in at this shortest side, pixels,")
    ] = 800,
    longest: Annotated[int, typer.Option("--longest", help="or at this longest side.")] = 1333,
    device: Device = "auto",
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images times prompts at once; default 1, or 4 on a GPU.")
    ] = None,
    full_precision: Annotated[bool, typer.Option("--full-precision", help="No half precision on a GPU.")] = False,
    preview: Annotated[
        int | None, typer.Option("--preview", help="Only make a picture of what the first so many images would get.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of the labels and masks of the project.")
    ] = False,
    download: Download = False,
    accept_license: AcceptLicense = None,
    exif: Annotated[
        str, typer.Option("--exif", help="Images turned by EXIF: refuse, apply or ignore the orientation.")
    ] = "refuse",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be used.")] = False,
) -> None:
    """Make labels and masks from images and class names with foundation models, before the first round."""
    from a2lc.foundation.pseudo import (
        PseudoSettings,
        check_project,
        make_pseudo_labels,
        recorded_commits,
    )
    from a2lc.foundation.pseudo import preview as make_preview
    from a2lc.project import Project

    settings = PseudoSettings(
        box_threshold=box_threshold,
        one_class_per_prompt=one_class,
        reduction=reduction,
        nms=nms,
        shortest=shortest,
        longest=longest,
        overlap=overlap,
        cover=cover,
        cover_count=cover_count,
        background=background,
        device=device,
        batch=batch,
        autocast=not full_precision,
    )
    settings.check()
    is_there = (folder / "project.yaml").is_file()
    table, mended = None if classes is None else _classes(classes), None
    if not is_there and (images is None or table is None):
        raise InputError(
            f"There is no project at {folder}. Name images and classes to make one: a2lc pseudo {folder} --images FOLDER "
            "--classes FILE"
        )
    if is_there:
        with Project(folder) as project:
            mended = project.mended_masks
            if preview is None and mended is None:
                check_project(project, replace=replace)
            _same_source(project, images, table)
            if background is not None:
                project.classes.index(background)
    elif background is not None and table is not None:
        table.index(background)
    found_by, masked_by = _weights(
        [(detector, "detector"), (segmenter, "segmenter")], recorded_commits(folder), download, accept_license
    )
    if not is_there and images is not None:
        from a2lc.data.base import Sources
        from a2lc.data.intake import ReadRules, create_project

        require_known("value of --exif", exif, ["refuse", "apply", "ignore"])
        rules = ReadRules(exif=exif, skip_bad=skip_bad)
        made = create_project(folder, Sources(images=images), table, rules, track=console_progress(_err))
        _line(f"{made.images:,} images, {made.num_classes} classes in {folder}")
        if made.skipped:
            _line(f"left out {len(made.skipped)} images; the list is in {folder / 'skipped.csv'}")
    track = console_progress(_err)
    with Project(folder) as project, project.lock():
        if preview is not None:
            picture = make_preview(project, settings, found_by, masked_by, preview, track=track, say=_line)
            _line(f"look at {picture}; nothing was put in place. The same command without --preview labels all images")
            return
        # What was mended when the project was first opened here may be this very command's work.
        project.mended_masks = project.mended_masks or mended
        found = make_pseudo_labels(project, settings, found_by, masked_by, replace=replace, track=track, say=_line)
        quality = project.confusion(project.state()) if project.has_ground_truth else None
        has_labels = bool((project.masks.pair_label >= 0).any())
    _line(
        f"{found.masks:,} masks in {found.images:,} images, {found.objects:,} of them objects; {found.coverage:.1%} of pixels "
        "carry a class"
    )
    if found.empty:
        _line(f"nothing was found in {found.empty:,} images")
    if found.never_found:
        _line(
            f"never found: {first_names(found.never_found, 8)}. Give them synonyms in {folder / 'project.yaml'}, or lower "
            "--box-threshold, and look first: --preview 8"
        )
    if quality is not None:
        figures = json_safe([quality.miou, quality.pixel_accuracy, quality.coverage])
        _line("data mIoU {}, pixel accuracy {}, coverage {}".format(*map(_figure, figures)))
    _line(f"next: {_next_command(folder, has_masks=True, has_labels=has_labels)}")


def _weights(
    named: Sequence[tuple[str, str]], recorded: dict[str, str], download: bool, accepted: list[str] | None
) -> list[Ready]:
    """Weights by name and job, told about before anything is fetched."""
    from a2lc.foundation.weights import check_license, describe, find_weights, obtain

    found = [find_weights(name, job, recorded) for name, job in named]
    for weights in found:
        check_license(weights, accepted or [])
    for weights in found:
        _line(describe(weights))

    def ask(weights: Weights) -> bool:
        return sys.stdin.isatty() and typer.confirm(f"Download {weights.name}?", err=True)

    return [obtain(weights, download=download, ask=ask) for weights in found]


def _same_source(project: Project, images: Path | None, table: ClassTable | None) -> None:
    """Refuse images or classes that are not those of the project that is there."""
    used = project.config.sources.images
    # Of a folder with a part for training that part is used; of a list of addresses there is no folder.
    one = images is None or not images.is_dir() or used is None
    if not one and images is not None and used is not None:
        one = project.source_path(used).resolve().is_relative_to(images.resolve())
    if not one:
        raise InputError(
            f"{project.folder} is a project of the images in {used}, not of {images}. Leave --images out to go on with it, or "
            "name another folder."
        )
    if table is not None and table != project.classes:
        raise InputError(
            f"{project.folder} has other classes than --classes says. Leave --classes out to go on with those of its "
            "project.yaml, where names, synonyms and priorities may be changed, or name another folder."
        )


def _next_command(folder: Path, *, has_masks: bool, has_labels: bool) -> str:
    if not has_masks:
        return f"a2lc masks {folder} --method seeds"
    # Methods that correct labels need some to begin with.
    return f"a2lc run {folder}" if has_labels else f"a2lc run {folder} --method classbal"


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to.")] = Path("a2lc-demo"),
    images: Annotated[int, typer.Option("--images", min=8, help="Made-up scenes to repair.")] = 96,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="Rounds.")] = 3,
    budget: Annotated[float, typer.Option("--budget", min=1, help="Clicks a round.")] = 280,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of scenes and run.")] = 0,
    method: MethodName = None,
) -> None:
    """Made-up street scenes with planted label errors, repaired in three rounds: no GPU, no download."""
    from a2lc.config import AnnotatorConfig
    from a2lc.data.base import Sources
    from a2lc.data.intake import create_project
    from a2lc.data.scenes import SceneSettings, scene_classes, write_scenes
    from a2lc.project import Project

    _check_names(method=method)
    scenes, place = folder / "scenes", folder / "demo.a2lc"
    settings = SceneSettings(images=images, validation_images=max(4, images // 4), seed=seed)
    if not scenes.exists():
        write_scenes(scenes, settings)
    _line(f"{images} made-up street scenes in {scenes}; a weak labeller gave their masks classes, some of them wrong")
    if not (place / "project.yaml").is_file():
        sources = Sources(
            images=scenes / "images",
            labels=scenes / "labels",
            masks=scenes / "masks",
            ground_truth=scenes / "ground_truth",
        )
        create_project(place, sources, scene_classes(), name="demo", seed=seed)
    with Project(place) as project, project.lock():
        _configure(project, preset="tiny", method=method, budget=budget, annotator=AnnotatorConfig().kind, locked=True)
        _first_figures(project)
        _run(project, rounds)
    _line(f"look at the report: {place / 'report.html'}")
    _line("on your own files: a2lc init my.a2lc --images .. --labels .. --classes .. && a2lc run my.a2lc")


# ---- the loop -------------------------------------------------------------------------------------------------------


@app.command()
def run(
    folder: ProjectDir,
    rounds: Annotated[
        int, typer.Option("--rounds", min=0, help="Rounds the project is to have, those done included.")
    ] = 5,
    method: MethodName = None,
    budget: Budget = None,
    annotator: Annotator = None,
    error_rate: ErrorRate = None,
    preset: Preset = None,
    settings: Settings = None,
    probabilities: Annotated[
        Path | None, typer.Option("--probabilities", help="Folder of IMAGE_ID.npy (K, H, W) in place of a model.")
    ] = None,
    min_precision: MinPrecision = None,
    confidence: Confidence = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="Stop early, by audits: accuracy=0.95, miou=0.7, gain<0.1 or errors<200 (gain)."),
    ] = None,
) -> None:
    """Run rounds: score, select, answer, correct, train, evaluate. Killed anywhere, the same command goes on."""
    from a2lc.project import Project
    from a2lc.until import parse_until

    rule = None if until is None else parse_until(until)
    with Project(folder) as project, project.lock():
        _configure(
            project,
            preset=preset,
            method=method,
            budget=budget,
            annotator=annotator,
            error_rate=error_rate,
            settings=settings,
            probabilities=probabilities,
            min_precision=min_precision,
            confidence=confidence,
            locked=True,
        )
        _first_figures(project)
        _run(project, rounds, rule)
    if (folder / "report.html").is_file():
        _line(f"report: {folder / 'report.html'}")


def _stage_command(stage: str, text: str) -> None:
    def command(
        folder: ProjectDir,
        method: MethodName = None,
        budget: Budget = None,
        annotator: Annotator = None,
        error_rate: ErrorRate = None,
        preset: Preset = None,
        settings: Settings = None,
        probabilities: Annotated[
            Path | None, typer.Option("--probabilities", help="Folder of IMAGE_ID.npy (K, H, W) in place of a model.")
        ] = None,
        min_precision: MinPrecision = None,
        confidence: Confidence = None,
        preview: Preview = False,
    ) -> None:
        from a2lc.project import Project

        with Project(folder) as project, project.lock():
            _configure(
                project,
                preset=preset,
                method=method,
                budget=budget,
                annotator=annotator,
                error_rate=error_rate,
                settings=settings,
                probabilities=probabilities,
                min_precision=min_precision,
                confidence=confidence,
                locked=True,
            )
            loop = _loop(project)
            if preview:
                _print_preview(project, loop.preview(stage))
            else:
                loop.run_stage(stage)

    command.__doc__ = text
    app.command(name=stage)(command)


_stage_command("train", "Train a model on the labels as they stand: the stage of that name of the open round.")
_stage_command("score", "Reduce the model's probabilities to a row per mask.")
_stage_command("select", "Choose the masks to ask about.")
_stage_command("answer", "Answer the open questions by the simulated annotator.")
_stage_command("correct", "Spread the answers to masks nobody looked at, where the method does.")
_stage_command("evaluate", "Measure labels and model against ground truth, where there is any.")


# ---- looking back ---------------------------------------------------------------------------------------------------


@app.command()
def status(folder: ProjectDir, as_json: Json = False) -> None:
    """Show what each round cost and brought."""
    from a2lc.project import Project
    from a2lc.status import project_status

    with Project(folder) as project:
        found = json_safe(project_status(project))
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        _print_status(found)


@app.command()
def log(
    folder: ProjectDir,
    full: Annotated[bool, typer.Option("--full", help="Every answer and correction.")] = False,
    as_json: Json = False,
) -> None:
    """List what happened, in order."""
    from a2lc.project import Project

    with Project(folder) as project:
        events = _events(project, full=full)
    if as_json:
        print(json.dumps(events, indent=1))
        return
    for event in events:
        _line(f"{event['time'][:19].replace('T', ' ')}  {event['what']}")


@app.command()
def diff(
    folder: ProjectDir,
    first: Annotated[int, typer.Argument(metavar="ROUND", min=0, help="Labels at the end of this round ..")],
    second: Annotated[int, typer.Argument(metavar="ROUND", min=0, help=".. against the end of this one.")],
    as_json: Json = False,
    masks: Annotated[bool, typer.Option("--masks", help="Name every mask.")] = False,
) -> None:
    """Show which masks changed class between the ends of two rounds."""
    from a2lc.project import Project

    with Project(folder) as project:
        found = _difference(project, first, second)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    _line(
        f"{len(found['masks'])} masks, {found['pixels']:,} pixels differ between the ends of rounds {first} and {second}"
    )
    for change in found["changes"]:
        _line(f"{change['masks']:>7} masks {change['pixels']:>10,} pixels  {change['old']} -> {change['new']}")
    if masks:
        for mask in found["masks"]:
            _line(f"{mask['image_id']} {mask['mask_id']}  {mask['old']} -> {mask['new']}")


@app.command()
def serve(
    folder: ProjectDir,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; 0.0.0.0 shares it with the network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 8765,
    train: Annotated[bool, typer.Option("--train", help="Train the next model in the background.")] = False,
    lease: Annotated[
        float, typer.Option("--lease", min=5, help="Seconds until a question nobody answers goes to others.")
    ] = 120,
    names: Annotated[
        list[str] | None, typer.Option("--name", help="Name that people reach this machine by, such as host.lan.")
    ] = None,
    new_token: Annotated[
        bool, typer.Option("--new-token", help="A new address: pages opened before are shut out.")
    ] = False,
    method: MethodName = None,
    budget: Budget = None,
    preset: Preset = None,
    settings: Settings = None,
    min_precision: MinPrecision = None,
    confidence: Confidence = None,
) -> None:
    """Answer in the browser: one mask, one question, one key.

    Several people may answer at once. What is answered is recorded at once; stop with Ctrl-C and give the same command to go
    on. The address holds a token: whoever has it may answer.
    """
    from a2lc.loop import RoundPlan
    from a2lc.project import Project
    from a2lc.serve.app import Server, create_app
    from a2lc.serve.desk import Desk
    from a2lc.serve.token import project_token

    if train and find_spec("torch") is None:
        raise MissingExtraError("--train needs the extra [train]: pip install 'a2lc[train]'")
    server = Server(host, port, names=names or ())
    try:
        with Project(folder) as project, project.lock():
            _configure(
                project,
                method=method,
                budget=budget,
                preset=preset,
                annotator="human",
                settings=settings,
                min_precision=min_precision,
                confidence=confidence,
                locked=True,
            )
            _check_masks(project)
            desk = Desk(project, RoundPlan.of(project.config), trains=train, lease_seconds=lease, say=_line)
            project.config.save(project.folder / "project.yaml")
            try:
                token = project_token(project.folder, new=new_token)
                application = create_app(desk, token=token, hosts=server.hosts)
                server.run(application, ready=lambda: _line(f"open http://{server.address}/?token={token}"))
            finally:
                desk.close()
    finally:
        server.close()
    _line("stopped; what was answered is recorded")


@app.command()
def handover(
    folder: ProjectDir,
    to: Annotated[str, typer.Option("--to", help="label-studio, cvat-xml or cvat-mask.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder.")],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="The first so many questions.")] = None,
    image_root: Annotated[
        Path | None, typer.Option("--image-root", help="Folder that Label Studio serves and the images lie below.")
    ] = None,
) -> None:
    """Write the questions that wait as files for Label Studio or CVAT; the project is not changed."""
    from a2lc.handover import hand_over
    from a2lc.project import Project

    with Project(folder) as project:
        root = None if image_root is None else str(image_root)
        found = hand_over(project, out, to, limit=limit, image_root=root)
    for message in found.messages:
        _line(message)
    left = f"; {found.waiting:,} more wait" if found.waiting else ""
    _line(f"{found.questions:,} questions of round {found.round} about {found.images:,} images in {out}{left}")
    _line(f"what to do with them: {out / 'README.txt'}")


@app.command()
def takeback(
    folder: ProjectDir,
    source: Annotated[Path, typer.Option("--from", help="What the tool exported, or the folder it was put into.")],
    annotator: Annotated[str, typer.Option("--annotator", help="Whose answers they are.")],
    untouched: Annotated[
        str, typer.Option("--untouched", help="Of CVAT's masks that came back as they went: leave or confirm.")
    ] = "leave",
    handed: Annotated[
        Path | None, typer.Option("--handover", help="handover.json, where it does not lie beside the file.")
    ] = None,
) -> None:
    """Record what Label Studio or CVAT exported as answers to the questions handed over."""
    from a2lc.handover import take_back
    from a2lc.project import Project

    meaning: Literal["leave", "confirm"] = "confirm" if untouched == "confirm" else "leave"
    require_known("value of --untouched", untouched, ["leave", "confirm"])
    with Project(folder) as project, project.lock():
        found = take_back(project, source, annotator=annotator, untouched=meaning, handover=handed)
    for message in found.messages:
        _line(message)
    _line(
        f"{found.recorded:,} recorded ({found.skipped:,} of them skipped), {found.same:,} recorded before, {found.conflict:,} "
        f"answered otherwise, {found.refused:,} refused, {found.untouched:,} untouched; {found.outside:,} pixels drawn outside"
    )


@app.command()
def undo(
    folder: ProjectDir,
    number: Annotated[int, typer.Argument(metavar="ROUND", min=1, help="Round to take back.")],
    source: Annotated[str, typer.Option("--source", help="all, manual or automatic corrections.")] = "all",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> None:
    """Take back the corrections of a round; later ones stay. Answers remain in the ledger."""
    from a2lc.project import Project
    from a2lc.stages import take_back

    require_known("value of --source", source, ["all", "manual", "automatic"])
    with Project(folder) as project, project.lock():
        changed = take_back(project, number, source, dry_run=dry_run)
    _line(f"{'would change' if dry_run else 'changed'} {changed} masks back")


@app.command()
def report(
    folder: ProjectDir,
    out: Annotated[Path | None, typer.Option("--out", help="Where to; default: report.html in the project.")] = None,
    through: Annotated[int | None, typer.Option("--round", min=0, help="As of the end of this round.")] = None,
) -> None:
    """Write one self-contained HTML file on the project."""
    from a2lc.project import Project
    from a2lc.report import write_report

    with Project(folder) as project:
        _line(f"report: {write_report(project, out or folder / 'report.html', through=through)}")


@app.command()
def export(
    folder: ProjectDir,
    out: Annotated[Path, typer.Option("--out", help="New folder.")],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="folder, voc, cityscapes, ade20k, coco, coco-panoptic, huggingface, cvat-mask, cvat-xml, label-studio or "
            "fiftyone.",
        ),
    ] = "folder",
    through: Annotated[int | None, typer.Option("--round", min=0, help="As of the end of this round.")] = None,
    changes_only: Annotated[
        bool,
        typer.Option("--changes-only", help="Only what changed, with pictures before and after, for the data's owner."),
    ] = False,
) -> None:
    """Write the corrected labels, what changed, and where each pixel comes from."""
    from a2lc.export import export_project
    from a2lc.project import Project

    with Project(folder) as project:
        summary = export_project(
            project, out, format, through=through, changes_only=changes_only, track=console_progress(_err)
        )
    _line(
        f"{summary.images:,} label maps in {out}; {summary.changed_images:,} of them changed, in {summary.changed_masks:,} "
        f"masks and {summary.changed_pixels:,} pixels"
    )


@app.command()
def bench(
    protocol: Annotated[
        str, typer.Argument(metavar="PROTOCOL", help="Protocol file (TOML), or the name of one of the package.")
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Where to; default: bench-NAME.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the data, in place of the protocol's.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", metavar="1,2", help="In place of the protocol's.")] = None,
    only: Annotated[str | None, typer.Option("--methods", metavar="A,B", help="Run these alone, by label.")] = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Write tables and curves anew, run nothing.")
    ] = False,
) -> None:
    """Run methods side by side by a protocol: tables and curves. Killed anywhere, the same command goes on."""
    from a2lc.bench.protocol import read_protocol
    from a2lc.bench.results import write_results
    from a2lc.bench.runner import Bench, data_root

    chosen, home = read_protocol(protocol)
    place = out or Path(f"bench-{chosen.name}")
    numbers = None if seeds is None else _seeds(seeds)
    what = Bench(protocol=chosen, out=place.absolute(), root=data_root(chosen, home, data), say=_line)
    runs = what.plan(numbers, None if only is None else [label.strip() for label in only.split(",")])
    if not report_only:
        what.run(runs)
    outcomes = what.outcomes(numbers)
    if not outcomes:
        raise InputError(f"There is no result in {place}: run it first, without --report-only.")
    command = shlex.join(["a2lc", *sys.argv[1:]])
    for path in write_results(chosen, outcomes, place, command=command, where=protocol):
        _line(f"wrote {path}")
    failed = [o.run.name for o in outcomes if o.found is None and not o.skipped]
    if failed:
        _line(f"{len(failed)} runs failed: {first_names(failed)}; the same command tries them again")
        raise typer.Exit(1)


@app.command()
def methods(as_json: Json = False) -> None:
    """List methods, with their papers, and acquisition functions."""
    from a2lc.acquisition import ACQUISITIONS
    from a2lc.methods import METHODS

    rows = [{"name": n, "paper": m.paper, "starts": m.starts, "summary": m.summary} for n, m in METHODS.items()]
    functions = [{"name": name, "summary": a.summary} for name, a in ACQUISITIONS.items()]
    if as_json:
        print(json.dumps({"methods": rows, "acquisition": functions}, indent=1))
        return
    for row in rows:
        _line(f"{row['name']:<10} {row['summary']}\n{'':<10} {row['paper']}")
    _line("\nacquisition functions (--set method.acquisition=NAME with a2lc)")
    for row in functions:
        _line(f"{row['name']:<10} {row['summary']}")


def _version(value: bool) -> None:
    if value:
        print(f"a2lc {__version__}")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Active and automated label correction for semantic segmentation data sets."""


# ---- parts ----------------------------------------------------------------------------------------------------------


def _value_map(pairs: list[str]) -> dict[int, int]:
    found = {}
    for pair in pairs:
        value, sign, becomes = pair.partition("=")
        try:
            if not sign:
                raise ValueError
            found[int(value)] = int(becomes)
        except ValueError:
            raise InputError(f"--map {pair}: expected VALUE=VALUE, such as --map 34=255.") from None
    return found


def _seeds(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    # As in `a2lc init`.
    if not all(part.isascii() and part.isdigit() and int(part) < 2**31 for part in parts):
        raise InputError(f"--seeds {text}: expected numbers of 0 or more, such as --seeds 1,2,3.")
    return [int(part) for part in parts]


def _check_names(*, preset: str | None = None, method: str | None = None) -> None:
    from a2lc.config import PRESETS
    from a2lc.methods import METHODS

    if preset is not None:
        require_known("preset", preset, PRESETS)
    if method is not None:
        require_known("method", method, METHODS)


def _configure(
    project: Project,
    *,
    preset: str | None = None,
    method: str | None = None,
    budget: float | None = None,
    annotator: str | None = None,
    error_rate: float | None = None,
    settings: list[str] | None = None,
    probabilities: Path | None = None,
    min_precision: float | None = None,
    confidence: float | None = None,
    locked: bool = False,
) -> None:
    """Take what the command line says into the project's settings.

    `_loop` writes them to project.yaml for the next command, once the open round has accepted them; without the lock
    they are written at once.
    """
    from a2lc.config import apply_settings
    from a2lc.methods import create_method

    changes: dict[str, Any] = {}
    _check_names(preset=preset, method=method)
    if preset is not None and preset != project.config.training.preset:
        changes["training.preset"] = preset
    if probabilities is not None:
        changes["training.model"] = "probabilities"
        changes["training.probabilities"] = str(probabilities.absolute())
    if method is not None and method != project.config.method.name:
        changes |= {"method.name": method, "method.settings": {}}
    if budget is not None:
        changes["method.budget"] = budget
    if annotator is not None:
        changes["annotator.kind"] = require_known("annotator", annotator, ["oracle", "human"])
    if error_rate is not None:
        changes["annotator.error_rate"] = error_rate
    for name, promised in (("min_precision", min_precision), ("confidence", confidence)):
        if promised is not None:
            chosen = method or project.config.method.name
            if chosen != "gain":
                raise InputError(
                    f"--{name.replace('_', '-')} is a promise by audits: take --method gain, not {chosen}."
                )
            changes[f"method.settings.{name}"] = promised
    for setting in settings or []:
        key, sign, value = setting.partition("=")
        if not sign or not key:
            raise ConfigError(f"--set {setting}: expected KEY=VALUE, such as training.iterations=600.")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"--set {setting}: {value!r} is no YAML value.") from None
        if key.startswith("method.") and key.removeprefix("method.") not in {"name", "budget", "settings"}:
            key = f"method.settings.{key.removeprefix('method.')}"
        elif key.split(".")[0] not in {"method", "training", "annotator"}:
            require_known("group of settings", key.split(".")[0], ["method", "training", "annotator"])
        changes[key] = parsed
    if not changes:
        return
    config: ProjectConfig = apply_settings(project.config, changes)
    create_method(config.method.name, config.method.settings)
    if config == project.config:
        return
    project.config = config
    if not locked:
        with project.lock():
            config.save(project.folder / "project.yaml")


def _check_masks(project: Project) -> None:
    if not len(project.masks):
        raise InputError(
            f"{project.folder} has no masks to ask about. Make some: a2lc masks {project.folder} --method seeds"
        )


def _loop(project: Project, after_round: Callable[[int], None] = lambda number: None) -> Loop:
    from a2lc.loop import Loop, RoundPlan

    config = project.config
    _check_masks(project)
    if config.annotator.kind == "oracle" and not project.has_ground_truth:
        raise InputError(
            "The project has no ground truth, so nobody can be simulated. Pass --annotator human, or make the project "
            "with --ground-truth."
        )
    if config.annotator.kind == "oracle" and config.sources.partial_ground_truth:
        raise InputError(
            "Some images have no ground truth, so not all answers can be simulated. Pass --annotator human, or make a "
            "project of those that have it."
        )
    if not project.has_images and config.training.model != "probabilities":
        raise InputError(
            "The project has no images to train a model on. Give a model's output, --probabilities DIR, or make the project "
            "with --images."
        )
    plan = RoundPlan.of(config)
    loop = Loop(project, plan, track=console_progress(_err), say=_line, after_round=after_round)
    loop.check()
    # Only what the round accepts is kept for the next command.
    config.save(project.folder / "project.yaml")
    return loop


def _first_figures(project: Project) -> None:
    line = f"{project.config.name}: {len(project.images):,} images, {len(project.masks):,} masks"
    if project.has_ground_truth:
        quality = project.confusion(project.state())
        line += f", data mIoU {_figure(json_safe(quality.miou))}"
    _line(f"{line}; method {project.config.method.name}, {project.config.method.budget:g} clicks a round")


def _run(project: Project, rounds: int, until: Until | None = None) -> None:
    from a2lc.report import write_report
    from a2lc.stages import next_stage
    from a2lc.status import project_status

    def report_of(number: int) -> None:
        write_report(project, project.round_folder(number) / "report.html", through=number)

    done = _loop(project, report_of).run(rounds, until)
    write_report(project, project.folder / "report.html")
    _print_status(json_safe(project_status(project)))
    if not done:
        number, _ = next_stage(project)
        _line(
            f"round {number} waits for answers: a2lc serve {project.folder}; when they are given, the same command goes on"
        )


def _print_status(found: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = (
        "round",
        "method",
        "clicks",
        "by hand",
        "automatic",
        "precision",
        "data mIoU",
        "coverage",
        "pixel acc.",
        "model mIoU",
    )
    for column in (*columns, "seconds"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for row in found["rounds"]:
        table.add_row(
            str(row["round"]) + ("" if row["finished"] else "*"),
            row["method"],
            f"{row['clicks']:g}",
            str(row["manual_changed"]),
            str(row["automatic_changed"]),
            _figure(row["automatic_precision"]),
            _figure(row["data_miou"]),
            _figure(row["coverage"]),
            _figure(row["pixel_accuracy"]),
            _figure(row["model_miou"]),
            f"{sum(row['seconds'].values()):.0f}",
        )
    _out.print(table)
    _line(
        f"{found['images']:,} images, {found['masks']:,} masks; next: round {found['next']['round']}, {found['next']['stage']}"
    )
    audited = [row["quality"] for row in found["rounds"] if row["quality"]]
    if audited and audited[-1]["after"]["audits"]:
        _print_quality(audited[-1])
    if found["undone"] and found["now"]:
        _line(f"after undoing: data mIoU {_figure(found['now']['data_miou'])}")


def _print_quality(quality: dict[str, Any]) -> None:
    """What audits and answers alone say of the labels."""
    after, before = quality["after"], quality["before"]

    def span(interval: dict[str, Any], digits: int = 3) -> str:
        if interval["low"] is None or interval["high"] is None:
            return "undefined"
        middle = interval["estimate"]
        ends = f"{interval['low']:,.{digits}f} to {interval['high']:,.{digits}f}"
        return ends if middle is None else f"{middle:,.{digits}f} ({ends})"

    sure, audits = after["confidence"], after["audits"]
    _line(
        f"labels by {audits} audits of round {quality['round']}, mask by mask, {sure:.0%} intervals: pixel accuracy "
        f"{span(after['pixel_accuracy'])}, mean IoU {span(after['miou'])}; as imported {span(before['pixel_accuracy'])} and "
        f"{span(before['miou'])}"
    )
    if quality["true"]:
        now = quality["true"]["after"]
        _line(f"true, by ground truth: pixel accuracy {now['pixel_accuracy']:.3f}, mean IoU {now['miou']:.3f}")
    _line(f"wrong masks left: {span(after['wrong_masks'], 0)}")
    gain = quality["next"]["gain"]
    if gain["estimate"] is not None:
        _line(
            f"the next {quality['next']['questions']} questions would add about {gain['estimate']:.2f} points of mean IoU, "
            f"at most {gain['high']:.2f}"
        )
    if quality["error_rate"] is not None:
        _line(f"answers that were wrong, by {quality['gold']} masks asked about twice: {quality['error_rate']:.1%}")
    if quality["edited"]:
        _line("these figures count the classes as they were in that round: they were edited since")
    if quality["undone"]:
        _line("these figures are of the end of that round: something was taken back since")
    if quality["agreement"]["informative"] is False and quality["agreement"]["right"] > quality["agreement"]["chance"]:
        _line("audits do not show yet that first labels are right more often than chance")
    elif quality["agreement"]["informative"] is False:
        _line(
            f"warning: first labels agree with the answers no more often than chance ({quality['agreement']['right']:.2f} "
            f"against {quality['agreement']['chance']:.2f}): they tell nothing of the true classes"
        )


def _print_preview(project: Project, changes: dict[str, Any]) -> None:
    """What the stage `correct` would change, before it does."""
    names = project.classes.names

    def name(value: int) -> str:
        return "void" if value < 0 else names[value]

    _line(f"{changes['total']:,} masks would change; nothing is written. {changes['promise']}")
    for pair in changes["pairs"]:
        _line(f"{pair['masks']:>7,} {name(pair['old'])} -> {name(pair['new'])}, {pair['pixels']:,} pixels")
        for example in pair["examples"]:
            _line(f"        {example['image_id']} mask {example['mask_id']}, probability {example['probability']:.2f}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _events(project: Project, *, full: bool) -> list[dict[str, Any]]:
    from a2lc.class_edits import described

    events: list[dict[str, Any]] = []
    for record in project.ledger.rounds():
        what = f"round {record.round} opened: {record.method}, seed {record.seed}, scored by {record.model}"
        events.append({"time": record.started, "round": record.round, "what": what})
    for stage in project.ledger.stages():
        # What is a table of its own is for `status` and the report.
        details = {k: v for k, v in stage.details.items() if not isinstance(v, list | dict)}
        told = ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in details.items() if v is not None
        )
        what = f"round {stage.round} {stage.stage} ended after {stage.seconds:.1f} s: {told}"
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
            return "first labels" if value is None else "void" if value < 0 else names[value]

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
                f"{clicks:g} clicks" + (f", in place of answer {answer.replaces}" if answer.replaces else "")
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
        return "void" if value < 0 else project.classes.names[value]

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
        # Labels below the mask are compared pixel by pixel, in the images that have any.
        touched = sorted({image for layer in layers for image in project.ledger.layer_files(layer)})
        touched = sorted({*touched, *masks.image[changed].tolist()})
        labels = ([project.corrected_labels(project.images[i], state) for state in states] for i in touched)
        found["pixels"] = sum(int((old != new).sum()) for old, new in labels)
    return found


# ---- the door -------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 2 the user's mistake in one line, 1 ours."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in ("PIL", "numba", "matplotlib", "httpx", "huggingface_hub", "fsspec"):
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.exit(_main(arguments))


def _main(arguments: list[str] | None) -> int:
    command = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name="a2lc", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except A2LCError as error:
        return _mistake(str(error))
    except KeyboardInterrupt:
        return _mistake("interrupted; the same command goes on where this one stopped", 130)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if free_space_error(error):
            where = f" ({error.filename})" if error.filename else ""
            return _mistake(f"the disk is full{where}. Free some space; the same command goes on.")
        if isinstance(error, PermissionError):
            return _mistake(f"no permission: {error.filename}. Choose another folder, or mend its permissions.")
        traceback.print_exc()
        return 1
    except Exception as error:
        # Typer's own exceptions say how they are to be shown.
        show = getattr(error, "format_message", None)
        if show is not None:
            return _mistake(" ".join(show().split()))
        if type(error).__name__ in {"Abort", "Exit"}:
            return int(getattr(error, "exit_code", 1))
        traceback.print_exc()
        return 1


def _mistake(message: str, code: int = 2) -> int:
    print(f"a2lc: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
