"""The report in every state of a project: what it says, that it says it safely, and that it needs nothing else.

The projects are made of blocks: an image of 24 x 36 pixels has 6 masks of 12 x 12, so every expected number is
counted by hand. Rounds are written into the ledger directly; nothing is trained.
"""

from __future__ import annotations

import html
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.formats.base import Sources
from a2lc.ledger import VOID
from a2lc.ledger.undo import undo_rows
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query, Source
from a2lc.report import write_report
from a2lc.report.facts import UNKNOWN, load_facts, true_classes
from a2lc.report.figures import crop_box
from a2lc.report.page import unit
from a2lc.report.sections import collect
from a2lc.report.sections.automatic import automatic_changes
from a2lc.report.sections.changes import PICTURES
from a2lc.report.sections.transitions import MATRIX_LIMIT, PAIRS
from a2lc.rounds.recorder import record_answer
from a2lc.rounds.status import automatic_precision, project_status

SIDE = 12
CLASSES = ("road", "car", "tree")
FIRST = np.array([[0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 2, 2]])  # by image and mask
TRUE = np.array([[0, 0, 1, 1, 2, 2], [0, 1, 2, 1, 2, 0]])


def blocks(values: np.ndarray) -> np.ndarray:
    """(24, 36) map of six values, one a block."""
    return np.kron(np.asarray(values).reshape(2, 3), np.ones((SIDE, SIDE))).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_project(
    folder: Path,
    *,
    first: np.ndarray = FIRST,
    true: np.ndarray | None = TRUE,
    names: tuple[str, ...] = CLASSES,
    validation: bool = False,
    name: str | None = None,
    ignore: int = 255,
) -> Path:
    rng = np.random.default_rng(0)
    for i, row in enumerate(first):
        save(folder / f"images/i{i}.png", rng.integers(0, 255, (2 * SIDE, 3 * SIDE, 3), dtype=np.uint8))
        save(folder / f"labels/i{i}.png", blocks(row))
        save(folder / f"masks/i{i}.png", blocks(np.arange(1, 7)))
        if true is not None:
            save(folder / f"truth/i{i}.png", blocks(true[i]))
    extra = {}
    if validation:
        save(folder / "val/v.png", rng.integers(0, 255, (2 * SIDE, 3 * SIDE, 3), dtype=np.uint8))
        save(folder / "val_truth/v.png", blocks(first[0]))
        extra = {"validation_images": folder / "val", "validation_ground_truth": folder / "val_truth"}
    sources = Sources(
        images=folder / "images",
        labels=folder / "labels",
        masks=folder / "masks",
        ground_truth=folder / "truth" if true is not None else None,
        **extra,
    )
    create_project(folder / "p.a2lc", sources, ClassTable.from_names(names, ignore), name=name)
    return folder / "p.a2lc"


CONFIG: dict[str, Any] = {"method": "a2lc", "budget": 2.0, "seed": 0, "settings": {"thresholds": [0.99], "lcm": True}}


def open_round(project: Project, number: int, method: str = "a2lc") -> None:
    project.ledger.open_round(
        number, method=method, config=CONFIG | {"method": method}, model="m.ckpt", seed=7, versions={"a2lc": "0.0.9"}
    )


def finish(project: Project, number: int, stages: dict[str, dict[str, Any]]) -> None:
    for stage, details in stages.items():
        project.ledger.finish_stage(number, stage, 1.5, details)


def trained(model_miou: float | None, measured_on: str | None, kept: str = "last", score: float | None = None) -> dict:
    return {
        "train": {"steps": 5, "kept": kept, "validation_miou": score, "warm_start": False},
        "evaluate": {"model_miou": model_miou, "measured_on": measured_on},
    }


def ask(project: Project, number: int, masks: list[tuple[int, int]]) -> list[int]:
    """Questions on masks as (image, mask id); their ids."""
    current = project.masks.current(project.state())
    queries = []
    for image, mask in masks:
        row = project.masks.rows(np.array([image]), np.array([mask]))[0]
        proposed = None if current[row] == VOID else int(current[row])
        queries.append(Query(round=number, image=image, mask_ids=(mask,), proposed=proposed, score=0.0))
    project.ledger.add_queries(number, queries, 0.25, {"queries": len(queries)})
    return [query.query_id for query in project.ledger.queries(number)]


def reply(project: Project, query: int, kind: str, *classes: int, **more: Any) -> None:
    answer = Answer(query_id=query, annotator="anna", kind=AnswerKind(kind), classes=classes, milliseconds=2500, **more)
    record_answer(project, answer)


def automatic(project: Project, number: int, masks: list[tuple[int, int, int]], confidence: float = 0.995) -> None:
    """Automatic corrections as (image, mask id, class)."""
    image, mask, new = np.array(masks, dtype=np.int64).reshape(-1, 3).T
    old = project.state().classes[project.masks.rows(image, mask)]
    confidences = np.full(len(image), confidence)
    project.ledger.add_corrections(
        number, Source.AUTOMATIC, image, mask, old, new, confidences=confidences, model="m",
        stage=("correct", 0.5, {"automatic": len(image)}),
    )  # fmt: skip


def undo(project: Project, number: int, source: str) -> None:
    keys, old, new = undo_rows(project.corrections(), project.ledger.undos(), number, source)
    last = project.ledger.rounds()[-1].round
    image, mask = (keys >> np.uint64(32)).astype(int), (keys & np.uint64(0xFFFFFFFF)).astype(int)
    project.ledger.add_undo(number, source, last, image, mask, old, new)


def run_round(
    project: Project, number: int, changes: list[tuple[int, int, int]], model_miou: float | None = 0.4
) -> None:
    """A whole round: one label corrected rightly and one confirmed by hand, then automatic changes."""
    open_round(project, number)
    finish(project, number, {"score": {"masks": 12}})
    asked = [[(0, 3), (0, 1)], [(1, 3), (1, 1)]][number - 1]
    wrong, right = ask(project, number, asked)
    reply(project, wrong, "correct", [1, 2][number - 1])
    reply(project, right, "confirm", 0)
    finish(project, number, {"answer": {"answers": 2, "clicks": 2.0}})
    automatic(project, number, changes)
    finish(project, number, trained(model_miou, "training images"))


RIGHT = [(0, 5, 2), (1, 6, 0)]
WRONG = [(0, 2, 2), (0, 4, 0), (1, 4, 2)]


@pytest.fixture
def project(tmp_path: Path) -> Any:
    with Project(make_project(tmp_path)) as opened:
        yield opened


def page(project: Project, through: int | None = None) -> str:
    path = project.folder.parent / "report.html"
    assert write_report(project, path, through=through) == path
    text = path.read_text(encoding="utf-8")
    check_page(text)
    return text


VOIDS = {"meta", "img", "br", "link", "input", "hr"}


class _Tags(HTMLParser):
    """Tags and attributes, with a check that every tag is closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOIDS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(text: str) -> None:
    """What holds for every report: well formed, headings in order, nothing loaded, nothing run, pictures described."""
    parser = _Tags()
    parser.feed(text)
    assert parser.open == []
    tags = [tag for tag, _ in parser.tags]
    assert not {"script", "iframe", "link", "object", "embed", "base"} & set(tags)
    headings = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))
    ids = {attributes["id"] for _, attributes in parser.tags if "id" in attributes}
    for tag, attributes in parser.tags:
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in {"src", "href", "xlink:href", "data", "action", "srcset"}:
                assert (value or "").startswith(("#", "data:image/")), (tag, key, value)
                assert not (value or "").startswith("#") or (value or "")[1:] in ids
        if tag == "img":
            assert attributes.get("alt")
        if tag == "figure" and "role" in attributes:
            assert attributes.get("aria-label")
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def words(text: str) -> str:
    """The page's text on one line, as it is read."""
    body = text[text.index("<body>") :]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def cells(text: str, caption: str) -> list[list[str]]:
    """Rows of the table whose caption or first head cell is this."""
    table = next(t for t in re.findall(r"<table.*?</table>", text, re.DOTALL) if caption in words(f"<body>{t}"))
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    cell = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
    return [[words(f"<body>{value}") for value in cell.findall(row)] for row in rows]


# ---- states ------------------------------------------------------------------------------------------------------


def test_nothing_run_yet(project: Project) -> None:
    text = words(page(project))
    assert "Nothing has run yet." in text and "Next: round 0, train." in text
    assert "No round has been opened yet." in text and "No question has been asked." in text
    assert "No mask was changed automatically." in text and "No mask differs from its initial labels." in text
    miou = unit(project.truth.confusion(project.state()).miou)
    assert f"{miou} → {miou}" in text


def test_only_round_0_and_no_validation_set(project: Project) -> None:
    open_round(project, 0)
    finish(project, 0, trained(0.314, "training images"))
    source = page(project)
    text = words(source)
    assert "0.314 round 0, on the training images" in text
    assert "Model mIoU is measured on the training images, so it is not an estimate for new images." in text
    assert "The final checkpoint was used, as there is no validation ground truth to select one by." in text
    assert cells(source, "Changed: masks")[1][:4] == ["0", "a2lc", "0", "0"]
    assert "<svg" in source


def test_a_head_is_no_checkpoint_and_settings_of_networks_are_left_out(project: Project) -> None:
    open_round(project, 0)
    stages = trained(0.314, "training images")
    stages["train"] |= {"training": {"model": "head"}}
    finish(project, 0, stages)
    text = words(page(project))
    assert "a classifier on features of a frozen ImageNet network, fitted anew in each round" in text
    assert "checkpoint was used" not in text


def test_settings_of_networks_are_shown_for_networks_alone(project: Project) -> None:
    assert "training.model" in words(page(project)) and "training.batch_size" not in words(page(project))
    network = project.config.training.model_copy(update={"model": "unet"})
    project.config = project.config.model_copy(update={"training": network})
    assert "training.batch_size" in words(page(project))


def test_mid_round(project: Project) -> None:
    open_round(project, 0)
    finish(project, 0, trained(None, None))
    open_round(project, 1)
    finish(project, 1, {"score": {"masks": 12}})
    first, _ = ask(project, 1, [(0, 3), (0, 1)])
    reply(project, first, "correct", 1)
    source = page(project)
    assert cells(source, "Changed: masks")[2][:5] == ["1 (open)", "a2lc", "2", "1", "1"]
    assert "Next: round 1, answer." in words(source)
    # round, queries, waiting, correct, wrong, share, seconds
    assert cells(source, "Current answers")[1] == ["1", "2", "1", "1", "1", "100.0 %", "2.5"]


def test_weights_chosen_on_validation_ground_truth(tmp_path: Path) -> None:
    with Project(make_project(tmp_path, validation=True)) as project:
        open_round(project, 0)
        finish(project, 0, trained(0.5, "validation images", "best", 0.5))
        text = words(page(project))
        assert "On validation ground truth, the best earlier checkpoint was selected." in text
        assert "0.500 round 0, on the validation images" in text
        assert "no estimate for new images" not in text
        open_round(project, 1)
        finish(project, 1, {"train": {"skipped": "probabilities come from files"}})
        assert "Round 1: no model was trained: probabilities come from files." in words(page(project))


def test_no_ground_truth(tmp_path: Path) -> None:
    with Project(make_project(tmp_path, true=None)) as project:
        open_round(project, 0)
        finish(project, 0, trained(None, None))
        run_round(project, 1, WRONG, model_miou=None)
        source = page(project)
        text = words(source)
        assert "The project has no ground truth for its images." in text
        assert "There is no curve" in text and "not measured" in text
        assert "Their precision cannot be measured" in text and "did harm" not in text
        assert "it is unknown whether this is right" in text and "by ground truth." not in text
        assert cells(source, "pixels before")[0] == ["class", "pixels before", "pixels after", "change"]
        # Pixels of 144 a mask: "road" lost (0, 3) and (0, 2), and gained (0, 4).
        assert cells(source, "pixels before")[1] == ["road", "576", "432", "−144"]
        assert cells(source, "Changed: masks")[2][6:] == ["–"] * 6


def test_one_class_and_void(tmp_path: Path) -> None:
    first = np.array([[0, 0, 9, 0, 0, 0]])
    with Project(make_project(tmp_path, first=first, true=first, names=("only",), ignore=9)) as project:
        open_round(project, 0)
        finish(project, 0, trained(1.0, "training images"))
        open_round(project, 1)
        query, other = ask(project, 1, [(0, 3), (0, 1)])
        reply(project, query, "void")
        reply(project, other, "void")
        source = page(project)
        assert [row[0] for row in cells(source, "pixels before")[1:3]] == ["only", "unlabeled"]
        assert cells(source, "pixels before")[2][1:4] == ["144", "288", "+144"]
        # Void kept where there was no class judges the label as right.
        assert cells(source, "Current answers")[1][3:6] == ["2", "1", "50.0 %"]
        assert "only → unlabeled" in words(source)


def test_classes_that_never_occur(tmp_path: Path) -> None:
    names = (*CLASSES, "unicorn", "yeti")
    with Project(make_project(tmp_path, names=names)) as project:
        source = page(project)
        unicorn = next(row for row in cells(source, "pixels before") if row[0] == "unicorn")
        assert unicorn == ["unicorn", "0", "0", "0", "–", "–", "–"]
        assert "unicorn" not in str(cells(source, "Masks by class"))
        assert np.isnan(collect(project).classes[3].iou_after)


def test_ground_truth_without_any_class(tmp_path: Path) -> None:
    with Project(make_project(tmp_path, true=np.full_like(FIRST, 255))) as project:
        run_round(project, 1, RIGHT)
        source = page(project)
        assert "– → –" in words(source) and not re.search(r"\bnan\b", words(source))


def test_method_without_automatic_corrections(project: Project) -> None:
    open_round(project, 0, "alc")
    finish(project, 0, trained(0.3, "training images"))
    open_round(project, 1, "alc")
    query = ask(project, 1, [(0, 3)])[0]
    reply(project, query, "correct", 1)
    finish(project, 1, {"correct": {"automatic": 0}} | trained(0.35, "training images"))
    text = words(page(project))
    assert "Method alc (round 1)." in text and "No mask was changed automatically." in text
    assert "By class given" not in text and "did harm" not in text


def test_two_methods_are_both_named(project: Project) -> None:
    for number, method in enumerate(["a2lc", "a2lc", "alc"]):
        open_round(project, number, method)
        finish(project, number, trained(0.3, "training images"))
    assert "Methods a2lc (round 1), alc (round 2). 2 rounds finished" in words(page(project))


def test_undo(project: Project) -> None:
    open_round(project, 0)
    finish(project, 0, trained(0.3, "training images"))
    run_round(project, 1, WRONG)
    harmed = collect(project)
    assert harmed.automatic.stands == 3 and harmed.headline.automatic_masks == 3
    undo(project, 1, "automatic")
    source = page(project)
    text = words(source)
    assert "The automatic corrections of round 1 were undone." in text
    assert "None of the automatic corrections is in effect any more. 0 of 3 are right." in text
    found = collect(project)
    assert (found.headline.manual_masks, found.headline.automatic_masks) == (1, 0)
    assert found.automatic.miou_with == found.automatic.miou_without == project_status(project)["now"]["data_miou"]
    # What was recorded stays in the table of rounds.
    assert cells(source, "Changed: masks")[2][5] == "3"


def test_undo_goes_back_to_what_stood_before(project: Project) -> None:
    open_round(project, 1)
    automatic(project, 1, [(0, 2, 2)])
    open_round(project, 2)
    query = ask(project, 2, [(0, 2)])[0]
    reply(project, query, "correct", 1)
    undo(project, 2, "manual")
    found = collect(project)
    assert (found.headline.manual_masks, found.headline.automatic_masks) == (0, 1)
    assert found.changes[0].source == "automatic"
    assert found.changes[0].history == [
        "automatic in round 1, confidence 0.995", "manual in round 2", "undone after round 2",
    ]  # fmt: skip
    # Without automatic corrections nothing would be left: the manual one was taken back.
    first = project.truth.confusion(load_facts(project, through=0).now).miou
    assert found.automatic.miou_without == first


def test_an_undone_confirmation_leaves_the_automatic_correction(project: Project) -> None:
    open_round(project, 1)
    automatic(project, 1, [(0, 5, 2)])
    open_round(project, 2)
    reply(project, ask(project, 2, [(0, 5)])[0], "confirm", 2)
    assert (collect(project).headline.manual_masks, collect(project).automatic.stands) == (1, 0)
    undo(project, 2, "manual")  # no class changes, so the ledger gets no row
    found = collect(project)
    assert (found.headline.manual_masks, found.headline.automatic_masks, found.automatic.stands) == (0, 1, 1)


@pytest.mark.parametrize("change", ["gone", "damaged", "other size"])
def test_image_files_that_cannot_be_shown(project: Project, change: str) -> None:
    run_round(project, 1, RIGHT)
    for path in (project.folder.parent / "images").iterdir():
        if change == "gone":
            path.unlink()
        elif change == "damaged":
            path.write_bytes(path.read_bytes()[:80])
        else:
            save(path, np.zeros((5, 4, 3), dtype=np.uint8))
    source = page(project)
    expected = {"gone": "is missing", "damaged": "damaged", "other size": "is 4 x 5 now; it was imported with 36 x 24."}
    assert words(source).count("No picture.") == words(source).count(expected[change]) == 3
    assert source.count("data:image/png") == 6 and "data:image/jpeg" not in source


def test_label_files_of_the_project_gone(project: Project) -> None:
    run_round(project, 1, RIGHT)
    shutil.rmtree(project.folder / "labels")
    source = page(project)
    assert words(source).count("the project folder is damaged") == 3 and "data:image" not in source


def test_through_an_earlier_round(project: Project) -> None:
    open_round(project, 0)
    finish(project, 0, trained(0.3, "training images"))
    run_round(project, 1, RIGHT)
    before = collect(project)
    run_round(project, 2, WRONG[:1])
    undo(project, 1, "all")
    found = collect(project, through=1)
    assert found.headline.now_miou == before.headline.now_miou
    assert found.configuration.round == 1 and collect(project).configuration.round == 2
    assert found.headline.clicks == 2 and found.headline.undone == [] and found.automatic.stands == 2
    assert found.headline.now_miou != collect(project).headline.now_miou
    text = words(page(project, through=1))
    assert "as of the end of round 1" in text and "scored by" in text and "Next:" not in text
    assert [row.round for row in collect(project, through=0).log.rows] == []


# ---- numbers -----------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_status(project: Project) -> None:
    open_round(project, 0)
    finish(project, 0, trained(0.3, "training images"))
    run_round(project, 1, [*RIGHT, WRONG[0]], model_miou=0.41)
    run_round(project, 2, WRONG[1:], model_miou=0.52)
    source = page(project)
    status = project_status(project)
    table = cells(source, "Changed: masks")[1:]
    assert len(table) == 3
    measured = ("automatic_precision", "data_miou", "data_miou_of_all", "coverage", "pixel_accuracy", "model_miou")
    for row, expected in zip(table, status["rounds"], strict=True):
        assert row == [
            str(expected["round"]),
            expected["method"],
            str(expected["queries"]),
            f"{expected['clicks']:g}",
            str(expected["manual_changed"]),
            str(expected["automatic_changed"]),
            *(unit(expected[key]) for key in measured),
        ]
    assert table[1][6] == "0.667"
    assert f"{unit(status['rounds'][0]['data_miou'])} → {unit(status['now']['data_miou'])}" in words(source)
    assert unit(status["rounds"][0]["data_miou"]) != unit(status["now"]["data_miou"])
    found = collect(project)
    assert [point for point in found.curves.points("model_miou")] == [[0, 2, 4], [0.3, 0.41, 0.52]]
    assert found.curves.points("data_miou")[0] == [0, 2, 4]
    assert found.headline.masks == status["masks"] == 12
    assert (found.headline.manual_masks, found.headline.automatic_masks) == (2, 5)
    assert found.headline.changed_pixel_share == pytest.approx(7 / 12)
    assert cells(source, "By round")[1:] == [["1", "3", "3", "2", "0.667"], ["2", "2", "2", "0", "0.000"]]


def test_iou_by_class_and_matrix(project: Project) -> None:
    run_round(project, 1, RIGHT)
    found = collect(project)
    # Road before: first labels (0,1) (0,2) (0,3) (1,1), true (0,1) (0,2) (1,1) (1,6): 3 of 5 masks. After: all of 4.
    assert found.classes[0].iou_before == pytest.approx(3 / 5) and found.classes[0].iou_after == 1
    assert found.headline.now_miou == pytest.approx(np.mean([row.iou_after for row in found.classes]))
    assert found.matrix.classes == [0, 1, 2]
    np.testing.assert_array_equal(found.matrix.masks, [[3, 1, 0], [0, 4, 1], [1, 0, 2]])
    np.testing.assert_array_equal(found.matrix.pixels, found.matrix.masks * SIDE * SIDE)
    pairs = [(pair.old, pair.new, pair.masks, pair.pixels) for pair in found.matrix.pairs]
    assert sorted(pairs) == [(0, 1, 1, 144), (1, 2, 1, 144), (2, 0, 1, 144)]
    assert cells(page(project), "Masks by class")[1] == ["road", "3", "1", "0"]


def test_a_mask_of_several_first_labels_counts_by_pixel(tmp_path: Path) -> None:
    folder = make_project(tmp_path)
    labels = blocks(FIRST[0])
    labels[:4, :12] = 2  # a third of mask 1 is tree, its most frequent label road
    save(tmp_path / "labels/i0.png", labels)
    shutil.rmtree(folder)
    folder = make_again(tmp_path)
    with Project(folder) as project:
        open_round(project, 1)
        reply(project, ask(project, 1, [(0, 1)])[0], "correct", 0)
        found = collect(project)
        assert [(c.old, c.new, c.pixels, c.area) for c in found.changes] == [(0, 0, 48, 144)]
        assert found.headline.manual_masks == 1
        assert [(pair.old, pair.new, pair.masks, pair.pixels) for pair in found.matrix.pairs] == [(2, 0, 0, 48)]


def make_again(folder: Path) -> Path:
    """A project of the files that lie in a folder."""
    sources = Sources(
        images=folder / "images", labels=folder / "labels", masks=folder / "masks", ground_truth=folder / "truth"
    )
    create_project(folder / "p.a2lc", sources, ClassTable.from_names(CLASSES))
    return folder / "p.a2lc"


def test_many_classes_become_a_list_of_pairs(tmp_path: Path) -> None:
    count = 60
    first = np.arange(count).reshape(10, 6)
    true = (first + 1) % count
    names = tuple(f"class {i}" for i in range(count))
    with Project(make_project(tmp_path, first=first, true=true, names=names)) as project:
        open_round(project, 1)
        changes = [(i, m, int(true[i, m - 1])) for i in range(10) for m in range(1, 7)][:50]
        automatic(project, 1, changes)
        found = collect(project)
        assert found.matrix.masks is None and len(found.matrix.pairs) == PAIRS and found.matrix.left_out == 10
        text = words(page(project))
        assert f"{count} classes occur, too many for a matrix." in text and count > MATRIX_LIMIT
        assert "10 pairs with fewer pixels are left out." in text


def test_true_classes_are_those_automatic_precision_goes_by(tmp_path: Path) -> None:
    folder = make_project(tmp_path)
    rng = np.random.default_rng(3)
    for i in range(2):
        truth = rng.choice([0, 1, 2, 255], (2 * SIDE, 3 * SIDE)).astype(np.uint8)
        truth[:SIDE, :SIDE] = np.repeat([0, 1], SIDE // 2)[:, None]  # a tie
        truth[SIDE:, :SIDE] = 255
        save(tmp_path / f"truth/i{i}.png", truth)
    shutil.rmtree(folder)
    with Project(make_again(tmp_path)) as project:
        found = true_classes(project.truth.table, 12, 3)
        assert found[0] == 0 and found[3] == VOID and UNKNOWN not in found
        for row in range(12):
            for new in (-1, 0, 1, 2):
                expected = automatic_precision(project.masks, project.truth.table, np.array([row]), np.array([new]), 3)
                assert expected == float(found[row] == new)


def test_answers_replaced_and_skipped(project: Project) -> None:
    open_round(project, 1)
    queries = ask(project, 1, [(0, 3), (0, 1), (1, 3), (1, 1)])
    reply(project, queries[0], "correct", 2)
    reply(project, queries[0], "correct", 1, replaces=1)
    reply(project, queries[1], "skip")
    reply(project, queries[2], "mixed")
    reply(project, queries[3], "confirm", 0)
    found = collect(project).log
    assert found.rows[0].kinds == {"correct": 1, "skip": 1, "mixed": 1, "confirm": 1}
    assert (found.rows[0].judged, found.rows[0].wrong, found.replaced) == (3, 2, 1)
    assert found.frequent == [(0, 1, 1)] and found.annotators == [("anna", 4)]
    assert "1 earlier answer" in words(page(project))


# ---- automatic corrections -----------------------------------------------------------------------------------------


def test_harm_is_said_plainly(project: Project) -> None:
    run_round(project, 1, WRONG)
    found = collect(project).automatic
    assert found.verdict == "harm" and found.precision == 0 and found.miou_with < found.miou_without
    assert (found.fixed, found.broken) == (0, 3)
    source = page(project)
    assert found.sentence.startswith("Automatic corrections did harm: data mIoU is ")
    # In the headline and in its own section.
    assert words(source).count(found.sentence) == 2
    assert "undo" in words(source) and "1 --source automatic" in words(source)
    own = project.truth.confusion(load_facts(project).first)
    assert found.miou_without > own.miou  # the manual correction is in it


def test_low_precision_is_harm_even_where_miou_rises(tmp_path: Path) -> None:
    # One right change of a rare class outweighs three wrong ones among the many of another, in mIoU.
    first = np.array([[0] * 6] * 20)
    true = first.copy()
    true[0, 0] = 1
    with Project(make_project(tmp_path, first=first, true=true)) as project:
        open_round(project, 1)
        automatic(project, 1, [(0, 1, 1), (1, 1, 1), (2, 1, 1)])
        found = collect(project).automatic
        assert found.miou_with > found.miou_without and found.precision == pytest.approx(1 / 3)
        assert found.verdict == "harm"
        assert found.sentence.startswith("Automatic corrections harmed the labels: more were wrong than right.")


def test_no_harm_no_warning(project: Project) -> None:
    run_round(project, 1, RIGHT)
    found = collect(project).automatic
    assert found.verdict == "good" and found.precision == 1 and found.doubtful == []
    text = words(page(project))
    assert "Automatic corrections helped" in text and "did harm" not in text and "--source automatic" not in text


def test_confidence_of_right_and_wrong(project: Project) -> None:
    open_round(project, 1)
    automatic(project, 1, RIGHT, confidence=0.75)
    open_round(project, 2)
    automatic(project, 2, WRONG, confidence=0.5)
    found = collect(project).automatic
    assert (found.confidence_right, found.confidence_wrong) == (0.75, 0.5) and found.doubtful == [2]
    assert [(t.key, t.count, t.right, t.by_round) for t in found.classes] == [
        (2, 3, 1, (1, 2)), (0, 2, 1, (1, 1)),
    ]  # fmt: skip
    assert "0.750 · 0.500" in words(page(project))


def test_automatic_changes_checked_by_later_answers(project: Project) -> None:
    open_round(project, 1)
    automatic(project, 1, [RIGHT[0], WRONG[0]])
    open_round(project, 2)
    kept, refused = ask(project, 2, [RIGHT[0][:2], WRONG[0][:2]])
    reply(project, kept, "confirm", 2)
    reply(project, refused, "correct", 0)
    found = collect(project)
    assert (found.automatic.checked, found.automatic.upheld, found.automatic.stands) == (2, 1, 0)
    confirmed = next(change for change in found.changes if change.mask_id == 5)
    assert confirmed.history == ["automatic in round 1, confidence 0.995", "confirmed manually in round 2"]


def test_an_automatic_row_that_keeps_the_class_is_no_change(project: Project) -> None:
    open_round(project, 1)
    automatic(project, 1, [(0, 1, 0), (0, 2, 2)])
    assert automatic_changes(load_facts(project)).mask.tolist() == [1]
    assert project_status(project)["rounds"][0]["automatic_changed"] == 1


# ---- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_show_both_sources_and_say_who_was_right(tmp_path: Path) -> None:
    first = np.zeros((6, 6), dtype=np.int64)
    with Project(make_project(tmp_path, first=first, true=np.ones_like(first))) as project:
        open_round(project, 1)
        queries = ask(project, 1, [(i, m) for i in range(5) for m in range(1, 7)])
        for query in queries:
            reply(project, query, "correct", 1)
        automatic(project, 1, [(5, m, 2) for m in range(1, 7)])
        source = page(project)
        found = collect(project).changes
        assert len(found) == PICTURES
        # All masks are of one size: by size alone, the first thirty, by hand, would fill the page.
        assert [change.source for change in found].count("automatic") == PICTURES // 3
        assert words(source).count("Right by ground truth") == 8
        assert words(source).count("Wrong by ground truth: mostly car") == 4
        assert source.count("data:image/jpeg") == 12 and source.count("data:image/png") == 24
        assert "i5, mask 1" in words(source) and "Automatic in round 1, confidence 0.995." in words(source)
        assert len(source) < 3_000_000


def test_a_mask_that_fills_its_image_has_a_picture(tmp_path: Path) -> None:
    folder = make_project(tmp_path)
    for i in range(2):
        save(tmp_path / f"masks/i{i}.png", np.ones((2 * SIDE, 3 * SIDE), dtype=np.uint8))
    shutil.rmtree(folder)
    with Project(make_again(tmp_path)) as project:
        open_round(project, 1)
        automatic(project, 1, [(0, 1, 1)])
        assert page(project).count('width="240" height="160"') == 3


def test_crop_box_stays_inside_and_shows_context() -> None:
    inside = np.zeros((100, 200), dtype=bool)
    inside[0, 199] = True
    assert crop_box(inside) == (slice(0, 25), slice(176, 200))  # 48 around one pixel, what lies in the image
    inside[:, :] = True
    assert crop_box(inside) == (slice(0, 100), slice(0, 200))


# ---- names of all kinds ------------------------------------------------------------------------------------------


def test_names_are_escaped(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$x_$ & {{ 7*7 }} -->")
    with Project(make_project(tmp_path, names=names, name="</title><script>alert(3)</script>")) as project:
        open_round(project, 0, "<b>method</b>")
        finish(project, 0, trained(0.3, "training images"))
        open_round(project, 1, "<b>method</b>")
        reply(project, ask(project, 1, [(0, 3)])[0], "correct", 1)
        automatic(project, 1, [*RIGHT])
        source = page(project)  # page() refuses scripts, handlers and sources from elsewhere
        assert "<script" not in source and "onerror=alert(2)>" not in source.replace("&gt;", "")
        assert "<b>method" not in source and "49" not in cells(source, "pixels before")[3][0]
        for name in names:
            assert html.escape(name, quote=False)[:20] in source or html.escape(name)[:20] in source
        shown = words(source)
        assert "<script>alert(1)</script>" in shown and "$x_$ & {{ 7*7 }} -->" in shown
        assert "</title><script>alert(3)</script>" in shown


def test_names_of_other_scripts_and_lengths(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    names = ("道路", "машина", "x" * 300)
    with Project(make_project(tmp_path, names=names)) as project:
        run_round(project, 1, RIGHT)
        text = words(page(project))
        assert "道路" in text and "x" * 300 in text
        assert not [str(warning.message) for warning in recwarn if "lyph" in str(warning.message)]


# ---- the file ----------------------------------------------------------------------------------------------------


def test_written_whole_or_not_at_all(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project.folder / "new" / "report.html"
    write_report(project, path)
    old = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_report(project, path)
    assert path.read_bytes() == old and [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_writing_changes_nothing_in_the_project(project: Project) -> None:
    run_round(project, 1, RIGHT)
    before = {p: p.stat().st_mtime_ns for p in project.folder.rglob("*.p*") if p.is_file()}
    rows = len(project.corrections())
    page(project)
    assert {p: p.stat().st_mtime_ns for p in before} == before and len(project.corrections()) == rows


def test_pyplot_is_left_alone(project: Project) -> None:
    import sys

    import matplotlib

    before = dict(matplotlib.rcParams)
    had = "matplotlib.pyplot" in sys.modules
    run_round(project, 1, RIGHT)
    page(project)
    assert dict(matplotlib.rcParams) == before and ("matplotlib.pyplot" in sys.modules) == had


def test_configuration_is_of_the_last_round(project: Project) -> None:
    assert "Settings planned in project.yaml" in words(page(project))
    open_round(project, 0)
    source = page(project)
    assert ["settings.thresholds", "0.99"] in cells(source, "setting value") and "of round 0" in words(source)
    assert ["settings.lcm", "yes"] in cells(source, "setting value")
    assert "a2lc 0.0.9" in words(source)
    assert f"a2lc report {project.folder}" in words(source)
