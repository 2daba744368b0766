"""Figures that the `correct` stage records: guarantee, label quality, and predicted gain."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import expected_iou_gain
from a2lc.audits.belief import Belief
from a2lc.audits.certification import Certification
from a2lc.audits.estimate import estimate_quality, expected_gain
from a2lc.audits.evidence import gather
from a2lc.audits.knowledge import FEWEST_PAIRS, Known
from a2lc.audits.source import RoundSource
from a2lc.classes.sentinels import UNKNOWN, VOID
from a2lc.correction.manual import answered_class
from a2lc.io.files import json_safe
from a2lc.posterior.prior import prior_posterior
from a2lc.records import Reason

__all__ = ["quality_figures", "realised_gain", "round_findings"]

NEXT = 100
"""Queries whose gain is predicted."""


def round_findings(
    certification: Certification, left_out: NDArray[Any] | None = None, carried: NDArray[Any] | None = None
) -> dict[str, Any]:
    """Return what the `correct` stage records beside the corrections.

    These are the guarantee, label quality before and after, and the predicted gain of more queries.

    Args:
        certification: Of the round.
        left_out: Rows of corrections that someone left out by hand.
        carried: The classes these keep.
    """
    belief, source, settings = certification.belief, certification.source, certification.settings
    round_index = certification.round_index
    frozen, measured = certification.frozen(), certification.measured()
    if frozen is None or measured is None:
        return {}
    masks, known = source.masks, belief.known()
    classes = source.num_classes
    posterior = frozen.posteriors(classes)
    promise = certification.accepted(frozen).guarantee
    answered = known.truth[measured.drawn] != UNKNOWN
    drawn, chance = measured.drawn[answered], measured.probability[answered]
    # A share of the draws that nobody could answer is taken to be like the rest.
    share = answered.mean() if len(answered) else 1.0
    chance = chance * share
    design = None if measured.design is None else measured.design * share
    truth = known.truth.copy()
    certain = belief.certain(posterior, known)
    rate = known.error_rate if known.pairs >= FEWEST_PAIRS else None
    figures: dict[str, Any] = {"promise": promise, "error_rate": rate, "gold": known.pairs}
    # A change that was asked about and given no class is not made, nor one that a mended answer no longer supports.
    undone = np.setdiff1d(measured.accepted, certification.standing(frozen, measured, known))
    labels = measured.labels.copy()
    undone = undone[truth[undone] == UNKNOWN]
    # An answer that was taken back says nothing, neither by its class nor by what it made of the posterior.
    unsaid = np.flatnonzero((truth == UNKNOWN) & (frozen.known >= VOID))
    for rows in (undone, unsaid):
        labels[rows] = masks.label[rows]
    if left_out is not None and carried is not None and len(left_out):
        labels[left_out] = carried
        promise |= {"left_out": len(left_out)}
    if len(unsaid):
        posterior = posterior.copy()
        posterior[unsaid] = prior_posterior(belief.pool.stats, masks.label)[unsaid]
    after = np.where(truth == UNKNOWN, labels, truth).astype(np.int32)
    evidence = gather(certification, frozen, measured, known, posterior)
    for name, given, now in (("before", masks.label, None), ("after", labels, after)):
        figures[name] = quality_figures(
            estimate_quality(
                masks.area,
                evidence.without_answers(given),
                evidence.posterior,
                truth,
                drawn,
                np.minimum(chance, 1.0),
                now=masks.label if now is None else now,
                design=design,
                confidence=settings.confidence,
                earlier=evidence.draws(given, changed=now is not None),
                noise=known.noise(),
            )
        )
    room = 1 - figures["after"]["miou"]["low"] if figures["after"]["miou"]["low"] is not None else 1.0
    figures["next"] = _predicted_gain(
        belief, round_index, certain, after, known, changes=bool(len(measured.accepted)), room=room
    )
    figures["agreement"] = _agreement(source, known, drawn, chance, figures["before"])
    return dict(json.loads(json.dumps(json_safe(figures))))


def _predicted_gain(
    belief: Belief,
    round_index: int,
    posterior: NDArray[Any],
    labels: NDArray[Any],
    known: Known,
    *,
    changes: bool,
    room: float,
) -> dict[str, Any]:
    """Predict the gain of the next queries, in points of mean IoU, from what the last ones brought.

    Gains fall from question to question, so this is an upper end, no lower one. An answer gains over the label its mask
    would have without it: the one proposed where audits allowed changes, else the first.
    """
    source = belief.source
    masks, classes = source.masks, source.num_classes
    wanted = belief.labels(posterior, known)
    scores = np.where(known.asked & ~known.open, 0.0, expected_iou_gain(masks.area, wanted, posterior))
    top = np.sort(scores)[::-1][:NEXT]
    predicted, realised = [], []
    for query, answer in source.standing_answers():
        value = answered_class(answer)
        if query.reason != Reason.ACQUISITION or query.round != round_index or value is None:
            continue
        row = int(masks.rows(np.array([query.image]), np.array(query.mask_ids[:1]))[0])
        predicted.append(query.score)
        proposed = query.suggestions[0] if query.suggestions else VOID
        realised.append((row, proposed if changes else int(masks.label[row]), value))
    worth = realised_gain(source, realised, posterior, labels)
    found = expected_gain(
        np.array(predicted[-200:]), worth[-200:], float(top.sum()), confidence=belief.settings.confidence
    )
    points = 100 / classes
    return {
        "questions": len(top),
        # First order only; no more can be gained than is missing.
        "gain": {
            "low": 0.0,
            "estimate": float(np.minimum(found.estimate * points, 100 * room)),
            "high": float(np.minimum(found.high * points, 100 * room)),
        },
    }


def realised_gain(
    source: RoundSource, answered: list[tuple[int, int, int]], posterior: NDArray[Any], labels: NDArray[Any]
) -> NDArray[np.float64]:
    """Measure what answers were worth as `expected_iou_gain` does; each is a row, a would-be label and a true class."""
    masks, classes = source.masks, source.num_classes
    area = masks.area.astype(np.float64)
    mean = area.mean() if len(area) else 1.0
    labelled = np.bincount(labels[labels >= 0], weights=area[labels >= 0], minlength=classes) + mean
    expected = area @ posterior[:, :classes].astype(np.float64) + mean
    worth = []
    for row, label, true in answered:
        gain = 0.0
        if label != true:
            gain += 1 / labelled[label] if label >= 0 else 0.0
            gain += 1 / expected[true] if true >= 0 else 0.0
        worth.append(area[row] * gain)
    return np.array(worth, dtype=np.float64)


def _agreement(
    source: RoundSource, known: Known, drawn: NDArray[Any], chance: NDArray[Any], before: dict[str, Any]
) -> dict[str, Any]:
    """Compare how often initial labels are right with chance."""
    if not len(drawn):
        return {"right": None, "chance": None, "informative": None}
    labels, classes = source.masks.label, source.num_classes
    if bool((labels < 0).all()):
        return {"right": None, "chance": None, "informative": None}
    answered = np.flatnonzero(known.truth != UNKNOWN)
    wrong = int((labels[answered] != known.truth[answered]).sum())
    # Masks are chosen because their labels are doubted: those answered and those never asked about, together.
    right = 1 - (wrong + before["wrong_masks"]["estimate"]) / len(labels)
    surely = 1 - (wrong + before["wrong_masks"]["high"]) / len(labels)
    chosen = np.setdiff1d(answered, drawn)
    weight = 1 / np.maximum(chance, 1e-12)
    weight *= (len(labels) - len(chosen)) / weight.sum()
    true, weight = known.truth[np.append(drawn, chosen)], np.append(weight, np.ones(len(chosen)))
    by_label = np.bincount(labels[labels >= 0], minlength=classes) / len(labels)
    by_truth = np.bincount(true[true >= 0], weights=weight[true >= 0], minlength=classes) / len(labels)
    by_chance = float((by_label * by_truth).sum())
    return {"right": float(right), "chance": by_chance, "informative": bool(surely > by_chance)}


def quality_figures(found: Any) -> dict[str, Any]:
    """Return a quality estimate as plain JSON values."""

    def plain(value: Any) -> Any:
        if hasattr(value, "low"):
            return {"low": value.low, "estimate": value.estimate, "high": value.high}
        return [plain(item) for item in value] if isinstance(value, tuple) else value

    names = (
        "pixel_accuracy", "miou", "coverage", "precision", "recall", "iou", "wrong_masks", "wrong_pixels", "audits",
        "confidence",
    )  # fmt: skip
    return {name: plain(getattr(found, name)) for name in names}
