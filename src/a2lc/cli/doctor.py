"""The command that checks a data set or a project."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from a2lc.cli.console import app, print_line
from a2lc.cli.hints import FLAGS, with_flags
from a2lc.cli.options import (
    Colours,
    Ignore,
    Json,
    Snap,
    ValueMap,
    parse_bands,
    parse_classes,
    parse_stretch,
    parse_value_map,
)
from a2lc.errors import InputError, require_known
from a2lc.io.files import json_safe
from a2lc.io.progress import console_progress

if TYPE_CHECKING:
    from a2lc.doctor import Diagnosis, Finding, Remedy


@app.command()
def doctor(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a data set, in any supported format, or of a project.")
    ],
    images: Annotated[Path | None, typer.Option("--images", help="Folder of images, if not detected.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Labels, if not detected.")] = None,
    masks: Annotated[Path | None, typer.Option("--masks", help="Mask maps, if not detected.")] = None,
    ground_truth: Annotated[
        Path | None, typer.Option("--ground-truth", help="Ground-truth labels, if not detected.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Classes file, or names separated by commas.")
    ] = None,
    format: Annotated[str | None, typer.Option("--format", help="Data set format; overrides auto-detection.")] = None,
    value_map: ValueMap = None,
    ignore: Ignore = None,
    colours: Colours = False,
    snap: Snap = None,
    exif: Annotated[str, typer.Option("--exif", help="Same as `a2lc init --exif`.")] = "refuse",
    bake_exif: Annotated[bool, typer.Option("--bake-exif", help="Same as `a2lc init --bake-exif`.")] = False,
    bands: Annotated[str | None, typer.Option("--bands", help="Same as `a2lc init --bands`.")] = None,
    stretch: Annotated[str | None, typer.Option("--stretch", help="Same as `a2lc init --stretch`.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Same as `a2lc init --skip-bad`.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Same as `a2lc init --partial`.")] = False,
    partial_ground_truth: Annotated[
        bool, typer.Option("--partial-ground-truth", help="Same as `a2lc init --partial-ground-truth`.")
    ] = False,
    max_pixels: Annotated[
        int | None, typer.Option("--max-pixels", min=1, help="Same as `a2lc init --max-pixels`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Report problems with the files of a data set or project.

    Each problem is reported with a fix, and nothing is changed. Exits with status 2 if `a2lc init` would refuse the files.
    """
    from a2lc.doctor import examine, examine_project, find_layout, unknown_annotations, with_images
    from a2lc.formats.base import Sources
    from a2lc.images.options import ReadingOptions
    from a2lc.project.project import Project

    if (folder / "project.yaml").is_file():
        with Project(folder) as project:
            diagnosis = examine_project(project, track=console_progress())
        _print_diagnosis(diagnosis, f"project {folder}", None, as_json)
        return
    require_known("value of --exif", exif, ["refuse", "apply", "ignore"])
    if not folder.is_dir():
        raise InputError(f"No folder at {folder}. Name the folder of a data set, or of a project.")
    layout = find_layout(folder)
    if layout is None and images is None and labels is None:
        raise InputError(
            f"{folder} holds no image, label or annotation file of a known format. Name them with --images and --labels."
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
    table = None if given is None else parse_classes(given)
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    options = ReadingOptions(
        value_map=parse_value_map(value_map or []),
        ignore=ignore,
        colours=colours,
        snap=snap,
        exif="bake" if bake_exif else exif,
        bands=parse_bands(bands),
        stretch=parse_stretch(stretch),
        skip_bad=skip_bad,
        partial=partial,
        partial_truth=partial_ground_truth,
        **limit,
    )
    unknown = unknown_annotations(folder) if sources.format == "folder" and format is None else []
    diagnosis = examine(sources, table, options, unknown=unknown, track=console_progress())
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
    """Return the given options that set how files are read, as words of a command line."""
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


_LEVELS = {"fault": "ERROR", "doubt": "warning", "note": "info"}
"""Words for the levels of findings, whose names in JSON are those of the first version."""


def flag_of(remedy: Remedy) -> str:
    """Return the option of `a2lc init` and `a2lc doctor` that a remedy stands for."""
    flag, value = FLAGS[remedy.option], remedy.value
    if value is True:
        return flag
    if remedy.option == "value_map":
        return " ".join(f"{flag} {read}={becomes}" for read, becomes in value.items())
    if remedy.option == "exif" and value == "bake":
        return "--bake-exif"
    return f"{flag} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def _flags_of(remedies: Iterable[Remedy]) -> list[str]:
    return list(dict.fromkeys(flag_of(remedy) for remedy in remedies))


def _as_json(finding: Finding) -> dict[str, Any]:
    """Return a finding under the keys that users of `--json` know."""
    return {
        "code": finding.code,
        "level": finding.level,
        "message": with_flags(finding.message),
        "count": finding.count,
        "files": finding.files,
        "values": [asdict(value) for value in finding.values],
        "mend": with_flags(finding.fix),
        "flags": _flags_of(finding.remedies),
    }


def _print_diagnosis(diagnosis: Diagnosis, what: str, command: str | None, as_json: bool) -> None:
    """Print the findings; exit with 2 if there are errors."""
    errors, warnings, remedies = diagnosis.of("fault"), diagnosis.of("doubt"), diagnosis.remedies
    following = None if command is None or remedies is None else " ".join([command, *_flags_of(remedies)])
    if as_json:
        record = {
            "what": what,
            "images": diagnosis.images,
            "label_maps": diagnosis.label_maps,
            "findings": [_as_json(finding) for finding in diagnosis.findings],
            "faults": len(errors),
            "command": following,
        }
        print_line(json.dumps(json_safe(record), indent=1))
    else:
        print_line(f"{what}: {diagnosis.images:,} images, {diagnosis.label_maps:,} label maps")
        for finding in diagnosis.findings:
            _print_finding(finding)
        if errors:
            end = "" if following else "; fix the files, then check them again"
            print_line(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}{end}")
        else:
            print_line(f"no errors, {_count(warnings, 'warning')}" if warnings else "no problems found")
        if following is not None:
            print_line(f"next: {following}")
    if errors:
        raise typer.Exit(2)


def _count(findings: Sequence[Finding], what: str) -> str:
    return f"{len(findings)} {what}{'' if len(findings) == 1 else 's'}"


def _print_finding(finding: Finding) -> None:
    print_line(f"{_LEVELS[finding.level]}  [{finding.code}] {with_flags(finding.message)}")
    for value in finding.values:
        print_line(f"       {value.value}: {value.pixels:,} pixels in {value.files:,} files")
    for file in finding.files:
        print_line(f"       {file}")
    if finding.count > len(finding.files) > 0:
        print_line(f"       and {finding.count - len(finding.files):,} more")
    if finding.fix:
        flags = _flags_of(finding.remedies)
        print_line(f"       fix: {with_flags(finding.fix)}{'   ' + ' '.join(flags) if flags else ''}")
