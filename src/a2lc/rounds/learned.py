"""Make the learned features of a project's masks, a shard of images at a time, and read them."""

from __future__ import annotations

import hashlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.features import FeatureStore, load_backbone, mask_features_of
from a2lc.features.backbone import BACKBONES, LARGEST_SIDE
from a2lc.io.concurrency import in_order
from a2lc.io.progress import Track, no_progress
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.rounds.context import SHARD
from a2lc.rounds.shards import Shard, available_cores, shards_of
from a2lc.rounds.stages import require_between_rounds

_LOG = logging.getLogger(__name__)

__all__ = ["FeatureSummary", "learned_features", "make_features"]


@dataclass(frozen=True, kw_only=True)
class FeatureSummary:
    """What `make_features` did.

    Attributes:
        backbone: Name of the backbone.
        images: Images of the project.
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
    project: Project, backbone: str = "efficientnet-lite0", *, threads: int | None = None, track: Track = no_progress
) -> FeatureSummary:
    """Make the features of all masks that are missing, and write them to `tables/features`.

    Images are worked on by several threads, for the network runs outside Python; the results do not depend on how many.
    Shards that are there, of these masks and by this backbone, are kept, so an interrupted call is resumed by the next.

    Args:
        project: Opened, its lock held by the caller.
        backbone: Name of a backbone.
        threads: Images worked on at a time; by default, as many as there are cores.
        track: Shows progress.

    Raises:
        UnknownNameError: There is no such backbone.
        StageError: Features are missing and a round is open, which began without them.
        MissingExtraError: The package of its weights is not installed.
        ImageFileError: An image cannot be read.
    """
    began = time.perf_counter()
    network = load_backbone(backbone)
    masks, store, signatures = project.masks, _store(project), _signatures(project, backbone)
    shards = shards_of(project.images, SHARD)
    missing = [shard for shard in shards if not store.has(shard.index, signatures[shard.index])]
    if missing:
        require_between_rounds(project)  # else what a round chose and what it corrects would rest on different features

    def features_of(image: ImageRecord) -> NDArray[np.float16]:
        first, last = np.searchsorted(masks.image, [image.index, image.index + 1])
        return mask_features_of(network(project.pixels(image)), project.mask_map(image), masks.mask_ids[first:last])

    made = sum(len(shard.images) for shard in missing)
    threads = threads or available_cores()
    with track("learned features", made) as advance, ThreadPoolExecutor(threads) as pool:
        for shard in missing:
            parts = []
            for part in in_order(pool, features_of, shard.records(project), ahead=2 * threads):
                parts.append(part)
                advance(1)
            store.write(shard.index, np.concatenate(parts), signatures[shard.index])
    return FeatureSummary(
        backbone=backbone,
        images=len(project.images),
        masks=len(masks),
        made=made,
        channels=sum(network.channels),
        seconds=time.perf_counter() - began,
    )


def learned_features(project: Project) -> NDArray[np.float16] | None:
    """Read the features of all M masks, (M, D) float16; None if they were not made, or not of the masks there are now."""
    store, shards = _store(project), shards_of(project.images, SHARD)
    for backbone in BACKBONES:
        signatures = _signatures(project, backbone)
        if all(store.has(shard.index, signatures[shard.index]) for shard in shards):
            return np.concatenate(list(store.read(len(shards))))
    if any(store.folder.glob("part-*.parquet")):
        _LOG.warning(
            "Learned features are incomplete or of other masks, and are not used. Make them between rounds: a2lc features %s",
            project.folder,
        )
    return None


def _store(project: Project) -> FeatureStore:
    return FeatureStore(project.folder / "tables" / "features")


def _signatures(project: Project, backbone: str) -> list[str]:
    """Digest what the features of each shard depend on: the backbone, how it sees images, the images and their masks."""
    return [_signature(project, backbone, shard) for shard in shards_of(project.images, SHARD)]


def _signature(project: Project, backbone: str, shard: Shard) -> str:
    masks = project.masks
    digest = hashlib.sha256(f"{backbone} {LARGEST_SIDE}".encode())
    for image in shard.records(project):
        first, last = np.searchsorted(masks.image, [image.index, image.index + 1])
        digest.update(f"{image.image_id} {image.height} {image.width} {last - first}".encode())
        digest.update(masks.mask_ids[first:last].astype("<i8").tobytes())
        digest.update(masks.area[first:last].astype("<i8").tobytes())
    return digest.hexdigest()
