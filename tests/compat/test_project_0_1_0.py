"""A project that version 0.1.0 made, killed in its second round while labels were measured, opens and runs on.

`tests/data/project_0_1_0.zip` holds the project, its images and probabilities, and `expected.json`: the rows of the ledger
that 0.1.0 itself came to when it finished that round. So the figures of one version are those of the next.
"""

import json
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest

from a2lc import Project
from a2lc.audits.tables import FrozenTable
from a2lc.classes.sentinels import UNKNOWN
from a2lc.cli.app import _main

ARCHIVE = Path(__file__).parents[1] / "data" / "project_0_1_0.zip"

QUERIES = {
    "queries": "select round, image, proposed, suggestions, round(score, 9), reason, round(inclusion_probability, 9) "
    "from queries order by id",
    "answers": "select query, kind, classes, clicks from answers order by id",
    "corrections": "select round, image, mask_id, old_class, new_class, source from corrections order by id",
}


def rows_of(folder):
    with sqlite3.connect(folder / "ledger.sqlite") as connection:
        return {name: [list(row) for row in connection.execute(query)] for name, query in QUERIES.items()}


@pytest.fixture
def old(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_it_opens_as_it_was(old):
    with Project(old / "v010.a2lc") as project:
        assert len(project.images) == 4 and len(project.masks) == 96
        assert [row["clicks"] for row in project.status()["rounds"]] == [0, 24, 12]
        assert project.label_quality(1)["after"]["audits"] == 12
        assert project.corrected_labels(project.images[0]).shape == (48, 64)


def test_its_round_ends_as_it_would_have(old, capsys):
    expected = json.loads((old / "expected.json").read_text())
    assert rows_of(old / "v010.a2lc") != expected, "the round was killed"
    assert _main(["run", str(old / "v010.a2lc"), "--rounds", "2"]) == 0
    assert rows_of(old / "v010.a2lc") == expected
    assert "next: round 3, score" in capsys.readouterr().out


def test_sentinels_of_its_frozen_posterior_are_translated(old):
    path = old / "v010.a2lc" / "rounds" / "02" / "posterior.parquet"
    known = FrozenTable.load(path).known
    assert set(np.unique(known[known < 0])) == {UNKNOWN}
    assert (known == UNKNOWN).sum() == 60


@pytest.mark.slow
def test_it_runs_a_round_of_its_own(old):
    with Project(old / "v010.a2lc") as project:
        result = project.run(rounds=2, budget=None)
        assert result.finished and len(result.rounds) == 4
        assert result.rounds[-1]["data_miou"] >= result.rounds[1]["data_miou"]
