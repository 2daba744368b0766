"""`a2lc serve`, `handover` and `takeback` on the command line: what they refuse, in a line, and what they print."""

import json
import socket

import pytest

from a2lc.cli.app import _main
from a2lc.project.project import Project


def test_a_taken_port_is_told(tiny_project_dir, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert _main(["serve", str(tiny_project_dir), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port {port}" in said and "--port" in said and said.count("\n") == 1


def test_a_project_that_is_being_changed_is_not_served(tiny_project_dir, capsys):
    with Project(tiny_project_dir) as project, project.lock():
        assert _main(["serve", str(tiny_project_dir), "--port", "0"]) == 2
    assert "is being changed by" in capsys.readouterr().err


def test_training_needs_its_extra(tiny_project_dir, capsys, monkeypatch):
    monkeypatch.setattr("a2lc.cli.run.find_spec", lambda name: None)
    assert _main(["serve", str(tiny_project_dir), "--port", "0", "--train", "--set", "training.model=unet"]) == 2
    assert "pip install 'a2lc[train]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lease", "1"], "--lease"),
        (["--port", "70000"], "--port"),
        (["--method", "gian"], "gain"),
        (["--method", "alc", "--min-precision", "0.9"], "--method gain"),
        (["--host", "no.such.host.invalid"], "--host"),
    ],
)
def test_bad_options_are_told_in_a_line(tiny_project_dir, capsys, options, message):
    if "--host" in options:
        message = "Cannot listen"
    assert (
        _main(["serve", str(tiny_project_dir), *(options if "--port" in options else [*options, "--port", "0"])]) == 2
    )
    assert message in capsys.readouterr().err


def test_questions_are_handed_over_and_taken_back(scored, capsys, tmp_path):
    folder = scored.root / "handed-by-command.a2lc"
    with scored.project(folder.name) as project:
        scored.plan(project, 8, method="alc", kind="human")
    assert _main(["run", str(folder), "--rounds", "1"]) == 0
    capsys.readouterr()
    assert (
        _main(["handover", str(folder), "--to", "label-studio", "--out", str(tmp_path / "asked"), "--limit", "3"]) == 0
    )
    said = capsys.readouterr().out.replace("\n", " ")
    assert "3 questions of round 1" in said and "5 more are waiting" in said and "README.txt" in said
    assert _main(["takeback", str(folder), "--from", str(tmp_path / "asked"), "--annotator", "Ada"]) == 2
    assert "0 exported files" in capsys.readouterr().err
    tasks = json.loads((tmp_path / "asked" / "tasks.json").read_text())
    exported = [
        {
            "id": i,
            "data": task["data"],
            "annotations": [{"id": i, "result": task["predictions"][0]["result"], "was_cancelled": False}],
        }
        for i, task in enumerate(tasks)
    ]
    (tmp_path / "asked" / "project-1.json").write_text(json.dumps(exported))
    assert _main(["takeback", str(folder), "--from", str(tmp_path / "asked"), "--annotator", "Ada"]) == 0
    assert "3 recorded" in capsys.readouterr().out.replace("\n", " ")
    with Project(folder) as project:
        assert {answer.annotator for answer, _ in project.ledger.answers()} == {"Ada"}
    assert (
        _main(["takeback", str(folder), "--from", str(tmp_path / "asked"), "--annotator", "Ada", "--untouched", "x"])
        == 2
    )
    assert _main(["handover", str(folder), "--to", "lable-studio", "--out", str(tmp_path / "b")]) == 2
    assert "label-studio" in capsys.readouterr().err
