"""The examples run as they are, without torch, a network or a GPU."""

import json
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def beside_the_examples(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")


def test_repair_a_data_set(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["repair_a_data_set.py", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLES / "repair_a_data_set.py"), run_name="__main__")
    printed = capsys.readouterr().out
    figures = [float(line.split()[-1]) for line in printed.splitlines() if line.startswith("round ")]
    assert len(figures) == 3 and figures[0] < figures[-1], "the labels are better than they were"
    assert "estimated without ground truth: pixel accuracy" in printed
    assert (tmp_path / "out/scenes.a2lc/report.html").is_file()
    assert len(list((tmp_path / "out/corrected/SegmentationClass").glob("*.png"))) == 12


def test_answer_from_python(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["answer_from_python.py", str(tmp_path / "out")])
    runpy.run_path(str(EXAMPLES / "answer_from_python.py"), run_name="__main__")
    *batches, last = capsys.readouterr().out.splitlines()
    assert sum(int(line.split()[1]) for line in batches if line.startswith("answered")) == 30, "the whole budget"
    assert int(last.split()[0]) > 0 and last.endswith("masks corrected by the answers")


def test_the_notebook(capsys):
    notebook = json.loads((EXAMPLES / "compare_methods.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in notebook["cells"]), "outputs are not committed"
    namespace = {}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"cell {number}", "exec"), namespace)
    curves = namespace["curves"]
    assert set(curves) == {"random", "alc", "gain"} and all(len(values) == 4 for values in curves.values())
    assert curves["gain"][-1] > curves["gain"][0]
    assert "clicks" in capsys.readouterr().out
