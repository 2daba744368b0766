"""Label and mask maps: adding them to the evidence, and those with nothing in them."""

from __future__ import annotations

from collections.abc import Iterator

from a2lc.doctor.diagnosis import Finding, describe_finding
from a2lc.doctor.evidence import Evidence
from a2lc.doctor.files import MapFacts
from a2lc.images.sources import MapSource

__all__ = ["add_map", "check"]

_CASES = (
    ("all-void", "label files have no labelled pixels", "Check whether they were left unfinished."),
    ("same-map", "label files are identical to another one", "Check whether one was saved under two names."),
    ("masks-empty", "mask maps have no mask", "Nothing in these images can be asked about."),
)

_KINDS = (
    ("palette", "label files have a palette; the indices are read, and the colours are ignored"),
    ("wide", "label files have 16 bits, all of which are kept"),
)


def add_map(evidence: Evidence, what: str, source: MapSource, facts: MapFacts) -> None:
    """Add a map to the evidence; `what` is `labels`, `masks` or `ground truth`."""
    cases = evidence.cases
    if facts.refused is not None:
        code = {"colours": "colour-coded", "lossy": "lossy"}.get(facts.kind, "unreadable")
        cases[f"{code}:{what}"].add(source, facts.colours, facts.refused)
        return
    if what == "masks":
        evidence.masks_seen = True
        evidence.masked |= any(pixels for value, pixels in facts.values.items() if value)
        if set(facts.values) == {0}:
            cases["masks-empty"].add(source)
        return
    known = evidence.known
    if known is not None:
        unknown = {value: pixels for value, pixels in facts.values.items() if value not in known}
        if unknown:
            cases[f"values:{what}"].add(source, unknown)
            evidence.smooth.append(facts.smooth)
    if what == "labels":
        _add_labels(evidence, source, facts)
    else:
        evidence.seen_truth |= facts.values.keys()


def _add_labels(evidence: Evidence, source: MapSource, facts: MapFacts) -> None:
    evidence.kinds[facts.kind] += 1
    for value, pixels in facts.values.items():
        evidence.seen[value] += pixels
        evidence.seen_files[value] += 1
    for value, colour in facts.palette.items():
        evidence.palettes[value][colour] += 1
    classes = evidence.classes
    if classes is not None and not any(evidence.read_as(value) in classes.file_values for value in facts.values):
        evidence.cases["all-void"].add(source)
    if facts.digest:
        if facts.digest in evidence.maps_seen:
            evidence.cases["same-map"].add(f"{source} and {evidence.maps_seen[facts.digest]}")
        else:
            evidence.maps_seen[facts.digest] = str(source)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report maps with nothing in them or twice, labels that are the ground truth, and how label files are stored."""
    for code, text, fix in _CASES:
        if code in evidence.cases:
            case = evidence.cases[code]
            yield describe_finding(code, "doubt", f"{case.count:,} {text}.", case, fix=fix)
    if evidence.same_as_truth and evidence.same_as_truth == evidence.label_maps:
        yield Finding(
            code="labels-are-truth",
            level="doubt",
            message="The labels are identical to the ground truth, so there is nothing to correct.",
            count=evidence.same_as_truth,
            fix="Set `labels` to the labels to correct.",
        )
    if evidence.masks_seen and not evidence.masked:
        yield Finding(
            code="no-masks",
            level="fault",
            message="The mask maps contain no masks: all are 0 everywhere.",
            fix="Omit `masks` to use the connected components of the labels.",
        )
    void = evidence.cases["all-void"].count if "all-void" in evidence.cases else 0
    if evidence.seen.total() and not evidence.masks_seen and void and void == evidence.label_maps:
        yield Finding(
            code="no-class",
            level="fault",
            message="The labels carry no class: all pixels are unlabeled.",
            fix="Check the values and the classes file.",
        )
    for kind, text in _KINDS:
        if evidence.kinds[kind]:
            count = evidence.kinds[kind]
            yield Finding(code=kind, level="note", message=f"{count:,} {text}.", count=count)
