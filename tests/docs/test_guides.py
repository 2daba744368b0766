"""What the guides write and run works as they say."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import a2lc
from a2lc.classes.sentinels import VOID
from a2lc.cli.app import _main
from a2lc.methods import METHODS

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def blocks_of(name, language="python"):
    text = (GUIDES / name).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def write_module(folder, block):
    """Write a block whose first line names its file, and return the module's name."""
    (name,) = re.findall(r"\A# (\w+)\.py\n", block)
    (folder / f"{name}.py").write_text(block)
    return name


@pytest.fixture
def importable(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    known = dict(METHODS)
    yield tmp_path
    METHODS.clear()
    METHODS.update(known)
    for name in ("least_likely", "trusting"):
        sys.modules.pop(name, None)


def probabilities_of(project):
    """Write files of probabilities that know nothing but the initial labels."""
    folder = project.folder.parent / "probs"
    for image in project.all_images:
        rng = np.random.default_rng(image.index)
        probs = rng.random((project.classes.num_classes, image.height, image.width), dtype=np.float32) + 0.1
        path = folder / f"{image.image_id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, probs / probs.sum(axis=0))
    return folder


def test_the_method_of_the_guide_runs_by_its_class(importable, tiny_project_dir, capsys):
    method, by_api, registered, _, test = blocks_of("add-a-method.md")
    write_module(importable, method)
    folder = importable / "my.a2lc"
    tiny_project_dir.rename(folder)
    with a2lc.Project(folder) as project:
        probabilities = probabilities_of(project)
    (command,) = blocks_of("add-a-method.md", "sh")
    words = command.split()[1:]
    words[words.index("my.a2lc")] = str(folder)
    words[words.index("--budget") + 1] = "5"
    assert _main([*words, "--probabilities", str(probabilities)]) == 0
    with a2lc.Project(folder) as project:
        rounds = project.status()["rounds"]
        assert [row["method"] for row in rounds][1:] == ["least_likely:LeastLikely"] * 2
        assert project.config.method.settings == {"power": 1}
        # What the guide says of scores: large masks of unlikely labels first.
        (query, *_) = project.ledger.queries(1)
        assert query.score == max(q.score for q in project.ledger.queries(1))
    namespace = {"a2lc": a2lc}
    exec(by_api.replace('"my.a2lc"', repr(str(folder))).replace("budget=100", "budget=5"), namespace)
    assert namespace["result"].finished and len(namespace["result"].rounds) == 5
    from least_likely import LeastLikely

    exec(registered, {"LeastLikely": LeastLikely})
    assert METHODS["least-likely"] is LeastLikely
    exec(test, namespace := {})
    (importable / "again").mkdir()
    namespace["test_least_likely"](importable / "again")


def test_its_scores_are_as_described(importable, make_stats):
    write_module(importable, blocks_of("add-a-method.md")[0])
    from least_likely import LeastLikely

    from a2lc.records import RoundView

    stats = make_stats()
    current = np.zeros(len(stats), dtype=np.int32)
    current[0] = VOID
    view = RoundView(
        stats=stats,
        current=current,
        asked=np.zeros(len(stats), dtype=bool),
        pixels_per_class=np.ones(stats.num_classes, dtype=np.int64),
        void_pixels=0,
        round=1,
        seed=0,
    )
    scores = LeastLikely(power=0).score(view)
    assert scores[0] == 1 and (scores <= 1).all() and (scores >= 0).all()


def test_the_method_that_asks_in_batches_learns_between_them(importable, tiny_project_dir):
    assert write_module(importable, blocks_of("add-a-method.md")[3]) == "trusting"
    with a2lc.Project(tiny_project_dir) as project:
        probabilities = probabilities_of(project)
        project.run(method="trusting:Trusting", budget=12, probabilities=probabilities)
        queries, masks = project.ledger.queries(1), project.masks
        scores = np.array([query.score for query in queries])
        sizes = masks.area[masks.rows(*np.array([(q.image, q.mask_ids[0]) for q in queries]).T)]
    assert len(queries) == 12 and len({(query.image, query.mask_ids) for query in queries}) == 12
    # Before the first answer each class is trusted by half; then by what was answered.
    np.testing.assert_allclose(scores[:5], np.sqrt(sizes[:5]) / 2)
    assert (np.abs(scores[5:] - np.sqrt(sizes[5:]) / 2) > 1e-9).any()
    assert (np.diff(scores[5:10]) <= 0).all() and (np.diff(scores[10:]) <= 0).all()
