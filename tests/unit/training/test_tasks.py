"""What networks are fitted to: which images, which targets, and that a killed fit goes on as if nothing had been."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

from a2lc.errors import ConfigError
from a2lc.ledger import FIRST, VOID, MaskState
from a2lc.models.build import MODELS, build_model
from a2lc.models.heads import HeadedNet
from a2lc.project.config import TrainingConfig
from a2lc.records import AnswerKind, RegionAnswer
from a2lc.training.fit import fit_model, load_model
from a2lc.training.module import HELD_OUT
from a2lc.training.predict import predict_from_model, predict_uniform
from a2lc.training.tasks import regions, semi_supervised, supervised


class Parts(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, 2, 1), torch.nn.BatchNorm2d(6), torch.nn.ReLU())
        self.decoder = torch.nn.Conv2d(6, 5, 3, 2, 1)
        self.segmentation_head = torch.nn.Sequential(
            torch.nn.Conv2d(5, num_classes, 1), torch.nn.Upsample(scale_factor=4)
        )

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))


MODELS["parts"] = lambda config, num_classes: Parts(num_classes)
CONFIG = TrainingConfig(
    preset="tiny",
    model="parts",
    resize=32,
    iterations=6,
    batch_size=2,
    checkpoint="last",
    checkpoint_every=2,
    precision="32-true",
    logger="none",
)


def said(project, image, *classes):
    masks = project.masks.mask_ids[project.masks.image == image]
    return [
        RegionAnswer(mask_ids=(int(mask),), kind=AnswerKind.CLASSES, classes=tuple(own), round=1)
        for mask, own in zip(masks.tolist(), classes, strict=False)
    ]


def task_of(name, project, **more):
    if name == "regions":
        return regions(project, {0: said(project, 0, (0,), (1, 2)), 2: said(project, 2, (3, 1))}, CONFIG, **more)
    if name == "semi":
        return semi_supervised(project, project.state(), CONFIG, 4)
    return supervised(project, project.state(), CONFIG, 4)


HEADS = {"labels": "linear", "regions": "cosine", "semi": "error"}
every = pytest.mark.parametrize("name", sorted(HEADS))


def config_of(name):
    return CONFIG.model_copy(update={"head": HEADS[name]})


@every
def test_a_killed_fit_ends_with_the_same_weights(name, tiny_project, tmp_path, monkeypatch):
    task, config = task_of(name, tiny_project), config_of(name)
    fit_model(tiny_project, config, task, tmp_path / "whole", seed=7)
    real, steps = task.module, []

    class Stop(RuntimeError):
        pass

    def killed(*args, **more):
        module = real(*args, **more)
        step = module.training_step

        def training_step(*given):
            steps.append(1)
            if len(steps) == 4:
                raise Stop
            return step(*given)

        module.training_step = training_step
        return module

    from dataclasses import replace

    with pytest.raises(Stop):
        fit_model(tiny_project, config, replace(task, module=killed), tmp_path / "broken", seed=7)
    assert not (tmp_path / "broken" / task.weights).exists()
    fit_model(tiny_project, config, task, tmp_path / "broken", seed=7)
    whole, again = (torch.load(tmp_path / f / task.weights, weights_only=True) for f in ("whole", "broken"))
    assert whole.keys() == again.keys()
    for key in whole:
        torch.testing.assert_close(whole[key], again[key], rtol=1e-4, atol=1e-6)


@every
def test_what_was_fitted_predicts(name, tiny_project, tmp_path):
    task, config = task_of(name, tiny_project), config_of(name)
    fit_model(tiny_project, config, task, tmp_path, seed=7)
    image = tiny_project.images[1]
    predict = predict_from_model(tiny_project, config, tmp_path / task.weights)
    if name == "labels":
        assert predict(image).features is None, "who only asks for probabilities does not pay for features"
    found = predict.inspect(image)
    assert found.probs.shape == (tiny_project.classes.num_classes, image.height, image.width)
    np.testing.assert_allclose(found.probs.sum(axis=0), 1, atol=1e-5)
    assert found.features is not None and (found.class_logits is not None) == (name != "labels")
    assert (found.errors is not None) == (name == "semi")
    assert found.features.size == (image.height, image.width)
    if name != "labels":
        np.testing.assert_allclose(np.linalg.norm(found.features.values, axis=0), 1, atol=1e-5)
        # The class weights' products, interpolated, are the logits the probabilities come from.
        logits = found.features.upsample(found.class_logits) / (0.1 if name == "regions" else 1.0)
        agree = (logits.argmax(axis=0) == found.probs.argmax(axis=0)).mean()
        assert agree > 0.9, agree
    if found.errors is not None:
        assert found.errors.shape == (image.height, image.width)
        assert (found.errors >= 0).all() and (found.errors <= 1).all()


def test_regions_train_on_answered_regions_alone(tiny_project):
    task = task_of("regions", tiny_project)
    assert list(task.images) == [0, 2] and task.weights == "regions.ckpt"
    target = task.targets(tiny_project.images[0])
    mask_map = tiny_project.mask_map(tiny_project.images[0])
    masks = tiny_project.masks.mask_ids[tiny_project.masks.image == 0]
    assert (target == 0).sum() == (mask_map == masks[0]).sum() and (target == 1).sum() == (mask_map == masks[1]).sum()
    assert ((target == -1) == ~np.isin(mask_map, masks[:2])).all()
    with pytest.raises(KeyError):
        task.targets(tiny_project.images[1])


def test_regions_without_a_class_teach_nothing(tiny_project):
    void = RegionAnswer(mask_ids=(1,), kind=AnswerKind.VOID, classes=(), round=1)
    assert not list(regions(tiny_project, {0: [void]}, CONFIG).images)


def test_some_labels_are_held_out_for_the_error_head(tiny_project):
    task = task_of("semi", tiny_project)
    image = tiny_project.images[0]
    labels, target = tiny_project.corrected_labels(image).astype(int), task.targets(image)
    held = target >= HELD_OUT
    assert 0 < held.sum() < held.size
    np.testing.assert_array_equal(np.where(held, target - HELD_OUT, target), labels)
    mask_map = tiny_project.mask_map(image)
    for mask in np.unique(mask_map[mask_map > 0]):
        inside = (mask_map == mask) & (labels != 255)
        assert held[inside].all() or not held[inside].any(), "a mask is held out as a whole"
    np.testing.assert_array_equal(target, task_of("semi", tiny_project).targets(image))


def test_only_images_with_labels_are_trained_on_where_labels_are_missing(tiny_project, monkeypatch):
    masks = tiny_project.masks
    classes = np.where(masks.image == 1, VOID, FIRST).astype(np.int32)
    state = MaskState(classes=classes, source=np.zeros(len(masks), np.int8), winner=np.full(len(masks), -1))
    assert len(supervised(tiny_project, state, CONFIG, 0).images) == 4, "labels came with every image"
    partial = tiny_project.config.sources.model_copy(update={"partial": True})
    monkeypatch.setattr(tiny_project, "config", tiny_project.config.model_copy(update={"sources": partial}))
    assert list(supervised(tiny_project, state, CONFIG, 0).images) == [0, 2, 3]


def test_no_network_no_knowledge(tiny_project):
    found = predict_uniform(tiny_project)(tiny_project.images[0])
    assert np.allclose(found.probs, 1 / tiny_project.classes.num_classes)


def test_a_head_needs_encoder_and_decoder():
    MODELS["flat"] = lambda config, num_classes: torch.nn.Conv2d(3, num_classes, 1)
    with pytest.raises(
        ConfigError, match=r"A cosine classifier needs a network with encoder, decoder.* Conv2d has none"
    ):
        build_model(CONFIG.model_copy(update={"model": "flat", "head": "cosine"}), 3)


def test_weights_of_another_head_are_refused(tiny_project, tmp_path):
    fit_model(tiny_project, CONFIG, task_of("labels", tiny_project), tmp_path, seed=1)
    with pytest.raises(ConfigError, match="weights of a different network"):
        load_model(config_of("semi"), tiny_project.classes.num_classes, tmp_path / "model.ckpt")
    assert isinstance(build_model(config_of("semi"), 3), HeadedNet)


def test_half_of_what_is_drawn_carries_labels(tiny_project, monkeypatch):
    masks = tiny_project.masks
    classes = np.where(masks.image != 2, VOID, FIRST).astype(np.int32)
    state = MaskState(classes=classes, source=np.zeros(len(masks), np.int8), winner=np.full(len(masks), -1))
    partial = tiny_project.config.sources.model_copy(update={"partial": True})
    monkeypatch.setattr(tiny_project, "config", tiny_project.config.model_copy(update={"sources": partial}))
    assert sorted(semi_supervised(tiny_project, state, CONFIG, 0).images) == [0, 1, 2, 2, 2, 3]
    all_void = MaskState(classes=np.full_like(classes, VOID), source=state.source, winner=state.winner)
    assert not len(semi_supervised(tiny_project, all_void, CONFIG, 0).images)
