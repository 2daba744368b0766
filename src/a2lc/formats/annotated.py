"""What formats share whose labels lie in annotations: names that are joined, classes that are joined, one sample an image."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable, class_colour, on_one_line
from a2lc.errors import InputError, first_names
from a2lc.formats.base import Found, Sample, Sources, images_in, maps_in
from a2lc.images.sources import DrawnMap, MapSource, PackedImage

__all__ = [
    "Annotated",
    "Category",
    "check_label_name",
    "entries",
    "give_values",
    "join_classes",
    "name_of",
    "need",
    "of_types",
    "safe_path",
    "samples",
    "unique_names",
]

_MOST_NAME = 64  # characters of a label that CVAT keeps
_MOST_PART = 200  # bytes of a folder's or file's name: suffixes are added to it


# ---- what files say, checked ------------------------------------------------------------------------------------


def need(path: Path | None, option: str, what: str, format: str) -> Path:
    """Return a path that a format cannot do without.

    Raises:
        InputError: It was not given.
    """
    if path is None:
        raise InputError(f"`{option}` is missing. With `format` {format}, it is {what}.")
    return path


def of_types(value: Any, kinds: type | tuple[type, ...], what: str, where: str) -> Any:
    """Return a value if it is of a type; True and False are no numbers.

    Raises:
        InputError: It is of another one.
    """
    if isinstance(value, bool) or not isinstance(value, kinds):
        names = kinds.__name__ if isinstance(kinds, type) else " or ".join(kind.__name__ for kind in kinds)
        raise InputError(f"{where}: {what} is of type {type(value).__name__}; expected {names}.")
    return value


def entries(holder: Any, name: str, where: str) -> list[dict[str, Any]]:
    """Return a list of objects in a JSON object.

    Raises:
        InputError: It is not there, or something else.
    """
    found = holder.get(name) if isinstance(holder, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"{where}: contains no list of objects {name!r}, which the format requires.")
    return found


def safe_path(name: Any, where: str) -> PurePosixPath:
    """Return the name of a file below a folder, as an annotation file gives it.

    Raises:
        InputError: It is no text, leads out of the folder, or no file can be called so.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where}: file name {str(name)[:40]!r}; expected the name of an image.")
    path = PurePosixPath(name.replace("\\", "/"))
    shown = name if len(name) <= 80 else f"{name[:77]}..."
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise InputError(f"{where}: file name {shown!r} points outside the image folder. Names must be relative to it.")
    if any(unicodedata.category(sign) in {"Cc", "Cs"} for sign in name):
        raise InputError(f"{where}: file name {shown!r} contains characters that are not allowed.")
    if not path.parts or any(len(part.encode()) > _MOST_PART for part in path.parts):
        raise InputError(f"{where}: file name {shown!r} is empty or too long.")
    return path


def name_of(path: PurePosixPath) -> str:
    """Return the name of an image: its path without suffix."""
    return path.with_suffix("").as_posix()


def unique_names(paths: Sequence[PurePosixPath], where: str) -> list[str]:
    """Names of images.

    Raises:
        InputError: Two have one name.
    """
    names = [name_of(path) for path in paths]
    seen: set[str] = set()
    twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
    if twice:
        raise InputError(
            f"{where}: {len(twice)} images have the same name apart from the suffix: {first_names(twice)}."
        )
    return names


# ---- classes ----------------------------------------------------------------------------------------------------


def check_label_name(name: str, tool: str) -> None:
    """Refuse the name of a class that a tool would cut or misread as a label.

    Args:
        name: Of the class.
        tool: cvat-mask, cvat-xml or label-studio.

    Raises:
        InputError: The tool cannot hold it.
    """
    wrong, other = "", ""
    # Surrogates, controls and line ends have no place in XML, nor in a list with a name a line.
    if any(unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} or sign in "\ufffe\uffff" for sign in name):
        wrong = "contains a character that files for other tools cannot hold"
    elif tool == "label-studio":
        if "$" in name:
            wrong = "contains '$', which Label Studio reads as the start of a field name"
    elif len(name) > _MOST_NAME:
        wrong = f"has {len(name)} characters, of which CVAT keeps only {_MOST_NAME}"
    elif tool == "cvat-mask" and ":" in name:
        wrong, other = "contains ':', which ends a name in CVAT's labelmap.txt", ", or use cvat-xml"
    elif tool == "cvat-mask" and name.startswith("#"):
        wrong, other = "begins with '#', which marks a comment in CVAT's labelmap.txt", ", or use cvat-xml"
    if wrong:
        raise InputError(f"Class {name!r} {wrong}. Rename it in project.yaml{other}.")


@dataclass(frozen=True, kw_only=True)
class Category:
    """A class as an annotation file has it.

    Attributes:
        name: Its name.
        value: Its number there, None where it has none.
        colour: RGB, None where it has none.
    """

    name: str
    value: int | None = None
    colour: tuple[int, int, int] | None = None


def join_classes(
    categories: Sequence[Category], used: Collection[str], given: ClassTable | None, where: str
) -> tuple[ClassTable, dict[str, int]]:
    """Return the classes that hold, and the value of label files for each category's name.

    Args:
        categories: As the file has them.
        used: Names of those that annotations are of: the others need no class.
        given: The user's classes, joined by name; None for those of the file, whose numbers are kept.
        where: What messages call the file.

    Raises:
        InputError: A name is missing or doubled, a number is too large, or the user's classes lack a category.
    """
    names = [category.name for category in categories]
    broken = next((name for name in names if not on_one_line(name.strip())), None)
    if broken is not None:
        raise InputError(
            f"{where}: category name {broken[:80]!r} contains line breaks or control characters. Rename it."
        )
    if any(not name.strip() for name in names):
        raise InputError(f"{where}: a category has no name.")
    for what, items in (("name", names), ("number", [c.value for c in categories if c.value is not None])):
        if len(set(items)) < len(items):
            twice = Counter(items).most_common(1)[0][0]
            raise InputError(f"{where}: two categories have the {what} {twice!r}.")
    if given is not None:
        values = dict(zip(given.names, given.file_values, strict=True))
        lacking = [name for name in names if name in used and name.strip() not in values]
        if lacking:
            raise InputError(
                f"{where}: {len(lacking)} of its categories are not in `classes`: {first_names(lacking)}. Add them "
                "to the classes, or omit `classes` to use those of the file."
            )
        return given, {name: values[name.strip()] for name in names if name.strip() in values}
    if not categories:
        raise InputError(f"{where}: contains no categories. Set `classes`.")
    numbers = [place if c.value is None else c.value for place, c in enumerate(categories)]
    wrong = next((number for number in numbers if not 0 <= number <= 65534), None)
    if wrong is not None:
        raise InputError(
            f"{where}: category {names[numbers.index(wrong)]!r} has the number {wrong}; label maps hold 0..65534. "
            "Set `classes`."
        )
    colours = tuple(c.colour or class_colour(place) for place, c in enumerate(categories))
    void = 255 if max(numbers) < 255 else 65535
    table = ClassTable(tuple(name.strip() for name in names), colours, tuple(numbers), void)
    return table, dict(zip(names, numbers, strict=True))


# ---- samples ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """Label maps of an annotation file, by the names of their images.

    Attributes:
        maps: In the file's order.
        table: The classes they are values of.
        notes: What the user should know.
        packed: Images that lie in the file itself.
        where: What messages call the file.
    """

    maps: dict[str, MapSource]
    table: ClassTable
    where: str
    notes: list[str] = field(default_factory=list)
    packed: dict[str, PackedImage] = field(default_factory=dict)


def samples(
    sources: Sources,
    partial: bool,
    annotated: Annotated,
    read: Callable[[Path, ClassTable], Annotated] | None = None,
    void_values: Iterable[int] = (),
) -> Found:
    """Join images with the label maps of an annotation file: the file says which images belong to the data set.

    Args:
        sources: The folder of images, and folders of masks and ground truth.
        partial: Images that the file does not name start without labels; they are left out otherwise, and it is told.
        annotated: What the file says.
        read: Reads another file of the same format, for ground truth.
        void_values: See `Found`.

    Raises:
        InputError: No image is named.
    """
    images: dict[str, Any] = dict(annotated.packed)
    root = None
    if sources.images is not None:
        if sources.images.is_file():
            raise InputError(f"`images` {sources.images} is a file; expected the folder of images.")
        on_disk = images_in(sources.images)
        root, images = sources.images, {**images, **on_disk}
    if not annotated.maps:
        raise InputError(f"{annotated.where}: contains no images.")
    notes, unmatched = list(annotated.notes), {}
    others = [name for name in images if name not in annotated.maps]
    if sources.images is None and not images:
        notes.append("no images: labels can be measured and asked about, but no model can be trained")
        images = dict.fromkeys(annotated.maps)
    elif others and not partial:
        notes.append(f"{len(others)} images that are not in {annotated.where} were left out: {first_names(others)}")
    missing = [name for name in annotated.maps if name not in images]
    if missing:
        unmatched["label maps without an image"] = [
            f"{name} (expected below {sources.images})" if sources.images is not None else name for name in missing
        ]
    masks = {} if sources.masks is None else maps_in(sources.masks, "masks files")
    truth: Mapping[str, MapSource] = {}
    if sources.ground_truth is not None and (sources.ground_truth.is_dir() or read is None):
        truth = maps_in(sources.ground_truth, "ground truth files")
    elif sources.ground_truth is not None and read is not None:
        truth = read(sources.ground_truth, annotated.table).maps
    names = [name for name in annotated.maps if name in images] + (others if partial else [])
    if sources.ground_truth is not None and (lacking := [name for name in names if name not in truth]):
        unmatched["images without ground truth"] = lacking
    if sources.masks is not None and (lacking := [name for name in names if name not in masks]):
        unmatched["images without masks"] = lacking
        names = [name for name in names if name in masks]
    train = [
        Sample(
            image_id=name,
            image=images[name],
            labels=annotated.maps.get(name),
            masks=masks.get(name),
            ground_truth=truth.get(name),
        )
        for name in names
    ]
    validation, validation_root = _validation(sources, {sample.image_id for sample in train})
    return Found(
        train=train,
        validation=validation,
        root=root,
        validation_root=validation_root,
        classes=annotated.table,
        void_values=frozenset(void_values) | {annotated.table.ignore},
        unmatched=unmatched,
        notes=notes,
    )


def _validation(sources: Sources, train: set[str]) -> tuple[list[Sample], Path | None]:
    """Return validation images, which come as folders whatever the format."""
    if (sources.validation_images is None) != (sources.validation_ground_truth is None):
        raise InputError("For validation, set both `validation_images` and `validation_ground_truth`.")
    if sources.validation_images is None or sources.validation_ground_truth is None:
        return [], None
    images = images_in(sources.validation_images)
    maps = maps_in(sources.validation_ground_truth, "ground truth files")
    doubled = sorted(train & set(images))
    if doubled:
        raise InputError(f"{len(doubled)} images have the same name in training and validation, such as {doubled[0]}.")
    found = [Sample(image_id=name, image=path, ground_truth=maps.get(name)) for name, path in images.items()]
    return found, sources.validation_images


def give_values(source: MapSource, read: Callable[[], NDArray[Any]], table: Mapping[int, int], what: str) -> DrawnMap:
    """Return a label map whose stored values become others; one that is not known is refused.

    Args:
        source: What it is read from.
        read: Gives (H, W) stored values.
        table: Stored value -> value.
        what: The file that says what stored values mean.
    """
    known = np.full(65536, -1, dtype=np.int32)
    for stored, value in table.items():
        known[stored] = value

    def draw() -> NDArray[Any]:
        stored = read()
        values = known[stored]
        if (values < 0).any():
            unknown, counts = np.unique(stored[values < 0], return_counts=True)
            worst = int(np.argmax(counts))
            raise InputError(
                f"{source}: value {int(unknown[worst])} on {int(counts[worst]):,} pixels is not in {what}. Add it there."
            )
        return np.asarray(values, dtype=np.uint16 if values.max(initial=0) > 255 else np.uint8)

    return DrawnMap(where=str(source), draw=draw)
