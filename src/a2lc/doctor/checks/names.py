"""Names and layout: files without a partner, label maps among images, and files of no known format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from a2lc.doctor.diagnosis import Finding
from a2lc.doctor.evidence import Evidence
from a2lc.doctor.layout import maps_among_images
from a2lc.doctor.remedies import Remedy
from a2lc.formats.base import Found, Sample, Sources
from a2lc.images.limits import ID_SUFFIXES, IMAGE_SUFFIXES

__all__ = ["check", "loose_files", "unknown_annotations"]


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report a layout that contradicts itself, label maps among the images, and files without a partner."""
    if evidence.layout_error:
        yield Finding(
            code="layout",
            level="fault",
            message=evidence.layout_error,
            fix="Fix the problem that the message describes.",
        )
    yield from _among_images(evidence)
    yield from _unmatched(evidence)
    for note in evidence.found.notes:
        yield Finding(code="layout", level="note", message=f"{note}.")


def _among_images(evidence: Evidence) -> Iterator[Finding]:
    """Report label maps that lie in the folder of images, under the images' names."""
    folder = evidence.sources.images
    if evidence.sources.format != "folder" or folder is None or not folder.is_dir():
        return
    maps = maps_among_images(folder, evidence.options.max_pixels)
    if maps:
        yield Finding(
            code="layout",
            level="fault" if evidence.layout_error else "doubt",
            message=(
                f"{len(maps):,} files beside the images look like label maps: they have few values, and the name of "
                "an image."
            ),
            count=len(maps),
            files=tuple(map(str, maps[:5])),
            fix="Move them into a folder of their own, under the exact names of their images, and set `labels` to it.",
        )


def _unmatched(evidence: Evidence) -> Iterator[Finding]:
    options = evidence.options
    for what, names in evidence.found.unmatched.items():
        option, fix, solved = (
            "skip_bad",
            "Add, remove or rename files so that their names match, or continue without them.",
            False,
        )
        if what == "images without labels":
            option, solved = "partial", options.partial
            fix = "Accept them as unlabeled, or give the files the names of their images."
        elif what == "images without ground truth":
            option, solved = "partial_truth", options.partial_truth
            fix = "Measure only the other images, or give the files the names of their images."
        if solved or options.skip_bad:
            continue
        hint = _hint(what, evidence.found.unmatched)
        yield Finding(
            code=what.replace(" ", "-"),
            level="fault",
            message=f"{len(names):,} {what}." + (f" {hint}" if hint else ""),
            count=len(names),
            files=tuple(names[:5]),
            fix=fix,
            remedies=(Remedy(option=option, value=True),),
        )


def _hint(what: str, unmatched: Mapping[str, list[str]]) -> str:
    """Return why names may not agree, if all of them differ in the same way; "" otherwise."""
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
        return f"{len(cased):,} differ only in upper and lower case, such as {cased[0]} and {lower[cased[0].lower()]}."
    ends: Counter[str] = Counter()
    for name in missing:
        for other in extra:
            if other.startswith(name) and other != name:
                ends[other[len(name) :]] += 1
    if ends:
        end, count = ends.most_common(1)[0]
        if Path(f"x{end}").suffix.lower() in IMAGE_SUFFIXES | ID_SUFFIXES:
            return (
                f"{count:,} {kind} files have two suffixes, such as {missing[0]}{end}.png. Remove {end} from their "
                "names."
            )
        return f"{count:,} {kind} files end in {end!r} after the name of the image. Remove it from their names."
    return ""


def unknown_annotations(paths: Sequence[Path]) -> Finding:
    """Report annotation files of no known format."""
    return Finding(
        code="unknown-annotations",
        level="doubt",
        message=f"{len(paths)} annotation files have an unknown format or are damaged, and are ignored.",
        count=len(paths),
        files=tuple(f"{path} ({path.stat().st_size:,} bytes)" for path in paths[:5]),
        fix=(
            "Export them again; docs/formats.md lists the formats. Set `format` and `labels` to name a file and "
            "its format."
        ),
    )


def loose_files(sources: Sources) -> Found:
    """Find files by name, the first of those that share one, to look at them although the layout is broken."""

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
