"""Damaged files of every format that is read: nothing crashes, hangs, takes all memory, or shows a traceback.

    python benchmarks/fuzz_files.py [--cases 1000] [--seed 0]

Each case is a data set with one file damaged: cut short, bits flipped, bytes put in, taken for another type, numbers
in it made absurd, or made to unpack to gigabytes. `a2lc doctor` and `a2lc init` must both end by themselves, with exit
status 0 or 2 and one line of error at most. Printed: exits, the longest case, and the highest memory.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np

SECONDS, MEGABYTES = 5.0, 1024
HEIGHT, WIDTH = 30, 44
# Formats that are written, with how each is read back: options of init below the export.
FORMATS = {
    "folder": ["--images", "@images", "--labels", "labels", "--classes", "classes.json"],
    "voc": ["--images", ".", "--classes", "classes.json"],
    "cityscapes": ["--images", "."],
    "ade20k": ["--images", "@.", "--labels", "."],
    "coco": ["--images", "@images", "--labels", "annotations.json"],
    "coco-panoptic": ["--images", "@images", "--labels", "panoptic.json"],
    "huggingface": ["--images", "."],
    "cvat-mask": ["--images", "@images", "--labels", "annotations.zip"],
    "cvat-xml": ["--images", "@images", "--labels", "annotations.xml"],
    "label-studio": ["--images", "@images", "--labels", "tasks.json"],
    "fiftyone": ["--images", "@images", "--labels", "."],
    "labelme": ["--images", "."],
}


def write_set(root: Path) -> None:
    """A small data set, and it exported in every format."""
    from a2lc.classes.table import ClassTable
    from a2lc.creation.importer import create_project
    from a2lc.export import EXPORTS, export_project
    from a2lc.formats.base import Sources
    from a2lc.images.label_maps import read_ids, write_ids
    from a2lc.images.rgb import write_rgb
    from a2lc.project.project import Project

    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        write_rgb(root / "images" / f"{name}.png", rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        labels = np.kron(rng.integers(0, 3, (3, 4)), np.ones((10, 11))).astype(np.uint8)
        labels[:2] = 255
        write_ids(root / "labels" / f"{name}.png", labels)
    classes = ClassTable.from_names(["road", "car", "tree"])
    create_project(root / "p.a2lc", Sources(images=root / "images", labels=root / "labels"), classes)
    with Project(root / "p.a2lc") as project:
        for name in sorted(set(EXPORTS) - {"cityscapes"}):
            export_project(project, root / "sets" / name, name)
    shutil.copytree(root / "images", root / "sets" / "voc" / "JPEGImages")
    for name in ("a", "b", "c"):
        for kind, source in (("leftImg8bit", root / "images"), ("gtFine_labelIds", root / "labels")):
            target = root / "sets" / "cityscapes" / kind.split("_")[0] / "train" / "town" / f"{name}_{kind}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / f"{name}.png", target)
            if kind.startswith("gtFine"):
                write_ids(target, np.array([7, 26, 21, *[0] * 253], dtype=np.uint8)[read_ids(target)])
    labelme = root / "sets" / "labelme"
    for name in ("a", "b", "c"):
        labelme.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "images" / f"{name}.png", labelme / f"{name}.png")
        shape = {"label": "car", "points": [[3, 4], [20, 5], [12, 25]], "shape_type": "polygon"}
        data = {
            "imagePath": f"{name}.png",
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
            "shapes": [shape],
            "imageData": None,
        }
        (labelme / f"{name}.json").write_text(json.dumps(data))


def damage(path: Path, rng: random.Random, others: list[Path]) -> str:
    """Damage a file in place; what was done comes back."""
    data = bytearray(path.read_bytes())
    text = path.suffix in {".json", ".xml", ".txt", ".yaml"}
    kinds = ["cut", "flip", "insert", "zero", "swap", "empty"] + (["number"] * 4 if text else [])
    if path.suffix == ".png":
        kinds += ["size", "chunk"]
    if path.suffix == ".zip" or text:
        kinds += ["bomb"]
    kind = rng.choice(kinds)
    if kind == "cut":
        data = data[: rng.randrange(len(data) + 1)]
    elif kind == "flip":
        for _ in range(rng.randint(1, 24)):
            if data:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "insert":
        place = rng.randrange(len(data) + 1)
        data[place:place] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 200)))
    elif kind == "zero":
        place = rng.randrange(len(data) + 1)
        data[place : place + rng.randint(1, 400)] = bytes(min(400, len(data) - place))
    elif kind == "swap":
        data = bytearray(rng.choice(others).read_bytes())
    elif kind == "empty":
        data = bytearray()
    elif kind == "number":
        words = data.decode("utf-8", "replace")
        digits = [i for i, character in enumerate(words) if character.isdigit() and not words[i - 1 : i].isdigit()]
        for place in rng.sample(digits, min(len(digits), rng.randint(1, 3))):
            end = place
            while end < len(words) and words[end].isdigit():
                end += 1
            absurd = rng.choice(
                ["-1", "0", "99999999999", "1e308", "NaN", "4294967296", '"x"', "null", "[]", "{}", "65536"]
            )
            words = words[:place] + absurd.ljust(end - place) + words[end:]
        data = bytearray(words.encode())
    elif kind == "size" and data[12:16] == b"IHDR":
        width, height = rng.choice([(2**31 - 1, 2**31 - 1), (60000, 60000), (0, 5), (WIDTH, 10**7)])
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    elif kind == "chunk":
        body = b"k\0\0" + zlib.compress(bytes(64 << 20), 9)  # text that unpacks to 64 MiB
        name = rng.choice([b"zTXt", b"iCCP", b"tEXt"])
        chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        data[33:33] = chunk
    elif kind == "bomb" and path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            archive.writestr("annotations.xml", bytes(1 << 20))
            for number in range(40):
                archive.writestr(f"SegmentationClass/{number}.png", bytes(32 << 20))
        return kind
    elif kind == "bomb":
        data = bytearray(rng.choice([b"[" * 200_000, b'{"a":' * 100_000, b"<a>" * 100_000, b"9" * 1_000_000]))
    path.write_bytes(bytes(data))
    return kind


def run_case(sets: Path, number: int, seed: int) -> dict[str, object]:
    """One damaged data set, looked at and imported."""
    from a2lc.cli.app import _main

    rng = random.Random(seed * 1_000_003 + number)
    name = list(FORMATS)[number % len(FORMATS)]
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    found: dict[str, object] = {"case": number, "format": name}
    try:
        root = work / name
        shutil.copytree(sets / "sets" / name, root)
        shutil.copytree(sets / "images", work / "images")
        files = [
            path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix not in {".csv", ".md", ".py"}
        ]
        files = [path for path in files if "provenance" not in path.parts and path.name != "manifest.json"]
        if rng.random() < 0.2:
            files = sorted((work / "images").iterdir())
        target = rng.choice(files)
        found["file"] = target.name
        found["damage"] = damage(target, rng, files)
        options = []
        for option in FORMATS[name]:
            if option.startswith("--"):
                options.append(option)
            else:
                options.append(str(work / option[1:]) if option.startswith("@") else str(root / option))
        for command in (
            ["doctor", str(root), *(["--images", str(work / "images")] if "@images" in FORMATS[name] else [])],
            ["init", str(work / "p.a2lc"), "--format", name, *options],
            ["init", str(work / "q.a2lc"), "--format", name, *options, "--skip-bad"],
        ):
            out, err = io.StringIO(), io.StringIO()
            began = time.perf_counter()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = _main(command)
            seconds = time.perf_counter() - began
            found["seconds"] = max(float(found.get("seconds", 0)), seconds)  # type: ignore[arg-type]
            found.setdefault("exits", []).append(code)  # type: ignore[union-attr]
            lines = [line for line in err.getvalue().splitlines() if line.startswith("a2lc: ")]
            if code not in (0, 2) or "Traceback" in err.getvalue() or len(lines) > 1:
                found.setdefault("bad", err.getvalue()[-1500:])
            if seconds > SECONDS:
                found.setdefault("bad", f"{command[0]} took {seconds:.1f} s")
    except BaseException as error:  # whatever gets through is what this looks for
        found["bad"] = f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(work, ignore_errors=True)
    found["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def _work(sets: Path, numbers: list[int], seed: int, queue: multiprocessing.Queue[object]) -> None:
    for number in numbers:
        queue.put(("begin", number))
        queue.put(("end", run_case(sets, number, seed)))
    queue.put(("done", None))


def fuzz(cases: int, seed: int, timeout: float = 60.0) -> list[dict[str, object]]:
    """All cases, in a process that is begun anew when one kills it or hangs."""
    sets = Path(tempfile.mkdtemp(prefix="fuzz-sets-"))
    write_set(sets)
    left, found = list(range(cases)), []
    context = multiprocessing.get_context("spawn")
    try:
        while left:
            queue = context.Queue()
            process = context.Process(target=_work, args=(sets, left, seed, queue))
            process.start()
            number = left[0]
            while True:
                try:
                    what, value = queue.get(timeout=timeout)
                except Exception:
                    found.append({"case": number, "bad": "hung" if process.is_alive() else "the process died"})
                    process.kill()
                    left = [one for one in left if one > number]
                    break
                if what == "begin":
                    number = value
                elif what == "end":
                    found.append(value)
                    left = [one for one in left if one != number]
                else:
                    left = []
                    break
            process.join()
    finally:
        shutil.rmtree(sets, ignore_errors=True)
    return found


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    found = fuzz(options.cases, options.seed)
    bad = [case for case in found if "bad" in case]
    exits = Counter(tuple(case.get("exits", ())) for case in found)
    slowest = max(found, key=lambda case: case.get("seconds", 0))
    print(
        f"{len(found)} cases in {time.perf_counter() - began:.0f} s; exits of doctor, init, init --skip-bad: {dict(exits)}"
    )
    print(f"longest command {slowest.get('seconds', 0):.2f} s ({slowest})")
    print(f"highest memory {max(float(case.get('megabytes', 0)) for case in found):.0f} MiB (limit {MEGABYTES})")
    for case in bad[:20]:
        print(json.dumps(case)[:2500])
    too_much = any(float(case.get("megabytes", 0)) > MEGABYTES for case in found)
    print(f"{len(bad)} bad")
    return 1 if bad or too_much else 0


if __name__ == "__main__":
    sys.exit(main())
