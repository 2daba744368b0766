"""What the report says, as data: each section from the ledger, the mask tables and ground truth (no drawing, no HTML).

No pixel is read here, so a report on a large project costs what its tables cost.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.asking import rounded_down
from a2lc.class_edits import described
from a2lc.correction.manual import answered_class
from a2lc.history import deciders, taken_back
from a2lc.ledger.ledger import RoundRecord, StageRecord
from a2lc.ledger.replay import FIRST, SOURCES, VOID, CorrectionRows, MaskState, UndoRecord, replay
from a2lc.metrics import ConfusionCounts
from a2lc.project import Project
from a2lc.records import Answer, AnswerKind, Query, QueryKind
from a2lc.stages import STAGES
from a2lc.status import project_status
from a2lc.tables import MaskTable, TruthTable
from a2lc.version import __version__, versions

__all__ = [
    "MATRIX_LIMIT",
    "PICTURES",
    "AutomaticChanges",
    "AutomaticSection",
    "ClassRow",
    "ConfigSection",
    "Curves",
    "Facts",
    "Headline",
    "LogSection",
    "MatrixSection",
    "PairRow",
    "QualityClass",
    "QualityRound",
    "QualitySection",
    "Report",
    "ShownChange",
    "Span",
    "automatic_changes",
    "collect",
    "label_quality_section",
    "load_facts",
    "true_classes",
]

UNKNOWN = -3
"""In true classes: ground truth says nothing of the mask."""

MATRIX_LIMIT = 40
"""Most classes a matrix is readable with; above it the most changed pairs are listed."""

PAIRS = 40
"""Pairs in that list."""

PICTURES = 12
"""Changes shown as pictures."""

FREQUENT = 15
"""Corrections listed from the annotation log."""


_MANUAL = SOURCES.index("manual")
_AUTOMATIC = SOURCES.index("automatic")
_UNDO = SOURCES.index("undo")

Int = NDArray[np.int64]


# ---- what everything rests on -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Facts:
    """All that sections are made from, read once. M masks, n corrections, K classes.

    Attributes:
        project: The project.
        through: Last round looked at, None for all.
        status: What `project_status` found; its `rounds` only up to `through`.
        rounds: Rounds as they were opened, up to `through`.
        stages: Finished stages of those rounds.
        masks: The mask table.
        truth: Ground truth joined with it, None where there is none.
        rows: The n corrections.
        confidence: (n,) confidence of each, NaN where it has none.
        taken_back: (n,) True where an undo took the correction back.
        first: The state before any correction.
        now: The state after all of them.
        changed_pixels: (M,) pixels of each mask whose class differs from the first labels.
        by: (M,) position in SOURCES of what the standing class comes from, 0 where nothing was corrected.
        decider: (M,) row of the correction it comes from, -1 where nothing was corrected.
        true_class: (M,) most frequent true class, VOID, or UNKNOWN.
        queries: Questions of those rounds.
        answers: Their standing answers, with clicks.
        undos: What was taken back.
    """

    project: Project
    through: int | None
    status: dict[str, Any]
    rounds: list[RoundRecord]
    stages: list[StageRecord]
    masks: MaskTable
    truth: TruthTable | None
    rows: CorrectionRows
    confidence: NDArray[np.float64]
    taken_back: NDArray[np.bool_]
    first: MaskState
    now: MaskState
    changed_pixels: Int
    by: NDArray[np.int8]
    decider: Int
    true_class: Int
    queries: list[Query]
    answers: list[tuple[Answer, float]]
    undos: list[UndoRecord]

    @property
    def num_classes(self) -> int:
        """K."""
        return self.project.classes.num_classes

    def name(self, index: int) -> str:
        """Name of a class, `void` for none."""
        return "void" if index < 0 else self.project.classes.names[index]


def load_facts(project: Project, through: int | None = None) -> Facts:
    """Read tables and ledger.

    Args:
        project: Opened.
        through: As of the end of this round; None for all that is there.
    """
    last = float("inf") if through is None else through
    status = project_status(project)
    status["rounds"] = [row for row in status["rounds"] if row["round"] <= last]
    rounds = [record for record in project.ledger.rounds() if record.round <= last]
    masks = project.masks
    truth = project.truth if project.has_ground_truth else None
    rows = project.corrections(through)
    sure = {detail.id: detail.confidence for detail in project.ledger.correction_details()}
    found = (sure[row] for row in rows.ids.tolist())
    confidence = np.array([np.nan if value is None else value for value in found], dtype=np.float64)
    undos = [undo for undo in project.ledger.undos() if through is None or undo.round < through]
    gone = taken_back(rows, undos)
    first = replay(rows.take(np.zeros(len(rows), dtype=bool)), masks.keys)
    now = project.with_layer(replay(rows, masks.keys), rows, through)
    decider = deciders(rows, undos, now, masks.keys)
    by = np.where(decider >= 0, rows.source[decider] if len(rows) else 0, 0).astype(np.int8)
    closed = {stage.round for stage in project.ledger.stages() if stage.stage == "answer"}
    answered = {answer.query_id for answer, _ in project.ledger.answers()}
    # Questions left over when the clicks of their round were spent were put to no one.
    queries = [
        query
        for query in project.ledger.queries()
        if query.round <= last and (query.round not in closed or query.query_id in answered)
    ]
    asked = {query.query_id for query in queries}
    return Facts(
        project=project,
        through=through,
        status=status,
        rounds=rounds,
        stages=[stage for stage in project.ledger.stages() if stage.round <= last],
        masks=masks,
        truth=truth,
        rows=rows,
        confidence=confidence,
        taken_back=gone,
        first=first,
        now=now,
        changed_pixels=masks.changed_pixels(first, now),
        by=by,
        decider=decider,
        true_class=(
            np.full(len(masks), UNKNOWN, dtype=np.int64)
            if truth is None
            else true_classes(truth, len(masks), project.classes.num_classes)
        ),
        queries=queries,
        answers=[(answer, clicks) for answer, clicks in project.ledger.answers() if answer.query_id in asked],
        undos=undos,
    )


def true_classes(truth: TruthTable, num_masks: int, num_classes: int) -> Int:
    """Most frequent true class of each mask; among equal ones the lowest, void last, as `automatic_precision` has it.

    Args:
        truth: Ground truth joined with the masks.
        num_masks: M.
        num_classes: K.

    Returns:
        (M,) class in [0, K), VOID, or UNKNOWN where ground truth has no pixel of the mask.
    """
    inside = truth.row >= 0
    column = np.where(truth.truth[inside] == VOID, num_classes, truth.truth[inside]).astype(np.int64)
    pairs, place = np.unique(truth.row[inside].astype(np.int64) * (num_classes + 1) + column, return_inverse=True)
    pixels = np.bincount(place, weights=truth.pixels[inside], minlength=len(pairs))
    row, column = pairs // (num_classes + 1), pairs % (num_classes + 1)
    order = np.lexsort((column, -pixels, row))
    rows, leading = np.unique(row[order], return_index=True)
    found = np.full(num_masks, UNKNOWN, dtype=np.int64)
    best = column[order][leading]
    found[rows] = np.where(best == num_classes, VOID, best)
    return found


# ---- 1: headline -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The figures that matter most.

    Attributes:
        name: Of the project.
        methods: Each method with the rounds it ran in, such as `("a2lc", "rounds 1 to 3")`.
        finished: Rounds finished, without round 0.
        began: Whether anything has run at all.
        open_stage: What comes next, such as `round 2, answer`.
        clicks: Spent.
        images: To correct.
        validation_images: That only measure models.
        masks: Of the images to correct.
        manual_masks: Masks whose standing class differs from the first labels by an answer.
        automatic_masks: The same by the method.
        other_masks: The same by other means, such as an import.
        changed_pixel_share: Share of the masks' pixels that carry another class now; NaN without pixels.
        has_truth: Whether quality can be measured.
        first_miou: Data mIoU of the first labels.
        now_miou: Data mIoU now.
        model_miou: Of the last model measured.
        model_round: The round it was trained in.
        measured_on: `validation images` or `training images`.
        layer: A sentence on labels below the mask, if there are any.
        weights: Sentences on how weights were chosen.
        undone: Sentences on what was taken back.
    """

    name: str
    methods: list[tuple[str, str]]
    finished: int
    began: bool
    open_stage: str
    clicks: float
    images: int
    validation_images: int
    masks: int
    manual_masks: int
    automatic_masks: int
    other_masks: int
    changed_pixel_share: float
    has_truth: bool
    first_miou: float | None
    now_miou: float | None
    model_miou: float | None
    model_round: int | None
    measured_on: str | None
    layer: list[str]
    weights: list[str]
    undone: list[str]


def headline(facts: Facts) -> Headline:
    """Make section 1."""
    project = facts.project
    changed = facts.changed_pixels > 0
    first = now = None
    if facts.truth is not None:
        first = facts.project.confusion(facts.first).miou
        now = facts.project.confusion(facts.now).miou
    measured = [row for row in facts.status["rounds"] if row["model_miou"] is not None]
    by_method: dict[str, list[int]] = {}
    for record in facts.rounds:
        # Round 0 only trains on the first labels, whatever the method is.
        if record.round > 0 or len(facts.rounds) == 1:
            by_method.setdefault(record.method, []).append(record.round)
    area = int(facts.masks.area.sum())
    following = facts.status["next"]
    return Headline(
        name=project.config.name,
        methods=[(method, _rounds(numbers)) for method, numbers in by_method.items()],
        finished=sum(row["finished"] and row["round"] > 0 for row in facts.status["rounds"]),
        began=bool(facts.rounds),
        open_stage=f"round {following['round']}, {following['stage']}" if facts.through is None else "",
        clicks=float(sum(row["clicks"] for row in facts.status["rounds"])),
        images=len(project.images),
        validation_images=len(project.validation_images),
        masks=len(facts.masks),
        manual_masks=int((changed & (facts.by == _MANUAL)).sum()),
        automatic_masks=int((changed & (facts.by == _AUTOMATIC)).sum()),
        other_masks=int((changed & (facts.by != _MANUAL) & (facts.by != _AUTOMATIC)).sum()),
        changed_pixel_share=float(facts.changed_pixels.sum() / area) if area else float("nan"),
        has_truth=facts.truth is not None,
        first_miou=first,
        now_miou=now,
        model_miou=measured[-1]["model_miou"] if measured else None,
        model_round=measured[-1]["round"] if measured else None,
        measured_on=_measured_on(facts).get(measured[-1]["round"]) if measured else None,
        layer=_layer(facts),
        weights=_weights(facts),
        undone=[
            *_edited(facts),
            *(f"{_source_words(undo.source)} of round {undo.undone} were taken back." for undo in facts.undos),
        ],
    )


def _edited(facts: Facts) -> list[str]:
    """What was done to the classes, in one sentence."""
    edits = facts.project.ledger.class_edits()
    if not edits:
        return []
    said = "; ".join(described(facts.project.imported_classes, edits))
    return [f"Classes were edited: {said}. All figures are of the classes as they are now."]


def _measured_on(facts: Facts) -> dict[int, str]:
    """What the model of each round was measured on."""
    return {
        stage.round: stage.details["measured_on"]
        for stage in facts.stages
        if stage.stage == "evaluate"
        and stage.details.get("model_miou") is not None
        and stage.details.get("measured_on")
    }


def _layer(facts: Facts) -> list[str]:
    """What labels there are below the mask, in a sentence; none for most methods."""
    number = facts.now.layer
    if number is None:
        return []
    files = facts.project.ledger.layer_files(number)
    pixels = sum(count for _, count in files.values())
    methods = {record.round: record.method for record in facts.rounds}
    return [
        f"Besides, method {methods.get(number, '')} labelled, or withheld the label of, {pixels:,} single pixels in "
        f"{len(files):,} images: a layer over the masks, made in round {number}. Label quality counts it."
    ]


def _weights(facts: Facts) -> list[str]:
    """How the weights of the rounds' models were chosen: rounds of one choice in one sentence."""
    chosen: dict[str, list[int]] = {}
    for stage in facts.stages:
        if stage.stage != "train":
            continue
        details = stage.details
        if "skipped" in details:
            what = f"No model was trained: {details['skipped']}."
        elif details.get("validation_miou") is not None:
            kept = "best earlier" if details.get("kept") == "best" else "last"
            what = f"Weights were chosen on validation ground truth; the {kept} ones were kept."
        elif facts.project.validation_images:
            what = "The last weights were kept. Validation ground truth did not choose them."
        else:
            what = "The last weights were kept. There is no validation ground truth to choose by."
        chosen.setdefault(what, []).append(stage.round)
    if len(chosen) == 1:
        return list(chosen)
    return [f"{_rounds(numbers).capitalize()}: {what[0].lower()}{what[1:]}" for what, numbers in chosen.items()]


def _rounds(numbers: list[int]) -> str:
    """Round numbers in words.

    Example:
        >>> _rounds([2]), _rounds([1, 2, 3]), _rounds([0, 2])
        ('round 2', 'rounds 1 to 3', 'rounds 0, 2')
    """
    if len(numbers) == 1:
        return f"round {numbers[0]}"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"rounds {numbers[0]} to {numbers[-1]}"
    return "rounds " + ", ".join(str(number) for number in numbers)


def _source_words(source: str) -> str:
    return "All corrections" if source == "all" else f"The {source} corrections"


# ---- 2: curves ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Quality against clicks, round by round.

    Attributes:
        rows: A row a round, as `project_status` has them, each with `total_clicks`, spent until its end.
        stages: Stages that took time in any round, in order.
        measured_on: What models were measured on, in words; empty where they were not.
    """

    rows: list[dict[str, Any]]
    stages: list[str]
    measured_on: str

    def points(self, key: str) -> tuple[list[float], list[float]]:
        """Clicks and values of a figure, where it was measured."""
        rows = [row for row in self.rows if row[key] is not None and np.isfinite(row[key])]
        return [row["total_clicks"] for row in rows], [row[key] for row in rows]


def curves(facts: Facts) -> Curves:
    """Make section 2."""
    total = 0.0
    rows = []
    for row in facts.status["rounds"]:
        total += row["clicks"]
        rows.append(row | {"total_clicks": total})
    used = {stage for row in rows for stage in row["seconds"]}
    return Curves(
        rows=rows,
        stages=[stage for stage in STAGES if stage in used],
        measured_on=" and ".join(sorted(set(_measured_on(facts).values()))),
    )


# ---- how good the labels are -------------------------------------------------------------------------------------


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
        promise=_promise(last["promise"]),
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


def _by_masks(facts: Facts, labels: NDArray[Any]) -> NDArray[np.int64] | None:
    """(K, K) pixels by true class, rows, and label, each mask as a whole of its most frequent true class; None without."""
    if facts.truth is None:
        return None
    counts = ConfusionCounts(facts.num_classes, VOID)
    counts.add(np.asarray(labels), np.where(facts.true_class == UNKNOWN, VOID, facts.true_class), facts.masks.area)
    return counts.counts


def _span(found: Mapping[str, Any], true: float | None = None) -> Span:
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
        pixel_accuracy=_span(figures["pixel_accuracy"], true.get("pixel_accuracy")),
        miou=_span(figures["miou"], true.get("miou")),
        wrong_masks=_span(figures["wrong_masks"], masks),
        wrong_pixels=_span(figures["wrong_pixels"], pixels),
        questions=found["next"]["questions"],
        gain=_span(found["next"]["gain"]),
    )


def _quality_classes(facts: Facts, figures: Mapping[str, Any], labels: NDArray[Any]) -> list[QualityClass]:
    counts = _by_masks(facts, labels)
    true: dict[str, list[float | None]] = {name: [None] * facts.num_classes for name in ("precision", "recall", "iou")}
    if counts is not None:
        right, labelled, real = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
        for name, whole in (("precision", labelled), ("recall", real), ("iou", labelled + real - right)):
            share = np.divide(right, whole, out=np.full(len(right), np.nan), where=whole > 0)
            true[name] = share.tolist()
    return [
        QualityClass(
            index=index,
            precision=_span(figures["precision"][index], true["precision"][index]),
            recall=_span(figures["recall"][index], true["recall"][index]),
            iou=_span(figures["iou"][index], true["iou"][index]),
        )
        for index in range(facts.num_classes)
        if figures["iou"][index] is not None  # of a class that was another one in that round
    ]


def _promise(promise: Mapping[str, Any]) -> str:
    """What audits promise of changes that nobody looked at, in sentences.

    Example:
        >>> _promise({"proposed": 3, "accepted": 0, "confidence": 0.95, "reason": "no audits"})
        '3 automatic changes were proposed and none was accepted: no audits.'
        >>> _promise({"proposed": 0, "accepted": 0, "confidence": 0.95, "reason": "no proposals"})
        'No automatic change was proposed.'
    """
    proposed, accepted, reason = promise["proposed"], promise["accepted"], promise["reason"]
    if reason == "switched off":
        return "Automatic changes are switched off."
    if not proposed:
        return "No automatic change was proposed."
    line = f"{proposed:,} automatic change{' was' if proposed == 1 else 's were'} proposed and "
    kept = ""
    if promise.get("kept"):
        kept = (
            f" {promise['kept']:,} of earlier rounds stand by the audits of then: no audit speaks against them since."
        )
    if promise.get("left_out"):
        kept += f" {promise['left_out']:,} were left out by hand: what is promised is of all of them."
    if not accepted:
        reason = "too few audits" if reason == "too few" else reason or "all of them were asked about"
        asked = (
            f" At least {promise['asked']:.2f} of them had to be right." if promise.get("kind") == "precision" else ""
        )
        return f"{line}none was accepted: {reason}.{asked}{kept}"
    sure = f"with {promise['confidence']:.0%} confidence, by {promise['audits']} audits"
    found = "" if promise["estimate"] is None else f" (estimate {promise['estimate']:.3f})"
    if promise["kind"] == "precision":
        asked = f"; at least {promise['asked']:.2f} had to be"
        low = rounded_down(promise["lower"], 3)
        return f"{line}{accepted:,} accepted. At least {low} of these are right{found}{asked}, {sure}.{kept}"
    return (
        f"{line}{accepted:,} accepted. Against the first labels of these masks they raise the mean IoU by at least "
        f"{rounded_down(promise['lower'], 3)}{found}, {sure}. The effect is added up "
        f"change by change, so where many change it is near, not exact.{kept}"
    )


# ---- 3: classes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class before and after.

    Attributes:
        index: Of the class, VOID for pixels without one.
        name: Its name.
        colour: RGB, 0..255.
        pixels_before: Pixels of the first labels inside masks.
        pixels_after: The same now.
        iou_before: Against ground truth, None without it, NaN where the class does not occur.
        iou_after: The same now.
    """

    index: int
    name: str
    colour: tuple[int, int, int]
    pixels_before: int
    pixels_after: int
    iou_before: float | None
    iou_after: float | None

    @property
    def change(self) -> float | None:
        """IoU after less IoU before."""
        return None if self.iou_before is None or self.iou_after is None else self.iou_after - self.iou_before


VOID_COLOUR = (224, 224, 192)
"""Of pixels without a class, as in the palettes of VOC."""


def class_rows(facts: Facts) -> list[ClassRow]:
    """Make section 3: a row a class, and one for void where it occurs."""
    before, void_before = facts.masks.pixels_by_class(facts.first, facts.num_classes)
    after, void_after = facts.masks.pixels_by_class(facts.now, facts.num_classes)
    iou: list[tuple[float | None, float | None]] = [(None, None)] * facts.num_classes
    if facts.truth is not None:
        old, new = (facts.project.confusion(state).iou for state in (facts.first, facts.now))
        iou = list(zip(old.tolist(), new.tolist(), strict=True))
    table = facts.project.classes
    rows = [
        ClassRow(
            index=index,
            name=table.names[index],
            colour=table.colours[index],
            pixels_before=int(before[index]),
            pixels_after=int(after[index]),
            iou_before=iou[index][0],
            iou_after=iou[index][1],
        )
        for index in range(facts.num_classes)
    ]
    if void_before or void_after:
        rows.append(
            ClassRow(
                index=VOID,
                name="void",
                colour=VOID_COLOUR,
                pixels_before=void_before,
                pixels_after=void_after,
                iou_before=None,
                iou_after=None,
            )
        )
    return rows


# ---- 4: matrix ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Masks that went from one class to another."""

    old: int
    new: int
    masks: int
    pixels: int


@dataclass(frozen=True, eq=False, kw_only=True)
class MatrixSection:
    """Given against present classes. C classes that occur, void last.

    Attributes:
        classes: C class indices, VOID for void.
        masks: (C, C) masks by most frequent first label, rows, and present class, columns; None for many classes.
        pixels: (C, C) the same in pixels, each by its own first label.
        pairs: The most changed pairs, the most pixels first.
        left_out: Changed pairs that `pairs` leaves out.
    """

    classes: list[int]
    masks: Int | None
    pixels: Int | None
    pairs: list[PairRow]
    left_out: int


def matrix(facts: Facts) -> MatrixSection:
    """Make section 4."""
    masks, state, size = facts.masks, facts.now, facts.num_classes + 1
    current = masks.current(state)
    # VOID is -1, so that counting from 1 puts it first; it is turned to the end below.
    by_mask = np.bincount((masks.label + 1) * size + current + 1, minlength=size * size)
    pair_now = state.classes[masks.pair_row]
    pair_now = np.where(pair_now == FIRST, masks.pair_label, pair_now)
    moves = (masks.pair_label + 1) * size + pair_now + 1
    by_pixel = np.bincount(moves, weights=masks.pair_pixels, minlength=size * size)
    tables = [np.roll(t.astype(np.int64).reshape(size, size), (-1, -1), (0, 1)) for t in (by_mask, by_pixel)]
    occurs = np.flatnonzero(tables[1].sum(axis=0) + tables[1].sum(axis=1))
    moved = tables[1].copy()
    np.fill_diagonal(moved, 0)
    order = np.argsort(-moved, axis=None, kind="stable")[: int((moved > 0).sum())]
    classes = [VOID if c == facts.num_classes else c for c in range(size)]
    pairs = [
        PairRow(old=classes[old], new=classes[new], masks=int(tables[0][old, new]), pixels=int(tables[1][old, new]))
        for old, new in zip(*np.unravel_index(order[:PAIRS], (size, size)), strict=True)
    ]
    few = len(occurs) <= MATRIX_LIMIT
    return MatrixSection(
        classes=[classes[c] for c in occurs],
        masks=tables[0][np.ix_(occurs, occurs)] if few else None,
        pixels=tables[1][np.ix_(occurs, occurs)] if few else None,
        pairs=pairs,
        left_out=max(0, len(order) - PAIRS),
    )


# ---- 5: automatic corrections ------------------------------------------------------------------------------------


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
    index = np.flatnonzero(facts.rows.source == _AUTOMATIC)
    rows = facts.rows.take(index)
    place = np.searchsorted(facts.masks.keys, rows.keys)
    old, new = (np.where(side == FIRST, facts.masks.label[place], side) for side in (rows.old, rows.new))
    mixed = np.bincount(facts.masks.pair_row, minlength=len(facts.masks))[place] > 1
    back = rows.new == FIRST
    changed = (old != new) | (((rows.old == FIRST) | back) & mixed)
    place, index, back = place[changed], index[changed], back[changed]
    # First labels have no decider: what gave them back stands if nothing came after it that was kept.
    last = _last_kept(facts)
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


def _last_kept(facts: Facts) -> Int:
    """(M,) row of each mask's last correction that was not taken back, -1 for none."""
    last = np.full(len(facts.masks), -1, dtype=np.int64)
    kept = np.flatnonzero((facts.rows.source != _UNDO) & ~facts.taken_back)
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
        with_them = facts.project.confusion(facts.now).miou
        without = _confusion_without(facts, facts.rows.source == _AUTOMATIC).miou
    was_right = changes.old == changes.true_class
    numbers = [record.round for record in facts.rounds if record.round > 0]
    rounds = [_tally(changes, changes.rounds == number, number, has_truth) for number in numbers]
    classes = [
        _tally(changes, changes.new == index, index, has_truth, numbers) for index in np.unique(changes.new).tolist()
    ]
    precision = float(right.mean()) if count else float("nan")
    stands = int(changes.stands.sum())
    promised = _promised(facts)
    # Changes made to raise the mean IoU need not be right one by one.
    for_gain = {number for number, kind in promised.items() if kind == "gain"}
    verdict, sentence = _verdict(
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
        own = (facts.rows.source == _AUTOMATIC) & (facts.rows.rounds == number)
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
        confidence_right=_mean(changes.confidence[right]),
        confidence_wrong=_mean(changes.confidence[~right]),
        confidence=_mean(changes.confidence),
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


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _tally(
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
    own = ~left_out & (facts.rows.source != _UNDO) & ~facts.taken_back
    rows = facts.rows.take(own)
    return facts.project.confusion(facts.project.with_layer(replay(rows, facts.masks.keys), rows, facts.through))


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
        said = _says(query, answer)
        if said is None:
            continue
        for mask_id in query.mask_ids:
            before = given.get((query.image, mask_id), ())
            if any(number < query.round and new == query.proposed for number, new in before):
                checked += 1
                upheld += said
    return checked, upheld


def _verdict(
    count: int, stands: int, right: int, has_truth: bool, with_them: float, without: float, for_gain: bool = False
) -> tuple[str, str]:
    """Whether automatic corrections did harm, in a word and in a sentence.

    Example:
        >>> _verdict(4, 4, 1, True, 0.5, 0.75)[1]
        'Automatic corrections did harm: data mIoU is 0.500 with them and would be 0.750 without. 1 of 4 are right.'
        >>> _verdict(4, 4, 3, True, 0.6071, 0.6070)
        ('good', 'Automatic corrections changed data mIoU by less than 0.001. 3 of 4 are right.')

    Those made to raise the mean IoU are judged by that alone:

        >>> _verdict(4, 4, 1, True, 0.75, 0.5, for_gain=True)
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


# ---- 6: the largest changes --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShownChange:
    """A changed mask to be shown.

    Attributes:
        row: Of the mask table.
        image: Position of the image.
        image_id: Its name.
        mask_id: Id in the mask map.
        old: Most frequent first label.
        new: Class now.
        pixels: Pixels that changed class.
        area: Pixels of the mask.
        source: `manual`, `automatic` or another of SOURCES: what its class comes from.
        history: What happened to it, in order.
        true_class: Most frequent true class, VOID, or UNKNOWN.
    """

    row: int
    image: int
    image_id: str
    mask_id: int
    old: int
    new: int
    pixels: int
    area: int
    source: str
    history: list[str]
    true_class: int

    @property
    def right(self) -> bool | None:
        """Whether the class is the most frequent true one; None where nobody knows."""
        return None if self.true_class == UNKNOWN else self.new == self.true_class


def largest_changes(facts: Facts, count: int = PICTURES) -> list[ShownChange]:
    """Make section 6: the masks with the most changed pixels.

    A third of the places is kept for either source, where it has as many: a few large manual corrections must not
    hide all automatic ones.
    """
    changed = np.flatnonzero(facts.changed_pixels > 0)
    order = changed[np.argsort(-facts.changed_pixels[changed], kind="stable")]
    kept: list[int] = []
    for source in (_MANUAL, _AUTOMATIC):
        kept += order[facts.by[order] == source][: count // 3].tolist()
    kept += [row for row in order[:count].tolist() if row not in set(kept)][: count - len(kept)]
    current = facts.masks.current(facts.now)
    names = {image.index: image.image_id for image in facts.project.images}
    return [
        ShownChange(
            row=row,
            image=int(facts.masks.image[row]),
            image_id=names[int(facts.masks.image[row])],
            mask_id=int(facts.masks.mask_ids[row]),
            old=int(facts.masks.label[row]),
            new=int(current[row]),
            pixels=int(facts.changed_pixels[row]),
            area=int(facts.masks.area[row]),
            source=SOURCES[facts.by[row]],
            history=list(_history(facts, row)),
            true_class=int(facts.true_class[row]),
        )
        for row in sorted(kept, key=lambda row: (-facts.changed_pixels[row], row))
    ]


def _history(facts: Facts, row: int) -> Iterator[str]:
    """What happened to a mask, a phrase for each of its corrections."""
    for place in np.flatnonzero(facts.rows.keys == facts.masks.keys[row]):
        number, source = int(facts.rows.rounds[place]), int(facts.rows.source[place])
        if source == _AUTOMATIC and facts.rows.new[place] == FIRST:
            yield f"withdrawn in round {number}"
        elif source == _AUTOMATIC:
            yield f"automatic in round {number}, confidence {facts.confidence[place]:.3f}"
        elif source == _MANUAL:
            confirmed = facts.rows.old[place] == facts.rows.new[place]
            yield f"{'confirmed by hand' if confirmed else 'by hand'} in round {number}"
        elif source == _UNDO:
            yield f"taken back after round {number}"
        else:
            yield f"{SOURCES[source]} in round {number}"


# ---- 7: annotation log -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AskedRow:
    """What a round's answers said of the labels asked about.

    Attributes:
        round: Round.
        queries: Questions.
        kinds: Standing answers by kind.
        judged: Answers that say whether the label is right: all but skips.
        wrong: Of them, those that say it is wrong.
        seconds: Median time of an answer, None where it was not taken.
    """

    round: int
    queries: int
    kinds: dict[str, int]
    judged: int
    wrong: int
    seconds: float | None


@dataclass(frozen=True, kw_only=True)
class LogSection:
    """The annotation log in figures.

    Attributes:
        rows: By round.
        kinds: Kinds of answers that were given.
        annotators: Answers by annotator, the busiest first.
        frequent: Most frequent corrections: class given, class answered, answers.
        replaced: Answers that another has replaced.
    """

    rows: list[AskedRow]
    kinds: list[str]
    annotators: list[tuple[str, int]]
    frequent: list[tuple[int, int, int]]
    replaced: int


def annotation_log(facts: Facts) -> LogSection:
    """Make section 7."""
    queries = {query.query_id: query for query in facts.queries}
    by_round: dict[int, list[tuple[Query, Answer]]] = {}
    frequent: Counter[tuple[int, int]] = Counter()
    for answer, _ in facts.answers:
        query = queries[answer.query_id]
        by_round.setdefault(query.round, []).append((query, answer))
        given = answered_class(answer)
        if _says(query, answer) is False and given is not None:
            frequent[(VOID if query.proposed is None else query.proposed, given)] += 1
    asked = Counter(query.round for query in facts.queries)
    rows = []
    for number in sorted(asked):
        pairs = by_round.get(number, [])
        said = [verdict for query, answer in pairs if (verdict := _says(query, answer)) is not None]
        times = [answer.milliseconds for _, answer in pairs if answer.milliseconds is not None]
        rows.append(
            AskedRow(
                round=number,
                queries=asked[number],
                kinds=dict(Counter(answer.kind.value for _, answer in pairs)),
                judged=len(said),
                wrong=said.count(False),
                seconds=float(np.median(times)) / 1000 if times else None,
            )
        )
    every = [answer for answer, _ in facts.project.ledger.answers(standing=False) if answer.query_id in queries]
    return LogSection(
        rows=rows,
        kinds=[kind.value for kind in AnswerKind if any(kind.value in row.kinds for row in rows)],
        annotators=Counter(answer.annotator for answer, _ in facts.answers).most_common(),
        frequent=[(*pair, count) for pair, count in sorted(frequent.items(), key=lambda i: (-i[1], i[0]))[:FREQUENT]],
        replaced=len(every) - len(facts.answers),
    )


def _says(query: Query, answer: Answer) -> bool | None:
    """Whether an answer says that the label asked about is right; None for a skip, or where none was asked about."""
    if answer.kind == AnswerKind.SKIP or query.kind not in {QueryKind.CORRECTION, QueryKind.PIXEL}:
        return None
    given = answered_class(answer)
    # Several classes in a mask, or none that fits: one class over all of it was wrong.
    return given is not None and given == (VOID if query.proposed is None else query.proposed)


# ---- 8: configuration --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ConfigSection:
    """How it was made.

    Attributes:
        round: The round the settings are of, None before the first.
        settings: Keys with dots, and values.
        sources: Where the user's files lie.
        rounds: Number, method, seed, what scored it, when it began and when its last stage ended.
        versions: Of the packages in that round, or of those here before the first.
        versions_differ: Whether other rounds ran with other versions.
        created_by: What made the project.
        written_by: What writes the report.
        command: Makes the report again.
    """

    round: int | None
    settings: list[tuple[str, str]]
    sources: list[tuple[str, str]]
    rounds: list[dict[str, Any]]
    versions: dict[str, str]
    versions_differ: bool
    created_by: str
    written_by: str
    command: str


def configuration(facts: Facts) -> ConfigSection:
    """Make section 8."""
    config = facts.project.config
    last = facts.rounds[-1] if facts.rounds else None
    if last is not None:
        settings = dict(_flat(last.config))
    else:
        planned = config.model_dump(mode="json", include={"method", "training", "annotator", "seed"})
        settings = dict(_flat(planned))
    ended: dict[int, str] = {stage.round: stage.ended for stage in facts.stages}
    return ConfigSection(
        round=None if last is None else last.round,
        settings=sorted(settings.items()),
        sources=[(key, value) for key, value in _flat(config.sources.model_dump(mode="json")) if value != "none"],
        rounds=[
            {
                "round": record.round,
                "method": record.method,
                "seed": record.seed,
                "model": record.model if record.round > 0 else "",
                "started": _date(record.started),
                "ended": _date(ended[record.round]) if record.round in ended else "",
            }
            for record in facts.rounds
        ],
        versions=versions() if last is None else last.versions,
        versions_differ=any(record.versions != facts.rounds[-1].versions for record in facts.rounds),
        created_by=config.created_by,
        written_by=f"a2lc {__version__}",
        command=f"a2lc report {shlex.quote(str(facts.project.folder))}",
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted keys and printed values.

    Example:
        >>> list(_flat({"a": {"b": [1, 2], "c": None}, "d": True}))
        [('a.b', '1, 2'), ('a.c', 'none'), ('d', 'yes')]
    """
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(item) for item in value) or "none"
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, float):
            yield name, f"{value:g}"
        else:
            yield name, "none" if value is None else str(value)


def _date(time: str) -> str:
    """A ledger's time to the minute, still in UTC: `2026-11-20 20:05`."""
    return time[:16].replace("T", " ")


# ---- all of them -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Report:
    """All sections of a report."""

    facts: Facts
    headline: Headline
    curves: Curves
    quality: QualitySection | None
    classes: list[ClassRow]
    matrix: MatrixSection
    automatic: AutomaticSection
    changes: list[ShownChange]
    log: LogSection
    configuration: ConfigSection


def collect(project: Project, through: int | None = None) -> Report:
    """Make the data of all sections.

    Args:
        project: Opened, in any state.
        through: As of the end of this round; None for all that is there.
    """
    facts = load_facts(project, through)
    return Report(
        facts=facts,
        headline=headline(facts),
        curves=curves(facts),
        quality=label_quality_section(facts),
        classes=class_rows(facts),
        matrix=matrix(facts),
        automatic=automatic(facts),
        changes=largest_changes(facts),
        log=annotation_log(facts),
        configuration=configuration(facts),
    )
