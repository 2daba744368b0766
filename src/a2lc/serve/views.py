"""Build the response bodies from the project."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi.responses import Response
from numpy.typing import NDArray

from a2lc.errors import InputError, MissingFileError
from a2lc.ledger import VOID
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query
from a2lc.serve.desk import Desk
from a2lc.serve.errors import Refused, one_line, shown
from a2lc.serve.parts import click_parts, drawn, superpixel_parts
from a2lc.serve.pictures import BoundedCache, Geometry, Pictures, RegionError
from a2lc.serve.schemas import AnswerBody, AnswersBody, ClicksBody, NamedSuperpixels, SuperpixelsBody, check_annotator

__all__ = ["SPREAD_ITEMS", "Views", "card_of", "json_response"]


SPREAD_ITEMS = 60


_HISTOGRAM_BINS = 20


def json_response(data: Any) -> Response:
    """A reply as JSON: no NaN, numpy's numbers as numbers, and no `<` that could open a tag."""
    try:
        text = json.dumps(data, default=_from_numpy, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_without_nan(data), default=_from_numpy, allow_nan=False, separators=(",", ":"))
    return Response(text.replace("<", "\\u003c"), media_type="application/json")


def _from_numpy(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return _without_nan(value.tolist())
    raise TypeError(f"{type(value).__name__} has no place in a reply")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def card_of(query: Query, found: Geometry, project: Project, standing: Answer | None) -> dict[str, Any]:
    record = project.all_images[query.image]
    pixel = None if query.pixel is None else [query.pixel % record.width, query.pixel // record.width]
    answer = None
    if standing is not None:
        answer = {
            "answer_id": standing.answer_id,
            "kind": str(standing.kind),
            "classes": list(standing.classes),
            "annotator": standing.annotator,
            "milliseconds": standing.milliseconds,
        }
    return {
        "query_id": query.query_id,
        "round": query.round,
        "kind": str(query.kind),
        "image": query.image,
        "image_id": record.image_id,
        "width": record.width,
        "height": record.height,
        "mask_ids": list(query.mask_ids),
        "proposed": query.proposed,
        "suggestions": list(query.suggestions[:9]),
        "area": found.area,
        "box": found.box,
        "crop": found.crop,
        "runs": found.runs,
        "pixel": pixel,
        "answer": answer,
    }


class Views:
    """What the endpoints share: the desk, pictures, and the parts found last."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.project = desk.project
        self.pictures = Pictures(desk.project)
        # The page asks for superpixels, and the answer has them found again: a moment later, by the same people.
        self._parts: BoundedCache[tuple[int, tuple[int, ...], int], NDArray[np.int32]] = BoundedCache(
            16 << 20, lambda parts: parts.nbytes
        )
        self._writing = threading.Lock()  # Project.write_answered_pixels has one temporary file

    def card(self, query: Query) -> dict[str, Any]:
        return card_of(query, self.pictures.geometry(query), self.project, self.desk.standing(query.query_id))

    def cards(self, queries: Sequence[Query]) -> list[dict[str, Any]]:
        return [self.card(query) for query in queries]

    def image(self, index: int) -> int:
        if not 0 <= index < len(self.project.all_images):
            raise Refused(
                404, "no_such_image", f"There is no image {index}: the project has {len(self.project.all_images)}."
            )
        return index

    def jpeg(self, index: int, box: tuple[int, int, int, int] | None, size: int) -> Response:
        try:
            data = self.pictures.jpeg(self.image(index), box, size=size)
        except RegionError as error:
            raise Refused(422, "bad_region", one_line(str(error))) from None
        except MissingFileError as error:
            raise Refused(404, "no_image_file", one_line(str(error))) from None
        # The cookie is another after a restart: a picture of another project that was served here is not taken for this.
        headers = {"cache-control": "private, max-age=3600", "vary": "Cookie, Authorization"}
        return Response(data, media_type="image/jpeg", headers=headers)

    def part_map(self, query: Query, wanted: SuperpixelsBody | ClicksBody) -> NDArray[np.int32]:
        """Parts over the crop of a question's mask.

        Raises:
            InputError: The points do not fit the mask or the classes.
            MissingFileError: The image's file is gone.
        """
        x0, y0, x1, y1 = crop = self.pictures.geometry(query).crop
        inside = self.pictures.inside(query.image, query.mask_ids, crop)
        pixels = self.pictures.pixels(query.image)[y0:y1, x0:x1]
        if isinstance(wanted, SuperpixelsBody):
            key = query.image, query.mask_ids, wanted.count
            return self._parts.get(key, lambda: superpixel_parts(pixels, inside, wanted.count))
        for x, y, name in wanted.triples:
            if name >= self.project.classes.num_classes:
                raise InputError(
                    f"Point {x}, {y} has class {name}; there are {self.project.classes.num_classes}, from 0."
                )
            if not (x0 <= x < x1 and y0 <= y < y1 and inside[y - y0, x - x0]):
                raise InputError(f"Point {x}, {y} lies outside the mask. Click inside it.")
        return click_parts(pixels, inside, [(x - x0, y - y0, name) for x, y, name in wanted.triples])

    def pixels_of(self, query: Query, answer: AnswerBody) -> str:
        """Write down the pixel labels that came with an answer; their hash.

        Raises:
            InputError: They do not fit the answer, or the mask.
        """
        assert answer.parts is not None
        if answer.kind != "classes":
            raise InputError(f"Parts come with an answer 'classes', not with {answer.kind!r}.")
        record, crop = self.project.all_images[query.image], self.pictures.geometry(query).crop
        parts = self.part_map(query, answer.parts)
        named: list[int | None]
        if isinstance(answer.parts, NamedSuperpixels):
            named = answer.parts.classes
            said = drawn(parts, crop, (record.height, record.width), named)
        else:
            named = [name for _, _, name in answer.parts.triples]
            said = drawn(parts, crop, (record.height, record.width))
        used = sorted({name for name in named if name is not None and name != VOID})
        if used and used[-1] >= self.project.classes.num_classes:
            raise InputError(f"Class {used[-1]} of a part is none of the {self.project.classes.num_classes} classes.")
        if answer.classes != used:
            raise InputError(f"The answer names classes {shown(answer.classes)} and its parts {shown(used)}.")
        if not used:
            raise InputError("No part has a class: answer 'void' or 'mixed' for the whole.")
        with self._writing:
            return self.project.write_answered_pixels(said)

    def answers(self, body: AnswersBody) -> dict[str, Any]:
        name = check_annotator(body.annotator)
        results: list[dict[str, Any] | None] = []
        ready: list[Answer] = []
        for said in body.answers:
            try:
                pixels = None if said.parts is None else self.pixels_of(self.desk.question(said.query_id), said)
            except InputError as error:
                # One that fits nothing does not spoil the others.
                refused = {"status": "refused", "answer_id": None, "message": one_line(str(error))}
                results.append({"query_id": said.query_id} | refused)
                continue
            results.append(None)
            ready.append(
                Answer(
                    query_id=said.query_id,
                    annotator=name,
                    kind=AnswerKind(said.kind),
                    classes=tuple(said.classes),
                    milliseconds=said.milliseconds,
                    replaces=said.replaces,
                    pixels=pixels,
                )
            )
        outcomes = iter(self.desk.answer(ready) if ready else ())
        done = []
        for result in results:
            if result is None:
                found = next(outcomes)
                result = {
                    "query_id": found.query_id,
                    "status": found.status,
                    "answer_id": found.answer_id,
                    "message": found.message,
                }
            done.append(result)
        return {"results": done, "status": self.desk.status()}

    def spread(self, pair: tuple[int, int] | None, offset: int, limit: int) -> dict[str, Any]:
        found = self.desk.spread()
        told = {name: found[name] for name in ("ready", "stage", "total", "promise")}
        columns = [np.asarray(found.get(name, ())) for name in ("rows", "old", "new", "probability")]
        rows, old, new = (column.astype(np.int64) for column in columns[:3])
        probability = columns[3].astype(np.float64)
        if not len(rows):
            return told | {"pairs": [], "items": [], "histogram": [0] * _HISTOGRAM_BINS}
        masks = self.project.masks
        pairs, of, counts = np.unique(np.stack([old, new], axis=1), axis=0, return_inverse=True, return_counts=True)
        of = of.ravel()
        pixels = np.bincount(of, weights=masks.area[rows], minlength=len(pairs)).astype(np.int64)
        # The most masks first; of as many, by class.
        by_count = np.argsort(-counts, kind="stable")
        listed = [
            {"old": int(pairs[p, 0]), "new": int(pairs[p, 1]), "masks": int(counts[p]), "pixels": int(pixels[p])}
            for p in by_count
        ]
        if pair is not None:
            chosen = np.flatnonzero((old == pair[0]) & (new == pair[1]))[offset : offset + limit]
        else:
            # Each pair's surest first, then each one's second, until the page is full; shown pair by pair.
            place = np.empty(len(pairs), dtype=np.int64)
            place[by_count] = np.arange(len(pairs))
            grouped = np.argsort(of, kind="stable")
            rank = np.empty(len(of), dtype=np.int64)
            rank[grouped] = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
            chosen = np.lexsort((place[of], rank))[offset : offset + limit]
            chosen = chosen[np.lexsort((rank[chosen], place[of[chosen]]))]
        bins = np.clip((probability * _HISTOGRAM_BINS).astype(np.int64), 0, _HISTOGRAM_BINS - 1)
        histogram = np.bincount(bins, minlength=_HISTOGRAM_BINS).tolist()
        items = [self._item(int(rows[i]), int(old[i]), int(new[i]), float(probability[i])) for i in chosen]
        return told | {"pairs": listed, "items": items, "histogram": histogram}

    def _item(self, row: int, old: int, new: int, probability: float) -> dict[str, Any]:
        image, mask = int(self.project.masks.image[row]), int(self.project.masks.mask_ids[row])
        found = self.pictures.geometry_of(image, (mask,))
        return {
            "row": row,
            "image": image,
            "image_id": self.project.all_images[image].image_id,
            "mask_id": mask,
            "old": old,
            "new": new,
            "probability": probability,
            "crop": found.crop,
            "box": found.box,
            "runs": found.runs,
        }
