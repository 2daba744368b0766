"""Choose the largest changes, to be shown as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from a2lc.classes.sentinels import FIRST
from a2lc.ledger.replay import SOURCES
from a2lc.report.facts import AUTOMATIC, MANUAL, UNDO, UNKNOWN, Facts

__all__ = ["PICTURES", "ShownChange"]


PICTURES = 12
"""Changes shown as pictures."""


@dataclass(frozen=True, kw_only=True)
class ShownChange:
    """A changed mask to be shown.

    Attributes:
        row: Row of the mask table.
        image: Index of the image.
        image_id: Name of the image.
        mask_id: Id in the mask map.
        old: Most frequent initial label.
        new: Current class.
        pixels: Pixels that changed class.
        area: Pixels of the mask.
        source: Origin of its class: `manual`, `automatic` or another of SOURCES.
        history: Its corrections in words, in order.
        true_class: Most frequent true class, VOID, or UNKNOWN.
    """

    row: int
    image: int
    image_id: str
    mask_id: int
    old: int
    new: int
    pixels: int
    area: int
    source: str
    history: list[str]
    true_class: int

    @property
    def right(self) -> bool | None:
        """Whether the class is the most frequent true class; None if that is not known."""
        return None if self.true_class == UNKNOWN else self.new == self.true_class


def largest_changes(facts: Facts, count: int = PICTURES) -> list[ShownChange]:
    """Choose the masks with the most changed pixels.

    Up to a third is reserved for manual and a third for automatic corrections, so that a few large manual ones do not hide
    all automatic ones.
    """
    changed = np.flatnonzero(facts.changed_pixels > 0)
    order = changed[np.argsort(-facts.changed_pixels[changed], kind="stable")]
    kept: list[int] = []
    for source in (MANUAL, AUTOMATIC):
        kept += order[facts.by[order] == source][: count // 3].tolist()
    kept += [row for row in order[:count].tolist() if row not in set(kept)][: count - len(kept)]
    current = facts.masks.current(facts.now)
    names = {image.index: image.image_id for image in facts.project.images}
    return [
        ShownChange(
            row=row,
            image=int(facts.masks.image[row]),
            image_id=names[int(facts.masks.image[row])],
            mask_id=int(facts.masks.mask_ids[row]),
            old=int(facts.masks.label[row]),
            new=int(current[row]),
            pixels=int(facts.changed_pixels[row]),
            area=int(facts.masks.area[row]),
            source=SOURCES[facts.by[row]],
            history=list(_history(facts, row)),
            true_class=int(facts.true_class[row]),
        )
        for row in sorted(kept, key=lambda row: (-facts.changed_pixels[row], row))
    ]


def _history(facts: Facts, row: int) -> Iterator[str]:
    """Yield a phrase for each correction of a mask."""
    for index in np.flatnonzero(facts.rows.keys == facts.masks.keys[row]):
        number, source = int(facts.rows.rounds[index]), int(facts.rows.source[index])
        if source == AUTOMATIC and facts.rows.new[index] == FIRST:
            yield f"withdrawn in round {number}"
        elif source == AUTOMATIC:
            yield f"automatic in round {number}, confidence {facts.confidence[index]:.3f}"
        elif source == MANUAL:
            confirmed = facts.rows.old[index] == facts.rows.new[index]
            yield f"{'confirmed manually' if confirmed else 'manual'} in round {number}"
        elif source == UNDO:
            yield f"undone after round {number}"
        else:
            yield f"{SOURCES[source]} in round {number}"
