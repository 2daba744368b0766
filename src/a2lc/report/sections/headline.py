"""Summarise the project: corrections, clicks, and the quality of the labels."""

from __future__ import annotations

from dataclasses import dataclass

from a2lc.classes.edits import described
from a2lc.report.facts import AUTOMATIC, MANUAL, Facts
from a2lc.rounds.final import final_model

__all__ = ["Headline", "measured_on_text"]


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
        final: A sentence on the final network, if one was trained.
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
    final: list[str]
    undone: list[str]


def headline(facts: Facts) -> Headline:
    """Make section 1."""
    project = facts.project
    changed = facts.changed_pixels > 0
    first = now = None
    if facts.truth is not None:
        first = facts.project.truth.confusion(facts.first).miou
        now = facts.project.truth.confusion(facts.now).miou
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
        manual_masks=int((changed & (facts.by == MANUAL)).sum()),
        automatic_masks=int((changed & (facts.by == AUTOMATIC)).sum()),
        other_masks=int((changed & (facts.by != MANUAL) & (facts.by != AUTOMATIC)).sum()),
        changed_pixel_share=float(facts.changed_pixels.sum() / area) if area else float("nan"),
        has_truth=facts.truth is not None,
        first_miou=first,
        now_miou=now,
        model_miou=measured[-1]["model_miou"] if measured else None,
        model_round=measured[-1]["round"] if measured else None,
        measured_on=measured_on_text(facts).get(measured[-1]["round"]) if measured else None,
        layer=_layer(facts),
        weights=_weights(facts),
        final=_final(facts),
        undone=[
            *_edited(facts),
            *(f"{_source_words(undo.source)} of round {undo.undone} were undone." for undo in facts.undos),
        ],
    )


def _edited(facts: Facts) -> list[str]:
    """Describe edits of the classes in one sentence."""
    edits = facts.project.ledger.class_edits()
    if not edits:
        return []
    edited = "; ".join(described(facts.project.imported_classes, edits))
    return [f"Classes were edited: {edited}. All figures use the current classes."]


def measured_on_text(facts: Facts) -> dict[int, str]:
    """Return the images that the model of each round was measured on, in words."""
    return {
        stage.round: stage.details["measured_on"]
        for stage in facts.stages
        if stage.stage == "evaluate"
        and stage.details.get("model_miou") is not None
        and stage.details.get("measured_on")
    }


def _final(facts: Facts) -> list[str]:
    """Describe the final network in a sentence; reports of earlier rounds leave it out."""
    model = final_model(facts.project) if facts.through is None else None
    if model is None:
        return []
    return [
        f"{model.sentence[0].upper()}{model.sentence[1:]}. Weights: {model.weights.relative_to(facts.project.folder)}."
    ]


def _layer(facts: Facts) -> list[str]:
    """Describe pixel-level labels in a sentence; most methods have none."""
    number = facts.now.layer
    if number is None:
        return []
    files = facts.project.ledger.layer_files(number)
    pixels = sum(count for _, count in files.values())
    methods = {record.round: record.method for record in facts.rounds}
    return [
        f"In round {number}, method {methods.get(number, '')} also set or removed the labels of {pixels:,} single pixels in "
        f"{len(files):,} images. Label quality includes these pixel-level labels."
    ]


def _weights(facts: Facts) -> list[str]:
    """Describe how the weights of the models were chosen, in one sentence for each kind of choice."""
    chosen: dict[str, list[int]] = {}
    for stage in facts.stages:
        if stage.stage != "train":
            continue
        details = stage.details
        if "skipped" in details:
            what = f"No model was trained: {details['skipped']}."
        elif details.get("training", {}).get("model") == "head" and details.get("validation_miou") is None:
            what = "The model is a classifier on features of a frozen ImageNet network, fitted anew in each round."
        elif details.get("validation_miou") is not None:
            kept = "best earlier" if details.get("kept") == "best" else "last"
            what = f"On validation ground truth, the {kept} checkpoint was selected."
        elif facts.project.validation_images:
            what = "The final checkpoint was used, without regard to validation ground truth."
        else:
            what = "The final checkpoint was used, as there is no validation ground truth to select one by."
        chosen.setdefault(what, []).append(stage.round)
    if len(chosen) == 1:
        return list(chosen)
    return [f"{_rounds(numbers).capitalize()}: {what[0].lower()}{what[1:]}" for what, numbers in chosen.items()]


def _rounds(numbers: list[int]) -> str:
    """Write round numbers in words.

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
