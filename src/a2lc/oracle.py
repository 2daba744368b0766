"""The simulated annotator: the one part of the loop, beside the metrics, that sees ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from a2lc.ledger.replay import FIRST, VOID, MaskState, mask_keys
from a2lc.records import Answer, AnswerKind, Query
from a2lc.tables import MaskTable, TruthTable

__all__ = ["ORACLE", "Oracle"]

ORACLE = "oracle"
"""The name its answers carry."""


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """Answers correction queries from ground truth, by A2LC's published rule.

    A mask whose current labels agree with ground truth on more than half of its pixels is kept as it is; any other
    gets the most frequent true class of its pixels, which may be void. Ground truth without a class counts as a
    mismatch. Ties go to the smallest class, and void loses them.

    Attributes:
        num_classes: K.
        error_rate: Share of answers that name a class drawn from the wrong ones.
        seed: Of those draws. Each depends on seed and mask alone, so an interrupted batch goes on with the same
            answers, and the order of questions changes none.
    """

    num_classes: int
    error_rate: float = 0.0
    seed: int = 0

    def answer(self, queries: Sequence[Query], masks: MaskTable, truth: TruthTable, state: MaskState) -> list[Answer]:
        """Answer questions, each about the labels as they stand in `state`.

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
        if accuracy > 0.5:
            wanted = proposed
            if proposed == VOID:  # void is its most frequent label, yet most of its pixels are right: they stay
                return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.MIXED)
        if self.error_rate > 0:
            key = int(mask_keys(np.array([query.image]), np.array([query.mask_ids[0]]))[0])
            rng = np.random.default_rng([self.seed, key])
            if rng.random() < self.error_rate:
                wrong = [c for c in range(self.num_classes) if c != wanted]
                wanted = int(rng.choice(wrong)) if wrong else wanted
        if wanted == proposed and proposed != VOID and (accuracy > 0.5 or not mixed):
            return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.CONFIRM, classes=(wanted,))
        if wanted == VOID:
            return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.VOID)
        return Answer(query_id=query.query_id, annotator=ORACLE, kind=AnswerKind.CORRECT, classes=(wanted,))
