"""The report on label quality by audits, and automatic changes that were withdrawn or made for mean IoU.

Projects are two images of 6 masks of 12 x 12 pixels; what a round found is written into the ledger directly.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from a2lc.audits.wording import guarantee_sentences
from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.formats.base import Sources
from a2lc.ledger import FIRST as BACK
from a2lc.ledger.undo import undo_rows
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query, Reason, Source
from a2lc.report import write_report
from a2lc.report.figures import quality_chart
from a2lc.report.page import unit
from a2lc.report.sections import collect
from a2lc.rounds.recorder import record_answer
from a2lc.rounds.status import label_quality, project_status

SIDE = 12
CLASSES = ("road", "car", "tree")
FIRST = np.array([[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 2, 2]])  # by image and mask
TRUE = np.array([[0, 0, 1, 1, 2, 2], [0, 1, 2, 1, 2, 0]])
NONE = {"low": None, "estimate": None, "high": None}


def make_project(folder: Path, *, first: np.ndarray = FIRST, true: np.ndarray | None = TRUE) -> Path:
    def save(kind: str, name: int, pixels: np.ndarray) -> None:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"i{name}.png")

    def blocks(values: np.ndarray) -> np.ndarray:
        return np.kron(np.asarray(values).reshape(2, 3), np.ones((SIDE, SIDE)))

    for i, row in enumerate(first):
        save("images", i, np.full((2 * SIDE, 3 * SIDE, 3), 90))
        save("labels", i, blocks(row))
        save("masks", i, blocks(np.arange(1, 7)))
        if true is not None:
            save("truth", i, blocks(true[i]))
    truth = folder / "truth" if true is not None else None
    sources = Sources(images=folder / "images", labels=folder / "labels", masks=folder / "masks", ground_truth=truth)
    create_project(folder / "p.a2lc", sources, ClassTable.from_names(CLASSES))
    return folder / "p.a2lc"


@pytest.fixture
def project(tmp_path: Path) -> Any:
    with Project(make_project(tmp_path)) as opened:
        yield opened


def interval(low: float, estimate: float | None, high: float) -> dict[str, float | None]:
    return {"low": low, "estimate": estimate, "high": high}


def figures(accuracy: float, miou: float, audits: int = 4) -> dict[str, Any]:
    by_class = [interval(0.25, 0.5, 0.75), interval(0.125, None, 1.0), NONE]
    return {
        "pixel_accuracy": interval(accuracy - 0.125, accuracy, accuracy + 0.0625),
        "miou": interval(miou - 0.25, miou, min(1.0, miou + 0.25)),
        "coverage": interval(1.0, 1.0, 1.0),
        "precision": by_class,
        "recall": by_class,
        "iou": by_class,
        "wrong_masks": interval(1.4, 2.6, 5.0),
        "wrong_pixels": interval(201.6, 374.4, 720.0),
        "audits": audits,
        "confidence": 0.95,
    }


PROMISE = {
    "proposed": 4, "accepted": 3, "confidence": 0.95, "kind": "gain", "lower": 0.0125, "estimate": 0.0625,
    "audits": 7, "reason": "",
}  # fmt: skip


def found(**more: Any) -> dict[str, Any]:
    return {
        "promise": PROMISE,
        "before": figures(0.625, 0.5),
        "after": figures(0.75, 0.625),
        "next": {"questions": 5, "gain": interval(0.5, 1.25, 2.0)},
        "error_rate": 0.0,
        "gold": 0,
        "agreement": {"right": 0.625, "chance": 0.375, "informative": True},
        **more,
    }


def run_round(
    project: Project, number: int, changes: list[tuple[int, int, int]], details: dict[str, Any] | None = None
) -> None:
    """A round with an audit of mask (0, 3), or (1, 3) in the second, answered rightly, and automatic changes."""
    ledger = project.ledger
    config = {"method": "gain", "budget": 1.0, "seed": 0, "settings": {}}
    ledger.open_round(number, method="gain", config=config, model="m.ckpt", seed=7, versions={"a2lc": "0.0.9"})
    ledger.finish_stage(number, "score", 1.0, {"masks": 12})
    image, label = (0, 1) if number == 1 else (1, 2)
    proposed = int(project.masks.current(project.state())[project.masks.rows(np.array([image]), np.array([3]))[0]])
    query = Query(
        round=number, image=image, mask_ids=(3,), proposed=proposed, score=0.0, reason=Reason.AUDIT,
        inclusion_probability=0.5,
    )  # fmt: skip
    ledger.add_queries(number, [query], 0.25, {"queries": 1})
    asked = ledger.queries(number)[0].query_id
    record_answer(project, Answer(query_id=asked, annotator="anna", kind=AnswerKind("correct"), classes=(label,)))
    ledger.finish_stage(number, "answer", 1.0, {"answers": 1, "clicks": 1.0})
    images, masks, new = np.array(changes, dtype=np.int64).reshape(-1, 3).T
    old = project.state().classes[project.masks.rows(images, masks)]
    told = {"automatic": len(new), "withdrawn": int((new == BACK).sum())}
    ledger.add_corrections(
        number, Source.AUTOMATIC, images, masks, old, new, confidences=np.full(len(new), 0.75), model="gain round 1",
        stage=("correct", 0.5, told | (found() if details is None else details)),
    )  # fmt: skip
    ledger.finish_stage(number, "evaluate", 1.0, {"model_miou": None, "measured_on": None})


def undo(project: Project, number: int, source: str) -> None:
    keys, old, new = undo_rows(project.corrections(), project.ledger.undos(), number, source)
    image, mask = (keys >> np.uint64(32)).astype(int), (keys & np.uint64(0xFFFFFFFF)).astype(int)
    project.ledger.add_undo(number, source, project.ledger.rounds()[-1].round, image, mask, old, new)


def page(project: Project, through: int | None = None) -> str:
    path = write_report(project, project.folder.parent / "report.html", through=through)
    text = path.read_text(encoding="utf-8")
    if 'id="quality"' in text:
        part = words(text[text.index('id="quality"') : text.index('id="classes"')])
        assert not re.search(r"\b(nan|None|inf)\b", part)
    return text


def words(text: str) -> str:
    body = text[text.index("<body>") :] if "<body>" in text else text
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def cells(text: str, caption: str) -> list[list[str]]:
    table = next(t for t in re.findall(r"<table.*?</table>", text, re.DOTALL) if caption in words(t))
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    return [[words(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)] for row in rows]


RIGHT = [(0, 5, 2), (1, 6, 0)]


# ---- label quality ---------------------------------------------------------------------------------------------------


def test_no_section_where_nothing_was_audited(project: Project) -> None:
    assert collect(project).quality is None and "How good the labels are" not in words(page(project))
    run_round(project, 1, RIGHT, {})
    assert collect(project).quality is None and "how good the labels are" not in words(page(project)).lower()


def test_figures_with_intervals_and_true_ones(project: Project) -> None:
    run_round(project, 1, RIGHT)
    section = collect(project).quality
    true = label_quality(project, 1)["true"]
    assert section is not None and section.has_truth and not section.changed_since
    assert section.first.miou.true == true["before"]["miou"] and section.last.miou.true == true["after"]["miou"]
    # Wrong before: (0,3) (0,5) (1,3) (1,6). By hand (0,3), by the method (0,5) and (1,6): one of 11 is left.
    assert true["after"]["pixel_accuracy"] == 11 / 12
    assert (section.last.wrong_masks.true, section.last.wrong_pixels.true, section.unasked) == (1, 144, 11)
    source = page(project)
    text = words(source)
    assert "Measured by 4 audits of round 1: masks that were drawn at random with known probabilities" in text
    assert "pixels of other classes inside a mask are not counted as errors" in text and "95 % confidence" in text
    assert "0.625 → 0.750 0.500 to 0.688 → 0.625 to 0.812 true 0.667 → 0.917" in text
    assert "Wrong masks remaining 3 1 to 5, of 11 without an answer true 1" in text
    assert "Predicted gain of the next 5 questions 1.25 0.50 to 2.00, percentage points of mean IoU" in text
    assert cells(source, "Labels at the end of each audited round")[1:] == [
        ["0", "4", "0.625 (0.500 to 0.688)", "0.667", "0.500 (0.250 to 0.750)", unit(true["before"]["miou"]), "–", "–"],
        ["1", "4", "0.750 (0.625 to 0.812)", "0.917", "0.625 (0.375 to 0.875)", unit(true["after"]["miou"]),
         "3 (1 to 5)", "1"],
    ]  # fmt: skip
    # Car then: (0,3) (0,4) (1,2) (1,3) (1,4), and truly all of them but (1,3).
    assert cells(source, "By class at the end")[1:] == [
        ["road", "0.500 (0.250 to 0.750)", "1.000", "0.500 (0.250 to 0.750)", "1.000", "0.500 (0.250 to 0.750)", "1.000"],
        ["car", "0.125 to 1.000", "0.800", "0.125 to 1.000", "1.000", "0.125 to 1.000", "0.800"],
        ["tree", "–", "1.000", "–", "0.750", "–", "0.750"],
    ]  # fmt: skip
    # As imported car is (0,4) (0,5) (1,2) (1,3) (1,4), three of them rightly so; of true cars (0,3) is missing.
    assert cells(source, "By class as imported")[2][2::2] == ["0.600", "0.750", "0.500"]
    assert 'id="quality"' in source and 'href="#quality"' in source and "Answers that were wrong" not in text


def test_without_ground_truth(tmp_path: Path) -> None:
    with Project(make_project(tmp_path, true=None)) as project:
        run_round(project, 1, RIGHT)
        source = page(project)
        text = words(source)
        assert "0.625 → 0.750" in text and "Estimates from audits are under label quality" in text
        assert "true" not in words(source[source.index('id="quality"') : source.index('id="classes"')]).split()
        assert cells(source, "By class at the end")[0] == ["class", "precision", "recall", "IoU"]
        assert "only audits measure how good they are" in text and "cannot be measured: the project" not in text
        chart = quality_chart(collect(project).quality)
        assert chart is not None and ">estimate<" in chart and ">true<" not in chart


def test_rounds_in_order_and_through_an_earlier_one(project: Project) -> None:
    run_round(project, 1, RIGHT, found(after=figures(0.6875, 0.5)))
    run_round(project, 2, [(1, 4, 0)])
    section = collect(project).quality
    assert section is not None and [row.round for row in section.rounds] == [1, 2] and section.round == 2
    assert section.rounds[0].pixel_accuracy.true == 11 / 12
    earlier = collect(project, through=1).quality
    assert earlier is not None and (earlier.round, earlier.changed_since) == (1, False)
    assert "of round 2" not in words(page(project, through=1))
    assert collect(project, through=0).quality is None


def test_labels_that_changed_afterwards(project: Project) -> None:
    run_round(project, 1, RIGHT)
    undo(project, 1, "automatic")
    assert "Labels have changed since the end of round 1" in words(page(project))
    assert collect(project).quality.last.pixel_accuracy.true == 11 / 12
    assert not collect(project, through=1).quality.changed_since


def test_first_labels_that_tell_nothing_are_warned_of(project: Project) -> None:
    run_round(project, 1, [], found(agreement={"right": 0.25, "chance": 0.375, "informative": False}))
    source = page(project)
    # In the overview and in the section.
    assert words(source).count("The initial labels carry no information on the true classes.") == 2
    assert source.count('class="note harm"') == 2
    assert "25.0 % of the masks have the right initial label; with random labels it would be 37.5 %" in words(source)


@pytest.mark.parametrize(("gold", "said"), [(1, "– not known: 1 mask asked"), (8, "12.5 % from 8 masks asked")])
def test_answers_that_were_wrong(project: Project, gold: int, said: str) -> None:
    run_round(project, 1, [], found(gold=gold, error_rate=0.125 if gold >= 8 else None))
    assert f"Wrong answers {said} about twice" in words(page(project))


def test_nothing_is_known(project: Project) -> None:
    nothing = figures(0.5, 0.5, audits=0) | {"pixel_accuracy": interval(0.25, None, 0.75), "miou": NONE}
    unknown = {"right": None, "chance": None, "informative": None}
    gain = {"questions": 5, "gain": {"low": 0.0, "estimate": None, "high": float("inf")}}
    run_round(project, 1, [], found(before=nothing, after=nothing, next=gain, agreement=unknown))
    source = page(project)
    assert "No mask was drawn to measure the labels of round 1" in words(source)
    assert "– → – 0.250 to 0.750 → 0.250 to 0.750" in words(source)
    assert "questions – not known: too few answers" in words(source) and "carry no information" not in words(source)
    assert cells(source, "Labels at the end")[2][2] == "0.250 to 0.750"
    undefined = nothing | {"pixel_accuracy": NONE}
    run_round(project, 2, [], found(before=undefined, after=undefined))
    assert quality_chart(collect(project).quality) is not None  # round 1 still has an interval


@pytest.mark.parametrize(
    ("promise", "said"),
    [
        (PROMISE, "4 automatic corrections were proposed and 3 accepted. Compared with the initial labels of these masks they "
                  "raise the mean IoU by at least 0.012 (estimate 0.062), with 95% confidence, by 7 audits."),
        (PROMISE | {"kind": "precision", "asked": 0.75, "lower": 0.8125, "estimate": 0.875},
         "3 accepted. At least 0.812 of these are right (estimate 0.875); at least 0.75 must be, with 95% confidence"),
        (PROMISE | {"kind": "precision", "asked": 0.75, "accepted": 0, "estimate": None, "reason": "too few"},
         "none was accepted: too few audits. At least 0.75 of them must be right."),
        (PROMISE | {"accepted": 0, "reason": "audits do not show a gain"}, "none was accepted: audits do not show a gain."),
        ({"proposed": 4, "accepted": 0, "confidence": 0.95, "reason": "switched off"}, "Automatic corrections are switched off."),
    ],
)  # fmt: skip
def test_promise_in_words(promise: dict[str, Any], said: str) -> None:
    assert said in guarantee_sentences(promise)


# ---- automatic changes of such a round -------------------------------------------------------------------------------


def test_withdrawals_are_changes_back_to_the_first_label(project: Project) -> None:
    run_round(project, 1, [*RIGHT, (0, 2, 2)])
    run_round(project, 2, [(0, 2, BACK), (0, 5, BACK)])
    report = collect(project)
    section = report.automatic
    assert (section.count, section.withdrawn, section.stands) == (5, 2, 3)
    # Right: both of RIGHT, and (0, 2) back to road; made wrong: (0, 2) at first, (0, 5) in the end.
    assert (section.right, section.fixed, section.broken) == (3, 3, 2)
    assert {tally.key: tally.count for tally in section.classes} == {0: 2, 1: 1, 2: 2}
    source = page(project)
    for row, expected in zip(section.rounds, project_status(project)["rounds"], strict=True):
        assert (row.count, row.precision) == (expected["automatic_changed"], expected["automatic_precision"])
    assert cells(source, "By round")[1:] == [
        ["1", "3", "0", "1", "2", "0.667"], ["2", "2", "2", "2", "1", "0.500"],
    ]  # fmt: skip
    assert "2 of the 5 withdrew an earlier one, which restored the initial labels of the mask." in words(source)
    assert report.headline.automatic_masks == 1  # the others carry their first labels
    undo(project, 2, "automatic")
    assert collect(project).automatic.stands == 3 and collect(project).headline.automatic_masks == 3
    assert [row.stands for row in collect(project).automatic.rounds] == [3, 0]


def test_a_withdrawal_in_the_history_of_a_mask(project: Project) -> None:
    run_round(project, 1, [(0, 2, 2)])
    run_round(project, 2, [(0, 2, BACK)])
    run_round(project, 3, [(0, 2, 1)])
    change = next(change for change in collect(project).changes if change.mask_id == 2)
    assert change.history == [
        "automatic in round 1, confidence 0.750", "withdrawn in round 2", "automatic in round 3, confidence 0.750",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["gain", "precision"])
def test_changes_for_mean_iou_need_not_be_right_one_by_one(tmp_path: Path, kind: str) -> None:
    # One right change of a rare class outweighs two wrong ones of a frequent class.
    first = np.zeros((20, 6), dtype=np.int64)
    true = first.copy()
    true[0, 0], true[0, 2] = 2, 1
    with Project(make_project(tmp_path, first=first, true=true)) as project:
        details = found(promise=PROMISE | {"kind": kind, "asked": 0.5})
        run_round(project, 1, [(0, 1, 2), (2, 1, 2), (3, 1, 2)], details)
        section = collect(project).automatic
        assert section.miou_with > section.miou_without and section.right == 1
        assert section.verdict == ("good" if kind == "gain" else "harm")
        assert section.doubtful == ([] if kind == "gain" else [1])
        assert ("--source automatic" in words(page(project))) == (kind == "precision")


def test_changes_for_mean_iou_that_lower_it_are_to_be_taken_back(project: Project) -> None:
    run_round(project, 1, [(0, 2, 2), (0, 4, 0), (1, 4, 2)])
    section = collect(project).automatic
    assert section.verdict == "harm" and section.doubtful == [1]
