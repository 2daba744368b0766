"""Settings of pseudo labels, and the work they make of a project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2lc.creation.masks import COVERS
from a2lc.errors import InputError, require_known
from a2lc.foundation.compose import OVERLAP_RULES
from a2lc.foundation.detector import REDUCTIONS
from a2lc.foundation.prompts import class_phrases
from a2lc.masks.superpixels import MAX_MASKS
from a2lc.project.project import Project
from a2lc.records import ImageRecord
from a2lc.weights.files import Ready, identity

__all__ = ["FOLDER", "FORMAT", "Job", "PseudoSettings", "digest"]


FORMAT = 1


FOLDER = "pseudo"


def digest(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a JSON object, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class PseudoSettings:
    """How labels are made.

    Attributes:
        box_threshold: Boxes of lower scores are not used; 0.2 as ALC and A2LC.
        one_class_per_prompt: Look for one class at a time: slower, and no class is weighed against another's words.
        reduction: How tokens' probabilities make a score: `mean` or `max`.
        nms: Of two boxes of one class whose intersection is more than this share of their union, the better stays; 0.8 as
            in the demo of Grounded-Segment-Anything.
        most: Boxes of an image, at most.
        shortest: Images are shown to the detector with this shortest side in pixels,
        longest: or with this longest side, whichever makes them smaller.
        overlap: Which mask keeps a pixel: a name of `OVERLAP_RULES`.
        cover: What becomes of pixels without an object: a name of `COVERS`.
        cover_count: Superpixels an image, before objects take their pixels away.
        background: Class of the pixels without an object; it is not looked for. None for no class.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch: Pairs of image and prompt the detector sees at once; None for 1 on a CPU and 4 on a GPU.
        autocast: Half precision on a GPU.
    """

    box_threshold: float = 0.2
    one_class_per_prompt: bool = False
    reduction: str = "mean"
    nms: float = 0.8
    most: int = 1000
    shortest: int = 800
    longest: int = 1333
    overlap: str = "score"
    cover: str = "slic"
    cover_count: int = 200
    background: str | None = None
    device: str = "auto"
    batch: int | None = None
    autocast: bool = True

    def check(self) -> None:
        """Raise if a setting is out of range.

        Raises:
            UnknownNameError: There is no such rule or cover.
            InputError: A number is out of range.
        """
        require_known("reduction", self.reduction, REDUCTIONS)
        require_known("overlap rule", self.overlap, OVERLAP_RULES)
        require_known("cover", self.cover, COVERS)
        for name in ("box_threshold", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` is {getattr(self, name)}; expected 0 to 1.")
        if not 1 <= self.cover_count <= MAX_MASKS:
            raise InputError(f"`cover_count` is {self.cover_count:,}; expected 1 to {MAX_MASKS:,}.")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"`batch` is {self.batch}; expected at least 1.")
        if not 32 <= self.shortest <= self.longest:
            raise InputError(
                f"`shortest` is {self.shortest} and `longest` is {self.longest}; expected at least 32 pixels, and "
                "shortest not above longest."
            )


@dataclass(frozen=True, eq=False)
class Job:
    """A project, and what is to be done with it."""

    project: Project
    settings: PseudoSettings
    detector: Ready
    segmenter: Ready
    phrases: dict[int, tuple[str, ...]]
    background: int | None
    look: dict[str, Any] = field(repr=False)
    """Everything that what the models find depends on, but for the image and the threshold."""

    @classmethod
    def of(cls, project: Project, settings: PseudoSettings, detector: Ready, segmenter: Ready) -> Job:
        """Create the job of a project, after checking the settings."""
        settings.check()
        classes = project.classes
        background = None if settings.background is None else classes.index(settings.background)
        phrases = class_phrases(classes, [] if background is None else [background])
        look = {
            "format": FORMAT,
            "detector": identity(detector),
            "segmenter": identity(segmenter),
            "classes": classes.num_classes,
            "phrases": [[index, *texts] for index, texts in phrases.items()],
            **{
                name: getattr(settings, name)
                for name in ("one_class_per_prompt", "reduction", "nms", "most", "shortest", "longest")
            },
        }
        return cls(project, settings, detector, segmenter, phrases, background, look)

    def path(self, image: ImageRecord) -> Path:
        """Return the file that keeps the detections of an image."""
        return self.project.folder / FOLDER / f"{image.image_id}.npz"

    def key(self, image: ImageRecord) -> str:
        """Return the digest of all that the detections of an image depend on."""
        return digest(self.look | {"image": image.sha256, "size": [image.height, image.width]})

    def composition(self) -> dict[str, Any]:
        """Return what laying masks over each other depends on, besides the detections."""
        names = ("box_threshold", "overlap", "cover", "cover_count", "background")
        return {name: getattr(self.settings, name) for name in names} | {
            "priorities": [self.project.classes.priority(index) for index in range(self.project.classes.num_classes)]
        }
