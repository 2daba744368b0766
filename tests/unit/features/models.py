"""Tiny models of timm and transformers with random weights, written as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SMALL_VIT = {"embed_dim": 24, "depth": 4, "num_heads": 2}


def write_timm(folder: Path, architecture: str, side: int, **arguments: Any) -> Path:
    """A model as `timm.models.save_for_hf` writes it, for square images of a side."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model(architecture, pretrained=False, **arguments)
    timm.models.save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"input_size": [3, side, side], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    return folder


def write_transformers(folder: Path, kind: str, **settings: Any) -> Path:
    """A model by the name of its class without `Model`, as `save_pretrained` writes it."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**settings)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    return folder
