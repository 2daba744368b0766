"""Intake: the user's files are all checked first; only then is a project made, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.decoding import decode_labels
from a2lc.classes.sentinels import VOID
from a2lc.classes.table import ClassTable, on_one_line
from a2lc.creation.checks import Checked, Faults, check_all, raise_faults
from a2lc.creation.preparation import prepare
from a2lc.errors import ConfigError, InputError, first_names
from a2lc.formats.base import Found, Sample, Sources
from a2lc.formats.reading import check_map, read_source, void_value, with_ignore
from a2lc.formats.registry import find_reader
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.opening import one_at_a_time, open_image
from a2lc.images.options import ReadingOptions
from a2lc.images.prepared import Prepared
from a2lc.images.sources import DrawnMap, MapSource
from a2lc.io.files import new_folder, write_bytes, write_text
from a2lc.io.progress import Track, no_progress
from a2lc.ledger.ledger import Ledger
from a2lc.masks.components import component_masks
from a2lc.masks.joining import mask_tables
from a2lc.project.config import FORMAT_VERSION, ProjectConfig, SourcesConfig, reading_of
from a2lc.records import ImageRecord
from a2lc.statistics.metrics import ConfusionCounts
from a2lc.version import __version__

__all__ = ["IntakeSummary", "create_project"]


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


def create_project(
    folder: Path,
    sources: Sources,
    classes: ClassTable | None = None,
    options: ReadingOptions | None = None,
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
        options: How files are read.
        name: Of the project; that of the folder by default.
        seed: Of everything drawn at random in the project.
        track: Shows progress.

    Raises:
        InputError: A file is not as it must be; the message names it and says what to do. Nothing was written.
    """
    options = options or ReadingOptions()
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if (folder / "project.yaml").is_file():
            raise InputError(
                f"{folder} contains a project already. Continue with it (a2lc run), or choose another folder."
            )
        raise InputError(f"{folder} exists and is not empty. Choose a new folder for the project.")
    # What was fetched from elsewhere stays there until the project is complete: a killed import does not fetch it again.
    fetched = folder.with_name(f".{folder.name}.fetched")
    with new_folder(folder) as partial:
        summary = _create(folder, partial, fetched, sources, classes, options, name, seed, track)
    shutil.rmtree(fetched, ignore_errors=True)
    return summary


def _create(
    folder: Path,
    partial: Path,
    fetched: Path,
    sources: Sources,
    given: ClassTable | None,
    options: ReadingOptions,
    name: str | None,
    seed: int,
    track: Track,
) -> IntakeSummary:
    reader = find_reader(sources.format)
    if given is not None and options.ignore is not None:
        given = with_ignore(given, options.ignore)  # label maps that are drawn have that value already
    found = reader(replace(sources, max_pixels=options.max_pixels), partial=options.partial, classes=given)
    classes = given or found.classes
    if classes is None:
        raise ConfigError(
            f"`classes` is missing, and format {sources.format!r} does not define any. Set it to a JSON, YAML or "
            "text file, or to names separated by commas."
        )
    broken = None if given is not None else next((name for name in classes.names if not on_one_line(name)), None)
    if broken is not None:
        raise ConfigError(
            f"Class {broken[:80]!r} of the files of format {sources.format} has line breaks or control characters "
            "in its name. Set `classes`."
        )
    if options.ignore is not None:
        classes = with_ignore(classes, options.ignore)
    options = replace(options, value_map=found.value_map(classes) | options.value_map)
    check_map(options.value_map, classes)
    notes = list(found.notes)
    allowed = {"images without ground truth"} if options.partial_truth else set()
    unmatched = {what: names for what, names in found.unmatched.items() if what not in allowed}
    if unmatched:
        lines = [f"{len(names)} {what}: {first_names(names)}" for what, names in unmatched.items()]
        if not options.skip_bad:
            raise InputError(
                f"{len(found.train)} images have all their files. "
                + ". ".join(lines)
                + (
                    ". Add, remove or rename files so that their names match, or set `skip_bad` to continue without "
                    "them"
                )
                + (", or `partial` to accept those without labels" if "images without labels" in unmatched else "")
                + (
                    ", or `partial_truth` to measure only the images that have it."
                    if "images without ground truth" in unmatched
                    else "."
                )
            )
        notes += [f"left out: {line}" for line in lines]
    train = found.train
    if sources.ground_truth is not None and not options.partial_truth:
        train = [one for one in train if one.ground_truth is not None]
    found = replace(found, train=train, validation=[one for one in found.validation if one.ground_truth is not None])
    if not found.train:
        raise InputError(f"No image in {found.root or sources.labels} has all its files.")

    def read_map(source: MapSource, masks: bool) -> NDArray[Any]:
        return read_source(source, None if masks else classes, options)[0]

    found, done, unusable, turned = prepare(found, partial / "images", fetched, options, read_map, track)
    faults = Faults(unreadable=dict(unusable), turned=list(turned))
    checked = check_all(found.train, classes, options, faults, track, "checking", True)
    validation = check_all(found.validation, classes, options, faults, track, "checking validation", False)
    raise_faults(faults, classes, options, len(found.train) + len(found.validation) + len(unusable) + len(turned))
    skipped = dict(faults.unreadable) if options.skip_bad else {}
    snapped = (
        [f"{faults.snapped:,} pixels of lossy label files were changed to the nearest known value"]
        if faults.snapped
        else []
    )
    if not checked:
        raise InputError("There are no images to import: all were skipped as unreadable.")
    unlabelled = sum(item.sample.labels is None for item in checked)
    if unlabelled:
        void_value(classes, options)
    # Without any labels and masks, masks are made afterwards from the images.
    expected = sources.masks is not None or unlabelled < len(checked)
    if expected and not any(len(item.masks[0]) and item.masks[0].max() > 0 for item in checked):
        raise InputError(
            f"There are no masks in {len(checked)} images, so there is nothing to ask about: "
            + ("the mask maps are 0 everywhere." if sources.masks else "the labels carry no class.")
        )
    with_truth = sum(item.sample.ground_truth is not None for item in checked)
    (partial / "images").mkdir(parents=True, exist_ok=True)
    summary = _write(partial, found, checked, validation, classes, options, track)
    config = ProjectConfig(
        format_version=FORMAT_VERSION,
        created_by=f"a2lc {__version__}",
        name=name or folder.name.removesuffix(".a2lc"),
        seed=seed,
        classes=classes.to_json(),
        sources=_sources_config(sources, found, options, folder, 0 < with_truth < len(checked)),
    )
    if skipped:
        lines = ["image,reason", *(f'"{k}","{v.replace(chr(34), chr(39))}"' for k, v in sorted(skipped.items()))]
        write_text(partial / "skipped.csv", "\n".join(lines) + "\n")
    # What class indices in the ledger and the tables stand for: an edited project.yaml must still say the same.
    write_text(partial / "tables" / "reading.json", json.dumps(reading_of(config)))
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
    folder: Path, fetched: Path, items: Sequence[Checked], done: dict[str, Prepared]
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


def _write(
    folder: Path,
    found: Found,
    checked: list[Checked],
    validation: list[Checked],
    classes: ClassTable,
    options: ReadingOptions,
    track: Track,
) -> tuple[int, int, ConfusionCounts | None]:
    """Write everything but project.yaml; images, masks and label quality come back."""
    has_truth = any(item.sample.ground_truth is not None for item in checked)

    def write(item: Checked) -> None:
        sample, shape = item.sample, (item.height, item.width)
        copy = folder / "labels" / f"{sample.image_id}.png"
        if sample.labels is None:
            value = void_value(classes, options)
            write_ids(copy, np.full(shape, value, dtype=np.uint8 if value <= 255 else np.uint16))
        else:
            _copy_map(sample.labels, copy, classes, options)
        target = folder / "masks" / f"{sample.image_id}.png"
        if sample.masks is not None:
            masks = read_source(sample.masks, None, options)[0]
        elif sample.labels is None:
            masks = np.zeros(shape, dtype=np.uint16)
        else:
            raw = read_ids(copy, max_pixels=options.max_pixels)  # the same values, and nothing is drawn again
            masks = component_masks(decode_labels(raw, classes, options.value_map)[0], classes.ignore_index)
        write_ids(target, masks.astype(np.uint16))
        if has_truth:
            _write_truth(folder, item, classes, options)

    with track("importing", len(checked) + len(validation)) as advance:
        for item in checked:
            one_at_a_time(item.width * item.height, partial(write, item))
            advance()
        for item in validation:
            one_at_a_time(item.width * item.height, partial(_write_truth, folder, item, classes, options))
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


def _write_truth(folder: Path, item: Checked, classes: ClassTable, options: ReadingOptions) -> None:
    """Write the true classes of an image; those of an image without ground truth are void, which no figure counts."""
    if item.sample.ground_truth is None:
        truth = np.full((item.height, item.width), classes.ignore_index, dtype=classes.dtype)
    else:
        raw = read_source(item.sample.ground_truth, classes, options)[0]
        truth, _ = decode_labels(raw, classes, options.value_map)
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


def _copy_map(source: MapSource, target: Path, classes: ClassTable, options: ReadingOptions) -> None:
    """Copy a label file: the very bytes of a PNG of ids, else its values as PNG."""
    if isinstance(source, DrawnMap):
        if source.stored is None:
            write_ids(target, source.draw())
        else:
            write_bytes(target, source.stored())
        return
    exact = False
    if source.suffix.lower() != ".npy":
        with open_image(source, options.max_pixels) as image:
            exact = image.format == "PNG" and image.mode in {"L", "P", "1", "I;16", "I"}
    if exact:
        write_bytes(target, source.read_bytes())
        return
    write_ids(target, read_source(source, classes, options)[0])


def _sources_config(
    sources: Sources, found: Found, options: ReadingOptions, folder: Path, partial_truth: bool
) -> SourcesConfig:
    def place(path: Path | None) -> str | None:
        if path is None:
            return None
        path = path.absolute()
        # A data set inside or beside the project moves with it; anything else is named from the root.
        parent = folder.parent
        return os.path.relpath(path, folder) if path.is_relative_to(parent) else str(path)

    return SourcesConfig.of(
        replace(options, partial_truth=partial_truth),
        format=sources.format,
        images=place(found.root),
        labels=place(sources.labels),
        masks=place(sources.masks),
        ground_truth=place(sources.ground_truth),
        validation_images=place(found.validation_root),
        validation_ground_truth=place(sources.validation_ground_truth),
    )
