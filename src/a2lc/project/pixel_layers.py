"""Pixel-level labels of a project: layers of a round, and labels that came with answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.edits import ClassView
from a2lc.classes.sentinels import KEEP
from a2lc.errors import LedgerError, MissingFileError
from a2lc.io.files import sha256
from a2lc.ledger import CorrectionRows, LayerRecord, Ledger, MaskState, UndoRecord
from a2lc.ledger.undo import deciders
from a2lc.records import ImageRecord

__all__ = ["PixelLayers"]


class PixelLayers:
    """Reads and writes files of pixel-level labels, named by their hashes in the ledger.

    Args:
        folder: Of the project.
        ledger: Of the project.
        view: The classes there are now.
        max_pixels: Larger files are refused.
        round_folder: From a round to its folder.
    """

    def __init__(
        self, folder: Path, ledger: Ledger, view: ClassView, max_pixels: int, round_folder: Callable[[int], Path]
    ) -> None:
        self.folder = folder
        self.ledger = ledger
        self.view = view
        self.max_pixels = max_pixels
        self.round_folder = round_folder
        self._files: dict[int, dict[int, tuple[str, int]]] = {}

    def in_force(
        self,
        through: int | None = None,
        *,
        layers: Sequence[LayerRecord] | None = None,
        undos: Sequence[UndoRecord] | None = None,
    ) -> LayerRecord | None:
        """Return the last layer of pixel-level labels that is in force at the end of a round.

        A layer rests on all answers so far. Taking back a round's answers takes back the layers made from then on; taking
        back what the method did takes back that round's layer, unless people labelled its pixels themselves.

        Args:
            through: The round; None for now.
            layers: All layers, where the caller has them.
            undos: All undos, where the caller has them.
        """
        layers = self.ledger.layers() if layers is None else layers
        found = [layer for layer in layers if through is None or layer.round <= through]
        if not found:
            return None
        for undo in self.ledger.undos() if undos is None else undos:
            if through is not None and undo.round >= through:
                continue
            # Later ones know of the undo.
            made = [layer for layer in found if layer.round <= max(undo.round, undo.undone)]
            if undo.source == "automatic":
                gone = {layer.round for layer in made if layer.round == undo.undone and not layer.by_hand}
            else:
                gone = {layer.round for layer in made if layer.round >= undo.undone}
            found = [layer for layer in found if layer.round not in gone]
        return found[-1] if found else None

    def files(self, round_index: int) -> dict[int, tuple[str, int]]:
        """Return hash and pixels of the file of each image that a round's layer labels."""
        if round_index not in self._files:
            self._files[round_index] = self.ledger.layer_files(round_index)
        return self._files[round_index]

    def over(
        self,
        state: MaskState,
        rows: CorrectionRows,
        keys: NDArray[np.uint64],
        through: int | None = None,
        *,
        layers: Sequence[LayerRecord] | None = None,
        undos: Sequence[UndoRecord] | None = None,
    ) -> MaskState:
        """Return a replay of corrections with the layer of pixel-level labels that is in force at the end of a round.

        Args:
            state: The replay.
            rows: Its corrections.
            keys: (M,) ascending keys of the masks.
            through: The round; None for now.
            layers: All layers, where the caller has them.
            undos: All undos, where the caller has them.
        """
        undos = self.ledger.undos() if undos is None else undos
        layer = self.in_force(through, layers=layers, undos=undos)
        if layer is None:
            return state
        # Read now: loaders in other processes must not reach for the ledger.
        self.files(layer.round)
        # Behind an undo row stands the correction it went back to; initial labels are older than any layer.
        known = [undo for undo in undos if through is None or undo.round < through]
        decider = deciders(rows, known, state, keys)
        newer = decider >= 0
        newer[newer] = rows.ids[decider[newer]] > layer.after
        return replace(state, layer=layer.round, newer=newer)

    def pixels(self, round_index: int, image: ImageRecord) -> NDArray[np.int32] | None:
        """Read the pixel-level labels of an image, (H, W): class, VOID, or KEEP; None if the layer has none.

        Raises:
            MissingFileError: Its file is gone.
            LedgerError: Its file is not the one that was recorded.
        """
        recorded = self.files(round_index).get(image.index)
        if recorded is None:
            return None
        return self._read(self.round_folder(round_index) / "pixels" / f"{image.image_id}.png", recorded[0])

    def answered(self, digest: str) -> NDArray[np.int32]:
        """Read the pixel-level labels that came with an answer, (H, W): class, VOID, or KEEP."""
        return self._read(self.folder / "answers" / f"{digest}.png", digest)

    def write(self, round_index: int, image: ImageRecord, labels: NDArray[Any]) -> tuple[str, int] | None:
        """Write the pixel-level labels of an image, (H, W); return hash and labelled pixels, or None for no label."""
        count = int((labels != KEEP).sum())
        if not count:
            return None
        path = self.round_folder(round_index) / "pixels" / f"{image.image_id}.png"
        self._write(path, labels)
        return sha256(path), count

    def write_answered(self, labels: NDArray[Any]) -> str:
        """Write pixel-level labels that come with an answer, (H, W), and return their hash, which names the file."""
        temporary = self.folder / "answers" / ".new.png"
        self._write(temporary, labels)
        digest = sha256(temporary)
        os.replace(temporary, self.folder / "answers" / f"{digest}.png")
        return digest

    def _write(self, path: Path, labels: NDArray[Any]) -> None:
        from a2lc.images.label_maps import write_ids

        path.parent.mkdir(parents=True, exist_ok=True)
        # KEEP is stored as 0: pixels without a label compress to nothing.
        labels = self.view.coded(labels)
        kind = np.uint8 if len(self.view.places) - KEEP <= 255 else np.uint16
        write_ids(path, (labels - KEEP).astype(kind))

    def _read(self, path: Path, digest: str) -> NDArray[np.int32]:
        from a2lc.images.label_maps import read_ids

        if not path.is_file():
            raise MissingFileError(f"{path} is missing: it held pixel-level labels. Restore it from a copy.")
        if sha256(path) != digest:
            raise LedgerError(f"{path} is not the file that the ledger recorded. Restore it from a copy.")
        return self.view.indices(read_ids(path, max_pixels=self.max_pixels).astype(np.int32) + KEEP)
