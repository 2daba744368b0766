"""`a2lc pseudo` and `a2lc masks --method sam` as commands: one line from images and names to labels, and to a round."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from a2lc.cli import app
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.project.project import Project
from a2lc.weights.catalogue import KNOWN


def run(*arguments):
    with pytest.raises(SystemExit) as exit:
        app.main([str(a) for a in arguments])
    return exit.value.code or 0


@pytest.fixture
def pseudo(models, tmp_path):
    """Run `a2lc pseudo` with tiny models; its exit code."""

    def command(*more, folder="p.a2lc"):
        return run(
            "pseudo",
            tmp_path / folder,
            *("--detector", models / "detector", "--segmenter", models / "sam2", "--device", "cpu"),
            *("--box-threshold", 0.5, "--shortest", 64, "--longest", 96, "--cover-count", 12, *more),
        )

    return command


@pytest.fixture
def classes(tmp_path):
    path = tmp_path / "classes.json"
    rows = [{"name": name, "synonyms": ["van"]} if name == "car" else {"name": name} for name in scene_classes().names]
    path.write_text(json.dumps({"classes": rows}))
    return path


def test_from_images_and_names_to_a_round(pseudo, tmp_path, scenes_dir, classes, capsys, models):
    """No labels, no masks: one command makes them, the next runs a round on them."""
    images = ("--images", scenes_dir / "images", "--classes", classes)
    assert pseudo(*images, "--preview", 2) == 0
    out = capsys.readouterr().out
    assert f"detector: your folder {models / 'detector'}" in out and "preview.png; the project was not changed" in out
    assert pseudo(*images) == 0, "the same command goes on with the project it made"
    out = capsys.readouterr().out
    assert "masks in 4 images, " in out and "% of pixels are labeled" in out
    assert out.splitlines()[-1] == f"next: a2lc run {tmp_path / 'p.a2lc'}"
    with Project(tmp_path / "p.a2lc") as project:
        assert project.classes.prompts(6) == ("car", "van")
        before = [project.first_labels(image) for image in project.images]
        assert any((labels != 255).any() for labels in before)
    assert pseudo() == 2
    assert "has labels already. Set `replace`" in capsys.readouterr().err
    assert pseudo("--replace", "--overlap", "size", "--background", "sky") == 0
    capsys.readouterr()


def test_a_round_on_pseudo_labels(pseudo, tmp_path, capsys):
    write_scenes(tmp_path / "s", SceneSettings(images=6, validation_images=2, height=48, width=64, seed=5))
    names = ",".join(scene_classes().names)
    place = tmp_path / "r.a2lc"
    sources = ("--images", tmp_path / "s" / "images", "--ground-truth", tmp_path / "s" / "ground_truth")
    assert run("init", place, *sources, "--classes", names) == 0
    assert pseudo(folder="r.a2lc") == 0
    out = capsys.readouterr().out
    assert "data mIoU 0." in out
    method = ("--method", "a2lc", "--budget", 8, "--preset", "tiny", "--set", "training.iterations=3")
    more = ("--set", "training.warm_iterations=2", "--set", "training.accelerator=cpu")
    assert run("run", place, "--rounds", 1, *method, *more) == 0
    capsys.readouterr()
    assert run("status", place, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert status["rounds"][1]["clicks"] == 8 and status["rounds"][1]["data_miou"] is not None
    assert pseudo("--replace", folder="r.a2lc") == 2
    assert "has rounds already" in capsys.readouterr().err


def test_refusals_come_before_anything_is_made(pseudo, tmp_path, scenes_dir, classes, capsys, monkeypatch):
    def refused(message, *arguments):
        assert pseudo(*arguments) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
        assert not (tmp_path / "p.a2lc").exists()

    images = ("--images", scenes_dir / "images", "--classes", classes)
    refused("There is no project at ")
    refused("There is no project at ", "--images", scenes_dir / "images")
    refused("Unknown class 'ski'. Did you mean 'sky'", *images, "--background", "ski")
    refused("Unknown cover 'slick'. Did you mean 'slic'", *images, "--cover", "slick")
    refused("set `accept_license` to someone/thing", *images, "--detector", "someone/thing")
    refused("Unknown segmenter 'sam-vit-huger'", *images, "--segmenter", "sam-vit-huger")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused("HF_HUB_OFFLINE forbids downloads", *images, "--detector", "grounding-dino-tiny", "--download")
    refused(
        "HF_HUB_OFFLINE forbids",
        *images,
        "--detector",
        "someone/thing",
        "--accept-license",
        "someone/thing",
        "--download",
    )


def test_weights_are_told_before_they_are_asked_for(pseudo, tmp_path, scenes_dir, classes, capsys, monkeypatch):
    monkeypatch.setattr("a2lc.weights.files._cached", lambda weights, cache: None)
    monkeypatch.setattr("a2lc.weights.files._offline", lambda: False)
    monkeypatch.setattr("a2lc.weights.files._fetch", lambda weights, cache: pytest.fail("fetched"))
    images = ("--images", scenes_dir / "images", "--classes", classes)
    assert pseudo(*images, "--detector", "grounding-dino-tiny", "--segmenter", "sam2.1-hiera-small") == 2
    out, err = capsys.readouterr()
    assert "IDEA-Research/grounding-dino-tiny, Apache-2.0, about 690 MB, commit a2bb814dd30d" in out
    assert "facebook/sam2.1-hiera-small, Apache-2.0, about 184 MB, commit ee5bba1d" in out
    assert "Set `download` to download them" in err and not (tmp_path / "p.a2lc").exists()


def test_another_project_is_not_gone_on_with(pseudo, tmp_path, scenes_dir, classes, capsys):
    images = ("--images", scenes_dir / "images", "--classes", classes)
    assert pseudo(*images) == 0
    (tmp_path / "other").mkdir()
    capsys.readouterr()
    assert pseudo("--replace", "--images", tmp_path / "other") == 2
    assert "was created from the images in" in capsys.readouterr().err
    assert pseudo("--replace", "--classes", "road,tree") == 2
    assert "has classes other than --classes" in capsys.readouterr().err


def test_a_command_killed_at_its_end_is_done_by_the_next(pseudo, tmp_path, scenes_dir, classes, capsys, monkeypatch):
    class Killed(BaseException):
        pass

    images = ("--images", scenes_dir / "images", "--classes", classes)

    def killed(self):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Project, "install_masks", killed)
        with pytest.raises(Killed):
            pseudo(*images)
    capsys.readouterr()
    assert pseudo(*images) == 0, "not told that there are labels already"
    assert "masks in 4 images" in capsys.readouterr().out


def test_masks_by_sam(tmp_path, scenes_dir, models, capsys):
    place = tmp_path / "m.a2lc"
    assert run("init", place, "--images", scenes_dir / "images", "--classes", "road,sky") == 0
    sam = ("--method", "sam", "--segmenter", models / "sam", "--device", "cpu", "--points", 3)
    capsys.readouterr()
    assert run("masks", place, *sam, "--min-iou", 1) == 2
    assert "the model was not confident of any" in capsys.readouterr().err
    assert run("masks", place, *sam, "--min-iou", 1, "--cover", "slic", "--count", 10) == 0
    out = capsys.readouterr().out
    assert f"segmenter: your folder {models / 'sam'}" in out
    assert out.splitlines()[-1] == f"next: a2lc run {place} --method classbal"
    with Project(place) as project:
        assert all((project.mask_map(image) > 0).all() for image in project.images)
        assert np.bincount(project.masks.image).max() < 30
    assert run("masks", place, "--method", "sam", "--segmenter", models / "detector") == 2
    assert "masks already. Pass --replace" in capsys.readouterr().err
    assert run("masks", tmp_path / "none.a2lc", *sam) == 2
    assert "none.a2lc" in capsys.readouterr().err and not (tmp_path / "none.a2lc").exists()


def test_masks_by_sam_killed_at_their_end_are_done_by_the_next(tmp_path, scenes_dir, models, capsys, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(self):
        raise Killed

    place = tmp_path / "m.a2lc"
    assert run("init", place, "--images", scenes_dir / "images", "--classes", "road,sky") == 0
    sam = ("--method", "sam", "--segmenter", models / "sam", "--device", "cpu", "--points", 3, "--cover", "slic")
    with monkeypatch.context() as patch:
        patch.setattr(Project, "install_masks", killed)
        with pytest.raises(Killed):
            run("masks", place, *sam)
    assert run("masks", place, *sam) == 0, "not told that there are masks already"
    assert "masks of " in capsys.readouterr().out
    assert not list((place / "pseudo").glob("sam-*")), "what was kept meanwhile is gone"


def test_every_option_and_all_weights_are_documented():
    page = (Path(__file__).resolve().parents[3] / "docs" / "pseudo.md").read_text(encoding="utf-8")
    shown = app.command("pseudo").commands["pseudo"]
    options = {option for parameter in shown.params for option in parameter.opts if option.startswith("--")}
    assert len(options) > 20
    assert not {option for option in options if f"`{option}" not in page}
    backbones = (Path(__file__).resolve().parents[3] / "docs" / "backbones.md").read_text(encoding="utf-8")
    for name, weights in KNOWN.items():
        lines = (backbones if weights.job == "backbone" else page).splitlines()
        row = next(line for line in lines if line.startswith(f"| `{name}`"))
        assert weights.revision in row and weights.license in row and (weights.job in row or lines != page.splitlines())
        assert f"{weights.size / 1e6:,.0f} MB" in row
