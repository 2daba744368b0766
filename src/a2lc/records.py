"""The nouns of the loop, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2lc.stats import MaskStats

__all__ = [
    "Answer",
    "AnswerKind",
    "Changes",
    "ImageRecord",
    "MaskKey",
    "Query",
    "Reason",
    "RoundView",
    "Source",
]


class MaskKey(NamedTuple):
    """The name of a mask, stable over the life of a project."""

    image_id: str
    mask_id: int


class AnswerKind(StrEnum):
    """What an annotator said of a mask.

    `confirm` keeps the proposed class, `correct` names another, `classes` names all that are in it, `mixed` says
    that no one class fits, `void` that it has none, `skip` that the annotator cannot tell.
    """

    CONFIRM = "confirm"
    CORRECT = "correct"
    CLASSES = "classes"
    MIXED = "mixed"
    VOID = "void"
    SKIP = "skip"


class Source(StrEnum):
    """Where a correction comes from."""

    MANUAL = "manual"
    AUTOMATIC = "automatic"
    IMPORT = "import"
    UNDO = "undo"


class Reason(StrEnum):
    """Why a mask was asked about: its score, a random audit, or to check the annotator."""

    ACQUISITION = "acquisition"
    AUDIT = "audit"
    GOLD = "gold"


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """An image as it was imported.

    Attributes:
        index: Position in the project, from 0; what `MaskStats.image` holds.
        image_id: Path below the image folder without suffix: its name in every file the project writes.
        file: Path of the image below its source folder.
        width: Pixels, upright where the EXIF orientation is applied.
        height: Pixels.
        split: `train`, whose labels are corrected, or `validation`, which only measures models.
        sha256: Of the image file, so that an exchanged file is seen.
    """

    index: int
    image_id: str
    file: str
    width: int
    height: int
    split: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Query:
    """A question: one or more masks of an image, and the class they are thought to be.

    Attributes:
        query_id: Row in the ledger; 0 until it is recorded.
        round: Round that asks.
        image: Position of the image.
        mask_ids: Masks asked about as one.
        proposed: Class index, or None where the masks carry none.
        suggestions: Class indices, the likeliest first, for the annotator's keys.
        score: Value of the acquisition function.
        reason: Why it is asked.
        inclusion_probability: Chance of this mask to be asked, where it was drawn at random.
    """

    query_id: int = 0
    round: int
    image: int
    mask_ids: tuple[int, ...]
    proposed: int | None
    suggestions: tuple[int, ...] = ()
    score: float
    reason: Reason = Reason.ACQUISITION
    inclusion_probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A reply to a query.

    Attributes:
        query_id: The question.
        annotator: Name of a person, or `oracle`.
        kind: What was said.
        classes: Class indices; one for `confirm` and `correct`, none for `void`, `mixed` and `skip`.
        milliseconds: From question to key, None for the oracle.
        answer_id: Row in the ledger; 0 until it is recorded.
        replaces: The answer this one takes the place of.
    """

    query_id: int
    annotator: str
    kind: AnswerKind
    classes: tuple[int, ...] = ()
    milliseconds: int | None = None
    answer_id: int = 0
    replaces: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Changes:
    """Changes of class proposed by a method for masks nobody looked at.

    Attributes:
        rows: (n,) rows of the statistics they were proposed from.
        classes: (n,) new classes.
        confidences: (n,) in [0, 1].
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int32]
    confidences: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class RoundView:
    """What a method is shown. There is no field for ground truth.

    Attributes:
        stats: Statistics of M masks, of the whole data set or of a part of it.
        current: (M,) class each mask carries now, or `ignore_index`.
        asked: (M,) True where a person, or the oracle, has answered for the mask.
        pixels_per_class: (K,) pixels by current label in masks not asked about before this round.
        void_pixels: Pixels without a class in those masks.
        round: Number of the round, from 1.
        seed: Of the round: methods draw from it alone.
    """

    stats: MaskStats
    current: NDArray[np.int32]
    asked: NDArray[np.bool_]
    pixels_per_class: NDArray[np.int64]
    void_pixels: int
    round: int
    seed: int
