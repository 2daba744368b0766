"""The file of a final network: safetensors with a description in its metadata, which needs no project to be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from a2lc.errors import ImageFileError
from a2lc.io.files import atomic_path
from a2lc.project.config import TrainingConfig
from a2lc.training.fit import load_model

__all__ = ["load_final", "write_final"]

_KEY = "a2lc"


def write_final(checkpoint: Path, path: Path, about: dict[str, Any]) -> None:
    """Write the weights of a round's file as safetensors, whole or not at all.

    Args:
        checkpoint: As `a2lc.training.fit.save_model` wrote it.
        path: The new file.
        about: Description, kept in the metadata as JSON.
    """
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    with atomic_path(path) as temporary:
        # Not by save_file, whose files only their owner may read.
        tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
        temporary.write_bytes(save(tensors, {_KEY: json.dumps(about)}))


def load_final(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load a network that `a2lc train --final` wrote.

    Args:
        path: Its file of safetensors.

    Returns:
        The network, ready to predict logits (B, K, H, W) of images (B, 3, H, W), and its description: `classes` in the order of
        the logits, and under `input` the mean and deviation that images of [0, 1] are normalised by.

    Raises:
        ImageFileError: It is another file, or damaged.
        ConfigError: The weights are not of the network that the description names.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
        settings = {key: value for key, value in about["training"].items() if key != "seed"}
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ImageFileError(f"{path}: not a network that `a2lc train --final` wrote ({error}).") from None
    config = TrainingConfig.model_validate(settings)
    return load_model(config, len(about["classes"]["classes"]), path), about
