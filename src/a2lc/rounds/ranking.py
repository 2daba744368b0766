"""Rank all masks by a method's scores and make queries of the best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.functions import score
from a2lc.acquisition.selection import top_masks
from a2lc.classes.sentinels import VOID
from a2lc.errors import PoolExhaustedError, require_known
from a2lc.methods.scoring import checked_scores
from a2lc.records import SUGGESTIONS, PoolTotals, Query, QueryKind, Reason, RoundView
from a2lc.rounds.context import Context
from a2lc.statistics.mask_stats import LAYOUT
from a2lc.statistics.store import ParquetStats, find_masks, joined

__all__ = ["best_queries"]


def best_queries(context: Context, round_index: int, scored: int, count: int) -> tuple[list[Query], dict[str, Any]]:
    """Make queries about the masks of highest score.

    Args:
        context: Of the run.
        round_index: The round that asks.
        scored: The round whose statistics are read.
        count: How many to make at most.

    Returns:
        The queries in the order they are to be asked, and what chose them.

    Raises:
        PoolExhaustedError: No mask is left.
    """
    if count < 1:
        return [], {"warm_up": context.is_warm_up(round_index)}
    ranking = _Ranking(context, round_index, scored)
    images, mask_ids, scores = top_masks(ranking.scores(), count)
    if len(images) < count and not ranking.merges:
        raise RuntimeError(
            f"method {context.plan.method!r} gives {count - len(images)} masks a score that is not a number"
        )
    if not len(images):
        raise PoolExhaustedError(
            f"No mask of {context.project.folder} is left to ask about, so no further round is possible."
        )
    details = {
        "void_pixels": ranking.void_pixels,
        "pixels_per_class": ranking.pixels_per_class.tolist(),
        "warm_up": ranking.warm_up,
    }
    return ranking.queries(images, mask_ids, scores), details


class _Ranking:
    """The pool of one round as a method ranks it."""

    def __init__(self, context: Context, round_index: int, scored: int) -> None:
        project = context.project
        self.context = context
        self.method = context.method
        self.masks = project.masks
        self.round_index = round_index
        self.store: ParquetStats = context.statistics(scored)
        state = project.state()
        self.current = self.masks.current(state)
        self.asked = np.isin(self.masks.keys, project.ledger.asked_masks(closed=True))
        num_classes = project.classes.num_classes
        self.pixels_per_class, self.void_pixels = self.masks.pixels_by_class(state, num_classes, ~self.asked)
        self.warm_up = context.is_warm_up(round_index)
        self.merges = self.method.pool.merges and not self.warm_up
        self.extra = frozenset() if self.warm_up else frozenset(self.method.pool.extra_columns)
        self.columns = frozenset({"image", "mask_ids"})
        if not self.warm_up:
            self.columns |= self.method.columns()
        for name in self.columns:
            require_known(f"column of method {context.plan.method!r},", name, (*LAYOUT, *self.extra))
        self.totals = self._totals() if self.method.pool.totals and not self.warm_up else None

    def _totals(self) -> PoolTotals:
        """Add up the whole pool."""
        totals = PoolTotals.of([], self.context.project.classes.num_classes)
        for stats, added in self.store.read(self.columns | {"dominant", "area", "prob_sums"} | self.extra):
            totals = totals.plus(stats.grouped(added["region"]) if self.merges else stats)
        return totals

    def views(self) -> Iterator[RoundView]:
        """Yield what the method scores, part by part."""
        parts = self.store.read(self.columns | self.extra)
        for stats, added in joined(parts) if self.method.pool.whole and not self.warm_up else parts:
            rows = self.masks.rows(stats.image, stats.mask_ids)
            current, asked = self.current[rows], self.asked[rows]
            if self.merges:
                # What was answered stays as it is: the rest of its region is asked about.
                open_masks = ~asked if self.method.query.once else np.ones(len(rows), dtype=bool)
                region = added["region"][open_masks]
                stats, added = stats.take(open_masks).grouped(region), {}
                current = np.where(stats.label == stats.ignore_index, VOID, stats.label).astype(np.int32)
                asked = np.zeros(len(stats), dtype=bool)
            yield RoundView(
                stats=stats,
                current=current,
                asked=asked,
                pixels_per_class=self.pixels_per_class,
                void_pixels=self.void_pixels,
                round=self.round_index,
                seed=self.context.seed(self.round_index),
                totals=self.totals,
                extra=added,
            )

    def scores(self) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """Yield images, mask ids and scores, -inf for masks that may not be asked about again."""
        for view in self.views():
            values = score("random", view.stats, seed=view.seed) if self.warm_up else self._own_scores(view)
            values = np.where(view.asked, -np.inf, values) if self.method.query.once else values
            yield view.stats.image, view.stats.mask_ids, values

    def _own_scores(self, view: RoundView) -> NDArray[Any]:
        return checked_scores(self.method, view, self.columns, self.context.plan.method)

    def queries(self, images: NDArray[Any], mask_ids: NDArray[Any], scores: NDArray[Any]) -> list[Query]:
        """Make a query of each chosen mask or region."""
        kind = self.method.query.kind
        members = self._members(images, mask_ids) if self.merges else {}
        likely = self._likely_classes(images, mask_ids)
        rows = self.masks.rows(images, mask_ids)
        pixels = self._representative_pixels(images, mask_ids) if kind == QueryKind.PIXEL else None
        proposes = kind in {QueryKind.CORRECTION, QueryKind.PIXEL}
        return [
            Query(
                round=self.round_index,
                image=int(image),
                mask_ids=members.get((int(image), int(mask)), (int(mask),)),
                # "Which class is it?" shows no guess.
                proposed=None if not proposes or self.current[row] == VOID else int(self.current[row]),
                suggestions=tuple(int(c) for c in order),
                score=float(value),
                reason=Reason.ACQUISITION,
                kind=kind,
                pixel=None if pixels is None else int(pixels[i]),
            )
            for i, (image, mask, row, value, order) in enumerate(
                zip(images, mask_ids, rows, scores, likely, strict=True)
            )
        ]

    def _members(self, images: NDArray[Any], mask_ids: NDArray[Any]) -> dict[tuple[int, int], tuple[int, ...]]:
        """Return the masks of each chosen region, by image and smallest mask id."""
        chosen = set(zip(images.tolist(), mask_ids.tolist(), strict=True))
        members: dict[tuple[int, int], tuple[int, ...]] = {}
        for stats, added in self.store.read(frozenset({"image", "mask_ids", "region"})):
            rows = self.masks.rows(stats.image, stats.mask_ids)
            keep = ~self.asked[rows] if self.method.query.once else np.ones(len(rows), dtype=bool)
            groups: dict[tuple[int, int], list[int]] = {}
            for image, region, mask in zip(
                stats.image[keep].tolist(), added["region"][keep].tolist(), stats.mask_ids[keep].tolist(), strict=True
            ):
                groups.setdefault((image, region), []).append(mask)
            for (image, _), masks in groups.items():
                if (image, masks[0]) in chosen:
                    members[image, masks[0]] = tuple(masks)
        return members

    def _representative_pixels(self, images: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.int64]:
        """Return the representative pixel of each chosen mask."""
        pixels = np.zeros(len(images), dtype=np.int64)
        for at, stats in find_masks(self.store, images, mask_ids, frozenset({"representative_pixel"})):
            pixels[at] = stats.representative_pixel
        return pixels

    def _likely_classes(self, images: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.int64]:
        """Return the classes of each chosen mask by falling mean probability, for the annotator's keys."""
        count = min(SUGGESTIONS, self.context.project.classes.num_classes)
        likely = np.zeros((len(images), count), dtype=np.int64)
        for at, stats in find_masks(self.store, images, mask_ids, frozenset({"prob_sums"})):
            likely[at] = np.argsort(-stats.prob_sums, axis=1, kind="stable")[:, :count]
        return likely
