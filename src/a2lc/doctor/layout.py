"""Which layout a folder has, by the names in it: a proposal that is said, and that options overrule."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from a2lc.errors import InputError
from a2lc.formats.base import Sources
from a2lc.formats.detection import CLASSES_FILES, AnnotationFile, Clue, Detected, FolderView
from a2lc.formats.registry import BUILT_IN, find_format, load_formats
from a2lc.images.label_maps import colour_codes
from a2lc.images.limits import IMAGE_SUFFIXES
from a2lc.images.rgb import read_rgb

__all__ = ["Layout", "find_layout", "maps_among_images", "other_splits", "unknown_annotations", "with_images"]

_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
# Of formats that do not say what their classes are: others read such files themselves.
_CLASSES_BESIDE = ("_classes.csv", "id2label.json", "labelmap.txt", "class_names.txt", "labels.txt", "label_names.txt")
_NO_ANNOTATIONS = (*CLASSES_FILES, *_CLASSES_BESIDE, "manifest.json", "dataset_infos.json", "handover.json")


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

    Names of a format's own decide, then ZIP and JSON files, then folders that are called images or labels, then those of
    the first split, and at last image files.

    Args:
        folder: It exists.
    """
    view = FolderView(folder)
    found = _by_names(view)
    if found is None or found[1].clue == Clue.NAMES:
        found = _by_file(view) or found
    if found is not None:
        return _layout(view, *found)
    splits = [view.entries[name] for name in _SPLITS if name in view.entries and view.entries[name].is_dir()]
    if splits:
        inner = find_layout(splits[0])
        if inner is not None:
            beside = next((view.entries[n] for n in (*CLASSES_FILES, *_CLASSES_BESIDE) if n in view.entries), None)
            return replace(inner, classes=inner.classes or beside)
    if view.has_images():
        return _layout(view, "folder", Detected(why="it contains image files", images=folder))
    return None


def _by_names(view: FolderView) -> tuple[str, Detected] | None:
    """Find the format with the strongest clue in the names of a folder; of equals, the first."""
    found: tuple[str, Detected] | None = None
    for name, format in load_formats().items():
        here = _asked(name, format.detect, view)
        if here is not None and (found is None or here.clue > found[1].clue):
            found = name, here
    return found


def _by_file(view: FolderView) -> tuple[str, Detected] | None:
    """Find the format of the first ZIP file or, without one, of the first JSON file that is of any."""
    for file in view.annotations():
        for name, format in load_formats().items():
            here = _asked(name, format.detect_file, view, file)
            if here is not None:
                return name, here
    return None


def _asked(name: str, detect: Callable[..., Detected | None], *arguments: Any) -> Detected | None:
    """Ask a format whether a folder is its own; one of another package that fails is passed over with a warning."""
    if name in BUILT_IN:
        return detect(*arguments)
    try:
        return detect(*arguments)
    except Exception as error:
        warnings.warn(f"format {name!r} could not look at the folder: {type(error).__name__}: {error}.", stacklevel=2)
        return None


def _layout(view: FolderView, name: str, found: Detected) -> Layout:
    names = (*CLASSES_FILES, *(() if find_format(name).brings_classes else _CLASSES_BESIDE))
    sources = Sources(
        format=name, images=found.images, labels=found.labels, masks=found.masks, ground_truth=found.ground_truth
    )
    return Layout(
        sources=sources, classes=next((view.entries[n] for n in names if n in view.entries), None), why=found.why
    )


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
    format = find_format(own.format)
    if own.format == "huggingface" and not (images.is_dir() and format.detect(FolderView(images))):
        return replace(layout, why=f"{layout.why}; these contain the images, so `images` cannot be used")
    held, maps_held = format.holds
    labels = own.labels
    if held and not (images / held).is_dir():
        maps = folder / maps_held
        if images.name == held:
            images = images.parent
        elif maps_held and maps.is_dir():
            inner = maps / "training"
            labels = own.labels if own.format == "voc" and own.labels is not None else maps
            labels = inner if inner.is_dir() and not (images / "training").is_dir() else labels
            plain = replace(own, format="folder", images=images, labels=labels)
            return replace(layout, sources=plain, why=f"{layout.why}; its label maps are read as plain files")
    if format.beside and labels is None:
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
    view = FolderView(folder)
    return [
        entry
        for name, entry in view.entries.items()
        if entry.is_file()
        and entry.suffix.lower() in {".json", ".xml", ".zip"}
        and name not in (*_NO_ANNOTATIONS, "mask_targets.json")
        and (
            entry.suffix.lower() != ".json"
            or all(_asked(n, one.detect_file, view, AnnotationFile(entry)) is None for n, one in load_formats().items())
        )
    ]
