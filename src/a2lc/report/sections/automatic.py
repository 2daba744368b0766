"""Automatic corrections, and how right they turned out to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import FIRST
from a2lc.ledger.replay import replay
from a2lc.report.facts import AUTOMATIC, UNDO, Facts, Int
from a2lc.report.sections.annotations import says
from a2lc.statistics.metrics import ConfusionCounts

__all__ = [
    "AutomaticChanges",
    "AutomaticSection",
    "automatic_changes",
    "last_kept",
    "mean_of",
    "tally_of",
    "verdict_of",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class AutomaticChanges:
    """Changes of class the method made, as they were recorded, n of them.

    Attributes:
        mask: (n,) rows of the mask table.
        rounds: (n,) round.
        old: (n,) class before, the most frequent first label where nothing was corrected before.
        new: (n,) class after.
        confidence: (n,) in [0, 1].
        stands: (n,) True where it is what the mask carries now.
        true_class: (n,) most frequent true class, VOID, or UNKNOWN.
        withdrawn: (n,) True where it took an earlier change back: the mask got its first labels, `new` is the most frequent.
    """

    mask: Int
    rounds: Int
    old: Int
    new: Int
    confidence: NDArray[np.float64]
    stands: NDArray[np.bool_]
    true_class: Int
    withdrawn: NDArray[np.bool_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether the new class is the most frequent true one."""
        return np.asarray(self.new == self.true_class)


def automatic_changes(facts: Facts) -> AutomaticChanges:
    """The automatic corrections that changed something, by the rule of `status.round_changes`."""
    index = np.flatnonzero(facts.rows.source == AUTOMATIC)
    rows = facts.rows.take(index)
    place = np.searchsorted(facts.masks.keys, rows.keys)
    old, new = (np.where(side == FIRST, facts.masks.label[place], side) for side in (rows.old, rows.new))
    mixed = np.bincount(facts.masks.pair_row, minlength=len(facts.masks))[place] > 1
    back = rows.new == FIRST
    changed = (old != new) | (((rows.old == FIRST) | back) & mixed)
    place, index, back = place[changed], index[changed], back[changed]
    # First labels have no decider: what gave them back stands if nothing came after it that was kept.
    last = last_kept(facts)
    gone = back & (facts.now.classes[place] == FIRST) & (last[place] == index)
    return AutomaticChanges(
        mask=place.astype(np.int64),
        rounds=rows.rounds[changed].astype(np.int64),
        old=old[changed].astype(np.int64),
        new=new[changed].astype(np.int64),
        confidence=facts.confidence[index],
        stands=(facts.decider[place] == index) | gone,
        true_class=facts.true_class[place],
        withdrawn=back,
    )


def last_kept(facts: Facts) -> Int:
    """(M,) row of each mask's last correction that was not taken back, -1 for none."""
    last = np.full(len(facts.masks), -1, dtype=np.int64)
    kept = np.flatnonzero((facts.rows.source != UNDO) & ~facts.taken_back)
    np.maximum.at(last, np.searchsorted(facts.masks.keys, facts.rows.keys[kept]), kept)
    return last


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Automatic changes of one round, or to one class.

    Attributes:
        key: Round, or class index.
        count: Changes.
        stands: Of them, what masks still carry.
        right: Of them, right ones; None without ground truth.
        precision: `right` by `count`; None without ground truth.
        withdrawn: Of the changes, those that took an earlier one back.
        by_round: Changes in each round of the section, for a class.
    """

    key: int
    count: int
    stands: int
    right: int | None
    precision: float | None
    withdrawn: int = 0
    by_round: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AutomaticSection:
    """What automatic corrections did.

    Attributes:
        count: Changes.
        stands: Of them, what masks still carry.
        withdrawn: Of them, those that took an earlier one back.
        has_truth: Whether they can be judged.
        right: Right ones.
        precision: Share of right ones; NaN for none.
        fixed: Masks whose class was wrong and became right.
        broken: Masks whose class was right and became wrong.
        confidence_right: Mean confidence of right changes, NaN for none.
        confidence_wrong: Mean confidence of wrong changes, NaN for none.
        confidence: Mean confidence of all, NaN for none.
        miou_with: Data mIoU of the labels as they stand.
        miou_without: Data mIoU of the first labels with the manual corrections alone.
        rounds: By round.
        classes: By class given.
        checked: Changes that a person, or the oracle, was asked about later.
        upheld: Of them, those that were kept.
        verdict: `none`, `unknown`, `good` or `harm`.
        sentence: The verdict in words.
        doubtful: Rounds whose standing changes are more often wrong than right, for the undo command. Where they were to
            raise the mean IoU, only if it would be higher without them.
    """

    count: int
    stands: int
    withdrawn: int
    has_truth: bool
    right: int
    precision: float
    fixed: int
    broken: int
    confidence_right: float
    confidence_wrong: float
    confidence: float
    miou_with: float
    miou_without: float
    rounds: list[Tally]
    classes: list[Tally]
    checked: int
    upheld: int
    verdict: str
    sentence: str
    doubtful: list[int]


def automatic(facts: Facts) -> AutomaticSection:
    """Make section 5."""
    changes = automatic_changes(facts)
    count, has_truth = len(changes.mask), facts.truth is not None
    right = changes.right
    with_them = without = float("nan")
    if facts.truth is not None:
        with_them = facts.project.truth.confusion(facts.now).miou
        without = _confusion_without(facts, facts.rows.source == AUTOMATIC).miou
    was_right = changes.old == changes.true_class
    numbers = [record.round for record in facts.rounds if record.round > 0]
    rounds = [tally_of(changes, changes.rounds == number, number, has_truth) for number in numbers]
    classes = [
        tally_of(changes, changes.new == index, index, has_truth, numbers) for index in np.unique(changes.new).tolist()
    ]
    precision = float(right.mean()) if count else float("nan")
    stands = int(changes.stands.sum())
    promised = _promised(facts)
    # Changes made to raise the mean IoU need not be right one by one.
    for_gain = {number for number, kind in promised.items() if kind == "gain"}
    verdict, sentence = verdict_of(
        count, stands, int(right.sum()), has_truth, with_them, without, set(changes.rounds.tolist()) <= for_gain
    )
    if count and not has_truth and promised:
        sentence = "The project has no ground truth: audits alone say how good they are."
    checked, upheld = _checked_later(facts, changes)

    def doubtful(number: int) -> bool:
        standing = (changes.rounds == number) & changes.stands
        if not has_truth or not standing.any() or right[standing].mean() >= 0.5:
            return False
        if number not in for_gain:
            return True
        own = (facts.rows.source == AUTOMATIC) & (facts.rows.rounds == number)
        return round(_confusion_without(facts, own).miou, 3) > round(with_them, 3)

    return AutomaticSection(
        count=count,
        stands=stands,
        withdrawn=int(changes.withdrawn.sum()),
        has_truth=has_truth,
        right=int(right.sum()),
        precision=precision,
        fixed=int((right & ~was_right).sum()),
        broken=int((~right & was_right).sum()),
        confidence_right=mean_of(changes.confidence[right]),
        confidence_wrong=mean_of(changes.confidence[~right]),
        confidence=mean_of(changes.confidence),
        miou_with=with_them,
        miou_without=without,
        rounds=rounds,
        classes=sorted(classes, key=lambda tally: -tally.count),
        checked=checked,
        upheld=upheld,
        verdict=verdict,
        sentence=sentence,
        doubtful=[number for number in numbers if doubtful(number)],
    )


def _promised(facts: Facts) -> dict[int, str | None]:
    """Rounds whose automatic changes audits have judged, and whether for `gain` of mean IoU or for `precision`."""
    return {
        stage.round: stage.details["promise"].get("kind")
        for stage in facts.stages
        if stage.stage == "correct" and stage.details.get("promise")
    }


def mean_of(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def tally_of(
    changes: AutomaticChanges, chosen: NDArray[np.bool_], key: int, has_truth: bool, numbers: list[int] | None = None
) -> Tally:
    count = int(chosen.sum())
    right = int((chosen & changes.right).sum()) if has_truth else None
    return Tally(
        key=key,
        count=count,
        stands=int((chosen & changes.stands).sum()),
        right=right,
        precision=None if right is None or not count else right / count,
        withdrawn=int((chosen & changes.withdrawn).sum()),
        by_round=tuple(int((chosen & (changes.rounds == number)).sum()) for number in numbers or ()),
    )


def _confusion_without(facts: Facts, left_out: NDArray[np.bool_]) -> ConfusionCounts:
    """Label quality had these corrections not been made: the others that were not taken back, replayed.

    Undo rows are left out with the rest, since they may go back to a class that one of these gave.
    """
    own = ~left_out & (facts.rows.source != UNDO) & ~facts.taken_back
    rows = facts.rows.take(own)
    return facts.project.truth.confusion(facts.project.with_layer(replay(rows, facts.masks.keys), rows, facts.through))


def _checked_later(facts: Facts, changes: AutomaticChanges) -> tuple[int, int]:
    """Automatic changes that were asked about later, and how many of them the answer kept."""
    queries = {query.query_id: query for query in facts.queries}
    given: dict[tuple[int, int], list[tuple[int, int]]] = {}
    names = zip(facts.masks.image[changes.mask].tolist(), facts.masks.mask_ids[changes.mask].tolist(), strict=True)
    for name, number, new in zip(names, changes.rounds.tolist(), changes.new.tolist(), strict=True):
        given.setdefault(name, []).append((number, new))
    checked = upheld = 0
    for answer, _ in facts.answers:
        query = queries[answer.query_id]
        said = says(query, answer)
        if said is None:
            continue
        for mask_id in query.mask_ids:
            before = given.get((query.image, mask_id), ())
            if any(number < query.round and new == query.proposed for number, new in before):
                checked += 1
                upheld += said
    return checked, upheld


def verdict_of(
    count: int, stands: int, right: int, has_truth: bool, with_them: float, without: float, for_gain: bool = False
) -> tuple[str, str]:
    """Whether automatic corrections did harm, in a word and in a sentence.

    Example:
        >>> verdict_of(4, 4, 1, True, 0.5, 0.75)[1]
        'Automatic corrections did harm: data mIoU is 0.500 with them and would be 0.750 without. 1 of 4 are right.'
        >>> verdict_of(4, 4, 3, True, 0.6071, 0.6070)
        ('good', 'Automatic corrections changed data mIoU by less than 0.001. 3 of 4 are right.')

    Those made to raise the mean IoU are judged by that alone:

        >>> verdict_of(4, 4, 1, True, 0.75, 0.5, for_gain=True)
        ('good', 'Automatic corrections helped: data mIoU is 0.750 with them and would be 0.500 without. 1 of 4 are right.')
    """
    if not count:
        return "none", "No mask was changed automatically."
    if not has_truth:
        return "unknown", "Whether they are right cannot be measured: the project has no ground truth."
    share = f"{right} of {count} {'is' if right == 1 and count == 1 else 'are'} right."
    if not stands:
        verdict = ("unknown" if for_gain else "harm") if right < count / 2 else "good"
        return verdict, f"None of the automatic corrections stands any more. {share}"
    known = not np.isnan(with_them) and not np.isnan(without)
    # By the digits that are shown: 0.607 against 0.607 is neither help nor harm.
    gain = round(with_them, 3) - round(without, 3) if known else 0.0
    compared = f"data mIoU is {with_them:.3f} with them and would be {without:.3f} without"
    if gain < 0:
        return "harm", f"Automatic corrections did harm: {compared}. {share}"
    if right < count / 2 and not for_gain:
        harm = f"Automatic corrections did harm to labels: more were wrong than right. {share}"
        return "harm", f"{harm} Still, {compared}." if gain > 0 else harm
    if not gain:
        return "good", f"Automatic corrections changed data mIoU by less than 0.001. {share}"
    return "good", f"Automatic corrections helped: {compared}. {share}"
