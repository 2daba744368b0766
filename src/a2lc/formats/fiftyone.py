"""FiftyOne: segmentation masks in files, and a JSON of what their values are called.

Facts of the format are from FiftyOne's documentation: 0 is background, which it draws as nothing; `mask_targets` names the
other values; masks are PNGs of 8 or 16 bits.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial as bound
from pathlib import Path
from typing import IO

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError
from a2lc.formats.annotated import Annotated, Category, give_values, join_classes, samples
from a2lc.formats.base import Found, Sources, maps_in
from a2lc.formats.detection import Detected, FolderView
from a2lc.formats.registry import Format, register
from a2lc.formats.writing import Corrected, class_values
from a2lc.images.archive import parse_json, read_bounded
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.sources import MapSource
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["TARGETS", "FiftyOneWriter", "read_fiftyone"]

TARGETS = "mask_targets.json"
"""Value -> name, as text, since JSON has no other keys."""


def read_fiftyone(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read masks of `fo.Segmentation` and their names: `labels` names the folder with `labels/` and `mask_targets.json`.

    Images are those of `images`, or those in `data/` of that folder. 0 is void, unless mask_targets.json names it.

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
            "`labels` is missing. With `format` fiftyone, it is the folder that contains labels and mask_targets.json."
        )
    if not (root / "labels").is_dir() or not (root / TARGETS).is_file():
        raise MissingFileError(
            f"There is no folder labels, or no {TARGETS}, in {root}. `format` fiftyone expects both."
        )
    where = str(root / TARGETS)
    data = parse_json(read_bounded(root / TARGETS), where)
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data.values()):
        raise InputError(f'{where}: expected {{"1": "road", ..}}.')
    if not all(re.fullmatch(r"[0-9]{1,5}", value) for value in data):
        raise InputError(f"{where}: values must be whole numbers from 0.")
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
            maps[name] = give_values(path, read, becomes, f"{TARGETS} or in `classes`")
    images = sources.images
    if (images is None or images == root) and (root / "data").is_dir():
        images = root / "data"
    elif images == root:
        images = None
    annotated = Annotated(maps=maps, table=table, where=str(root / "labels"))
    return samples(replace(sources, images=images), partial, annotated)


# ---- writing -------------------------------------------------------------------------------------------------------


_SCRIPT = '''\
"""Create a FiftyOne dataset from this folder. Run it where FiftyOne is installed: python import_fiftyone.py"""

import argparse
import json
from pathlib import Path

import fiftyone as fo

HERE = Path(__file__).resolve().parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--name", default=None, help="Name of the dataset.")
parser.add_argument("--images", type=Path, default=None, help="Folder of images, if they have moved.")
options = parser.parse_args()

targets = {int(value): name for value, name in json.loads((HERE / "mask_targets.json").read_text("utf-8")).items()}
dataset = fo.Dataset(options.name, persistent=True)
samples = []
with (HERE / "samples.jsonl").open(encoding="utf-8") as file:
    for row in map(json.loads, file):
        path = options.images / row["file"] if options.images else row["image"]
        if path is None:
            continue
        sample = fo.Sample(filepath=str(path))
        sample["a2lc_labels"] = fo.Segmentation(mask_path=str(HERE / row["labels"]))
        sample["a2lc_provenance"] = fo.Segmentation(mask_path=str(HERE / row["provenance"]))
        sample["a2lc_changed_pixels"] = row["changed_pixels"]
        samples.append(sample)
dataset.add_samples(samples)
dataset.default_mask_targets = targets
dataset.mask_targets = {
    "a2lc_labels": targets,
    "a2lc_provenance": {1: "manual", 2: "automatic"},
}
dataset.save()  # without it, mask_targets are lost
print(f"{len(dataset)} samples in dataset {dataset.name!r}")
'''


class FiftyOneWriter:
    """Writes `labels/IMAGE_ID.png`, `mask_targets.json`, `samples.jsonl` and `import_fiftyone.py`.

    The value of a class is its number from 1: FiftyOne takes 0 for background and draws nothing there, so 0 is void.
    Images stay where they are; `samples.jsonl` says where.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder, self.classes = folder, project.classes
        if self.classes.num_classes > 65534:
            raise InputError(f"{self.classes.num_classes} classes do not fit into 16-bit masks.")
        self.values = range(1, self.classes.num_classes + 1)
        self.rows: IO[str] = (folder / "samples.jsonl").open("w", encoding="utf-8")

    def add(self, corrected: Corrected) -> None:
        """Write a mask."""
        name = f"labels/{corrected.image_id}.png"
        write_ids(self.folder / name, class_values(corrected.labels, self.values, 0))
        row = {
            "image": None if corrected.image is None else str(corrected.image),
            "file": corrected.file,
            "labels": name,
            "provenance": f"provenance/{corrected.image_id}.png",
            "changed_pixels": corrected.changed,
        }
        self.rows.write(json.dumps(row, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Write the names and the script."""
        self.rows.close()
        targets = dict(zip(map(str, self.values), self.classes.names, strict=True))
        write_text(self.folder / TARGETS, json.dumps(targets, indent=1, ensure_ascii=False) + "\n")
        write_text(self.folder / "import_fiftyone.py", _SCRIPT)


def _detect(folder: FolderView) -> Detected | None:
    if "mask_targets.json" not in folder.entries:
        return None
    own = "data" in folder.entries
    return Detected(
        why="it contains mask_targets.json",
        images=folder.folder if own else folder.images,
        labels=None if own else folder.folder,
    )


register(
    Format(
        name="fiftyone",
        title="FiftyOne segmentation masks",
        reads=("a folder, or `data/` beside the masks", "the folder with `labels/` and `mask_targets.json`"),
        reader=read_fiftyone,
        writes="masks under `labels/` with 0 for void, `mask_targets.json` and `import_fiftyone.py`",
        writer=FiftyOneWriter,
        labels="labels",
        detect=_detect,
        beside=True,
    )
)
