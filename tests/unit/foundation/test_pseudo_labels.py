"""The stage: labels and masks of a project, kept image by image, put in place whole, with where they came from."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation import pseudo_labels as module
from a2lc.creation.importer import create_project
from a2lc.creation.pseudo_labels import check_project, make_pseudo_labels, preview, recorded_commits
from a2lc.creation.pseudo_settings import PseudoSettings
from a2lc.errors import InputError, ShapeError, StageError, UnknownNameError
from a2lc.formats.base import Sources
from a2lc.foundation.compose import compose
from a2lc.foundation.packed import PackedMasks
from a2lc.foundation.segmenter import Segmenter
from a2lc.images.options import ReadingOptions
from a2lc.masks.superpixels import slic
from a2lc.project.project import Project
from a2lc.weights.catalogue import Weights
from a2lc.weights.files import Ready

from .conftest import CLASSES

SETTINGS = PseudoSettings(
    box_threshold=0.5, shortest=64, longest=96, cover_count=12, device="cpu", reduction="mean", batch=1
)


@pytest.fixture
def make(ready):
    def run(project, settings=SETTINGS, *, detector="detector", segmenter="sam2", **others):
        return make_pseudo_labels(project, settings, ready(detector), ready(segmenter), **others)

    return run


@pytest.fixture(scope="module")
def finished(scenes_dir, tmp_path_factory, ready):
    """What a run that nobody killed leaves of the project `unlabelled`, by size of batches."""
    from functools import cache

    @cache
    def find(batch):
        home = tmp_path_factory.mktemp("finished") / "u.a2lc"
        create_project(home, Sources(images=scenes_dir / "images"), CLASSES)
        with Project(home) as project, project.lock():
            make_pseudo_labels(project, replace(SETTINGS, batch=batch), ready("detector"), ready("sam2"))
        return results(home, all_files)

    return find


def all_files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Killed(BaseException):
    """Ends a process as a kill does: nothing of ours catches it."""


def results(folder, snapshot):
    """Everything that labels are made of, but for the count of images looked at now."""
    found = {}
    for name in ("labels", "masks", "pseudo", "tables"):
        found |= {f"{name}/{path}": data for path, data in snapshot(folder / name).items()}
    report = json.loads(found.pop("tables/pseudo.json"))
    report["found"].pop("looked_at")
    return found | {"report": report}


def test_labels_and_masks_are_what_was_found(project, make):
    """Each image against what is kept of it, laid over each other by hand."""
    summary = make(project)
    assert summary.images == summary.looked_at == 4 and summary.objects > 8
    row = objects = labelled = 0
    for image in project.images:
        with np.load(project.folder / "pseudo" / f"{image.image_id}.npz", allow_pickle=False) as kept:
            boxes, scores = kept["boxes"], kept["scores"]
            packed = PackedMasks(48, 64, kept["mask_boxes"], kept["mask_offsets"], kept["mask_bits"])
            composed = compose(
                packed,
                kept["classes"],
                scores,
                priorities=np.array([0, 0, 0, 2, 0]),
                ignore_index=255,
                superpixels=slic(project.pixels(image), 12),
            )
        assert scores.min() >= 0.5 and len(boxes) == len(packed) > 0
        np.testing.assert_array_equal(project.first_labels(image), composed.labels)
        np.testing.assert_array_equal(project.mask_map(image), composed.masks)
        # What the file says are the ids of the user's classes file.
        raw = project.raw_labels(image)
        for index, value in enumerate(CLASSES.file_values):
            np.testing.assert_array_equal(raw == value, composed.labels == index)
        assert (raw[composed.labels == 255] == 255).all()
        assert (composed.masks > 0).all(), "every pixel can be asked about"
        for mask in range(1, len(composed.origin) + 1):
            assert project.masks.mask_ids[row] == mask and project.masks.image[row] == image.index
            label = composed.labels[composed.masks == mask][0]
            assert project.masks.label[row] == (-1 if label == 255 else label)
            row += 1
        objects += int((composed.origin >= 0).sum())
        labelled += int((composed.labels != 255).sum())
    assert row == len(project.masks) == summary.masks
    assert (summary.objects, summary.coverage) == (objects, labelled / (4 * 48 * 64))


def test_where_labels_came_from_is_recorded(project, make, models):
    summary = make(project)
    report = json.loads((project.folder / "tables" / "pseudo.json").read_text())
    assert report["detector"]["name"] == str(models / "detector")
    assert report["detector"]["revision"].startswith("sha256:")
    assert report["settings"]["box_threshold"] == 0.5
    assert report["phrases"]["traffic light"] == ["traffic light", "light"]
    assert set(report["versions"]) == {"a2lc", "torch", "transformers"}
    assert report["overlap_rule"] == "class priority, then score, then small on top"
    assert report["found"]["masks"] == summary.masks
    assert json.loads((project.folder / "tables" / "masks.json").read_text())["method"] == "pseudo"


@pytest.mark.parametrize(("image", "batch"), [(1, 1), (2, 3), (4, 1), (4, 3)])
def test_a_killed_run_goes_on_at_the_image(unlabelled, make, finished, snapshot, monkeypatch, image, batch):
    settings = replace(SETTINGS, batch=batch)
    with Project(unlabelled) as project, project.lock():
        with monkeypatch.context() as patch:
            original, calls = Segmenter.masks_for_boxes, []

            def killed(self, *args):
                calls.append(1)
                if len(calls) == image:
                    raise Killed
                return original(self, *args)

            patch.setattr(Segmenter, "masks_for_boxes", killed)
            with pytest.raises(Killed):
                make(project, settings)
        assert len(list((unlabelled / "pseudo").glob("*.npz"))) == image - 1
        assert not project.masks.area.size, "nothing was put in place"
        summary = make(project, settings)
        assert summary.looked_at == 4 - image + 1
    assert results(unlabelled, snapshot) == finished(batch)


def test_other_rules_need_no_model(project, make, monkeypatch, snapshot, ready):
    make(project)
    before = snapshot(project.folder / "pseudo")
    monkeypatch.setattr(module, "Detector", lambda *args, **kwargs: pytest.fail("the model was loaded"))
    for change in (
        {"overlap": "size"},
        {"cover": "none"},
        {"cover_count": 30},
        {"box_threshold": 0.9},
        {"batch": 7},
    ):
        assert make(project, replace(SETTINGS, **change), replace=True).looked_at == 0, change
        assert snapshot(project.folder / "pseudo") == before
    # Looked for with other words, at a lower threshold, in other images or by other weights, it is looked for again.
    for change in ({"reduction": "max"}, {"box_threshold": 0.4}, {"nms": 0.5}, {"shortest": 80}, {"background": "sky"}):
        with pytest.raises(pytest.fail.Exception, match="the model was loaded"):
            make(project, replace(SETTINGS, **change), replace=True)
    for name in ({"segmenter": "sam"}, {"detector": "short"}):
        with pytest.raises(pytest.fail.Exception, match="the model was loaded"):
            make(project, **name, replace=True)


def test_a_higher_threshold_gives_what_it_would_have_given_at_once(unlabelled, make, snapshot, tmp_path):
    import shutil

    other = tmp_path / "other.a2lc"
    shutil.copytree(unlabelled, other)
    high = replace(SETTINGS, box_threshold=0.9)
    with Project(unlabelled) as project, project.lock():
        low = make(project)
        first = make(project, high, replace=True)
    with Project(other) as project, project.lock():
        second = make(project, high)
    assert low.objects > first.objects
    assert replace(first, looked_at=4) == second
    for kind in ("labels", "masks"):
        assert snapshot(unlabelled / kind) == snapshot(other / kind)


def test_damaged_and_foreign_results_are_found_again(project, make, snapshot):
    make(project)
    before = snapshot(project.folder / "pseudo")
    paths = sorted((project.folder / "pseudo").glob("*.npz"))
    paths[0].write_bytes(paths[0].read_bytes()[:200])
    paths[1].write_bytes(paths[2].read_bytes())  # of another image
    paths[3].write_bytes(b"")
    assert make(project, replace=True).looked_at == 3
    assert snapshot(project.folder / "pseudo") == before


def test_few_images_are_in_memory_at_once(scenes_dir, tmp_path, make, monkeypatch):
    """Decoded ahead are two groups at most, however many images there are."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(30):
        Image.fromarray(np.full((24, 36, 3), number, dtype=np.uint8)).save(images / f"{number:02d}.png")
    create_project(tmp_path / "many.a2lc", Sources(images=images), CLASSES)
    decoded, seen, most = set(), set(), []
    lock = threading.Lock()
    original, write = module.image_pixels, module.write_found

    def read(project, image):
        with lock:
            decoded.add(image.index)
            most.append(len(decoded - seen))
        return original(project, image)

    def written(path, *args):
        with lock:
            seen.add(int(path.stem))
        return write(path, *args)

    monkeypatch.setattr(module, "image_pixels", read)
    monkeypatch.setattr(module, "write_found", written)
    settings = replace(SETTINGS, cover="none", box_threshold=0.0)
    with Project(tmp_path / "many.a2lc") as project, project.lock():
        for batch, bound in ((1, 3), (4, 12)):
            decoded.clear(), seen.clear(), most.clear()
            make(project, replace(settings, batch=batch, nms=0.9 - batch / 100), replace=True)
            assert len(seen) == 30 and max(most) <= bound


def test_sizes_are_not_mixed_in_a_batch(tmp_path, make):
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("a", (24, 36)), ("b", (36, 24)), ("c", (24, 36)), ("d", (20, 36))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(images / f"{name}.png")
    counts = []
    for batch in (1, 8):
        create_project(tmp_path / f"{batch}.a2lc", Sources(images=images), CLASSES)
        with Project(tmp_path / f"{batch}.a2lc") as project, project.lock():
            make(project, replace(SETTINGS, batch=batch))
            counts.append([len(np.unique(project.mask_map(image))) for image in project.images])
            assert project.mask_map(project.images[1]).shape == (36, 24)
    assert counts[0] == counts[1]


def test_background_and_no_cover(project, make):
    make(project, replace(SETTINGS, background="sky", cover="none", box_threshold=0.97))
    sky = 0
    for image in project.images:
        labels, masks = project.first_labels(image), project.mask_map(image)
        assert (labels != 255).all()
        assert (labels[masks == 0] == 4).all() and not (labels[masks > 0] == 4).any(), "it is not looked for"
        sky += int((masks == 0).sum())
    assert sky
    make(project, replace(SETTINGS, background="sky", box_threshold=0.97), replace=True)
    for image in project.images:
        assert (project.mask_map(image) > 0).all()
    assert (project.masks.label == 4).any()
    with pytest.raises(UnknownNameError, match="Unknown class 'ski'"):
        make(project, replace(SETTINGS, background="ski"), replace=True)


def test_nothing_found(project, make, monkeypatch):
    from a2lc.foundation import detector

    original = detector.class_scores
    monkeypatch.setattr(detector, "class_scores", lambda *args: original(*args) / 2)
    high = replace(SETTINGS, box_threshold=0.75)
    with pytest.raises(InputError, match=r"the detector found nothing with a score of at least 0\.75\. Lower"):
        make(project, replace(high, cover="none"))
    assert not (project.folder / "tables" / "pseudo.json").exists()
    summary = make(project, high)
    assert (summary.objects, summary.empty, summary.coverage) == (0, 4, 0.0)
    assert summary.never_found == list(CLASSES.names) and summary.masks > 4


def test_ground_truth_goes_along(scenes_dir, tmp_path, make):
    from a2lc.demo.looks import scene_classes

    sources = Sources(images=scenes_dir / "images", ground_truth=scenes_dir / "ground_truth")
    create_project(tmp_path / "t.a2lc", sources, scene_classes())
    with Project(tmp_path / "t.a2lc") as project, project.lock():
        make(project)
        pixels = right = 0
        for image in project.images:
            labels, truth = project.first_labels(image), project.truth.pixels(image)
            both = (labels != 255) & (truth != 255)
            pixels, right = pixels + both.sum(), right + (labels == truth)[both].sum()
        found = project.truth.confusion(project.state())
        assert found.pixel_accuracy == pytest.approx(right / pixels)


def test_values_that_are_read_as_others(scenes_dir, tmp_path, make):
    sources = Sources(images=scenes_dir / "images")
    create_project(tmp_path / "m.a2lc", sources, CLASSES, ReadingOptions(value_map={7: 255, 50: 7}))
    with Project(tmp_path / "m.a2lc") as project, project.lock():
        make(project)
        image = project.images[0]
        np.testing.assert_array_equal(project.raw_labels(image) == 50, project.first_labels(image) == 0)
        assert any((project.first_labels(image) == 0).any() for image in project.images)
    create_project(tmp_path / "n.a2lc", sources, CLASSES, ReadingOptions(value_map={7: 255}))
    with (
        Project(tmp_path / "n.a2lc") as project,
        project.lock(),
        pytest.raises(InputError, match="value_map leaves no value that is read as 7"),
    ):
        make(project)


# ---- refusals and kills ------------------------------------------------------------------------------------------


def test_labels_that_are_there_stay_unless_told(tiny_project_dir, project, make, snapshot):
    with Project(tiny_project_dir) as other, other.lock():
        before = snapshot(tiny_project_dir)
        with pytest.raises(InputError, match=r"has labels already\. Set `replace` to overwrite them"):
            make(other)
        assert snapshot(tiny_project_dir) == before
        make(other, replace=True)
    make(project)
    with pytest.raises(InputError, match="has labels already"):
        make(project)


def test_masks_that_are_there_stay_unless_told(project, make):
    from a2lc.creation.masks import make_masks

    make_masks(project, "grid", size=16)
    with pytest.raises(InputError, match="has 48 masks already"):
        make(project)
    assert make(project, replace=True).masks == len(project.masks) != 48


def test_after_a_round_was_opened_labels_stay(project, make):
    project.ledger.open_round(0, method="a2lc", config={}, model="m", seed=0, versions={"a2lc": "0"})
    with pytest.raises(StageError, match="has rounds already, and its ledger refers to masks by number"):
        make(project, replace=True)
    with pytest.raises(StageError):
        check_project(project, replace=True)


def test_classes_that_were_changed(project, make):
    # Label files are read by the classes the project was made with.
    project.classes = ClassTable.from_names([*CLASSES.names, "bus"])
    with pytest.raises(StageError, match=r"classes of .* have changed since it was created"):
        make(project)


def test_settings_out_of_range(project, make):
    for change, message in (
        ({"box_threshold": 1.2}, r"`box_threshold` is 1\.2; expected 0 to 1"),
        ({"nms": -1}, "`nms` is -1; expected 0 to 1"),
        ({"cover_count": 0}, r"`cover_count` is 0; expected 1 to 65,535"),
        ({"batch": 0}, "`batch` is 0; expected at least 1"),
        ({"shortest": 2000}, "`shortest` is 2000 and `longest` is 96"),
    ):
        with pytest.raises(InputError, match=message):
            make(project, replace(SETTINGS, **change))
    for change in ({"overlap": "scor"}, {"cover": "slik"}, {"reduction": "mode"}):
        with pytest.raises(UnknownNameError):
            make(project, replace(SETTINGS, **change))


def test_an_image_that_was_exchanged(project, make):
    path = project.image_path(project.images[2])
    kept = path.read_bytes()
    try:
        Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(path)
        with pytest.raises(ShapeError, match="is 30 x 20 pixels, but was 64 x 48 when the project was created"):
            make(project)
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize("step", range(1, 8))
def test_killed_while_labels_take_their_place_is_mended(unlabelled, make, finished, snapshot, monkeypatch, step):
    """Folders and tables move one after the other; whoever opens the project next moves the rest."""
    original = Project.install_masks

    def install(self):
        calls = []

        def stop(call):
            def one(*args):
                calls.append(1)
                if len(calls) == step:
                    raise Killed
                return call(*args)

            return one

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop(os.replace))
            patch.setattr(type(self.folder), "rmdir", stop(type(self.folder).rmdir))
            original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Project, "install_masks", install)
        with Project(unlabelled) as project:
            if step == 7:  # five moves and a folder taken away
                with project.lock():
                    make(project)
            else:
                with project.lock(), pytest.raises(Killed):
                    make(project)
    with Project(unlabelled) as project, project.lock():
        if step < 7:
            assert project.mended_masks is not None
            assert make(project).looked_at == 0, "the same command only says what came of it"
    assert results(unlabelled, snapshot) == finished(1)


# ---- preview, commits --------------------------------------------------------------------------------------------


def test_a_preview_changes_nothing_and_is_gone_on_from(project, make, ready, snapshot):
    before = snapshot(project.folder)
    path = preview(project, SETTINGS, ready("detector"), ready("sam2"), 2)
    after = snapshot(project.folder)
    new = {name for name in after if name not in before}
    assert new == {"pseudo/preview.png", *(f"pseudo/{image.image_id}.npz" for image in project.images[:2])}
    assert {name: data for name, data in after.items() if name not in new} == before
    picture = np.asarray(Image.open(path))
    assert picture.shape == (2 * (360 + 18), 960, 3) and len(np.unique(picture[:378, 480:].reshape(-1, 3), axis=0)) > 5
    assert make(project).looked_at == 2
    with pytest.raises(InputError, match="`preview` is 0; expected at least 1 image"):
        preview(project, SETTINGS, ready("detector"), ready("sam2"), 0)


def test_commits_are_remembered(project, make, ready, models, tmp_path):
    here = [
        Ready(weights=Weights(name="own/" + name, job=job, revision=40 * digit), folder=models / name)
        for name, job, digit in (("detector", "detector", "a"), ("sam2", "segmenter", "b"))
    ]
    assert recorded_commits(project.folder) == {}
    make_pseudo_labels(project, SETTINGS, *here)
    assert recorded_commits(project.folder) == {"own/detector": 40 * "a", "own/sam2": 40 * "b"}
    report = json.loads((project.folder / "tables" / "pseudo.json").read_text())
    assert report["detector"]["revision"] == 40 * "a"
    (project.folder / "pseudo" / "weights.json").write_text("{")
    with pytest.raises(InputError, match=r"weights\.json: not valid JSON\. Delete it"):
        recorded_commits(project.folder)


def test_time_and_room_are_told(project, make):
    said: list[str] = []
    make(project, say=said.append)
    assert said == [], "four images are done before there is anything to tell"


def test_time_and_room_of_many_images(tmp_path, make):
    images = tmp_path / "images"
    images.mkdir()
    for number in range(12):
        Image.fromarray(np.full((24, 36, 3), number, dtype=np.uint8)).save(images / f"{number:02d}.png")
    create_project(tmp_path / "many.a2lc", Sources(images=images), CLASSES)
    said: list[str] = []
    with Project(tmp_path / "many.a2lc") as project, project.lock():
        make(project, replace(SETTINGS, cover="none"), say=said.append)
    (line,) = said
    assert line.startswith("10 images took ") and " for the remaining 2, and 0." in line and "MB in" in line
