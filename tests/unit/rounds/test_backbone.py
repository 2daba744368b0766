"""The backbone of a project: chosen, recorded, changed between rounds, and never mixed up."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from a2lc.cli.app import _main
from a2lc.errors import A2LCError, InputError, StageError
from a2lc.features import load_backbone
from a2lc.features.choice import BUILT_IN
from a2lc.project import Project
from a2lc.project.config import read_config
from a2lc.rounds.learned import features_are_made, learned_features, make_features, masks_backbone
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.stages import next_stage

_path = Path(__file__).parents[1] / "features" / "models.py"
_spec = importlib.util.spec_from_file_location("feature_models_of_rounds", _path)
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The name of another backbone."""
    pytest.importorskip("timm", reason="needs the extra [train]")
    folder = tmp_path_factory.mktemp("backbones") / "vit"
    models.write_timm(folder, "vit_tiny_patch16_224", 64, **models.SMALL_VIT, img_size=64)
    return f"timm:{folder}"


def with_head(project: Project, budget: float = 12) -> RoundPlan:
    project.config = project.config.model_copy(
        update={"method": project.config.method.model_copy(update={"name": "alc", "settings": {}, "budget": budget})}
    )
    return RoundPlan.of(project.config)


def test_files_record_the_backbone_and_its_weights(tiny_project, other):
    make_features(tiny_project, load_backbone(other))
    for kind in ("features", "cells"):
        metadata = pq.read_schema(tiny_project.folder / "tables" / kind / "part-00000.parquet").metadata
        found = json.loads(metadata[b"a2lc_backbone"])
        assert found["name"] == other and len(found["sha256"]) == 64
    assert masks_backbone(tiny_project) == f"{other} sha256:{found['sha256']}"
    make_features(tiny_project, load_backbone())
    assert masks_backbone(tiny_project) == BUILT_IN


def test_the_command_makes_them_and_the_project_remembers(tiny_project_dir, other, capsys):
    assert _main(["features", str(tiny_project_dir), "--backbone", other, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert f"backbone: your folder {other.removeprefix('timm:')}" in shown and f"72 channels of {other}" in shown
    config = read_config(tiny_project_dir / "project.yaml")
    assert config.features.backbone == other and config.features.device == "cpu"
    assert _main(["features", str(tiny_project_dir)]) == 0
    assert "are there already" in capsys.readouterr().out
    with Project(tiny_project_dir) as project:
        assert features_are_made(project) and learned_features(project).shape[1] == 72


def test_an_accepted_licence_is_remembered(tiny_project_dir, capsys, monkeypatch):
    pytest.importorskip("timm", reason="needs the extra [train]")
    monkeypatch.setattr("a2lc.weights.files._cached", lambda weights, cache: None)
    monkeypatch.setattr("a2lc.weights.files._offline", lambda: False)
    monkeypatch.setattr("a2lc.weights.files._fetch", lambda weights, cache: pytest.fail("fetched"))
    wanted = ["features", str(tiny_project_dir), "--backbone", "timm:convnextv2_atto.fcmae"]
    assert _main(wanted) == 2
    assert "--accept-license" in capsys.readouterr().err
    assert _main([*wanted, "--accept-license", "timm/convnextv2_atto.fcmae"]) == 2
    assert "(options: --download, --backbone)" in capsys.readouterr().err
    before = (tiny_project_dir / "project.yaml").read_text()
    assert "features" not in before, "a command that failed changes nothing"


def test_a_run_without_the_weights_says_what_to_do(tiny_project, monkeypatch):
    pytest.importorskip("timm", reason="needs the extra [train]")
    monkeypatch.setattr("a2lc.weights.files._cached", lambda weights, cache: None)
    plan = with_head(tiny_project)
    features = tiny_project.config.features.model_copy(update={"backbone": "timm:convnext_atto.d2_in1k"})
    tiny_project.config = tiny_project.config.model_copy(update={"features": features})
    with pytest.raises(A2LCError, match=r"not on this machine.*a2lc features .*--download") as caught:
        Loop(tiny_project, plan).run(0)
    assert "\n" not in str(caught.value)


def test_features_of_another_backbone_are_named_and_kept(tiny_project, other):
    plan = with_head(tiny_project)
    Loop(tiny_project, plan).run(0)
    features = tiny_project.config.features.model_copy(update={"backbone": other})
    tiny_project.config = tiny_project.config.model_copy(update={"features": features})
    with pytest.raises(
        InputError, match=rf"made by {BUILT_IN}, but features\.backbone is {other}\. Make them anew: a2lc f"
    ):
        Loop(tiny_project, plan).run(1)
    assert learned_features(tiny_project) is None or masks_backbone(tiny_project) == BUILT_IN


def test_another_backbone_between_rounds_fits_the_last_head_anew(tiny_project_dir, other, capsys):
    with Project(tiny_project_dir) as project, project.lock():
        Loop(project, with_head(project)).run(1)
        project.config.save(project.folder / "project.yaml")
    assert _main(["features", str(tiny_project_dir), "--backbone", other]) == 0
    with Project(tiny_project_dir) as project, project.lock():
        Loop(project, RoundPlan.of(project.config)).run(2)
        assert next_stage(project) == (3, "score")
    # A person who forgets to pass it gets the one of the settings.
    assert read_config(tiny_project_dir / "project.yaml").features.backbone == other


def test_an_open_round_keeps_its_backbone(tiny_project_dir, other):
    with Project(tiny_project_dir) as project, project.lock():
        loop = Loop(project, with_head(project))
        while next_stage(project) != (1, "select"):
            loop.run_stage(next_stage(project)[1])
        from a2lc.rounds.backbone import require_change

        with pytest.raises(StageError, match="Round 1 is open at stage 'select'"):
            require_change(project, other)
        require_change(project, BUILT_IN)


def test_a_project_of_the_default_is_written_as_before(tiny_project):
    tiny_project.config.save(tiny_project.folder / "project.yaml")
    assert "features" not in (tiny_project.folder / "project.yaml").read_text()
