"""Read a data set through its format, with the options that decide what its values mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.errors import ConfigError, InputError
from a2lc.images.label_maps import read_ids, read_snapped
from a2lc.images.opening import is_lossy
from a2lc.images.options import ReadingOptions
from a2lc.images.sources import DrawnMap, MapSource

__all__ = ["check_map", "read_source", "void_value", "with_ignore"]


def with_ignore(classes: ClassTable, value: int) -> ClassTable:
    """Return the classes with another value that means no class.

    Raises:
        ConfigError: It is a class.
    """
    if value in classes.file_values:
        name = classes.names[classes.file_values.index(value)]
        raise ConfigError(f"`ignore` is {value}, which is the value of class {name!r} in the classes file.")
    return replace(classes, ignore=value)


def check_map(value_map: dict[int, int], classes: ClassTable) -> None:
    """Refuse a value map that leads to what is no class and not the ignore value.

    Raises:
        InputError: It does, or a value does not fit 16 bits.
    """
    for value, becomes in value_map.items():
        if not 0 <= value <= 65535:
            raise InputError(f"`value_map` {value}={becomes}: values must be in 0..65535.")
        if becomes not in classes.file_values and becomes != classes.ignore:
            known = ", ".join(str(v) for v in classes.file_values)
            raise InputError(
                f"`value_map` {value}={becomes}: {becomes} is neither a class ({known}) nor the ignore value ({classes.ignore})."
            )


def void_value(classes: ClassTable, options: ReadingOptions) -> int:
    """Return a value of label files that is read as no class, for images without a label map.

    Raises:
        InputError: The value map leaves none.
    """
    for value in (classes.ignore, *sorted(options.value_map)):
        if options.value_map.get(value, value) == classes.ignore:
            return value
    raise InputError(
        f"`value_map` {classes.ignore}={options.value_map[classes.ignore]} leaves no value for images without "
        f"labels, because {classes.ignore} is the ignore value. Use another ignore value in the classes file."
    )


def read_source(source: MapSource, classes: ClassTable | None, options: ReadingOptions) -> tuple[NDArray[Any], int]:
    """Return (H, W) values of a label or mask map, and how many pixels were snapped to a known value.

    Args:
        source: The file, or what draws it.
        classes: Of a label map, whose colours and values may be needed; None for a mask map.
        options: How files are read.

    Raises:
        InputError: It cannot be read without a guess.
    """
    if isinstance(source, DrawnMap):
        return source.values(), 0
    table = None
    if classes is not None and options.colours:
        table = list(zip(classes.colours, classes.file_values, strict=True))
        if (224, 224, 192) not in classes.colours:
            table.append(((224, 224, 192), classes.ignore))  # VOC's void; black stays for a class to claim
    if classes is not None and options.snap is not None and is_lossy(source, options.max_pixels):
        known = (*classes.file_values, classes.ignore, *options.value_map)
        return read_snapped(source, known, options.snap, colours=table, max_pixels=options.max_pixels)
    return read_ids(source, colours=table, max_pixels=options.max_pixels), 0
