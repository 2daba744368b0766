"""A project: a folder with the configuration, the ledger, first labels, masks and the results of rounds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from a2lc.classes.decoding import decode_labels
from a2lc.classes.edits import ClassEdit, ClassView, class_change, replay_edits, view_of
from a2lc.classes.sentinels import KEEP
from a2lc.classes.table import ClassTable
from a2lc.errors import (
    ConfigError,
    ImageFileError,
    InputError,
    LedgerError,
    LockedError,
    MissingFileError,
    require_known,
)
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.prepared import Prepared
from a2lc.images.remote import fetch
from a2lc.images.rgb import read_rgb
from a2lc.io.files import sha256, write_bytes, write_text
from a2lc.ledger import CorrectionRows, LayerRecord, Ledger, MaskState, apply_layer, apply_to_labels, replay
from a2lc.ledger.undo import deciders
from a2lc.masks.tables import MaskTable
from a2lc.project.config import ProjectConfig, read_config, reading_of
from a2lc.project.lock import lock_holder, user_name
from a2lc.project.mask_swap import MADE_MASKS
from a2lc.project.truth import TruthStore
from a2lc.records import ImageRecord

__all__ = ["Project"]


class Project:
    """An opened project folder.

    Reading is free for all; whoever changes anything holds the lock (`with project.lock():`).

    Example:
        >>> from a2lc import Project
        >>> project = Project("my.a2lc")                       # doctest: +SKIP
        >>> project.corrected_labels("frame_0001").shape       # doctest: +SKIP
        (360, 480)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open a project.

        Raises:
            MissingFileError: There is no project in the folder.
            ConfigError: Its project.yaml is not valid.
            NewerProjectError: A newer version made it.
            LedgerError: Its ledger is damaged.
        """
        self.folder = Path(folder).absolute()
        self.config: ProjectConfig = read_config(self.folder / "project.yaml")
        self.imported_classes = ClassTable.from_json(self.config.classes, f"{self.folder / 'project.yaml'}: classes")
        if not (self.folder / "ledger.sqlite").is_file():
            raise MissingFileError(
                f"{self.folder / 'ledger.sqlite'} is missing: it holds all answers. Restore it from a copy."
            )
        if not (self.folder / "ledger.sqlite").stat().st_size:
            # SQLite would take it for a new database, and all answers would seem never given.
            raise LedgerError(f"{self.folder / 'ledger.sqlite'} is empty: it held all answers. Restore it from a copy.")
        fixed_path = self.folder / "tables" / "reading.json"
        if not fixed_path.is_file():
            raise MissingFileError(f"{fixed_path} is missing: the project folder is damaged. Restore it from a copy.")
        fixed = json.loads(fixed_path.read_text(encoding="utf-8"))
        now = reading_of(self.config)
        changed = [key for key in now if now[key] != fixed[key]]
        if changed:
            raise ConfigError(
                f"{self.folder / 'project.yaml'}: {changed[0]} was {fixed[changed[0]]} when the project was made and is now "
                f"{now[changed[0]]}; the ledger would mean something else. Put it back. Names and colours may be changed."
            )
        self.mended_masks: dict[str, Any] | None = None
        if (self.folder / MADE_MASKS).is_dir():
            # A process was killed while new masks took the place of old ones: they must not meet tables of the old ones.
            with self.lock():
                if (self.folder / MADE_MASKS).is_dir():  # not done by another one meanwhile
                    self.install_masks()
            self.mended_masks = json.loads((self.folder / "tables" / "masks.json").read_text(encoding="utf-8"))
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.reload_classes()
        self._layer_files: dict[int, dict[int, tuple[str, int]]] = {}

    def reload_classes(self) -> None:
        """Take the classes as the ledger has them now: those imported, and what was done to them."""
        self._edits = self.ledger.class_edits()
        self.view: ClassView = self.classes_before(None)
        self.classes: ClassTable = self.view.table
        self.ledger.set_class_view(self.view)
        for name in ("masks", "truth"):
            self.__dict__.pop(name, None)

    def classes_before(self, number: int | None) -> ClassView:
        """The classes as they were when a round began, or as they are now."""
        if not self._edits:
            return view_of(self.imported_classes)
        return replay_edits(self.imported_classes, self._edits, before=number)

    def class_change_since(self, number: int) -> NDArray[np.float32] | None:
        """(K', K) by which probabilities of a round's model become those over the classes there are now.

        None where nothing changed. So do files that hold classes as they were counted in that round: see `labels_since`.
        """
        return None if not self._edits else class_change(self.classes_before(number), self.view)

    def labels_since(self, number: int, labels: NDArray[Any]) -> NDArray[Any]:
        """Class indices that a file of a round holds, as they are counted now; negative numbers stay."""
        if not self._edits:
            return labels
        return self.view.indices(self.classes_before(number).coded(labels))

    def same_classes_since(self, number: int) -> list[int | None] | None:
        """For each class there is now, its index in a round if it was the very same class then; None if all were.

        A class that others were merged into since, that was split, or that is new, was not.
        """
        later = [edit for edit in self._edits if edit.round >= number]
        if all(edit.kind == "rename" for edit in later):
            return None
        old = self.classes_before(number)
        gone = {edit.details["edit"] for edit in later if edit.kind == "undo"}
        parted = {edit.codes[0] for edit in later if edit.kind == "split" and edit.number not in gone}
        found: list[int | None] = []
        for index in range(self.classes.num_classes):
            was = [o for o, code in enumerate(old.codes.tolist()) if self.view.places[code] == index]
            found.append(was[0] if len(was) == 1 and int(old.codes[was[0]]) not in parted else None)
        return found

    def codes_before(self, edit: ClassEdit) -> int:
        """How many codes there were before an edit: those it added begin there."""
        earlier = [one for one in self._edits if one.number < edit.number]
        return len(replay_edits(self.imported_classes, earlier).places)

    def edit_classes(self, edit: ClassEdit) -> None:
        """Record what is done to the classes; the caller holds the lock, and no round is open."""
        self.ledger.add_class_edit(edit)
        self.reload_classes()

    def close(self) -> None:
        """Let go of the files."""
        self.ledger.close()

    def __enter__(self) -> Project:
        """The project itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
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

    @cached_property
    def masks(self) -> MaskTable:
        """The masks of all images to correct."""
        return MaskTable.load(self.folder / "tables" / "masks.parquet").seen_by(self.view)

    def install_masks(self) -> None:
        """Put new masks and their tables, complete in their folder, in place of those there; the caller holds the lock.

        New first labels, where the folder has any, take the place of those there as well.

        Each step may be the last of a killed process: the steps left are done by the next one that opens the project.
        """
        made = self.folder / MADE_MASKS
        for name in ("masks", "truth"):
            self.__dict__.pop(name, None)  # remembered of the old masks
        for kind in ("labels", "masks"):
            if (made / kind).is_dir():
                if (self.folder / kind).exists():
                    shutil.rmtree(self.folder / kind)
                os.replace(made / kind, self.folder / kind)
        for name in ("truth.parquet", "pseudo.json", "masks.parquet", "masks.json"):
            if (made / name).is_file():
                os.replace(made / name, self.folder / "tables" / name)
        made.rmdir()

    @property
    def has_ground_truth(self) -> bool:
        """Whether the images to correct came with ground truth."""
        return self.truth.exists

    @cached_property
    def truth(self) -> TruthStore:
        """Ground truth, for the simulated annotator, the metrics and the report alone."""
        return TruthStore(
            self.folder, self.imported_classes, self.view, self.config.sources.max_pixels, self.round_folder
        )

    def record(self, image_id: str) -> ImageRecord:
        """An image by its name.

        Raises:
            UnknownNameError: There is none of that name.
        """
        by_name = {image.image_id: image for image in self.all_images}
        return by_name[require_known("image", image_id, by_name)]

    def source_path(self, place: str) -> Path:
        """A path of project.yaml: as it stands, or below the project folder."""
        return Path(os.path.normpath(self.folder / place))

    @cached_property
    def prepared(self) -> dict[str, Prepared]:
        """What was done to images that lie in the project itself, by name."""
        path = self.folder / "tables" / "prepared.json"
        if not path.is_file():
            return {}
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {name: Prepared.from_json(row) for name, row in rows.items()}

    @property
    def has_images(self) -> bool:
        """Whether there are images to train a model on, and to show; a project may be of labels alone."""
        return any(image.file for image in self.images)

    def image_path(self, image: ImageRecord) -> Path:
        """Where the image file lies: the user's own, or the project's, if it had to be prepared.

        Raises:
            InputError: There is none: the project is of labels alone.
        """
        if not image.file:
            raise InputError(f"{image.image_id} has no image: the project was made of labels alone, without --images.")
        if image.image_id in self.prepared:
            return self.folder / "images" / image.file
        sources = self.config.sources
        root = sources.images if image.split == "train" else sources.validation_images
        assert root is not None
        return self.source_path(root) / image.file

    def pixels(self, image: ImageRecord) -> NDArray[np.uint8]:
        """(H, W, 3) RGB of an image; grey all over where labels have no image.

        Raises:
            MissingFileError: The file is gone.
            ImageFileError: It cannot be read any more, or what its address gives is another image.
        """
        if not image.file:
            return np.full((image.height, image.width, 3), 128, dtype=np.uint8)
        path = self.image_path(image)
        if not path.is_file() and (how := self.prepared.get(image.image_id)) is not None and how.address is not None:
            self._fetch_again(image, path, how.address)
        if not path.is_file():
            raise MissingFileError(
                f"Image {path} is gone. Put it back, or mend `sources` in {self.folder / 'project.yaml'}."
            )
        sources = self.config.sources
        return read_rgb(path, upright=sources.exif == "apply", max_pixels=sources.max_pixels)

    def _fetch_again(self, image: ImageRecord, path: Path, address: str) -> None:
        """Fetch an image that was cleared away: `images/` is a copy of what lies elsewhere."""
        data = fetch(address)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise ImageFileError(
                f"{address} gives another image than the one the project was made of. Put the old one at {path}."
            )
        write_bytes(path, data)

    def raw_labels(self, image: ImageRecord) -> NDArray[Any]:
        """(H, W) first labels as the user's file has them."""
        return read_ids(self._kept("labels", image), max_pixels=self.config.sources.max_pixels)

    def first_labels(self, image: ImageRecord) -> NDArray[Any]:
        """(H, W) class indices or the ignore index, as imported."""
        return decode_labels(self.raw_labels(image), self.classes, self.config.sources.value_map)[0]

    def mask_map(self, image: ImageRecord) -> NDArray[np.uint16]:
        """(H, W) mask ids, 0 where there is no mask."""
        return read_ids(self._kept("masks", image), max_pixels=self.config.sources.max_pixels)

    def _kept(self, kind: str, image: ImageRecord) -> Path:
        path = self.folder / kind / f"{image.image_id}.png"
        if not path.is_file():
            raise MissingFileError(f"{path} is missing: the project folder is damaged. Restore it from a copy.")
        return path

    # ---- what the ledger says -----------------------------------------------------------------------------------

    def corrections(self, through: int | None = None) -> CorrectionRows:
        """Corrections of all rounds, or of those up to `through`."""
        return self.ledger.correction_rows(through=through)

    def state(self, through: int | None = None) -> MaskState:
        """What each mask carries now, or carried at the end of round `through`, and the layer in force over it."""
        return self.with_layer(replay(rows := self.corrections(through), self.masks.keys), rows, through)

    def with_layer(self, state: MaskState, rows: CorrectionRows, through: int | None = None) -> MaskState:
        """A replay of corrections with the layer of labels below the mask that is in force at the end of a round."""
        layer = self.layer(through)
        if layer is None:
            return state
        # Read now: loaders in other processes must not reach for the ledger.
        self._files_of_layer(layer.round)
        # Behind an undo row stands the correction it went back to; first labels are older than any layer.
        undos = [undo for undo in self.ledger.undos() if through is None or undo.round < through]
        decider = deciders(rows, undos, state, self.masks.keys)
        newer = decider >= 0
        newer[newer] = rows.ids[decider[newer]] > layer.after
        return replace(state, layer=layer.round, newer=newer)

    def layer(self, through: int | None = None) -> LayerRecord | None:
        """The last layer of labels below the mask that is in force.

        A layer rests on all answers so far. Taking back a round's answers takes back the layers made from then on; taking
        back what the method did takes back that round's layer, unless people labelled its pixels themselves.
        """
        found = [layer for layer in self.ledger.layers() if through is None or layer.round <= through]
        for undo in self.ledger.undos():
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

    def _files_of_layer(self, number: int) -> dict[int, tuple[str, int]]:
        if number not in self._layer_files:
            self._layer_files[number] = self.ledger.layer_files(number)
        return self._layer_files[number]

    def layer_pixels(self, number: int, image: ImageRecord) -> NDArray[np.int32] | None:
        """(H, W) what a round's layer says of an image: class, VOID, or KEEP; None where it says nothing.

        Raises:
            MissingFileError: Its file is gone.
            LedgerError: Its file is not the one that was recorded.
        """
        recorded = self._files_of_layer(number).get(image.index)
        if recorded is None:
            return None
        return self._read_said(self.round_folder(number) / "pixels" / f"{image.image_id}.png", recorded[0])

    def answered_pixels(self, digest: str) -> NDArray[np.int32]:
        """(H, W) pixel labels that came with an answer, KEEP where it says nothing."""
        return self._read_said(self.folder / "answers" / f"{digest}.png", digest)

    def write_layer(self, number: int, image: ImageRecord, said: NDArray[Any]) -> tuple[str, int] | None:
        """Write what a round's layer says of an image, (H, W); its hash and pixels, or None where it says nothing."""
        count = int((said != KEEP).sum())
        if not count:
            return None
        path = self.round_folder(number) / "pixels" / f"{image.image_id}.png"
        self._write_said(path, said)
        return sha256(path), count

    def write_answered_pixels(self, said: NDArray[Any]) -> str:
        """Write pixel labels that come with an answer, (H, W), under the name of their hash, which comes back."""
        temporary = self.folder / "answers" / ".new.png"
        self._write_said(temporary, said)
        digest = sha256(temporary)
        os.replace(temporary, self.folder / "answers" / f"{digest}.png")
        return digest

    def _write_said(self, path: Path, said: NDArray[Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # KEEP is stored as 0: what nothing is said of compresses to nothing.
        said = self.view.coded(said)
        kind = np.uint8 if len(self.view.places) - KEEP <= 255 else np.uint16
        write_ids(path, (said - KEEP).astype(kind))

    def _read_said(self, path: Path, digest: str) -> NDArray[np.int32]:
        if not path.is_file():
            raise MissingFileError(f"{path} is missing: labels of single pixels were in it. Restore it from a copy.")
        if sha256(path) != digest:
            raise LedgerError(f"{path} is not the file that the ledger recorded. Restore it from a copy.")
        return self.view.indices(read_ids(path, max_pixels=self.config.sources.max_pixels).astype(np.int32) + KEEP)

    def corrected_labels(
        self,
        image: ImageRecord | str,
        state: MaskState | None = None,
        through: int | None = None,
        mask_map: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """(H, W) class indices of an image: first labels plus the ledger.

        Args:
            image: A record, or an image's name.
            state: Of all masks, where the caller has it; replayed otherwise.
            through: As of the end of this round.
            mask_map: (H, W) the image's masks, where the caller has them.
        """
        record = self.record(image) if isinstance(image, str) else image
        state = self.state(through) if state is None else state
        first, last = np.searchsorted(self.masks.image, [record.index, record.index + 1])
        mask_map = self.mask_map(record) if mask_map is None else mask_map
        ids, ignore = self.masks.mask_ids[first:last], self.classes.ignore_index
        labels = apply_to_labels(self.first_labels(record), mask_map, ids, state.classes[first:last], ignore)
        if state.layer is None or state.newer is None:
            return labels
        said = self.layer_pixels(state.layer, record)
        return labels if said is None else apply_layer(labels, said, mask_map, ids, state.newer[first:last], ignore)

    def round_folder(self, number: int) -> Path:
        """Where the files of a round lie."""
        return self.folder / "rounds" / f"{number:02d}"

    # ---- the lock -----------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project for changes; another process is told who does.

        The lock is the operating system's, so it ends with the process, however that ends.

        Raises:
            LockedError: Another process holds it.
        """
        holder = self.folder / ".lock.json"
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise LockedError(
                f"{self.folder} is being changed by {lock_holder(holder)}. Wait for it, or end that process."
            ) from None
        try:
            own = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "user": user_name(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            write_text(holder, json.dumps(own))
            # What killed processes were writing: nobody else writes while the lock is held.
            for left in [*self.folder.glob(".*.partial"), *self.folder.glob("rounds/**/.*.partial")]:
                if left.is_file():
                    left.unlink(missing_ok=True)
            yield
        finally:
            holder.unlink(missing_ok=True)
            lock.release()
