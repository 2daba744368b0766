"""FiftyOne: segmentation masks in files, and a JSON of what their values are called.

Facts of the format are from FiftyOne's documentation: 0 is background, which it draws as nothing; `mask_targets` names the
other values; masks are PNGs of 8 or 16 bits.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial as bound

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError
from a2lc.formats.annotated import Annotated, Category, give_values, join_classes, samples
from a2lc.formats.base import Found, Sources, maps_in, register_format
from a2lc.images.archive import parse_json, read_bounded
from a2lc.images.label_maps import read_ids
from a2lc.images.sources import MapSource

__all__ = ["TARGETS", "read_fiftyone"]

TARGETS = "mask_targets.json"
"""Value -> name, as text, since JSON has no other keys."""


@register_format("fiftyone")
def read_fiftyone(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read masks of `fo.Segmentation` and their names: `--labels` names the folder with `labels/` and `mask_targets.json`.

    Images are those of `--images`, or those in `data/` of that folder. 0 is void, unless mask_targets.json names it.

    Args:
        sources: The folder, and folders of images, masks and ground truth.
        partial: Images without a mask start without labels.
        classes: The user's classes, joined by name; without, those of mask_targets.json, whose values are kept.

    Raises:
        MissingFileError: A folder or mask_targets.json is missing.
        InputError: mask_targets.json is not what it should be.
    """
    root = sources.labels or sources.images
    if root is None:
        raise InputError(
            "--labels is missing: with --format fiftyone, the folder that holds labels and mask_targets.json."
        )
    if not (root / "labels").is_dir() or not (root / TARGETS).is_file():
        raise MissingFileError(f"No folder labels, or no {TARGETS}, in {root}, as --format fiftyone has them.")
    where = str(root / TARGETS)
    data = parse_json(read_bounded(root / TARGETS), where)
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data.values()):
        raise InputError(f'{where}: expected {{"1": "road", ..}}.')
    if not all(re.fullmatch(r"[0-9]{1,5}", value) for value in data):
        raise InputError(f"{where}: values are whole numbers from 0 on.")
    rows = sorted((int(value), name) for value, name in data.items())
    categories = [Category(name=name, value=value) for value, name in rows]
    table, values = join_classes(categories, (), classes, where)
    found = maps_in(root / "labels", "masks")
    maps: dict[str, MapSource] = dict(found)
    if classes is None:
        if 0 not in table.file_values:
            table = ClassTable(table.names, table.colours, table.file_values, 0)
    else:
        becomes = {value: values[name] for value, name in rows if name in values}
        becomes.setdefault(0, table.ignore)
        for name, path in found.items():
            read = bound(read_ids, path, max_pixels=sources.max_pixels)
            maps[name] = give_values(path, read, becomes, f"{TARGETS} or in --classes")
    images = sources.images
    if (images is None or images == root) and (root / "data").is_dir():
        images = root / "data"
    elif images == root:
        images = None
    annotated = Annotated(maps=maps, table=table, where=str(root / "labels"))
    return samples(replace(sources, images=images), partial, annotated)
