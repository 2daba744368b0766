"""FiftyOne: masks, what their values are called, and a script that loads them where FiftyOne is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from a2lc.errors import InputError
from a2lc.formats.fiftyone import TARGETS
from a2lc.formats.writing import Corrected, class_values, register_export
from a2lc.images.label_maps import write_ids
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["FiftyOneWriter"]

_SCRIPT = '''\
"""Makes a FiftyOne dataset of this folder. Run it where FiftyOne is installed: python import_fiftyone.py"""

import argparse
import json
from pathlib import Path

import fiftyone as fo

HERE = Path(__file__).resolve().parent

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--name", default=None, help="Of the dataset.")
parser.add_argument("--images", type=Path, default=None, help="Folder of images, if they are not where they were.")
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


@register_export(
    "fiftyone", labels="labels", line="masks under labels/ with 0 for void, mask_targets.json and import_fiftyone.py"
)
class FiftyOneWriter:
    """Writes `labels/IMAGE_ID.png`, `mask_targets.json`, `samples.jsonl` and `import_fiftyone.py`.

    The value of a class is its number from 1: FiftyOne takes 0 for background and draws nothing there, so 0 is void.
    Images stay where they are; `samples.jsonl` says where.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self.folder, self.classes = folder, project.classes
        if self.classes.num_classes > 65534:
            raise InputError(f"{self.classes.num_classes} classes do not fit masks of 16 bits.")
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
