"""Which layout a folder has, by the names in it: a proposal that is said, and that options overrule."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from a2lc.errors import InputError
from a2lc.formats.base import Sources
from a2lc.images.label_maps import colour_codes
from a2lc.images.opening import ID_SUFFIXES, IMAGE_SUFFIXES
from a2lc.images.rgb import read_rgb

__all__ = ["Layout", "find_layout", "maps_among_images", "other_splits", "unknown_annotations", "with_images"]

_IMAGES = ("images", "image", "imgs", "img", "img_dir", "rgb", "photos", "pictures", "frames")
_LABELS = ("labels", "label", "annotations", "annotation", "ann_dir", "pseudo_labels", "labelmaps", "segmentation")
_MASKS = ("masks", "mask", "mask_maps")
_TRUTH = ("ground_truth", "groundtruth", "gt", "truth")
_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
_OWN = ("provenance", "crops", "void")  # of an export of ours, beside the labels
_OTHER_JSON = ("manifest.json", "dataset_infos.json")
_WHOLE = 64 << 20  # a JSON file is read whole up to so many bytes, to tell its format
_CLASSES = ("classes.json", "classes.yaml", "classes.yml", "classes.txt")
# Of plain folders alone: formats that bring classes along read such files themselves.
_CLASSES_BESIDE = ("_classes.csv", "id2label.json", "labelmap.txt", "class_names.txt", "labels.txt", "label_names.txt")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a folder seems to be.

    Attributes:
        sources: Where its files are, by its format.
        classes: Its classes file, if it has one.
        why: What it was told by.
    """

    sources: Sources
    classes: Path | None
    why: str


def find_layout(folder: Path) -> Layout | None:
    """Detect the layout of a folder from what lies in it; None if nothing in it is known.

    Args:
        folder: It exists.
    """
    entries = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")}
    classes = next((entries[name] for name in (*_CLASSES, *_CLASSES_BESIDE) if name in entries), None)

    def layout(
        format: str,
        why: str,
        images: Path | None,
        labels: Path | None = None,
        masks: Path | None = None,
        ground_truth: Path | None = None,
    ) -> Layout:
        sources = Sources(format=format, images=images, labels=labels, masks=masks, ground_truth=ground_truth)
        names = (*_CLASSES, *(_CLASSES_BESIDE if format in {"folder", "voc"} else ()))
        return Layout(sources=sources, classes=next((entries[n] for n in names if n in entries), None), why=why)

    truth = _first(entries, _TRUTH)
    images = _first(entries, _IMAGES)
    if "jpegimages" in entries:
        return layout("voc", "it holds JPEGImages", folder, ground_truth=truth)
    if "labelmap.txt" in entries and "segmentationclass" in entries:
        return layout("cvat-mask", "it holds labelmap.txt and SegmentationClass", images, labels=folder)
    if "segmentationclass" in entries:
        # As `a2lc export` writes VOC: label maps alone, and images are where they were.
        return layout(
            "folder", "it holds SegmentationClass", images, labels=entries["segmentationclass"], ground_truth=truth
        )
    if "leftimg8bit" in entries:
        return layout("cityscapes", "it holds leftImg8bit", folder)
    if "gtfine" in entries:
        return layout("cityscapes", "it holds gtFine", images, labels=folder)
    if "mask_targets.json" in entries:
        own = "data" in entries
        return layout(
            "fiftyone", "it holds mask_targets.json", folder if own else images, labels=None if own else folder
        )
    if "annotations.xml" in entries:
        return layout("cvat-xml", "it holds annotations.xml", images, labels=entries["annotations.xml"])
    if any(entry.suffix == ".parquet" for entry in _within(folder)):
        return layout("huggingface", "it holds parquet files", folder)
    if (folder / "annotations" / "training").is_dir():
        own = (folder / "images").is_dir()
        why = "it holds annotations/training"
        return layout("ade20k", why, folder if own else images, labels=None if own else folder)
    for path in _within(folder):
        if path.suffix.lower() == ".zip":
            return layout(_zip_format(path), f"it holds {path.name}", images, labels=path)
    for path in _within(folder):
        if path.suffix.lower() != ".json" or path == classes or path.name in _OTHER_JSON:
            continue
        format = _json_format(path)
        # PNGs beside a panoptic file are its segments.
        beside = images or (folder if _has_images(folder, (*_OWN, path.stem)) else None)
        if format == "labelme":
            return layout("labelme", f"{path.name} has shapes", beside)
        if format is not None:
            return layout(format, f"{path.name} has what {format} has", beside, labels=path)
    labels, masks = _first(entries, _LABELS), _first(entries, _MASKS)
    if labels is None and masks is not None:
        # Most tools call label maps masks; only beside labels are they mask maps.
        labels, masks = masks, None
    if images is not None or labels is not None:
        names = [path.name for path in (images, labels, masks, truth) if path is not None]
        return layout("folder", f"it holds {', '.join(names)}", images, labels=labels, masks=masks, ground_truth=truth)
    splits = [entries[name] for name in _SPLITS if name in entries and entries[name].is_dir()]
    if splits:
        inner = find_layout(splits[0])
        if inner is not None:
            return replace(inner, classes=inner.classes or classes)
    if _has_images(folder):
        return layout("folder", "there are image files in it", folder)
    return None


def with_images(layout: Layout, folder: Path, images: Path) -> Layout:
    """Return the layout of a folder whose images lie in another one.

    Args:
        layout: As `find_layout` has it.
        folder: Where it was found.
        images: Where the images are.

    Returns:
        The layout with what its format needs to find both; plain folders where images are not laid out as it has them.
    """
    own = layout.sources
    if own.format == "huggingface" and not any(path.suffix == ".parquet" for path in _within(images)):
        return replace(layout, why=f"{layout.why}; images lie in those, and `images` has no place")
    held = {"voc": "JPEGImages", "cityscapes": "leftImg8bit", "ade20k": "images"}.get(own.format)
    labels = own.labels
    if held is not None and not (images / held).is_dir():
        maps = {"voc": folder / "SegmentationClass", "ade20k": folder / "annotations"}.get(own.format)
        if images.name == held:
            images = images.parent
        elif maps is not None and maps.is_dir():
            inner = maps / "training"
            labels = own.labels if own.format == "voc" and own.labels is not None else maps
            labels = inner if inner.is_dir() and not (images / "training").is_dir() else labels
            plain = replace(own, format="folder", images=images, labels=labels)
            return replace(layout, sources=plain, why=f"{layout.why}; its label maps are read as a plain folder")
    if own.format in {"cityscapes", "ade20k", "fiftyone", "labelme"} and labels is None:
        labels = folder
    return replace(layout, sources=replace(own, images=images, labels=labels))


_ENDS = re.compile(
    r"(?i)[._ -](masks?|labels?|seg|segmentation|annotations?|gt|truth|labelids|labeltrainids|instanceids|color)$"
)
_FEW = 64  # colours of a label map at most, to be told from a picture
_LOOKS = 8


def maps_among_images(folder: Path, max_pixels: int) -> list[Path]:
    """Files that look like the label maps of the images they lie beside: `a.png` beside `a.jpg`, or `a_mask.png`.

    Args:
        folder: Of images, and of folders of them.
        max_pixels: Larger files are not looked at.

    Returns:
        All that have the name of an image, if most of the first few of them have few values; else none.
    """
    by_name: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES | {".gif"} and not path.name.startswith(".") and path.is_file():
            by_name[path.with_suffix("")].append(path)
    found = []
    for name, paths in by_name.items():
        photos = [path for path in paths if path.suffix.lower() in {".jpg", ".jpeg"}]
        if len(paths) > 1:
            found += [path for path in paths if path not in photos] if photos else []
        elif (end := _ENDS.search(name.name)) is not None and name.with_name(name.name[: end.start()]) in by_name:
            found += paths
    looks = found[:_LOOKS]
    return found if looks and 2 * sum(_has_few_values(path, max_pixels) for path in looks) > len(looks) else []


def _has_few_values(path: Path, max_pixels: int) -> bool:
    try:
        return len(np.unique(colour_codes(read_rgb(path, max_pixels=max_pixels)))) <= _FEW
    except (InputError, OSError):
        return False


def other_splits(sources: Sources) -> dict[str, Sources]:
    """Find splits beside the imported one, by name: `images/val` beside `images/train`, or `val/images` beside `train/images`.

    Each has the images, and the labels where they lie in the same way.
    """
    images = sources.images
    if sources.format != "folder" or images is None or not images.is_dir():
        return {}
    found: dict[str, Sources] = {}
    own = next((name for name in _SPLITS[:2] if (images / name).is_dir()), None)
    for name in _SPLITS:
        if own is not None and name != own and (images / name).is_dir():
            labels = None if sources.labels is None else sources.labels / name
            found[name] = Sources(
                images=images / name, labels=labels if labels is not None and labels.is_dir() else None
            )
        beside = images.parent.parent / name / images.name
        if images.parent.name in _SPLITS and name != images.parent.name and beside.is_dir():
            labels = None if sources.labels is None else beside.parent / sources.labels.name
            found[name] = Sources(images=beside, labels=labels if labels is not None and labels.is_dir() else None)
    return found


def unknown_annotations(folder: Path) -> list[Path]:
    """JSON, XML and ZIP files directly in a folder that are of no format that is read: empty, damaged, or of another tool."""
    return [
        entry
        for entry in sorted(folder.iterdir())
        if entry.is_file()
        and entry.suffix.lower() in {".json", ".xml", ".zip"}
        and entry.name.lower() not in (*_CLASSES, *_CLASSES_BESIDE, *_OTHER_JSON, "handover.json", "mask_targets.json")
        and (entry.suffix.lower() != ".json" or _json_format(entry) is None)
    ]


def _first(entries: dict[str, Path], names: Iterable[str]) -> Path | None:
    return next((entries[name] for name in names if name in entries and entries[name].is_dir()), None)


def _within(folder: Path) -> list[Path]:
    """Files in a folder and in the folders in it."""
    found = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            found.append(entry)
        elif entry.is_dir():
            found += [path for path in sorted(entry.iterdir()) if path.is_file()]
    return found


def _has_images(folder: Path, but: Iterable[str] = _OWN) -> bool:
    """Whether there are image files in a folder or in those in it, besides what an export of ours adds."""
    names = frozenset(but)
    return any(
        path.suffix.lower() in IMAGE_SUFFIXES | ID_SUFFIXES and path.parent.name not in names
        for path in _within(folder)
    )


def _zip_format(path: Path) -> str:
    """CVAT's two formats come as archives: one has XML, the other one colours."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return "cvat-mask"  # whose reader says what is wrong with it
    return "cvat-xml" if any(name.endswith("annotations.xml") for name in names) else "cvat-mask"


def _json_format(path: Path) -> str | None:
    """Format of a JSON file by its first keys; only its beginning is read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.read(1 << 16)
    except (OSError, UnicodeDecodeError):
        return None
    if head.lstrip().startswith("["):
        known = ('"annotations"', '"completed_by"', '"predictions"')
        return "label-studio" if any(name in head for name in known) else None
    if '"shapes"' in head:
        return "labelme"
    text = head
    if path.stat().st_size <= _WHOLE:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    if '"images"' not in text or '"annotations"' not in text:
        return None
    # A damaged file is told by its names all the same: the reader of its format says where it is damaged.
    return "coco-panoptic" if '"segments_info"' in text else "coco"
