"""The formats of data sets, by name: one file a format, loaded when it is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from a2lc.errors import A2LCError, ConfigError, InputError, UnknownNameError, require_known
from a2lc.io.plugins import import_named

if TYPE_CHECKING:
    from pathlib import Path

    from a2lc.classes.table import ClassTable
    from a2lc.formats.base import Found, Reader, Sources
    from a2lc.formats.detection import AnnotationFile, Detected, FolderView
    from a2lc.formats.writing import Writer
    from a2lc.project.project import Project

__all__ = [
    "EXPORTS",
    "FORMATS",
    "Format",
    "FormatView",
    "find_format",
    "find_reader",
    "find_writer",
    "load_formats",
    "markdown_table",
    "register",
]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format: how a data set is read, how one is written, or both.

    Attributes:
        name: Name on the command line and in `project.yaml`.
        title: The data set or tool it belongs to.
        reads: What the sources `images` and `labels` name; shown in the documentation.
        reader: Finds the files of a data set; None for a format that is only written.
        writes: What is written, in one line.
        writer: Creates a writer from a project and a new folder; None for a format that is only read. It raises an
            `InputError` if the format cannot hold the labels.
        labels: Folder that written label maps lie in, or the file that holds all of them.
        detect: Says whether a folder is of the format by the names in it, and where its files are; for `a2lc doctor`.
        detect_file: Says so by a ZIP or JSON file in the folder.
        holds: Folders of images and of label maps that lie in the one that `images` names, if the format names any.
        beside: Whether `labels` names the whole folder where images lie elsewhere.
        brings_classes: Whether a data set of it says what its classes are.
    """

    name: str
    title: str
    reads: tuple[str, str] = ("", "")
    reader: Reader | None = None
    writes: str = ""
    writer: Callable[[Project, Path], Writer] | None = None
    labels: str = ""
    detect: Callable[[FolderView], Detected | None] = lambda folder: None
    detect_file: Callable[[FolderView, AnnotationFile], Detected | None] = lambda folder, file: None
    holds: tuple[str, str] = ("", "")
    beside: bool = False
    brings_classes: bool = True


BUILT_IN = {
    "folder": "a2lc.formats.folder",
    "voc": "a2lc.formats.voc",
    "cityscapes": "a2lc.formats.cityscapes",
    "ade20k": "a2lc.formats.ade20k",
    "coco": "a2lc.formats.coco",
    "coco-panoptic": "a2lc.formats.coco",
    "huggingface": "a2lc.formats.huggingface",
    "cvat-mask": "a2lc.formats.cvat",
    "cvat-xml": "a2lc.formats.cvat",
    "label-studio": "a2lc.formats.label_studio",
    "fiftyone": "a2lc.formats.fiftyone",
    "labelme": "a2lc.formats.labelme",
}
"""Modules of this package's formats, by name, in the order of the documentation."""

ENTRY_POINTS = "a2lc.formats"
"""Group of entry points under which other packages announce formats: NAME = "package.module", which registers NAME."""

_LOADED: dict[str, Format] = {}


def register(format: Format) -> Format:
    """Make a format known by its name, in place of any other of that name.

    Raises:
        ConfigError: It has no name, or neither a reader nor a writer.
    """
    if not format.name or (format.reader is None and format.writer is None):
        raise ConfigError(f"Format {format.name!r} needs a name, and a reader or a writer.")
    _LOADED[format.name] = format
    return format


def find_format(name: str) -> Format:
    """Return a format by its name, or by where it is: `package.module:NAME`. Only the module that has it is imported.

    Raises:
        UnknownNameError: There is no format of that name.
        ConfigError: The module that is named, or that an installed package announces, cannot be imported, or has no such
            format.
    """
    if ":" in name:
        return _own_format(name)
    if name not in _LOADED:
        if name in BUILT_IN:
            import_module(BUILT_IN[name])
        else:
            announced = _announced()
            _require_known("format", name, {**BUILT_IN, **_LOADED, **announced})
            _load(announced[name])
    return _LOADED[name]


def load_formats() -> dict[str, Format]:
    """Load every format, those of installed packages included, and return them by name.

    A format of another package that cannot be loaded is left out with a warning: nobody asked for that one.
    """
    formats: dict[str, Format] = {}
    for name in [*BUILT_IN, *(name for name in {**_LOADED, **_announced()} if name not in BUILT_IN)]:
        try:
            formats[name] = find_format(name)
        except ConfigError as error:
            warnings.warn(str(error), stacklevel=2)
    return formats


def _announced() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def _load(entry: EntryPoint) -> None:
    """Import what an entry point names: a module that registers the format, or the format itself."""
    loaded = import_named(entry.value, f"format {entry.name!r}")
    if isinstance(loaded, Format) and loaded.name == entry.name:
        register(loaded)
    if entry.name not in _LOADED:
        raise ConfigError(f"format {entry.name!r}: {entry.value} does not register a format of that name.")


def _own_format(place: str) -> Format:
    """Import a format of the user's; formats that come without a name are listed nowhere."""
    loaded = import_named(place, f"format {place!r}")
    if not isinstance(loaded, Format):
        kind = "a class" if isinstance(loaded, type) else f"of type {type(loaded).__name__}"
        raise ConfigError(f"format {place!r}: {place} is {kind}; expected an a2lc.formats.registry.Format.")
    return loaded


def _require_known(what: str, name: str, known: Iterable[str]) -> None:
    try:
        require_known(what, name, known)
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} A format of your own is named package.module:NAME.") from None


def _guarded(name: str, reader: Reader) -> Reader:
    """Name the format in whatever goes wrong in a reader of another package, and refuse what it overlooks."""

    def read(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
        from a2lc.formats.base import Found

        try:
            found = reader(sources, partial=partial, classes=classes)
        except (A2LCError, OSError, MemoryError):
            raise
        except Exception as error:
            raise InputError(f"format {name!r}: its reader failed: {type(error).__name__}: {error}.") from error
        if not isinstance(found, Found):
            raise InputError(f"format {name!r}: its reader returned {type(found).__name__}; expected a Found.")
        if sources.validation_images is not None and not found.validation:
            raise InputError(f"format {name!r}: its reader found no validation images. Leave out `validation_images`.")
        return found

    return read


def find_reader(name: str) -> Reader:
    """Return what reads a format; of an unknown one, all formats are loaded to name them.

    Raises:
        UnknownNameError: There is no format of that name that is read.
        ConfigError: `package.module:NAME` cannot be imported, or is not a format that is read.
    """
    if name not in FORMATS:
        if ":" in name:
            raise ConfigError(f"format {name!r} has no `reader`, so it can only be written.")
        _require_known("format", name, FORMATS)
    reader = FORMATS[name].reader
    assert reader is not None
    return reader if name in BUILT_IN else _guarded(name, reader)


def find_writer(name: str) -> Callable[[Project, Path], Writer]:
    """Return what creates a writer of a format from a project and a new folder.

    Raises:
        UnknownNameError: There is no format of that name that is written.
        ConfigError: `package.module:NAME` cannot be imported, or is not a format that is written.
    """
    if name not in EXPORTS:
        if ":" in name:
            raise ConfigError(f"format {name!r} has no `writer`, so it can only be read.")
        _require_known("export format", name, EXPORTS)
    writer = EXPORTS[name].writer
    assert writer is not None
    return writer


class FormatView(Mapping[str, Format]):
    """Formats by name that can be read, or that can be written. One of them is loaded on look-up, all on iteration."""

    def __init__(self, part: str) -> None:
        self._part = part

    def __getitem__(self, name: str) -> Format:
        if ":" in name or name in _LOADED or name in BUILT_IN or name in _announced():
            format = find_format(name)
            if getattr(format, self._part) is not None:
                return format
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name, format in load_formats().items() if getattr(format, self._part) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


FORMATS = FormatView("reader")
"""Formats that are read, by name."""

EXPORTS = FormatView("writer")
"""Formats that are written, by name."""


def markdown_table(formats: Mapping[str, Format] | None = None) -> str:
    """Return the table of formats of docs/formats.md; by default, of those of this package."""
    rows = ["| `--format` | data set | `--images` | `--labels` | written |", "|---|---|---|---|---|"]
    for format in ({name: find_format(name) for name in BUILT_IN} if formats is None else formats).values():
        images, labels = format.reads if format.reader is not None else ("–", "–")
        written = format.writes if format.writer is not None else "–"
        rows.append(f"| `{format.name}` | {format.title} | {images} | {labels} | {written} |")
    return "\n".join(rows) + "\n"
