"""Palettes that paint an id in the colour of another class: labels whose order was lost on the way."""

from __future__ import annotations

from collections.abc import Iterator

from a2lc.doctor.diagnosis import Finding, ValueCount
from a2lc.doctor.evidence import Evidence

__all__ = ["check"]


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report values that most palettes paint in the colour of another class."""
    if evidence.classes is None or not evidence.palettes:
        return
    classes = evidence.classes
    by_colour = dict(zip(classes.colours, classes.file_values, strict=True))
    names = dict(zip(classes.file_values, classes.names, strict=True))
    wrong, files = [], 0
    for value, colours in sorted(evidence.palettes.items()):
        colour, count = colours.most_common(1)[0]
        painted = by_colour.get(colour)
        if painted is not None and painted != value and value in names:
            files = max(files, count)
            wrong.append(
                ValueCount(
                    value=f"{value} ({names[value]}) is shown in the colour of {names[painted]}",
                    pixels=evidence.seen[value],
                    files=count,
                )
            )
    if wrong:
        yield Finding(
            code="palette-order",
            level="doubt",
            message=(
                f"{len(wrong)} values have the palette colour of another class, so the order of labels was probably "
                "lost."
            ),
            count=files,
            values=tuple(wrong[:12]),
            fix="If the colours are right, use the ids of the files in the classes file.",
        )
