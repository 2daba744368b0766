"""Weights that an encoder starts from: those of the learned features' package, or the user's own file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from a2lc.errors import ConfigError, ImageFileError, MissingFileError
from a2lc.features.choice import BUILT_IN
from a2lc.features.weights import read_state, weights_file
from a2lc.images.normalisation import IMAGENET_MEAN, IMAGENET_STD

__all__ = ["LITE0_ENCODER", "has_own_weights", "load_encoder"]

LITE0_ENCODER = "tu-tf_efficientnet_lite0"
"""Encoder of segmentation-models-pytorch that computes what the package's weights were trained for.

Its older `timm-tf_efficientnet_lite0` takes them too, but pads images in another way.
"""

_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin", ".ckpt"}

_PREFIXES = ("", "encoder.", "model.encoder.", "model.", "backbone.")
"""What may stand before the names of an encoder's parameters in a file."""

_EPSILON = 1e-3  # of batch normalisation where the package's weights were trained, in TensorFlow


def has_own_weights(encoder_weights: str | None) -> bool:
    """Return whether a setting names the package or a file, rather than weights that segmentation-models-pytorch knows."""
    if encoder_weights is None:
        return False
    return encoder_weights == BUILT_IN or Path(encoder_weights).suffix in _SUFFIXES or "/" in encoder_weights


def load_encoder(encoder: nn.Module, name: str, encoder_weights: str) -> None:
    """Load the weights that a setting names into an encoder, in place.

    Those of the package expect values of -1 to 1 and a larger ε of batch normalisation: both are worked into the first layer
    and the variances, so that the encoder computes the same from normalised images.

    Args:
        encoder: Of segmentation-models-pytorch.
        name: The setting `training.encoder`.
        encoder_weights: `efficientnet-lite0`, or a file: safetensors, or torch's format of before version 1.6.

    Raises:
        ConfigError: The weights are not of this encoder, or the file is of another format.
        MissingFileError: There is no such file.
        MissingExtraError: The package is not installed.
        ImageFileError: The file is damaged.
    """
    if encoder_weights == BUILT_IN:
        packaged = {key: torch.from_numpy(array) for key, array in read_state(weights_file()).items()}
        fitted = _by_order(encoder, packaged)
        if fitted is None:
            raise ConfigError(
                f"training.encoder_weights {BUILT_IN} does not fit training.encoder {name!r}. Set training.encoder="
                f"{LITE0_ENCODER}"
            )
        _adapt(encoder, fitted)
    else:
        path = Path(encoder_weights)
        state = _read(path)
        fitted = _by_name(encoder, state)
        if fitted is None and path.suffix != ".safetensors":
            fitted = _by_order(encoder, state)  # names of another library
        if fitted is None:
            raise ConfigError(
                f"training.encoder_weights {path} does not fit training.encoder {name!r}: {_difference(encoder, state)}."
            )
    encoder.load_state_dict(fitted, strict=False)


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    """Read a file of weights without running a pickle of any kind."""
    if not path.is_file():
        raise MissingFileError(f"There are no training.encoder_weights at {path}.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise ImageFileError(f"{path} is damaged: {' '.join(str(error).split())}.") from None
    try:
        return {key: torch.from_numpy(array) for key, array in read_state(path, digest=None).items()}
    except ImageFileError:
        raise ConfigError(
            f"{path}: not safetensors, nor plain tensors in torch's format of before version 1.6; other files can run code "
            "when they are read. Save the weights with safetensors.torch.save_file."
        ) from None


def _needed(encoder: nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in encoder.state_dict().items() if not key.endswith("num_batches_tracked")}


def _by_name(encoder: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """Return the encoder's parameters out of a file that names them alike; None if one is missing or of another shape."""
    needed = _needed(encoder)
    for prefix in _PREFIXES:
        found = {key: state[prefix + key] for key in needed if prefix + key in state}
        if len(found) == len(needed) and all(found[key].shape == needed[key].shape for key in needed):
            return found
    return None


def _by_order(encoder: nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """Return the encoder's parameters out of a file that has them in the same order; None if a shape differs."""
    needed = _needed(encoder)
    arrays = [tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")]
    if len(arrays) < len(needed):
        return None
    found = dict(zip(needed, arrays, strict=False))
    return found if all(found[key].shape == needed[key].shape for key in needed) else None


def _difference(encoder: nn.Module, state: Mapping[str, torch.Tensor]) -> str:
    """Describe the first parameter of the encoder that a file lacks or has in another shape."""
    for key, tensor in _needed(encoder).items():
        found = next((state[prefix + key] for prefix in _PREFIXES if prefix + key in state), None)
        if found is None:
            return f"it has no {key}"
        if found.shape != tensor.shape:
            return f"its {key} is {tuple(found.shape)}, expected {tuple(tensor.shape)}"
    return "its parameters stand under several prefixes"


def _adapt(encoder: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Make weights for values of -1 to 1 and TensorFlow's ε those of normalised images and the encoder's ε, in place."""
    first = next(key for key, tensor in state.items() if tensor.ndim == 4)
    norm = next(key for key in state if key.endswith("running_mean"))
    kernel = state[first]
    shift = (torch.tensor(IMAGENET_MEAN) - 0.5) / 0.5
    state[norm] = state[norm] - torch.einsum("oihw,i->o", kernel, shift)
    state[first] = kernel * (torch.tensor(IMAGENET_STD) / 0.5).view(1, 3, 1, 1)
    for name, module in encoder.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{name}.running_var" in state:
            state[f"{name}.running_var"] = state[f"{name}.running_var"] + (_EPSILON - module.eps)
