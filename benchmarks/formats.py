"""How long each format takes to be written and to be read, as made-up label maps of the size of PASCAL VOC.

python benchmarks/formats.py [--images 300]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.export import EXPORTS, export_project
from a2lc.formats.base import Sources
from a2lc.images.label_maps import write_ids
from a2lc.images.rgb import write_rgb
from a2lc.project.project import Project

HEIGHT, WIDTH = 375, 500
# What holds the labels in an export, where it is not the folder itself.
FILES = {
    "coco": "annotations.json",
    "coco-panoptic": "panoptic.json",
    "cvat-mask": "annotations.zip",
    "cvat-xml": "annotations.xml",
    "label-studio": "tasks.json",
}


def main() -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    options = parser.parse_args()
    classes = ClassTable.from_names([f"class {number}" for number in range(1, 21)])
    classes = ClassTable(classes.names, classes.colours, tuple(range(1, 21)), 255)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for number in range(options.images):
            rng = np.random.default_rng(number)
            labels = np.kron(rng.integers(1, 21, (25, 25)), np.ones((15, 20))).astype(np.uint8)
            labels[:2] = 255
            write_ids(root / "labels" / f"{number:05d}.png", labels)
            write_rgb(root / "images" / f"{number:05d}.png", np.repeat(labels[..., None] * np.uint8(12), 3, axis=2))
        sources = Sources(images=root / "images", labels=root / "labels")
        began = time.perf_counter()
        create_project(root / "p.a2lc", sources, classes)
        print(f"import of plain folders {time.perf_counter() - began:.1f} s")
        print("format          written    read")
        with Project(root / "p.a2lc") as project:
            print(f"{len(project.masks):,} masks in {options.images} images of {WIDTH} x {HEIGHT}")
            for name in sorted(set(EXPORTS) - {"cityscapes"}):  # which needs Cityscapes' own classes
                out = root / name
                began = time.perf_counter()
                export_project(project, out, name)
                written = time.perf_counter() - began
                given = Sources(format=name, images=root / "images", labels=out / FILES.get(name, "."))
                if name in {"folder", "voc"}:
                    given = Sources(images=root / "images", labels=out / EXPORTS[name].labels)
                elif name == "huggingface":
                    given = Sources(format=name, images=out)
                elif name == "ade20k":
                    given = Sources(format=name, images=root, labels=out)
                began = time.perf_counter()
                create_project(root / f"{name}.a2lc", given, None if name not in {"folder", "voc"} else classes)
                print(f"{name:14} {written:7.1f} s {time.perf_counter() - began:7.1f} s", flush=True)
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
