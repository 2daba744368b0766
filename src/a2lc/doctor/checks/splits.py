"""Pictures that are in the data set twice, in one split or in two."""

from __future__ import annotations

from collections.abc import Iterator

from a2lc.doctor.checks.names import loose_files
from a2lc.doctor.diagnosis import Finding, describe_finding
from a2lc.doctor.evidence import Evidence
from a2lc.formats.base import Sources

__all__ = ["add_split", "check"]

_CASES = (
    (
        "split-leak",
        ("images are in both training and validation, so a model would be measured on images that it was trained on"),
        "Remove them from one of the two.",
    ),
    ("image-twice", "images are the same picture as another", "Keep one of each, unless the repetition is intended."),
)


def add_split(evidence: Evidence, name: str, sources: Sources) -> None:
    """Add the files of another split: its pictures must not be those of this one, and its labels are read alike."""
    found = loose_files(sources)
    known = {sample.image for sample in [*evidence.found.train, *evidence.found.validation]}
    evidence.others += [(sample, name) for sample in found.train if sample.image not in known]
    for sample in found.train:
        if sample.image is not None and sample.labels is None and sources.labels is not None:
            expected = f"{sample.image_id} (expected {sources.labels / sample.image_id}.png)"
            evidence.found.unmatched.setdefault("images without labels", []).append(expected)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report pictures that are there twice."""
    for code, text, fix in _CASES:
        if code in evidence.cases:
            case = evidence.cases[code]
            yield describe_finding(code, "doubt", f"{case.count:,} {text}.", case, fix=fix)
