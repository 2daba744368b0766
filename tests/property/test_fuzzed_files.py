"""Damaged files of every format: each command ends by itself, with one line at most. benchmarks/fuzz_files.py runs a thousand."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytestmark = pytest.mark.fuzz

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "fuzz_files.py"


@pytest.fixture(scope="module")
def fuzz():
    spec = importlib.util.spec_from_file_location("fuzz_files", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sets(fuzz, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    fuzz.write_set(folder)
    return folder


@pytest.mark.parametrize("number", range(36))
def test_damaged(fuzz, sets, number):
    found = fuzz.run_case(sets, number, seed=12)
    assert "bad" not in found, found
    assert len(found["exits"]) == 3


def test_whole_sets_are_taken(fuzz, sets, monkeypatch):
    """Without damage every format is read: what the others show is the damage's doing."""
    monkeypatch.setattr(fuzz, "damage", lambda *_: "none")
    for number in range(len(fuzz.FORMATS)):
        found = fuzz.run_case(sets, number, seed=0)
        assert found["exits"][1:] == [0, 0], found
