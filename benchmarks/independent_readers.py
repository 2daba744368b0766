"""The same data, written here and read by others: datumaro and Label Studio's converter.

Neither is a dependency, so the two halves run in two environments:

    python benchmarks/independent_readers.py write DIR             # where a2lc is installed
    python benchmarks/independent_readers.py compare DIR           # where the others are

The others: pip install datumaro label-studio-sdk scikit-image

`write` makes a project of made-up label maps (H != W, void, a one-pixel mask, names with spaces and folders), corrects a
third of its masks, exports it in every format, and keeps the label maps it means. `compare` reads the exports with the other
packages, puts their masks together, and says for each format how many label maps are the same in every pixel.
"""

from __future__ import annotations

import argparse
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np

NAMES = ("b", "a b", "ü 1", "deep/er/c")
HEIGHT, WIDTH = 37, 53
VOID = -1


def write(folder: Path, images: int) -> None:
    """Exports, and the label maps they mean, as class indices with -1 for void."""
    from PIL import Image

    from a2lc.classes.table import ClassTable
    from a2lc.creation.importer import create_project
    from a2lc.export import export_project
    from a2lc.formats.base import Sources
    from a2lc.formats.cityscapes import cityscapes_classes
    from a2lc.ledger import FIRST
    from a2lc.project.project import Project
    from a2lc.records import Source

    tables = {
        "own": ClassTable.from_names(["road", "traffic light", "tree", "sky", "Straße"]),
        "city": cityscapes_classes("labelIds"),
    }
    names = [*NAMES, *(f"more {place}" for place in range(images - len(NAMES)))]
    for kind, classes in tables.items():
        home = folder / kind
        rng = np.random.default_rng(11)
        for place, name in enumerate(names):
            name = f"bonn/bonn_{place:06d}_000019" if kind == "city" else name
            end = "_leftImg8bit" if kind == "city" else ""
            blocks = rng.integers(0, classes.num_classes, (5, 6))
            values = np.array(classes.file_values)[np.kron(blocks, np.ones((8, 9), dtype=int))[:HEIGHT, :WIDTH]]
            values[:5, -9:] = classes.ignore
            values[20, 30] = classes.file_values[place % classes.num_classes]
            for part, pixels in (("images", rng.integers(0, 256, (HEIGHT, WIDTH, 3))), ("labels", values)):
                top = {"images": "leftImg8bit/train", "labels": "gtFine/train"}[part] if kind == "city" else part
                end = "_gtFine_labelIds" if end and part == "labels" else end
                path = home / top / f"{name}{end}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
        sources = Sources(images=home / "images", labels=home / "labels")
        if kind == "city":
            sources = Sources(format="cityscapes", images=home)
        create_project(home / "p.a2lc", sources, classes)
        with Project(home / "p.a2lc") as project:
            masks = project.masks
            rows = np.arange(0, len(masks), 3)
            project.ledger.open_round(1, method="a2lc", config={}, model="m", seed=0, versions={})
            where = masks.image[rows], masks.mask_ids[rows], np.full(len(rows), FIRST)
            new = rng.integers(-1, classes.num_classes, len(rows))
            sure = np.ones(len(rows))
            project.ledger.add_corrections(1, Source.AUTOMATIC, *where, new, confidences=sure, model="m")
            formats = (
                ["cityscapes"] if kind == "city" else ["coco", "coco-panoptic", "cvat-mask", "cvat-xml", "label-studio"]
            )
            for format in formats:
                export_project(project, home / "exports" / format, format)
            for image in project.images:
                labels = project.corrected_labels(image).astype(int)
                labels[labels == classes.ignore_index] = VOID
                path = home / "expected" / f"{image.image_id}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, labels)
        (home / "names.json").write_text(json.dumps(list(classes.names)))


def painted(item, found_labels: list[str], names: list[str], order=None) -> np.ndarray:
    """Class indices of an item of datumaro's; labels that are none of ours (background) are void."""
    labels = np.full((HEIGHT, WIDTH), VOID)
    from datumaro.components.annotation import AnnotationType

    for one in sorted(item.annotations, key=lambda a: getattr(a, "z_order", 0)):
        if one.type == AnnotationType.mask and found_labels[one.label] in names:
            labels[np.asarray(one.image, dtype=bool)] = names.index(found_labels[one.label])
    return labels


def by_datumaro(root: Path, format: str, home: Path, names: list[str], strip: str = "") -> str:
    import datumaro
    from datumaro.components.annotation import AnnotationType

    data = datumaro.Dataset.import_from(str(root), format)
    labels = [label.name for label in data.categories()[AnnotationType.label]]
    found = {item.id.removesuffix(strip): painted(item, labels, names) for item in data}
    return compared(found, home)


def compared(found: dict[str, np.ndarray], home: Path) -> str:
    """How many label maps are the same in every pixel."""
    expected = {
        path.relative_to(home / "expected").with_suffix("").as_posix(): np.load(path)
        for path in sorted((home / "expected").rglob("*.npy"))
    }
    same = sum(name in found and np.array_equal(found[name], labels) for name, labels in expected.items())
    missing = [name for name in expected if name not in found]
    return f"{same} of {len(expected)} label maps the same" + (f"; not found: {missing}" if missing else "")


def compare(folder: Path) -> None:
    import datumaro
    import label_studio_sdk

    print(f"datumaro {datumaro.__version__}, label-studio-sdk {label_studio_sdk.__version__}")
    work = folder / "layouts"
    shutil.rmtree(work, ignore_errors=True)
    home = folder / "own"
    names = json.loads((home / "names.json").read_text())
    exports = home / "exports"

    coco = work / "coco"
    (coco / "annotations").mkdir(parents=True)
    shutil.copytree(home / "images", coco / "images" / "train")
    shutil.copy(exports / "coco/annotations.json", coco / "annotations/instances_train.json")
    print("coco:", by_datumaro(coco, "coco_instances", home, names))

    panoptic = work / "panoptic"
    (panoptic / "annotations").mkdir(parents=True)
    shutil.copytree(home / "images", panoptic / "images" / "train")
    shutil.copy(exports / "coco-panoptic/panoptic.json", panoptic / "annotations/panoptic_train.json")
    shutil.copytree(exports / "coco-panoptic/panoptic", panoptic / "annotations/panoptic_train")
    print("coco-panoptic:", by_datumaro(panoptic, "coco_panoptic", home, names))

    voc = work / "cvat-mask"
    with zipfile.ZipFile(exports / "cvat-mask/annotations.zip") as archive:
        archive.extractall(voc)
    shutil.copytree(home / "images", voc / "JPEGImages")
    print("cvat-mask:", by_datumaro(voc, "voc_segmentation", home, names))

    cvat = work / "cvat-xml"
    shutil.copytree(home / "images", cvat / "images")
    shutil.copy(exports / "cvat-xml/annotations.xml", cvat / "annotations.xml")
    print("cvat-xml:", by_datumaro(cvat, "cvat", home, names))

    print("label-studio:", by_label_studio(exports / "label-studio/tasks.json", home, names))

    city = folder / "city"
    layout = work / "cityscapes"
    shutil.copytree(city / "leftImg8bit/train", layout / "imgsFine/leftImg8bit/train")
    shutil.copytree(city / "exports/cityscapes/gtFine", layout / "gtFine")
    names = json.loads((city / "names.json").read_text())
    print("cityscapes (scikit-image):", by_label_ids(layout / "gtFine/train", city, names))


def by_label_studio(tasks: Path, home: Path, names: list[str]) -> str:
    from label_studio_sdk.converter.brush import decode_rle

    found = {}
    for task in json.loads(tasks.read_text()):
        labels = np.full((HEIGHT, WIDTH), VOID)
        for region in task["predictions"][0]["result"]:
            pixels = decode_rle(region["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)[..., 3]
            labels[pixels > 0] = names.index(region["value"]["brushlabels"][0])
        found[task["data"]["image_id"]] = labels
    return compared(found, home)


def by_label_ids(root: Path, home: Path, names: list[str]) -> str:
    """Through the table of the data set's own scripts, read anew here."""
    from skimage.io import imread

    ids = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
    end = "_gtFine_labelIds.png"
    found = {}
    for path in sorted(root.rglob(f"*{end}")):
        values = imread(path)
        labels = np.full(values.shape, VOID)
        for place, value in enumerate(ids):
            labels[values == value] = place
        found[path.relative_to(root).as_posix().removesuffix(end)] = labels
    return compared(found, home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["write", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    if options.what == "write":
        write(options.folder, options.images)
    else:
        compare(options.folder)


if __name__ == "__main__":
    main()
