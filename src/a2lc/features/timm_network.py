"""Networks of timm: patch tokens of transformers, and stages of convolutional networks, as levels."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from a2lc.errors import InputError
from a2lc.features.torch_backbone import Network, chosen_levels
from a2lc.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from a2lc.weights.files import Ready
from a2lc.weights.loading import check_whole, reading_config

__all__ = ["open_network"]


def open_network(ready: Ready, device: str) -> Network:
    """Load a model of timm from safetensors alone, in single precision on a device.

    Args:
        ready: Its files: `config.json` as timm writes it, and `model.safetensors`.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: They are not those of a model of timm whose levels can be had.
    """
    config = reading_config(ready)
    architecture, about = config.get("architecture"), config.get("pretrained_cfg") or config
    if not isinstance(architecture, str) or not isinstance(about, dict):
        raise InputError(f"{ready.folder / 'config.json'} names no architecture of timm, as save_for_hf writes it.")
    model = _build(ready, architecture, dict(config.get("model_args") or {}))
    if not hasattr(model, "forward_intermediates"):
        raise InputError(f"{architecture} of timm does not give its intermediate levels. Choose another backbone.")
    _load(ready, model, architecture)
    model = model.float().eval().to(device)
    indices = chosen_levels(len(model.feature_info))

    def levels(images: Any, norm: bool = True) -> Sequence[Any]:
        try:
            found: Sequence[Any] = model.forward_intermediates(
                images, indices=indices, norm=norm, output_fmt="NCHW", intermediates_only=True
            )
        except AssertionError as error:
            if norm and "norm" in str(error):  # a few models can only show their levels as they are
                return levels(images, norm=False)
            raise
        return found

    return Network(
        levels=levels,
        mean=tuple(about.get("mean") or IMAGENET_MEAN),
        std=tuple(about.get("std") or IMAGENET_STD),
        side=int((about.get("input_size") or (3, 224, 224))[-1]),
    )


def _build(ready: Ready, architecture: str, arguments: dict[str, Any]) -> Any:
    """Build a model without weights, for images of any size where it can be."""
    import timm

    failure: Exception | None = None
    for more in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        try:
            return timm.create_model(architecture, pretrained=False, **{**arguments, **more, "num_classes": 0})
        except TypeError as error:  # it knows no such argument
            failure = error
        except (RuntimeError, ValueError, AssertionError) as error:
            failure = error
            break
    said = " ".join(str(failure).split())[:300]
    raise InputError(f"{ready.folder}: timm cannot build {architecture}: {said}")


def _load(ready: Ready, model: Any, architecture: str) -> None:
    """Load the weights; heads of classification are left out."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = ready.folder / "model.safetensors"
    try:
        state = load_file(path)
        convert = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None)
        if convert is not None:
            state = convert(state, model)
        missing, _ = model.load_state_dict(state, strict=False)
    except (SafetensorError, OSError, RuntimeError, KeyError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not the weights of {architecture} of timm: {said}") from None
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    check_whole(ready, architecture, [name for name in missing if name in sizes], sizes)
