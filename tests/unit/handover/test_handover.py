"""Questions out to Label Studio and CVAT, and back as answers, on the tiny project with questions of our own."""

import dataclasses
import json
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError, ShapeError, StageError, UnknownNameError
from a2lc.formats.rle import Box, box_of_mask, brush_of_mask, mask_of_box, mask_of_brush
from a2lc.handover import FORMATS, hand_over, take_back
from a2lc.handover.questions import labels_of, read_handed
from a2lc.images import archive
from a2lc.ledger import KEEP, VOID
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query, QueryKind
from a2lc.rounds.recorder import record_answer

SKY, BUILDING, ROAD, CAR = 0, 1, 2, 6
ODD = ('<script>alert("1")</script>', "a, b & c", "Straße 街 🚌", "it's #1", "background", "void", "x" * 64)


def ask(project, queries):
    number = len(project.ledger.rounds()) + 1
    project.ledger.open_round(number, method="gain", config={}, model="m", seed=0, versions={})
    project.ledger.add_queries(number, [dataclasses.replace(query, round=number) for query in queries], 0.0, {})
    return project.ledger.queries(number)


def largest(project, image, count):
    """Masks of an image, the largest first."""
    ids, areas = np.unique(project.mask_map(project.all_images[image]), return_counts=True)
    order = [int(ids[place]) for place in np.argsort(-areas, kind="stable") if ids[place]]
    return order[:count]


def query(image, *mask_ids, proposed=ROAD, **other):
    return Query(round=0, image=image, mask_ids=mask_ids, proposed=proposed, score=1.0, **other)


@pytest.fixture
def project(tiny_project):
    """Five questions about two images: the second one joins two masks, the fourth has no class."""
    first, second = largest(tiny_project, 0, 4), largest(tiny_project, 2, 2)
    ask(
        tiny_project,
        [
            query(0, first[0]),
            query(2, *sorted(second)),
            query(0, first[1], proposed=SKY),
            query(0, first[2], proposed=None),
            query(0, first[3], proposed=CAR),
        ],
    )
    return tiny_project


def inside(project, number):
    found = next(q for q in project.ledger.queries() if q.query_id == number)
    return np.isin(project.mask_map(project.all_images[found.image]), found.mask_ids)


def halves(mask):
    """The first half of a mask's pixels in reading order, and the rest."""
    flat = np.flatnonzero(mask)
    first = np.zeros_like(mask)
    first.ravel()[flat[: len(flat) // 2]] = True
    return first, mask & ~first


def part(mask, count):
    found = np.zeros_like(mask)
    found.ravel()[np.flatnonzero(mask)[:count]] = True
    return found


def standing(project):
    return {answer.query_id: answer for answer, _ in project.ledger.answers()}


# ---- a tool each, played by the test ----------------------------------------------------------------------------
#
# Each is told for some questions what their annotator did: `regions`, pairs of (mask, label name) drawn in that order
# in place of what was handed over (None leaves it), and a verdict. Questions not named come back as they went.


class LabelStudio:
    format = "label-studio"
    verdicts = True

    def __init__(self, folder):
        self.folder = folder
        self.tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))

    def export(self, done=(), name="project-1.json", **other):
        tasks = []
        for place, task in enumerate(self.tasks):
            number = task["data"]["query_id"]
            annotations = []
            if number in done:
                regions, verdict = done[number]
                handed = task["predictions"][0]["result"]
                result = handed if regions is None else [self._region(handed[0], *one) for one in regions]
                if verdict is not None:
                    chosen = {"type": "choices", "from_name": "verdict", "to_name": "image", "id": "c"}
                    result = [*result, chosen | {"value": {"choices": [verdict]}}]
                annotations = [{"id": place, "result": result, "was_cancelled": False, "lead_time": 4.288}]
            tasks.append({"id": place + 1, "data": task["data"], "annotations": annotations, "predictions": []} | other)
        path = self.folder / name
        path.write_text(json.dumps(tasks), encoding="utf-8")
        return path

    def _region(self, handed, mask, label):
        value = {"format": "rle", "rle": brush_of_mask(mask), "brushlabels": [label] if label else []}
        return handed | {"id": "drawn", "origin": "manual", "value": value}


class CvatXml:
    format = "cvat-xml"
    verdicts = True

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "annotations.xml"

    def export(self, done=(), name="export.zip"):
        tree = ElementTree.parse(self.file)
        for image in tree.getroot().iter("image"):
            size = int(image.get("height")), int(image.get("width"))
            for shape in list(image):
                number = int(shape.find("attribute[@name='query_id']").text)
                if number not in done:
                    continue
                regions, verdict = done[number]
                if verdict is not None:
                    shape.find("attribute[@name='verdict']").text = verdict
                if regions is None:
                    continue
                image.remove(shape)
                for place, (mask, label) in enumerate(regions):
                    box = box_of_mask(mask)
                    assert mask.shape == size
                    attributes = {"label": label, "source": "manual", "rle": ", ".join(map(str, box.runs))}
                    attributes |= {name: str(getattr(box, name)) for name in ("left", "top", "width", "height")}
                    drawn = ElementTree.SubElement(image, "mask", attributes | {"z_order": str(place), "occluded": "0"})
                    if place == 0:
                        drawn.extend(list(shape))
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("annotations.xml", ElementTree.tostring(tree.getroot(), encoding="utf-8"))
        return path


class CvatMask:
    format = "cvat-mask"
    verdicts = False

    def __init__(self, folder):
        self.folder = folder
        self.handed = read_handed(folder / "handover.json")
        self.colours = {label.name: label.color for label in self.handed.labels}

    def export(self, done=(), name="export.zip", project=None):
        with zipfile.ZipFile(self.folder / "annotations.zip") as file:
            files = {entry: file.read(entry) for entry in file.namelist()}
        for image in self.handed.images:
            entry = f"SegmentationClass/{image.image_id}.png"
            scratch = self.folder.parent / "scratch.png"
            scratch.write_bytes(files[entry])
            pixels = np.array(Image.open(scratch))
            for question in image.questions:
                if question.query_id not in done:
                    continue
                regions, verdict = done[question.query_id]
                assert verdict is None and project is not None
                if regions is not None:
                    pixels[inside(project, question.query_id)] = 0
                    for mask, label in regions:
                        pixels[mask] = self.colours[label] if label else 0
            Image.fromarray(pixels).save(scratch)
            files[entry] = scratch.read_bytes()
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as file:
            for entry, data in files.items():
                file.writestr(entry, data)
        return path


TOOLS = (LabelStudio, CvatXml, CvatMask)


@pytest.fixture(params=TOOLS, ids=lambda tool: tool.format)
def tool(request):
    return request.param


def out_and_back(project, tool, tmp_path, done, **options):
    opened = tool(tmp_path / "out")
    more = {"project": project} if tool is CvatMask else {}
    return take_back(project, opened.export(done, **more), annotator="Ada", **options)


@pytest.fixture
def handed(project, tool, tmp_path):
    """The project with its questions handed over, and what takes them back."""
    summary = hand_over(project, tmp_path / "out", tool.format)
    assert (summary.questions, summary.images, summary.waiting, summary.messages) == (5, 2, 0, ())
    return SimpleNamespace(
        project=project,
        tool=tool(tmp_path / "out"),
        folder=tmp_path / "out",
        back=lambda done=(), **options: out_and_back(project, tool, tmp_path, done, **options),
    )


# ---- what goes out ----------------------------------------------------------------------------------------------


def test_label_studio_tasks_hold_a_question_each_with_its_mask(project, tmp_path):
    out = tmp_path / "to ask"
    hand_over(project, out, "label-studio")
    tasks = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    by_question = {task["data"]["query_id"]: task for task in tasks}
    assert set(by_question) == {1, 2, 3, 4, 5} and len(tasks) == 5
    config = ElementTree.fromstring((out / "label_config.xml").read_text(encoding="utf-8"))
    labels = {label.get("value"): label for label in config.find("BrushLabels")}
    assert list(labels) == [*project.classes.names, "void"]
    assert [label.get("hotkey") for label in labels.values()] == [*"123456789", None, None, "0"]
    assert labels["road"].get("background") == "#804080"
    assert [choice.get("value") for choice in config.find("Choices")] == ["keep", "mixed or bad border", "cannot tell"]
    for asked in project.ledger.queries(1):
        task = by_question[asked.query_id]
        (region,) = task["predictions"][0]["result"]
        record = project.all_images[asked.image]
        assert (region["original_width"], region["original_height"]) == (record.width, record.height) == (64, 48)
        assert region["from_name"] == config.find("BrushLabels").get("name") and region["type"] == "brushlabels"
        assert region["to_name"] == config.find("Image").get("name") == config.find("BrushLabels").get("toName")
        name = "void" if asked.proposed is None else project.classes.names[asked.proposed]
        assert region["value"]["brushlabels"] == [name] and name in task["data"]["question"]
        np.testing.assert_array_equal(mask_of_brush(region["value"]["rle"], 48, 64), inside(project, asked.query_id))
        url = urlsplit(task["data"]["image"])
        (place,) = parse_qs(url.query)["d"]
        assert (
            url.path == "/data/local-files/"
            and (tmp_path / place).read_bytes() == project.image_path(record).read_bytes()
        )
        assert " " not in task["data"]["image"]


def test_label_studio_can_use_images_where_they_are(project, tmp_path):
    root = project.image_path(project.images[0]).parent.parent
    hand_over(project, tmp_path / "out", "label-studio", image_root=str(root))
    assert not (tmp_path / "out" / "images").exists()
    for task in json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8")):
        (place,) = parse_qs(urlsplit(task["data"]["image"]).query)["d"]
        assert (root / place) == project.image_path(project.record(task["data"]["image_id"]))
    with pytest.raises(InputError, match="is not inside image_root"):
        hand_over(project, tmp_path / "no", "label-studio", image_root=str(project.folder))
    with pytest.raises(MissingFileError, match="No folder at image_root"):
        hand_over(project, tmp_path / "no", "label-studio", image_root=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="only for Label Studio"):
        hand_over(project, tmp_path / "no", "cvat-xml", image_root=str(root))
    assert not (tmp_path / "no").exists()


def test_cvat_xml_holds_masks_with_their_question(project, tmp_path):
    hand_over(project, tmp_path / "out", "cvat-xml")
    root = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot()
    assert root.find("version").text == "1.1" and root.find("meta/task/mode").text == "annotation"
    seen = set()
    with zipfile.ZipFile(tmp_path / "out" / "images.zip") as images:
        assert images.namelist() == [image.get("name") for image in root.iter("image")]
        for image in root.iter("image"):
            record = project.record(Path(image.get("name")).stem)
            assert images.read(image.get("name")) == project.image_path(record).read_bytes()
            for mask in image:
                number = int(mask.find("attribute[@name='query_id']").text)
                seen.add(number)
                runs = tuple(int(run) for run in mask.get("rle").split(","))
                box = Box(runs=runs, **{name: int(mask.get(name)) for name in ("left", "top", "width", "height")})
                np.testing.assert_array_equal(mask_of_box(box, 48, 64), inside(project, number))
                assert mask.find("attribute[@name='verdict']").text == "open"
    assert seen == {1, 2, 3, 4, 5}
    labels = json.loads((tmp_path / "out" / "labels.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in labels] == [*project.classes.names, "void"]
    assert [attribute["name"] for attribute in labels[0]["attributes"]] == ["query_id", "verdict"]


def test_cvat_masks_are_coloured_inside_the_questions_and_black_elsewhere(project, tmp_path):
    hand_over(project, tmp_path / "out", "cvat-mask")
    with zipfile.ZipFile(tmp_path / "out" / "annotations.zip") as file:
        file.extractall(tmp_path / "in")
    lines = (tmp_path / "in" / "labelmap.txt").read_text().splitlines()
    assert lines[:3] == ["# label:color_rgb:parts:actions", "background:0,0,0::", "sky:70,130,180::"]
    assert lines[-1] == "void:224,224,192::" and len(lines) == 14
    names = (tmp_path / "in/ImageSets/Segmentation/default.txt").read_text().split()
    assert names == sorted(project.all_images[image].image_id for image in (0, 2))
    first = np.array(Image.open(tmp_path / "in" / "SegmentationClass" / f"{project.all_images[0].image_id}.png"))
    objects = np.array(Image.open(tmp_path / "in" / "SegmentationObject" / f"{project.all_images[0].image_id}.png"))
    wanted = np.zeros((48, 64, 3), dtype=np.uint8)
    for number, colour in ((1, (128, 64, 128)), (3, (70, 130, 180)), (4, (224, 224, 192)), (5, (0, 0, 142))):
        wanted[inside(project, number)] = colour
    np.testing.assert_array_equal(first, wanted)
    assert {tuple(colour) for colour in objects.reshape(-1, 3).tolist()} == {
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)
    }  # fmt: skip
    np.testing.assert_array_equal((objects > 0).any(axis=2), (first > 0).any(axis=2))


def test_readme_has_ten_lines_and_the_way_back(project, tool, tmp_path):
    hand_over(project, tmp_path / "out", tool.format)
    lines = (tmp_path / "out" / "README.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 10 and "a2lc takeback" in lines[-1] and "5 questions about 2 images" in lines[0]
    assert len(FORMATS) == len(TOOLS)


def test_limit_hands_over_the_first_questions(project, tool, tmp_path):
    summary = hand_over(project, tmp_path / "out", tool.format, limit=2)
    assert (summary.questions, summary.images, summary.waiting) == (2, 2, 3)
    assert {q.query_id for q in read_handed(tmp_path / "out" / "handover.json").questions} == {1, 2}
    with pytest.raises(InputError, match="limit is 0"):
        hand_over(project, tmp_path / "none", tool.format, limit=0)


def test_answered_questions_are_not_handed_over(project, tool, tmp_path):
    record_answer(project, Answer(query_id=2, annotator="Bo", kind=AnswerKind.SKIP))
    assert hand_over(project, tmp_path / "out", tool.format).questions == 4
    assert {q.query_id for q in read_handed(tmp_path / "out" / "handover.json").questions} == {1, 3, 4, 5}


def test_questions_that_no_mask_shows_are_left_and_told(tiny_project, tool, tmp_path):
    first, second = largest(tiny_project, 0, 2)
    ask(tiny_project, [query(0, first), query(0, second, kind=QueryKind.PIXEL, pixel=7), query(0, first, second)])
    summary = hand_over(tiny_project, tmp_path / "out", tool.format)
    shared = tool is not LabelStudio
    assert summary.questions == (1 if shared else 2) and summary.waiting == (2 if shared else 1)
    assert "single pixel" in summary.messages[0]
    assert len(summary.messages) == (2 if shared else 1) and (not shared or "another question" in summary.messages[1])


def test_nothing_to_hand_over_is_told(tiny_project, tool, tmp_path):
    with pytest.raises(StageError, match="has no round yet"):
        hand_over(tiny_project, tmp_path / "out", tool.format)
    (only,) = ask(tiny_project, [query(0, largest(tiny_project, 0, 1)[0], kind=QueryKind.PIXEL, pixel=7)])
    with pytest.raises(StageError, match="None of the 1 open questions"):
        hand_over(tiny_project, tmp_path / "out", tool.format)
    record_answer(tiny_project, Answer(query_id=only.query_id, annotator="Bo", kind=AnswerKind.SKIP))
    with pytest.raises(StageError, match="No question of round 1 is open, because all are answered"):
        hand_over(tiny_project, tmp_path / "out", tool.format)
    with pytest.raises(InputError, match="no round 7; there are 1"):
        hand_over(tiny_project, tmp_path / "out", tool.format, number=7)
    ask(tiny_project, [query(0, largest(tiny_project, 0, 1)[0])])
    tiny_project.ledger.finish_stage(2, "answer", 0.0, {})
    with pytest.raises(StageError, match="its answers are complete"):
        hand_over(tiny_project, tmp_path / "out", tool.format)
    assert not (tmp_path / "out").exists()


def test_folders_and_formats_are_checked_before_anything_is_written(project, tmp_path, snapshot):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    before = snapshot(project.folder)
    with pytest.raises(InputError, match="exists and is not empty"):
        hand_over(project, tmp_path / "full", "cvat-xml")
    with pytest.raises(InputError, match="lies inside the project"):
        hand_over(project, project.folder / "out", "cvat-xml")
    with pytest.raises(UnknownNameError, match="Did you mean 'cvat-xml'"):
        hand_over(project, tmp_path / "out", "cvat-xm")
    hand_over(project, tmp_path / "out", "cvat-xml")
    after = snapshot(project.folder)
    assert {name for name in after if after[name] != before.get(name)} <= {"ledger.sqlite-shm", "ledger.sqlite-wal"}


def test_a_failed_hand_over_leaves_nothing(project, tool, tmp_path):
    shutil.copy(project.image_path(project.images[1]), tmp_path / "kept.png")
    project.image_path(project.images[2]).unlink()
    with pytest.raises(MissingFileError, match="is missing"):
        hand_over(project, tmp_path / "out", tool.format)
    Image.new("RGB", (10, 12)).save(project.image_path(project.images[2]))
    with pytest.raises(ShapeError, match="10 x 12 pixels, but had 64 x 48"):
        hand_over(project, tmp_path / "out", tool.format)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_turned_images_are_handed_over_upright(tool, make_dataset, tmp_path):
    data = make_dataset(("a",))
    exif = Image.Exif()
    exif[0x0112] = 6
    data.image("a", size=(data.width, data.height), suffix=".png", exif=exif)
    from a2lc.images.options import ReadingOptions

    data.create(ReadingOptions(exif="apply"))
    with Project(data.project) as project:
        record = project.images[0]
        assert (record.width, record.height) == (9, 6)
        ask(project, [query(0, largest(project, 0, 1)[0], proposed=1)])
        hand_over(project, tmp_path / "out", tool.format)
        if tool is LabelStudio:
            shown = tmp_path / "out" / "images" / "a.png"
            with pytest.raises(InputError, match="browsers rotate this image"):
                hand_over(project, tmp_path / "no", tool.format, image_root=str(data.root))
        else:
            with zipfile.ZipFile(tmp_path / "out" / "images.zip") as file:
                file.extractall(tmp_path / "in")
            shown = tmp_path / "in" / "a.png"
        with Image.open(shown) as image:
            assert image.getexif().get(0x0112, 1) == 1
            np.testing.assert_array_equal(np.array(image), project.pixels(record))


# ---- every way back ---------------------------------------------------------------------------------------------


def test_another_class_on_the_mask_is_a_correction(handed):
    mask = inside(handed.project, 1)
    summary = handed.back({1: ([(mask, "building")], None), 2: ([(inside(handed.project, 2), "car")], None)})
    assert (summary.recorded, summary.untouched, summary.outside, summary.messages) == (2, 3, 0, ())
    found = standing(handed.project)
    assert (found[1].kind, found[1].classes, found[1].pixels) == (AnswerKind.CORRECT, (BUILDING,), None)
    assert (found[2].kind, found[2].classes, found[2].annotator) == (AnswerKind.CORRECT, (CAR,), "Ada")
    assert found[1].milliseconds == (4288 if handed.tool.format == "label-studio" else None)
    assert (handed.project.corrected_labels(handed.project.images[0])[mask] == BUILDING).all()


def test_the_mask_as_it_is_confirms_only_where_somebody_said_so(handed):
    verdict = "keep" if handed.tool.verdicts else None
    done = {1: (None, verdict), 3: (None, verdict), 4: (None, verdict)}
    summary = handed.back(done)
    if handed.tool.format == "cvat-mask":
        assert (summary.recorded, summary.untouched) == (0, 5)
        summary = handed.back(done, untouched="confirm")
        assert (summary.recorded, summary.untouched) == (5, 0)
    else:
        assert (summary.recorded, summary.untouched) == (3, 2)
    found = standing(handed.project)
    assert (found[1].kind, found[1].classes) == (AnswerKind.CONFIRM, (ROAD,))
    assert (found[3].kind, found[3].classes) == (AnswerKind.CONFIRM, (SKY,))
    assert (found[4].kind, found[4].classes) == (AnswerKind.VOID, ()), "void was proposed, and kept"


def test_submitting_in_label_studio_without_a_choice_confirms(project, tmp_path):
    hand_over(project, tmp_path / "out", "label-studio")
    summary = out_and_back(project, LabelStudio, tmp_path, {1: (None, None)})
    assert (summary.recorded, summary.untouched) == (1, 4)
    assert standing(project)[1].kind == AnswerKind.CONFIRM


def test_untouched_masks_of_cvat_can_be_confirmed(project, tmp_path):
    hand_over(project, tmp_path / "out", "cvat-xml")
    assert out_and_back(project, CvatXml, tmp_path, {}).untouched == 5
    summary = out_and_back(project, CvatXml, tmp_path, {3: (None, "cannot tell")}, untouched="confirm")
    assert (summary.recorded, summary.skipped) == (5, 1)
    assert standing(project)[3].kind == AnswerKind.SKIP and standing(project)[1].kind == AnswerKind.CONFIRM
    with pytest.raises(InputError, match="expected 'leave' or 'confirm'"):
        out_and_back(project, CvatXml, tmp_path, {}, untouched="yes")


def test_void_is_void_and_erased_is_a_skip_that_is_told(handed):
    mask, rest = inside(handed.project, 1), inside(handed.project, 3)
    erased = [(part(rest, 0), None)] if handed.tool.format == "cvat-mask" else []
    summary = handed.back({1: ([(mask, "void")], None), 3: (erased, None)})
    assert (summary.recorded, summary.skipped, summary.untouched) == (2, 1, 3)
    (message,) = summary.messages
    assert message.startswith("Question 3: erased")
    found = standing(handed.project)
    assert found[1].kind == AnswerKind.VOID and found[3].kind == AnswerKind.SKIP
    ignore = handed.project.classes.ignore_index
    assert (handed.project.corrected_labels(handed.project.images[0])[mask] == ignore).all()


@pytest.mark.parametrize("tool", [LabelStudio, CvatXml], ids=lambda tool: tool.format, indirect=True)
def test_verdicts_are_answers(handed):
    mask = inside(handed.project, 5)
    summary = handed.back(
        {
            1: (None, "mixed or bad border"),
            3: (None, "cannot tell"),
            5: ([(mask, "sky")], "mixed or bad border"),
            4: ([(inside(handed.project, 4), "sky")], "keep"),
        }
    )
    assert (summary.recorded, summary.skipped, summary.refused, summary.untouched) == (3, 1, 1, 1)
    found = standing(handed.project)
    assert [found[number].kind for number in (1, 3, 5)] == [AnswerKind.MIXED, AnswerKind.SKIP, AnswerKind.MIXED]
    assert 4 not in found
    told = "\n".join(summary.messages)
    assert "Question 5: 'mixed or bad border' was chosen, so the drawing is not used" in told
    assert "Question 4: 'keep' was chosen, but the drawing is no longer void" in told


def test_two_classes_come_back_as_pixels(handed):
    project, mask = handed.project, inside(handed.project, 1)
    first, second = halves(mask)
    summary = handed.back({1: ([(first, "building"), (second, "road")], None)})
    assert (summary.recorded, summary.outside, summary.messages) == (1, 0, ())
    answer = standing(project)[1]
    assert (answer.kind, answer.classes) == (AnswerKind.CLASSES, (BUILDING, ROAD))
    wanted = np.full(mask.shape, KEEP)
    wanted[first], wanted[second] = BUILDING, ROAD
    np.testing.assert_array_equal(project.answered_pixels(answer.pixels), wanted)


def test_void_on_a_part_comes_back_as_pixels(handed):
    project, mask = handed.project, inside(handed.project, 1)
    first, second = halves(mask)
    handed.back({1: ([(first, "void"), (second, "road")], None)})
    answer = standing(project)[1]
    assert (answer.kind, answer.classes) == (AnswerKind.CLASSES, (ROAD,))
    said = project.answered_pixels(answer.pixels)
    assert (said[first] == VOID).all() and (said[second] == ROAD).all() and (said[~mask] == KEEP).all()


def test_erased_parts_keep_their_labels_and_are_told(handed):
    project, mask = handed.project, inside(handed.project, 1)
    first, second = halves(mask)
    summary = handed.back({1: ([(first, "road")], None), 3: ([(halves(inside(project, 3))[0], "void")], None)})
    found = standing(project)
    assert (found[1].kind, found[1].classes) == (AnswerKind.CLASSES, (ROAD,))
    said = project.answered_pixels(found[1].pixels)
    assert (said[first] == ROAD).all() and (said[~first] == KEEP).all()
    assert found[3].kind == AnswerKind.MIXED
    told = "\n".join(summary.messages)
    assert f"Question 1: {second.sum():,} of {mask.sum():,} pixels have no label in the drawing" in told
    assert "Question 3: one part is void" in told


def test_what_is_drawn_later_lies_above(handed):
    mask = inside(handed.project, 1)
    summary = handed.back({1: ([(mask, "sky"), (mask, "building")], None)})
    assert summary.recorded == 1 and standing(handed.project)[1].classes == (BUILDING,)


def test_pixels_outside_are_counted_and_not_taken(handed):
    project, mask = handed.project, inside(handed.project, 1)
    asked = np.logical_or.reduce([inside(project, number) for number in (1, 3, 4, 5)])
    outside = part(~asked, 37)
    summary = handed.back({1: ([(mask | outside, "building")], None)})
    assert (summary.recorded, summary.outside) == (1, 37)
    assert "37 pixels were drawn outside" in summary.messages[-1]
    answer = standing(project)[1]
    assert (answer.kind, answer.pixels) == (AnswerKind.CORRECT, None)
    labels = project.corrected_labels(project.images[0])
    np.testing.assert_array_equal(labels[outside], project.first_labels(project.images[0])[outside])


def test_nearly_all_of_a_mask_is_all_of_it(handed):
    project, mask = handed.project, inside(handed.project, 1)
    area = int(mask.sum())
    few = part(mask, int(0.02 * area))
    handed.back({1: ([(few, "sky"), (mask & ~few, "building")], None)})
    assert (standing(project)[1].kind, standing(project)[1].classes) == (AnswerKind.CORRECT, (BUILDING,))
    other = inside(project, 2)
    more = part(other, int(0.02 * other.sum()) + 1)
    handed.back({2: ([(more, "sky"), (other & ~more, "building")], None)})
    assert standing(project)[2].kind == AnswerKind.CLASSES


def test_taken_back_twice_nothing_is_recorded_twice(handed):
    project, mask = handed.project, inside(handed.project, 1)
    first, second = halves(mask)
    done = {1: ([(first, "building"), (second, "road")], None), 3: ([(inside(project, 3), "car")], None)}
    assert handed.back(done).recorded == 2
    rows = project.ledger.answers(standing=False)
    again = handed.back(done)
    assert (again.recorded, again.same, again.conflict, again.untouched) == (0, 2, 0, 3)
    assert project.ledger.answers(standing=False) == rows


def test_an_answer_given_meanwhile_stands_and_is_told(handed):
    project = handed.project
    record_answer(project, Answer(query_id=1, annotator="Bo", kind=AnswerKind.CORRECT, classes=(SKY,)))
    summary = handed.back({1: ([(inside(project, 1), "car")], None), 3: ([(inside(project, 3), "car")], None)})
    assert (summary.recorded, summary.conflict, summary.same) == (1, 1, 0)
    assert "Question 1 was answered 'correct' by Bo" in summary.messages[0]
    assert standing(project)[1].classes == (SKY,)


def test_questions_of_a_closed_round_are_refused(handed):
    handed.project.ledger.finish_stage(1, "answer", 0.0, {})
    summary = handed.back({1: ([(inside(handed.project, 1), "car")], None)})
    assert (summary.recorded, summary.refused) == (0, 1) and "can no longer be answered" in summary.messages[0]


def test_the_folder_will_do_where_one_file_was_put_into_it(handed):
    handed.back({1: ([(inside(handed.project, 1), "car")], None)})
    assert take_back(handed.project, handed.folder, annotator="Ada").same == 1
    export = next(path for path in handed.folder.iterdir() if path.name.startswith(("export", "project-1")))
    shutil.copy(export, handed.folder / f"second{export.suffix}")
    with pytest.raises(InputError, match="contains 2 exported files"):
        take_back(handed.project, handed.folder, annotator="Ada")
    elsewhere = handed.folder.parent / f"elsewhere{export.suffix}"
    shutil.move(export, elsewhere)
    with pytest.raises(MissingFileError, match=r"No handover\.json at"):
        take_back(handed.project, elsewhere, annotator="Ada")
    given = handed.folder / "handover.json"
    assert take_back(handed.project, elsewhere, annotator="Ada", handover=given, format=handed.tool.format).same == 1


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 61, "Oracle"])
def test_annotators_have_names(handed, name):
    with pytest.raises(InputError, match=r"name"):
        take_back(handed.project, handed.tool.export(), annotator=name)


# ---- odd class names --------------------------------------------------------------------------------------------


def rename(project, names, colours=None):
    old = project.classes
    names = (*names, *old.names[len(names) :])
    project.classes = ClassTable(names, colours or old.colours, old.file_values, old.ignore)


def test_any_class_name_comes_back(project, tool, tmp_path):
    rename(project, ODD)
    hand_over(project, tmp_path / "out", tool.format)
    opened = tool(tmp_path / "out")
    names = [label.name for label in read_handed(tmp_path / "out" / "handover.json").labels]
    assert names[4] == ("background" if tool is LabelStudio else "background_")
    assert names[5] == "void" and names[-1] == "void_"
    done = {}
    for number, index in zip((1, 2, 3, 4, 5), (0, 3, 2, 4, 5), strict=True):
        done[number] = ([(inside(project, number), names[index])], None)
    more = {"project": project} if tool is CvatMask else {}
    summary = take_back(project, opened.export(done, **more), annotator="Ada")
    assert summary.recorded == 5 and not summary.messages
    assert [standing(project)[number].classes for number in (1, 2, 3, 4, 5)] == [(0,), (3,), (2,), (4,), (5,)]
    for path in (tmp_path / "out").glob("*.xml"):
        assert "<script>" not in path.read_text(encoding="utf-8")


def test_classes_of_one_colour_are_told_apart(project, tmp_path):
    rename(project, (), ((0, 0, 0), (9, 9, 9), (9, 9, 9), *project.classes.colours[3:10], (224, 224, 192)))
    labels = labels_of(project.classes, "cvat-mask")
    assert len({label.color for label in labels}) == len(labels) == 12
    assert (0, 0, 0) not in {label.color for label in labels}
    assert labels[1].color == (9, 9, 9) and labels[10].color == (224, 224, 192)
    hand_over(project, tmp_path / "out", "cvat-mask")
    done = {1: ([(inside(project, 1), "sky")], None), 3: ([(inside(project, 3), "building")], None)}
    assert out_and_back(project, CvatMask, tmp_path, done).recorded == 2
    assert (standing(project)[1].classes, standing(project)[3].classes) == ((SKY,), (BUILDING,))


@pytest.mark.parametrize(
    ("format", "name", "match"),
    [
        ("cvat-mask", "a:b", r"'a:b' contains ':'.*Rename it in project\.yaml, or use cvat-xml\."),
        ("cvat-mask", "#a", "begins with '#'"),
        ("cvat-xml", "x" * 65, "has 65 characters, of which CVAT keeps only 64"),
        ("cvat-xml", "a\x00b", "contains a character"),
        ("label-studio", "a\nb", "contains a character"),
        ("label-studio", "a$b", r"contains '\$'"),
    ],
)
def test_names_that_a_tool_cannot_hold_are_refused(project, tmp_path, format, name, match):
    rename(project, (name,))
    with pytest.raises(InputError, match=match):
        hand_over(project, tmp_path / "out", format)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_many_classes_get_colours_of_their_own():
    classes = ClassTable(tuple(map(str, range(3000))), ((1, 2, 3),) * 3000, tuple(range(3000)), 65535)
    assert len({label.color for label in labels_of(classes, "cvat-mask")}) == 3001


# ---- bad files --------------------------------------------------------------------------------------------------


def test_a_hand_over_of_another_project_is_refused(handed, make_dataset, tmp_path):
    export = handed.tool.export()
    data = make_dataset(("a",), masks=True)
    data.create()
    with Project(data.project) as other, pytest.raises(InputError, match=r"has 11 classes, but .* has 3"):
        take_back(other, export, annotator="Ada")
    given = handed.folder / "handover.json"
    whole = json.loads(given.read_text(encoding="utf-8"))
    for change, match in (
        (lambda facts: facts["images"][0].update(image_id="no"), "is about image 'no'"),
        (lambda facts: facts["images"][0].update(width=65), "of 65 x 48 pixels"),
        (lambda facts: facts["images"][0]["questions"][0].update(query_id=99), "has question 99"),
        (lambda facts: facts["images"][0]["questions"][0].update(key="0"), "question 1 is about different masks"),
        (lambda facts: facts["images"][0]["questions"][0].update(query_id=2), "question 2 is about different masks"),
        (lambda facts: facts.pop("labels"), "not as the hand-over wrote it: labels"),
        (lambda facts: facts["labels"][0].update(class_index=11), "its labels have been changed since the hand-over"),
        (lambda facts: facts.update(version=2), "not as the hand-over wrote it: version"),
    ):
        facts = json.loads(json.dumps(whole))
        change(facts)
        given.write_text(json.dumps(facts), encoding="utf-8")
        with pytest.raises(InputError, match=match) as error:
            take_back(handed.project, export, annotator="Ada")
        assert "\n" not in str(error.value)
    given.write_text(json.dumps(whole)[:-9], encoding="utf-8")
    with pytest.raises(InputError, match="not as the hand-over wrote it"):
        take_back(handed.project, export, annotator="Ada")
    assert not standing(handed.project)


def test_a_question_of_another_image_is_noticed(tiny_project, tool, tmp_path):
    (mask,) = sorted(set(largest(tiny_project, 0, 99)) & set(largest(tiny_project, 2, 99)))[:1]
    ask(tiny_project, [query(0, mask), query(2, mask)])
    hand_over(tiny_project, tmp_path / "out", tool.format)
    export = tool(tmp_path / "out").export()
    given = tmp_path / "out" / "handover.json"
    facts = json.loads(given.read_text(encoding="utf-8"))
    for image, number in zip(facts["images"], (2, 1), strict=True):
        image["questions"][0]["query_id"] = number
    given.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(InputError, match="question 2 is about different masks"):
        take_back(tiny_project, export, annotator="Ada")


def test_masks_made_anew_since_are_noticed(handed):
    export = handed.tool.export()
    record = handed.project.images[0]
    path = handed.project.folder / "masks" / f"{record.image_id}.png"
    changed = np.array(Image.open(path))
    changed[inside(handed.project, 1)] = largest(handed.project, 0, 2)[1]
    Image.fromarray(changed).save(path)
    with pytest.raises(InputError, match="the masks were generated again since"):
        take_back(handed.project, export, annotator="Ada")


def test_files_cut_short_are_told(handed):
    export = handed.tool.export({}) if handed.tool.format != "cvat-mask" else handed.tool.export()
    whole = export.read_bytes()
    export.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"not (a )?complete (JSON|XML|ZIP file)") as error:
        take_back(handed.project, export, annotator="Ada")
    assert str(export) in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(MissingFileError, match="Name the file that"):
        take_back(handed.project, export.with_name("gone.zip"), annotator="Ada")
    export.with_name("notes.txt").write_text("?")
    with pytest.raises(InputError, match=r"expected a \.json of Label Studio"):
        take_back(handed.project, export.with_name("notes.txt"), annotator="Ada")


def test_a_file_of_another_tool_is_told(project, tmp_path):
    hand_over(project, tmp_path / "out", "label-studio")
    hand_over(project, tmp_path / "cvat", "cvat-xml")
    export = LabelStudio(tmp_path / "out").export()
    with pytest.raises(InputError, match="is an export as label-studio, not as cvat-xml"):
        take_back(project, export, annotator="Ada", format="cvat-xml")
    with pytest.raises(InputError, match="but the hand-over was for cvat-xml"):
        take_back(project, export, annotator="Ada", handover=tmp_path / "cvat" / "handover.json")
    with pytest.raises(InputError, match="'confirm' is only for CVAT"):
        take_back(project, export, annotator="Ada", untouched="confirm")


def test_a_task_of_cvat_comes_back_in_either_format(project, tmp_path):
    hand_over(project, tmp_path / "out", "cvat-mask")
    hand_over(project, tmp_path / "xml", "cvat-xml")
    export = CvatXml(tmp_path / "xml").export({1: ([(inside(project, 1), "car")], None)})
    moved = shutil.copy(export, tmp_path / "out")
    assert take_back(project, Path(moved), annotator="Ada").recorded == 1


# ---- bad files of Label Studio ----------------------------------------------------------------------------------


@pytest.fixture
def studio(project, tmp_path):
    hand_over(project, tmp_path / "out", "label-studio")
    opened = LabelStudio(tmp_path / "out")

    def back(change):
        """Take back an export in which all but question 5 are submitted, changed before."""
        path = opened.export({number: (None, None) for number in (1, 2, 3, 4)})
        tasks = json.loads(path.read_text(encoding="utf-8"))
        tasks.sort(key=lambda task: task["data"]["query_id"])
        found = change(tasks)
        path.write_text(json.dumps(tasks if found is None else found), encoding="utf-8")
        return take_back(project, path, annotator="Ada")

    return back


def region(tasks, place=0):
    return tasks[place]["annotations"][0]["result"][0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda tasks: region(tasks).update(original_width=65),
            r"drawn on an image of 65 x 48 pixels, but .* has 64 x 48",
        ),
        (lambda tasks: region(tasks).update(image_rotation=90), "rotated by 90 degrees"),
        (lambda tasks: region(tasks)["value"].update(brushlabels=["dog"]), "label 'dog' was not handed over"),
        (lambda tasks: region(tasks)["value"].update(brushlabels=["sky", "car"]), "more than one label"),
        (lambda tasks: region(tasks)["value"].update(rle=region(tasks)["value"]["rle"][:-9]), "was truncated"),
        (
            lambda tasks: region(tasks)["value"].update(rle=brush_of_mask(np.ones((48, 63), bool))),
            "but the image needs",
        ),
        (lambda tasks: region(tasks)["value"].update(rle="eJw"), "a list of whole numbers"),
        (lambda tasks: region(tasks)["value"].update(format="png"), "in format 'png'"),
        (lambda tasks: region(tasks).update(type="polygonlabels"), "of type 'polygonlabels'"),
        (
            lambda tasks: region(tasks).update(type="choices", value={"choices": ["?"]}),
            "choice '\\?' was not handed over",
        ),
        (lambda tasks: region(tasks).update(type="choices", value={"choices": ["a", "b"]}), "more than one choice"),
        (lambda tasks: tasks[0].update(annotations="?"), "not a list of objects"),
        (
            lambda tasks: tasks[0]["annotations"].append(
                {"result": [{"type": "choices", "value": {"choices": ["cannot tell"]}}]}
            ),
            "2 annotations differ",
        ),
    ],
)
def test_a_bad_task_is_told_and_spoils_no_other(studio, project, change, match):
    summary = studio(change)
    assert (summary.recorded, summary.refused, summary.untouched) == (3, 1, 1)
    (message,) = summary.messages
    assert re.search(match, message) and message.startswith("Question 1: ") and "\n" not in message
    assert set(standing(project)) == {2, 3, 4}


def test_a_task_skipped_in_label_studio_is_a_skip(studio, project):
    summary = studio(lambda tasks: tasks[0]["annotations"][0].update(was_cancelled=True))
    assert (summary.recorded, summary.skipped) == (4, 1) and standing(project)[1].kind == AnswerKind.SKIP


def test_who_skipped_leaves_the_task_to_who_did_not(studio, project):
    summary = studio(lambda tasks: tasks[0]["annotations"].insert(0, {"result": [], "was_cancelled": True}))
    assert (summary.recorded, summary.skipped) == (4, 0) and standing(project)[1].kind == AnswerKind.CONFIRM


def test_two_annotators_who_agree_are_one_answer(studio):
    summary = studio(lambda tasks: tasks[0]["annotations"].append(tasks[0]["annotations"][0]))
    assert (summary.recorded, summary.refused) == (4, 0)


def test_a_region_without_a_label_says_nothing(studio, project):
    summary = studio(lambda tasks: region(tasks)["value"].pop("brushlabels") and None)
    assert summary.skipped == 1 and standing(project)[1].kind == AnswerKind.SKIP


def test_tasks_of_others_are_left_alone(studio, project):
    def add(tasks):
        tasks[3]["data"]["query_id"] = 99
        tasks.append({"id": 77, "data": {"image": "x"}, "annotations": []})
        tasks.append({"id": 78, "data": {"handover": "of another", "query_id": 1}, "annotations": []})

    summary = studio(add)
    assert (summary.recorded, summary.untouched) == (3, 2)
    assert "question 99, which was not handed over" in summary.messages[0]
    assert "2 other tasks were ignored" in summary.messages[1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tasks: {"tasks": tasks}, "expected a list of tasks"),
        (lambda tasks: [1, 2], "expected a list of tasks"),
        (lambda tasks: [{"image": "x", "class": []}], "not as JSON-MIN"),
        (lambda tasks: [task["data"].update(handover="?") for task in tasks] and None, "none of its 5 tasks belongs"),
        (lambda tasks: [{"data": {"image": "x"}}], "none of its 1 tasks belongs"),
    ],
)
def test_another_export_than_json_is_told(studio, change, match):
    with pytest.raises(InputError, match=match):
        studio(change)


def test_json_nested_without_end_is_refused(project, tmp_path):
    hand_over(project, tmp_path / "out", "label-studio")
    path = tmp_path / "out" / "deep.json"
    path.write_text("[" * 200_000, encoding="utf-8")
    with pytest.raises(InputError, match=r"nested too deeply|not complete JSON"):
        take_back(project, path, annotator="Ada")


def test_large_files_are_refused_unread(project, tmp_path, monkeypatch):
    hand_over(project, tmp_path / "out", "label-studio")
    export = LabelStudio(tmp_path / "out").export()
    monkeypatch.setattr(archive, "MAX_TEXT", 100)
    with pytest.raises(InputError, match="at most 100 are supported"):
        take_back(project, export, annotator="Ada")


# ---- bad files of CVAT ------------------------------------------------------------------------------------------


@pytest.fixture
def cvat(project, tmp_path):
    hand_over(project, tmp_path / "out", "cvat-xml")

    def back(change, name="export.xml"):
        """Take back an XML in which all are kept, changed before."""
        root = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot()
        for attribute in root.iter("attribute"):
            if attribute.get("name") == "verdict":
                attribute.text = "keep"
        data = change(root)
        data = ElementTree.tostring(root, encoding="utf-8") if data is None else data
        (tmp_path / "out" / name).write_bytes(data)
        return take_back(project, tmp_path / "out" / name, annotator="Ada")

    return back


def first_mask(root):
    return root.find("image/mask")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda root: root.find("image").set("width", "65"), "has 65 x 48 pixels, but was handed over with 64 x 48"),
        (lambda root: first_mask(root).set("label", "dog"), "label 'dog', which was not handed over"),
        (lambda root: first_mask(root).set("rle", "1, 2"), "covers 3 pixels, but its box has"),
        (lambda root: first_mask(root).set("rle", "1, x"), "not all whole numbers"),
        (lambda root: first_mask(root).set("rle", "9" * 5000), "not all whole numbers"),
        (lambda root: first_mask(root).set("left", "63"), "of an image of 64 x 48"),
        (lambda root: first_mask(root).attrib.pop("top"), "not all whole numbers"),
        (lambda root: setattr(first_mask(root).find("attribute[2]"), "text", "?"), "has the verdict '\\?'"),
        (lambda root: setattr(first_mask(root), "tag", "polygon"), "has a <polygon>; only masks are read"),
    ],
)
def test_a_bad_image_is_told_and_spoils_no_other(cvat, project, change, match):
    summary = cvat(lambda root: change(root) and None)
    assert (summary.recorded, summary.refused) == (1, 4)
    assert all(re.search(match, message) and "\n" not in message for message in summary.messages)
    assert set(standing(project)) == {2}


def test_verdicts_that_differ_are_refused(cvat):
    def change(root):
        copy = ElementTree.fromstring(ElementTree.tostring(first_mask(root)))
        copy.find("attribute[@name='verdict']").text = "cannot tell"
        root.find("image").append(copy)

    summary = cvat(change)
    assert (summary.recorded, summary.refused) == (4, 1)
    assert summary.messages == (
        "Question 1: its masks have different verdicts: cannot tell and keep. Give them the same one.",
    )


def test_unknown_questions_and_images_are_told(cvat):
    def change(root):
        first_mask(root).find("attribute[@name='query_id']").text = "99"
        ElementTree.SubElement(root, "image", name="other.png", width="3", height="3")
        ElementTree.SubElement(root.find("image"), "tag", label="sky")

    summary = cvat(change)
    assert (summary.recorded, summary.untouched) == (4, 1)
    assert "1 images that were not handed over were ignored" in summary.messages[0]
    assert "a mask of question '99', which was not handed over" in summary.messages[1]


def test_an_image_that_did_not_come_back_is_untouched(cvat, project):
    summary = cvat(lambda root: root.remove(root.findall("image")[1]))
    assert (summary.recorded, summary.untouched) == (4, 1) and 2 not in standing(project)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b'<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotations>&y;</annotations>', "document type"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><annotations/>'.encode("utf-16"), "document type"),
        (b"<annotations><image>", "not complete XML"),
        (b"\x00\x01", "not complete XML"),
        (b"<html/>", "its root is <html>"),
        (b"<annotations><track/></annotations>", "contains tracks"),
        (b"<annotations/>", "none of its 0 images"),
        (b'<annotations><image name="x.png"/></annotations>', "none of its 1 images"),
    ],
)
def test_bad_xml_is_refused(cvat, data, match):
    with pytest.raises(InputError, match=match):
        cvat(lambda root: data)


@pytest.fixture
def masks(project, tmp_path):
    hand_over(project, tmp_path / "out", "cvat-mask")

    def back(change, **options):
        """Take back the label maps as they went, with files of the ZIP changed: {name: bytes}."""
        with zipfile.ZipFile(tmp_path / "out" / "annotations.zip") as file:
            files = {name: file.read(name) for name in file.namelist()}
        change(files)
        with zipfile.ZipFile(tmp_path / "out" / "export.zip", "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in files.items():
                file.writestr(name, data)
        return take_back(project, tmp_path / "out" / "export.zip", annotator="Ada", **options)

    return back


def png(tmp_path, pixels, **save):
    path = tmp_path / "made.png"
    Image.fromarray(pixels).save(path, **save)
    return path.read_bytes()


def map_of(project, place):
    return f"SegmentationClass/{project.all_images[place].image_id}.png"


def test_bad_label_maps_are_told_and_spoil_no_other(masks, project, tmp_path):
    small, odd = np.zeros((48, 63, 3), np.uint8), np.zeros((48, 64, 3), np.uint8)
    odd[0, :7] = (1, 2, 3)
    name = map_of(project, 0)
    for data, match in (
        (png(tmp_path, small), "has 63 x 48 pixels; the image was handed over with 64 x 48"),
        (png(tmp_path, odd), r"colour \(1, 2, 3\) is not a label of its labelmap.txt"),
        (png(tmp_path, odd)[:60], f"{name}: truncated or damaged"),
        (b"no picture", f"{name}: not a readable image"),
    ):
        summary = masks(lambda files, data=data: files.update({name: data}), untouched="confirm")
        assert summary.refused == 4 and summary.recorded + summary.same == 1
        assert all(re.search(match, message) and "\n" not in message for message in summary.messages)
        assert not any(str(tmp_path / "made") in message or "map.png" in message for message in summary.messages)
    summary = masks(lambda files: files.update({"labelmap.txt": files["labelmap.txt"].replace(b"road:", b"dog:")}))
    assert summary.refused == 5 and "is label 'dog', which was not handed over" in summary.messages[0]


def test_label_maps_follow_the_colours_of_their_labelmap(masks, project, tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[inside(project, 1)] = (7, 7, 7)

    def change(files):
        files[map_of(project, 0)] = png(tmp_path, pixels)
        files["labelmap.txt"] = files["labelmap.txt"].replace(b"car:0,0,142:", b"car:7,7,7:")

    summary = masks(change)
    assert (summary.recorded, summary.skipped, summary.untouched) == (4, 3, 1)
    assert standing(project)[1].classes == (CAR,)


def test_black_is_no_label_even_where_the_labelmap_has_no_background(masks):
    change = {"labelmap.txt": b"background:0,0,0::\n"}
    summary = masks(
        lambda files: files.update({name: files[name].replace(line, b"") for name, line in change.items()}),
        untouched="confirm",
    )
    assert (summary.recorded, summary.refused) == (5, 0)


def test_label_maps_without_a_labelmap_are_read_by_the_colours_handed_over(masks):
    summary = masks(lambda files: files.pop("labelmap.txt"), untouched="confirm")
    assert (summary.recorded, summary.refused) == (5, 0)


def test_palette_label_maps_are_read_by_their_colours(masks, project, tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[inside(project, 1)] = (0, 0, 142)
    path = tmp_path / "palette.png"
    Image.fromarray(pixels).quantize(4).save(path)
    assert Image.open(path).mode == "P"
    masks(lambda files: files.update({map_of(project, 0): path.read_bytes()}))
    assert standing(project)[1].classes == (CAR,)


def test_an_image_without_a_label_map_is_untouched(masks, project):
    summary = masks(lambda files: files.pop(map_of(project, 0)), untouched="confirm")
    assert (summary.recorded, summary.untouched) == (1, 4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda files: files.update({"labelmap.txt": b"road:1,2::"}), "expected name:red,green,blue"),
        (lambda files: files.update({"labelmap.txt": b"road:1,2,999::"}), "expected name:red,green,blue"),
        (lambda files: files.update({"labelmap.txt": b"road:1,2,3::\ncar:1,2,3::"}), "two labels have the colour"),
        (lambda files: files.update({"labelmap.txt": b"\xff\xfe"}), "is not UTF-8"),
        (lambda files: [files.pop(name) for name in list(files) if "Class/" in name], "contains neither"),
        (lambda files: files.update({"../../evil.png": b""}), "points outside the archive"),
        (lambda files: files.update({"/evil.png": b""}), "points outside the archive"),
        (lambda files: files.update({"a\\..\\evil.png": b""}), "points outside the archive"),
        (lambda files: files.update({"C:evil.png": b""}), "points outside the archive"),
    ],
)
def test_bad_archives_are_refused(masks, project, change, match):
    with pytest.raises(InputError, match=match) as error:
        masks(change)
    assert "\n" not in str(error.value) and not standing(project)


def test_archives_are_bounded(masks, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    with pytest.raises(InputError, match="6 files; at most 3 are supported"):
        masks(lambda files: None)
    monkeypatch.setattr(archive, "MAX_ENTRIES", 100)
    monkeypatch.setattr(archive, "MAX_EXPANDED", 10_000)
    with pytest.raises(InputError, match="bytes; at most 10,000 are supported"):
        masks(lambda files: files.update({"bomb.png": bytes(1_000_000)}))


def test_a_file_damaged_inside_the_archive_is_told(masks, project, tmp_path):
    masks(lambda files: None)
    path = tmp_path / "out" / "export.zip"
    with zipfile.ZipFile(path) as file:
        info = file.getinfo(map_of(project, 0))
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + 20] ^= 255
    path.write_bytes(data)
    summary = take_back(project, path, annotator="Ada")
    assert summary.refused == 4 and "is damaged" in summary.messages[0]
