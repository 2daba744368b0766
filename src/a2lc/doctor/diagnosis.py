"""What the doctor found, as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Case", "Diagnosis", "Finding", "ValueCount", "colour_name", "describe_finding", "rgb", "slug"]


Level = Literal["fault", "doubt", "note"]


@dataclass(frozen=True, kw_only=True)
class ValueCount:
    """A value of label files, how many pixels have it, and in how many files."""

    value: str
    pixels: int
    files: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: Its short name, the same in every version.
        level: `fault` is refused by the import, `doubt` is read and should be looked at, `note` is how it is.
        message: What it is.
        count: Files it is about.
        files: The first five of them.
        values: Values and pixels it is about.
        mend: What to do.
        flags: Options of `a2lc init` that do it, if options can.
    """

    code: str
    level: Level
    message: str
    count: int = 0
    files: tuple[str, ...] = ()
    values: tuple[ValueCount, ...] = ()
    mend: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was found.

    Attributes:
        images: Images.
        label_maps: Label maps.
        findings: Faults first, then doubts, then notes.
    """

    images: int
    label_maps: int
    findings: tuple[Finding, ...]

    def of(self, level: Level) -> list[Finding]:
        """The findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def mended_by(self) -> tuple[str, ...] | None:
        """Options under which the import takes the files, () if it does as they are, None if no option is enough."""
        faults = self.of("fault")
        if any(not fault.flags for fault in faults):
            return None
        flags = list(dict.fromkeys(flag for fault in faults for flag in fault.flags))
        # Labels and ground truth may be blurred by different amounts: the farther reaches both.
        snaps = sorted((flag for flag in flags if flag.startswith("--snap ")), key=lambda flag: int(flag.split()[1]))
        return tuple(flag for flag in flags if flag not in snaps[:-1])


@dataclass
class Case:
    """A finding that grows file by file."""

    count: int = 0
    files: list[str] = field(default_factory=list)
    pixels: Counter[Any] = field(default_factory=Counter)
    with_value: Counter[Any] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    def add(self, file: object, values: Mapping[Any, int] | None = None, reason: str = "") -> None:
        self.count += 1
        if len(self.files) < 5:
            self.files.append(str(file))
            self.reasons.append(reason)
        for value, pixels in (values or {}).items():
            self.pixels[value] += pixels
            self.with_value[value] += 1

    def values(self, name: Callable[[Any], str] = str) -> tuple[ValueCount, ...]:
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
    mend: str = "",
    flags: tuple[str, ...] = (),
) -> Finding:
    return Finding(
        code=code,
        level=level,
        message=message,
        count=case.count,
        files=tuple(case.files),
        values=values,
        mend=mend,
        flags=flags,
    )


def slug(what: str) -> str:
    return what.replace(" ", "-")


def rgb(code: int) -> tuple[int, int, int]:
    return code >> 16, code >> 8 & 255, code & 255


def colour_name(code: int) -> str:
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"
