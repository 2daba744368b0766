"""What a network is fitted to, named without torch: corrected labels, classes of regions, or labels and unlabeled pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import VOID
from a2lc.ledger.replay import MaskState
from a2lc.project.project import Project
from a2lc.records import AnswerKind, RegionAnswer

__all__ = ["Fitted", "LabelObjective", "Objective", "RegionObjective", "SemiObjective"]


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelObjective:
    """Cross entropy on corrected labels, over the images that carry any.

    Attributes:
        state: The corrected labels.
    """

    state: MaskState

    def images(self, project: Project) -> list[int]:
        """Return the positions of the images to learn from, ascending."""
        return labelled_images(project, self.state)


@dataclass(frozen=True, eq=False, kw_only=True)
class SemiObjective:
    """Labels where there are any, and a teacher's elsewhere; see `a2lc.training.tasks.semi_supervised`.

    Attributes:
        state: The corrected labels.
        seed: Of the masks held out for the error head, the same in all rounds of a project.
        given: (M,) masks whose labels were given by someone; None trusts all labels, initial ones too.
    """

    state: MaskState
    seed: int
    given: NDArray[np.bool_] | None = None

    def images(self, project: Project) -> list[int]:
        """Return the positions of the images with labels to learn from, ascending."""
        return labelled_images(project, replace(self.state, layer=None))


@dataclass(frozen=True, eq=False, kw_only=True)
class RegionObjective:
    """Losses on the sets of classes that regions were said to hold; see `a2lc.training.tasks.regions`.

    Attributes:
        answers: Answers by image.
        losses: Weights and variant of the losses.
    """

    answers: Mapping[int, Sequence[RegionAnswer]]
    losses: dict[str, Any] = field(default_factory=dict)

    def images(self, project: Project) -> list[int]:
        """Return the positions of the images with an answer that names classes, ascending."""
        return sorted(image for image, said in self.answers.items() if any(map(names_classes, said)))


Objective = LabelObjective | SemiObjective | RegionObjective
"""What a network is fitted to."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The outcome of a training.

    Attributes:
        steps: Steps taken.
        kept: `best` or `last`: which weights were kept.
        validation_miou: mIoU of the best weights on the validation set, None without one.
    """

    steps: int
    kept: str
    validation_miou: float | None


def names_classes(answer: RegionAnswer) -> bool:
    """Return whether an answer names classes that a region holds."""
    return answer.kind in {AnswerKind.CLASSES, AnswerKind.CONFIRM, AnswerKind.CORRECT} and bool(answer.classes)


def labelled_images(project: Project, state: MaskState) -> list[int]:
    """Return the positions of the images with a label to learn from, ascending."""
    sources = project.config.sources
    if sources.labels is not None and not sources.partial:
        return list(range(len(project.images)))
    some = project.masks.current(state) != VOID
    labelled = set(project.masks.image[some].tolist())
    if state.layer is not None:
        labelled |= set(project.ledger.layer_files(state.layer))
    if sources.labels is not None or sources.format != "folder":
        # Labels may lie outside all masks.
        bare = set(range(len(project.images))) - set(project.masks.image.tolist())
        ignore = project.classes.ignore_index
        labelled |= {i for i in bare if (project.first_labels(project.images[i]) != ignore).any()}
    return sorted(labelled)
