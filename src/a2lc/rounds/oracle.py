"""The simulated annotator: the one part of the loop, beside the metrics, that sees ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.cost import polygon_vertices, region_clicks
from a2lc.classes.sentinels import FIRST, KEEP, VOID
from a2lc.correction.multilabel import class_sets
from a2lc.ledger.replay import MaskState
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable
from a2lc.records import Answer, AnswerKind, Query, QueryKind, Reason
from a2lc.statistics.keys import mask_keys

__all__ = ["ORACLE", "Oracle", "Seen"]

ORACLE = "oracle"
"""The name its answers carry."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """An answer that needed a look at the pixels.

    Attributes:
        answer: It.
        clicks: What it costs, where that depends on the picture; None where the kind of answer says it.
    """

    answer: Answer
    clicks: float | None = None


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """Answers queries from ground truth.

    A correction query, alone or in a grid, is answered by A2LC's published rule. A mask whose current labels agree with
    ground truth on more than half of its pixels is kept as it is; any other gets the most frequent true class of its
    pixels, which may be void. Ground truth without a class counts as a mismatch. Ties go to the smallest class, and void
    loses them.

    A dominant query gets the most frequent true class of its pixels, whatever they carry. A pixel query gets the true
    class of its pixel; a multi-class query all classes of its region but for a band along its border; a precise query the
    true class of every pixel.

    Attributes:
        num_classes: K.
        gate: A pixel query keeps the class where more than half of the mask's pixels have it right, as ALC's code does and
            a person who is shown one pixel cannot.
        error_rate: Share of answers that name a class drawn from the wrong ones.
        seed: Of those draws. Each depends on seed and mask alone, so an interrupted batch goes on with the same
            answers, and the order of questions changes none.
    """

    num_classes: int
    error_rate: float = 0.0
    seed: int = 0
    gate: bool = False

    def look(
        self,
        queries: Sequence[Query],
        mask_map: NDArray[np.integer],
        truth: NDArray[np.integer],
        labels: NDArray[np.integer],
        ignore_index: int,
    ) -> list[Seen]:
        """Answer questions about one image that need a look at its pixels.

        Args:
            queries: Of the kinds `pixel`, `classes` and `precise`.
            mask_map: (H, W) mask ids.
            truth: (H, W) true classes or `ignore_index`.
            labels: (H, W) current labels.
            ignore_index: Id of no class.

        Returns:
            An answer to each, in order. The clicks of a precise one are those of ClassBal (Cai et al., CVPR 2021):
            polygon vertices, classes and intersections of its region.
        """
        # Signed first: among unsigned bytes VOID would become 255.
        truth, labels = truth.astype(np.int32), labels.astype(np.int32)
        truth = np.where(truth == ignore_index, VOID, truth)
        labels = np.where(labels == ignore_index, VOID, labels)
        clicks = None
        if any(query.kind == QueryKind.PRECISE for query in queries):
            with_void = np.where(truth == VOID, ignore_index, truth)
            clicks = region_clicks(with_void, mask_map, polygon_vertices(with_void))
            ids = np.unique(mask_map[mask_map > 0])
            price = dict(zip(ids.tolist(), clicks.precise.tolist(), strict=True))
        named = [query.mask_ids[0] for query in queries if query.kind == QueryKind.CLASSES]
        sets = class_sets(mask_map, truth, np.array(named), ignore_index=VOID, num_classes=self.num_classes)
        set_of = dict(zip(named, sets, strict=True))
        seen = []
        for query in queries:
            inside = np.isin(mask_map, query.mask_ids)
            if query.kind == QueryKind.PIXEL:
                assert query.pixel is not None
                right = float((labels[inside] == truth[inside])[truth[inside] != VOID].sum()) / max(
                    1, int(inside.sum())
                )
                several = len(np.unique(labels[inside])) > 1
                seen.append(Seen(answer=self._at_pixel(query, int(truth.ravel()[query.pixel]), right, several)))
            elif query.kind == QueryKind.CLASSES:
                seen.append(Seen(answer=self._class_set(query, set_of[query.mask_ids[0]])))
            else:
                found = np.unique(truth[inside])
                classes = tuple(int(c) for c in found if c != VOID)
                kind = AnswerKind.CLASSES if classes else AnswerKind.VOID
                seen.append(
                    Seen(
                        answer=Answer(query_id=query.query_id, annotator=ORACLE, kind=kind, classes=classes),
                        clicks=float(max(1.0, sum(price[mask] for mask in query.mask_ids))),
                    )
                )
        return seen

    def draw(
        self, query: Query, mask_map: NDArray[np.integer], truth: NDArray[np.integer], ignore_index: int
    ) -> NDArray[np.int32]:
        """Return the (H, W) pixel-level labels of a precise answer: class, VOID, or KEEP outside the region."""
        true = truth.astype(np.int32)
        inside = np.isin(mask_map, query.mask_ids)
        return np.where(inside, np.where(true == ignore_index, VOID, true), KEEP).astype(np.int32)

    def _at_pixel(self, query: Query, true: int, right: float, several: bool) -> Answer:
        proposed = VOID if query.proposed is None else query.proposed
        wanted = proposed if self.gate and right > 0.5 else true
        wanted = self._or_wrong(query, wanted)
        # Where a mask carries several labels, naming one of them changes the others: the answer is expanded.
        kept_as_is = self.gate and right > 0.5
        if wanted == proposed and proposed != VOID and (kept_as_is or not several):
            return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.CONFIRM, classes=(wanted,))
        if wanted == VOID:
            kept = proposed == VOID and self.gate and right > 0.5
            kind = AnswerKind.MIXED if kept else AnswerKind.VOID
            return Answer(query_id=query.query_id, annotator=ORACLE, kind=kind)
        return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.CORRECT, classes=(wanted,))

    def _class_set(self, query: Query, classes: tuple[int, ...]) -> Answer:
        if not classes:
            return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.VOID)
        # An error ticks a wrong class in place of a right one.
        changed = self._or_wrong(query, classes[0], right=classes)
        classes = tuple(sorted({changed, *classes[1:]}))
        return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.CLASSES, classes=classes)

    def _or_wrong(self, query: Query, wanted: int, right: Sequence[int] = ()) -> int:
        """Return the class to answer or, at the rate of errors, one drawn from the others."""
        if self.error_rate <= 0:
            return wanted
        key = int(mask_keys(np.array([query.image]), np.array([query.mask_ids[0]]))[0])
        # Asked again, an annotator errs anew.
        again = [query.query_id] if query.reason == Reason.GOLD else []
        rng = np.random.default_rng([self.seed, key, *again])
        if rng.random() >= self.error_rate:
            return wanted
        wrong = [c for c in range(self.num_classes) if c != wanted and c not in right]
        return int(rng.choice(wrong)) if wrong else wanted

    def answer(self, queries: Sequence[Query], masks: MaskTable, truth: TruthTable, state: MaskState) -> list[Answer]:
        """Answer correction and dominant queries, each about the labels as they stand in `state`.

        Args:
            queries: The questions; masks of one question are taken together.
            masks: All masks.
            truth: Ground truth joined with them.
            state: What the masks carry now.

        Returns:
            An answer to each question, in order: confirm, correct or void; mixed where a mask without a class is kept.
        """
        if not queries:
            return []
        group = np.repeat(np.arange(len(queries)), [len(query.mask_ids) for query in queries])
        image = np.array([query.image for query in queries for _ in query.mask_ids], dtype=np.int64)
        ids = np.array([mask for query in queries for mask in query.mask_ids], dtype=np.int64)
        rows = masks.rows(image, ids)
        right_of_mask, truth_of_mask = truth.masks(state, rows, self.num_classes)
        right = np.bincount(group, weights=right_of_mask, minlength=len(queries))
        area = np.bincount(group, weights=masks.area[rows], minlength=len(queries))
        by_class = np.zeros((len(queries), self.num_classes + 1), dtype=np.int64)
        np.add.at(by_class, group, truth_of_mask)
        # Masks that still carry several first labels: naming the most frequent one changes the others.
        several = (np.bincount(masks.pair_row, minlength=len(masks))[rows] > 1) & (state.classes[rows] == FIRST)
        mixed = np.bincount(group, weights=several, minlength=len(queries)) > 0
        return [
            self._answer(query, float(right[i]) / float(area[i]), by_class[i], bool(mixed[i]))
            for i, query in enumerate(queries)
        ]

    def _answer(self, query: Query, accuracy: float, by_class: np.ndarray, mixed: bool) -> Answer:
        mode = int(np.argmax(by_class))
        wanted = VOID if mode == self.num_classes else mode
        proposed = VOID if query.proposed is None else query.proposed
        if accuracy > 0.5 and query.kind in {QueryKind.CORRECTION, QueryKind.GRID}:
            wanted = proposed
            if proposed == VOID:  # void is its most frequent label, yet most of its pixels are right: they stay
                return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.MIXED)
        wanted = self._or_wrong(query, wanted)
        if wanted == proposed and proposed != VOID and (accuracy > 0.5 or not mixed):
            return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.CONFIRM, classes=(wanted,))
        if wanted == VOID:
            return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.VOID)
        return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.CORRECT, classes=(wanted,))
