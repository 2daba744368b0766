"""One command makes all figures of the documentation, and the documentation shows no others."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "figures"


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("make_figures", ROOT / "docs" / "make_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_makes_each_figure_and_a_page_shows_it(command, monkeypatch, tmp_path, capsys):
    made = []
    monkeypatch.setattr(command, "make_page", lambda work, target: made.append(target.name))
    monkeypatch.setattr(command, "make_curves", lambda name, data, work, target: made.append(target.name))
    monkeypatch.setattr("sys.argv", ["make_figures.py", "--data", "camvid", "--out", str(tmp_path)])
    command.main()
    there = sorted(path.name for path in FIGURES.iterdir())
    assert sorted(made) == there
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    shown = {name for page in pages for name in re.findall(r"figures/([\w.]+)", page.read_text(encoding="utf-8"))}
    assert shown == set(there)


def test_without_the_data_set_curves_are_left_as_they_are(command, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "make_page", lambda work, target: target)
    monkeypatch.setattr("sys.argv", ["make_figures.py", "--out", str(tmp_path)])
    command.main()
    assert capsys.readouterr().out.count("it needs --data") == len(command.BENCHMARKS)
    assert not list(tmp_path.iterdir())


def test_curves_are_those_of_the_benchmark(command, monkeypatch, tmp_path):
    def bench(arguments, check):
        assert arguments[3:5] == ["bench", "camvid_gain"] and check
        out = Path(arguments[arguments.index("--out") + 1])
        out.mkdir()
        (out / "curves.png").write_bytes(b"curves")

    monkeypatch.setattr(subprocess, "run", bench)
    target = command.make_curves("camvid_gain", tmp_path, tmp_path / "work", tmp_path / "figure.png")
    assert target.read_bytes() == b"curves"


@pytest.mark.e2e
def test_the_page_is_photographed(command, tmp_path):
    pytest.importorskip("playwright", reason="the page's picture needs playwright")
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("no chromium, chromium-browser or google-chrome")
    picture = Image.open(command.make_page(tmp_path, tmp_path / "serve.png")).convert("RGB")
    assert picture.size == Image.open(FIGURES / "serve.png").size == (1280, 800)
    # The question is there: its first answer is a broad button of the page's blue, below a question of a line or two.
    pixels = np.asarray(picture)[100:260, 900:]
    assert (pixels == (11, 95, 158)).all(axis=2).sum(axis=1).max() > 100
