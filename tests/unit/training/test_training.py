"""Real training of a real network, a few steps on tiny scenes."""

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

from a2lc.creation.importer import create_project
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.errors import ConfigError, MissingFileError, UnknownNameError
from a2lc.formats.base import Sources
from a2lc.models.build import MODELS
from a2lc.project.config import AnnotatorConfig, TrainingConfig
from a2lc.project.project import Project
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.training import fit
from a2lc.training.canvas import Canvas, canvas_for, fit_ids, fit_image, to_probs
from a2lc.training.dataset import StepSampler, TrainingSet, canvas_tensor
from a2lc.training.fit import fit_model, load_model, pick_precision, save_model
from a2lc.training.module import SegmentationModule
from a2lc.training.predict import predict_from_model
from a2lc.training.tasks import supervised


def labels_task(project, state=None):
    return supervised(project, project.state() if state is None else state, TINY, 0)


class Small(torch.nn.Module):
    """A network with all that resuming must bring back: running means, dropout, an encoder with a rate of its own."""

    def __init__(self, num_classes):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.head = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Conv2d(8, num_classes, 1))

    def forward(self, x):
        return self.head(self.encoder(x))


MODELS["small"] = lambda config, num_classes: Small(num_classes)
REAL = TrainingConfig(
    preset="tiny", model="deeplabv3plus", resize=32, iterations=3, batch_size=2, checkpoint="last", precision="32-true"
)
TINY = TrainingConfig(
    preset="tiny",
    model="small",
    resize=32,
    iterations=6,
    warm_iterations=4,
    batch_size=2,
    validate_every=2,
    checkpoint_every=2,
    precision="32-true",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("training")
    write_scenes(root / "scenes", SceneSettings(images=4, validation_images=2, height=48, width=64, seed=1))
    scenes = root / "scenes"
    sources = Sources(
        images=scenes / "images",
        labels=scenes / "labels",
        masks=scenes / "masks",
        ground_truth=scenes / "ground_truth",
    )
    create_project(root / "p.a2lc", sources, scene_classes())
    with Project(root / "p.a2lc") as opened:
        yield opened


def weights(folder):
    return torch.load(folder / "model.ckpt", weights_only=True)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(project, tmp_path_factory):
    """An unbroken training, and the steps after which it was validated."""
    folder = tmp_path_factory.mktemp("whole")
    validated = []
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, validated)
        fitted = fit_model(project, TINY, labels_task(project), folder, seed=7)
    assert fitted.steps == 6 and fitted.kept in {"best", "last"} and 0 <= fitted.validation_miou <= 1
    assert not (folder / "training").exists() and validated == [2, 4, 6, 6]
    return fitted, weights(folder)


def watch(patch, validated):
    real = SegmentationModule.on_validation_epoch_start
    patch.setattr(
        SegmentationModule,
        "on_validation_epoch_start",
        lambda self: (validated.append(self.global_step), real(self))[1],
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize(("every", "kill_after", "resumed_at"), [(2, 2, 0), (2, 4, 3), (1, 4, 3), (3, 5, 3), (1, 6, 5)])
def test_resumed_training_comes_to_the_same_weights(
    project, whole, tmp_path, monkeypatch, every, kill_after, resumed_at
):
    config = TINY.model_copy(update={"checkpoint_every": every})
    steps, validated = [], []
    watch(monkeypatch, validated)

    def die(self, trainer, *_):
        steps.append(trainer.global_step)
        if len(steps) == kill_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit._Progress, "on_train_batch_end", die)
        with pytest.raises(Killed):
            fit_model(project, config, labels_task(project), tmp_path, seed=7)
    before = len(validated)
    with monkeypatch.context() as patch:
        patch.setattr(fit._Progress, "on_train_batch_end", lambda self, trainer, *_: steps.append(trainer.global_step))
        fitted = fit_model(project, config, labels_task(project), tmp_path, seed=7)
    assert steps == [*range(1, kill_after + 1), *range(resumed_at + 1, 7)]
    assert validated[before:] == [step for step in (2, 4, 6, 6) if step > resumed_at]
    assert fitted == whole[0] and same(weights(tmp_path), whole[1])


def test_seeds_decide_the_weights(project, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        fit_model(project, TINY, labels_task(project), tmp_path / name, seed=seed)
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


def test_warm_start_goes_on_from_weights(project, tmp_path):
    fit_model(project, TINY, labels_task(project), tmp_path / "first", seed=1)
    still = TINY.model_copy(update={"learning_rate": 1e-12, "floor": 0.0, "warm_iterations": 2, "checkpoint": "last"})
    fitted = fit_model(
        project, still, labels_task(project), tmp_path / "second", seed=2, start=tmp_path / "first/model.ckpt"
    )
    assert fitted.steps == 2 and fitted.kept == "last" and fitted.validation_miou is None
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    name = "head.1.weight"
    assert torch.allclose(first[name], second[name], atol=1e-6)


def test_last_weights_without_validation_and_best_is_refused(project, tmp_path, monkeypatch):
    monkeypatch.setitem(vars(project), "validation_images", [])
    fitted = fit_model(project, TINY, labels_task(project), tmp_path, seed=1)
    assert fitted.kept == "last" and fitted.validation_miou is None
    with pytest.raises(ConfigError, match="no validation images"):
        fit_model(project, TINY.model_copy(update={"checkpoint": "best"}), labels_task(project), tmp_path, seed=1)


def test_training_lowers_the_loss_on_its_own_labels(project, tmp_path):
    config = TINY.model_copy(update={"iterations": 60, "checkpoint": "last", "learning_rate": 1e-2})
    fit_model(project, config, labels_task(project), tmp_path, seed=3)
    predict = predict_from_model(project, config, tmp_path / "model.ckpt")
    right = total = 0
    for image in project.images:
        labels = project.first_labels(image)
        right += int((predict(image).probs.argmax(0) == labels).sum())
        total += int((labels != 255).sum())
    share = np.bincount(np.concatenate([project.first_labels(i).ravel() for i in project.images]), minlength=256)[
        :255
    ].max()
    assert right > 1.15 * share, (right, share, total)


def test_deeplab_gives_probabilities_of_the_image_size(project, tmp_path):
    fit_model(project, REAL, labels_task(project), tmp_path, seed=1)
    image = project.images[0]
    probs = predict_from_model(project, REAL, tmp_path / "model.ckpt")(image).probs
    assert probs.shape == (project.classes.num_classes, image.height, image.width) and probs.dtype == np.float32
    np.testing.assert_allclose(probs.sum(0), 1, atol=1e-5)


def test_own_module_by_argument_and_by_name(project, tmp_path, monkeypatch):
    class Own(torch.nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, num_classes, 3, stride=4, padding=1)

        def forward(self, x):
            return self.conv(x)

    fit_model(project, TINY, labels_task(project), tmp_path / "arg", seed=1, model=Own(project.classes.num_classes))
    assert set(weights(tmp_path / "arg")) == {"conv.weight", "conv.bias"}
    (tmp_path / "own_models.py").write_text(
        "import torch\ndef build(num_classes):\n    return torch.nn.Conv2d(3, num_classes, 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    named = TINY.model_copy(update={"model": "own_models:build"})
    fit_model(project, named, labels_task(project), tmp_path / "named", seed=1)
    assert predict_from_model(project, named, tmp_path / "named/model.ckpt")(project.images[0]).probs.ndim == 3
    with pytest.raises(ConfigError, match="cannot be imported"):
        fit_model(
            project, TINY.model_copy(update={"model": "own_models:nothing"}), labels_task(project), tmp_path, seed=1
        )


def test_bad_training_settings(project, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'deeplabv3plus'"):
        fit_model(project, REAL.model_copy(update={"model": "deeplabv3"}), labels_task(project), tmp_path, seed=1)
    with pytest.raises(ConfigError, match="resnet18x"):
        fit_model(project, REAL.model_copy(update={"encoder": "resnet18x"}), labels_task(project), tmp_path, seed=1)
    with pytest.raises(ConfigError, match="precision 'half'"):
        pick_precision(TINY.model_copy(update={"precision": "half"}))
    with pytest.raises(ConfigError, match="research only"):
        fit_model(
            project,
            REAL.model_copy(update={"encoder": "mit_b0", "encoder_weights": "imagenet", "model": "unet"}),
            labels_task(project),
            tmp_path,
            seed=1,
        )


def test_weights_that_cannot_be_fetched_start_from_scratch_and_say_so(project, tmp_path, monkeypatch, caplog):
    import segmentation_models_pytorch as smp

    real = smp.DeepLabV3Plus

    def offline(*args, encoder_weights=None, **kwargs):
        if encoder_weights is not None:
            raise OSError("no route to host")
        return real(*args, encoder_weights=None, **kwargs)

    monkeypatch.setattr(smp, "DeepLabV3Plus", offline)
    with caplog.at_level(logging.WARNING, logger="a2lc"):
        fit_model(
            project, REAL.model_copy(update={"encoder_weights": "imagenet"}), labels_task(project), tmp_path, seed=1
        )
    assert "training starts from scratch" in caplog.text and "no route to host" in caplog.text


def test_weights_of_another_network_are_refused(tmp_path):
    save_model(torch.nn.Conv2d(3, 5, 1), tmp_path / "model.ckpt")
    with pytest.raises(ConfigError, match="weights of a different network"):
        load_model(REAL, 5, tmp_path / "model.ckpt")


def test_whole_loop_with_training(project):
    plan = RoundPlan(
        method="a2lc", settings={"epochs": 5}, budget=5, training=TINY, annotator=AnnotatorConfig(), seed=0
    )
    lines = []
    assert Loop(project, plan, on_stage=lambda result: lines.extend(result.lines())).run(1)
    assert [line.split()[2] for line in lines] == [
        *("train", "evaluate", "score", "select", "answer", "correct", "train", "evaluate")
    ]
    assert (project.round_folder(1) / "model.ckpt").is_file()
    with pytest.raises(MissingFileError, match="No folder of probabilities"):
        probs = TrainingConfig(model="probabilities", probabilities="nowhere")
        Loop(project, RoundPlan(**{**vars(plan), "training": probs})).run(2)


# ---- canvas and data --------------------------------------------------------------------------------------------------


def test_canvas_keeps_the_aspect_and_brings_sizes_back():
    canvas = canvas_for([(360, 480), (360, 480), (100, 900)], 192)
    assert (canvas.height, canvas.width) == (192, 256)
    assert canvas.fitted(360, 480) == (192, 256) and canvas.fitted(100, 900) == (28, 256)
    assert canvas.padded(28, 256) == (192, 256)
    assert canvas_for([(10, 10)], None) == Canvas(None, None) and Canvas(None, None).padded(33, 64) == (64, 64)
    assert (canvas_for([(480, 360)], 192).height, canvas_for([(480, 360)], 192).width) == (256, 192)


def test_ids_are_scaled_by_nearest_and_images_alike():
    ids = np.array([[1, 2], [3, 4]], dtype=np.uint8)
    np.testing.assert_array_equal(fit_ids(ids, Canvas(4, 4)), np.kron(ids, np.ones((2, 2), dtype=np.uint8)))
    image = np.kron(np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20, np.ones((32, 32, 1), dtype=np.uint8))
    assert fit_image(image, Canvas(32, 64)).shape == (32, 32, 3)
    tensor, fitted = canvas_tensor(image, Canvas(32, 64))
    assert fitted == (32, 32) and tuple(tensor.shape) == (3, 32, 64)
    assert tensor[:, 0, 63].tolist() == [124, 116, 104]


def test_probs_of_the_filled_part_alone():
    logits = torch.full((2, 4, 8), -50.0)
    logits[1, :, :4] = 50
    logits[0, :, 4:] = 50  # padding says something else
    probs = to_probs(logits, (4, 4), (12, 12))
    assert probs.shape == (2, 12, 12) and (probs[1] > 0.99).all()


def test_samples_depend_on_seed_epoch_and_image_alone(project):
    config = TINY.model_copy(update={"scale": (0.5, 2.0), "colour_jitter": 0.5})
    sets = [TrainingSet(project, labels_task(project), Canvas(32, 64), config, seed=s) for s in (4, 4, 5)]
    key = 3 * 2**32 + 1
    first, again, other = (s[key] for s in sets)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(sets[0][key + 2**32][0], first[0])
    assert first[0].shape == (3, 32, 64) and first[1].shape == (32, 64)


def test_padding_carries_no_class(project):
    config = TINY.model_copy(update={"scale": (0.3, 0.3001), "colour_jitter": 0.0, "crop": 64})
    _, target = TrainingSet(project, labels_task(project), Canvas(32, 64), config, seed=0)[0]
    assert (target[:, 40:] == 255).all() and (target != 255).any()


def test_training_targets_are_the_corrected_labels(project):
    state = project.state()
    config = TINY.model_copy(update={"scale": (1.0, 1.0), "colour_jitter": 0.0, "flip": False})
    image = project.images[0]
    mask = int(np.flatnonzero(project.masks.image == 0)[project.masks.area[project.masks.image == 0].argmax()])
    state.classes[mask] = 9
    _, target = TrainingSet(project, labels_task(project, state), Canvas(None, None), config, seed=0)[0]
    inside = project.mask_map(image) == project.masks.mask_ids[mask]
    target = target[: image.height, : image.width].numpy()
    assert (target[inside] == 9).all()
    np.testing.assert_array_equal(target[~inside], project.first_labels(image)[~inside])


def test_sampler_goes_on_at_any_step_and_shares_among_processes():
    whole = list(StepSampler(5, batch_size=2, steps=6, seed=1))
    assert sorted(key % 2**32 for key in whole[:5]) == [0, 1, 2, 3, 4] == sorted(key % 2**32 for key in whole[5:10])
    assert [key // 2**32 for key in whole] == [0] * 5 + [1] * 5 + [2] * 2
    assert whole[:5] != [key % 2**32 for key in whole[5:10]]
    assert list(StepSampler(5, batch_size=2, steps=6, seed=1, start=4)) == whole[8:]
    shares = [list(StepSampler(5, batch_size=1, steps=6, seed=1, rank=rank, world=2)) for rank in (0, 1)]
    assert [key for pair in zip(*shares, strict=True) for key in pair] == whole
    assert len(StepSampler(2, batch_size=8, steps=3, seed=1, start=2)) == 24
