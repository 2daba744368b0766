"""Certify automatic corrections: freeze the posterior, audit what it would change, and keep what audits support.

The posterior is frozen before audits are drawn, so what they show holds for finite data and for any posterior.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import class_unions
from a2lc.audits.belief import Belief
from a2lc.audits.expectation import Expectation, expect_gain, expect_precision
from a2lc.audits.gain_certificate import certify_gain, without_errors
from a2lc.audits.knowledge import Known
from a2lc.audits.precision_certificate import certify
from a2lc.audits.sampling import audit_sizes, draw, inclusion_probabilities
from a2lc.audits.stakes import draw_by_stake, effects, expected_effects, stake_inclusion, stakes
from a2lc.audits.tables import AuditTable, FrozenTable
from a2lc.classes.sentinels import NO_ANSWER, UNKNOWN, VOID
from a2lc.ledger.replay import SOURCES

__all__ = ["Accepted", "Certification"]

_FADING = 0.5
"""Weight of an audit of the round before, beside one of this round, where no proof is asked for; of older ones, powers of it."""

_ERRORS = 0.1
"""Part of the probability that a guarantee fails that goes into the bound on the share of wrong answers."""


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

    def frozen(self) -> FrozenTable | None:
        """Return what the round froze, or None before it did."""
        return self.source.load_frozen(self.round_index)

    def measured(self) -> AuditTable | None:
        """Return the labels that the round measures, or None before it decided on them."""
        return self.source.load_measured(self.round_index)

    def freeze(self, count: int) -> FrozenTable:
        """Record what the posterior says, and draw the masks that audit what it would change."""
        known = self.belief.known()
        posterior = self.belief.posterior(known, calibrated=True)
        certain = self.belief.certain(posterior, known)
        labels = self.belief.labels(certain, known)
        proposals = np.flatnonzero((labels != self.source.masks.label) & ~known.asked)
        rng = np.random.default_rng([self.seed, 6])
        drawn = np.empty(0, dtype=np.int64)
        chance = np.empty(0)
        if len(proposals) and count:
            if self.settings.min_precision > 0:
                drawn = np.sort(rng.choice(proposals, min(count, len(proposals)), replace=False))
                chance = np.full(len(drawn), len(drawn) / len(proposals))
            else:
                stake = self._stakes(proposals, labels, certain)
                # One mask may be drawn more than once: the draws count, the mask is asked about once.
                drawn = proposals[draw_by_stake(stake, count, rng)]
                included = stake_inclusion(stake, count)
                place = np.searchsorted(proposals, np.unique(drawn))
                chance = np.clip(included[place], 1e-12, 1.0)
        frozen = FrozenTable(
            labels=labels,
            posterior=certain.ravel(),
            drawn=drawn,
            probability=chance,
            known=np.where(known.asked & (known.truth == UNKNOWN), NO_ANSWER, known.truth).astype(np.int32),
        )
        self.source.save_frozen(self.round_index, frozen)
        return frozen

    def unions(self, labels: NDArray[Any], posterior: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return (K,) expected unions and IoU of labels, in pixels and [0, 1]."""
        return class_unions(self.source.masks.area, labels, posterior)

    def _stakes(self, rows: NDArray[Any], labels: NDArray[Any], posterior: NDArray[Any]) -> NDArray[np.float64]:
        unions, ious = self.unions(labels, posterior)
        masks = self.source.masks
        return stakes(masks.area[rows], masks.label[rows], labels[rows], unions, ious)

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
            seen, ratios, right, weights = self._audited(frozen, known, unions, ious)
            if self.settings.min_precision > 0:
                found = expect_precision(sure, seen, right, weights, min_precision=self.settings.min_precision)
            else:
                stake = stakes(masks.area[proposals], old, new, unions, ious)
                found = expect_gain(sure, stake, expected, seen, ratios, weights)
        rows = proposals[found.accepted]
        precise = self.settings.min_precision > 0 and self.settings.guarantee == "expected"
        return rows[~known.asked[rows]], found.estimate if precise else found.estimate / self.source.num_classes

    def _audited(
        self, frozen: FrozenTable, known: Known, unions: NDArray[Any], ious: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
        """Return what this round's audits of proposals and those of the rounds before have shown.

        Returns:
            Scores that the audited had, their effects by their stakes, whether they were right, and weights.
        """
        masks, classes, parts = self.source.masks, self.source.num_classes, []
        for number in range(1, self.round_index + 1):
            table = frozen if number == self.round_index else self.source.load_frozen(number)
            if table is None:
                continue
            drawn = table.drawn[known.truth[table.drawn] != UNKNOWN]
            old, new, said = masks.label[drawn], table.labels[drawn], known.truth[drawn]
            stake = stakes(masks.area[drawn], old, new, unions, ious)
            ratio = effects(masks.area[drawn], old, new, said, unions, ious) / np.maximum(stake, 1e-300)
            sure = table.posteriors(classes)[drawn, new].astype(np.float64)
            weight = np.full(len(drawn), _FADING ** (self.round_index - number))
            parts.append((sure, np.clip(ratio, -1, 1), said == new, weight))
        sures, ratios, rights, weights = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return sures, ratios, rights, weights

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
        # Where repeats show errors, part of what may go wrong is that there are more of them than reckoned with.
        error = known.most_errors(_ERRORS * (1 - self.settings.confidence))
        confidence = 1 - (1 - _ERRORS * known.shows_errors) * (1 - self.settings.confidence)
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
            unions, ious = self.unions(frozen.labels, posterior)
            old, new = masks.label[proposals], frozen.labels[proposals]
            stake = stakes(masks.area[proposals], old, new, unions, ious)
            drawn = np.searchsorted(proposals, frozen.drawn)
            said = answered[frozen.drawn]
            found = effects(masks.area[frozen.drawn], old[drawn], new[drawn], np.maximum(said, VOID), unions, ious)
            # An audit that named no class counts as the worst.
            found = np.where(said == UNKNOWN, -stake[drawn], found)
            gain = certify_gain(sure, stake, drawn, found, confidence=confidence, wrong_answers=error)
            rows = proposals[gain.accepted]
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
        kept = np.setdiff1d(self._kept(frozen, posterior, known), rows)
        return np.union1d(rows, kept), guarantee | {"accepted": len(rows), "kept": len(kept)}

    def _kept(self, frozen: FrozenTable, posterior: NDArray[Any], known: Known) -> NDArray[np.int64]:
        """Return the rows that the last audited round corrected and that no later audit contradicts.

        A small round cannot prove again what a larger effect proved before: most of what was wrong has been asked about.
        So its silence withdraws nothing. A change goes if the posterior no longer proposes it, or all go if the audits
        since speak against them as a whole: their estimated effect is negative, or too few of them were right. Only what
        passed under a guarantee as strict as this round's is kept.
        """
        none, masks = np.empty(0, dtype=np.int64), self.source.masks
        before = self._before
        if before is None or before.promise is None:
            return none
        precision, confidence = before.promise.tolist()
        strict = precision >= self.settings.min_precision if self.settings.min_precision > 0 else precision == 0
        if not strict or confidence < self.settings.confidence:
            return none
        state = self.source.state()
        held = before.certified
        random = np.isin(known.rows, held) & (known.random > 0)
        measured = self.measured()
        if measured is not None:
            # What measures the labels of this round must not decide what they are.
            random &= ~np.isin(known.rows, measured.drawn)
        if random.any():
            drawn, weight = known.rows[random], known.random[random]
            said, label = known.truth[drawn], before.labels[drawn]
            if self.settings.min_precision > 0:
                against = np.average(said == label, weights=weight) < self.settings.min_precision
            else:
                unions, ious = self.unions(frozen.labels, posterior)
                found = effects(masks.area[drawn], masks.label[drawn], label, said, unions, ious)
                against = bool(found @ weight < 0)
            if against:
                return none
        standing = (state.source == SOURCES.index("automatic")) & (state.classes == before.labels)
        same = (frozen.labels == before.labels) & (frozen.labels != masks.label) & ~known.asked
        return np.asarray(held[standing[held] & same[held]], dtype=np.int64)

    @cached_property
    def _before(self) -> AuditTable | None:
        """What the last audited round before this one measured."""
        for number in range(self.round_index - 1, 0, -1):
            found = self.source.load_measured(number)
            if found is not None:
                return found
        return None

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
        )
        self.source.save_measured(self.round_index, measured)
        return measured

    def standing(self, frozen: FrozenTable, measured: AuditTable, known: Known) -> NDArray[np.int64]:
        """Return the accepted rows that nobody was asked about since and that the audits, as answered now, support."""
        accepted = self.accepted(frozen)
        rows = np.intersect1d(accepted.rows, measured.accepted)
        # What was recorded as proven and is not any more, for an answer was mended, must not stand under that name.
        rows = np.setdiff1d(rows, np.setdiff1d(measured.certified, accepted.proven))
        return np.asarray(rows[~known.asked[rows]], dtype=np.int64)
