"""Options that mend a finding, tried before they are proposed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from a2lc.classes.table import ClassTable
from a2lc.doctor.diagnosis import Diagnosis, Finding
from a2lc.errors import InputError
from a2lc.formats.base import Sources
from a2lc.images.multiband import Stretch
from a2lc.images.options import ReadingOptions
from a2lc.io.progress import Track

__all__ = ["try_remedies"]


_TRIES = 4
"""Looks at most, each with the options that the one before proposed."""


def try_remedies(
    sources: Sources, classes: ClassTable | None, options: ReadingOptions, findings: list[Finding], track: Track
) -> list[Finding]:
    """The findings, with what the import would still refuse under the options that they propose."""
    from a2lc.doctor.examination import looked

    flags: tuple[str, ...] = ()
    for _ in range(_TRIES):
        flags = Diagnosis(images=0, label_maps=0, findings=tuple(findings)).mended_by or ()
        if not flags:
            return findings
        try:
            doctor = looked(sources, classes, _with_flags(options, flags), track)
            left = [one for one in doctor.findings() if one.level == "fault"]
        except InputError as error:
            return [*findings, _not_enough(flags, str(error))]
        if not left:
            return findings
        said = {one.code for one in findings if one.level == "fault"}
        old = [one for one in left if one.code in said or not one.flags]
        if old:
            return [*findings, _not_enough(flags, old[0].message)]
        findings += left
    return [*findings, _not_enough(flags, left[0].message)]


def _not_enough(flags: Sequence[str], reason: str) -> Finding:
    return Finding(
        code="options-not-enough",
        level="fault",
        message=f"With {' '.join(flags)}, the import would still refuse: {reason}",
        mend="Mend the files first, or leave out those that differ from the others.",
    )


def _with_flags(options: ReadingOptions, flags: Iterable[str]) -> ReadingOptions:
    """The options under options as the doctor proposes them.

    Raises:
        InputError: They contradict each other, or the options.
    """
    changed: dict[str, Any] = {}

    def put(name: str, value: Any) -> None:
        if changed.setdefault(name, value) != value:
            raise InputError(f"the options ask for {name} {changed[name]} and {value}, for different files.")

    value_map = dict(options.value_map)
    for flag in flags:
        name, _, value = flag.partition(" ")
        match name:
            case "--map":
                read, becomes = map(int, value.split("="))
                if value_map.setdefault(read, becomes) != becomes:
                    raise InputError(f"the options read {read} as {value_map[read]} and as {becomes}.")
            case "--ignore" | "--snap":
                put(name.removeprefix("--"), int(value))
            case "--bands":
                put("bands", tuple(map(int, value.split(","))))
            case "--stretch":
                low, high = map(float, value.split(":"))
                put("stretch", Stretch(low, high))
            case "--exif":
                put("exif", value)
            case "--bake-exif":
                put("exif", "bake")
            case _:
                alone = {"--colours": "colours", "--skip-bad": "skip_bad", "--partial": "partial"}
                put({**alone, "--partial-ground-truth": "partial_truth"}[name], True)
    return replace(options, value_map=value_map, **changed)
