"""Real processes killed without warning, each time followed by the same command: the ledger ends the same.

`tests/unit/rounds/test_kills.py` breaks off a run before each of its commits; this sees that a real kill is such a break.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from a2lc.creation.importer import create_project
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.formats.base import Sources
from a2lc.project.project import Project

pytest.importorskip("lightning", reason="training needs the extra [train]")

pytestmark = pytest.mark.e2e

MODEL = """
import torch

def build(num_classes):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, 4, 1), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Dropout(0.3),
        torch.nn.Conv2d(16, num_classes, 1),
    )
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("kill")
    write_scenes(root / "scenes", SceneSettings(images=12, validation_images=3, height=48, width=64, seed=2))
    (root / "small_model.py").write_text(MODEL)
    (root / "classes.json").write_text(json.dumps(scene_classes().to_json()))
    kinds = ("images", "labels", "masks", "ground_truth")
    create_project(root / "new.a2lc", Sources(**{kind: root / "scenes" / kind for kind in kinds}), scene_classes())
    return root


def command(root, *arguments):
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "a2lc", *arguments], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def init(root, name):
    options = ("images", "labels", "masks", "ground_truth")
    flags = [part for option in options for part in (f"--{option.replace('_', '-')}", f"scenes/{option}")]
    return command(root, "init", name, *flags, "--classes", "classes.json")


def run(root, name):
    training = {
        "model": "small_model:build",
        "resize": 48,
        "iterations": 40,
        "warm_iterations": 30,
        "checkpoint_every": 7,
        "validate_every": 10,
        "batch_size": 4,
    }
    settings = [part for key, value in training.items() for part in ("--set", f"training.{key}={value}")]
    settings += ["--set", "method.epochs=20"]
    return command(root, "run", name, "--method", "a2lc", "--rounds", "1", "--budget", "20", *settings)


def kill(process):
    assert process.poll() is None, process.stdout.read()
    process.send_signal(signal.SIGKILL)
    process.wait()


def ledger(folder):
    with Project(folder) as project:
        queries = {query.query_id: query for query in project.ledger.queries()}
        answers = [
            (queries[answer.query_id].image, queries[answer.query_id].mask_ids, answer.kind, answer.classes)
            for answer, _ in project.ledger.answers(standing=False)
        ]
        rows = project.corrections()
        return answers, list(zip(rows.keys, rows.old, rows.new, rows.source, strict=True))


def test_killed_runs_come_to_the_ledger_of_an_unbroken_one(scenes):
    whole, broken = "whole.a2lc", "broken.a2lc"
    for name in (whole, broken):
        shutil.copytree(scenes / "new.a2lc", scenes / name)
    process = run(scenes, whole)
    assert process.wait(timeout=300) == 0, process.stdout.read()
    answers, corrections = ledger(scenes / whole)
    assert len(answers) == 20 and len(corrections) > 0

    # In the middle of a training, when its first checkpoint is there, and a random moment after a stage of the round.
    process = run(scenes, broken)
    deadline = time.monotonic() + 120
    while not list((scenes / broken).rglob("last.ckpt")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    kill(process)
    process = run(scenes, broken)
    while process.stdout.readline().split()[:3] != [b"round", b"1", b"score"]:
        assert process.poll() is None
    time.sleep(random.Random(1).uniform(0, 0.1))
    kill(process)
    process = run(scenes, broken)
    assert process.wait(timeout=300) == 0, process.stdout.read()
    assert ledger(scenes / broken) == (answers, corrections)
    assert not list((scenes / broken).rglob("*.partial"))


def test_a_killed_import_leaves_nothing_and_the_next_one_works(scenes):
    process = init(scenes, "cut.a2lc")
    # The hidden folder appears when all files were checked and writing begins.
    deadline = time.monotonic() + 60
    while not (scenes / ".cut.a2lc.partial").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.0005)  # leave the core to the process
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = (scenes / "cut.a2lc").exists()
    if not finished:
        process = init(scenes, "cut.a2lc")
        assert process.wait(timeout=120) == 0, process.stdout.read()
    with Project(scenes / "cut.a2lc") as project:
        assert len(project.images) == 12 and len(project.masks)
    assert not (scenes / ".cut.a2lc.partial").exists()


def test_a_second_process_is_told_who_holds_the_project(scenes):
    shutil.copytree(scenes / "new.a2lc", scenes / "held.a2lc")
    with Project(scenes / "held.a2lc") as project, project.lock():
        other = run(scenes, "held.a2lc")
        output = other.communicate(timeout=120)[0].decode()
    assert other.returncode == 2
    assert f"is being changed by process {os.getpid()} of" in output and "Traceback" not in output
