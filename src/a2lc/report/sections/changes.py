"""The largest changes, as pictures."""

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
        row: Of the mask table.
        image: Position of the image.
        image_id: Its name.
        mask_id: Id in the mask map.
        old: Most frequent first label.
        new: Class now.
        pixels: Pixels that changed class.
        area: Pixels of the mask.
        source: `manual`, `automatic` or another of SOURCES: what its class comes from.
        history: What happened to it, in order.
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
        """Whether the class is the most frequent true one; None where nobody knows."""
        return None if self.true_class == UNKNOWN else self.new == self.true_class


def largest_changes(facts: Facts, count: int = PICTURES) -> list[ShownChange]:
    """Make section 6: the masks with the most changed pixels.

    A third of the places is kept for either source, where it has as many: a few large manual corrections must not
    hide all automatic ones.
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
    """What happened to a mask, a phrase for each of its corrections."""
    for place in np.flatnonzero(facts.rows.keys == facts.masks.keys[row]):
        number, source = int(facts.rows.rounds[place]), int(facts.rows.source[place])
        if source == AUTOMATIC and facts.rows.new[place] == FIRST:
            yield f"withdrawn in round {number}"
        elif source == AUTOMATIC:
            yield f"automatic in round {number}, confidence {facts.confidence[place]:.3f}"
        elif source == MANUAL:
            confirmed = facts.rows.old[place] == facts.rows.new[place]
            yield f"{'confirmed by hand' if confirmed else 'by hand'} in round {number}"
        elif source == UNDO:
            yield f"taken back after round {number}"
        else:
            yield f"{SOURCES[source]} in round {number}"
