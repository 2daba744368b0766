"""Which layout a folder has, by the names in it: a proposal that is said, and that options overrule."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from a2lc.data.base import Sources
from a2lc.data.png import ID_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["Layout", "find_layout"]

_IMAGES = ("images", "image", "imgs", "img", "img_dir", "rgb", "photos", "pictures", "frames")
_LABELS = ("labels", "label", "annotations", "annotation", "ann_dir", "pseudo_labels", "labelmaps", "segmentation")
_MASKS = ("masks", "mask", "mask_maps")
_TRUTH = ("ground_truth", "groundtruth", "gt", "truth")
_CLASSES = ("classes.json", "classes.yaml", "classes.yml", "classes.txt")


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
    """The layout of a folder, told by what lies in it; None if nothing in it is known.

    Args:
        folder: It exists.
    """
    entries = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")}
    classes = next((entries[name] for name in _CLASSES if name in entries), None)

    def layout(
        format: str,
        why: str,
        images: Path | None,
        labels: Path | None = None,
        masks: Path | None = None,
        ground_truth: Path | None = None,
    ) -> Layout:
        sources = Sources(format=format, images=images, labels=labels, masks=masks, ground_truth=ground_truth)
        return Layout(sources=sources, classes=classes, why=why)

    truth = _first(entries, _TRUTH)
    if "jpegimages" in entries:
        return layout("voc", "it holds JPEGImages", folder, ground_truth=truth)
    if "labelmap.txt" in entries and "segmentationclass" in entries:
        return layout(
            "cvat-mask", "it holds labelmap.txt and SegmentationClass", _first(entries, _IMAGES), labels=folder
        )
    if "leftimg8bit" in entries:
        return layout("cityscapes", "it holds leftImg8bit", folder)
    if "mask_targets.json" in entries and "data" in entries:
        return layout("fiftyone", "it holds data and mask_targets.json", folder)
    if "annotations.xml" in entries:
        return layout(
            "cvat-xml", "it holds annotations.xml", _first(entries, _IMAGES), labels=entries["annotations.xml"]
        )
    if any(entry.suffix == ".parquet" for entry in _within(folder)):
        return layout("huggingface", "it holds parquet files", folder)
    images = _first(entries, _IMAGES)
    if images is not None and (images / "training").is_dir() and (folder / "annotations" / "training").is_dir():
        return layout("ade20k", "it holds images/training and annotations/training", folder)
    annotations = [entry for entry in _within(folder) if entry.suffix.lower() == ".json" and entry != classes]
    for path in annotations:
        format = _json_format(path)
        if format == "labelme":
            return layout("labelme", f"{path.name} has shapes", images or folder)
        if format is not None:
            return layout(format, f"{path.name} has what {format} has", images or folder, labels=path)
    labels, masks = _first(entries, _LABELS), _first(entries, _MASKS)
    if labels is None and masks is not None:
        # Most tools call label maps masks; only beside labels are they mask maps.
        labels, masks = masks, None
    if images is not None or labels is not None:
        names = [path.name for path in (images, labels, masks, truth) if path is not None]
        return layout("folder", f"it holds {', '.join(names)}", images, labels=labels, masks=masks, ground_truth=truth)
    splits = [entries[name] for name in ("train", "val", "valid", "test") if name in entries and entries[name].is_dir()]
    if splits:
        inner = find_layout(splits[0])
        if inner is not None:
            return inner
    if any(path.suffix.lower() in IMAGE_SUFFIXES | ID_SUFFIXES for path in _within(folder)):
        return layout("folder", "there are image files in it", folder)
    return None


def _first(entries: dict[str, Path], names: Iterable[str]) -> Path | None:
    return next((entries[name] for name in names if name in entries and entries[name].is_dir()), None)


def _within(folder: Path) -> list[Path]:
    """Files in a folder and in the folders in it."""
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            found.append(entry)
        elif entry.is_dir():
            found += [path for path in sorted(entry.iterdir()) if path.is_file()]
    return found


def _json_format(path: Path) -> str | None:
    """Format of a JSON file by its first keys; only its beginning is read."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.read(1 << 16)
    except (OSError, UnicodeDecodeError):
        return None
    if head.lstrip().startswith("["):
        return "label-studio" if '"annotations"' in head or '"completed_by"' in head else None
    if '"shapes"' in head:
        return "labelme"
    if path.stat().st_size <= 64 << 20:
        try:
            keys = set(json.loads(path.read_text(encoding="utf-8-sig")))
        except (ValueError, RecursionError, TypeError):
            return None
        if not {"images", "annotations"} <= keys:
            return None
        head = path.read_text(encoding="utf-8-sig")
    elif '"images"' not in head and '"annotations"' not in head:
        return None
    return "coco-panoptic" if '"segments_info"' in head else "coco"
