"""Make the learned features of a project, a shard of images at a time, and read those of its masks."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ImageFileError, MissingExtraError, MissingFileError
from a2lc.features import (
    Backbone,
    CellBasis,
    CellFeatures,
    CellStore,
    FeatureStore,
    Grid,
    load_backbone,
    mask_features_of,
)
from a2lc.features import store as stores
from a2lc.features.backbone import BACKBONES, LARGEST_SIDE
from a2lc.io.concurrency import in_order
from a2lc.io.progress import Track, no_progress
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.rounds.context import Context
from a2lc.rounds.result import StageResult
from a2lc.rounds.shards import Shard, available_cores, shards_of
from a2lc.rounds.stages import is_between_rounds, next_stage, require_between_rounds

_LOG = logging.getLogger(__name__)

__all__ = [
    "FeatureSummary",
    "cells_are_made",
    "features_are_made",
    "learned_features",
    "make_features",
    "prepare_features",
]

_BASIS_IMAGES = 24
"""Images that the components of the cells are found on."""


@dataclass(frozen=True, kw_only=True)
class FeatureSummary:
    """What `make_features` did.

    Attributes:
        backbone: Name of the backbone.
        images: Images of the project, those to validate on included.
        masks: Masks of the project.
        made: Images whose features were made now; those of the others were there.
        channels: D.
        seconds: Time it took.
    """

    backbone: str
    images: int
    masks: int
    made: int
    channels: int
    seconds: float


def make_features(
    project: Project,
    backbone: str = "efficientnet-lite0",
    *,
    of_masks: bool = True,
    threads: int | None = None,
    track: Track = no_progress,
) -> FeatureSummary:
    """Make the features that are missing: of all masks, in `tables/features`, and of the cells of all images, in `tables/cells`.

    Images are worked on by several threads, for the network runs outside Python; the results do not depend on how many.
    Shards that are there, of these masks and by this backbone, are kept, so an interrupted call is resumed by the next.

    Args:
        project: Opened, its lock held by the caller.
        backbone: Name of a backbone.
        of_masks: False makes those of cells alone, which nothing in an open round rests on.
        threads: Images worked on at a time; by default, as many as there are cores.
        track: Shows progress.

    Raises:
        UnknownNameError: There is no such backbone.
        StageError: Features of masks are missing and a round is open, which began without them.
        MissingExtraError: The package of its weights is not installed.
        ImageFileError: An image cannot be read.
    """
    began = time.perf_counter()
    network = load_backbone(backbone)
    threads = threads or available_cores()
    shards = shards_of(project.all_images, stores.IMAGES_A_SHARD)
    masks = _MaskWork(project, backbone) if of_masks else None
    lacking_masks = set() if masks is None else {shard.index for shard in shards if not masks.has(shard)}
    if lacking_masks:
        require_between_rounds(project)  # else what a round chose and what it corrects would rest on different features
    with ThreadPoolExecutor(threads) as pool:
        cells = _CellWork(project, network, pool)
        missing = [shard for shard in shards if shard.index in lacking_masks or not cells.has(shard)]

        def work(image: ImageRecord) -> tuple[CellFeatures, NDArray[np.float16] | None]:
            grids = network(project.pixels(image))
            return cells.basis.apply(grids), None if masks is None else masks.of(image, network, grids)

        made = sum(len(shard.images) for shard in missing)
        with track("learned features", made) as advance:
            for shard in missing:
                records, found = shard.records(project), []
                for part in in_order(pool, work, records, ahead=2 * threads):
                    found.append(part)
                    advance(1)
                cells.write(shard, records, [part[0] for part in found])
                if masks is not None:
                    masks.write(shard, [part[1] for part in found if part[1] is not None])
    return FeatureSummary(
        backbone=backbone,
        images=len(project.all_images),
        masks=len(project.masks),
        made=made,
        channels=sum(network.channels),
        seconds=time.perf_counter() - began,
    )


def prepare_features(context: Context, stage: str) -> StageResult | None:
    """Make the features that a stage needs and that are missing.

    Features of masks are made between rounds alone; a round that began without them ends without them. Where the package
    of the weights is missing, a method that only learns better with them goes on, and a warning says what is missed.

    Args:
        context: Of the run.
        stage: That is about to be run.

    Returns:
        What was made, to be reported as the result of a stage is; None if nothing was.

    Raises:
        MissingExtraError: The package of the weights is not installed, and the head needs it.
        ImageFileError: An image cannot be read.
    """
    project = context.project
    if stage not in {"train", "score", "evaluate"} or not project.has_images:
        return None
    of_masks = context.method.learns_features and is_between_rounds(project) and not features_are_made(project)
    of_cells = context.uses_head and not cells_are_made(project)
    if not of_masks and not of_cells:
        return None
    try:
        made = make_features(project, of_masks=of_masks, track=context.track)
    except MissingExtraError as error:
        if context.uses_head:
            raise MissingExtraError(f"{error} Or train a network: set training.model=deeplabv3plus") from None
        _LOG.warning("Method %s learns more from fewer answers with learned features. %s", context.plan.method, error)
        return None
    return StageResult(
        stage="features",
        round_index=next_stage(project)[0],
        seconds=made.seconds,
        summary=f"{made.channels} channels of {made.backbone}, {made.made:,} images",
    )


def features_are_made(project: Project, backbone: str = "efficientnet-lite0") -> bool:
    """Return whether the features of all masks are there."""
    masks = _MaskWork(project, backbone)
    return all(masks.has(shard) for shard in shards_of(project.all_images, stores.IMAGES_A_SHARD))


def cells_are_made(project: Project, backbone: str = "efficientnet-lite0") -> bool:
    """Return whether the features of the cells of all images are there."""
    store = CellStore(project.folder)
    basis = _known_basis(store, backbone)
    return basis is not None and all(
        store.has(shard.index, _cell_signature(project, basis, shard))
        for shard in shards_of(project.all_images, stores.IMAGES_A_SHARD)
    )


def learned_features(project: Project) -> NDArray[np.float16] | None:
    """Read the features of all M masks, (M, D) float16; None if they were not made, or not of the masks there are now."""
    shards, store = shards_of(project.all_images, stores.IMAGES_A_SHARD), FeatureStore(project.folder)
    if any(features_are_made(project, backbone) for backbone in BACKBONES):
        return np.concatenate(list(store.read(len(shards))))
    if any(store.folder.glob("part-*.parquet")):
        _LOG.warning(
            "Learned features are incomplete or of other masks, and are not used. Make them between rounds: a2lc features %s",
            project.folder,
        )
    return None


class _MaskWork:
    """Features of masks: where they are kept, and what they depend on."""

    def __init__(self, project: Project, backbone: str) -> None:
        self.project = project
        self.masks = project.masks
        self.backbone = backbone
        self.store = FeatureStore(project.folder)

    def has(self, shard: Shard) -> bool:
        return self.store.has(shard.index, self._signature(shard))

    def of(self, image: ImageRecord, network: Backbone, grids: Sequence[Grid]) -> NDArray[np.float16]:
        """Average the grids of an image over its masks; one to validate on has none."""
        first, last = self._rows(image)
        if first == last:
            return np.empty((0, sum(network.channels)), dtype=np.float16)
        return mask_features_of(grids, self.project.mask_map(image), self.masks.mask_ids[first:last])

    def write(self, shard: Shard, parts: Sequence[NDArray[np.float16]]) -> None:
        self.store.write(shard.index, np.concatenate(parts), self._signature(shard))

    def _rows(self, image: ImageRecord) -> tuple[int, int]:
        first, last = np.searchsorted(self.masks.image, [image.index, image.index + 1])
        return int(first), int(last)

    def _signature(self, shard: Shard) -> str:
        """Digest what the features of a shard depend on: the backbone, how it sees images, the images and their masks."""
        digest = hashlib.sha256(f"{self.backbone} {LARGEST_SIDE}".encode())
        for image in shard.records(self.project):
            first, last = self._rows(image)
            digest.update(f"{image.image_id} {image.height} {image.width} {last - first}".encode())
            digest.update(self.masks.mask_ids[first:last].astype("<i8").tobytes())
            digest.update(self.masks.area[first:last].astype("<i8").tobytes())
        return digest.hexdigest()


class _CellWork:
    """Features of cells: their basis, found when there is none, and where they are kept."""

    def __init__(self, project: Project, network: Backbone, pool: ThreadPoolExecutor) -> None:
        self.project = project
        self.store = CellStore(project.folder)
        basis = _known_basis(self.store, network.name)
        if basis is None:
            images = project.images or project.all_images
            drawn = np.random.default_rng([project.config.seed, 6]).permutation(len(images))[:_BASIS_IMAGES]
            some = [images[index] for index in np.sort(drawn)]
            basis = CellBasis.fit(network.name, list(pool.map(lambda image: network(project.pixels(image)), some)))
            self.store.basis = basis
        self.basis = basis

    def has(self, shard: Shard) -> bool:
        return self.store.has(shard.index, _cell_signature(self.project, self.basis, shard))

    def write(self, shard: Shard, images: list[ImageRecord], cells: list[CellFeatures]) -> None:
        self.store.write(shard.index, images, cells, _cell_signature(self.project, self.basis, shard))


def _known_basis(store: CellStore, backbone: str) -> CellBasis | None:
    """Read the basis, unless it is missing, damaged, or of another backbone."""
    try:
        basis = store.basis
    except (MissingFileError, ImageFileError):
        return None
    return basis if basis.backbone == backbone else None


def _cell_signature(project: Project, basis: CellBasis, shard: Shard) -> str:
    digest = hashlib.sha256(f"{stores.CELL_LAYOUT} {basis.digest} {LARGEST_SIDE}".encode())
    for image in shard.records(project):
        digest.update(f"{image.image_id} {image.height} {image.width}".encode())
    return digest.hexdigest()
