"""Certify automatic corrections: freeze the posterior, audit what it would change, and keep what audits support.

The posterior is frozen before audits are drawn, so what they show holds for finite data and for any posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import class_unions
from a2lc.audits.belief import Belief
from a2lc.audits.expectation import Expectation, expect_gain, expect_precision
from a2lc.audits.gain_certificate import without_errors
from a2lc.audits.kept import Kept
from a2lc.audits.knowledge import Known
from a2lc.audits.precision_certificate import certify
from a2lc.audits.proof import (
    AT_ONCE,
    Outcome,
    Proposals,
    audited_so_far,
    found_ratios,
    next_audits,
    plan_round,
    prove,
    prove_at_once,
)
from a2lc.audits.sampling import audit_sizes, draw, inclusion_probabilities
from a2lc.audits.sequential_certificate import TestPlan, draw_in_order, successive_inclusion
from a2lc.audits.stakes import effects, expected_effects, stakes
from a2lc.audits.tables import AuditTable, FrozenTable
from a2lc.classes.sentinels import NO_ANSWER, UNKNOWN
from a2lc.records import Reason

__all__ = ["Accepted", "Certification"]

_FADING = 0.5
"""Weight of an audit of the round before, beside one of this round, where no proof is asked for; of older ones, powers of it."""

_ERRORS = 0.1
"""Part of the probability that a guarantee fails that goes into the bound on the share of wrong answers."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Snapshot:
    """What is known, the posterior, and the labels that follow."""

    known: Known
    posterior: NDArray[np.float32]
    labels: NDArray[np.int32]


@dataclass(frozen=True, eq=False, kw_only=True)
class Accepted:
    """What may be corrected without being looked at.

    Attributes:
        rows: Rows of the masks.
        proven: Those of them that a certificate covers.
        guarantee: What is said of them, as the ledger records it.
    """

    rows: NDArray[np.int64]
    proven: NDArray[np.int64]
    guarantee: dict[str, Any]


class Certification:
    """What a round froze, what its audits allow, and what they measure.

    Args:
        belief: The posterior of the round.
        seed: Of the round.
    """

    def __init__(self, belief: Belief, seed: int) -> None:
        self.belief = belief
        self.source = belief.source
        self.settings = belief.settings
        self.round_index = belief.round_index
        self.seed = seed
        self.kept = Kept(belief.source, belief.settings, belief.round_index)

    def frozen(self) -> FrozenTable | None:
        """Return what the round froze, or None before it did."""
        return self.source.load_frozen(self.round_index)

    def measured(self) -> AuditTable | None:
        """Return the labels that the round measures, or None before it decided on them."""
        return self.source.load_measured(self.round_index)

    def plan(self, most: int) -> TestPlan | None:
        """Return which proposals so many audits could prove, by the answers so far; None where they would prove nothing."""
        snapshot = self._snapshot()
        return self._plan(self._open_proposals(snapshot), most)

    def freeze(self, count: int) -> FrozenTable:
        """Record what the posterior says, and draw up to so many masks that audit what it would change."""
        snapshot = self._snapshot()
        known, proposals = snapshot.known, self._open_proposals(snapshot)
        rng = np.random.default_rng([self.seed, 6])
        tested, expected, in_order = None, 0.5, self.settings.proves_in_order
        if self.settings.min_precision > 0:
            drawn = np.sort(rng.choice(proposals.rows, min(count, len(proposals.rows)), replace=False))
            chance = np.full(len(drawn), len(drawn) / max(1, len(proposals.rows)))
        else:
            # Where all audits are asked, they are to say something of all proposals.
            inside = np.full(len(proposals.rows), not in_order)
            plan = self._plan(proposals, count) if in_order else None
            if plan is not None:
                inside, expected = plan.inside, plan.expected
            tested, stake = proposals.rows[inside], proposals.stakes[inside]
            order = draw_in_order(stake, count, rng)
            drawn, chance = tested[order], successive_inclusion(stake, count)[order]
        frozen = FrozenTable(
            labels=snapshot.labels,
            posterior=snapshot.posterior.ravel(),
            drawn=drawn,
            probability=np.clip(chance, 1e-12, 1.0),
            known=np.where(known.asked & (known.truth == UNKNOWN), NO_ANSWER, known.truth).astype(np.int32),
            tested=tested,
            expected=None if tested is None else np.array([expected]),
            surely=None
            if tested is None
            else np.array([min(AT_ONCE, count) if in_order else count]).clip(0, len(drawn)),
        )
        self.source.save_frozen(self.round_index, frozen)
        return frozen

    def _snapshot(self) -> _Snapshot:
        """Return what is known and believed now."""
        known = self.belief.known()
        certain = self.belief.certain(self.belief.posterior(known, calibrated=True), known)
        labels = self.belief.labels(certain, known)
        if self.settings.proves_in_order:
            labels = self.kept.preferred(labels, certain, known)
        return _Snapshot(known=known, posterior=certain, labels=labels)

    def _open_proposals(self, snapshot: _Snapshot) -> Proposals:
        """Return what would be changed; where audits prove in order, without what stands proven."""
        known, labels, posterior = snapshot.known, snapshot.labels, snapshot.posterior
        rows = np.flatnonzero((labels != self.source.masks.label) & ~known.asked)
        if self.settings.proves_in_order:
            rows = np.setdiff1d(rows, self.kept.unchanged(labels, posterior, known))
        return Proposals.of(self.source.masks, rows, labels, posterior)

    def _plan(self, proposals: Proposals, most: int) -> TestPlan | None:
        """Return what to test, by what audits of earlier rounds found beside what was expected."""
        known, parts = self.belief.known(), [(np.empty(0), np.empty(0))]
        for number in range(1, self.round_index):
            table = self.source.load_frozen(number)
            if table is not None:
                parts.append(found_ratios(table, self.source.masks, known, self.source.num_classes))
        found, expected = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return plan_round(proposals, most, self.settings, found, expected)

    def next_audits(self, frozen: FrozenTable) -> NDArray[np.int64]:
        """Return the places in `drawn` of the next audits of proposals, empty where those asked suffice or no more are of use.

        Those asked so far must have their answers.
        """
        asked = self._asked()
        if frozen.tested is None:
            _, places = np.unique(frozen.drawn, return_index=True)
            return places if asked < len(places) else places[:0]
        if not self.settings.proves_in_order:
            return np.arange(asked, len(frozen.drawn))
        if asked and self._outcome(frozen, self.belief.known()).settled:
            return np.arange(0)
        return next_audits(frozen, asked)

    def _outcome(self, frozen: FrozenTable, known: Known) -> Outcome:
        """Return what the audits of the round have shown."""
        masks, classes = self.source.masks, self.source.num_classes
        error, confidence = self._allowing_errors(known)
        if frozen.tested is None:
            return prove_at_once(
                frozen,
                masks,
                known.truth,
                self._proposals(frozen),
                num_classes=classes,
                confidence=confidence,
                wrong_answers=error,
            )
        asked = min(self._asked(), len(frozen.drawn))
        return prove(
            frozen,
            masks,
            known.truth,
            asked,
            num_classes=classes,
            confidence=confidence,
            wrong_answers=error,
        )

    def _allowing_errors(self, known: Known) -> tuple[float, float]:
        """Return the share of wrong answers to allow for, and the confidence that is left for a proof.

        Where repeats show errors, part of what may go wrong is that there are more of them than reckoned with.
        """
        error = known.most_errors(_ERRORS * (1 - self.settings.confidence))
        return error, 1 - (1 - _ERRORS * known.shows_errors) * (1 - self.settings.confidence)

    def unions(self, labels: NDArray[Any], posterior: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (K,) expected unions and IoU of labels, in pixels and [0, 1]."""
        return class_unions(self.source.masks.area, labels, posterior)

    def accepted(self, frozen: FrozenTable) -> Accepted:
        """Return the masks that may be corrected without being looked at, and the guarantee that goes with them."""
        known = self.belief.known()
        if not self.settings.corrects:
            none = np.empty(0, dtype=np.int64)
            reason = {"accepted": 0, "reason": "switched off", "confidence": self.settings.confidence}
            return Accepted(rows=none, proven=none, guarantee={"proposed": len(self._proposals(frozen))} | reason)
        proven, guarantee = self._proven(frozen, known)
        if self.settings.guarantee == "proven":
            return Accepted(rows=proven, proven=proven, guarantee=guarantee)
        rows, estimate = self._expected(frozen, known)
        more = np.setdiff1d(rows, proven)
        guarantee |= {"not_proven": len(more), "expected": estimate, "asked_for": self.settings.guarantee}
        return Accepted(rows=np.union1d(proven, more), proven=proven, guarantee=guarantee)

    def _proposals(self, frozen: FrozenTable) -> NDArray[np.int64]:
        """Return the rows that the posterior would change when it was frozen."""
        return np.flatnonzero((frozen.labels != self.source.masks.label) & (frozen.known == UNKNOWN))

    def _expected(self, frozen: FrozenTable, known: Known) -> tuple[NDArray[np.int64], float]:
        """Return the rows that are expected to help, and by how much: of mean IoU, or their precision.

        Without a guarantee, all that the posterior proposes.
        """
        masks, proposals = self.source.masks, self._proposals(frozen)
        posterior = frozen.posteriors(self.source.num_classes)
        sure = posterior[proposals, frozen.labels[proposals]].astype(np.float64)
        unions, ious = self.unions(frozen.labels, posterior)
        old, new = masks.label[proposals], frozen.labels[proposals]
        expected = expected_effects(masks.area[proposals], old, new, posterior[proposals], unions, ious)
        if self.settings.guarantee == "none":
            found = Expectation(accepted=np.ones(len(proposals), dtype=np.bool_), estimate=float(expected.sum()))
        else:
            seen, ratios, right, weights = audited_so_far(self._tables(frozen), masks, known, unions, ious)
            if self.settings.min_precision > 0:
                found = expect_precision(sure, seen, right, weights, min_precision=self.settings.min_precision)
            else:
                stake = stakes(masks.area[proposals], old, new, unions, ious)
                found = expect_gain(sure, stake, expected, seen, ratios, weights)
        rows = proposals[found.accepted]
        precise = self.settings.min_precision > 0 and self.settings.guarantee == "expected"
        return rows[~known.asked[rows]], found.estimate if precise else found.estimate / self.source.num_classes

    def _proven(self, frozen: FrozenTable, known: Known) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Return the rows that a certificate covers, of this round or still standing from the last one, and what it says."""
        masks = self.source.masks
        posterior = frozen.posteriors(self.source.num_classes)
        proposals = self._proposals(frozen)
        sure = posterior[proposals, frozen.labels[proposals]].astype(np.float64)
        # A draw whose answer named no class of the mask says nothing for the change.
        answered = known.truth
        guarantee: dict[str, Any] = {"proposed": len(proposals), "confidence": self.settings.confidence}
        if not self.settings.certifies:
            return np.empty(0, dtype=np.int64), guarantee | {"accepted": 0, "reason": "no proof was asked for"}
        error, confidence = self._allowing_errors(known)
        guarantee |= {"wrong_answers": error}
        if self.settings.min_precision > 0:
            drawn = np.searchsorted(proposals, frozen.drawn)
            right = answered[frozen.drawn] == frozen.labels[frozen.drawn]
            # A wrong answer may call a wrong correction right.
            precision = self.settings.min_precision * (1 - error) + error
            proof = certify(sure, drawn, right, min_precision=precision, confidence=confidence)
            lower = max(0.0, without_errors(proof.lower, error))
            rows = proposals[proof.accepted]
            guarantee |= {"kind": "precision", "asked": self.settings.min_precision, "lower": lower}
            guarantee |= {"estimate": proof.estimate, "audits": proof.audits, "reason": proof.reason}
        else:
            outcome = self._outcome(frozen, known)
            rows, gain = outcome.rows, outcome.promise
            classes = self.source.num_classes
            guarantee |= {
                "kind": "gain",
                "lower": gain.unseen.low / classes,
                "estimate": gain.unseen.estimate / classes,
            }
            guarantee |= {"audits": gain.audits, "reason": gain.reason}
        gone = rows[known.asked[rows]]
        rows = rows[~known.asked[rows]]
        if len(gone) and guarantee.get("kind") == "precision":
            # What the promise holds of, less what was asked about since; one without an answer may have been a right one.
            hits = int(((answered[gone] == UNKNOWN) | (answered[gone] == frozen.labels[gone])).sum())
            guarantee["lower"] = max(0.0, (guarantee["lower"] * (len(rows) + len(gone)) - hits) / max(1, len(rows)))
        elif len(gone) and guarantee.get("kind") == "gain":
            unions, ious = self.unions(frozen.labels, posterior)
            brought = (
                effects(
                    masks.area[gone],
                    masks.label[gone],
                    frozen.labels[gone],
                    np.where(answered[gone] == UNKNOWN, frozen.labels[gone], answered[gone]),
                    unions,
                    ious,
                ).sum()
                / self.source.num_classes
            )
            guarantee["lower"], guarantee["estimate"] = (
                guarantee["lower"] - float(brought),
                guarantee["estimate"] - float(brought),
            )
        kept = np.setdiff1d(self.kept.unchanged(frozen.labels, posterior, known), rows)
        return np.union1d(rows, kept), guarantee | {"accepted": len(rows), "kept": len(kept)}

    def _asked(self) -> int:
        """Return how many audits of proposals the round has asked."""
        measured = self.measured()
        if measured is not None and measured.audits is not None:
            return int(measured.audits[0])
        return sum(query.reason == Reason.AUDIT for query in self.source.queries(self.round_index))

    def decide(self, frozen: FrozenTable, count: int) -> AuditTable:
        """Record the labels as the audits allow them, and draw the masks that measure them."""
        accepted = self.accepted(frozen)
        rows = accepted.rows
        known = self.belief.known()
        masks = self.source.masks
        labels = np.where(known.truth == UNKNOWN, masks.label, known.truth).astype(np.int32)
        labels[rows] = frozen.labels[rows]
        posterior = self.belief.certain(frozen.posteriors(self.source.num_classes), known)
        size = audit_sizes(masks.area, labels, posterior, ~known.asked)
        chance = inclusion_probabilities(size, count)
        drawn = np.sort(draw(chance, np.random.default_rng([self.seed, 7]))) if count else np.empty(0, dtype=np.int64)
        measured = AuditTable(
            labels=labels,
            accepted=rows,
            drawn=drawn,
            probability=np.minimum(chance[drawn], 1.0),
            design=chance,
            promise=np.array([self.settings.min_precision, self.settings.confidence]),
            proven=accepted.proven,
            audits=np.array([self._asked()]),
        )
        self.source.save_measured(self.round_index, measured)
        return measured

    def _tables(self, frozen: FrozenTable) -> list[tuple[FrozenTable, float]]:
        """Return what this round and those before froze, each with the weight of its audits."""
        tables = [
            (frozen if number == self.round_index else self.source.load_frozen(number), self.round_index - number)
            for number in range(1, self.round_index + 1)
        ]
        return [(table, _FADING**age) for table, age in tables if table is not None]

    def standing(self, frozen: FrozenTable, measured: AuditTable, known: Known) -> NDArray[np.int64]:
        """Return the accepted rows that nobody was asked about since and that the audits, as answered now, support."""
        accepted = self.accepted(frozen)
        rows = np.intersect1d(accepted.rows, measured.accepted)
        # What was recorded as proven and is not any more, for an answer was mended, must not stand under that name.
        rows = np.setdiff1d(rows, np.setdiff1d(measured.certified, accepted.proven))
        return np.asarray(rows[~known.asked[rows]], dtype=np.int64)
