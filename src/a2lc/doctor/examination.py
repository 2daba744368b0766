"""Examine the files of a data set: report all that the import would refuse or that is worth checking, and change nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.creation.checks import pixels_of
from a2lc.doctor.checks import colours, exif, images, maps, names, palette, sizes, splits, values
from a2lc.doctor.diagnosis import Diagnosis, Finding, by_level
from a2lc.doctor.evidence import Evidence
from a2lc.doctor.files import ImageFacts, MapFacts, look_at_image, look_at_map
from a2lc.doctor.layout import other_splits
from a2lc.doctor.trial import try_remedies
from a2lc.errors import InputError
from a2lc.formats.base import Sample, Sources
from a2lc.formats.reading import check_map, read_source, with_ignore
from a2lc.formats.registry import find_reader
from a2lc.images.opening import one_at_a_time
from a2lc.images.options import ReadingOptions
from a2lc.images.sources import MapSource
from a2lc.io.concurrency import in_order
from a2lc.io.progress import Track, no_progress

__all__ = ["examine"]

CHECKS = (
    *(names.check, images.check, exif.check, splits.check, colours.check, sizes.check, values.check),
    *(palette.check, maps.check, images.check_set, values.check_set),
)
"""What turns evidence into findings, in the order in which findings of one level are reported."""


def examine(
    sources: Sources,
    classes: ClassTable | None = None,
    options: ReadingOptions | None = None,
    *,
    unknown: Sequence[Path] = (),
    track: Track = no_progress,
) -> Diagnosis:
    """Examine every file of a data set as the import would, and report all problems at once.

    Remedies of errors are tried: the files are examined once more as they are read with them, so that what is proposed is
    what the import accepts.

    Args:
        sources: Where the files are.
        classes: What label values mean; None for the classes of the format; without any, values are not checked.
        options: How files are read: a problem that they solve is not reported.
        unknown: Annotation files of no known format that lie beside them.
        track: Shows progress.

    Raises:
        UnknownNameError: There is no such format.
        ConfigError: The ignore value is a class.
        InputError: The value map reads a value as one that is no class.
    """
    options = options or ReadingOptions()
    evidence = gather(sources, classes, options, track)

    def look(others: ReadingOptions) -> list[Finding]:
        return list(findings_of(gather(sources, classes, others, track)))

    findings = try_remedies(list(findings_of(evidence)), options, look)
    if unknown:
        findings = [*findings, names.unknown_annotations(unknown)]
    return Diagnosis(images=evidence.images, label_maps=evidence.label_maps, findings=by_level(findings))


def findings_of(evidence: Evidence) -> Iterator[Finding]:
    """Run all checks on the evidence."""
    for check in CHECKS:
        yield from check(evidence)


def gather(sources: Sources, classes: ClassTable | None, options: ReadingOptions, track: Track) -> Evidence:
    """Look at all files of a data set, and at those of other splits beside it."""
    evidence = _opened(sources, classes, options)
    for split, others in other_splits(evidence.sources).items():
        splits.add_split(evidence, split, others)
    work = [(sample, "train") for sample in evidence.found.train]
    work += [(sample, "validation") for sample in evidence.found.validation]
    work += evidence.others

    def look(item: tuple[Sample, str]) -> tuple[ImageFacts | None, dict[str, MapFacts]]:
        return _facts(evidence, item[0])

    with (
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
        track("checking files", len(work)) as advance,
    ):
        for (sample, split), (image, facts) in zip(work, in_order(pool, look, work), strict=True):
            advance()
            _add(evidence, sample, split, image, facts)
    return evidence


def _opened(sources: Sources, classes: ClassTable | None, options: ReadingOptions) -> Evidence:
    """Find the files as the format's reader does, or by their names alone if it refuses them."""
    sources = replace(sources, max_pixels=options.max_pixels)
    if options.ignore is not None and classes is not None:
        classes = with_ignore(classes, options.ignore)
    reader, error = find_reader(sources.format), ""
    try:
        found = reader(sources, classes=classes)
        if "images without labels" in found.unmatched:
            # They are looked at all the same; what is missing is known by now.
            found = replace(reader(sources, partial=True, classes=classes), unmatched=found.unmatched)
    except InputError as refused:
        found, error = names.loose_files(sources), str(refused)
    table = classes or found.classes
    if table is not None:
        if options.ignore is not None and classes is None:
            table = with_ignore(table, options.ignore)
        options = replace(options, value_map=found.value_map(table) | options.value_map)
        check_map(options.value_map, table)
    return Evidence(sources=sources, options=options, found=found, classes=table, layout_error=error)


def _maps_of(sample: Sample) -> dict[str, MapSource]:
    given = {"labels": sample.labels, "masks": sample.masks, "ground truth": sample.ground_truth}
    return {kind: source for kind, source in given.items() if source is not None}


def _facts(evidence: Evidence, sample: Sample) -> tuple[ImageFacts | None, dict[str, MapFacts]]:
    """Look at the image and the maps of a sample; called from several threads."""
    options, limit = evidence.options, evidence.options.max_pixels

    def read(kind: str, source: MapSource) -> NDArray[Any]:
        return read_source(source, None if kind == "masks" else evidence.classes, options)[0]

    def look() -> tuple[ImageFacts | None, dict[str, MapFacts]]:
        image = None if sample.image is None else look_at_image(sample.image, limit)
        facts = {
            kind: look_at_map(source, partial(read, kind), None if kind == "masks" else evidence.known, limit)
            for kind, source in _maps_of(sample).items()
        }
        return image, facts

    return one_at_a_time(pixels_of(sample, limit), look)


def _add(evidence: Evidence, sample: Sample, split: str, image: ImageFacts | None, facts: dict[str, MapFacts]) -> None:
    """Add what was seen of a sample to the evidence."""
    size = size_of_maps = next((one.size for one in facts.values() if one.size is not None), None)
    if image is not None:
        readable = images.add_image(evidence, sample, split, image)
        size = exif.size_of(evidence, sample, image, size_of_maps) if readable else None
    sources = _maps_of(sample)
    for kind, one in facts.items():
        maps.add_map(evidence, kind, sources[kind], one)
        if size is not None and one.size is not None and one.size != size:
            sizes.add_size(evidence, f"{sources[kind]} ({kind} of {sample.image or sample.image_id})", size, one.size)
    if split == "train":
        images.add_usable(evidence, sample, image, facts)
    labels, truth = facts.get("labels"), facts.get("ground truth")
    if labels is not None and truth is not None and labels.digest and labels.digest == truth.digest:
        evidence.same_as_truth += 1
