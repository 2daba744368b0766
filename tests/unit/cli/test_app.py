"""The command line: what it prints, its exit codes, and one line for a mistake."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from a2lc.cli.app import MODULES, _main, command
from a2lc.cli.console import app
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.project.project import Project


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    write_scenes(root / "scenes", SceneSettings(images=4, validation_images=1, height=48, width=64, seed=6))
    (root / "classes.json").write_text(json.dumps(scene_classes().to_json()))
    rng = np.random.default_rng(0)
    for path in (root / "scenes" / "labels" / "train").iterdir():
        logits = rng.normal(size=(scene_classes().num_classes, 48, 64))
        probs = np.exp(logits) / np.exp(logits).sum(0)
        (root / "probs").mkdir(exist_ok=True)
        np.save(root / "probs" / f"{path.stem}.npy", probs.astype(np.float32))
    return root


def init_arguments(scenes, folder, **changes):
    options = {
        "images": scenes / "scenes/images",
        "labels": scenes / "scenes/labels",
        "masks": scenes / "scenes/masks",
        "ground-truth": scenes / "scenes/ground_truth",
        "classes": scenes / "classes.json",
    } | changes
    flags = [str(part) for key, value in options.items() if value is not None for part in (f"--{key}", value)]
    return ["init", str(folder), *flags]


@pytest.fixture(scope="session")
def template(scenes):
    assert _main(init_arguments(scenes, scenes / "new" / "p.a2lc")) == 0
    return scenes / "new" / "p.a2lc"


@pytest.fixture(scope="session")
def finished_template(scenes, template):
    folder = shutil.copytree(template, scenes / "finished" / "p.a2lc")
    arguments = ["run", str(folder), "--rounds", "2", "--budget", "6", "--method", "alc"]
    assert _main([*arguments, "--probabilities", str(scenes / "probs")]) == 0
    return folder


@pytest.fixture
def project(template, tmp_path, capsys):
    """A project that was made by `a2lc init`, and nothing else."""
    capsys.readouterr()
    return shutil.copytree(template, tmp_path / "p.a2lc")


@pytest.fixture
def finished(finished_template, tmp_path, capsys):
    """A project after two rounds."""
    capsys.readouterr()
    return shutil.copytree(finished_template, tmp_path / "p.a2lc")


def mistake(capsys, arguments, pattern):
    assert _main([str(a) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert re.search(pattern, captured.err), captured.err
    assert captured.err.startswith("a2lc: ") and captured.err.count("\n") == 1 and "Traceback" not in captured.err


def test_init_says_what_was_imported(scenes, tmp_path, capsys):
    assert _main(init_arguments(scenes, tmp_path / "new.a2lc")) == 0
    printed = capsys.readouterr().out
    assert re.search(r"4 images, \d+ masks, 11 classes", printed)
    assert re.search(r"data mIoU 0\.\d{4}, pixel accuracy 0\.\d{4}, coverage 0\.\d{4}", printed)
    assert "1 validation images" in printed


def test_without_labels_init_leads_to_masks_and_masks_to_a_method_for_it(scenes, tmp_path, capsys):
    folder = tmp_path / "u.a2lc"
    assert _main(init_arguments(scenes, folder, labels=None, masks=None)) == 0
    out = capsys.readouterr().out
    assert f"4 images, 0 masks, {scene_classes().num_classes} classes" in out
    assert "no labels: all pixels start unlabeled" in out
    assert "nan" not in out
    assert out.endswith(f"next: a2lc masks {folder} --method seeds\n")
    mistake(capsys, ["run", folder], r"has no masks to ask about\. Create them first: a2lc masks .* --method seeds")
    assert _main(["masks", str(folder), "--method", "grid", "--size", "16"]) == 0
    assert capsys.readouterr().out == (
        f"48 masks of 256 pixels on average in 4 images\nnext: a2lc run {folder} --method classbal\n"
    )
    mistake(capsys, ["masks", folder, "--method", "slic"], r"has 48 masks already\. Set `replace`")
    assert _main(["masks", str(folder), "--method", "slic", "--count", "30", "--replace"]) == 0
    assert re.match(r"\d+ masks of \d+ pixels", capsys.readouterr().out)


def test_masks_of_a_project_with_labels(scenes, project, capsys):
    arguments = ["masks", str(project), "--method", "components"]
    mistake(capsys, arguments, r"masks already\. Set `replace` to overwrite them")
    mistake(capsys, ["masks", project, "--method", "sead"], "Unknown mask method 'sead'. Did you mean 'seeds'")
    assert _main([*arguments, "--replace"]) == 0
    assert capsys.readouterr().out.endswith(f"next: a2lc run {project}\n")
    run = ["run", str(project), "--rounds", "0", "--probabilities", str(scenes / "probs")]
    assert _main(run) == 0
    capsys.readouterr()
    mistake(capsys, [*arguments, "--replace"], "has rounds already, and its ledger refers to masks by number")


def test_labels_for_some_images(scenes, tmp_path, capsys):
    labels = tmp_path / "labels"
    shutil.copytree(scenes / "scenes/labels", labels)
    next(iter(sorted(labels.rglob("*.png")))).unlink()
    arguments = init_arguments(scenes, tmp_path / "p.a2lc", labels=labels)
    mistake(capsys, arguments, "1 images without labels.* or `partial` to accept those without labels")
    assert _main([*arguments, "--partial"]) == 0
    out = capsys.readouterr().out
    assert "1 images have no label map; their pixels start unlabeled" in out
    assert out.endswith(f"next: a2lc run {tmp_path / 'p.a2lc'}\n")


def test_mistakes_are_one_line_and_exit_2(scenes, project, tmp_path, capsys):
    mistake(capsys, ["run", tmp_path / "none"], "There is no project at .*none: project.yaml is missing")
    mistake(capsys, ["run", project, "--method", "a2cl"], "Unknown method 'a2cl'. Did you mean 'a2lc'")
    mistake(capsys, ["run", project, "--budge", 5], "No such option: --budge .*--budget")
    mistake(capsys, ["rnu", project], "No such command 'rnu'. Did you mean 'run'")
    mistake(capsys, ["run", project, "--set", "training.iteration=3"], "Did you mean 'iterations'")
    mistake(capsys, ["run", project, "--set", "trainings.iterations=3"], "Did you mean 'training'")
    mistake(capsys, ["run", project, "--set", "method.certfy=0.3"], "Did you mean 'certify'")
    promised = ["run", project, "--method", "a2lc", "--min-precision", "0.9"]
    mistake(
        capsys, promised, "--min-precision needs a method that audits its corrections: pass --method gain, not a2lc"
    )
    mistake(capsys, ["run", project, "--min-precision", "1.5"], r"min_precision must be in \[0, 1\), found 1.5")
    mistake(capsys, ["run", project, "--set", "nonsense"], "expected KEY=VALUE")
    mistake(capsys, ["run", project, "--budget", "many"], "Invalid value for '--budget'")
    mistake(capsys, ["run", project, "--annotator", "robot"], "Unknown annotator 'robot'")
    mistake(capsys, ["run", project, "--preset", "cpus"], "Did you mean 'cpu'")
    mistake(capsys, ["run", project, "--budget", 100000], "need 500000 more masks, but only")
    mistake(capsys, init_arguments(scenes, project), "contains a project already")
    mistake(capsys, init_arguments(scenes, tmp_path / "x", classes=None), "`classes` is missing.*--classes")
    mistake(capsys, init_arguments(scenes, tmp_path / "x", format="vco"), "Did you mean 'voc'")
    mistake(capsys, init_arguments(scenes, tmp_path / "x", map="34"), "--map 34: expected VALUE=VALUE")
    mistake(capsys, init_arguments(scenes, tmp_path / "x", labels=tmp_path / "nothing"), "No folder of labels")
    unknown = ["export", project, "--out", tmp_path / "o", "--format", "cocoa"]
    mistake(capsys, unknown, "Unknown export format 'cocoa'. Did you mean 'coco'")
    mistake(capsys, ["undo", project, 1], "There is no round 1")
    mistake(capsys, ["diff", project, 0, 1], "There is no round")
    mistake(capsys, ["score", project], "at stage 'train', not at 'score'")
    assert not (tmp_path / "x").exists() and list(tmp_path.glob(".*partial")) == []


def test_unknown_label_value_is_mended_by_map(scenes, tmp_path, capsys):
    import shutil

    shutil.copytree(scenes / "scenes/labels", tmp_path / "labels")
    path = sorted((tmp_path / "labels/train").iterdir())[0]
    values = np.array(Image.open(path))
    values[:2] = 34
    Image.fromarray(values).save(path)
    arguments = init_arguments(scenes, tmp_path / "m.a2lc", labels=tmp_path / "labels")
    mistake(capsys, arguments, r"value 34 on 128 pixels of 1 files .*`value_map` 34=255 .option: --map")
    assert _main([*arguments, "--map", "34=255"]) == 0
    with Project(tmp_path / "m.a2lc") as project:
        assert (project.first_labels(project.record(path.stem))[:2] == 255).all()
        assert (project.raw_labels(project.record(path.stem))[:2] == 34).all()


def test_run_status_log_diff_undo(finished, capsys):
    assert _main(["status", str(finished), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = (
        "round method queries clicks manual_changed automatic_changed automatic_precision data_miou data_miou_of_all "
        "coverage pixel_accuracy model_miou seconds"
    )
    for row in found["rounds"]:
        assert set(wanted.split()) <= set(row)
    assert [row["clicks"] for row in found["rounds"]] == [0, 6, 6]
    assert set(found["rounds"][1]["seconds"]) == {"score", "select", "answer", "correct", "train", "evaluate"}
    for path in ("report.html", "rounds/00/report.html", "rounds/02/report.html"):
        assert (finished / path).stat().st_size > 1000

    assert _main(["diff", str(finished), "0", "2", "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)
    manual = sum(row["manual_changed"] for row in found["rounds"])
    with Project(finished) as project:
        differ = sum(
            int((project.corrected_labels(i, through=0) != project.corrected_labels(i, through=2)).sum())
            for i in project.images
        )
    assert changes["pixels"] == differ
    assert len(changes["masks"]) == manual > 0 and changes["masks"][0]["old"] != changes["masks"][0]["new"]

    assert _main(["undo", str(finished), "2", "--dry-run"]) == 0
    assert f"would change {found['rounds'][2]['manual_changed']} masks back" in capsys.readouterr().out
    assert _main(["undo", str(finished), "2"]) == 0
    assert f"changed {found['rounds'][2]['manual_changed']} masks back" in capsys.readouterr().out
    mistake(capsys, ["undo", finished, 2], "already been undone")
    assert _main(["status", str(finished), "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["now"]["data_miou"] == pytest.approx(found["rounds"][1]["data_miou"])
    assert after["rounds"][1] == found["rounds"][1]

    assert _main(["log", str(finished), "--full"]) == 0
    printed = capsys.readouterr().out
    assert "round 2 undone: all corrections" in printed and "manual by oracle" in printed
    assert printed.count("question ") == 12 and "undo by undo" in printed
    times = [line[:19] for line in printed.splitlines()]
    assert times == sorted(times)
    assert "round 1 opened: alc" in printed


def test_same_command_again_does_nothing_more(scenes, finished, capsys):
    arguments = ["run", str(finished), "--rounds", "2", "--budget", "6", "--method", "alc"]
    assert _main([*arguments, "--probabilities", str(scenes / "probs")]) == 0
    with Project(finished) as project:
        assert len(project.ledger.answers()) == 12 and len(project.ledger.rounds()) == 3


def test_settings_are_kept_for_the_next_command(finished, capsys):
    assert _main(["run", str(finished), "--rounds", "3"]) == 0
    with Project(finished) as project:
        assert [record.method for record in project.ledger.rounds()] == ["alc"] * 4
        assert project.config.method.budget == 6 and len(project.ledger.answers()) == 18


def test_stages_alone_make_a_round(scenes, project, capsys):
    options = ["--method", "random", "--budget", "5", "--probabilities", str(scenes / "probs")]
    assert _main(["train", str(project), *options]) == 0
    for stage in ("evaluate", "score", "select", "answer", "correct", "train", "evaluate"):
        assert _main([stage, str(project)]) == 0
    assert "5 answers" in capsys.readouterr().out


def test_methods_lists_all_with_papers(capsys):
    assert _main(["methods", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"a2lc", "alc", "random"} <= {row["name"] for row in found["methods"]}
    assert all(row["paper"] and row["summary"] for row in found["methods"])
    assert {row["starts"] for row in found["methods"]} == {"pseudo", "nothing", "subset"}
    functions = "random entropy margin softmin cil lcil sim abc classbal amss pixbal"
    assert set(functions.split()) == {row["name"] for row in found["acquisition"]}


def test_without_ground_truth_the_oracle_is_refused_and_a_person_awaited(scenes, tmp_path, capsys):
    folder = tmp_path / "blind.a2lc"
    assert _main(init_arguments(scenes, folder, **{"ground-truth": None})) == 0
    assert "label quality is unknown" in capsys.readouterr().out
    probs = ["--probabilities", str(scenes / "probs"), "--budget", "3", "--rounds", "1"]
    mistake(capsys, ["run", folder, *probs], "no ground truth, so answers cannot be simulated")
    assert _main(["run", str(folder), "--annotator", "human", *probs]) == 0
    assert "3 questions are waiting for answers" in capsys.readouterr().out
    assert _main(["status", str(folder), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rounds"][1]
    assert row["data_miou"] is None and row["queries"] == 3 and row["clicks"] == 0


def test_our_own_faults_exit_1_with_a_trace(project, monkeypatch, capsys):
    monkeypatch.setattr("a2lc.rounds.status.project_status", lambda project: 1 / 0)
    assert _main(["status", str(project)]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_full_disk_is_said_in_one_line(project, monkeypatch, capsys):
    def full(project):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("a2lc.rounds.status.project_status", full)
    mistake(capsys, ["status", project], "the disk is full .somewhere.")


def test_help_of_every_command_and_version(capsys):
    commands = command().commands
    assert list(commands) == [name for names in MODULES.values() for name in names], "a command is missing in MODULES"
    assert {info.callback.__name__ for info in app.registered_commands if not info.name} <= set(commands)
    for name, one in commands.items():
        assert _main([name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"Usage: a2lc {name}" in shown and one.get_short_help_str(30).rstrip(".") in " ".join(shown.split())
    assert _main(["--help"]) == 0
    shown = capsys.readouterr().out
    whole = command()
    assert shown == whole.get_help(whole.make_context("a2lc", [], resilient_parsing=True)) + "\n"
    assert _main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("a2lc 0.")


@pytest.mark.parametrize("arguments", [[], ["classes"]])
def test_nothing_asked_for_is_help(capsys, arguments):
    assert _main([*arguments, "--help"]) == 0
    shown = capsys.readouterr().out
    assert _main(arguments) == 0
    assert capsys.readouterr().out.split() == shown.split() and shown.count("\n") > 5


def test_output_may_be_cut_off_by_its_reader(finished):
    command = [sys.executable, "-m", "a2lc", "log", str(finished), "--full"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
