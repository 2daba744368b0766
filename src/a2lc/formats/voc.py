"""PASCAL VOC 2012: JPEGImages, SegmentationClass and lists of stems under ImageSets/Segmentation.

Facts of the format are from the VOC 2012 development kit: 21 classes with 0 for background, 255 for void, and
a palette made by interleaving the bits of the index.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError
from a2lc.formats.base import Found, Sources, images_in, maps_in, root_of
from a2lc.formats.detection import Detected, FolderView
from a2lc.formats.folder import match, own_palette
from a2lc.formats.registry import Format, register
from a2lc.formats.writing import Corrected, require_eight_bits, stored_bytes
from a2lc.images.label_maps import write_ids
from a2lc.io.files import write_bytes, write_text
from a2lc.project.project import Project

__all__ = ["VOC_NAMES", "VocWriter", "read_voc", "voc_classes", "voc_palette"]

VOC_NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""The 21 classes of VOC 2012 in the order of their ids."""


def voc_palette() -> list[int]:
    """VOC's 256 colours as 768 numbers: bits 0, 1, 2 of the index go to red, green, blue from the top down."""
    flat: list[int] = []
    for index in range(256):
        colour = [0, 0, 0]
        rest = index
        for shift in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= (rest >> channel & 1) << shift
            rest >>= 3
        flat += colour
    return flat


def voc_classes() -> ClassTable:
    """VOC's own classes and colours."""
    flat = voc_palette()
    colours = tuple((flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in range(len(VOC_NAMES)))
    return ClassTable(VOC_NAMES, colours, tuple(range(len(VOC_NAMES))), 255)


def read_voc(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read a VOC root: `images` names the folder that holds JPEGImages.

    The training list is ImageSets/Segmentation/train.txt, or all of trainval.txt, or every labelled image;
    val.txt is the validation split where its images have ground truth in SegmentationClass.

    Labels are those of SegmentationClass where no other folder is named. Where that folder is missing, or was named as
    the ground truth, images start without labels.

    Args:
        sources: The root, and other folders of labels, masks and ground truth.
        partial: Images without a label map start without labels.
        classes: Not looked at: label files hold values. Without, they are VOC's own.

    Raises:
        MissingFileError: A folder or listed file is missing.
        InputError: Lists and files contradict each other.
    """
    root = root_of(sources, "voc", "JPEGImages")
    images = images_in(root / "JPEGImages")
    own = root / "SegmentationClass"
    labels = sources.labels
    # Labels that are the ground truth would leave nothing to correct.
    is_truth = sources.ground_truth is not None and own.absolute() == sources.ground_truth.absolute()
    if labels is None and own.is_dir() and not is_truth:
        labels = own
    lists = root / "ImageSets" / "Segmentation"
    listed = _stems(lists / "train.txt") or _stems(lists / "trainval.txt")
    notes = []
    if listed is None and (labels is None or partial):
        listed = sorted(images)
        notes.append(f"no list in {lists}; all {len(listed)} images are used")
    elif listed is None:
        assert labels is not None
        listed = sorted(set(maps_in(labels, "labels files")) & set(images))
        notes.append(f"no list in {lists}; the {len(listed)} images that have labels are used")
    validation_list = _stems(lists / "val.txt") if _stems(lists / "train.txt") else None
    # A list may hold more after the name; a name may hold spaces.
    listed = [stem if stem in images else stem.split()[0] for stem in listed]
    unknown = [stem for stem in listed if stem not in images]
    if unknown:
        raise MissingFileError(
            f"{len(unknown)} images listed in {lists} are not in {root / 'JPEGImages'}, the first is {unknown[0]}."
        )
    chosen = {stem: images[stem] for stem in listed}
    folders = {"labels": labels, "masks": sources.masks, "ground truth": sources.ground_truth}
    unmatched: dict[str, list[str]] = {}
    train = match(chosen, folders, unmatched, optional={"labels"} if partial else set())
    # The folders hold the maps of other splits as well: that is the layout, not a fault.
    unmatched = {what: names for what, names in unmatched.items() if what.startswith("images without")}
    validation = []
    if validation_list and own.is_dir():
        overlap = set(validation_list) & set(listed)
        if overlap:
            raise InputError(f"{len(overlap)} images are in both train.txt and val.txt, such as {sorted(overlap)[0]}.")
        held_out = {stem: images[stem] for stem in validation_list if stem in images}
        validation = match(held_out, {"ground truth": own}, {}) if held_out else []
    return Found(
        train=train,
        validation=validation,
        root=root / "JPEGImages",
        validation_root=root / "JPEGImages" if validation else None,
        classes=voc_classes(),
        unmatched=unmatched,
        notes=notes,
    )


def _stems(path: Path) -> list[str] | None:
    """Image names of a list file, None where there is no such file."""
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8; expected one image name per line.") from None
    return [line.strip() for line in lines if line.strip()]


# ---- writing -------------------------------------------------------------------------------------------------------


class VocWriter:
    """Writes `SegmentationClass/IMAGE_ID.png` and `ImageSets/Segmentation/train.txt`."""

    def __init__(self, project: Project, folder: Path) -> None:
        classes = project.classes
        require_eight_bits(classes, "VOC")
        self.folder = folder
        self.classes = classes
        self.value_map = project.config.sources.value_map
        self.names: list[str] = []

    def add(self, corrected: Corrected) -> None:
        """Write a label map with a palette: the user's own, with the classes it leaves black, or that of the classes."""
        self.names.append(corrected.image_id)
        target = self.folder / "SegmentationClass" / f"{corrected.image_id}.png"
        values, palette = corrected.values, own_palette(corrected)
        data = stored_bytes(corrected, values, ("P",))
        if data is not None:
            write_bytes(target, data)
            return
        if palette is None:
            palette = self.classes.palette()
        else:
            # A class that the user's palette leaves black would be invisible.
            for value, colour in zip(self.classes.file_values, self.classes.colours, strict=True):
                if value and not any(palette[3 * value : 3 * value + 3]):
                    palette[3 * value : 3 * value + 3] = colour
        if values.dtype != np.uint8:
            # Classes fit 8 bits, checked before; values that were only read as others need not.
            for value, becomes in self.value_map.items():
                if value > 255:
                    values = np.where(values == value, becomes, values)
            values = values.astype(np.uint8)
        write_ids(target, values, palette)

    def finish(self) -> None:
        """Write the list."""
        names = "".join(f"{name}\n" for name in self.names)
        write_text(self.folder / "ImageSets" / "Segmentation" / "train.txt", names)


def _detect(folder: FolderView) -> Detected | None:
    if "jpegimages" not in folder.entries:
        return None
    return Detected(why="it contains JPEGImages", images=folder.folder, ground_truth=folder.ground_truth)


register(
    Format(
        name="voc",
        title="PASCAL VOC 2012",
        reads=("the root with `JPEGImages`", "other maps than `SegmentationClass`"),
        reader=read_voc,
        writes="palette PNGs under `SegmentationClass/`, and `ImageSets/Segmentation/train.txt`",
        writer=VocWriter,
        labels="SegmentationClass",
        detect=_detect,
        holds=("JPEGImages", "SegmentationClass"),
        brings_classes=False,
    )
)
