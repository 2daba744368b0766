"""Cityscapes: leftImg8bit and gtFine, each with splits and cities.

Facts of the format are from `labels.py` of the data set's own scripts: ids of labels, ids of training, and colours.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError, first_names
from a2lc.formats.base import Found, Sample, Sources, find_files, images_in, maps_in, root_of
from a2lc.formats.detection import Detected, FolderView
from a2lc.formats.registry import Format, register
from a2lc.formats.writing import Corrected, class_values, require_eight_bits, write_map
from a2lc.images.rgb import write_rgb
from a2lc.project.project import Project

__all__ = ["CITYSCAPES", "IMAGE_END", "CityscapesWriter", "cityscapes_classes", "label_end", "read_cityscapes"]

CITYSCAPES: tuple[tuple[str, int, tuple[int, int, int]], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
"""Name, label id and colour of the 19 classes that are evaluated, in the order of their ids of training."""

IMAGE_END = "_leftImg8bit"
"""What the name of an image ends in."""

_KINDS = ("labelIds", "labelTrainIds")
_TRAIN, _VALIDATION = "train", "val"
_LABELS = range(34)  # label ids; -1, the licence plate, is 255 in 8 bits


def label_end(kind: str) -> str:
    """Return what the name of a label map ends in: `kind` is labelIds or labelTrainIds."""
    return f"_gtFine_{kind}"


def cityscapes_classes(kind: str) -> ClassTable:
    """Return the 19 classes by label ids, where 0, `unlabeled`, is void, or by ids of training, where 255 is."""
    ids = tuple(label for _, label, _ in CITYSCAPES) if kind == "labelIds" else tuple(range(len(CITYSCAPES)))
    names, colours = tuple(name for name, _, _ in CITYSCAPES), tuple(colour for _, _, colour in CITYSCAPES)
    return ClassTable(names, colours, ids, 0 if kind == "labelIds" else 255)


def read_cityscapes(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read a Cityscapes root: `images` names the folder that holds leftImg8bit and gtFine.

    Labels are the files of label ids, or where there are none, those of ids of training. Labels of the other 15 kinds (such
    as `ego vehicle` or `parking`) are void and stay in the files; where the user's classes name one, it is a class.

    Where there is a split `train`, its labels are corrected, and `val` measures models if it has labels. `labels`, and
    `ground_truth`, name other folders that hold gtFine.

    Args:
        sources: The root, and other folders.
        partial: Images without a label map start without labels.
        classes: The user's classes, whose ids are the files' values; without, the 19 that are evaluated.

    Raises:
        MissingFileError: A folder is missing.
        InputError: Files have no partner.
    """
    root = root_of(sources, "cityscapes", "leftImg8bit")
    folder = root / "leftImg8bit"
    split = _TRAIN if (folder / _TRAIN).is_dir() else None
    images_root = folder / split if split else folder
    label_root = _maps_root(sources.labels or root)
    if label_root is None and sources.labels is not None:
        raise MissingFileError(f"There is no folder gtFine in {sources.labels}. `format` cityscapes expects one.")
    is_truth = (
        sources.labels is None
        and sources.ground_truth is not None
        and label_root is not None
        and label_root.absolute() == (_maps_root(sources.ground_truth) or sources.ground_truth).absolute()
    )
    kind, notes = _KINDS[0], []
    labels: dict[str, Path] | None = None
    if label_root is not None and not is_truth:
        kind, labels = _labels(_split_of(label_root, split), label_root)
        notes.append(f"labels are read from the files *{label_end(kind)}.png")
    images = _images(images_root)
    unmatched: dict[str, list[str]] = {}
    masks = None if sources.masks is None else maps_in(_split_of(sources.masks, split), "masks files")
    truth = None
    if sources.ground_truth is not None:
        truth_root = _maps_root(sources.ground_truth) or sources.ground_truth
        truth = _of_kind(_split_of(truth_root, split), kind)
        if not truth:
            raise MissingFileError(
                f"There is no *{label_end(kind)}.png in {truth_root}; ground truth must be of the same kind as the "
                "labels."
            )
    train = []
    for name, path in images.items():
        lacking = []
        for what, maps, end in (("labels", labels, label_end(kind)), ("masks", masks, ""), ("ground truth", truth, "")):
            if maps is not None and name not in maps and not (what == "labels" and partial):
                expected = f" (expected {name}{end}.png)" if end else ""
                unmatched.setdefault(f"images without {what}", []).append(f"{name}{expected}")
                lacking.append(what)
        if not set(lacking) - {"ground truth"}:
            train.append(
                Sample(
                    image_id=name,
                    image=path,
                    labels=(labels or {}).get(name),
                    masks=(masks or {}).get(name),
                    ground_truth=(truth or {}).get(name),
                )
            )
    extra = [name for name in labels or {} if name not in images]
    if extra:
        unmatched["labels files without an image"] = extra
    validation: list[Sample] = []
    held_out = folder / _VALIDATION
    if split is not None and held_out.is_dir() and label_root is not None and (label_root / _VALIDATION).is_dir():
        validation_maps = _of_kind(label_root / _VALIDATION, kind)
        validation = [
            Sample(image_id=name, image=path, ground_truth=validation_maps[name])
            for name, path in _images(held_out).items()
            if name in validation_maps
        ]
        doubled = sorted(set(images) & {sample.image_id for sample in validation})
        if doubled:
            raise InputError(f"{len(doubled)} images are in both train and val, such as {doubled[0]}.")
        if validation:
            notes.append(
                f"{len(validation)} images of val are used to measure models, with their labels as ground truth"
            )
    return Found(
        train=train,
        validation=validation,
        root=images_root,
        validation_root=held_out if validation else None,
        classes=cityscapes_classes(kind),
        void_values=frozenset({*_LABELS, 255} if kind == "labelIds" else {255}),
        unmatched=unmatched,
        notes=notes,
    )


def _maps_root(folder: Path) -> Path | None:
    """Return the folder gtFine of a root, or the folder itself if it is one."""
    if (folder / "gtFine").is_dir():
        return folder / "gtFine"
    return folder if folder.name == "gtFine" and folder.is_dir() else None


def _split_of(folder: Path, split: str | None) -> Path:
    """Return a split's folder; images without splits may have labels with one, as `a2lc export` writes them."""
    inner = folder / (split or _TRAIN)
    return inner if inner.is_dir() else folder


def _images(folder: Path) -> dict[str, Path]:
    """Images by name without what all names end in."""
    found = images_in(folder)
    return {name.removesuffix(IMAGE_END): path for name, path in found.items()}


def _of_kind(folder: Path, kind: str) -> dict[str, Path]:
    end = label_end(kind)
    found = find_files(folder, {".png"}, "label files")
    return {name.removesuffix(end): path for name, path in found.items() if name.endswith(end)}


def _labels(folder: Path, root: Path) -> tuple[str, dict[str, Path]]:
    for kind in _KINDS:
        if found := _of_kind(folder, kind):
            return kind, found
    raise MissingFileError(f"There is no *{label_end(_KINDS[0])}.png or *{label_end(_KINDS[1])}.png below {root}.")


# ---- writing -------------------------------------------------------------------------------------------------------


class CityscapesWriter:
    """Writes `gtFine/SPLIT/CITY/STEM_gtFine_labelIds.png`, or `labelTrainIds` where the project's values are those.

    Only pixels that changed are rewritten: all kinds of void stay. Projects with other values, and class names that are
    Cityscapes', get label ids, with 0 for void. `instanceIds` are never written: nobody corrected them.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        self.classes = classes
        own = {name: label for name, label, _ in CITYSCAPES}
        trained = dict(zip(cityscapes_classes("labelTrainIds").names, range(len(CITYSCAPES)), strict=True))
        values = dict(zip(classes.names, classes.file_values, strict=True))
        came_so = project.config.sources.format == "cityscapes"
        self.kind, self.table = "labelIds", None
        if classes.ignore == 255 and all(trained.get(name) == value for name, value in values.items()):
            self.kind = "labelTrainIds"
        elif not (came_so or (classes.ignore == 0 and all(own.get(name) == value for name, value in values.items()))):
            unknown = [name for name in classes.names if name not in own]
            if unknown:
                raise InputError(
                    f"Cityscapes has no class {first_names(unknown)}. Rename the classes in project.yaml to those "
                    "of Cityscapes, or use another format."
                )
            self.table = [own[name] for name in classes.names]
        if self.table is None:
            require_eight_bits(classes, "Cityscapes")
        self.colours = np.array([*classes.colours, (0, 0, 0)], dtype=np.uint8)
        root = project.config.sources.images
        parts = PurePosixPath(Path(root).as_posix()).parts if root is not None else ()
        split = parts[-1] if len(parts) > 1 and parts[-2] == "leftImg8bit" else "train"
        self.folder = folder / "gtFine" / split

    def add(self, corrected: Corrected) -> None:
        """Write a label map and its picture."""
        values = corrected.values
        if self.table is not None:
            values = class_values(corrected.labels, self.table, 0)
        elif values.dtype != np.uint8:
            # Values above 8 bits are none of the classes': they were read as void, or as another class.
            values = np.where(
                values > 255, class_values(corrected.labels, self.classes.file_values, self.classes.ignore), values
            )
            values = values.astype(np.uint8)
        elif self.kind == "labelIds" and self.classes.ignore == 255:
            # 255 is no label id: void that is new is `unlabeled`.
            values = np.where((values == 255) & (corrected.first != 255), 0, values).astype(np.uint8)
        write_map(self.folder / f"{corrected.image_id}{label_end(self.kind)}.png", corrected, values)
        picture = self.colours[np.minimum(corrected.labels, len(self.colours) - 1)]
        write_rgb(self.folder / f"{corrected.image_id}_gtFine_color.png", picture)

    def finish(self) -> None:
        """Nothing is left to write."""


def _detect(folder: FolderView) -> Detected | None:
    if "leftimg8bit" in folder.entries:
        return Detected(why="it contains leftImg8bit", images=folder.folder)
    if "gtfine" in folder.entries:
        return Detected(why="it contains gtFine", images=folder.images, labels=folder.folder)
    return None


register(
    Format(
        name="cityscapes",
        title="Cityscapes",
        reads=("the root with `leftImg8bit` and `gtFine`", "another root with `gtFine`"),
        reader=read_cityscapes,
        writes="`*_gtFine_labelIds.png` (or `labelTrainIds`) and `*_gtFine_color.png` under `gtFine/`",
        writer=CityscapesWriter,
        labels="gtFine",
        detect=_detect,
        holds=("leftImg8bit", ""),
        beside=True,
    )
)
