"""The findings of the doctor, as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from a2lc.doctor.remedies import Remedy, joined

__all__ = [
    "Case",
    "Diagnosis",
    "Finding",
    "Level",
    "ValueCount",
    "by_level",
    "colour_name",
    "describe_finding",
    "remedies_of",
    "rgb",
    "slug",
]


Level = Literal["fault", "doubt", "note"]
"""Names of the levels in records; people read error, warning and info."""


@dataclass(frozen=True, kw_only=True)
class ValueCount:
    """A value of label files, how many pixels have it, and in how many files."""

    value: str
    pixels: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem or fact.

    Attributes:
        code: Its short name, the same in every version.
        level: `fault` is an error, which the import refuses; `doubt` is a warning: accepted, but worth checking; `note` is
            information that needs no action.
        message: What it is; settings are named in backticks.
        count: Number of files it is about.
        files: The first five of them.
        values: Values and pixels it is about.
        fix: What to do.
        remedies: Reading options that do it, if options can.
    """

    code: str
    level: Level
    message: str
    count: int = 0
    files: tuple[str, ...] = ()
    values: tuple[ValueCount, ...] = ()
    fix: str = ""
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All findings on a data set or a project.

    Attributes:
        images: Number of images.
        label_maps: Number of label maps.
        findings: Errors first, then warnings, then information.
    """

    images: int
    label_maps: int
    findings: tuple[Finding, ...]

    def of(self, level: Level) -> list[Finding]:
        """Return the findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def remedies(self) -> tuple[Remedy, ...] | None:
        """Options under which the import accepts the files: () if none are needed, None if no options are enough."""
        return remedies_of(self.findings)


def remedies_of(findings: Iterable[Finding]) -> tuple[Remedy, ...] | None:
    """Return the remedies of all errors among findings, without repetitions; None if an error has none."""
    errors = [finding for finding in findings if finding.level == "fault"]
    if any(not error.remedies for error in errors):
        return None
    return joined(remedy for error in errors for remedy in error.remedies)


def by_level(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings in the order error, warning, information."""
    order = {"fault": 0, "doubt": 1, "note": 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.level]))


@dataclass
class Case:
    """Evidence of one kind, which grows file by file.

    Attributes:
        count: Number of files.
        files: The first five of them.
        pixels: Pixels of each value or colour that it is about.
        with_value: Files that have each of these.
        reasons: Why each of the first five files is among them.
    """

    count: int = 0
    files: list[str] = field(default_factory=list)
    pixels: Counter[Any] = field(default_factory=Counter)
    with_value: Counter[Any] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    def add(self, file: object, values: Mapping[Any, int] | None = None, reason: str = "") -> None:
        """Add a file, with the pixels of each value that it is about."""
        self.count += 1
        if len(self.files) < 5:
            self.files.append(str(file))
            self.reasons.append(reason)
        for value, pixels in (values or {}).items():
            self.pixels[value] += pixels
            self.with_value[value] += 1

    def values(self, name: Callable[[Any], str] = str) -> tuple[ValueCount, ...]:
        """Return the twelve most frequent values, each under the name that `name` gives it."""
        return tuple(
            ValueCount(value=name(value), pixels=pixels, files=self.with_value[value])
            for value, pixels in self.pixels.most_common(12)
        )


def describe_finding(
    code: str,
    level: Level,
    message: str,
    case: Case,
    *,
    values: tuple[ValueCount, ...] = (),
    fix: str = "",
    remedies: tuple[Remedy, ...] = (),
) -> Finding:
    """Return the finding on the files of a case."""
    return Finding(
        code=code,
        level=level,
        message=message,
        count=case.count,
        files=tuple(case.files),
        values=values,
        fix=fix,
        remedies=remedies,
    )


def slug(what: str) -> str:
    """Return a kind of files, such as `ground truth`, as part of a code."""
    return what.replace(" ", "-")


def rgb(code: int) -> tuple[int, int, int]:
    """Return the red, green and blue of a colour that is one number, red first."""
    return code >> 16, code >> 8 & 255, code & 255


def colour_name(code: int) -> str:
    """Return a colour that is one number as text: (red, green, blue)."""
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"
