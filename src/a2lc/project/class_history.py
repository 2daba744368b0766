"""Classes over the life of a project: those imported, and what was done to them since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.edits import ClassEdit, ClassView, class_change, replay_edits, view_of
from a2lc.classes.table import ClassTable

__all__ = ["ClassHistory"]


class ClassHistory:
    """The classes as imported, their edits, and translations between then and now.

    Args:
        imported: The classes as they were imported.
        edits: What was done to them, in recorded order.
    """

    def __init__(self, imported: ClassTable, edits: Sequence[ClassEdit]) -> None:
        self.imported = imported
        self.edits = list(edits)
        self.view: ClassView = self.before(None)

    def before(self, round_index: int | None) -> ClassView:
        """Return the classes as they were when a round began; None for those there are now."""
        if not self.edits:
            return view_of(self.imported)
        return replay_edits(self.imported, self.edits, before=round_index)

    def change_since(self, round_index: int) -> NDArray[np.float32] | None:
        """Return (K', K) that turns probabilities of a round's model into those over the classes there are now.

        None if nothing changed. Files of a round that hold class indices are translated by `labels_since`.
        """
        return None if not self.edits else class_change(self.before(round_index), self.view)

    def labels_since(self, round_index: int, labels: NDArray[Any]) -> NDArray[Any]:
        """Translate class indices that a file of a round holds to those of now; sentinels stay."""
        if not self.edits:
            return labels
        return self.view.indices(self.before(round_index).coded(labels))

    def same_since(self, round_index: int) -> list[int | None] | None:
        """Return, for each class there is now, its index in a round if it was the very same class then; None if all were.

        A class that others were merged into since, that was split, or that is new, was not.
        """
        later = [edit for edit in self.edits if edit.round >= round_index]
        if all(edit.kind == "rename" for edit in later):
            return None
        old = self.before(round_index)
        gone = {edit.details["edit"] for edit in later if edit.kind == "undo"}
        parted = {edit.codes[0] for edit in later if edit.kind == "split" and edit.number not in gone}
        indices: list[int | None] = []
        for index in range(self.view.table.num_classes):
            was = [o for o, code in enumerate(old.codes.tolist()) if self.view.places[code] == index]
            indices.append(was[0] if len(was) == 1 and int(old.codes[was[0]]) not in parted else None)
        return indices

    def codes_before(self, edit: ClassEdit) -> int:
        """Count the codes there were before an edit: those it added begin there."""
        earlier = [one for one in self.edits if one.number < edit.number]
        return len(replay_edits(self.imported, earlier).places)
