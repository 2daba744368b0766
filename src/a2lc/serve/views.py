"""Build the response bodies from the desk and the project."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from fastapi.responses import Response
from numpy.typing import NDArray

from a2lc.errors import InputError, MissingFileError
from a2lc.ledger import VOID
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query
from a2lc.serve.desk import Desk
from a2lc.serve.errors import Refused, one_line, shown
from a2lc.serve.parts import click_parts, pixel_labels, superpixel_parts
from a2lc.serve.pictures import BoundedCache, Geometry, Pictures, RegionError
from a2lc.serve.schemas import (
    AnswerBody,
    AnswersBody,
    CardBody,
    ClicksBody,
    ItemBody,
    NamedSuperpixels,
    PairBody,
    ResultBody,
    ResultsReply,
    SpreadReply,
    StandingBody,
    StatusBody,
    SuperpixelsBody,
    check_annotator,
)

__all__ = ["SPREAD_ITEMS", "Views", "card_of"]


SPREAD_ITEMS = 60
"""Automatic corrections on a page of the review."""


_HISTOGRAM_BINS = 20


_SUGGESTIONS = 9
"""Classes suggested with a question: one for each digit key."""


def card_of(query: Query, geometry: Geometry, project: Project, current: Answer | None) -> CardBody:
    """Return a question as the page shows it, with its current answer."""
    record = project.all_images[query.image]
    return CardBody(
        query_id=query.query_id,
        round=query.round,
        kind=query.kind,
        image=query.image,
        image_id=record.image_id,
        width=record.width,
        height=record.height,
        mask_ids=query.mask_ids,
        proposed=query.proposed,
        suggestions=query.suggestions[:_SUGGESTIONS],
        area=geometry.area,
        box=geometry.box,
        crop=geometry.crop,
        runs=geometry.runs,
        pixel=None if query.pixel is None else (query.pixel % record.width, query.pixel // record.width),
        answer=None if current is None else _standing_of(current),
    )


def _standing_of(answer: Answer) -> StandingBody:
    return StandingBody(
        answer_id=answer.answer_id,
        kind=answer.kind,
        classes=answer.classes,
        annotator=answer.annotator,
        milliseconds=answer.milliseconds,
    )


class Views:
    """What the endpoints share: the desk, the pictures, and a cache of mask parts.

    Attributes:
        desk: The desk that questions come from.
        project: The desk's project.
        pictures: Decoded images and masks.
    """

    def __init__(self, desk: Desk) -> None:
        """Serve a desk."""
        self.desk = desk
        self.project = desk.project
        self.pictures = Pictures(desk.project)
        # The page asks for superpixels, and a moment later the answer needs the same ones.
        self._parts: BoundedCache[tuple[int, tuple[int, ...], int], NDArray[np.int32]] = BoundedCache(
            16 << 20, lambda parts: parts.nbytes
        )
        self._writing = threading.Lock()  # Project.write_answered_pixels has one temporary file

    def status(self) -> StatusBody:
        """Return the state of the round."""
        return StatusBody.model_validate(self.desk.status())

    def card(self, query: Query) -> CardBody:
        """Return a question as the page shows it."""
        return card_of(query, self.pictures.geometry(query), self.project, self.desk.standing(query.query_id))

    def cards(self, queries: Sequence[Query]) -> list[CardBody]:
        """Return questions as the page shows them."""
        return [self.card(query) for query in queries]

    def image(self, index: int) -> int:
        """Return the index of an image.

        Raises:
            Refused: The project has no such image.
        """
        if not 0 <= index < len(self.project.all_images):
            raise Refused(
                404, "no_such_image", f"There is no image {index}: the project has {len(self.project.all_images)}."
            )
        return index

    def jpeg(self, index: int, box: tuple[int, int, int, int] | None, size: int) -> Response:
        """Return a region of an image, or all of it, as JPEG; see `Pictures.jpeg`.

        Raises:
            Refused: There is no such image or file, or the region is not inside the image.
        """
        try:
            data = self.pictures.jpeg(self.image(index), box, size=size)
        except RegionError as error:
            raise Refused(422, "bad_region", one_line(str(error))) from None
        except MissingFileError as error:
            raise Refused(404, "no_image_file", one_line(str(error))) from None
        # The cookie changes with the project: a picture of another project served at this address is not mistaken for it.
        headers = {"cache-control": "private, max-age=3600", "vary": "Cookie, Authorization"}
        return Response(data, media_type="image/jpeg", headers=headers)

    def part_map(self, query: Query, wanted: SuperpixelsBody | ClicksBody) -> NDArray[np.int32]:
        """Cut the mask of a question into parts.

        Returns:
            (h, w) parts over the crop of the mask, 0 outside it; see `superpixel_parts` and `click_parts`.

        Raises:
            InputError: The points do not fit the mask or the classes.
            MissingFileError: The image's file is missing.
        """
        x0, y0, x1, y1 = crop = self.pictures.geometry(query).crop
        inside = self.pictures.inside(query.image, query.mask_ids, crop)
        pixels = self.pictures.pixels(query.image)[y0:y1, x0:x1]
        if isinstance(wanted, SuperpixelsBody):
            key = query.image, query.mask_ids, wanted.count
            return self._parts.get(key, lambda: superpixel_parts(pixels, inside, wanted.count))
        for x, y, label in wanted.triples:
            if label >= self.project.classes.num_classes:
                raise InputError(
                    f"Point {x}, {y} has class {label}; there are {self.project.classes.num_classes} classes, numbered from 0."
                )
            if not (x0 <= x < x1 and y0 <= y < y1 and inside[y - y0, x - x0]):
                raise InputError(f"Point {x}, {y} lies outside the mask. Click inside it.")
        return click_parts(pixels, inside, [(x - x0, y - y0, label) for x, y, label in wanted.triples])

    def pixels_of(self, query: Query, answer: AnswerBody) -> str:
        """Store the pixel labels that belong to an answer and return their hash.

        Raises:
            InputError: They do not fit the answer, or the mask.
        """
        assert answer.parts is not None
        if answer.kind != "classes":
            raise InputError(f"Only an answer 'classes' has parts, not {answer.kind!r}.")
        record, crop = self.project.all_images[query.image], self.pictures.geometry(query).crop
        parts = self.part_map(query, answer.parts)
        named: list[int | None]
        if isinstance(answer.parts, NamedSuperpixels):
            named = answer.parts.classes
            labels = pixel_labels(parts, crop, (record.height, record.width), named)
        else:
            named = [label for _, _, label in answer.parts.triples]
            labels = pixel_labels(parts, crop, (record.height, record.width))
        used = sorted({label for label in named if label is not None and label != VOID})
        if used and used[-1] >= self.project.classes.num_classes:
            raise InputError(
                f"Class {used[-1]} of a part is not one of the {self.project.classes.num_classes} classes."
            )
        if answer.classes != used:
            raise InputError(f"The answer names classes {shown(answer.classes)}, but its parts have {shown(used)}.")
        if not used:
            raise InputError("No part has a class: answer 'void' or 'mixed' for the whole mask.")
        with self._writing:
            return self.project.write_answered_pixels(labels)

    def answers(self, body: AnswersBody) -> ResultsReply:
        """Record the answers of a request. One that does not fit its question does not affect the others."""
        annotator = check_annotator(body.annotator)
        refused: dict[int, ResultBody] = {}
        valid: list[Answer] = []
        for position, given in enumerate(body.answers):
            try:
                pixels = None if given.parts is None else self.pixels_of(self.desk.question(given.query_id), given)
            except InputError as error:
                refused[position] = ResultBody(
                    query_id=given.query_id, status="refused", answer_id=None, message=one_line(str(error))
                )
                continue
            valid.append(
                Answer(
                    query_id=given.query_id,
                    annotator=annotator,
                    kind=AnswerKind(given.kind),
                    classes=tuple(given.classes),
                    milliseconds=given.milliseconds,
                    replaces=given.replaces,
                    pixels=pixels,
                    in_grid=given.in_grid,
                )
            )
        recorded = iter([ResultBody(**vars(outcome)) for outcome in (self.desk.answer(valid) if valid else ())])
        results = [refused.get(position) or next(recorded) for position in range(len(body.answers))]
        return ResultsReply(results=results, status=self.status())

    def spread(self, pair: tuple[int, int] | None, offset: int, limit: int) -> SpreadReply:
        """Return a page of the automatic corrections.

        Args:
            pair: Old and new class to show; None shows all pairs, the most probable corrections of each.
            offset: Corrections to skip.
            limit: Maximum number of corrections.
        """
        preview = self.desk.spread()
        rows, old, new = (np.asarray(preview[name]).astype(np.int64) for name in ("rows", "old", "new"))
        probability = np.asarray(preview["probability"]).astype(np.float64)
        pairs, pair_of, counts = np.unique(
            np.stack([old, new], axis=1), axis=0, return_inverse=True, return_counts=True
        )
        pair_of = pair_of.ravel()
        pixels = np.bincount(pair_of, weights=self.project.masks.area[rows], minlength=len(pairs)).astype(np.int64)
        # The most frequent pair first; ties in the order of the classes.
        by_count = np.argsort(-counts, kind="stable")
        if pair is not None:
            chosen = np.flatnonzero((old == pair[0]) & (new == pair[1]))[offset : offset + limit]
        else:
            chosen = _evenly_over_pairs(pair_of, counts, by_count)[offset : offset + limit]
            chosen = chosen[np.argsort(_ranks(by_count)[pair_of[chosen]], kind="stable")]
        bins = np.clip((probability * _HISTOGRAM_BINS).astype(np.int64), 0, _HISTOGRAM_BINS - 1)
        return SpreadReply(
            ready=preview["ready"],
            stage=preview["stage"],
            total=preview["total"],
            promise=preview["promise"],
            pairs=[
                PairBody(old=int(pairs[p, 0]), new=int(pairs[p, 1]), masks=int(counts[p]), pixels=int(pixels[p]))
                for p in by_count
            ],
            items=[self._item(int(rows[i]), int(old[i]), int(new[i]), float(probability[i])) for i in chosen],
            histogram=np.bincount(bins, minlength=_HISTOGRAM_BINS).tolist(),
        )

    def _item(self, row: int, old: int, new: int, probability: float) -> ItemBody:
        image, mask_id = int(self.project.masks.image[row]), int(self.project.masks.mask_ids[row])
        geometry = self.pictures.geometry_of(image, (mask_id,))
        return ItemBody(
            row=row,
            image=image,
            image_id=self.project.all_images[image].image_id,
            mask_id=mask_id,
            old=old,
            new=new,
            probability=probability,
            crop=geometry.crop,
            box=geometry.box,
            runs=geometry.runs,
        )


def _ranks(order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return (n,) the rank of each element, given (n,) the elements by rank."""
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks


def _evenly_over_pairs(
    pair_of: NDArray[np.intp], counts: NDArray[np.intp], by_count: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Order corrections so that each pair's first come first, then each pair's second, and so on.

    Args:
        pair_of: (n,) pair of each correction.
        counts: (P,) corrections of each pair.
        by_count: (P,) pairs, the most frequent first.
    """
    grouped = np.argsort(pair_of, kind="stable")
    rank = np.empty(len(pair_of), dtype=np.int64)
    rank[grouped] = np.arange(len(pair_of)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.lexsort((_ranks(by_count)[pair_of], rank))
