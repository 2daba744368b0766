"""Intake: the user's files are all checked first; only then is a project made, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import a2lc.data.ade20k
import a2lc.data.cityscapes
import a2lc.data.coco
import a2lc.data.cvat
import a2lc.data.fiftyone
import a2lc.data.folder
import a2lc.data.huggingface
import a2lc.data.label_studio
import a2lc.data.labelme
import a2lc.data.voc  # noqa: F401 - all of them register their format
from a2lc.classes import ClassTable, on_one_line
from a2lc.config import FORMAT_VERSION, ProjectConfig, SourcesConfig
from a2lc.data.base import FORMATS, DrawnMap, Found, MapSource, Sample, Sources
from a2lc.data.png import (
    Stretch,
    is_lossy,
    one_at_a_time,
    open_image,
    read_ids,
    read_rgb,
    read_snapped,
    stored_size,
    write_ids,
)
from a2lc.data.prepare import ImageRules, Prepared, in_order, prepare, turned_line
from a2lc.errors import ConfigError, ImageFileError, InputError, LabelRangeError, ShapeError, first_names, require_known
from a2lc.files import new_folder, sha256, write_bytes, write_text
from a2lc.ledger.ledger import Ledger
from a2lc.ledger.replay import VOID
from a2lc.masks.components import component_masks
from a2lc.metrics import ConfusionCounts
from a2lc.progress import Track, no_progress
from a2lc.records import ImageRecord
from a2lc.tables import MaskTable, TruthTable, joint_counts, most_frequent
from a2lc.version import __version__

__all__ = [
    "IntakeSummary",
    "ReadRules",
    "check_map",
    "create_project",
    "decode_labels",
    "in_order",
    "mask_columns",
    "mask_tables",
    "pixels_of",
    "read_source",
    "reading",
    "void_value",
    "with_ignore",
]


@dataclass(frozen=True, kw_only=True)
class ReadRules:
    """How the user's files are read.

    Attributes:
        value_map: Value in a label file -> the value it is read as.
        ignore: Value that means no class, in place of the one that the classes say.
        colours: Coloured label files are read through the colours of the classes.
        snap: Pixels of lossy label files are read as a known value or colour at most so far away; None refuses such files.
        exif: `refuse`, `apply` or `ignore` an EXIF orientation that turns the image, or `bake` it into an upright copy.
        tile: Images wider or higher are cut into tiles of at most so many pixels a side.
        bands: Which bands of an image are red, green and blue, or grey, from 1.
        stretch: Which values of images with more than 8 bits become 0 and 255.
        max_pixels: Larger images are refused.
        skip_bad: Leave out images that cannot be used, in place of refusing the whole set.
        partial: Images without a label map start without labels, in place of being refused.
        partial_truth: Images without ground truth are taken, and measure nothing.
    """

    value_map: dict[int, int] = field(default_factory=dict)
    ignore: int | None = None
    colours: bool = False
    snap: int | None = None
    exif: str = "refuse"
    tile: int | None = None
    bands: tuple[int, ...] | None = None
    stretch: Stretch | None = None
    max_pixels: int = SourcesConfig.model_fields["max_pixels"].default
    skip_bad: bool = False
    partial: bool = False
    partial_truth: bool = False


@dataclass(frozen=True, kw_only=True)
class IntakeSummary:
    """What was imported.

    Attributes:
        images: Images whose labels are to be corrected.
        unlabelled: Those of them that start without labels.
        with_truth: Those of them that have ground truth.
        num_classes: Classes, the user's or the format's own.
        validation_images: Images that only measure models.
        masks: Masks.
        quality: Confusion of the labels with ground truth, None without it.
        skipped: Reason of each image left out, by name.
        notes: What was read in a way the user should know.
    """

    images: int
    unlabelled: int
    with_truth: int
    num_classes: int
    validation_images: int
    masks: int
    quality: ConfusionCounts | None
    skipped: dict[str, str]
    notes: list[str]


@dataclass(kw_only=True)
class _Checked:
    """What is known of a sample after reading its files."""

    sample: Sample
    width: int
    height: int
    sha256: str
    masks: tuple[NDArray[Any], ...] = ()  # columns: mask id, label, truth, pixels
    max_mask: int = 0


@dataclass
class _Faults:
    """Faults by kind; each kind becomes one line."""

    unreadable: dict[str, str] = field(default_factory=dict)
    sizes: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    values: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    value_files: dict[tuple[str, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    seen_values: set[int] = field(default_factory=set)
    snapped: int = 0


def decode_labels(
    raw: NDArray[Any], classes: ClassTable, value_map: dict[int, int]
) -> tuple[NDArray[Any], dict[int, int]]:
    """Class indices from the values of a label file.

    Args:
        raw: (H, W) values as stored.
        classes: Which value stands for which class.
        value_map: Values read as others, before that.

    Returns:
        (H, W) class indices or `classes.ignore_index`, and the pixels of each value that stands for neither; those
        pixels are given the ignore index.
    """
    table = np.full(65536, -1, dtype=np.int32)
    for index, value in enumerate(classes.file_values):
        table[value] = index
    for value, index in classes.aliases:
        table[value] = index
    table[classes.ignore] = classes.ignore_index
    renamed = table.copy()
    for value, becomes in value_map.items():
        renamed[value] = table[becomes]
    found = renamed[raw]
    bad = found < 0
    unknown: dict[int, int] = {}
    if bad.any():
        values, counts = np.unique(raw[bad], return_counts=True)
        unknown = dict(zip(values.tolist(), counts.tolist(), strict=True))
        found[bad] = classes.ignore_index
    return found.astype(classes.dtype), unknown


def create_project(
    folder: Path,
    sources: Sources,
    classes: ClassTable | None = None,
    rules: ReadRules | None = None,
    *,
    name: str | None = None,
    seed: int = 0,
    track: Track = no_progress,
) -> IntakeSummary:
    """Check the user's files, and make a project of them.

    Everything is read before anything is written; the project appears under its name only when it is complete, so
    a killed import leaves nothing but a folder that the next one takes away.

    Args:
        folder: Where the project is made; must not exist, or be empty.
        sources: Where the files are.
        classes: The classes of the labels; None for those that the format brings along.
        rules: How files are read.
        name: Of the project; that of the folder by default.
        seed: Of everything drawn at random in the project.
        track: Shows progress.

    Raises:
        InputError: A file is not as it must be; the message names it and says what to do. Nothing was written.
    """
    rules = rules or ReadRules()
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if (folder / "project.yaml").is_file():
            raise InputError(f"{folder} holds a project already. Go on with it (a2lc run), or name another folder.")
        raise InputError(f"{folder} exists and is not empty. Name a new folder for the project.")
    # What was fetched from elsewhere stays there until the project is complete: a killed import does not fetch it again.
    fetched = folder.with_name(f".{folder.name}.fetched")
    with new_folder(folder) as partial:
        summary = _create(folder, partial, fetched, sources, classes, rules, name, seed, track)
    shutil.rmtree(fetched, ignore_errors=True)
    return summary


def _create(
    folder: Path,
    partial: Path,
    fetched: Path,
    sources: Sources,
    given: ClassTable | None,
    rules: ReadRules,
    name: str | None,
    seed: int,
    track: Track,
) -> IntakeSummary:
    reader = FORMATS[require_known("format", sources.format, FORMATS)]
    if given is not None and rules.ignore is not None:
        given = with_ignore(given, rules.ignore)  # label maps that are drawn have that value already
    found = reader(replace(sources, max_pixels=rules.max_pixels), partial=rules.partial, classes=given)
    classes = given or found.classes
    if classes is None:
        raise ConfigError(
            f"--classes is missing, and format {sources.format!r} brings none along: a JSON, YAML or text file, or names with "
            "commas."
        )
    broken = None if given is not None else next((name for name in classes.names if not on_one_line(name)), None)
    if broken is not None:
        raise ConfigError(
            f"Class {broken[:80]!r}, of the files of format {sources.format}, has line ends or control characters in its name. "
            "Name the classes with --classes."
        )
    if rules.ignore is not None:
        classes = with_ignore(classes, rules.ignore)
    rules = replace(rules, value_map=found.value_map(classes) | rules.value_map)
    check_map(rules.value_map, classes)
    notes = list(found.notes)
    allowed = {"images without ground truth"} if rules.partial_truth else set()
    unmatched = {what: names for what, names in found.unmatched.items() if what not in allowed}
    if unmatched:
        lines = [f"{len(names)} {what}: {first_names(names)}" for what, names in unmatched.items()]
        if not rules.skip_bad:
            raise InputError(
                f"{len(found.train)} images have all their files. "
                + ". ".join(lines)
                + ". Add or remove files so that names agree, or pass --skip-bad to go on without them"
                + (", or --partial to start those without labels" if "images without labels" in unmatched else "")
                + (
                    ", or --partial-ground-truth to measure on those that have it."
                    if "images without ground truth" in unmatched
                    else "."
                )
            )
        notes += [f"left out: {line}" for line in lines]
    train = found.train
    if sources.ground_truth is not None and not rules.partial_truth:
        train = [one for one in train if one.ground_truth is not None]
    found = replace(found, train=train, validation=[one for one in found.validation if one.ground_truth is not None])
    if not found.train:
        raise InputError(f"No image in {found.root or sources.labels} has all its files.")
    how = ImageRules(
        exif=rules.exif, tile=rules.tile, bands=rules.bands, stretch=rules.stretch, max_pixels=rules.max_pixels
    )

    def read_map(source: MapSource, masks: bool) -> NDArray[Any]:
        return read_source(source, None if masks else classes, rules)[0]

    found, done, unusable, turned = prepare(found, partial / "images", fetched, how, read_map, track)
    faults = _Faults(unreadable=dict(unusable), turned=list(turned))
    checked = _check_all(found.train, classes, rules, faults, track, "checking", True)
    validation = _check_all(found.validation, classes, rules, faults, track, "checking validation", False)
    _raise_faults(faults, classes, rules, len(found.train) + len(found.validation) + len(unusable) + len(turned))
    skipped = dict(faults.unreadable) if rules.skip_bad else {}
    snapped = (
        [f"{faults.snapped:,} pixels of lossy label files were read as the nearest known value"]
        if faults.snapped
        else []
    )
    if not checked:
        raise InputError("No image is left to import: all were left out as unreadable.")
    unlabelled = sum(item.sample.labels is None for item in checked)
    if unlabelled:
        void_value(classes, rules)
    # Without any labels and masks, masks are made afterwards from the images.
    expected = sources.masks is not None or unlabelled < len(checked)
    if expected and not any(len(item.masks[0]) and item.masks[0].max() > 0 for item in checked):
        raise InputError(
            f"There is no mask in {len(checked)} images, so nothing to ask about: "
            + ("the mask maps are 0 everywhere." if sources.masks else "the labels carry no class anywhere.")
        )
    with_truth = sum(item.sample.ground_truth is not None for item in checked)
    (partial / "images").mkdir(parents=True, exist_ok=True)
    summary = _write(partial, found, checked, validation, classes, rules, track)
    config = ProjectConfig(
        format_version=FORMAT_VERSION,
        created_by=f"a2lc {__version__}",
        name=name or folder.name.removesuffix(".a2lc"),
        seed=seed,
        classes=classes.to_json(),
        sources=_sources_config(sources, found, rules, folder, 0 < with_truth < len(checked)),
    )
    if skipped:
        lines = ["image,reason", *(f'"{k}","{v.replace(chr(34), chr(39))}"' for k, v in sorted(skipped.items()))]
        write_text(partial / "skipped.csv", "\n".join(lines) + "\n")
    # What class indices in the ledger and the tables stand for: an edited project.yaml must still say the same.
    write_text(partial / "tables" / "reading.json", json.dumps(reading(config)))
    done = _keep_prepared(partial, fetched, checked + validation, done)
    config.save(partial / "project.yaml")
    return IntakeSummary(
        images=summary[0],
        unlabelled=unlabelled,
        with_truth=with_truth,
        num_classes=classes.num_classes,
        validation_images=len(validation),
        masks=summary[1],
        quality=summary[2],
        skipped=skipped,
        notes=[*notes, *_done_notes(done), *snapped],
    )


def _keep_prepared(
    folder: Path, fetched: Path, items: Sequence[_Checked], done: dict[str, Prepared]
) -> dict[str, Prepared]:
    """Move fetched images to their place, drop copies of images that were left out, and write down what was done to which.

    Returns:
        What was done to those that are kept.
    """
    kept = {item.sample.image_id: done[item.sample.image_id] for item in items if item.sample.image_id in done}
    images = folder / "images"
    own: set[Path] = set()
    for item in items:
        image = item.sample.image
        if not item.sample.prepared or not isinstance(image, Path):
            continue
        if image.is_relative_to(fetched):
            target = images / f"{item.sample.image_id}{image.suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(image, target)
            image = target
        own.add(image)
    for path in sorted(images.rglob("*"), reverse=True):  # what lies in a folder comes before it
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in own:
            path.unlink()
    if not kept:
        images.rmdir()
        return kept
    write_text(folder / "tables" / "prepared.json", json.dumps({name: asdict(how) for name, how in kept.items()}))
    return kept


def _done_notes(done: dict[str, Prepared]) -> list[str]:
    counts = Counter(step.split(" (")[0] for how in done.values() for step in how.how)
    return [f"{count:,} images: {what}; the project keeps them in its own images/" for what, count in counts.items()]


def reading(config: ProjectConfig) -> dict[str, Any]:
    """What decides the class index of a pixel: fixed for the life of a project. Names and colours are not."""
    classes = config.classes
    return {
        "ids": [row["id"] for row in classes["classes"]],
        "ignore": classes["ignore"],
        "value_map": {str(value): becomes for value, becomes in sorted(config.sources.value_map.items())},
    }


def with_ignore(classes: ClassTable, value: int) -> ClassTable:
    """The classes with another value that means no class.

    Raises:
        ConfigError: It is a class.
    """
    if value in classes.file_values:
        name = classes.names[classes.file_values.index(value)]
        raise ConfigError(f"--ignore {value}: that is the value of class {name!r} in the classes file.")
    return replace(classes, ignore=value)


def check_map(value_map: dict[int, int], classes: ClassTable) -> None:
    """Refuse a value map that leads to what is no class and not the ignore value.

    Raises:
        InputError: It does, or a value does not fit 16 bits.
    """
    for value, becomes in value_map.items():
        if not 0 <= value <= 65535:
            raise InputError(f"--map {value}={becomes}: values are 0..65535.")
        if becomes not in classes.file_values and becomes != classes.ignore:
            known = ", ".join(str(v) for v in classes.file_values)
            raise InputError(
                f"--map {value}={becomes}: {becomes} is no class ({known}) and not ignore ({classes.ignore})."
            )


def void_value(classes: ClassTable, rules: ReadRules) -> int:
    """A value of label files that is read as no class, for images without a label map.

    Raises:
        InputError: The value map leaves none.
    """
    for value in (classes.ignore, *sorted(rules.value_map)):
        if rules.value_map.get(value, value) == classes.ignore:
            return value
    raise InputError(
        f"--map {classes.ignore}={rules.value_map[classes.ignore]} leaves no value for images without labels: "
        f"{classes.ignore} is the ignore value. Give the classes file another one."
    )


def _check_all(
    samples: list[Sample], classes: ClassTable, rules: ReadRules, faults: _Faults, track: Track, what: str, train: bool
) -> list[_Checked]:
    if not samples:
        return []

    def check(sample: Sample) -> tuple[_Checked | None, _Faults]:
        own = _Faults()
        found = one_at_a_time(pixels_of(sample, rules.max_pixels), lambda: _check(sample, classes, rules, own, train))
        return found, own

    checked = []
    # Decoding lets go of the interpreter's lock: threads keep the cores busy.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool, track(what, len(samples)) as advance:
        for result, own in in_order(pool, check, samples):
            advance()
            faults.unreadable |= own.unreadable
            faults.sizes += own.sizes
            faults.turned += own.turned
            faults.seen_values |= own.seen_values
            faults.snapped += own.snapped
            for kind, counts in own.values.items():
                faults.values[kind].update(counts)
            for key, names in own.value_files.items():
                faults.value_files[key] += names
            if result is not None:
                checked.append(result)
    return checked


def pixels_of(sample: Sample, max_pixels: int) -> int:
    """How many pixels an image or its labels have, whichever are more; 0 where that is not known before they are read."""
    most = 0
    for path in (sample.image, sample.labels, sample.masks, sample.ground_truth):
        if isinstance(path, Path) and path.suffix.lower() != ".npy":
            try:
                width, height, _ = stored_size(path, max_pixels)
            except (InputError, OSError):
                continue  # what is wrong with it is said when it is read
            most = max(most, width * height)
    return most


def _check(sample: Sample, classes: ClassTable, rules: ReadRules, faults: _Faults, train: bool) -> _Checked | None:
    maps: dict[str, NDArray[Any] | None] = {}
    stored, orientation, digest = None, 1, ""
    try:
        if isinstance(sample.image, Path):
            width, height, orientation = stored_size(sample.image, rules.max_pixels)
            read_rgb(sample.image, max_pixels=rules.max_pixels)  # all of it: a truncated file shows only at its end
            stored, digest = (width, height), sha256(sample.image)
        maps["labels"] = None
        if sample.labels is not None:
            maps["labels"], snapped = read_source(sample.labels, classes, rules)
            faults.snapped += snapped
        maps["masks"] = None if sample.masks is None else read_source(sample.masks, None, rules)[0]
        maps["ground truth"] = (
            None if sample.ground_truth is None else read_source(sample.ground_truth, classes, rules)[0]
        )
    except InputError as error:
        faults.unreadable[sample.image_id] = str(error)
        return None
    except FileNotFoundError as error:
        faults.unreadable[sample.image_id] = f"{error.filename}: gone, or a link to nothing"
        return None
    sources = {"labels": sample.labels, "masks": sample.masks, "ground truth": sample.ground_truth}
    fits = next((array.shape[::-1] for array in maps.values() if array is not None), stored)
    assert fits is not None
    any_map = any(array is not None for array in maps.values())
    whole_name = str(sample.image if sample.image is not None else sample.labels)
    if stored is None:
        stored = (fits[0], fits[1])
    upright = stored[::-1] if orientation >= 5 else stored
    if orientation != 1 and rules.exif in {"refuse", "bake"}:
        faults.turned.append(turned_line(sample.image, stored, orientation, fits if any_map else None))
        return None
    size = upright if rules.exif == "apply" else stored
    whole = True
    for what, array in maps.items():
        if array is not None and array.shape[::-1] != size:
            other = (array.shape[1], array.shape[0])
            faults.sizes.append(_size_line(whole_name, size, str(sources[what]), what, other))
            whole = False
    if not whole:
        return None
    ids: dict[str, NDArray[Any] | None] = {}
    for what in ("labels", "ground truth"):
        array = maps[what]
        if array is None:
            ids[what] = None
            continue
        decoded, unknown = decode_labels(array, classes, rules.value_map)
        ids[what] = decoded
        if what == "labels":
            faults.seen_values |= set(np.unique(array).tolist())
        for value, count in unknown.items():
            faults.values[what][value] += count
            faults.value_files[what, value].append(str(sources[what]))
    columns: tuple[NDArray[Any], ...] = ()
    max_mask = 0
    if train:
        labels = ids["labels"]
        if labels is None:
            labels = np.full(size[::-1], classes.ignore_index, dtype=classes.dtype)
        masks = maps["masks"]
        if masks is None:
            masks = component_masks(labels, classes.ignore_index)
        columns = mask_columns(masks, labels, ids["ground truth"], classes, missing=VOID)
        max_mask = int(masks.max())
        if max_mask > 65535:
            faults.unreadable[sample.image_id] = f"{whole_name}: {max_mask} masks; at most 65535 fit a 16-bit mask map."
            return None
    return _Checked(sample=sample, width=size[0], height=size[1], sha256=digest, masks=columns, max_mask=max_mask)


def mask_columns(
    masks: NDArray[Any], labels: NDArray[Any], truth: NDArray[Any] | None, classes: ClassTable, missing: int = 0
) -> tuple[NDArray[Any], ...]:
    """Mask id, label, truth and pixels of every combination in an image; VOID for the ignore index.

    Args:
        masks: (H, W) mask ids, 0 where there is no mask.
        labels: (H, W) class indices or the ignore index.
        truth: The same of the ground truth, None without.
        classes: The classes.
        missing: What stands for the truth where there is none: 0 or VOID.

    Returns:
        Four columns of one length, ordered by mask, label and truth.
    """
    size = classes.num_classes + 1
    label = np.where(labels == classes.ignore_index, classes.num_classes, labels)
    nothing = size - 1 if missing == VOID else missing
    target = np.full_like(label, nothing) if truth is None else np.where(truth == classes.ignore_index, size - 1, truth)
    mask, label, target, pixels = joint_counts(masks, label, target, sizes=(int(masks.max()) + 1, size, size))
    label[label == size - 1] = VOID
    target[target == size - 1] = VOID
    return mask, label, target, pixels


def read_source(source: MapSource, classes: ClassTable | None, rules: ReadRules) -> tuple[NDArray[Any], int]:
    """(H, W) values of a label or mask map, and how many pixels were snapped to a known value.

    Args:
        source: The file, or what draws it.
        classes: Of a label map, whose colours and values may be needed; None for a mask map.
        rules: How files are read.

    Raises:
        InputError: It cannot be read without a guess.
    """
    if isinstance(source, DrawnMap):
        return source.draw(), 0
    table = None
    if classes is not None and rules.colours:
        table = list(zip(classes.colours, classes.file_values, strict=True))
        if (224, 224, 192) not in classes.colours:
            table.append(((224, 224, 192), classes.ignore))  # VOC's void; black stays for a class to claim
    if classes is not None and rules.snap is not None and is_lossy(source, rules.max_pixels):
        known = (*classes.file_values, classes.ignore, *rules.value_map)
        return read_snapped(source, known, rules.snap, colours=table, max_pixels=rules.max_pixels)
    return read_ids(source, colours=table, max_pixels=rules.max_pixels), 0


def _size_line(image: str, size: tuple[int, int], path: str, what: str, other: tuple[int, int]) -> str:
    hint = ""
    if other == size[::-1]:
        hint = "; turned by 90 degrees"
    elif other[0] * size[1] == other[1] * size[0]:
        ratio = size[0] / other[0]
        scale = f"{'a' if ratio > 1 else 'enlarged from a'} clean scale of {max(ratio, 1 / ratio):g}"
        hint = f"; {scale}: resize {what} by nearest neighbour"
    return f"{image} is {size[0]} x {size[1]}, its {what} {path} {other[0]} x {other[1]}{hint}"


def _raise_faults(faults: _Faults, classes: ClassTable, rules: ReadRules, total: int) -> None:
    """Raise the faults found, the most basic kind first.

    Raises:
        ImageFileError: Files cannot be read.
        ShapeError: Sizes differ or an EXIF orientation is undecided.
        LabelRangeError: Values are no classes.
    """
    if faults.unreadable and not rules.skip_bad:
        reasons = list(faults.unreadable.values())
        raise ImageFileError(
            f"{len(reasons)} of {total} images cannot be used: {' | '.join(reasons[:5])}"
            + (f" | and {len(reasons) - 5} more" if len(reasons) > 5 else "")
            + " Mend them, or pass --skip-bad to go on without them."
        )
    if faults.turned:
        raise ShapeError(
            f"{len(faults.turned)} of {total} images are shown turned by their EXIF orientation: "
            f"{' | '.join(faults.turned[:5])}. Pass --exif apply to read them upright, or --exif ignore as stored."
        )
    if faults.sizes:
        raise ShapeError(
            f"{len(faults.sizes)} files differ in size from their image: {' | '.join(faults.sizes[:5])}"
            + (f" | and {len(faults.sizes) - 5} more." if len(faults.sizes) > 5 else ".")
        )
    for what, counts in faults.values.items():
        lines = []
        for value, count in counts.most_common(5):
            names = faults.value_files[what, value]
            lines.append(f"value {value} on {count:,} pixels of {len(names)} files ({first_names(names)})")
        worst = counts.most_common(1)[0][0]
        known = ", ".join(str(value) for value in classes.file_values[:12])
        raise LabelRangeError(
            f"The {what} hold values that are no class and not ignore ({classes.ignore}): {' | '.join(lines)}. Classes are "
            f"{known}{', ..' if classes.num_classes > 12 else ''}. Read one as another with --map {worst}={classes.ignore}"
        )
    binary = faults.seen_values == {0, 255} and classes.ignore == 255 and 255 not in rules.value_map
    if binary and 0 in classes.file_values:
        other = next((value for value in classes.file_values if value != 0), None)
        if other is None:
            reading = "name a class for 0 and one for 255 in the classes file, and pass --map 255=1"
        else:
            reading = f"--map 255={other} reads it as {classes.names[classes.file_values.index(other)]!r}"
        raise LabelRangeError(
            f"The labels hold only 0 and 255, and 255 is the ignore value: either 255 means a class ({reading}), or it does "
            "mean no class (--map 255=255)."
        )


def _write(
    folder: Path,
    found: Found,
    checked: list[_Checked],
    validation: list[_Checked],
    classes: ClassTable,
    rules: ReadRules,
    track: Track,
) -> tuple[int, int, ConfusionCounts | None]:
    """Write everything but project.yaml; images, masks and label quality come back."""
    has_truth = any(item.sample.ground_truth is not None for item in checked)

    def write(item: _Checked) -> None:
        sample, shape = item.sample, (item.height, item.width)
        copy = folder / "labels" / f"{sample.image_id}.png"
        if sample.labels is None:
            value = void_value(classes, rules)
            write_ids(copy, np.full(shape, value, dtype=np.uint8 if value <= 255 else np.uint16))
        else:
            _copy_map(sample.labels, copy, classes, rules)
        target = folder / "masks" / f"{sample.image_id}.png"
        if sample.masks is not None:
            masks = read_source(sample.masks, None, rules)[0]
        elif sample.labels is None:
            masks = np.zeros(shape, dtype=np.uint16)
        else:
            raw = read_ids(copy, max_pixels=rules.max_pixels)  # the same values, and nothing is drawn again
            masks = component_masks(decode_labels(raw, classes, rules.value_map)[0], classes.ignore_index)
        write_ids(target, masks.astype(np.uint16))
        if has_truth:
            _write_truth(folder, item, classes, rules)

    with track("importing", len(checked) + len(validation)) as advance:
        for item in checked:
            one_at_a_time(item.width * item.height, partial(write, item))
            advance()
        for item in validation:
            one_at_a_time(item.width * item.height, partial(_write_truth, folder, item, classes, rules))
            advance()
    records: list[ImageRecord] = []
    for split, items, root in (("train", checked, found.root), ("validation", validation, found.validation_root)):
        for item in items:
            records.append(
                ImageRecord(
                    index=len(records),
                    image_id=item.sample.image_id,
                    file=_file_name(item.sample, root),
                    width=item.width,
                    height=item.height,
                    split=split,
                    sha256=item.sha256,
                )
            )
    table, truth_table = mask_tables([item.masks for item in checked], has_truth)
    table.save(folder / "tables" / "masks.parquet")
    quality = None
    if has_truth:
        truth_table.save(folder / "tables" / "truth.parquet")
        quality = ConfusionCounts(classes.num_classes, VOID)
        quality.add(truth_table.label, truth_table.truth, truth_table.pixels)
    ledger = Ledger(folder / "ledger.sqlite")
    ledger.add_images(records)
    ledger.close()
    return len(checked), len(table), quality


def _write_truth(folder: Path, item: _Checked, classes: ClassTable, rules: ReadRules) -> None:
    """True classes of an image; those of an image without ground truth are void, which no figure counts."""
    if item.sample.ground_truth is None:
        truth = np.full((item.height, item.width), classes.ignore_index, dtype=classes.dtype)
    else:
        raw = read_source(item.sample.ground_truth, classes, rules)[0]
        truth, _ = decode_labels(raw, classes, rules.value_map)
    write_ids(folder / "ground_truth" / f"{item.sample.image_id}.png", truth)


def _file_name(sample: Sample, root: Path | None) -> str:
    """Path of an image below its source folder, or below the project's own images; empty without an image."""
    if sample.image is None:
        return ""
    assert isinstance(sample.image, Path)
    if sample.prepared:
        return f"{sample.image_id}{sample.image.suffix}"
    assert root is not None
    return sample.image.relative_to(root).as_posix()


def mask_tables(images: Sequence[tuple[NDArray[Any], ...]], has_truth: bool) -> tuple[MaskTable, TruthTable]:
    """The tables of a project's masks, from what `mask_columns` gives for each image, by position.

    Without ground truth the second table is empty.
    """
    image = np.repeat(np.arange(len(images)), [len(columns[0]) for columns in images])
    mask, label, truth, pixels = (np.concatenate([columns[i] for columns in images]) for i in range(4))
    inside = mask > 0
    key = (image << 32) | mask
    keys, row = np.unique(key[inside], return_inverse=True)
    # Labels of a mask, whatever the truth beneath them: combinations are ordered by mask, label, truth.
    pair = (row.astype(np.int64) << 20) | (label[inside] + 1)
    pairs, place = np.unique(pair, return_inverse=True)
    pair_pixels = np.bincount(place, weights=pixels[inside], minlength=len(pairs)).astype(np.int32)
    pair_row, pair_label = (pairs >> 20).astype(np.int32), ((pairs & 0xFFFFF) - 1).astype(np.int32)
    area = np.bincount(pair_row, weights=pair_pixels, minlength=len(keys)).astype(np.int32)
    masks = MaskTable(
        image=(keys >> 32).astype(np.int32),
        mask_ids=(keys & 0xFFFFFFFF).astype(np.int32),
        area=area,
        label=most_frequent(pair_row, pair_label, pair_pixels),
        pair_row=pair_row,
        pair_label=pair_label,
        pair_pixels=pair_pixels,
    )
    if not has_truth:
        empty = np.empty(0, dtype=np.int32)
        return masks, TruthTable(row=empty, label=empty, truth=empty, pixels=empty)
    rows = np.full(len(key), -1, dtype=np.int32)
    rows[inside] = row
    # Pixels outside masks of all images together: nothing ever changes them.
    outside = joint_counts_of(rows[~inside], label[~inside], truth[~inside], pixels[~inside])
    return masks, TruthTable(
        row=np.concatenate([outside[0], rows[inside]]).astype(np.int32),
        label=np.concatenate([outside[1], label[inside]]).astype(np.int32),
        truth=np.concatenate([outside[2], truth[inside]]).astype(np.int32),
        pixels=np.concatenate([outside[3], pixels[inside]]).astype(np.int32),
    )


def joint_counts_of(*columns: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Rows of equal values, but for the last column, made one by adding up the last."""
    if not len(columns[0]):
        return columns
    stacked = np.stack(columns[:-1], axis=1)
    unique, place = np.unique(stacked, axis=0, return_inverse=True)
    return (*unique.T, np.bincount(place.ravel(), weights=columns[-1]).astype(np.int64))


def _copy_map(source: MapSource, target: Path, classes: ClassTable, rules: ReadRules) -> None:
    """A copy of a label file: the very bytes of a PNG of ids, else its values as PNG."""
    if isinstance(source, DrawnMap):
        if source.stored is None:
            write_ids(target, source.draw())
        else:
            write_bytes(target, source.stored())
        return
    exact = False
    if source.suffix.lower() != ".npy":
        with open_image(source, rules.max_pixels) as image:
            exact = image.format == "PNG" and image.mode in {"L", "P", "1", "I;16", "I"}
    if exact:
        write_bytes(target, source.read_bytes())
        return
    write_ids(target, read_source(source, classes, rules)[0])


def _sources_config(
    sources: Sources, found: Found, rules: ReadRules, folder: Path, partial_truth: bool
) -> SourcesConfig:
    def place(path: Path | None) -> str | None:
        if path is None:
            return None
        path = path.absolute()
        # A data set inside or beside the project moves with it; anything else is named from the root.
        parent = folder.parent
        return os.path.relpath(path, folder) if path.is_relative_to(parent) else str(path)

    return SourcesConfig(
        format=sources.format,
        images=place(found.root),
        labels=place(sources.labels),
        masks=place(sources.masks),
        ground_truth=place(sources.ground_truth),
        validation_images=place(found.validation_root),
        validation_ground_truth=place(sources.validation_ground_truth),
        exif=rules.exif,  # type: ignore[arg-type]
        value_map=rules.value_map,
        colours=rules.colours,
        snap=rules.snap,
        max_pixels=rules.max_pixels,
        partial=rules.partial,
        partial_ground_truth=partial_truth,
        tile=rules.tile,
        bands=None if rules.bands is None else list(rules.bands),
        stretch=None if rules.stretch is None else str(rules.stretch),
    )
