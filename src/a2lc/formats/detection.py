"""What a folder shows of its format before anything in it is read: the names in it, and how its JSON and ZIP files begin."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path

from a2lc.images.limits import ID_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["CLASSES_FILES", "AnnotationFile", "Clue", "Detected", "FolderView"]

CLASSES_FILES = ("classes.json", "classes.yaml", "classes.yml", "classes.txt")
"""Names of classes files of ours, in any folder."""

_IMAGES = ("images", "image", "imgs", "img", "img_dir", "rgb", "photos", "pictures", "frames")
_LABELS = ("labels", "label", "annotations", "annotation", "ann_dir", "pseudo_labels", "labelmaps", "segmentation")
_MASKS = ("masks", "mask", "mask_maps")
_TRUTH = ("ground_truth", "groundtruth", "gt", "truth")
_OWN = ("provenance", "crops", "void")  # of an export of ours, beside the labels
_OTHER_JSON = ("manifest.json", "dataset_infos.json", *CLASSES_FILES)
_HEAD = 1 << 16
_WHOLE = 64 << 20  # a JSON file is read whole up to so many bytes


class Clue(IntEnum):
    """Strength of the evidence that a folder is of a format. Of several formats, the one with the strongest is chosen."""

    NAMES = 1
    """Folders with names that any data set may have."""
    EXPORT = 2
    """A folder that an export of ours writes."""
    LAYOUT = 3
    """A file or folder with a name of the format's own."""


@dataclass(frozen=True, kw_only=True)
class Detected:
    """Where the files of a data set are, if the folder is of the format that says so.

    Attributes:
        why: What it was detected by, in words that follow "because".
        images: As in `Sources`; so are the other three.
        clue: How much that says.
    """

    why: str
    images: Path | None
    labels: Path | None = None
    masks: Path | None = None
    ground_truth: Path | None = None
    clue: Clue = Clue.LAYOUT


class AnnotationFile:
    """A file that may hold the annotations of a whole data set or of an image.

    Attributes:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def names(self) -> list[str]:
        """Names in a ZIP file; none where it cannot be read, or is another file."""
        if self.path.suffix.lower() != ".zip":
            return []
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError):
            return []

    @cached_property
    def head(self) -> str:
        """The beginning of a JSON file; empty where it is no text, or is another file."""
        if self.path.suffix.lower() != ".json":
            return ""
        try:
            with self.path.open(encoding="utf-8-sig") as file:
                return file.read(_HEAD)
        except (OSError, UnicodeDecodeError):
            return ""

    @cached_property
    def text(self) -> str:
        """The JSON file; only its beginning where it is very large. A damaged file shows its keys all the same."""
        if self.head and self.path.stat().st_size <= _WHOLE:
            return self.path.read_text(encoding="utf-8-sig", errors="replace")
        return self.head


class FolderView:
    """A folder as the detection of formats sees it.

    Args:
        folder: It exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = {entry.name.lower(): entry for entry in sorted(folder.iterdir()) if entry.name[0] != "."}

    @property
    def images(self) -> Path | None:
        """A folder with a name that folders of images have."""
        return self._first(_IMAGES)

    @property
    def labels(self) -> Path | None:
        """A folder with a name that folders of label maps have."""
        return self._first(_LABELS)

    @property
    def masks(self) -> Path | None:
        """A folder with a name that folders of masks have."""
        return self._first(_MASKS)

    @property
    def ground_truth(self) -> Path | None:
        """A folder with a name that folders of ground truth have."""
        return self._first(_TRUTH)

    @cached_property
    def files(self) -> list[Path]:
        """Files in the folder and in the folders in it, in the order of their names."""
        found = []
        for entry in self.entries.values():
            if entry.is_file():
                found.append(entry)
            elif entry.is_dir():
                found += [path for path in sorted(entry.iterdir()) if path.is_file() and path.name[0] != "."]
        return found

    def has_images(self, *, beside: Path | None = None) -> bool:
        """Whether there are image files in the folder or in those in it, besides what an export adds.

        Args:
            beside: A file of annotations; images in a folder of its name are part of it, as PNGs of a panoptic file are.
        """
        others = {*_OWN, *(() if beside is None else (beside.stem,))}
        return any(
            path.suffix.lower() in IMAGE_SUFFIXES | ID_SUFFIXES and path.parent.name not in others
            for path in self.files
        )

    def images_beside(self, file: Path) -> Path | None:
        """Return the folder of images that a file of annotations is about: one that is called so, or the folder itself."""
        return self.images or (self.folder if self.has_images(beside=file) else None)

    def annotations(self) -> Iterator[AnnotationFile]:
        """Yield ZIP files, then JSON files, in the order of their names; classes files are none."""
        for suffix in (".zip", ".json"):
            for path in self.files:
                if path.suffix.lower() == suffix and path.name not in _OTHER_JSON:
                    yield AnnotationFile(path)

    def _first(self, names: Iterable[str]) -> Path | None:
        return next(
            (self.entries[name] for name in names if name in self.entries and self.entries[name].is_dir()), None
        )
