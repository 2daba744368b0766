"""Estimated label quality, from audits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.wording import promise_sentence
from a2lc.classes.sentinels import VOID
from a2lc.correction.manual import answered_class
from a2lc.report.facts import UNKNOWN, Facts
from a2lc.statistics.metrics import ConfusionCounts

__all__ = ["QualityClass", "QualityRound", "QualitySection", "Span", "by_masks", "label_quality_section", "span_of"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A figure that audits estimate, with its interval.

    Attributes:
        low: Lower end, None where the figure is not defined.
        estimate: None where there is none.
        high: Upper end, as the lower.
        true: The same by ground truth; None without it, NaN where it is not defined.
    """

    low: float | None
    estimate: float | None
    high: float | None
    true: float | None = None


@dataclass(frozen=True, kw_only=True)
class QualityRound:
    """Label quality at the end of a round.

    Attributes:
        round: Round; 0 for the labels as imported.
        audits: Masks it was measured with.
        pixel_accuracy: In [0, 1].
        miou: Likewise.
        wrong_masks: Wrong ones among those nobody was asked about.
        wrong_pixels: Their pixels.
        questions: That the next gain is of.
        gain: Points of mean IoU that they would bring.
    """

    round: int
    audits: int
    pixel_accuracy: Span
    miou: Span
    wrong_masks: Span
    wrong_pixels: Span
    questions: int
    gain: Span


@dataclass(frozen=True, kw_only=True)
class QualityClass:
    """A class, by audits."""

    index: int
    precision: Span
    recall: Span
    iou: Span


@dataclass(frozen=True, kw_only=True)
class QualitySection:
    """How good the labels are, by audits and answers, and beside it by ground truth.

    Attributes:
        round: The last round that was audited.
        confidence: Of each interval of that round by itself.
        has_truth: Whether true figures are there.
        first: As imported, measured by the audits of that round.
        rounds: The audited rounds, that one last.
        classes: By class at its end.
        classes_first: By class as imported.
        unasked: Masks nobody had named a class for then.
        promise: What is promised of automatic changes, in sentences.
        changed_since: Whether labels have changed after the round.
        gold: Masks asked about twice.
        error_rate: Share of answers that were wrong; None where too few masks were asked about twice.
        informative: Whether first labels say something of the true classes; None where it is not known.
        right: Share of the masks whose first label is right, by audits.
        chance: What that share would be by chance.
    """

    round: int
    confidence: float
    has_truth: bool
    first: QualityRound
    rounds: list[QualityRound]
    classes: list[QualityClass]
    classes_first: list[QualityClass]
    unasked: int
    promise: str
    changed_since: bool
    gold: int
    error_rate: float | None
    informative: bool | None
    right: float | None
    chance: float | None

    @property
    def last(self) -> QualityRound:
        """The round."""
        return self.rounds[-1]


def label_quality_section(facts: Facts) -> QualitySection | None:
    """Make the section; None where no round was audited."""
    audited = [row["quality"] for row in facts.status["rounds"] if row["quality"] is not None]
    if not audited:
        return None
    last = audited[-1]
    number = last["round"]
    known = _asked(facts, number)
    first = facts.masks.label
    state = facts.project.state(number)
    after = facts.masks.current(state)
    told = last["agreement"]
    return QualitySection(
        round=number,
        confidence=last["after"]["confidence"],
        has_truth=facts.truth is not None,
        first=_quality_round(facts, last, "before", first, known),
        rounds=[
            _quality_round(
                facts,
                found,
                "after",
                facts.masks.current(facts.project.state(found["round"])),
                _asked(facts, found["round"]),
            )
            for found in audited
        ],
        classes=_quality_classes(facts, last["after"], after),
        classes_first=_quality_classes(facts, last["before"], first),
        unasked=int((~known).sum()),
        promise=promise_sentence(last["promise"]),
        changed_since=bool((facts.now.classes != state.classes).any()),
        gold=last["gold"],
        error_rate=last["error_rate"],
        informative=told["informative"],
        right=told["right"],
        chance=told["chance"],
    )


def _asked(facts: Facts, number: int) -> NDArray[np.bool_]:
    """(M,) masks that an answer named a class for until the end of a round."""
    queries = {query.query_id: query for query in facts.queries if query.round <= number}
    said = [queries[a.query_id] for a, _ in facts.answers if a.query_id in queries and answered_class(a) is not None]
    image = [query.image for query in said for _ in query.mask_ids]
    masks = [mask for query in said for mask in query.mask_ids]
    known = np.zeros(len(facts.masks), dtype=bool)
    known[facts.masks.rows(np.array(image, dtype=np.int64), np.array(masks, dtype=np.int64))] = True
    return known


def by_masks(facts: Facts, labels: NDArray[Any]) -> NDArray[np.int64] | None:
    """(K, K) pixels by true class, rows, and label, each mask as a whole of its most frequent true class; None without."""
    if facts.truth is None:
        return None
    counts = ConfusionCounts(facts.num_classes, VOID)
    counts.add(np.asarray(labels), np.where(facts.true_class == UNKNOWN, VOID, facts.true_class), facts.masks.area)
    return counts.counts


def span_of(found: Mapping[str, Any], true: float | None = None) -> Span:
    return Span(low=found["low"], estimate=found["estimate"], high=found["high"], true=true)


def _quality_round(
    facts: Facts, found: Mapping[str, Any], when: str, labels: NDArray[Any], known: NDArray[np.bool_]
) -> QualityRound:
    figures, true = found[when], (found["true"] or {}).get(when, {})
    wrong = ~known & (facts.true_class != UNKNOWN) & (labels != facts.true_class)
    masks, pixels = (int(wrong.sum()), int(facts.masks.area[wrong].sum())) if true else (None, None)
    return QualityRound(
        round=found["round"] if when == "after" else 0,
        audits=figures["audits"],
        pixel_accuracy=span_of(figures["pixel_accuracy"], true.get("pixel_accuracy")),
        miou=span_of(figures["miou"], true.get("miou")),
        wrong_masks=span_of(figures["wrong_masks"], masks),
        wrong_pixels=span_of(figures["wrong_pixels"], pixels),
        questions=found["next"]["questions"],
        gain=span_of(found["next"]["gain"]),
    )


def _quality_classes(facts: Facts, figures: Mapping[str, Any], labels: NDArray[Any]) -> list[QualityClass]:
    counts = by_masks(facts, labels)
    true: dict[str, list[float | None]] = {name: [None] * facts.num_classes for name in ("precision", "recall", "iou")}
    if counts is not None:
        right, labelled, real = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
        for name, whole in (("precision", labelled), ("recall", real), ("iou", labelled + real - right)):
            share = np.divide(right, whole, out=np.full(len(right), np.nan), where=whole > 0)
            true[name] = share.tolist()
    return [
        QualityClass(
            index=index,
            precision=span_of(figures["precision"][index], true["precision"][index]),
            recall=span_of(figures["recall"][index], true["recall"][index]),
            iou=span_of(figures["iou"][index], true["iou"][index]),
        )
        for index in range(facts.num_classes)
        if figures["iou"][index] is not None  # of a class that was another one in that round
    ]
