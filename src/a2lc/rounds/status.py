"""Where a project stands: what each round cost and brought, from the ledger and, where there is any, ground truth."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.sentinels import FIRST, VOID
from a2lc.ledger.records import StageRecord
from a2lc.ledger.replay import SOURCES, CorrectionRows, MaskState
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable
from a2lc.project.label_history import LabelHistory
from a2lc.project.project import Project
from a2lc.rounds.stages import stage_after
from a2lc.statistics.metrics import ConfusionCounts

__all__ = ["automatic_precision", "label_quality", "project_status", "round_changes"]

_MANUAL = SOURCES.index("manual")
_AUTOMATIC = SOURCES.index("automatic")


def round_changes(project: Project, number: int, rows: CorrectionRows | None = None) -> dict[str, NDArray[Any]]:
    """Return the masks a round changed: rows of the mask table, old and new classes and sources, as recorded.

    A correction that keeps the class the mask had is left out.

    Args:
        project: Opened.
        number: The round.
        rows: All corrections, where the caller has them.
    """
    rows = project.corrections() if rows is None else rows
    keys = project.masks.keys
    rows = rows.take((rows.rounds == number) & ((rows.source == _MANUAL) | (rows.source == _AUTOMATIC)))
    place = np.searchsorted(keys, rows.keys)
    old = np.where(rows.old == FIRST, project.masks.label[place], rows.old)
    # A mask of several first labels is changed even where its most frequent one is kept.
    kept = (old == rows.new) & (rows.old != FIRST)
    mixed = np.bincount(project.masks.pair_row, minlength=len(keys))[place] > 1
    kept |= (old == rows.new) & (rows.old == FIRST) & ~mixed
    # A withdrawn change goes back to the first labels.
    new = np.where(rows.new == FIRST, project.masks.label[place], rows.new)
    kept |= (rows.new == FIRST) & (old == new) & ~mixed
    return {
        "row": place[~kept],
        "old": old[~kept],
        "new": new[~kept],
        "source": rows.source[~kept],
    }


def automatic_precision(
    masks: MaskTable, truth: TruthTable, rows: NDArray[Any], new: NDArray[Any], num_classes: int
) -> float:
    """Share of automatic changes that give a mask the most frequent true class of its pixels; NaN for none.

    Args:
        masks: All masks.
        truth: Ground truth joined with them.
        rows: (n,) changed masks.
        new: (n,) classes they were given.
        num_classes: K.
    """
    if not len(rows):
        return float("nan")
    return float(np.mean(_true_classes(masks, truth, num_classes)[rows] == new))


def _true_classes(masks: MaskTable, truth: TruthTable, num_classes: int) -> NDArray[Any]:
    """Find the (M,) most frequent true class of each mask, VOID where that is none."""
    nothing = MaskState(
        classes=np.full(len(masks), FIRST, dtype=np.int32),
        source=np.zeros(len(masks), dtype=np.int8),
        winner=np.full(len(masks), -1, dtype=np.int64),
    )
    _, by_class = truth.masks(nothing, np.arange(len(masks)), num_classes)
    mode = np.argmax(by_class, axis=1)
    return np.where(mode == num_classes, VOID, mode)


class _Reading:
    """What figures of several rounds are computed from, read once.

    Args:
        project: Opened.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.stages = project.ledger.stages()
        self.history = LabelHistory(project)

    @cached_property
    def true_classes(self) -> NDArray[Any]:
        """(M,) most frequent true class of each mask, VOID where that is none."""
        project = self.project
        return _true_classes(project.masks, project.truth.table, project.classes.num_classes)

    @cached_property
    def first_by_masks(self) -> dict[str, float]:
        """Figures of the first labels, see `by_masks`."""
        return self.by_masks(self.project.masks.label)

    def by_masks(self, labels: NDArray[Any]) -> dict[str, float]:
        """Compute what the audits estimate from ground truth: each mask as a whole is of its most frequent true class."""
        counts = ConfusionCounts(self.project.classes.num_classes, VOID)
        counts.add(np.asarray(labels), self.true_classes, self.project.masks.area)
        return {"pixel_accuracy": counts.pixel_accuracy, "miou": counts.miou}

    def measured(self, through: int | None) -> dict[str, Any]:
        """Measure the labels at the end of a round, or as they are now, against ground truth."""
        counts = self.project.truth.confusion(self.history.state(through))
        return {
            "data_miou": counts.miou,
            "data_miou_of_all": counts.miou_of_all,
            "coverage": counts.coverage,
            "pixel_accuracy": counts.pixel_accuracy,
        }


def project_status(project: Project) -> dict[str, Any]:
    """Return the state of a project, as `a2lc status --json` prints it.

    Returns:
        `rounds`: for each round `round, method, queries, clicks, manual_changed, automatic_changed,
        automatic_precision, data_miou, data_miou_of_all, coverage, pixel_accuracy, model_miou, seconds, quality`; figures
        that need ground truth are None without it, `quality` where nothing was audited (see `label_quality`).
        `data_miou_of_all` counts unlabeled pixels as wrong. `next`: what would run next.
        `now`: label quality after undoing, if any.
    """
    reading = _Reading(project)
    stages: dict[int, dict[str, StageRecord]] = {}
    for stage in reading.stages:
        stages.setdefault(stage.round, {})[stage.stage] = stage
    waiting = project.ledger.questions_by_round()
    paid = project.ledger.clicks_by_round()
    records = project.ledger.rounds()
    rounds = []
    for record in records:
        number = record.round
        done = stages.get(number, {})
        # A replaced answer was paid for, but answers no second question.
        clicks = [clicks for _, clicks in paid.get(number, [])]
        answered = len({query for query, _ in paid.get(number, [])})
        changes = round_changes(project, number, reading.history.rows)
        automatic = changes["source"] == _AUTOMATIC
        row: dict[str, Any] = {
            "round": number,
            # As it was when the questions were chosen, should it have changed since the round began.
            "method": done["select"].details.get("plan", {}).get("method", record.method)
            if "select" in done
            else record.method,
            # Questions left over when the clicks were spent were put to no one.
            "queries": answered if "answer" in done else waiting.get(number, 0),
            "answered": answered,
            "clicks": float(sum(clicks)),
            # A mask whose answer was changed is one mask.
            "manual_changed": int(np.count_nonzero(np.bincount(changes["row"][changes["source"] == _MANUAL]))),
            "automatic_changed": int(automatic.sum()),
            "automatic_precision": None,
            "data_miou": None,
            "data_miou_of_all": None,
            "coverage": None,
            "pixel_accuracy": None,
            "model_miou": done["evaluate"].details.get("model_miou") if "evaluate" in done else None,
            "seconds": {name: round(ended.seconds, 3) for name, ended in done.items()},
            "finished": "evaluate" in done,
            "quality": _label_quality(reading, number),
        }
        if project.has_ground_truth:
            row |= reading.measured(number)
            if automatic.any():
                true = reading.true_classes[changes["row"][automatic]]
                row["automatic_precision"] = float(np.mean(true == changes["new"][automatic]))
        rounds.append(row)
    number, following = stage_after(records, reading.stages)
    return {
        "project": str(project.folder),
        "images": len(project.images),
        "validation_images": len(project.validation_images),
        "masks": len(project.masks),
        "classes": list(project.classes.names),
        "rounds": rounds,
        "next": {"round": number, "stage": following},
        "now": reading.measured(None) if project.has_ground_truth else None,
        "undone": [{"round": u.undone, "source": u.source, "time": u.time} for u in reading.history.undos],
    }


_FINDINGS = ("promise", "before", "after", "next", "error_rate", "gold", "agreement")


def label_quality(project: Project, number: int | None = None) -> dict[str, Any] | None:
    """Estimate how good the labels are, from audits and answers alone.

    Masks are taken as a whole: a mask is right if it carries the class that an annotator gives it, so pixels of other
    classes inside a mask do not count as errors. `true` says the same of the ground truth's most frequent class.

    Args:
        project: Opened.
        number: The round at whose end it was; None for the last that was audited.

    Returns:
        None where the round was not audited, or a dictionary: `round`; `before` and `after`, each with `pixel_accuracy,
        miou, coverage, wrong_masks, wrong_pixels` as `low, estimate, high`, lists of such by class `precision, recall,
        iou`, and `audits`, `confidence`; `promise` of the automatic changes; `next`: points of mean IoU that the next
        questions would bring; `error_rate` of answers, None where too few were asked twice, and `gold`, how many were;
        `agreement` of first labels with chance; `true`: `before` and `after` with `pixel_accuracy, miou`, or None
        without ground truth, or where classes were edited since (`edited`; `precision`, `recall` and `iou` are None then for
        classes that were others in that round); `undone`: whether anything was taken back since, so that the figures are of
        other labels.

    Example:
        >>> from a2lc import Project
        >>> from a2lc.rounds.status import label_quality
        >>> label_quality(Project("my.a2lc"))["after"]["pixel_accuracy"]      # doctest: +SKIP
        {'low': 0.913, 'estimate': 0.942, 'high': 0.966}
    """
    return _label_quality(_Reading(project), number)


def _label_quality(reading: _Reading, number: int | None) -> dict[str, Any] | None:
    project = reading.project
    audited = [
        stage
        for stage in reading.stages
        if stage.stage == "correct" and "after" in stage.details and number in {None, stage.round}
    ]
    if not audited:
        return None
    stage = audited[-1]
    found: dict[str, Any] = {"round": stage.round} | {name: stage.details.get(name) for name in _FINDINGS}
    found["undone"] = any(undo.undone == stage.round or undo.round >= stage.round for undo in reading.history.undos)
    found["true"] = None
    same = project.history.same_since(stage.round)
    found["edited"] = same is not None
    if same is not None:
        # Figures of classes that are others now are of no class that there is.
        for when in ("before", "after"):
            figures = dict(found[when])
            for name in ("precision", "recall", "iou"):
                figures[name] = [None if was is None else figures[name][was] for was in same]
            found[when] = figures
    elif project.has_ground_truth:
        after = project.masks.current(reading.history.state(stage.round))
        found["true"] = {"before": dict(reading.first_by_masks), "after": reading.by_masks(after)}
    return found
