"""Correct label maps image by image: change the values of corrected masks only, and assemble tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.decoding import decode_labels
from a2lc.errors import InputError
from a2lc.formats.writing import Corrected
from a2lc.images.prepared import Tile
from a2lc.ledger import FIRST, KEEP, CorrectionRows, MaskState, apply_layer, apply_to_labels
from a2lc.ledger import replay as replayed
from a2lc.ledger.replay import SOURCES
from a2lc.ledger.undo import deciders
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.rounds.proof import not_proven

__all__ = ["PROVENANCE", "Replay", "corrected_file_values", "corrected_images", "provenance", "replay_of"]

PROVENANCE = {"first": 0, "manual": 1, "automatic": 2, "classes": 3}
"""Values of a provenance map: initial label, manual correction, automatic correction, class merged into another."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Replay:
    """The state of all masks by the ledger.

    Attributes:
        rows: The corrections.
        state: Current class of each mask.
        decider: (M,) row of the correction that each mask's class comes from, see `a2lc.ledger.undo.deciders`.
        source: (M,) value of PROVENANCE for each mask.
        not_proven: (M,) whether each mask's class comes from an automatic correction that no certificate covers.
    """

    rows: CorrectionRows
    state: MaskState
    decider: NDArray[np.int64]
    source: NDArray[np.uint8]
    not_proven: NDArray[np.bool_]


def replay_of(project: Project, through: int | None = None, *, proven_only: bool = False) -> Replay:
    """Replay the ledger until the end of round `through`, or all of it.

    Args:
        project: Opened.
        through: The round.
        proven_only: Leave out automatic corrections that no certificate covers: these masks keep their initial labels.
    """
    rows = project.corrections(through)
    state = project.with_layer(replayed(rows, project.masks.keys), rows, through)
    undos = [undo for undo in project.ledger.undos() if through is None or undo.round < through]
    decider = deciders(rows, undos, state, project.masks.keys)
    source, bare = provenance(rows, decider), not_proven(project, state, through)
    if proven_only:
        state = replace(state, classes=np.where(bare, FIRST, state.classes).astype(np.int32))
        source = np.where(bare, PROVENANCE["first"], source).astype(np.uint8)
        bare = np.zeros_like(bare)
    return Replay(rows=rows, state=state, decider=decider, source=source, not_proven=bare)


def corrected_file_values(
    raw: NDArray[Any], mask_map: NDArray[Any], mask_ids: NDArray[Any], values: NDArray[Any]
) -> NDArray[Any]:
    """Set the pixels of corrected masks in the user's own label map to the values of their new classes (pure).

    Args:
        raw: (H, W) values of the user's file.
        mask_map: (H, W) mask ids.
        mask_ids: (n,) masks of the image.
        values: (n,) file value that each was corrected to; -1 if it was not corrected.

    Returns:
        (H, W) in the dtype of `raw`, or uint16 if a value does not fit 8 bits.
    """
    table = np.full(int(mask_map.max(initial=0)) + 1, -1, dtype=np.int64)
    table[mask_ids] = values
    new = table[mask_map]
    kind = np.uint16 if values.max(initial=-1) > 255 else raw.dtype
    return np.where(new >= 0, new, raw).astype(kind)


def provenance(rows: CorrectionRows, decider: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return (M,) the value of PROVENANCE for each mask (pure).

    Args:
        rows: The corrections.
        decider: (M,) row of the correction that each mask's class comes from, see `a2lc.ledger.undo.deciders`.
    """
    kinds = np.array([PROVENANCE.get(name, 0) for name in SOURCES], dtype=np.uint8)
    return np.where(decider >= 0, kinds[rows.source[decider]] if len(rows) else 0, 0).astype(np.uint8)


def corrected_images(project: Project, replay: Replay) -> Iterator[Corrected]:
    """Yield every image with its corrected labels, in the project's order; tiles of an image are assembled.

    At most one whole image is held in memory.

    Raises:
        InputError: Tiles of an image are missing.
    """
    bounds = np.searchsorted(project.masks.image, np.arange(len(project.images) + 1))
    waiting: list[ImageRecord] = []
    for record in [*project.images, None]:
        tile = None if record is None else _tile(project, record)
        if waiting and (tile is None or tile.of != _tile_of(project, waiting[0])):
            yield _joined(project, replay, bounds, waiting)
            waiting = []
        if record is None:
            return
        if tile is None:
            yield _one(project, replay, bounds, record)
        else:
            waiting.append(record)


def _tile(project: Project, record: ImageRecord) -> Tile | None:
    how = project.prepared.get(record.image_id)
    return None if how is None else how.tile


def _tile_of(project: Project, record: ImageRecord) -> str:
    tile = _tile(project, record)
    assert tile is not None
    return tile.of


def _one(project: Project, replay: Replay, bounds: NDArray[np.int64], record: ImageRecord) -> Corrected:
    """Correct an image that is stored as it came."""
    span = slice(bounds[record.index], bounds[record.index + 1])
    classes, state = project.classes, replay.state
    mask_ids, now = project.masks.mask_ids[span], state.classes[span]
    raw, mask_map = project.raw_labels(record), project.mask_map(record)
    file_values = np.array([*classes.file_values, classes.ignore], dtype=np.int64)
    # FIRST stays -1; VOID, which is -1 among classes, is the last of the values.
    values = np.where(now == FIRST, -1, file_values[np.where(now < 0, len(file_values) - 1, now)])
    new = corrected_file_values(raw, mask_map, mask_ids, values)
    for value, becomes in classes.rewritten(project.config.sources.value_map).items():
        # What was merged into another class is written as that one: no file may hold a value that is no class any more.
        new = np.where(new == value, becomes, new).astype(np.uint16 if becomes > 255 else new.dtype)
    first, _ = decode_labels(raw, classes, project.config.sources.value_map)
    labels = by_masks = apply_to_labels(first, mask_map, mask_ids, now, classes.ignore_index)
    said = None if state.layer is None else project.layers.pixels(state.layer, record)
    if said is not None and state.newer is not None:
        newer = state.newer[span]
        kind = np.uint16 if file_values.max() > 255 else new.dtype
        layer = np.where(said == KEEP, KEEP, file_values[np.where(said < 0, len(file_values) - 1, said)])
        new = apply_layer(new.astype(kind), layer, mask_map, mask_ids, newer, classes.ignore)
        labels = apply_layer(by_masks, said, mask_map, mask_ids, newer, classes.ignore_index)
    table = np.zeros(int(mask_map.max(initial=0)) + 1, dtype=np.uint8)
    table[mask_ids] = replay.source[span]
    # A person may have kept a class: pixels that were that class all along are first labels still.
    kinds = np.where(first == labels, 0, table[mask_map]).astype(np.uint8)
    if state.layer is not None:
        # What a layer decides, no one looked at pixel by pixel, unless it holds what someone drew.
        by_hand = next(layer.by_hand for layer in project.ledger.layers() if layer.round == state.layer)
        kinds[(labels != by_masks) & (labels != first)] = PROVENANCE["manual" if by_hand else "automatic"]
    # The class stayed what it was, and its value is another one.
    kinds[(kinds == 0) & (new != raw)] = PROVENANCE["classes"]
    image = project.image_path(record) if record.file else None
    return Corrected(
        image_id=record.image_id,
        file=record.file or f"{record.image_id}.png",
        image=image,
        values=new,
        first=raw,
        labels=labels,
        provenance=kinds,
        source=project.folder / "labels" / f"{record.image_id}.png",
        records=(record,),
    )


def _joined(project: Project, replay: Replay, bounds: NDArray[np.int64], records: Sequence[ImageRecord]) -> Corrected:
    """Correct an image that was cut into tiles."""
    tiles = [_tile(project, record) for record in records]
    places = [tile for tile in tiles if tile is not None]
    width, height, name = places[0].of_width, places[0].of_height, places[0].of
    if sum(tile.width * tile.height for tile in places) != width * height:
        raise InputError(
            f"{name}: some of its tiles were left out when the project was created, so the image cannot be "
            "reassembled. Create the project again with all tiles."
        )
    whole: Corrected | None = None
    for record, tile in zip(records, places, strict=True):
        one = _one(project, replay, bounds, record)
        if whole is None:
            shape = (height, width)
            source = Path(project.prepared[record.image_id].source)
            image = source if source.is_file() else None
            whole = replace(
                one,
                image_id=name,
                file=f"{name}{source.suffix if image is not None else PurePosixPath(one.file).suffix}",
                image=image,
                values=np.zeros(shape, one.values.dtype),
                first=np.zeros(shape, one.first.dtype),
                labels=np.zeros(shape, one.labels.dtype),
                provenance=np.zeros(shape, np.uint8),
                source=None,
                records=tuple(records),
            )
        if one.values.itemsize > whole.values.itemsize or one.first.itemsize > whole.first.itemsize:
            whole = replace(whole, values=whole.values.astype(np.uint16), first=whole.first.astype(np.uint16))
        place = slice(tile.top, tile.top + tile.height), slice(tile.left, tile.left + tile.width)
        for kind in ("values", "first", "labels", "provenance"):
            getattr(whole, kind)[place] = getattr(one, kind)
    assert whole is not None
    return whole
