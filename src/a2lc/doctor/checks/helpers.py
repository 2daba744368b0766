"""Helpers that several checks share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from a2lc.doctor.diagnosis import Case
from a2lc.formats.base import Found, Sample, Sources
from a2lc.images.opening import ID_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["MODES", "SMOOTH", "VOID_DOUBT", "loose_files", "name_hint", "peaks_of", "size_reason", "step_of"]


VOID_DOUBT = 0.5
"""Share of void pixels above which someone should look."""


MODES = {
    "L": "are grey",
    "LA": "are grey with alpha, which is dropped",
    "RGBA": "have alpha, which is dropped",
    "P": "have a palette",
    "CMYK": "are CMYK",
    "1": "are black and white",
}


SMOOTH = 0.8
"""Share of unknown values between two others above which a map was smoothed."""


def step_of(values: list[int]) -> int | None:
    """The step of values that are 0, step, 2 step, ..; None if they are not, or the step is 1."""
    if len(values) < 2 or values[0] != 0 or values[1] < 2:
        return None
    steps = {second - first for first, second in pairwise(values)}
    return values[1] if steps <= {values[1], values[1] + 1} else None


def peaks_of(often: Sequence[int], case: Case) -> list[int]:
    """Of frequent values, the most frequent one of each run of neighbours: blur spreads a value to those beside it."""
    counts: Counter[int] = Counter()
    for code, pixels in case.pixels.items():
        counts[code & 255] += pixels
    runs: list[list[int]] = []
    for value in dict.fromkeys(often):
        if runs and value - runs[-1][-1] <= 4:
            runs[-1].append(value)
        else:
            runs.append([value])
    return [max(run, key=lambda value: counts[value]) for run in runs][:12]


def size_reason(size: tuple[int, int], other: tuple[int, int]) -> str:
    text = f"{other[0]} x {other[1]} for {size[0]} x {size[1]}"
    if other == size[::-1]:
        return f"{text}, turned by 90 degrees"
    if other[0] * size[1] == other[1] * size[0]:
        return f"{text}, a clean scale of {other[0] / size[0]:g}"
    return text


_TAIL = re.compile(r"[._-][A-Za-z0-9._-]*$")


def name_hint(what: str, unmatched: Mapping[str, list[str]]) -> str:
    """Why names may not agree, where all of them differ in the same way."""
    if not what.startswith("images without "):
        return ""
    kind = what.removeprefix("images without ")
    extra = [line.split(" (at ")[0] for line in unmatched.get(f"{kind} files without an image", [])]
    missing = [line.split(" (expected ")[0] for line in unmatched[what]]
    if not extra:
        return ""
    lower = {name.lower(): name for name in extra}
    cased = [name for name in missing if lower.get(name.lower(), name) != name]
    if cased:
        return f"{len(cased):,} differ in upper and lower case alone, such as {cased[0]} and {lower[cased[0].lower()]}."
    ends: Counter[str] = Counter()
    for name in missing:
        for other in extra:
            if other.startswith(name) and other != name:
                ends[other[len(name) :]] += 1
    if ends:
        end, count = ends.most_common(1)[0]
        if Path(f"x{end}").suffix.lower() in IMAGE_SUFFIXES | ID_SUFFIXES:
            return f"{count:,} {kind} files have two suffixes, such as {missing[0]}{end}.png: take {end} out of their names."
        return f"{count:,} {kind} files end in {end!r} after the image's name: take that out of their names."
    return ""


def loose_files(sources: Sources) -> Found:
    """Files by name, the first of those that share one: to look at them although the layout is broken."""

    def listed(folder: Path | None, suffixes: frozenset[str]) -> dict[str, Path]:
        if folder is None or not folder.is_dir():
            return {}
        found: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            there = path.is_file() or (path.is_symlink() and not path.exists())
            if path.suffix.lower() in suffixes and there and not path.name.startswith("."):
                found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), path)
        return found

    # Of a root that holds more than images, only what its format takes for them.
    inner = {"voc": "JPEGImages", "cityscapes": "leftImg8bit", "ade20k": "images"}.get(sources.format)
    root = sources.images / inner if sources.images is not None and inner is not None else sources.images
    images = listed(root, IMAGE_SUFFIXES)
    labels = listed(sources.labels, ID_SUFFIXES)
    masks = listed(sources.masks, ID_SUFFIXES)
    truth = listed(sources.ground_truth, ID_SUFFIXES)
    names = sorted({*images, *labels})
    train = [
        Sample(image_id=n, image=images.get(n), labels=labels.get(n), masks=masks.get(n), ground_truth=truth.get(n))
        for n in names
    ]
    return Found(train=train, validation=[], root=root)
