"""Records that stages, methods and the ledger exchange: images, queries, answers, and views for methods; all frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from a2lc.statistics.features import FeatureMap
    from a2lc.statistics.mask_stats import MaskStats

__all__ = [
    "SUGGESTIONS",
    "Answer",
    "AnswerKind",
    "Changes",
    "ImageRecord",
    "Inspection",
    "PixelView",
    "PoolTotals",
    "Query",
    "QueryKind",
    "Reason",
    "RegionAnswer",
    "RoundView",
    "Source",
    "numbered",
]


SUGGESTIONS = 9
"""Classes suggested with a query at most: as many as an annotator has digits."""


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


class QueryKind(StrEnum):
    """What a question asks.

    `correction`: is the mask's class right, and if not, which is? `grid`: the same, of a mask that is shown beside others
    thought to be of one class, all of which one click confirms but for those marked. `dominant`: which class is most of it?
    `pixel`: is the class right at one pixel, and if not, which is? `classes`: which classes are in it? `precise`: where in
    it is which?
    """

    CORRECTION = "correction"
    GRID = "grid"
    DOMINANT = "dominant"
    PIXEL = "pixel"
    CLASSES = "classes"
    PRECISE = "precise"


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


@dataclass(frozen=True, kw_only=True, slots=True)
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
        kind: What is asked of them.
        pixel: Flat index into H*W of the pixel asked about, for `pixel`.
        grid: Of kind `grid`: the `query_id` of the first query it is asked together with; before they are recorded, any
            number they have in common. The class that the grid shows is the first suggestion of each.
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
    kind: QueryKind = QueryKind.CORRECTION
    pixel: int | None = None
    grid: int | None = None


def numbered(queries: Sequence[Query], first: int) -> list[Query]:
    """Return queries with the ids that they get when they are recorded, from `first`, and their grids named by them."""
    leads: dict[int, int] = {}
    for i, query in enumerate(queries):
        if query.grid is not None:
            leads.setdefault(query.grid, first + i)
    return [
        replace(query, query_id=first + i, grid=None if query.grid is None else leads[query.grid])
        for i, query in enumerate(queries)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
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
        pixels: SHA-256 of the pixel labels that came with it, see `Project.answered_pixels`; None for most.
        in_grid: Whether it was given where the whole grid of its query was shown. Its clicks are recorded, this is not.
    """

    query_id: int
    annotator: str
    kind: AnswerKind
    classes: tuple[int, ...] = ()
    milliseconds: int | None = None
    answer_id: int = 0
    replaces: int | None = None
    pixels: str | None = None
    in_grid: bool = field(default=False, compare=False)


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

    @classmethod
    def none(cls) -> Changes:
        """Return no changes."""
        empty = np.empty(0)
        return cls(rows=empty.astype(np.int64), classes=empty.astype(np.int32), confidences=empty)


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolTotals:
    """Sums over all masks of a project, or over their groups where a method merges them: what class balance needs.

    Attributes:
        masks_by_dominant: (K,) masks by dominant predicted class.
        pixels_by_dominant: (K,) pixels of those masks.
        prob_sums: (K,) summed probabilities of all their pixels.
    """

    masks_by_dominant: NDArray[np.int64]
    pixels_by_dominant: NDArray[np.int64]
    prob_sums: NDArray[np.float64]

    @property
    def mean_probs(self) -> NDArray[np.float64]:
        """(K,) mean predicted probability over the pixels of all masks."""
        return np.asarray(self.prob_sums / max(1, int(self.pixels_by_dominant.sum())), dtype=np.float64)

    @classmethod
    def of(cls, parts: Sequence[MaskStats], num_classes: int) -> PoolTotals:
        """Of a pool that is in memory."""
        total = cls(
            masks_by_dominant=np.zeros(num_classes, dtype=np.int64),
            pixels_by_dominant=np.zeros(num_classes, dtype=np.int64),
            prob_sums=np.zeros(num_classes),
        )
        for stats in parts:
            total = total.plus(stats)
        return total

    def plus(self, stats: MaskStats) -> PoolTotals:
        """With the masks of one more part."""
        by_area = np.bincount(stats.dominant, weights=stats.area, minlength=stats.num_classes)
        return PoolTotals(
            masks_by_dominant=self.masks_by_dominant + np.bincount(stats.dominant, minlength=stats.num_classes),
            pixels_by_dominant=self.pixels_by_dominant + by_area.astype(np.int64),
            prob_sums=self.prob_sums + stats.prob_sums.sum(axis=0, dtype=np.float64),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class RoundView:
    """What a method is shown. There is no field for ground truth.

    Attributes:
        stats: Statistics of M masks, of the whole data set or of a part of it.
        current: (M,) class each mask carries now, VOID (-1) for none.
        asked: (M,) True where a person, or the oracle, has answered for the mask.
        pixels_per_class: (K,) pixels by current label in masks not asked about before this round.
        void_pixels: Pixels without a class in those masks.
        round: Number of the round, from 1.
        seed: Of the round: methods draw from it alone.
        totals: Sums over the whole pool, for methods that say they need them.
        extra: (M,) columns the method added to the statistics, by name.
    """

    stats: MaskStats
    current: NDArray[np.int32]
    asked: NDArray[np.bool_]
    pixels_per_class: NDArray[np.int64]
    void_pixels: int
    round: int
    seed: int
    totals: PoolTotals | None = None
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RegionAnswer:
    """What an annotator has said of one or more masks of an image, in any round.

    Attributes:
        mask_ids: The masks.
        kind: What was said.
        classes: The classes named.
        round: In which round it was asked.
        pixels: SHA-256 of pixel labels that came with it, or None.
    """

    mask_ids: tuple[int, ...]
    kind: AnswerKind
    classes: tuple[int, ...]
    round: int
    pixels: str | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Inspection:
    """What a network says of one image, beyond its predicted class.

    Attributes:
        probs: (K, H, W) float32 at the image's size.
        features: Penultimate features on their own grid, of unit length under a head of this package; None where the
            network does not show them.
        class_logits: (K, h, w) products of features and class weights on that grid, without temperature; or None.
        errors: (H, W) float32 in [0, 1], how likely the prediction is wrong, by an error head; or None.
    """

    probs: NDArray[np.float32]
    features: FeatureMap | None = None
    class_logits: NDArray[np.float32] | None = None
    errors: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelView:
    """What a method is shown that gives labels below the mask. There is no field for ground truth.

    Attributes:
        images: Positions of the images.
        num_classes: K.
        round: Number of the round.
        seed: Of the round.
        answers: For each image with any, what was said of its masks so far.
        mask_map: From an image to its (H, W) mask ids.
        labels: From an image to its (H, W) class indices by masks alone, VOID for none.
        answered_pixels: From the hash in an answer to its (H, W) pixel labels, KEEP where nothing is said.
        inspect: From an image to what the network says of it; None where there is no network yet.
    """

    images: Sequence[int]
    num_classes: int
    round: int
    seed: int
    answers: Mapping[int, Sequence[RegionAnswer]]
    mask_map: Callable[[int], NDArray[Any]]
    labels: Callable[[int], NDArray[np.int32]]
    answered_pixels: Callable[[str], NDArray[np.int32]]
    inspect: Callable[[int], Inspection] | None
