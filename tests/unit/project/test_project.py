from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import yaml

import a2lc
from a2lc.errors import (
    ConfigError,
    ImageFileError,
    InputError,
    LedgerError,
    LockedError,
    MissingFileError,
    NewerProjectError,
    UnknownNameError,
)
from a2lc.ledger import FIRST
from a2lc.project.project import Project
from a2lc.records import Source


def test_the_package_names_it():
    assert issubclass(a2lc.Project, Project)


def test_a_project_by_text_or_path_or_relative(tiny_project_dir, monkeypatch):
    monkeypatch.chdir(tiny_project_dir.parent)
    for place in (str(tiny_project_dir), tiny_project_dir, Path("template.a2lc")):
        with Project(place) as project:
            assert project.folder == tiny_project_dir
            assert len(project.images) == 4


def test_state_and_corrected_labels_follow_the_ledger(tiny_project):
    image = tiny_project.images[1]
    first = tiny_project.first_labels(image)
    mask = int(tiny_project.masks.mask_ids[tiny_project.masks.image == image.index][0])
    new = (int(first[tiny_project.mask_map(image) == mask][0]) + 1) % 11
    for number in (1, 2):
        tiny_project.ledger.open_round(number, method="m", config={}, model="", seed=0, versions={})
    tiny_project.ledger.add_corrections(
        2, Source.AUTOMATIC, np.array([1]), np.array([mask]), np.array([FIRST]), np.array([new]),
        confidences=np.ones(1), model="m",
    )  # fmt: skip
    found = tiny_project.corrected_labels(image)
    inside = tiny_project.mask_map(image) == mask
    assert (found[inside] == new).all()
    np.testing.assert_array_equal(found[~inside], first[~inside])
    np.testing.assert_array_equal(tiny_project.corrected_labels(image.image_id, through=1), first)
    np.testing.assert_array_equal(tiny_project.first_labels(image), first, "first labels are never rewritten")
    for other in (0, 2, 3):
        record = tiny_project.images[other]
        np.testing.assert_array_equal(tiny_project.corrected_labels(record), tiny_project.first_labels(record))
    assert (tiny_project.state().classes != FIRST).sum() == 1


# ---- what is missing or damaged ----------------------------------------------------------------------------------


def test_no_project(tmp_path):
    with pytest.raises(
        MissingFileError, match=r"There is no project at .*: project.yaml is missing. Create one with: a2lc init"
    ):
        Project(tmp_path)


def test_newer_project(tiny_project_dir):
    path = tiny_project_dir / "project.yaml"
    data = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**data, "format_version": 7, "created_by": "a2lc 3.0"}))
    with pytest.raises(
        NewerProjectError, match=r"format version 7, written by a2lc 3.0; this a2lc reads versions up to 1"
    ):
        Project(tiny_project_dir)


def test_newer_ledger(tiny_project_dir):
    with sqlite3.connect(tiny_project_dir / "ledger.sqlite") as connection:
        connection.execute("INSERT INTO schema_versions VALUES (99)")
    with pytest.raises(NewerProjectError, match="schema version 99, but this a2lc knows versions up to"):
        Project(tiny_project_dir)


def test_missing_ledger_is_not_made_anew(tiny_project_dir):
    (tiny_project_dir / "ledger.sqlite").unlink()
    with pytest.raises(
        MissingFileError, match=r"ledger\.sqlite is missing: it holds all answers. Restore it from a copy"
    ):
        Project(tiny_project_dir)
    assert not (tiny_project_dir / "ledger.sqlite").exists()


def test_empty_ledger_is_not_taken_for_a_new_one(tiny_project_dir):
    (tiny_project_dir / "ledger.sqlite").write_bytes(b"")
    with pytest.raises(LedgerError, match=r"ledger\.sqlite is empty: it held all answers. Restore it from a copy"):
        Project(tiny_project_dir)
    assert (tiny_project_dir / "ledger.sqlite").read_bytes() == b""


def test_damaged_ledger(tiny_project_dir):
    (tiny_project_dir / "ledger.sqlite").write_bytes(b"not a database at all, whatever its name may say " * 30)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite cannot be read as a ledger: "):
        Project(tiny_project_dir)


def test_classes_that_went_bad(tiny_project_dir):
    path = tiny_project_dir / "project.yaml"
    data = yaml.safe_load(path.read_text())
    data["classes"]["classes"][1]["name"] = data["classes"]["classes"][0]["name"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"project\.yaml: classes: two classes have the name 'sky'"):
        Project(tiny_project_dir)


@pytest.mark.parametrize(
    ("kind", "read"), [("labels", "first_labels"), ("masks", "mask_map"), ("ground_truth", "truth.pixels")]
)
def test_missing_maps(tiny_project, kind, read):
    image = tiny_project.images[0]
    (tiny_project.folder / kind / f"{image.image_id}.png").unlink()
    with pytest.raises(MissingFileError, match=rf"{kind}/{image.image_id}\.png is missing: .* Restore it from a copy"):
        attrgetter(read)(tiny_project)(image)


def test_missing_table(tiny_project):
    (tiny_project.folder / "tables" / "masks.parquet").unlink()
    with pytest.raises(MissingFileError, match=r"masks\.parquet is missing: the project folder is damaged"):
        tiny_project.masks


def test_image_that_is_gone_or_damaged(tiny_project):
    path = tiny_project.image_path(tiny_project.images[0])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ImageFileError, match=r"scene_00000\.png: "):
        tiny_project.pixels(tiny_project.images[0])
    path.unlink()
    message = (
        r"Image .*data/images/train/scene_00000\.png is missing. Restore it, or correct `sources` in .*project\.yaml"
    )
    with pytest.raises(MissingFileError, match=message):
        tiny_project.pixels(tiny_project.images[0])


def test_no_ground_truth(make_dataset):
    data = make_dataset(("a",))
    data.create()
    with Project(data.project) as project:
        assert not project.has_ground_truth
        with pytest.raises(
            InputError, match=r"no ground truth, .* Set `annotator` to human, or create the project with `ground_truth`"
        ):
            project.truth.table


def test_image_by_name(tiny_project):
    assert tiny_project.record("scene_00001").index == 1
    with pytest.raises(UnknownNameError, match=r"Unknown image 'scene_0001'. Did you mean 'scene_00001'\?"):
        tiny_project.record("scene_0001")


# ---- the lock ----------------------------------------------------------------------------------------------------

HOLD = """
import sys
from a2lc.project import Project
with Project(sys.argv[1]) as project, project.lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_names_its_holder_and_ends_with_it(tiny_project):
    env = {**os.environ, "PYTHONPATH": str(Path(a2lc.__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tiny_project.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    )
    try:
        assert holder.stdout.readline().strip() == b"held"
        message = (
            rf"template\.a2lc is being changed by process {holder.pid} of .+ on .+, since 20.+ Wait for it, or end"
        )
        with pytest.raises(LockedError, match=message), tiny_project.lock():
            pass
        assert (tiny_project.folder / ".lock.json").exists(), "the one told leaves the holder's note alone"
        assert len(tiny_project.images) == 4, "reading is free for all"
    finally:
        holder.kill()  # as if it had crashed: nothing is tidied up
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with tiny_project.lock():
        assert json.loads((tiny_project.folder / ".lock.json").read_text())["pid"] == os.getpid()
    assert not (tiny_project.folder / ".lock.json").exists()


def test_the_lock_is_let_go_after_an_error(tiny_project):
    with pytest.raises(KeyError), tiny_project.lock():
        raise KeyError
    with tiny_project.lock():
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), Project(tiny_project.folder).lock():
            pass
        (tiny_project.folder / ".lock.json").write_text("{")
        with (
            pytest.raises(LockedError, match="is being changed by another process"),
            Project(tiny_project.folder).lock(),
        ):
            pass


def test_what_class_indices_stand_for_cannot_be_edited_but_names_can(tiny_project_dir, tmp_path):
    import shutil

    import yaml

    from a2lc.errors import ConfigError

    folder = tmp_path / "p.a2lc"
    shutil.copytree(tiny_project_dir, folder)
    text = (folder / "project.yaml").read_text()
    data = yaml.safe_load(text)
    data["classes"]["classes"][0]["name"] = "heaven"
    (folder / "project.yaml").write_text(yaml.safe_dump(data))
    with Project(folder) as project:
        assert project.classes.names[0] == "heaven"
    data["classes"]["classes"].reverse()
    (folder / "project.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError, match=r"ids was .* and is now .*Restore the old value"):
        Project(folder)


def test_two_imports_of_one_folder_do_not_meet(tmp_path):
    from a2lc.errors import LockedError
    from a2lc.io.files import new_folder

    with new_folder(tmp_path / "x") as partial:
        partial.mkdir()
        with pytest.raises(LockedError, match="Another process is creating"), new_folder(tmp_path / "x"):
            pass
        (partial / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["x"] and (tmp_path / "x/file").exists()
