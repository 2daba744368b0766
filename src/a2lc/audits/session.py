"""Ask in batches: what a round of the method `gain` asks next, what it corrects unseen, and what it knows of the labels.

A round has four phases, told apart by what the ledger and the round's files hold, so that a killed one resumes:

1. ask: batches of the queries of highest expected gain, with a refit of the posterior between them;
2. certify: the posterior is frozen, and masks it would correct are drawn at random and asked about;
3. measure: what those audits support is decided, and masks are drawn at random to measure the labels as they are then;
4. done: the `correct` stage records the corrections, with their guarantee and the figures.

A session needs no project: it reads and writes through a `RoundSource`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import expected_iou_gain, pick_batch
from a2lc.acquisition.grids import choose_asks
from a2lc.acquisition.spread import spread_rows
from a2lc.audits.belief import Belief
from a2lc.audits.certification import Certification
from a2lc.audits.findings import round_findings
from a2lc.audits.knowledge import Known
from a2lc.audits.repeats import choose_repeats
from a2lc.audits.settings import SessionSettings
from a2lc.audits.source import RoundSource
from a2lc.audits.tables import FrozenTable
from a2lc.audits.wording import guarantee_line
from a2lc.classes.sentinels import FIRST, UNKNOWN, VOID
from a2lc.ledger.replay import SOURCES, MaskState
from a2lc.records import SUGGESTIONS, Changes, Query, QueryKind, Reason

__all__ = ["Session"]

_PROOF = 0.5
"""Chance that a proposed correction is proven, as far as the choice of questions goes."""

_BEFORE_GRIDS = 40
"""Masks with an answer from which grids are asked."""


class Session:
    """The queries and corrections of one round.

    Args:
        source: The data; files are read when they are needed.
        settings: Of the session.
        round_index: The round.
        seed: Of the round.
        questions: How many queries of one mask the round may ask. Those of a grid count by what they cost in such queries.
    """

    def __init__(
        self, source: RoundSource, settings: SessionSettings, round_index: int, *, seed: int, questions: int
    ) -> None:
        self.source = source
        self.settings = settings
        self.round_index = round_index
        self.seed = seed
        self.questions = questions
        self.belief = Belief(source, settings, round_index)
        self.certification = Certification(self.belief, seed)

    @property
    def asks_freely(self) -> bool:
        """Whether more queries of highest gain may be asked before those asked have their answers."""
        return self.certification.frozen() is None and self._spent() + 1 <= self._free

    @property
    def _free(self) -> int:
        """Queries of a round that are surely no audits."""
        return self._free_of(self.questions)

    def _free_of(self, questions: int) -> int:
        measure, audits = self.settings.measure, self.settings.audit_share
        return questions - int(questions * measure) - int(questions * audits)

    @property
    def _open(self) -> int:
        """Queries of a round that do not measure the labels."""
        return self.questions - int(self.questions * self.settings.measure)

    def _spent(self) -> float:
        """Return what the queries of the round cost, in queries of one mask; of a grid that waits, the most it can cost."""
        answered, spent = self.source.answered(self.round_index), 0.0
        grids: dict[int, list[int]] = {}
        for query in self.source.queries(self.round_index):
            if query.grid is None:
                spent += 1
            else:
                grids.setdefault(query.grid, []).append(query.query_id)
        for ids in grids.values():
            whole = all(query_id in answered for query_id in ids)
            spent += sum(answered[query_id] for query_id in ids) if whole else 1 + 2 * len(ids)
        return spent

    def free_questions(self, count: int) -> list[Query]:
        """Return more queries of highest gain, whether or not those asked have their answers; none once audits are next.

        Args:
            count: How many at least, in whole batches, for many annotators.
        """
        if not self.asks_freely:
            return []
        count = -(-count // self.settings.batch) * self.settings.batch
        spent = self._spent()
        return self._batch(count, spent, self._free - spent)

    def finish(self) -> int:
        """End the round early: it asks what audits a round of as many queries has, and then corrects.

        This may be done at any time, whatever the answers were: audits are drawn afterwards. Grids that wait for their answers
        count at their dearest, so calling this again later can end the round sooner. It lasts as long as the session; one
        that is opened anew goes on with the round as planned, unless it was audited already.

        Returns:
            How many queries the round has now.
        """
        if self.certification.frozen() is None:
            spent = self._spent()
            # The fewest that leave room for what was asked.
            self.questions = next(
                (count for count in range(int(spent), self.questions) if self._free_of(count) >= spent), self.questions
            )
        return self.questions

    def share_pool(self, other: Session) -> None:
        """Take over what another round has read from the same statistics."""
        self.belief.share_pool(other.belief)

    def next_questions(self) -> list[Query]:
        """Return the next queries, empty once all are asked; those asked before must have their answers."""
        frozen = self.certification.frozen()
        if frozen is None:
            found = self._before_audits()
            if found:
                return found
            frozen = self.certification.freeze(self._most_audits())
        measured = self.certification.measured()
        if measured is None:
            found = self._audits_of(frozen)
            if not found and self.settings.proves_in_order:
                # What is proven is known: queries that the proof did not need are worth most elsewhere.
                spent = self._spent()
                found = self._batch(self.settings.batch, spent, self._open - spent)
            if found:
                return found
            # Draws that hit the same mask twice leave questions over: they measure too.
            left = max(0, int(self.questions - self._spent()))
            measured = self.certification.decide(frozen, left if int(self.questions * self.settings.measure) else 0)
        audits = sum(query.reason == Reason.AUDIT for query in self.source.queries(self.round_index))
        first = len(np.unique(frozen.drawn)) if measured.audits is None else int(measured.audits[0])
        if audits < first + len(measured.drawn):
            return self._audits(measured.drawn, measured.probability, frozen)
        return []

    def _most_audits(self) -> int:
        """Return how many audits of proposed corrections can be asked now."""
        if self.settings.proves_in_order:
            return max(0, int(self._open - self._spent()))
        return int(self.questions * self.settings.audit_share)

    def _audits_of(self, frozen: FrozenTable) -> list[Query]:
        """Return the next audits of proposed corrections."""
        places = self.certification.next_audits(frozen)
        rows = frozen.drawn[places]
        chance = frozen.probability[places if frozen.tested is not None else np.arange(len(places))]
        return self._audits(rows, chance, frozen)

    def _before_audits(self) -> list[Query]:
        """Return the next queries that are no audits; none once the posterior is to be frozen.

        Where audits prove a gain one after another, queries are kept back for as many as this is expected to take.
        """
        spent = self._spent()
        found = self._batch(self.settings.batch, spent, self._free - spent)
        if found or not self.settings.proves_in_order:
            return found
        left = self._open - spent
        plan = self.certification.plan(int(left)) if left >= 1 else None
        if plan is None:
            return self._batch(self.settings.batch, spent, left)
        spare = left - plan.audits
        return self._batch(self.settings.batch, spent, spare) if spare >= self.settings.batch / 4 else []

    def _batch(self, count: int, before: float, left: float) -> list[Query]:
        """Return the most valuable queries for about so many clicks and, at its rate, repeats; none where none is left.

        Args:
            count: Clicks that the queries are expected to cost, or those that are left.
            before: Clicks spent in the round, grids that wait for answers at their dearest.
            left: Clicks that the queries may cost at most.
        """
        count = min(count, int(left + 1e-9))
        if count < 1:
            return []
        known = self.belief.known()
        posterior = self.belief.posterior(known)
        repeats = int((before + count) * self.settings.gold) - int(before * self.settings.gold)
        again, chance = choose_repeats(self.source, self.round_index, known, posterior, repeats, seed=self.seed)
        certain = self.belief.certain(posterior, known)
        labels = self.belief.labels(certain, known)
        scores = self._first_worth(known) if self._knows_nothing(known) else self._worth(labels, certain, known)
        scores = np.where(known.asked & ~known.open, 0.0, np.maximum(scores, 1e-12))
        features = self.belief.pool.features
        count, left = count - len(again), left - len(again)
        singles = pick_batch(scores, features.base, count, alike=self.settings.alike)
        # What a class is like must have been seen before a grid can be of it.
        size = self.settings.grid if len(known.rows) >= _BEFORE_GRIDS else 0
        sure = certain[np.arange(len(labels)), labels]
        asks = choose_asks(scores, labels, sure, singles, clicks=count, most=left, size=size)
        rows = np.concatenate([np.empty(0, dtype=np.int64), *asks])
        queries = self._queries(rows, labels, posterior, scores[rows], Reason.ACQUISITION, np.ones(len(rows)))
        if not queries and count > 0:
            return []  # nothing is left that was not asked
        number = np.repeat(np.arange(len(asks)), [len(ask) for ask in asks])
        queries = [
            query if len(asks[grid]) == 1 else replace(query, kind=QueryKind.GRID, grid=grid)
            for query, grid in zip(queries, number.tolist(), strict=True)
        ]
        return queries + self._queries(again, labels, posterior, np.zeros(len(again)), Reason.GOLD, chance)

    def _knows_nothing(self, known: Known) -> bool:
        """Return whether there is neither a label nor an answer yet."""
        return not len(known.rows) and bool((self.source.masks.label == VOID).all())

    def _first_worth(self, known: Known) -> NDArray[np.float64]:
        """Return the worth of masks to begin with: those of a batch, drawn by area and looks, above all others."""
        asked = np.flatnonzero(known.asked)
        rng = np.random.default_rng([self.seed, 7, len(asked)])
        looks = self.belief.pool.features.base
        worth = np.zeros(len(self.source.masks))
        worth[spread_rows(self.source.masks.area, looks, self.settings.batch, rng, taken=asked)] = 1.0
        return worth

    def _worth(self, labels: NDArray[Any], posterior: NDArray[np.float32], known: Known) -> NDArray[np.float64]:
        """Return the expected gain of an answer for each mask over the label that it would have without one.

        That is the label of highest expected IoU where corrections are made as the posterior proposes them. Where only what
        is proven is made, it is one or the other: audits that prove it may fall short.
        """
        area = self.source.masks.area
        worth = expected_iou_gain(area, labels, posterior)
        if not self.settings.certifies or self.settings.guarantee != "proven":
            return worth
        carried = np.where(known.truth == UNKNOWN, self.source.masks.label, known.truth)
        frozen = self.certification.frozen()
        if frozen is not None:
            proven = self.certification.accepted(frozen).rows
            carried[proven] = frozen.labels[proven]
            return expected_iou_gain(area, carried, posterior)
        return _PROOF * worth + (1 - _PROOF) * expected_iou_gain(area, carried, posterior)

    def _audits(self, rows: NDArray[Any], chance: NDArray[Any], frozen: FrozenTable) -> list[Query]:
        posterior = frozen.posteriors(self.source.num_classes)
        # In an order of their own, so that nobody can tell what is expected of them.
        order = np.random.default_rng([self.seed, 5, len(rows)]).permutation(len(rows))
        rows, chance = rows[order], chance[order]
        return self._queries(rows, frozen.labels, posterior, np.zeros(len(rows)), Reason.AUDIT, chance)

    def _queries(
        self,
        rows: NDArray[Any],
        labels: NDArray[Any],
        posterior: NDArray[Any],
        scores: NDArray[Any],
        reason: Reason,
        chance: NDArray[Any],
    ) -> list[Query]:
        if not len(rows):
            return []
        masks = self.source.masks
        current = masks.current(self.source.state())
        classes = self.source.num_classes
        likely = np.argsort(-posterior[rows, :classes], axis=1, kind="stable")
        queries = []
        for row, order, score, probability in zip(rows.tolist(), likely.tolist(), scores, chance, strict=True):
            # What the mask would be labelled comes first: that is also what the answer is held against later.
            # Whoever is asked again must not be led to what they said before.
            best = [int(labels[row])] if labels[row] >= 0 and reason != Reason.GOLD else []
            suggestions = [*best, *(c for c in order if c not in best)][:SUGGESTIONS]
            queries.append(
                Query(
                    round=self.round_index,
                    image=int(masks.image[row]),
                    mask_ids=(int(masks.mask_ids[row]),),
                    proposed=None if current[row] == VOID else int(current[row]),
                    suggestions=tuple(suggestions),
                    score=float(score),
                    reason=reason,
                    inclusion_probability=float(probability),
                )
            )
        return queries

    def changes(self, state: MaskState) -> Changes:
        """Return what the `correct` stage records.

        It follows from initial labels and answers alone, so a correction can also be withdrawn.
        """
        masks, known = self.source.masks, self.belief.known()
        frozen, measured = self.certification.frozen(), self.certification.measured()
        wanted = np.full(len(masks), FIRST, dtype=np.int32)
        if frozen is not None and measured is not None:
            rows = self.certification.standing(frozen, measured, known)
            wanted[rows] = frozen.labels[rows]
        own = (state.source == SOURCES.index("automatic")) | (state.classes == FIRST)
        # One that was asked about and given no class goes back to its first labels.
        rows = np.flatnonzero(own & (known.truth == UNKNOWN) & (state.classes != wanted))
        sure = np.ones(len(rows))
        if frozen is not None:
            posterior = frozen.posteriors(self.source.num_classes)
            label = np.where(wanted[rows] == FIRST, masks.label[rows], wanted[rows])
            sure = posterior[rows, label].astype(np.float64)
        return Changes(rows=rows, classes=wanted[rows], confidences=np.clip(sure, 0, 1))

    def proposals(self) -> Changes:
        """Return what the posterior would correct by the answers so far, before any audit."""
        known = self.belief.known()
        posterior = self.belief.certain(self.belief.posterior(known), known)
        labels = self.belief.labels(posterior, known)
        current = self.source.masks.current(self.source.state())
        rows = np.flatnonzero((labels != current) & ~known.asked)
        return Changes(rows=rows, classes=labels[rows], confidences=posterior[rows, labels[rows]].astype(np.float64))

    def findings(self, left_out: NDArray[Any] | None = None, carried: NDArray[Any] | None = None) -> dict[str, Any]:
        """Return the figures of the round, see `a2lc.audits.findings.round_findings`."""
        return round_findings(self.certification, left_out, carried)

    def guarantee(self, details: Mapping[str, Any]) -> str:
        """Return the recorded corrections and their guarantee in one line."""
        return guarantee_line(details)
