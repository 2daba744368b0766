"""What a network is fitted to: corrected labels, the classes of regions, or labels and unlabelled pixels together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.ledger import MaskState
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.records import ImageRecord, RegionAnswer
from a2lc.training.module import HELD_OUT, PADDING, RegionModule, SegmentationModule, SemiModule
from a2lc.training.objectives import labelled_images, names_classes

__all__ = ["NO_REGION", "Task", "regions", "semi_supervised", "supervised"]

NO_REGION = -1
"""Target of pixels in no answered region."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network is fitted to.

    Attributes:
        name: What settings.json tells a killed training by.
        images: Positions of the images that are trained on.
        targets: From an image to its (H, W) integer targets.
        fill: Target of padding.
        module: From network, settings, K, ignore index, steps and seed to the Lightning module.
        weights: Name of the file the fitted weights go to.
        validates: Whether the best weights on validation ground truth may be kept.
        stamp: Anything else that decides the outcome.
    """

    name: str
    images: Sequence[int]
    targets: Callable[[ImageRecord], NDArray[Any]]
    fill: int
    module: Callable[..., SegmentationModule]
    weights: str = "model.ckpt"
    validates: bool = True
    stamp: dict[str, Any] = field(default_factory=dict)


def supervised(project: Project, state: MaskState, config: TrainingConfig, seed: int) -> Task:
    """Build a task of cross entropy on corrected labels, over the images that carry any."""
    return Task(
        name="labels",
        images=labelled_images(project, state),
        targets=lambda record: project.corrected_labels(record, state),
        fill=project.classes.ignore_index,
        module=SegmentationModule,
    )


def regions(
    project: Project,
    answers: Mapping[int, Sequence[RegionAnswer]],
    config: TrainingConfig,
    *,
    pooling: str = "code",
    single_weight: float = 16.0,
    several_weight: float = 8.0,
    prototype_weight: float = 1.0,
) -> Task:
    """Build MulActSeg's first stage: losses on the sets of classes that regions were said to hold (arXiv:2309.09319).

    Args:
        project: Images and masks.
        answers: What was said, by image.
        config: Training settings.
        pooling: `code` or `slides`, see `RegionModule`.
        single_weight: λ of the cross entropy on regions of one class.
        several_weight: λ of the merged positive loss on regions of several.
        prototype_weight: Of the prototypical pixel loss.
    """
    sets: list[tuple[int, ...]] = []
    numbers: dict[int, dict[int, int]] = {}
    for image, said in sorted(answers.items()):
        for answer in said:
            if names_classes(answer):
                for mask in answer.mask_ids:
                    numbers.setdefault(image, {})[mask] = len(sets)
                sets.append(answer.classes)
    table = np.zeros((max(1, len(sets)), project.classes.num_classes), dtype=bool)
    for row, classes in enumerate(sets):
        table[row, list(classes)] = True

    def targets(record: ImageRecord) -> NDArray[Any]:
        mask_map = project.mask_map(record)
        lookup = np.full(int(mask_map.max(initial=0)) + 1, NO_REGION, dtype=np.int32)
        for mask, row in numbers[record.index].items():
            if mask < len(lookup):
                lookup[mask] = row
        return lookup[mask_map]

    weights = {"single": single_weight, "several": several_weight, "prototype": prototype_weight}

    def module(*args: Any, **more: Any) -> SegmentationModule:
        return RegionModule(*args, table=table, pooling=pooling, weights=weights, **more)

    return Task(
        name="regions",
        images=sorted(numbers),
        targets=targets,
        fill=NO_REGION,
        module=module,
        weights="regions.ckpt",
        stamp={"regions": len(sets), "pooling": pooling, "weights": weights},
    )


def semi_supervised(
    project: Project, state: MaskState, config: TrainingConfig, seed: int, given: NDArray[np.bool_] | None = None
) -> Task:
    """Build a task on labels where there are any and a teacher's elsewhere; a part is held out for the error head.

    Pixels that a layer labelled stand for the teacher's: they are refined pseudo labels, and no error head learns from
    those.

    Args:
        project: Images and masks.
        state: The corrected labels.
        config: Training settings.
        seed: Of the masks held out. The same in all rounds of a project: networks that go on from earlier weights must not
            have learnt what is held from them.
        given: (M,) masks whose labels were given by someone; None trusts all labels, first ones too.
    """
    share = 0.25  # ours: enough errors to learn from, at a price in labels that shows little
    by_masks = replace(state, layer=None)
    ignore = project.classes.ignore_index

    def targets(record: ImageRecord) -> NDArray[Any]:
        mask_map = project.mask_map(record)
        trusted = project.corrected_labels(record, by_masks, mask_map=mask_map).astype(np.int32)
        if given is not None:
            first, last = np.searchsorted(project.masks.image, [record.index, record.index + 1])
            said = np.zeros(int(mask_map.max(initial=0)) + 1, dtype=bool)
            said[project.masks.mask_ids[first:last]] = given[first:last]
            trusted = np.where(said[mask_map], trusted, ignore)
        labels = trusted if state.layer is None else _refined(project, state, record, trusted)
        draw = np.random.default_rng([seed, record.index]).random(int(mask_map.max(initial=0)) + 1)
        draw[0] = 1.0
        held = (draw < share)[mask_map] & (trusted != ignore)
        return np.where(held, trusted + HELD_OUT, labels)

    labelled = labelled_images(project, by_masks)
    rest = sorted(set(range(len(project.images))) - set(labelled))
    # Half of what is drawn carries labels, however few they are: else the networks would learn from each other alone.
    times = max(1, round(len(rest) / len(labelled))) if labelled else 0
    return Task(
        name="semi",
        images=[*labelled * times, *rest] if labelled else [],
        targets=targets,
        fill=PADDING,
        module=SemiModule,
        stamp={"held_out": share, "held_out_seed": seed},
    )


def _refined(project: Project, state: MaskState, record: ImageRecord, trusted: NDArray[Any]) -> NDArray[Any]:
    """Given labels, and what the layer says elsewhere."""
    assert state.layer is not None
    said = project.layers.pixels(state.layer, record)
    if said is None:
        return trusted
    return np.where((trusted == project.classes.ignore_index) & (said >= 0), said, trusted)
