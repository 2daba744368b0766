"""Report the label quality that audits estimate, beside the true one if there is ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.wording import guarantee_sentences
from a2lc.classes.sentinels import VOID
from a2lc.correction.manual import answered_class
from a2lc.report.facts import UNKNOWN, Facts
from a2lc.statistics.metrics import ConfusionCounts

__all__ = ["QualityClass", "QualityRound", "QualitySection", "Span", "by_masks", "label_quality_section", "span_of"]


@dataclass(frozen=True, kw_only=True)
class Span:
    """A figure that audits estimate, with its confidence interval.

    Attributes:
        low: Lower end; None if the figure is not defined.
        estimate: Estimate; None if there is none.
        high: Upper end; None if the figure is not defined.
        true: The figure by ground truth; None without it, NaN if it is not defined.
    """

    low: float | None
    estimate: float | None
    high: float | None
    true: float | None = None


@dataclass(frozen=True, kw_only=True)
class QualityRound:
    """Label quality at the end of a round.

    Attributes:
        round: Round index; 0 for the imported labels.
        audits: Number of audited masks.
        pixel_accuracy: Pixel accuracy, 0..1.
        miou: Mean IoU, 0..1.
        wrong_masks: Wrong masks among those not asked about.
        wrong_pixels: Pixels of these masks.
        questions: Number of next questions that `gain` refers to.
        gain: Predicted gain of mean IoU by these questions, in percentage points.
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
    """Estimated quality of one class."""

    index: int
    precision: Span
    recall: Span
    iou: Span


@dataclass(frozen=True, kw_only=True)
class QualitySection:
    """Label quality by audits and answers, and by ground truth if there is any.

    Attributes:
        round: The last round that was audited.
        confidence: Confidence of each single interval of that round.
        has_truth: Whether there is ground truth.
        first: The imported labels, measured by the audits of that round.
        rounds: The audited rounds, that one last.
        classes: Quality of each class at its end.
        classes_first: Quality of each class as imported.
        unasked: Masks that no answer had given a class by then.
        guarantee: The guarantee on automatic corrections, in sentences.
        changed_since: Whether labels have changed after the round.
        repeats: Masks that were asked about twice.
        error_rate: Estimated share of wrong answers; None if too few masks were asked about twice.
        informative: Whether the initial labels carry information on the true classes; None if not known.
        right: Estimated share of masks whose initial label is right.
        chance: That share if labels were random.
    """

    round: int
    confidence: float
    has_truth: bool
    first: QualityRound
    rounds: list[QualityRound]
    classes: list[QualityClass]
    classes_first: list[QualityClass]
    unasked: int
    guarantee: str
    changed_since: bool
    repeats: int
    error_rate: float | None
    informative: bool | None
    right: float | None
    chance: float | None

    @property
    def last(self) -> QualityRound:
        """The last audited round."""
        return self.rounds[-1]


def label_quality_section(facts: Facts) -> QualitySection | None:
    """Compute the section; None if no round was audited."""
    audited = [row["quality"] for row in facts.status["rounds"] if row["quality"] is not None]
    if not audited:
        return None
    last = audited[-1]
    number = last["round"]
    known = _asked(facts, number)
    first = facts.masks.label
    state = facts.project.state(number)
    after = facts.masks.current(state)
    agreement = last["agreement"]
    return QualitySection(
        round=number,
        confidence=last["after"]["confidence"],
        has_truth=facts.truth is not None,
        first=_quality_round(facts, last, "before", first, known),
        rounds=[
            _quality_round(
                facts,
                row,
                "after",
                facts.masks.current(facts.project.state(row["round"])),
                _asked(facts, row["round"]),
            )
            for row in audited
        ],
        classes=_quality_classes(facts, last["after"], after),
        classes_first=_quality_classes(facts, last["before"], first),
        unasked=int((~known).sum()),
        guarantee=guarantee_sentences(last["promise"]),
        changed_since=bool((facts.now.classes != state.classes).any()),
        repeats=last["gold"],
        error_rate=last["error_rate"],
        informative=agreement["informative"],
        right=agreement["right"],
        chance=agreement["chance"],
    )


def _asked(facts: Facts, number: int) -> NDArray[np.bool_]:
    """Return (M,) True for masks that an answer gave a class until the end of a round."""
    queries = {query.query_id: query for query in facts.queries if query.round <= number}
    asked = [queries[a.query_id] for a, _ in facts.answers if a.query_id in queries and answered_class(a) is not None]
    image = [query.image for query in asked for _ in query.mask_ids]
    masks = [mask for query in asked for mask in query.mask_ids]
    known = np.zeros(len(facts.masks), dtype=bool)
    known[facts.masks.rows(np.array(image, dtype=np.int64), np.array(masks, dtype=np.int64))] = True
    return known


def by_masks(facts: Facts, labels: NDArray[Any]) -> NDArray[np.int64] | None:
    """Count (K, K) pixels by true class (rows) and label, each mask by its most frequent true class; None without truth."""
    if facts.truth is None:
        return None
    counts = ConfusionCounts(facts.num_classes, VOID)
    counts.add(np.asarray(labels), np.where(facts.true_class == UNKNOWN, VOID, facts.true_class), facts.masks.area)
    return counts.counts


def span_of(figure: Mapping[str, Any], true: float | None = None) -> Span:
    """Return a figure of the ledger, `low, estimate, high`, with its true value."""
    return Span(low=figure["low"], estimate=figure["estimate"], high=figure["high"], true=true)


def _quality_round(
    facts: Facts, quality: Mapping[str, Any], when: str, labels: NDArray[Any], known: NDArray[np.bool_]
) -> QualityRound:
    figures, true = quality[when], (quality["true"] or {}).get(when, {})
    wrong = ~known & (facts.true_class != UNKNOWN) & (labels != facts.true_class)
    masks, pixels = (int(wrong.sum()), int(facts.masks.area[wrong].sum())) if true else (None, None)
    return QualityRound(
        round=quality["round"] if when == "after" else 0,
        audits=figures["audits"],
        pixel_accuracy=span_of(figures["pixel_accuracy"], true.get("pixel_accuracy")),
        miou=span_of(figures["miou"], true.get("miou")),
        wrong_masks=span_of(figures["wrong_masks"], masks),
        wrong_pixels=span_of(figures["wrong_pixels"], pixels),
        questions=quality["next"]["questions"],
        gain=span_of(quality["next"]["gain"]),
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
        if figures["iou"][index] is not None  # classes that were edited since that round have no figures
    ]
