"""ADE20K as in SceneParse150: images and annotations in training and validation, where 0 is void.

Facts of the format are from the data set's readme: grey PNGs, 1 to 150 for the classes of `objectInfo150.txt`, 0 for
everything else.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from a2lc.classes.table import ClassTable, class_colour
from a2lc.errors import ConfigError, ImageFileError, InputError, MissingFileError
from a2lc.formats.base import Found, Sources, images_in, root_of
from a2lc.formats.detection import Detected, FolderView
from a2lc.formats.folder import match
from a2lc.formats.registry import Format, register
from a2lc.formats.writing import Corrected, class_values, write_map
from a2lc.images.opening import open_image
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["ADE_COLUMNS", "OBJECT_INFO", "AdeWriter", "full_ade_ids", "read_ade20k"]

OBJECT_INFO = "objectInfo150.txt"
"""The file of class names: columns between tabs."""

ADE_COLUMNS = ("Idx", "Ratio", "Train", "Val", "Stuff", "Name")
"""Of that file; the name is the last one, or comes under this head."""

_CLASSES = 150
_MOST_NAMES = 10_000
_TRAIN, _VALIDATION = "training", "validation"


def full_ade_ids(pixels: np.ndarray) -> np.ndarray:
    """(H, W) class numbers of the full data set's (H, W, 3) RGB segmentations: R / 10 * 256 + G (pure).

    Such files are refused by the reader, which says this: numbers of 3,000 names need a list of classes that is not part of
    the files. The function is for a script that makes label maps of them.

    Example:
        >>> full_ade_ids(np.array([[[120, 7, 9]]], dtype=np.uint8))
        array([[3079]], dtype=uint32)
    """
    wide = pixels.astype(np.uint32)  # 8-bit arithmetic overflows silently
    return wide[..., 0] // 10 * 256 + wide[..., 1]


def read_ade20k(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read an ADE20K root: `images` names the folder that holds images and annotations.

    `training` is corrected, and `validation` measures models if it has annotations. 0 is void and no class. `labels`, and
    `ground_truth`, name other roots that hold annotations, or such folders.

    Args:
        sources: The root, and other folders.
        partial: Images without a label map start without labels.
        classes: The user's classes, whose ids are the files' values; without, those of `objectInfo150.txt`, or where that is
            missing, `class 1` to `class 150`.

    Raises:
        MissingFileError: A folder is missing.
        ConfigError: A class has the id 0.
        ImageFileError: Label maps are those of the full data set.
    """
    root = root_of(sources, "ade20k", "images")
    if classes is not None and 0 in classes.file_values:
        name = classes.names[classes.file_values.index(0)]
        raise ConfigError(
            f"Class {name!r} has id 0, which means void in ADE20K files. Give the classes ids from 1 in a JSON or "
            "YAML file."
        )
    split = _TRAIN if (root / "images" / _TRAIN).is_dir() else None
    images_root = root / "images" / (split or "")
    own = _annotations(sources.labels or root)
    if own is None and sources.labels is not None:
        raise MissingFileError(f"There is no folder annotations in {sources.labels}. `format` ade20k expects one.")
    truth = None
    if sources.ground_truth is not None:
        truth = _annotations(sources.ground_truth) or sources.ground_truth
        if sources.labels is None and own is not None and own.absolute() == truth.absolute():
            own = None  # labels that are the ground truth would leave nothing to correct
    unmatched: dict[str, list[str]] = {}
    labels = None if own is None else _split_of(own, split)
    train = match(
        images_in(images_root),
        {
            "labels": labels,
            "masks": None if sources.masks is None else _split_of(sources.masks, split),
            "ground truth": None if truth is None else _split_of(truth, split),
        },
        unmatched,
        optional={"labels"} if partial else set(),
    )
    for sample in train[:1]:
        if isinstance(sample.labels, Path):
            _refuse_full(sample.labels, sources.max_pixels)
    notes = []
    validation = []
    held_out = root / "images" / _VALIDATION
    if split is not None and own is not None and held_out.is_dir() and (own / _VALIDATION).is_dir():
        validation = match(images_in(held_out), {"ground truth": own / _VALIDATION}, unmatched)
        doubled = {sample.image_id for sample in train} & {sample.image_id for sample in validation}
        if doubled:
            raise InputError(f"{len(doubled)} images are in both training and validation, such as {min(doubled)}.")
        notes.append(
            f"{len(validation)} validation images are used to measure models, with their labels as ground truth"
        )
    beside = (
        [root, root.parent] if sources.labels is None else [sources.labels, sources.labels.parent, root, root.parent]
    )
    info = next((path for folder in beside if (path := folder / OBJECT_INFO).is_file()), None)
    if classes is None and info is None:
        notes.append(f"no {OBJECT_INFO} in {root}; classes are named class 1 to class {_CLASSES}")
    return Found(
        train=train,
        validation=validation,
        root=images_root,
        validation_root=held_out if validation else None,
        classes=None if classes is not None else _classes(info),
        void_values=frozenset({0}),
        unmatched=unmatched,
        notes=notes,
    )


def _annotations(folder: Path) -> Path | None:
    if (folder / "annotations").is_dir():
        return folder / "annotations"
    return folder if folder.name == "annotations" and folder.is_dir() else None


def _split_of(folder: Path, split: str | None) -> Path:
    """Return a split's folder; images without splits may have labels with one, as `a2lc export` writes them."""
    inner = folder / (split or _TRAIN)
    return inner if inner.is_dir() else folder


def _refuse_full(path: Path, max_pixels: int) -> None:
    with open_image(path, max_pixels) as image:
        mode = image.mode
    if mode in {"RGB", "RGBA"}:
        raise ImageFileError(
            f"{path}: a colour map, as in the full ADE20K, where a class is red / 10 * 256 + green, one of over "
            "3,000. Make grey maps of the classes you need (a2lc.formats.ade20k.full_ade_ids gives the numbers), "
            "or use SceneParse150."
        )


def _classes(info: Path | None) -> ClassTable:
    """Names of objectInfo150.txt, of which each may hold synonyms after the first one."""
    if info is None:
        names = [f"class {number}" for number in range(1, _CLASSES + 1)]
        colours = tuple(class_colour(place) for place in range(_CLASSES))
        return ClassTable(tuple(names), colours, tuple(range(1, _CLASSES + 1)), 0)
    try:
        lines = info.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{info}: not a text file.") from None
    if len(lines) > _MOST_NAMES:
        raise ConfigError(f"{info} has {len(lines):,} lines; a list of classes may have at most {_MOST_NAMES:,}.")
    rows, where = [], -1
    for line in lines:
        cells = [cell.strip() for cell in line.split("\t")]
        if cells[0].lower() == "idx":
            where = next((place for place, cell in enumerate(cells) if cell.lower() == "name"), -1)
        elif line.strip():
            words = (
                [word.strip() for word in cells[where].split(",")] if abs(where) <= len(cells) - (where >= 0) else []
            )
            if not (cells[0].isdecimal() and len(cells[0]) <= 5) or not words or not words[0]:
                raise ConfigError(
                    f"{info}: {line.strip()[:60]!r}: expected a number, tab-separated columns, and a name."
                )
            rows.append((int(cells[0]), words))
    # Two classes of ADE20K share a first name ("screen"): the second one is told by its number.
    data, seen = [], set()
    for number, words in rows:
        name = words[0] if words[0] not in seen else f"{words[0]} {number}"
        seen.add(name)
        data.append({"id": number, "name": name, "synonyms": [word for word in words[1:] if word]})
    return ClassTable.from_json({"classes": data, "ignore": 0}, str(info))


# ---- writing -------------------------------------------------------------------------------------------------------


class AdeWriter:
    """Writes `annotations/training/IMAGE_ID.png` and `objectInfo150.txt`.

    Values of classes are kept where no class has 0; classes are numbered from 1 otherwise, also in `classes.json`.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        self.folder = folder
        self.classes = classes
        self.values = list(classes.file_values)
        if 0 in self.values:
            self.values = list(range(1, classes.num_classes + 1))
        if max(self.values) > 255:
            raise InputError(
                f"ADE20K label maps hold values up to 255, and void is 0; this project needs {max(self.values)}. Set `format` to "
                "folder."
            )
        self.kept = classes.ignore == 0
        self.ratio = np.zeros(classes.num_classes + 1, dtype=np.int64)
        self.images = np.zeros(classes.num_classes + 1, dtype=np.int64)

    def add(self, corrected: Corrected) -> None:
        """Write a label map: pixels nobody changed keep their values where 0 is void already."""
        values = class_values(corrected.labels, self.values, 0)
        if self.kept and corrected.values.dtype == np.uint8:
            values = corrected.values
        write_map(self.folder / "annotations" / "training" / f"{corrected.image_id}.png", corrected, values)
        places = np.minimum(corrected.labels, self.classes.num_classes).ravel()
        counts = np.bincount(places, minlength=self.classes.num_classes + 1)
        self.ratio += counts
        self.images += counts > 0

    def finish(self) -> ClassTable:
        """Write the names, each with its share of pixels and the images it is on; the classes by the ids of the files."""
        total = max(int(self.ratio.sum()), 1)
        lines = ["\t".join(ADE_COLUMNS)]
        synonyms = self.classes.synonyms or ((),) * self.classes.num_classes
        for index, (value, name) in enumerate(zip(self.values, self.classes.names, strict=True)):
            words = ", ".join([name, *synonyms[index]])
            lines.append(f"{value}\t{self.ratio[index] / total:.4f}\t{self.images[index]}\t0\t\t{words}")
        write_text(self.folder / OBJECT_INFO, "\n".join(lines) + "\n")
        return replace(self.classes, file_values=tuple(self.values), ignore=0)


def _detect(folder: FolderView) -> Detected | None:
    if not (folder.folder / "annotations" / "training").is_dir():
        return None
    own = (folder.folder / "images").is_dir()
    return Detected(
        why="it contains annotations/training",
        images=folder.folder if own else folder.images,
        labels=None if own else folder.folder,
    )


register(
    Format(
        name="ade20k",
        title="ADE20K, as in SceneParse150",
        reads=("the root with `images` and `annotations`", "another root with `annotations`"),
        reader=read_ade20k,
        writes="grey PNGs with 0 for void under `annotations/training/`, and `objectInfo150.txt`",
        writer=AdeWriter,
        labels="annotations/training",
        detect=_detect,
        holds=("images", "annotations"),
        beside=True,
    )
)
