"""The data of a round for a session, from a project folder."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.tables import AppearanceTable, AuditTable, FrozenTable
from a2lc.errors import ImageFileError, MissingFileError
from a2lc.ledger.replay import MaskState
from a2lc.ledger.standing import standing_answers
from a2lc.masks.tables import MaskTable
from a2lc.project.project import Project
from a2lc.records import Answer, Query
from a2lc.rounds.context import Context
from a2lc.rounds.learned import learned_features
from a2lc.rounds.shards import Shard, map_shards, shards_of
from a2lc.statistics.appearance import Borders, borders, mask_appearance
from a2lc.statistics.features import FeatureMap, interpolation_matrix, mask_embedding
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["ProjectSource", "look_at_shard"]


class ProjectSource:
    """Implements `a2lc.audits.source.RoundSource` over a project.

    Args:
        context: Of the run.
        scored: Round whose statistics are read.
    """

    def __init__(self, context: Context, scored: int) -> None:
        self.context = context
        self.project: Project = context.project
        self.scored = scored

    @property
    def masks(self) -> MaskTable:
        """All masks."""
        return self.project.masks

    @property
    def num_classes(self) -> int:
        """Number of classes there are now."""
        return self.project.classes.num_classes

    @property
    def seed(self) -> int:
        """Seed of the project."""
        return self.project.config.seed

    def state(self) -> MaskState:
        """Return what each mask carries now."""
        return self.project.state()

    def queries(self, round_index: int) -> list[Query]:
        """Return the recorded queries of a round."""
        return self.project.ledger.queries(round_index)

    def standing_answers(self) -> list[tuple[Query, Answer]]:
        """Return all queries with the answers that stand."""
        return standing_answers(self.project.ledger)

    def answered(self, round_index: int) -> dict[int, float]:
        """Return the queries of a round that have an answer, and its clicks, in those that the dearest answer costs."""
        highest = self.context.cost.highest
        return {answer.query_id: clicks / highest for answer, clicks in self.project.ledger.answers(round_index)}

    def asked_masks(self, *, closed: bool = False) -> NDArray[np.uint64]:
        """Return the keys of masks with a query."""
        return self.project.ledger.asked_masks(closed=closed)

    def reopened(self) -> Collection[int]:
        """Return the ids of queries whose answered class was split since."""
        return self.project.ledger.reopened()

    def statistics(self, columns: frozenset[str]) -> Iterator[tuple[MaskStats, dict[str, NDArray[Any]]]]:
        """Yield the statistics of the scored round, shard by shard."""
        return self.context.statistics(self.scored).read(columns)

    def appearance(self) -> tuple[NDArray[np.float32], Borders]:
        """Return how masks look and what lies beside them, computed once for the life of a project's masks."""
        path = self.project.folder / "tables" / "appearance.parquet"
        masks = self.project.masks
        if path.is_file():
            table = AppearanceTable.load(path)
            if table.fits(masks):
                return table.appearance()
        shards = shards_of(self.project.images, self.context.shard_size)
        parts = list(map_shards(self.context, self.scored, look_at_shard, shards, "measuring masks"))
        looks, near = np.concatenate([part[0] for part in parts]), Borders.concat([part[1] for part in parts])
        AppearanceTable.of(masks, looks, near).save(path)
        return looks, near

    def embedding(self) -> NDArray[Any] | None:
        """Return features of each mask: of the user's own backbone, from files, if the settings name a folder; else learned ones.

        None if there are neither.

        Raises:
            MissingFileError: An image has no file.
            ImageFileError: A file does not hold finite floats of one depth.
        """
        folder_name = getattr(self.context.method, "embeddings", None)
        if folder_name is None:
            return learned_features(self.project)
        folder = self.project.source_path(folder_name)
        masks = self.project.masks
        parts: list[NDArray[np.float32]] = []
        for image in self.project.images:
            path = folder / f"{image.image_id}.npy"
            values = _read_embedding(path, image.image_id)
            if parts and values.shape[0] != parts[0].shape[1]:
                raise ImageFileError(
                    f"{path} has {values.shape[0]} features, but the files before it have {parts[0].shape[1]}."
                )
            height, width = values.shape[1:]
            grid = FeatureMap(
                values=values.astype(np.float32),
                rows=interpolation_matrix(image.height, height, height, 1.0),
                cols=interpolation_matrix(image.width, width, width, 1.0),
            )
            first, last = np.searchsorted(masks.image, [image.index, image.index + 1])
            parts.append(mask_embedding(grid, self.project.mask_map(image), masks.mask_ids[first:last]))
        return np.concatenate(parts)

    def load_frozen(self, round_index: int) -> FrozenTable | None:
        """Read what a round froze, in the classes there are now; None before it froze anything."""
        path = self.project.round_folder(round_index) / "posterior.parquet"
        if not path.is_file():
            return None
        table = FrozenTable.load(path)
        change = self.project.class_change_since(round_index)
        if change is None:
            return table
        # Classes were edited since: the last column, for no class, stays what it was.
        posterior = table.posteriors(change.shape[1])
        turned = np.concatenate([posterior[:, :-1] @ change.T, posterior[:, -1:]], axis=1).astype(np.float32)
        return replace(
            table,
            labels=self.project.labels_since(round_index, table.labels),
            known=self.project.labels_since(round_index, table.known),
            posterior=turned.ravel(),
        )

    def save_frozen(self, round_index: int, table: FrozenTable) -> None:
        """Write what a round froze."""
        table.save(self.project.round_folder(round_index) / "posterior.parquet")

    def load_measured(self, round_index: int) -> AuditTable | None:
        """Read the labels a round measured, in the classes there are now; None before it measured anything."""
        path = self.project.round_folder(round_index) / "measured.parquet"
        if not path.is_file():
            return None
        table = AuditTable.load(path)
        return replace(table, labels=self.project.labels_since(round_index, table.labels))

    def save_measured(self, round_index: int, table: AuditTable) -> None:
        """Write the labels a round measures."""
        table.save(self.project.round_folder(round_index) / "measured.parquet")


def look_at_shard(context: Context, round_index: int, shard: Shard) -> tuple[NDArray[np.float32], Borders]:
    """Describe how the masks of a shard look, (M, A), and their common borders, by rows of the whole mask table."""
    project, masks = context.project, context.project.masks
    looks, near = [], []
    for image in shard.records(project):
        first, last = np.searchsorted(masks.image, [image.index, image.index + 1])
        mask_map, ids = project.mask_map(image), masks.mask_ids[first:last]
        looks.append(mask_appearance(project.pixels(image), mask_map, ids))
        near.append(borders(mask_map, ids).shifted(int(first)))
    return np.concatenate(looks), Borders.concat(near)


def _read_embedding(path: Path, image_id: str) -> NDArray[Any]:
    """Read (D, h, w) floats of one image."""
    if not path.is_file():
        raise MissingFileError(f"There is no embedding of image {image_id}; expected {path}.")
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ImageFileError(f"{path}: not a plain NumPy array: {error}.") from None
    if values.ndim != 3 or not np.issubdtype(values.dtype, np.floating) or not values.size:
        raise ImageFileError(f"{path}: expected floats (D, h, w), found {values.dtype} {values.shape}.")
    if not np.isfinite(values).all():
        raise ImageFileError(f"{path}: contains values that are not finite.")
    return values
