"""Ground truth of a project: for the simulated annotator, the metrics and the report alone; no method is handed it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.edits import ClassView
from a2lc.classes.sentinels import VOID
from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError
from a2lc.ledger.replay import MaskState
from a2lc.masks.truth import TruthTable
from a2lc.records import ImageRecord
from a2lc.statistics.metrics import ConfusionCounts

__all__ = ["TruthStore"]


class TruthStore:
    """Reads ground truth in the classes there are now.

    Args:
        folder: Of the project.
        imported: The classes as they were imported.
        view: The classes there are now.
        max_pixels: Larger label maps are refused.
        round_folder: From a round to its folder.
    """

    def __init__(
        self,
        folder: Path,
        imported: ClassTable,
        view: ClassView,
        max_pixels: int,
        round_folder: Callable[[int], Path],
    ) -> None:
        self.folder = folder
        self.imported = imported
        self.view = view
        self.max_pixels = max_pixels
        self.round_folder = round_folder
        self._layers: dict[int, TruthTable] = {}

    @property
    def exists(self) -> bool:
        """Whether the images to correct came with ground truth."""
        return (self.folder / "tables" / "truth.parquet").is_file()

    @cached_property
    def table(self) -> TruthTable:
        """Counts of pixels by mask, initial label and true class.

        Raises:
            InputError: The project has no ground truth.
        """
        if not self.exists:
            raise InputError(
                "The project has no ground truth, so answers cannot be simulated and labels cannot be measured. "
                "Set `annotator` to human, or create the project with `ground_truth`."
            )
        return self.read(self.folder / "tables" / "truth.parquet")

    def read(self, path: Path) -> TruthTable:
        """Read a table of ground truth, in the classes there are now."""
        return TruthTable.load(path).seen_by(self.view)

    def write(self, path: Path, table: TruthTable) -> None:
        """Write a table of ground truth, in codes of classes."""
        table.coded(self.view).save(path)

    def pixels(self, image: ImageRecord) -> NDArray[Any]:
        """Read the true class indices of an image, the ignore index for none: (H, W).

        Raises:
            MissingFileError: The file is gone.
        """
        from a2lc.images.label_maps import read_ids

        path = self.folder / "ground_truth" / f"{image.image_id}.png"
        if not path.is_file():
            raise MissingFileError(f"{path} is missing: the project folder is damaged. Restore it from a copy.")
        stored = read_ids(path, max_pixels=self.max_pixels)
        if self.view.plain:
            return stored
        # The file holds codes, and the ignore index of as many classes as there were.
        codes = np.where(stored == self.imported.ignore_index, VOID, stored.astype(np.int32))
        indices = self.view.indices(codes)
        classes = self.view.table
        return np.where(indices == VOID, classes.ignore_index, indices).astype(classes.dtype)

    def confusion(self, state: MaskState) -> ConfusionCounts:
        """Count the corrected labels of a state against ground truth.

        Raises:
            InputError: The project has no ground truth.
        """
        table = self.table
        if state.layer is not None:
            if state.layer not in self._layers:
                self._layers[state.layer] = self.read(self.round_folder(state.layer) / "truth.parquet")
            table = self._layers[state.layer]
        return table.confusion(state, self.view.table.num_classes)
