"""Masks of a project are made whole or not at all, whatever kills the process."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from a2lc.creation import masks
from a2lc.creation.importer import create_project
from a2lc.creation.masks import MASK_METHODS, make_masks
from a2lc.demo.looks import scene_classes
from a2lc.errors import InputError, LockedError, ShapeError, StageError, UnknownNameError
from a2lc.formats.base import Sources
from a2lc.masks.components import component_masks
from a2lc.masks.superpixels import grid
from a2lc.project.mask_swap import MADE_MASKS
from a2lc.project.project import Project


def made(folder, method="grid", **settings):
    with Project(folder) as project, project.lock():
        return make_masks(project, method, **settings)


def check_agree(folder):
    """The tables are those of the mask maps that are there, and nothing is left of making them."""
    with Project(folder) as project:
        row = 0
        for image in project.images:
            masks, labels = project.mask_map(image), project.first_labels(image)
            for mask in sorted(set(masks.ravel().tolist()) - {0}):
                assert (project.masks.image[row], project.masks.mask_ids[row]) == (image.index, mask)
                assert project.masks.area[row] == (masks == mask).sum()
                pairs = project.masks.pair_row == row
                values, counts = np.unique(labels[masks == mask], return_counts=True)
                found = dict(
                    zip(
                        project.masks.pair_label[pairs].tolist(), project.masks.pair_pixels[pairs].tolist(), strict=True
                    )
                )
                assert found == {
                    -1 if v == project.classes.ignore_index else v: c
                    for v, c in zip(values.tolist(), counts.tolist(), strict=True)
                }
                row += 1
        assert row == len(project.masks)
        if project.has_ground_truth:
            assert project.truth.table.row.max() == row - 1
            assert project.truth.table.pixels.sum() == sum(image.width * image.height for image in project.images)
            right = project.truth.table.pixels[
                (project.truth.table.label == project.truth.table.truth) & (project.truth.table.label >= 0)
            ].sum()
            both = sum(
                ((a := project.first_labels(i)) == project.truth.pixels(i))[a != project.classes.ignore_index].sum()
                for i in project.images
            )
            assert right == both
        names = {path.name for path in project.folder.iterdir()}
        names -= {"ledger.sqlite-wal", "ledger.sqlite-shm"}  # of the open ledger
        assert names <= {"project.yaml", "ledger.sqlite", "labels", "masks", "ground_truth", "tables", ".lock"}
        return row


@pytest.fixture
def unlabelled(scenes_dir, tmp_path):
    """A project without labels and masks."""
    sources = Sources(images=scenes_dir / "images", ground_truth=scenes_dir / "ground_truth")
    create_project(tmp_path / "u.a2lc", sources, scene_classes())
    return tmp_path / "u.a2lc"


@pytest.mark.parametrize("method", ["seeds", "slic", "grid"])
def test_masks_of_a_project_without_labels(unlabelled, method):
    if method == "seeds":
        pytest.importorskip("cv2")
    number = made(unlabelled, method, count=40, size=9)
    assert number == check_agree(unlabelled)
    assert 4 * 20 < number < 4 * 60
    with Project(unlabelled) as project:
        assert (project.masks.label == -1).all()
        assert (np.bincount(project.masks.image, weights=project.masks.area) == 48 * 64).all(), "every pixel has one"
        if method == "grid":
            np.testing.assert_array_equal(project.mask_map(project.images[2]), grid(48, 64, 9))


def test_components_of_the_labels(tiny_project_dir):
    number = made(tiny_project_dir, "components", replace=True)
    assert number == check_agree(tiny_project_dir)
    with Project(tiny_project_dir) as project:
        image = project.images[1]
        np.testing.assert_array_equal(project.mask_map(image), component_masks(project.first_labels(image)))


def test_an_open_project_goes_on_with_the_new_masks(tiny_project):
    before = len(tiny_project.masks), tiny_project.truth.table.row.max()
    with tiny_project.lock():
        number = make_masks(tiny_project, "grid", size=8, replace=True)
    assert number == len(tiny_project.masks) == 4 * 48 != before[0]
    assert tiny_project.truth.table.row.max() == number - 1 != before[1]
    assert tiny_project.state().classes.shape == (number,)
    assert (
        tiny_project.corrected_labels(tiny_project.images[0]) == tiny_project.first_labels(tiny_project.images[0])
    ).all()


def test_classes_that_were_merged(tiny_project_dir):
    """Tables hold classes as imported: what was merged since is one label, and two again when that is taken back."""
    from a2lc.classes.edits import merged, taken_back

    def labels():
        with Project(tiny_project_dir) as project:
            return set(project.masks.pair_label.tolist()), project.truth.confusion(project.state()).miou

    made(tiny_project_dir, size=16, replace=True)
    before = labels()
    with Project(tiny_project_dir) as project, project.lock():
        project.edit_classes(merged(project.view, ["car", "tree"], "road"))
    after = labels()
    assert len(after[0]) == len(before[0]) - 2
    made(tiny_project_dir, size=16, replace=True)
    assert labels() == after
    check_agree(tiny_project_dir)
    with Project(tiny_project_dir) as project, project.lock():
        project.edit_classes(taken_back(project.ledger.class_edits()))
    assert labels() == before
    check_agree(tiny_project_dir)


def test_without_ground_truth(make_dataset):
    data = make_dataset()
    data.create()
    assert made(data.project, size=4, replace=True) == check_agree(data.project) == 3 * 6
    assert not (data.project / "tables" / "truth.parquet").exists()


def test_making_is_shown(tiny_project):
    from contextlib import contextmanager

    seen = []

    @contextmanager
    def track(what, total):
        seen.append((what, total))
        yield lambda: seen.append(1)

    with tiny_project.lock():
        make_masks(tiny_project, "grid", track=track, replace=True)
    assert seen == [("making masks", 4), 1, 1, 1, 1]


# ---- refusals ----------------------------------------------------------------------------------------------------


def refused(folder, snapshot, error, message, method="grid", **settings):
    before = snapshot(folder)
    with pytest.raises(error, match=message) as caught:
        made(folder, method, **settings)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)
    after = snapshot(folder)
    assert {k: v for k, v in after.items() if k != ".lock"} == {k: v for k, v in before.items() if k != ".lock"}


def test_masks_that_are_there_stay_unless_told(tiny_project_dir, snapshot):
    with Project(tiny_project_dir) as project:
        number = len(project.masks)
    message = rf"has {number:,} masks already\. Set `replace` to overwrite them\.$"
    refused(tiny_project_dir, snapshot, InputError, message)
    made(tiny_project_dir, size=16, replace=True)
    refused(tiny_project_dir, snapshot, InputError, r"has 48 masks already\. Set `replace`", size=16)


def test_after_a_round_was_opened_masks_stay(tiny_project_dir, snapshot):
    with Project(tiny_project_dir) as project:
        project.ledger.open_round(0, method="a2lc", config={}, model="m", seed=0, versions={"a2lc": "0"})
    message = r"has rounds already, and its ledger refers to masks by number, so they cannot be replaced"
    refused(tiny_project_dir, snapshot, StageError, message, replace=True)


def test_unknown_method(tiny_project_dir, snapshot):
    refused(tiny_project_dir, snapshot, UnknownNameError, "Unknown mask method 'seed'. Did you mean 'seeds'", "seed")
    assert set(MASK_METHODS) == {"seeds", "slic", "grid", "components", "sam"}


def test_settings_out_of_range(tiny_project_dir, snapshot):
    refused(tiny_project_dir, snapshot, InputError, "side of the squares is 0", size=0, replace=True)
    refused(tiny_project_dir, snapshot, InputError, "70,000 superpixels per image", "slic", count=70000, replace=True)


def test_components_of_no_labels(unlabelled, snapshot):
    message = "No masks were found: the labels carry no class. Create masks from the images instead: `method` seeds"
    refused(unlabelled, snapshot, InputError, message, "components")


def test_more_components_than_a_mask_map_can_number(unlabelled, snapshot, monkeypatch):
    monkeypatch.setattr(masks, "MAX_MASKS", 30)
    refused(unlabelled, snapshot, InputError, r"\.png: 48 masks; at most 30 fit a 16-bit mask map", size=8)


def test_an_image_that_was_exchanged(tiny_project_dir, snapshot):
    with Project(tiny_project_dir) as project:
        path = project.image_path(project.images[1])
    Image.fromarray(np.zeros((20, 30, 3), dtype=np.uint8)).save(path)
    message = r"is 30 x 20 pixels, but was 64 x 48 when the project was created\. Restore the original image\."
    refused(tiny_project_dir, snapshot, ShapeError, message, "slic", replace=True)


# ---- kills -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a process as a kill does: nothing of ours catches it."""


def killed_at(monkeypatch, module, name, call):
    """Have a function killed when it is called for the n-th time, before it does anything."""
    original = getattr(module, name)
    calls = []

    def killed(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, killed)


@pytest.mark.parametrize(
    ("name", "call"),
    [("write_ids", 1), ("write_ids", 3), ("mask_columns", 4), ("mask_tables", 1), ("write_text", 1)],
)
@pytest.mark.parametrize("tidied", [True, False])
def test_killed_before_all_is_complete_leaves_the_old_masks(
    tiny_project_dir, snapshot, monkeypatch, name, call, tidied
):
    before = snapshot(tiny_project_dir)
    with monkeypatch.context() as patch:
        if not tidied:
            patch.setattr(masks.shutil, "rmtree", lambda *args, **kwargs: None)  # a kill runs no `finally`
        killed_at(patch, masks, name, call)
        with pytest.raises(Killed):
            made(tiny_project_dir, size=8, replace=True)
    assert (tiny_project_dir / ".masks.partial").exists() != tidied
    after = snapshot(tiny_project_dir)
    assert {k: v for k, v in after.items() if not k.startswith((".masks.partial/", ".lock"))} == before
    with Project(tiny_project_dir) as project:
        assert project.mended_masks is None
    assert made(tiny_project_dir, size=8, replace=True) == check_agree(tiny_project_dir) == 192


def test_killed_before_they_take_their_place_leaves_the_old_masks(tiny_project_dir, snapshot, monkeypatch):
    before, original = snapshot(tiny_project_dir), os.replace

    def replace(source, target):
        if str(target).endswith(MADE_MASKS):
            raise Killed
        original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            made(tiny_project_dir, size=8, replace=True)
    assert {k: v for k, v in snapshot(tiny_project_dir).items() if k != ".lock"} == before


STEPS = [("rmtree", 1), ("replace", 1), ("replace", 2), ("replace", 3), ("replace", 4), ("rmdir", 1)]


def killed_while_installing(folder, monkeypatch, step, call, **settings):
    """Kill the process at a step of putting the new masks in place."""
    original = Project.install_masks

    def install(self):
        owner = {"rmtree": shutil, "replace": os, "rmdir": type(folder)}[step]
        with monkeypatch.context() as patch:
            killed_at(patch, owner, step, call)
            original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Project, "install_masks", install)
        with pytest.raises(Killed):
            made(folder, **settings)
    assert (folder / MADE_MASKS).is_dir()


@pytest.mark.parametrize(("step", "call"), STEPS)
def test_killed_while_they_take_their_place_is_mended_by_opening(tiny_project_dir, monkeypatch, step, call):
    killed_while_installing(tiny_project_dir, monkeypatch, step, call, size=8, replace=True)
    assert check_agree(tiny_project_dir) == 192


@pytest.mark.parametrize(("step", "call"), STEPS)
@pytest.mark.parametrize("replace", [True, False])
def test_the_same_command_ends_what_was_killed(unlabelled, monkeypatch, step, call, replace):
    killed_while_installing(unlabelled, monkeypatch, step, call, size=8, replace=replace)
    assert made(unlabelled, size=8, replace=replace) == check_agree(unlabelled) == 192


def test_killed_twice(tiny_project_dir, monkeypatch):
    killed_while_installing(tiny_project_dir, monkeypatch, "replace", 1, size=8, replace=True)
    with monkeypatch.context() as patch:
        killed_at(patch, os, "replace", 3)  # the lock's own file is the first
        with pytest.raises(Killed):
            Project(tiny_project_dir)
    assert (tiny_project_dir / MADE_MASKS).is_dir()
    assert check_agree(tiny_project_dir) == 192


def test_another_command_than_the_killed_one_is_not_taken_for_it(unlabelled, monkeypatch):
    killed_while_installing(unlabelled, monkeypatch, "replace", 2, size=8)
    with pytest.raises(InputError, match="has 192 masks already"):
        made(unlabelled, size=16)
    assert made(unlabelled, size=16, replace=True) == check_agree(unlabelled) == 48


def test_nobody_reads_while_masks_take_their_place(tiny_project_dir, monkeypatch):
    original, seen = Project.install_masks, []

    def install(self):
        with pytest.raises(LockedError, match="is being changed by process"):
            Project(tiny_project_dir)
        seen.append(1)
        original(self)

    monkeypatch.setattr(Project, "install_masks", install)
    made(tiny_project_dir, size=8, replace=True)
    assert seen
