"""Plain folders: images, labels, masks and ground truth under the same names in folders beside each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError
from a2lc.formats.base import Found, Sample, Sources, images_in, maps_in
from a2lc.formats.detection import Clue, Detected, FolderView
from a2lc.formats.registry import Format, register
from a2lc.formats.writing import Corrected
from a2lc.images.label_maps import write_ids
from a2lc.images.opening import open_image
from a2lc.images.remote import list_address, read_list
from a2lc.images.sources import PackedImage
from a2lc.io.files import write_bytes
from a2lc.project.project import Project

__all__ = ["FolderWriter", "match", "own_palette", "read_folder"]

_TRAIN = ("train", "training")
_VALIDATION = ("val", "valid", "validation")


def read_folder(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Match images with their labels, masks and ground truth by name.

    Where the image folder holds nothing but a training and a validation folder, those are the two splits, and the
    other folders are looked into for folders of the same name.

    Args:
        sources: The folders; without one of labels, all images start without.
        partial: Images without a label map start without labels.
        classes: Not looked at: label files hold values.

    Raises:
        MissingFileError: A folder is missing or empty.
        InputError: Two files share a name, or half a validation set was named.
    """
    if sources.address is not None:
        return _elsewhere(sources, list_address(sources.address), partial)
    if sources.images is None:
        return _labels_alone(sources)
    if sources.images.is_file():
        return _elsewhere(sources, read_list(sources.images), partial)
    split = _splits(sources.images)
    if split is None:
        train_images, train_name = sources.images, None
        validation_images, validation_truth = sources.validation_images, sources.validation_ground_truth
    else:
        train_name, validation_name = split
        train_images = sources.images / train_name
        inner = _below(sources.ground_truth, validation_name)
        inside = validation_name is not None and inner is not None and inner != sources.ground_truth
        validation_images = sources.validation_images or (
            sources.images / validation_name if inside and validation_name else None
        )
        validation_truth = sources.validation_ground_truth or (inner if inside else None)
    if (validation_images is None) != (validation_truth is None):
        raise InputError(
            "For validation, set both `validation_images` and `validation_ground_truth`; only "
            f"{'the images' if validation_truth is None else 'the ground truth'} were given."
        )
    images = images_in(train_images)
    unmatched: dict[str, list[str]] = {}
    train = match(
        images,
        {
            "labels": _below(sources.labels, train_name),
            "masks": _below(sources.masks, train_name),
            "ground truth": _below(sources.ground_truth, train_name),
        },
        unmatched,
        optional={"labels"} if partial else set(),
    )
    validation: list[Sample] = []
    if validation_images is not None:
        validation = match(images_in(validation_images), {"ground truth": validation_truth}, unmatched)
        doubled = sorted({sample.image_id for sample in train} & {sample.image_id for sample in validation})
        if doubled:
            raise InputError(
                f"{len(doubled)} images have the same name in training and validation, such as {doubled[0]}. A "
                "model must not be measured on images that it was trained on, so remove them from one of the two."
            )
    notes = []
    if split is not None:
        both = " and ".join(folder.name for folder in (train_images, validation_images) if folder is not None)
        notes.append(f"splits found in {sources.images}: {both}")
    return Found(
        train=train,
        validation=validation,
        root=train_images,
        validation_root=validation_images,
        unmatched=unmatched,
        notes=notes,
    )


def match(
    images: Mapping[str, Path | PackedImage | None],
    folders: dict[str, Path | None],
    unmatched: dict[str, list[str]],
    optional: Collection[str] = (),
) -> list[Sample]:
    """Join images with maps of the same name.

    Args:
        images: Image files by name.
        folders: Folders of `labels`, `masks` and `ground truth`; None where there are none.
        unmatched: Gets, by what is wrong, a line for each file without partner.
        optional: Folders that need not have a map for each image.

    Returns:
        A sample for each image that has all its partners, but for optional ones and ground truth: whether that may be
        missing is for whoever reads the list of what is unmatched.
    """
    maps: dict[str, dict[str, Path]] = {}
    for what, folder in folders.items():
        if folder is None:
            continue
        maps[what] = maps_in(folder, f"{what} files")
        missing = [f"{name} (expected {folder / name}.png)" for name in images if name not in maps[what]]
        extra = [f"{name} (at {path})" for name, path in maps[what].items() if name not in images]
        if missing and what not in optional:
            unmatched.setdefault(f"images without {what}", []).extend(missing)
        if extra:
            unmatched.setdefault(f"{what} files without an image", []).extend(extra)
    samples = []
    for name, path in images.items():
        if all(name in found for what, found in maps.items() if what not in optional and what != "ground truth"):
            samples.append(
                Sample(
                    image_id=name,
                    image=path,
                    labels=maps.get("labels", {}).get(name),
                    masks=maps.get("masks", {}).get(name),
                    ground_truth=maps.get("ground truth", {}).get(name),
                )
            )
    return samples


def _labels_alone(sources: Sources) -> Found:
    """Labels, masks and ground truth without images: to measure, to answer for from probabilities, to convert."""
    if sources.labels is None:
        raise InputError("Neither `images` nor `labels` is given, so there is nothing to create a project from.")
    if sources.validation_images is not None or sources.validation_ground_truth is not None:
        raise InputError("Validation images are used to measure models, but without `images` no model can be trained.")
    unmatched: dict[str, list[str]] = {}
    train = match(
        dict.fromkeys(maps_in(sources.labels, "labels files")),
        {"labels": sources.labels, "masks": sources.masks, "ground truth": sources.ground_truth},
        unmatched,
    )
    notes = ["no images: labels can be measured and asked about, but no model can be trained"]
    return Found(train=train, validation=[], root=None, unmatched=unmatched, notes=notes)


def _elsewhere(sources: Sources, images: dict[str, PackedImage], partial: bool) -> Found:
    """Images at addresses; maps lie in folders here."""
    unmatched: dict[str, list[str]] = {}
    if sources.validation_images is not None:
        raise InputError("Images at URLs cannot have validation images. Use folders, or omit `validation_images`.")
    train = match(
        images,
        {"labels": sources.labels, "masks": sources.masks, "ground truth": sources.ground_truth},
        unmatched,
        optional={"labels"} if partial else set(),
    )
    return Found(train=train, validation=[], root=None, unmatched=unmatched)


def _splits(folder: Path) -> tuple[str, str | None] | None:
    """Names of the training and validation folders, if the image folder holds just such folders."""
    if not folder.is_dir():
        raise MissingFileError(f"No folder of images at {folder}.")
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    folders = {entry.name.lower(): entry.name for entry in entries if entry.is_dir()}
    train = next((folders[name] for name in _TRAIN if name in folders), None)
    if train is None or len(folders) != len(entries) or set(folders) - {*_TRAIN, *_VALIDATION, "test"}:
        return None
    return train, next((folders[name] for name in _VALIDATION if name in folders), None)


def _below(folder: Path | None, name: str | None) -> Path | None:
    """Return a split's folder below `folder` if there is one, else `folder` itself."""
    if folder is None or name is None or not (folder / name).is_dir():
        return folder
    return folder / name


# ---- writing -------------------------------------------------------------------------------------------------------


def own_palette(corrected: Corrected) -> list[int] | None:
    """Return the palette of the user's label file as 768 numbers; None if it has none."""
    if corrected.source is None:
        return None
    with open_image(corrected.source, max_pixels=corrected.values.size) as opened:
        colours = opened.getpalette("RGB") if opened.mode == "P" else None
    return None if colours is None else [*colours, *([0] * (768 - len(colours)))]


class FolderWriter:
    """Writes `labels/IMAGE_ID.png`."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder = folder

    def add(self, corrected: Corrected) -> None:
        """Write a label map: the user's bytes where nothing changed, else with the user's palette."""
        target = self.folder / "labels" / f"{corrected.image_id}.png"
        if corrected.source is not None and not corrected.changed:
            write_bytes(target, corrected.source.read_bytes())
        else:
            write_ids(target, corrected.values, own_palette(corrected))

    def finish(self) -> None:
        """Nothing is left to write."""


def _detect(folder: FolderView) -> Detected | None:
    images, labels, masks, truth = folder.images, folder.labels, folder.masks, folder.ground_truth
    if "segmentationclass" in folder.entries:
        # As `a2lc export` writes VOC: label maps alone, and images are where they were.
        maps = folder.entries["segmentationclass"]
        why = "it contains SegmentationClass"
        return Detected(clue=Clue.EXPORT, why=why, images=images, labels=maps, ground_truth=truth)
    if labels is None and masks is not None:
        # Most tools call label maps masks; only beside labels are they mask maps.
        labels, masks = masks, None
    if images is None and labels is None:
        return None
    why = f"it contains {', '.join(path.name for path in (images, labels, masks, truth) if path is not None)}"
    return Detected(clue=Clue.NAMES, why=why, images=images, labels=labels, masks=masks, ground_truth=truth)


register(
    Format(
        name="folder",
        title="Plain folders",
        reads=("a folder, or a list of URLs", "a folder of maps: PNG, BMP, TIFF, `.npy`"),
        reader=read_folder,
        writes="label maps of the original file type, under `labels/`",
        writer=FolderWriter,
        labels="labels",
        detect=_detect,
        brings_classes=False,
    )
)
