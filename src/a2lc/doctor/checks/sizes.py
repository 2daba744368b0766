"""Maps of another size than their image."""

from __future__ import annotations

from collections.abc import Iterator

from a2lc.doctor.diagnosis import Finding, describe_finding
from a2lc.doctor.evidence import Evidence

__all__ = ["add_size", "check"]


def add_size(evidence: Evidence, file: str, size: tuple[int, int], other: tuple[int, int]) -> None:
    """Note a map of size `other` that belongs to an image of size `size`, both as width and height."""
    text = f"{other[0]} x {other[1]} for {size[0]} x {size[1]}"
    if other == size[::-1]:
        text = f"{text}, rotated by 90 degrees"
    elif other[0] * size[1] == other[1] * size[0]:
        text = f"{text}, scaled by {other[0] / size[0]:g}"
    evidence.cases["size"].add(file, reason=text)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report maps whose size is not that of their image."""
    if "size" in evidence.cases:
        case = evidence.cases["size"]
        yield describe_finding(
            "size",
            "fault",
            f"{case.count:,} maps differ in size from their image: {' | '.join(dict.fromkeys(case.reasons))}",
            case,
            fix=(
                "Resize map or image to the same size: label maps with nearest-neighbour interpolation, never smoothed."
            ),
        )
