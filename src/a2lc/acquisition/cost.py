"""What an answer costs, so that budgets of different questions compare (pure)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from a2lc.errors import ConfigError, InputError, ShapeError
from a2lc.records import Answer, AnswerKind, Query

__all__ = [
    "AnswerTimes",
    "ClickCost",
    "RegionClicks",
    "break_even_error_rate",
    "classification_bits",
    "correction_bits",
    "correction_bits_entropy",
    "polygon_vertices",
    "precise_clicks",
    "region_clicks",
]

Rate = TypeVar("Rate", float, NDArray[np.float64])


@dataclass(frozen=True, kw_only=True)
class ClickCost:
    """Clicks of an answer to a correction query.

    A2LC and ALC count one click a query, whether the label is kept or corrected.

    Attributes:
        confirm: Clicks to keep the proposed class.
        correct: Clicks to name another class, or void.
        per_class: Clicks for each class ticked in an answer that names all classes of a mask.
    """

    confirm: float = 1.0
    correct: float = 1.0
    per_class: float = 1.0

    def __post_init__(self) -> None:
        """Refuse costs that no budget could bound.

        Raises:
            ConfigError: A cost is not above 0.
        """
        if not (self.confirm > 0 and self.correct > 0 and self.per_class > 0):
            raise ConfigError(
                f"Clicks of an answer must be above 0, found {self.confirm} and {self.correct}, and {self.per_class} "
                "per class."
            )

    @property
    def highest(self) -> float:
        """The most a query can cost: what a budget is divided by, so that it is never passed."""
        return max(self.confirm, self.correct)

    def of(self, kind: str) -> float:
        """Return the clicks of an answer of a kind; 0 for a skipped query."""
        return {"confirm": self.confirm, "skip": 0.0}.get(kind, self.correct)

    def of_answer(self, kind: str, num_named: int) -> float:
        """Return the clicks of an answer that names so many classes; an answer of kind `classes` costs each of them."""
        return max(1, num_named) * self.per_class if kind == "classes" else self.of(kind)

    def of_reply(self, query: Query, answer: Answer) -> float:
        """Return the clicks of an answer to a query.

        A grid costs the clicks of one confirmation, whatever it holds, and for each mask that is not of its class a click
        to mark it and those of an answer to it alone. Those of the confirmation are counted with the grid's first query. A
        query of a grid that was shown alone costs what others do.
        """
        alone = self.of_answer(answer.kind, len(answer.classes))
        if query.grid is None or not answer.in_grid:
            return alone
        opening = self.confirm if query.grid == query.query_id else 0.0
        as_shown = answer.kind in {AnswerKind.CONFIRM, AnswerKind.CORRECT} and answer.classes == query.suggestions[:1]
        return opening + (0.0 if as_shown else self.confirm + alone)


@dataclass(frozen=True, kw_only=True)
class AnswerTimes:
    """Seconds that a person is reckoned to take. They are assumed, not measured: times of one's own are in the report.

    Attributes:
        look: To see what a picture asks about.
        key: To press a key or click.
        choose: To find a class other than the one that is proposed.
        tile: To look at a further picture of a grid.
    """

    look: float = 2.0
    key: float = 0.5
    choose: float = 1.5
    tile: float = 0.4

    def of_reply(self, query: Query, answer: Answer, clicks: float) -> float:
        """Return the seconds of an answer to a query of one mask or region.

        Args:
            query: What was asked.
            answer: What was said.
            clicks: What it cost. A mask of a grid that costs no click, or that of the confirmation, was not marked.
        """
        named = max(1, len(answer.classes))
        proposed = query.suggestions[:1] if query.proposed is None or query.grid is not None else (query.proposed,)
        other = answer.kind != AnswerKind.CONFIRM and answer.classes != proposed
        alone = self.look + named * (self.key + self.choose * other)
        opening = float(query.grid == query.query_id)
        if query.grid is None or (clicks == 1.0 and not opening):
            return alone
        marked = self.key + alone if clicks > opening else 0.0
        return opening * (self.look + self.key) + self.tile + marked


# ---- bits of a question ---------------------------------------------------------------------------------------------
#
# The cost of picking one of L classes is log2(L) bits (arXiv:2502.06209). ALC (arXiv:2403.10820) asks whether a class is
# right, and for another one only where it is not; what that costs under the same model is derived here.


def classification_bits(num_classes: int) -> float:
    """Cost of picking one of L classes: log2(L) bits.

    Raises:
        InputError: There are fewer than two classes.

    Example:
        >>> round(classification_bits(19), 2)
        4.25
    """
    return math.log2(_two_or_more(num_classes))


def correction_bits(error_rate: Rate, num_classes: int) -> Rate:
    """Cost of "is it this class? if not, which?": a yes or no, and a choice among the others where it is wrong.

    Args:
        error_rate: Share of labels that are wrong, in [0, 1]; a number or an array.
        num_classes: L, two or more.

    Returns:
        1 + e·log2(L-1) bits, shaped as `error_rate`.

    Raises:
        InputError: The rate is not in [0, 1], or there are fewer than two classes.

    Example:
        >>> [round(correction_bits(e, 19), 2) for e in (0.1, 0.3, 0.5)]
        [1.42, 2.25, 3.08]
    """
    return 1.0 + _rate(error_rate) * math.log2(_two_or_more(num_classes) - 1)


def correction_bits_entropy(error_rate: Rate, num_classes: int) -> Rate:
    """Return the information in the answer to a correction query of known error rate: the fewest bits it can cost.

    Never above `classification_bits`, and equal to it at e = (L-1)/L, where the label says nothing.

    Args:
        error_rate: Share of labels that are wrong, in [0, 1]; a number or an array.
        num_classes: L, two or more.

    Returns:
        H(e) + e·log2(L-1) bits, shaped as `error_rate`.

    Raises:
        InputError: The rate is not in [0, 1], or there are fewer than two classes.

    Example:
        >>> round(correction_bits_entropy(18 / 19, 19), 2), correction_bits_entropy(0.0, 19)
        (4.25, 0.0)
    """
    rate = np.asarray(_rate(error_rate), dtype=np.float64)
    bits = rate * math.log2(_two_or_more(num_classes) - 1)
    for share in (rate, 1 - rate):
        bits = bits - share * np.log2(np.where(share > 0, share, 1))
    return bits if isinstance(error_rate, np.ndarray) else float(bits)


def break_even_error_rate(num_classes: int) -> float:
    """Error rate below which a correction query costs less than picking one of L classes: (log2 L - 1)/log2(L-1).

    Returns:
        A rate in [0, 1); 0 for two classes, where correcting is never the cheaper.

    Raises:
        InputError: There are fewer than two classes.

    Example:
        >>> round(break_even_error_rate(19), 3), round(break_even_error_rate(21), 3), break_even_error_rate(2)
        (0.779, 0.785, 0.0)
    """
    if _two_or_more(num_classes) == 2:
        return 0.0
    return (math.log2(num_classes) - 1) / math.log2(num_classes - 1)


def _two_or_more(num_classes: int) -> int:
    if num_classes < 2:
        raise InputError(f"With {num_classes} classes there is nothing to ask; expected at least 2.")
    return num_classes


def _rate(error_rate: Rate) -> Rate:
    if not np.all((np.asarray(error_rate) >= 0) & (np.asarray(error_rate) <= 1)):
        raise InputError(f"The error rate is {error_rate}; expected 0 to 1.")
    return error_rate


# ---- clicks of labelling a region precisely -------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class RegionClicks:
    """What it costs to label each of M regions of an image.

    Attributes:
        mask_ids: (M,) ascending.
        polygon: (M,) polygon vertices inside the region, not on its border with others.
        classes: (M,) pieces of one class in the region, each of which is given its class; void included.
        intersections: (M,) places where the boundary between two classes meets the border of the region.

    Source:
        Cai et al., CVPR 2021: c_p, c_c and c_i of scripts/compute_anno_cost.py. That script leaves out the first pair of
        pixels of each side of a rectangle; here each side counts whole.
    """

    mask_ids: NDArray[np.int64]
    polygon: NDArray[np.int64]
    classes: NDArray[np.int64]
    intersections: NDArray[np.int64]

    @property
    def precise(self) -> NDArray[np.int64]:
        """(M,) clicks of a label for each pixel: polygon + classes + intersections."""
        return self.polygon + self.classes + self.intersections

    @property
    def dominant(self) -> NDArray[np.int64]:
        """(M,) clicks of one label for the region: 1."""
        return np.ones_like(self.polygon)


def polygon_vertices(truth: NDArray[Any], *, tolerance: float = 1.0) -> NDArray[np.int64]:
    """Count the corners of the polygons one would click to label an image.

    They are derived from the map, since most data sets keep no polygons: the outline of each 8-connected piece of one
    value, simplified. Holes are not outlined: what lies in them has an outline of its own. Void is a value as any other:
    someone has to outline it too.

    Args:
        truth: (H, W) integer.
        tolerance: How far an outline may pass from the border of its piece, in pixels, 0 or more.

    Returns:
        (n, 2) int64 rows and columns of pixels, piece by piece; one for a piece of a pixel or two.

    Raises:
        InputError: The tolerance is negative.

    Example:
        >>> polygon_vertices(np.zeros((4, 6), dtype=np.uint8)).tolist()
        [[3, 5], [3, 0], [0, 0], [0, 5]]
    """
    from skimage.measure import regionprops

    if tolerance < 0:
        raise InputError(f"The tolerance of outlines is {tolerance}; expected at least 0 pixels.")
    pieces = label(truth.astype(np.int64), background=-1, connectivity=2)  # type: ignore[no-untyped-call]
    found = [np.empty((0, 2), dtype=np.int64)]
    for piece in regionprops(pieces):  # type: ignore[no-untyped-call]
        top, left = piece.bbox[:2]
        found.append(_outline(np.pad(piece.image, 1), tolerance) + np.array([top - 1, left - 1]))
    return np.concatenate(found)


def _outline(inside: NDArray[np.bool_], tolerance: float) -> NDArray[np.int64]:
    """Return the (n, 2) corner pixels of the simplified outline of a piece; the piece is padded by one pixel."""
    from skimage.measure import approximate_polygon, find_contours  # needs scipy.signal, which is slow to load

    contours = find_contours(inside.astype(np.float64), 0.5, fully_connected="high")  # type: ignore[no-untyped-call]
    outer = min(contours, key=lambda contour: contour[:, 0].min())  # no hole reaches as far up
    corners = approximate_polygon(outer, tolerance)[:-1]  # type: ignore[no-untyped-call]  # the last is the first
    # A contour runs between a pixel of the piece and one beside it: the vertex is the one of the piece.
    low, high = np.floor(corners).astype(np.int64), np.ceil(corners).astype(np.int64)
    pixels: NDArray[np.int64] = np.where(inside[tuple(low.T)][:, None], low, high)
    changed = (pixels != np.roll(pixels, 1, axis=0)).any(axis=1)
    return pixels[changed] if changed.any() else pixels[:1]


def precise_clicks(truth: NDArray[Any], *, tolerance: float = 1.0) -> int:
    """Count the clicks of labelling a whole image by polygons: their corners, and a class for each.

    Args:
        truth: (H, W) integer; void is a value as any other.
        tolerance: As in `polygon_vertices`.

    Source:
        Cai et al., CVPR 2021: c_p + c_c of an image, from outlines derived from the map.
    """
    pieces = label(truth.astype(np.int64), background=-1, connectivity=2)  # type: ignore[no-untyped-call]
    return len(polygon_vertices(truth, tolerance=tolerance)) + int(pieces.max(initial=0))


def region_clicks(truth: NDArray[Any], mask_map: NDArray[Any], vertices: NDArray[Any]) -> RegionClicks:
    """Compute what it costs to label each region of an image, from its ground truth.

    Args:
        truth: (H, W) integer, not negative; void is a value as any other.
        mask_map: (H, W) integer regions of any shape, 0 where there is none.
        vertices: (n, 2) rows and columns, as of `polygon_vertices`.

    Returns:
        A row for each region, by mask id ascending. Vertices where the region meets the edge of the image are inside: no
        other click stands for them, as published. Changes of class are counted along the whole border, the edge of
        the image included, from one border pixel to the next; where a region is one pixel thick both ways count, as
        the two sides of a rectangle do.

    Raises:
        ShapeError: The two maps differ in shape.

    Source:
        Cai et al., CVPR 2021, for rectangles; walking along the border makes it fit regions of any shape.
    """
    if truth.shape != mask_map.shape:
        raise ShapeError(f"Ground truth has shape {truth.shape}, but the mask map has shape {mask_map.shape}.")
    mask_ids, row = np.unique(mask_map, return_inverse=True)
    row = row.reshape(mask_map.shape)
    number = len(mask_ids)
    classes = np.bincount(_piece_owners(truth, row), minlength=number)
    rows, cols = vertices.astype(np.int64).T
    inside = ~_border(row)[rows, cols]
    polygon = np.bincount(row[rows[inside], cols[inside]], minlength=number)
    crossings = _crossings(truth, row, number)
    kept = mask_ids > 0
    return RegionClicks(
        mask_ids=mask_ids[kept].astype(np.int64),
        polygon=polygon[kept],
        classes=classes[kept],
        intersections=crossings[kept],
    )


def _piece_owners(truth: NDArray[Any], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """Region of each 8-connected piece of one value in one region."""
    joint = row * (int(truth.max(initial=0)) + 1) + truth
    pieces = label(joint, background=-1, connectivity=2)  # type: ignore[no-untyped-call]
    owner = np.zeros(int(pieces.max(initial=0)), dtype=np.int64)
    owner[pieces.ravel() - 1] = row.ravel()
    return owner


def _border(row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the pixels that have a neighbour above, below, left or right in another region: (H, W) bool."""
    border = np.zeros(row.shape, dtype=bool)
    for a, b in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        apart = row[a] != row[b]
        border[a] |= apart
        border[b] |= apart
    return border


def _crossings(truth: NDArray[Any], row: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Count the changes of class along the border of each region: (number,).

    Where the border turns or runs on is decided by the four pixels around a corner of pixels, so that all corners can be
    looked at at once: two pixels of the region side by side, with none opposite, follow each other; so do two across a
    corner with one other of the region; two across with none other are passed there and back.
    """
    regions = np.pad(row, 1, constant_values=-1)
    values = np.pad(truth.astype(np.int64), 1, constant_values=-1)
    window = [np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, 1:], np.s_[1:, :-1]]  # clockwise
    region, value = [regions[w] for w in window], [values[w] for w in window]
    total = np.zeros(number, dtype=np.int64)
    for first in range(4):
        second, third, fourth = ((first + step) % 4 for step in (1, 2, 3))
        same = (region[first] == region[second]) & (value[first] != value[second])
        passed = same & (region[third] != region[first]) & (region[fourth] != region[first])
        total += np.bincount(region[first][passed], minlength=number)
    for first in (0, 1):
        second, third, fourth = ((first + step) % 4 for step in (1, 2, 3))
        across = (region[first] == region[third]) & (value[first] != value[third])
        for other in (second, fourth):
            # Each pixel outside the region is passed by on its own side.
            passed = across & (region[other] != region[first])
            total += np.bincount(region[first][passed], minlength=number)
    return total
