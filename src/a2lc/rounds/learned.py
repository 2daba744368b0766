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

from a2lc.errors import ImageFileError, InputError, MissingExtraError, MissingFileError
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
from a2lc.features.canvas import LARGEST_SIDE
from a2lc.features.choice import is_same_backbone
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
    "backbone_name",
    "cells_are_made",
    "cells_backbone",
    "configured_backbone",
    "features_are_made",
    "learned_features",
    "make_features",
    "masks_backbone",
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
    backbone: Backbone | None = None,
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
        backbone: By default, that of the project's settings.
        of_masks: False makes those of cells alone, which nothing in an open round rests on.
        threads: Images worked on at a time; by default, as many as there are cores.
        track: Shows progress.

    Raises:
        StageError: Features of masks are missing and a round is open, which began without them.
        MissingExtraError: The package of its weights, or its library, is not installed.
        MissingFileError: Its weights are not on this machine.
        ImageFileError: An image cannot be read.
    """
    began = time.perf_counter()
    network = configured_backbone(project) if backbone is None else backbone
    threads = threads or available_cores()
    shards = shards_of(project.all_images, stores.IMAGES_A_SHARD)
    masks = _MaskWork(project, network.identity) if of_masks else None
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
                    masks.write(shard, [part[1] for part in found if part[1] is not None], network)
    return FeatureSummary(
        backbone=network.name,
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
        InputError: The features that are there were made by another backbone than that of the settings.
        MissingExtraError: The package of the weights is not installed, and the head needs it.
        MissingFileError: The weights of the backbone are not on this machine.
        ImageFileError: An image cannot be read.
    """
    project = context.project
    if stage not in {"train", "score", "evaluate"} or not project.has_images:
        return None
    of_masks = context.method.learns_features and is_between_rounds(project)
    of_cells = context.uses_head
    _require_the_same(project, masks_backbone(project) if of_masks else "", cells_backbone(project) if of_cells else "")
    of_masks, of_cells = of_masks and not features_are_made(project), of_cells and not cells_are_made(project)
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


def configured_backbone(project: Project) -> Backbone:
    """Load the backbone that the project's settings name. Nothing is downloaded.

    Raises:
        UnknownNameError: There is none of that name.
        MissingExtraError: The package of its weights, or its library, is not installed.
        MissingFileError: Its weights are not on this machine.
        InputError: Its licence was not accepted, or its files are not those of a backbone.
    """
    settings = project.config.features
    try:
        return load_backbone(
            settings.backbone,
            device=settings.device,
            mixed_precision=settings.mixed_precision,
            accepted=frozenset(settings.accepted_licenses),
        )
    except MissingFileError:
        raise MissingFileError(
            f"The weights of features.backbone {settings.backbone} are not on this machine, or their folder is gone. Download "
            f"them and make the features: a2lc features {project.folder} --download"
        ) from None


def backbone_name(identity: str) -> str:
    """Return the name in a backbone's identity.

    Example:
        >>> backbone_name("timm:convnext_atto@0123 sha256:4567"), backbone_name("efficientnet-lite0")
        ('timm:convnext_atto@0123', 'efficientnet-lite0')
    """
    return identity.rpartition(" sha256:")[0] or identity


def masks_backbone(project: Project) -> str:
    """Return the identity of the backbone that the features of all masks were made by; "" if some are missing."""
    identity = FeatureStore(project.folder).made_by()
    masks = _MaskWork(project, identity)
    whole = identity and all(masks.has(shard) for shard in shards_of(project.all_images, stores.IMAGES_A_SHARD))
    return identity if whole else ""


def cells_backbone(project: Project) -> str:
    """Return the identity of the backbone that the features of the cells of all images were made by; "" if some are missing."""
    store = CellStore(project.folder)
    basis = _known_basis(store)
    whole = basis is not None and all(
        store.has(shard.index, _cell_signature(project, basis, shard))
        for shard in shards_of(project.all_images, stores.IMAGES_A_SHARD)
    )
    return basis.backbone if basis is not None and whole else ""


def features_are_made(project: Project) -> bool:
    """Return whether the features of all masks are there, made by the backbone of the settings."""
    return is_same_backbone(project.config.features.backbone, backbone_name(masks_backbone(project)))


def cells_are_made(project: Project) -> bool:
    """Return whether the features of the cells of all images are there, made by the backbone of the settings."""
    return is_same_backbone(project.config.features.backbone, backbone_name(cells_backbone(project)))


def _require_the_same(project: Project, *identities: str) -> None:
    """Refuse complete features of another backbone than that of the settings."""
    wanted = project.config.features.backbone
    for identity in filter(None, identities):
        made = backbone_name(identity)
        if not is_same_backbone(wanted, made):
            raise InputError(
                f"The learned features of {project.folder} were made by {made}, but features.backbone is {wanted}. Make them "
                f"anew: a2lc features {project.folder} --backbone {wanted}. Or keep them: set features.backbone={made}"
            )


def learned_features(project: Project) -> NDArray[np.float16] | None:
    """Read the features of all M masks, (M, D) float16; None if they were not made, or not of the masks there are now."""
    shards, store = shards_of(project.all_images, stores.IMAGES_A_SHARD), FeatureStore(project.folder)
    if masks_backbone(project):
        return np.concatenate(list(store.read(len(shards))))
    if any(store.folder.glob("part-*.parquet")):
        _LOG.warning(
            "Learned features are incomplete or of other masks, and are not used. Make them between rounds: a2lc features %s",
            project.folder,
        )
    return None


class _MaskWork:
    """Features of masks: where they are kept, and what they depend on."""

    def __init__(self, project: Project, identity: str) -> None:
        self.project = project
        self.masks = project.masks
        self.identity = identity
        self.store = FeatureStore(project.folder)

    def has(self, shard: Shard) -> bool:
        return self.store.has(shard.index, self._signature(shard))

    def of(self, image: ImageRecord, network: Backbone, grids: Sequence[Grid]) -> NDArray[np.float16]:
        """Average the grids of an image over its masks; one to validate on has none."""
        first, last = self._rows(image)
        if first == last:
            return np.empty((0, sum(network.channels)), dtype=np.float16)
        return mask_features_of(grids, self.project.mask_map(image), self.masks.mask_ids[first:last])

    def write(self, shard: Shard, parts: Sequence[NDArray[np.float16]], network: Backbone) -> None:
        self.store.write(shard.index, np.concatenate(parts), self._signature(shard), network)

    def _rows(self, image: ImageRecord) -> tuple[int, int]:
        first, last = np.searchsorted(self.masks.image, [image.index, image.index + 1])
        return int(first), int(last)

    def _signature(self, shard: Shard) -> str:
        """Digest what the features of a shard depend on: the backbone, how it sees images, the images and their masks."""
        digest = hashlib.sha256(f"{self.identity} {LARGEST_SIDE}".encode())
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
        self.network = network
        self.store = CellStore(project.folder)
        basis = _known_basis(self.store)
        if basis is None or basis.backbone != network.identity:
            images = project.images or project.all_images
            drawn = np.random.default_rng([project.config.seed, 6]).permutation(len(images))[:_BASIS_IMAGES]
            some = [images[index] for index in np.sort(drawn)]
            basis = CellBasis.fit(network.identity, list(pool.map(lambda image: network(project.pixels(image)), some)))
            self.store.basis = basis
        self.basis = basis

    def has(self, shard: Shard) -> bool:
        return self.store.has(shard.index, _cell_signature(self.project, self.basis, shard))

    def write(self, shard: Shard, images: list[ImageRecord], cells: list[CellFeatures]) -> None:
        signature = _cell_signature(self.project, self.basis, shard)
        self.store.write(shard.index, images, cells, signature, self.network)


def _known_basis(store: CellStore) -> CellBasis | None:
    """Read the basis, unless it is missing or damaged."""
    try:
        return store.basis
    except (MissingFileError, ImageFileError):
        return None


def _cell_signature(project: Project, basis: CellBasis, shard: Shard) -> str:
    digest = hashlib.sha256(f"{stores.CELL_LAYOUT} {basis.digest} {LARGEST_SIDE}".encode())
    for image in shard.records(project):
        digest.update(f"{image.image_id} {image.height} {image.width}".encode())
    return digest.hexdigest()
