"""What a data set's layout offers: which files belong to which image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from a2lc.data.png import ID_SUFFIXES, IMAGE_SUFFIXES
from a2lc.errors import InputError, MissingFileError, first_names

__all__ = ["FORMATS", "Found", "Reader", "Sample", "Sources", "find_files", "register_format"]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the user's files are.

    Attributes:
        format: Name of the layout.
        images: Folder of images, or the root of a layout that knows its own folders.
        labels: Folder of doubtful labels, or None to start without any.
        masks: Folder of mask maps, or None for connected components of the labels, if there are any.
        ground_truth: Folder of ground truth of the same images, or None.
        validation_images: Folder of images that only measure models, or None.
        validation_ground_truth: Their ground truth.
    """

    format: str = "folder"
    images: Path
    labels: Path | None = None
    masks: Path | None = None
    ground_truth: Path | None = None
    validation_images: Path | None = None
    validation_ground_truth: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The files of one image; without `labels`, no pixel of it carries a class yet."""

    image_id: str
    image: Path
    labels: Path | None = None
    masks: Path | None = None
    ground_truth: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a layout found.

    Attributes:
        train: Samples whose labels are to be corrected.
        validation: Samples that only measure models.
        root: Folder the images' recorded paths are below.
        validation_root: The same for validation images.
        unmatched: Images that have no partner, by what is missing, each with where it was expected.
        notes: What was read in a way the user should know.
    """

    train: list[Sample]
    validation: list[Sample]
    root: Path
    validation_root: Path | None = None
    unmatched: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Reader(Protocol):
    """Finds the files of a layout."""

    def __call__(self, sources: Sources, *, partial: bool = False) -> Found:
        """Match images with their files; with `partial`, images without labels are found as well."""
        ...


FORMATS: dict[str, Reader] = {}
"""Layouts by name."""


def register_format(name: str) -> Callable[[Reader], Reader]:
    """Make a layout known by a name."""

    def add(function: Reader) -> Reader:
        FORMATS[name] = function
        return function

    return add


def find_files(folder: Path, suffixes: Iterable[str], what: str) -> dict[str, Path]:
    """Files below a folder by their path without suffix, sorted.

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
        if not path.is_file():
            continue
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
            f"{len(twice)} {what} have the same name but for the suffix in {folder}: {first_names(twice)}. "
            "Keep one of each: the name is what joins images, labels and masks."
        )
    if not found:
        expected = ", ".join(sorted(suffixes))
        raise MissingFileError(f"No {what} in {folder}: expected files ending in {expected}.")
    return found


def images_in(folder: Path) -> dict[str, Path]:
    """Images below a folder by name."""
    return find_files(folder, IMAGE_SUFFIXES, "images")


def maps_in(folder: Path, what: str) -> dict[str, Path]:
    """Label or mask maps below a folder by name."""
    return find_files(folder, ID_SUFFIXES, what)
