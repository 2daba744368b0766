"""What a data set's layout offers: which files belong to which image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError, first_names
from a2lc.images.limits import ID_SUFFIXES, IMAGE_SUFFIXES, MAX_PIXELS
from a2lc.images.sources import MapSource, PackedImage

__all__ = ["Found", "Reader", "Sample", "Sources", "find_files", "images_in", "maps_in", "root_of"]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the user's files are.

    Attributes:
        format: Name of the layout.
        images: Folder of images, or the root of a layout that knows its own folders; None for labels without images.
        labels: Folder of doubtful labels, or the file of a format that has all in one; None to start without any.
        masks: Folder of mask maps, or None for connected components of the labels, if there are any.
        ground_truth: Folder of ground truth of the same images, or None.
        validation_images: Folder of images that only measure models, or None.
        validation_ground_truth: Their ground truth.
        address: Folder or pattern of images elsewhere, such as `s3://bucket/images/*.jpg`, in place of `images`.
        max_pixels: Larger images are refused, and larger label maps are not drawn, whatever size a file names.
    """

    format: str = "folder"
    images: Path | None = None
    labels: Path | None = None
    masks: Path | None = None
    ground_truth: Path | None = None
    validation_images: Path | None = None
    validation_ground_truth: Path | None = None
    address: str | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The files of one image.

    Attributes:
        image_id: Its name: that of every file the project writes about it.
        image: The image file; None for labels without an image.
        labels: Its doubtful labels; without, no pixel carries a class yet.
        masks: Its mask map; without, masks are the connected components of the labels.
        ground_truth: Its true labels.
        prepared: The image file lies in the project's own `images/`.
    """

    image_id: str
    image: Path | PackedImage | None = None
    labels: MapSource | None = None
    masks: MapSource | None = None
    ground_truth: MapSource | None = None
    prepared: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a layout found.

    Attributes:
        train: Samples whose labels are to be corrected.
        validation: Samples that only measure models.
        root: Folder the images' recorded paths are below; None if no image has a path of the user's.
        validation_root: The same for validation images.
        classes: The classes that the format brings along: they hold where the user names none.
        void_values: Values of its label files that mean no class beside the ignore value, unless a class has them; the files
            keep them.
        unmatched: Images that have no partner, by what is missing, each with where it was expected.
        notes: What was read in a way the user should know.
    """

    train: list[Sample]
    validation: list[Sample]
    root: Path | None
    validation_root: Path | None = None
    classes: ClassTable | None = None
    void_values: frozenset[int] = frozenset()
    unmatched: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def value_map(self, classes: ClassTable) -> dict[int, int]:
        """Values of the label files that are read as the ignore value, for the classes that hold.

        The ignore value is among them where the format itself says that it is void: then nobody need ask whether it is.
        """
        return dict.fromkeys(sorted(self.void_values - set(classes.file_values)), classes.ignore)


class Reader(Protocol):
    """Finds the files of a layout."""

    def __call__(self, sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
        """Match images with their files.

        Args:
            sources: Where they are.
            partial: Images without labels are found as well.
            classes: The user's classes, by whose names a format that has its own is read; None for those of the format.
        """
        ...


def find_files(folder: Path, suffixes: Iterable[str], what: str) -> dict[str, Path]:
    """Find the files below a folder, by their path without suffix, sorted.

    Raises:
        MissingFileError: There is no such folder, or nothing in it.
        InputError: Two files have one name but for the suffix.
    """
    if not folder.is_dir():
        raise MissingFileError(f"No folder of {what} at {folder}.")
    suffixes = frozenset(suffixes)
    found: dict[str, Path] = {}
    twice: list[str] = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or path.suffix.lower() not in suffixes:
            continue
        if not path.is_file() and not (path.is_symlink() and not path.exists()):
            continue  # a link to nothing is a file that is missing: whoever reads it says so
        name = relative.with_suffix("").as_posix()
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(f"File name {str(relative)!r} in {folder} is not valid UTF-8. Rename the file.") from None
        if name in found:
            twice.append(f"{found[name].name} and {path.name}")
        else:
            found[name] = path
    if twice:
        raise InputError(
            f"{len(twice)} {what} in {folder} have the same name apart from the suffix: {first_names(twice)}. "
            "Keep one of each, because images, labels and masks are matched by name."
        )
    if not found:
        expected = ", ".join(sorted(suffixes))
        raise MissingFileError(f"There are no {what} in {folder}; expected files ending in {expected}.")
    return found


def root_of(sources: Sources, format: str, holds: str) -> Path:
    """Return the root of a layout that knows its own folders.

    Args:
        sources: Whose `images` names it.
        format: Name of the layout.
        holds: A folder that lies in it.

    Raises:
        InputError: It was not given.
        MissingFileError: It holds no such folder.
    """
    if sources.images is None:
        raise InputError(f"`images` is missing. With `format` {format}, it is the folder that contains {holds}.")
    if not (sources.images / holds).is_dir():
        raise MissingFileError(f"There is no folder {holds} in {sources.images}. `format` {format} expects one.")
    return sources.images


def images_in(folder: Path) -> dict[str, Path]:
    """Find the images below a folder, by name."""
    return find_files(folder, IMAGE_SUFFIXES, "images")


def maps_in(folder: Path, what: str) -> dict[str, Path]:
    """Find the label or mask maps below a folder, by name."""
    return find_files(folder, ID_SUFFIXES, what)
