"""Check every file of a data set before anything is written."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.decoding import decode_labels
from a2lc.classes.sentinels import VOID
from a2lc.classes.table import ClassTable
from a2lc.creation.preparation import turned_line
from a2lc.errors import ImageFileError, InputError, LabelRangeError, ShapeError, first_names
from a2lc.formats.base import Sample
from a2lc.formats.reading import read_source
from a2lc.images.opening import one_at_a_time, stored_size
from a2lc.images.options import ReadingOptions
from a2lc.images.rgb import read_rgb
from a2lc.io.concurrency import in_order
from a2lc.io.files import sha256
from a2lc.io.progress import Track
from a2lc.masks.components import component_masks
from a2lc.masks.joining import mask_columns

__all__ = ["Checked", "Faults", "check_all", "check_sample", "pixels_of", "raise_faults", "size_line"]


@dataclass(kw_only=True)
class Checked:
    """What is known of a sample after reading its files."""

    sample: Sample
    width: int
    height: int
    sha256: str
    masks: tuple[NDArray[Any], ...] = ()  # columns: mask id, label, truth, pixels
    max_mask: int = 0


@dataclass
class Faults:
    """Faults by kind; each kind becomes one line."""

    unreadable: dict[str, str] = field(default_factory=dict)
    sizes: list[str] = field(default_factory=list)
    turned: list[str] = field(default_factory=list)
    values: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    value_files: dict[tuple[str, int], list[str]] = field(default_factory=lambda: defaultdict(list))
    seen_values: set[int] = field(default_factory=set)
    snapped: int = 0


def check_all(
    samples: list[Sample],
    classes: ClassTable,
    options: ReadingOptions,
    faults: Faults,
    track: Track,
    what: str,
    train: bool,
) -> list[Checked]:
    """Check samples one by one, add what is wrong to `faults`, and return those that can be imported."""
    if not samples:
        return []

    def check(sample: Sample) -> tuple[Checked | None, Faults]:
        own = Faults()
        found = one_at_a_time(
            pixels_of(sample, options.max_pixels), lambda: check_sample(sample, classes, options, own, train)
        )
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


def check_sample(
    sample: Sample, classes: ClassTable, options: ReadingOptions, faults: Faults, train: bool
) -> Checked | None:
    """Check the files of a sample, add what is wrong to `faults`, and return what was read; None if it cannot be imported."""
    maps: dict[str, NDArray[Any] | None] = {}
    stored, orientation, digest = None, 1, ""
    try:
        if isinstance(sample.image, Path):
            width, height, orientation = stored_size(sample.image, options.max_pixels)
            read_rgb(sample.image, max_pixels=options.max_pixels)  # all of it: a truncated file shows only at its end
            stored, digest = (width, height), sha256(sample.image)
        maps["labels"] = None
        if sample.labels is not None:
            maps["labels"], snapped = read_source(sample.labels, classes, options)
            faults.snapped += snapped
        maps["masks"] = None if sample.masks is None else read_source(sample.masks, None, options)[0]
        maps["ground truth"] = (
            None if sample.ground_truth is None else read_source(sample.ground_truth, classes, options)[0]
        )
    except InputError as error:
        faults.unreadable[sample.image_id] = str(error)
        return None
    except FileNotFoundError as error:
        faults.unreadable[sample.image_id] = f"{error.filename}: missing, or a broken link"
        return None
    sources = {"labels": sample.labels, "masks": sample.masks, "ground truth": sample.ground_truth}
    fits = next((array.shape[::-1] for array in maps.values() if array is not None), stored)
    assert fits is not None
    any_map = any(array is not None for array in maps.values())
    whole_name = str(sample.image if sample.image is not None else sample.labels)
    if stored is None:
        stored = (fits[0], fits[1])
    upright = stored[::-1] if orientation >= 5 else stored
    if orientation != 1 and options.exif in {"refuse", "bake"}:
        faults.turned.append(turned_line(sample.image, stored, orientation, fits if any_map else None))
        return None
    size = upright if options.exif == "apply" else stored
    whole = True
    for what, array in maps.items():
        if array is not None and array.shape[::-1] != size:
            other = (array.shape[1], array.shape[0])
            faults.sizes.append(size_line(whole_name, size, str(sources[what]), what, other))
            whole = False
    if not whole:
        return None
    ids: dict[str, NDArray[Any] | None] = {}
    for what in ("labels", "ground truth"):
        array = maps[what]
        if array is None:
            ids[what] = None
            continue
        decoded, unknown = decode_labels(array, classes, options.value_map)
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
    return Checked(sample=sample, width=size[0], height=size[1], sha256=digest, masks=columns, max_mask=max_mask)


def size_line(image: str, size: tuple[int, int], path: str, what: str, other: tuple[int, int]) -> str:
    """Return a line on a map whose width and height are not those of its image."""
    hint = ""
    if other == size[::-1]:
        hint = "; rotated by 90 degrees"
    elif other[0] * size[1] == other[1] * size[0]:
        ratio = size[0] / other[0]
        scale = f"scaled {'down' if ratio > 1 else 'up'} by {max(ratio, 1 / ratio):g}"
        hint = f"; {scale}: resize {what} with nearest-neighbour interpolation"
    return f"{image} is {size[0]} x {size[1]}, but {path} ({what}) is {other[0]} x {other[1]}{hint}"


def raise_faults(faults: Faults, classes: ClassTable, options: ReadingOptions, total: int) -> None:
    """Raise the faults found, the most basic kind first.

    Raises:
        ImageFileError: Files cannot be read.
        ShapeError: Sizes differ or an EXIF orientation is undecided.
        LabelRangeError: Values are no classes.
    """
    if faults.unreadable and not options.skip_bad:
        reasons = list(faults.unreadable.values())
        raise ImageFileError(
            f"{len(reasons)} of {total} images cannot be used: {' | '.join(reasons[:5])}"
            + (f" | and {len(reasons) - 5} more" if len(reasons) > 5 else "")
            + " Fix them, or set `skip_bad` to continue without them."
        )
    if faults.turned:
        raise ShapeError(
            f"{len(faults.turned)} of {total} images are rotated by their EXIF orientation: "
            f"{' | '.join(faults.turned[:5])}. Set `exif` apply to read them upright, or `exif` ignore to read "
            "them as stored."
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
            f"The {what} contain values that are neither a class nor the ignore value ({classes.ignore}): "
            f"{' | '.join(lines)}. Classes are {known}{', ..' if classes.num_classes > 12 else ''}. To read one "
            f"value as another, set for example `value_map` {worst}={classes.ignore}"
        )
    binary = faults.seen_values == {0, 255} and classes.ignore == 255 and 255 not in options.value_map
    if binary and 0 in classes.file_values:
        other = next((value for value in classes.file_values if value != 0), None)
        if other is None:
            reading = "define classes for 0 and for 255 in the classes file, and set `value_map` 255=1"
        else:
            reading = f"`value_map` 255={other} reads it as {classes.names[classes.file_values.index(other)]!r}"
        raise LabelRangeError(
            f"The labels contain only 0 and 255, and 255 is the ignore value. Set whether 255 means a class ({reading}) "
            "or no class (`value_map` 255=255)."
        )
