"""Killed before every commit of a run, in this process: the same call, given again, comes to the same ledger and files.

A commit is a transaction of the ledger or a file renamed to its place; nothing else that a run writes is read by the
next. After it is "killed" a run can commit, rename and delete nothing, whatever clauses clean up on the way out.
`tests/e2e/test_kill.py` kills real processes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from a2lc.creation.importer import create_project
from a2lc.demo.looks import scene_classes
from a2lc.formats.base import Sources
from a2lc.ledger import schema
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan

TABLES = sorted(set(schema.metadata.tables) - {"leases"})
TIMES = {"time", "created", "started", "ended", "seconds"}
"""Columns that say when something was, or how long it took."""


class Killed(BaseException):
    """Ends a run as a kill does: nothing of ours catches it."""


class Commits:
    """Counts commits by what they put in place, and kills before one.

    Attributes:
        allowed: Commits let through before the kill, or the name of the one before which it comes; None to let all through.
        passed: Names of those that went through.
        killed: Name of the commit before which it was killed.
    """

    def __init__(self, root: Path, allowed: int | str | None) -> None:
        self.root, self.allowed = root, allowed
        self.passed: list[str] = []
        self.killed: str | None = None

    def before(self, name: str) -> None:
        if self.killed is None and self.allowed in (name, len(self.passed)):
            self.killed = name
        if self.killed is not None:
            raise Killed(self.killed)
        self.passed.append(name)


@contextmanager
def commits(root: Path, allowed: int | str | None = None) -> Iterator[Commits]:
    """Watch, and perhaps break off, what the block commits below a folder."""
    watch = Commits(root, allowed)
    real_replace, unlink, rmtree = os.replace, os.unlink, shutil.rmtree

    def renamed(source: Any, target: Any, **rest: Any) -> None:
        watch.before(str(Path(target).relative_to(root)) if Path(target).is_relative_to(root) else str(target))
        real_replace(source, target, **rest)

    def kept(real: Any) -> Any:
        def deleted(*args: Any, **rest: Any) -> None:
            if watch.killed is None:
                real(*args, **rest)

        return deleted

    def committed(connection: Connection) -> None:
        if connection.get_execution_options().get("a2lc_write"):
            counts = [connection.exec_driver_sql(f"select count(*) from {table}").scalar() for table in TABLES]
            watch.before("rows " + " ".join(f"{t}={n}" for t, n in zip(TABLES, counts, strict=True) if n))

    event.listen(Engine, "commit", committed)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", renamed)
            patch.setattr(os, "unlink", kept(unlink))
            patch.setattr(shutil, "rmtree", kept(rmtree))
            with suppress(Killed):
                yield watch
    finally:
        event.remove(Engine, "commit", committed)


def _timeless(value: Any) -> Any:
    """A value of the ledger; JSON without the times in it."""
    if isinstance(value, str) and value.startswith("{"):
        return json.dumps({key: part for key, part in json.loads(value).items() if not key.endswith("seconds")})
    return value


def _content(path: Path) -> bytes:
    return _timeless(path.read_text(encoding="utf-8")).encode() if path.suffix == ".json" else path.read_bytes()


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a ledger but for times."""
    found = {}
    with sqlite3.connect(f"file:{folder / 'ledger.sqlite'}?mode=ro", uri=True) as connection:
        for table in TABLES:
            names = [row[1] for row in connection.execute(f"pragma table_info({table})") if row[1] not in TIMES]
            values = connection.execute(f"select {', '.join(names)} from {table} order by rowid").fetchall()
            found[table] = [tuple(_timeless(value) for value in row) for row in values]
    return found


def files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a project but for its ledger, which `rows` reads."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(_content(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("ledger.sqlite", ".")) and path.suffix != ".html"
    }


# ---- runs ----------------------------------------------------------------------------------------------------------

METHODS = {
    "gain": {"batch": 4, "certify": 0.25, "measure": 0.25, "random_features": 16},
    "a2lc": {"epochs": 10},
    "alc": {"ask": "pixel"},
    "mulactseg": {},
}
TINY = {"model": "tiny_parts", "preset": "tiny", "resize": 32, "iterations": 4, "warm_iterations": 2, "batch_size": 2}
TINY |= {"checkpoint_every": 2, "validate_every": 2, "checkpoint": "last", "precision": "32-true", "logger": "none"}


def tiny_network() -> None:
    """Register a network of a few weights, whose parts are called as those of segmentation-models-pytorch."""
    torch = pytest.importorskip("torch", reason="training needs the extra [train]")

    from a2lc.models.build import MODELS

    class Tiny(torch.nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.encoder = torch.nn.Conv2d(3, 6, 3, 2, 1)
            self.decoder = torch.nn.Sequential(torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Dropout(0.3))
            self.segmentation_head = torch.nn.Sequential(
                torch.nn.Conv2d(6, num_classes, 1), torch.nn.Upsample(scale_factor=2, mode="bilinear")
            )

        def forward(self, x: Any) -> Any:
            return self.segmentation_head(self.decoder(self.encoder(x)))

    MODELS["tiny_parts"] = lambda config, num_classes: Tiny(num_classes)


def run(folder: Path, plan: RoundPlan, rounds: int) -> None:
    with Project(folder) as project:
        Loop(project, plan).run(rounds)


@pytest.mark.parametrize(
    ("method", "rounds", "trained"),
    [
        ("alc", 1, False),
        pytest.param("alc", 2, False, marks=pytest.mark.slow),
        pytest.param("gain", 2, False, marks=pytest.mark.slow),
        pytest.param("a2lc", 2, False, marks=pytest.mark.slow),
        pytest.param("a2lc", 2, True, marks=pytest.mark.slow),
        pytest.param("mulactseg", 2, True, marks=pytest.mark.slow),
    ],
)
def test_killed_before_every_commit_of_a_run(few_scored, tmp_path, method, rounds, trained):
    if trained:
        tiny_network()

    def start(name: str) -> tuple[Path, RoundPlan]:
        folder = few_scored.copy(tmp_path / name / "p.a2lc")
        with Project(folder) as project:
            plan = few_scored.plan(project, 20, method=method, settings=METHODS[method])
        return folder, replace(plan, training=TrainingConfig(**TINY)) if trained else plan

    whole, plan = start("whole")
    with commits(whole) as unbroken:
        run(whole, plan, rounds)
    wanted, kept = rows(whole), files(whole)
    assert len(unbroken.passed) > 12 and len(wanted["answers"]) >= 20
    assert len(wanted["corrections"]) > 0 or wanted["layers"]

    broken, plan = start("broken")
    killed, states, allowed = [], [], 1
    # Each call may commit once more than the last one did, and then dies, until one needs no more commits than it may.
    for _ in range(4 * len(unbroken.passed)):
        with commits(broken, allowed) as watch:
            run(broken, plan, rounds)
        if watch.killed is None:
            break
        killed.append(watch.killed)
        reached = {table: len(found) for table, found in rows(broken).items()}, sorted(files(broken))
        allowed = allowed + 1 if reached in states else 1
        states.append(reached)
    else:
        raise AssertionError(f"it does not end; killed before {killed[-20:]}")
    assert rows(broken) == wanted
    assert files(broken) == kept

    # Where a call has to commit things again, it may have passed some: each of those has a project of its own.
    missed = sorted(set(unbroken.passed) - set(killed))
    assert len(missed) <= 6, missed
    for number, name in enumerate(missed):
        broken, plan = start(f"missed {number}")
        with commits(broken, name) as watch:
            run(broken, plan, rounds)
        assert watch.killed == name
        run(broken, plan, rounds)
        assert (rows(broken), files(broken)) == (wanted, kept), f"killed before {name}"


# ---- imports -------------------------------------------------------------------------------------------------------


def test_an_import_killed_before_every_commit_leaves_no_project(few_scored, tmp_path):
    scenes = few_scored.root / "scenes"
    sources = Sources(**{kind: scenes / kind for kind in ("images", "labels", "masks", "ground_truth")})
    folder = tmp_path / "p.a2lc"
    with commits(tmp_path) as unbroken:
        create_project(tmp_path / "whole.a2lc", sources, scene_classes(), name="p")
    assert len(unbroken.passed) > 10
    for allowed in range(len(unbroken.passed)):
        with commits(tmp_path, allowed) as watch:
            create_project(folder, sources, scene_classes(), name="p")
        assert watch.killed is not None and not folder.exists()
    with commits(tmp_path, len(unbroken.passed)) as watch:
        create_project(folder, sources, scene_classes(), name="p")
    assert watch.killed is None
    assert rows(folder) == rows(tmp_path / "whole.a2lc") and files(folder) == files(tmp_path / "whole.a2lc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.a2lc", "whole.a2lc"]
