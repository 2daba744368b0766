"""Compare the labels of each class before and after correction."""

from __future__ import annotations

from dataclasses import dataclass

from a2lc.classes.sentinels import VOID
from a2lc.report.facts import Facts

__all__ = ["ClassRow"]


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class before and after.

    Attributes:
        index: Class index; VOID for unlabeled pixels.
        name: Class name.
        colour: RGB, 0..255.
        pixels_before: Pixels of the initial labels inside masks.
        pixels_after: Pixels of the current labels inside masks.
        iou_before: IoU of the initial labels; None without ground truth, NaN if the class does not occur.
        iou_after: IoU of the current labels.
    """

    index: int
    name: str
    colour: tuple[int, int, int]
    pixels_before: int
    pixels_after: int
    iou_before: float | None
    iou_after: float | None

    @property
    def change(self) -> float | None:
        """Difference of IoU, after minus before."""
        return None if self.iou_before is None or self.iou_after is None else self.iou_after - self.iou_before


VOID_COLOUR = (224, 224, 192)
"""Colour of unlabeled pixels, as in the palette of VOC."""


def class_rows(facts: Facts) -> list[ClassRow]:
    """Compute the section: a row for each class, and one for unlabeled pixels if there are any."""
    before, void_before = facts.masks.pixels_by_class(facts.first, facts.num_classes)
    after, void_after = facts.masks.pixels_by_class(facts.now, facts.num_classes)
    iou: list[tuple[float | None, float | None]] = [(None, None)] * facts.num_classes
    if facts.truth is not None:
        old, new = (facts.project.truth.confusion(state).iou for state in (facts.first, facts.now))
        iou = list(zip(old.tolist(), new.tolist(), strict=True))
    table = facts.project.classes
    rows = [
        ClassRow(
            index=index,
            name=table.names[index],
            colour=table.colours[index],
            pixels_before=int(before[index]),
            pixels_after=int(after[index]),
            iou_before=iou[index][0],
            iou_after=iou[index][1],
        )
        for index in range(facts.num_classes)
    ]
    if void_before or void_after:
        rows.append(
            ClassRow(
                index=VOID,
                name=facts.name(VOID),
                colour=VOID_COLOUR,
                pixels_before=void_before,
                pixels_after=void_after,
                iou_before=None,
                iou_after=None,
            )
        )
    return rows
