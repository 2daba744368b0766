"""What the masks of a project carried at the end of each round, from one reading of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2lc.ledger import MaskState, replay

if TYPE_CHECKING:
    from a2lc.project.project import Project

__all__ = ["LabelHistory"]


class LabelHistory:
    """Corrections, undos and layers of a project, read once, and the state of its masks at the end of any round.

    It is of the moment at which it was made: what is recorded later is not in it.

    Args:
        project: Opened.

    Attributes:
        rows: All corrections.
        undos: What was undone.
    """

    def __init__(self, project: Project) -> None:
        self.rows = project.corrections()
        self.undos = project.ledger.undos()
        self._layers = project.ledger.layers()
        self._project = project
        self._states: dict[int | None, MaskState] = {}

    def state(self, through: int | None = None) -> MaskState:
        """Return what each mask carried at the end of a round, or carries now, and the layer in force over it."""
        if through not in self._states:
            rows, keys = self.rows.through(through), self._project.masks.keys
            self._states[through] = self._project.layers.over(
                replay(rows, keys), rows, keys, through, layers=self._layers, undos=self.undos
            )
        return self._states[through]
