"""A project: a folder with the configuration, the ledger, initial labels, masks and the results of rounds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.decoding import decode_labels
from a2lc.classes.edits import ClassEdit, ClassView
from a2lc.classes.table import ClassTable
from a2lc.errors import ConfigError, LedgerError, MissingFileError, require_known
from a2lc.images.prepared import Prepared
from a2lc.ledger import CorrectionRows, Ledger, MaskState, apply_layer, apply_to_labels
from a2lc.masks.tables import MaskTable
from a2lc.project.class_history import ClassHistory
from a2lc.project.config import ProjectConfig, read_config, reading_of
from a2lc.project.image_files import ImageFiles
from a2lc.project.label_history import LabelHistory
from a2lc.project.lock import project_lock
from a2lc.project.mask_swap import swap_is_pending, swap_masks
from a2lc.project.pixel_layers import PixelLayers
from a2lc.project.truth import TruthStore
from a2lc.records import ImageRecord

__all__ = ["Project"]


class Project:
    """An opened project folder.

    Reading is free for all; whoever changes anything holds the lock (`with project.lock():`).

    Args:
        folder: Of the project.

    Attributes:
        config: Settings, as project.yaml has them.
        ledger: Rounds, queries, answers and corrections.
        history: The classes as imported and what was done to them.
        classes: The classes there are now.
        view: Translation between their indices and the codes that files and ledger hold.
        layers: Pixel-level labels.
        files: Image files.
        truth: Ground truth, for the simulated annotator, the metrics and the report alone.
        mended_masks: Settings of masks whose installation a killed process had begun and opening has finished, or None.

    Raises:
        MissingFileError: There is no project in the folder.
        ConfigError: Its project.yaml is not valid.
        NewerProjectError: A newer version made it.
        LedgerError: Its ledger is damaged.

    Example:
        >>> from a2lc import Project
        >>> project = Project("my.a2lc")                       # doctest: +SKIP
        >>> project.corrected_labels("frame_0001").shape       # doctest: +SKIP
        (360, 480)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        self.config: ProjectConfig = read_config(self.folder / "project.yaml")
        self.imported_classes = ClassTable.from_json(self.config.classes, f"{self.folder / 'project.yaml'}: classes")
        _check_folder(self.folder, self.config)
        self.mended_masks: dict[str, Any] | None = None
        if swap_is_pending(self.folder):
            # Masks of one kind must not meet tables of another: even a reader finishes what a killed process began.
            with self.lock():
                if swap_is_pending(self.folder):  # not done by another one meanwhile
                    swap_masks(self.folder)
            self.mended_masks = json.loads((self.folder / "tables" / "masks.json").read_text(encoding="utf-8"))
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.files = ImageFiles(self.folder, self.config.sources)
        self.reload_classes()

    def reload_classes(self) -> None:
        """Read the classes from the ledger as they are now, and forget what was read in the classes before."""
        self.history = ClassHistory(self.imported_classes, self.ledger.class_edits())
        self.view: ClassView = self.history.view
        self.classes: ClassTable = self.view.table
        self.ledger.set_class_view(self.view)
        limit = self.config.sources.max_pixels
        self.layers = PixelLayers(self.folder, self.ledger, self.view, limit, self.round_folder)
        self.reload_masks()

    def reload_masks(self) -> None:
        """Forget the tables of masks and ground truth, which are read again when needed."""
        self._masks: MaskTable | None = None
        limit = self.config.sources.max_pixels
        self.truth = TruthStore(self.folder, self.imported_classes, self.view, limit, self.round_folder)

    def edit_classes(self, edit: ClassEdit) -> None:
        """Record an edit of the classes; the caller holds the lock, and no round is open."""
        self.ledger.add_class_edit(edit)
        self.reload_classes()

    def class_change_since(self, round_index: int) -> NDArray[np.float32] | None:
        """Return (K', K) that turns probabilities of a round's model into those over the classes now; None if none changed."""
        return self.history.change_since(round_index)

    def labels_since(self, round_index: int, labels: NDArray[Any]) -> NDArray[Any]:
        """Translate class indices that a file of a round holds to those of now; sentinels stay."""
        return self.history.labels_since(round_index, labels)

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()

    def __enter__(self) -> Project:
        """Return the project."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the project."""
        self.close()

    # ---- what was imported --------------------------------------------------------------------------------------

    @cached_property
    def all_images(self) -> list[ImageRecord]:
        """All images, by position: those to correct first, then those for validation."""
        return self.ledger.images()

    @cached_property
    def images(self) -> list[ImageRecord]:
        """Images whose labels are corrected."""
        return [image for image in self.all_images if image.split == "train"]

    @cached_property
    def validation_images(self) -> list[ImageRecord]:
        """Images that only measure models."""
        return [image for image in self.all_images if image.split == "validation"]

    @property
    def masks(self) -> MaskTable:
        """The masks of all images to correct."""
        if self._masks is None:
            self._masks = MaskTable.load(self.folder / "tables" / "masks.parquet").seen_by(self.view)
        return self._masks

    def install_masks(self) -> None:
        """Put new masks, complete in their folder, in place of the old ones; the caller holds the lock."""
        self.reload_masks()
        swap_masks(self.folder)
        self.reload_masks()

    @property
    def has_ground_truth(self) -> bool:
        """Whether the images to correct came with ground truth."""
        return self.truth.exists

    @property
    def has_images(self) -> bool:
        """Whether there are images to train a model on and to show; a project may be of labels alone."""
        return any(image.file for image in self.images)

    def record(self, image_id: str) -> ImageRecord:
        """Return the record of an image by its name.

        Raises:
            UnknownNameError: There is no image of that name.
        """
        by_name = {image.image_id: image for image in self.all_images}
        return by_name[require_known("image", image_id, by_name)]

    def source_path(self, path: str) -> Path:
        """Resolve a path of project.yaml: absolute, or relative to the project folder."""
        return self.files.source_path(path)

    @property
    def prepared(self) -> dict[str, Prepared]:
        """How images that the project keeps a copy of were prepared, by name."""
        return self.files.prepared

    def image_path(self, image: ImageRecord) -> Path:
        """Return the image file, see `ImageFiles.path`."""
        return self.files.path(image)

    def pixels(self, image: ImageRecord) -> NDArray[np.uint8]:
        """Read an image as RGB, (H, W, 3) uint8, see `ImageFiles.pixels`."""
        return self.files.pixels(image)

    def raw_labels(self, image: ImageRecord) -> NDArray[Any]:
        """Read the initial labels of an image with the values of the user's file: (H, W)."""
        return self._read("labels", image)

    def first_labels(self, image: ImageRecord) -> NDArray[Any]:
        """Read the initial labels of an image: (H, W) class indices, the ignore index for none."""
        return decode_labels(self.raw_labels(image), self.classes, self.config.sources.value_map)[0]

    def mask_map(self, image: ImageRecord) -> NDArray[np.uint16]:
        """Read the mask ids of an image: (H, W), 0 outside masks."""
        return self._read("masks", image)

    def _read(self, kind: str, image: ImageRecord) -> NDArray[Any]:
        from a2lc.images.label_maps import read_ids

        path = self.folder / kind / f"{image.image_id}.png"
        if not path.is_file():
            raise MissingFileError(f"{path} is missing: the project folder is damaged. Restore it from a copy.")
        return read_ids(path, max_pixels=self.config.sources.max_pixels)

    # ---- what the ledger holds ----------------------------------------------------------------------------------

    def corrections(self, through: int | None = None) -> CorrectionRows:
        """Return the corrections of all rounds, or of those up to `through`."""
        return self.ledger.correction_rows(through=through)

    def state(self, through: int | None = None) -> MaskState:
        """Return what each mask carries now, or carried at the end of round `through`, and the layer in force over it."""
        return LabelHistory(self).state(through)

    def with_layer(self, state: MaskState, rows: CorrectionRows, through: int | None = None) -> MaskState:
        """Return a replay of corrections with the layer of pixel-level labels that is in force at the end of a round."""
        return self.layers.over(state, rows, self.masks.keys, through)

    def answered_pixels(self, digest: str) -> NDArray[np.int32]:
        """Read the pixel-level labels that came with an answer, (H, W): class, VOID, or KEEP."""
        return self.layers.answered(digest)

    def write_answered_pixels(self, labels: NDArray[Any]) -> str:
        """Write pixel-level labels that come with an answer, (H, W), and return their hash, which names the file."""
        return self.layers.write_answered(labels)

    def corrected_labels(
        self,
        image: ImageRecord | str,
        state: MaskState | None = None,
        through: int | None = None,
        mask_map: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Return the labels of an image as initial labels and ledger make them: (H, W) class indices.

        Args:
            image: A record, or an image's name.
            state: Of all masks, if the caller has it; replayed otherwise.
            through: At the end of this round.
            mask_map: (H, W) the image's masks, if the caller has them.
        """
        record = self.record(image) if isinstance(image, str) else image
        state = self.state(through) if state is None else state
        first, last = np.searchsorted(self.masks.image, [record.index, record.index + 1])
        mask_map = self.mask_map(record) if mask_map is None else mask_map
        ids, ignore = self.masks.mask_ids[first:last], self.classes.ignore_index
        labels = apply_to_labels(self.first_labels(record), mask_map, ids, state.classes[first:last], ignore)
        if state.layer is None or state.newer is None:
            return labels
        own = self.layers.pixels(state.layer, record)
        return labels if own is None else apply_layer(labels, own, mask_map, ids, state.newer[first:last], ignore)

    def round_folder(self, round_index: int) -> Path:
        """Return the folder of a round."""
        return self.folder / "rounds" / f"{round_index:02d}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project for changes.

        Raises:
            LockedError: Another process holds it.
        """
        with project_lock(self.folder):
            yield


def _check_folder(folder: Path, config: ProjectConfig) -> None:
    """Refuse a folder that lacks what cannot be made again, or whose settings would change what the ledger means."""
    ledger = folder / "ledger.sqlite"
    if not ledger.is_file():
        raise MissingFileError(f"{ledger} is missing: it holds all answers. Restore it from a copy.")
    if not ledger.stat().st_size:
        # SQLite would take it for a new database, and all answers would seem never given.
        raise LedgerError(f"{ledger} is empty: it held all answers. Restore it from a copy.")
    fixed_path = folder / "tables" / "reading.json"
    if not fixed_path.is_file():
        raise MissingFileError(f"{fixed_path} is missing: the project folder is damaged. Restore it from a copy.")
    fixed = json.loads(fixed_path.read_text(encoding="utf-8"))
    now = reading_of(config)
    changed = [key for key in now if now[key] != fixed[key]]
    if changed:
        raise ConfigError(
            f"{folder / 'project.yaml'}: {changed[0]} was {fixed[changed[0]]} when the project was created and is "
            f"now {now[changed[0]]}, which would change the meaning of the ledger. Restore the old value. Names "
            "and colours may be changed."
        )
