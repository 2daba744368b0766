"""What the README shows works: its Python runs, and the command line accepts its commands."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from a2lc.cli.app import command as command_line
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.images.label_maps import read_ids

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
FRAMES = ("frame_0001", "frame_0002", "frame_0003", "frame_0004")


def blocks_of(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


def commands_of(page):
    """Return the `a2lc` commands of a page's shell blocks, without what surrounds them on their line."""
    lines = [line for block in blocks_of(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in parts if re.match(r"(\S*/)?a2lc\b", part)]


SHOWN = [(page, command) for page in PAGES for command in commands_of(page)]


def test_the_readme_shows_commands():
    assert sum(page == "README.md" for page, _ in SHOWN) >= 8


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_the_command_line_accepts_what_is_shown(page, command):
    context = command_line().make_context("a2lc", [], resilient_parsing=True)
    words = shlex.split(command, comments=True)[1:]
    while words and hasattr(context.command, "commands"):
        known = context.command.commands
        assert words[0] in known, f"{page}: {command}"
        # Parsing alone: options must exist, be complete and have values of their type; nothing is run.
        name, *words = words
        if hasattr(known[name], "commands"):
            context = known[name].make_context(name, [], parent=context, resilient_parsing=True)
        else:
            context = known[name].make_context(name, words, parent=context)
            words = []


def test_an_option_that_does_not_exist_is_noticed():
    with pytest.raises(Exception, match="No such option"):
        test_the_command_line_accepts_what_is_shown("made up", "a2lc run my.a2lc --no-such-option 3")


@pytest.fixture
def street(tmp_path, monkeypatch):
    """A working folder with the files that the README's snippets name."""
    scenes = tmp_path / "scenes"
    write_scenes(scenes, SceneSettings(images=len(FRAMES), validation_images=2, height=48, width=64, seed=3))
    classes = scene_classes()
    for source, target in (("images", "images"), ("labels", "labels"), ("masks", "masks"), ("ground_truth", "truth")):
        (tmp_path / target).mkdir()
        for path, name in zip(sorted((scenes / source / "train").iterdir()), FRAMES, strict=True):
            path.rename(tmp_path / target / f"{name}{path.suffix}")
    (tmp_path / "classes.json").write_text(json.dumps(classes.to_json()))
    (tmp_path / "probs").mkdir()
    rng = np.random.default_rng(0)
    for name in FRAMES:
        truth = read_ids(tmp_path / "truth" / f"{name}.png")
        right = truth[None] == np.array(classes.file_values)[:, None, None]
        probs = np.exp(rng.normal(size=right.shape) + 2 * right)
        np.save(tmp_path / "probs" / f"{name}.npy", (probs / probs.sum(axis=0)).astype(np.float16))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_snippets_run(street, capsys):
    whole, people, arrays = blocks_of("README.md", "python")
    namespace = {}
    exec(whole, namespace)
    rounds = namespace["result"].rounds
    assert len(rounds) == 3 and rounds[-1]["data_miou"] > rounds[0]["data_miou"]
    assert (street / "street.a2lc" / "report.html").is_file()
    assert len(list((street / "street-corrected" / "SegmentationClass").glob("*.png"))) == len(FRAMES)

    # "my.a2lc" is a project of earlier sections: one that starts without ground truth.
    a2lc = namespace["a2lc"]
    a2lc.create_project("my.a2lc", images="images", labels="labels", masks="masks", classes="classes.json").close()
    exec(people, namespace)
    with a2lc.Project("my.a2lc") as project:
        answers = [answer for answer, _, _ in project.ledger.timed_answers()]
        assert {answer.annotator for answer in answers} == {"ann"}
        assert {project.classes.names[answer.classes[0]] for answer in answers} == {"road"}
    assert namespace["labels"].shape == (48, 64)

    probs = np.load("probs/frame_0001.npy").astype(np.float32)
    values = list(scene_classes().file_values)
    labels = np.full((48, 64), 255, dtype=np.uint8)
    for index, value in enumerate(values):
        labels[read_ids(street / "labels" / "frame_0001.png") == value] = index
    namespace = {
        "probs": probs,
        "labels": labels,
        "mask_map": read_ids(street / "masks" / "frame_0001.png").astype(np.int32),
        "pixels_per_class": np.bincount(labels[labels < len(values)].ravel(), minlength=len(values)),
    }
    exec(arrays, namespace)
    masks = np.unique(namespace["mask_map"])
    assert namespace["doubt"].shape == (len(namespace["stats"]),) and 0 < len(namespace["stats"]) <= len(masks)
