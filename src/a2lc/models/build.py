"""Networks by name, from images (B, 3, H, W) to logits (B, K, H, W)."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

from torch import nn

from a2lc.errors import A2LCError, ConfigError, require_known
from a2lc.models.encoder_weights import has_own_weights, load_encoder
from a2lc.models.heads import HeadedNet
from a2lc.project.config import TrainingConfig

__all__ = ["MODELS", "build_model", "encoder_parameters"]

_log = logging.getLogger("a2lc")

Builder = Callable[[TrainingConfig, int], nn.Module]


def _smp(architecture: str) -> Builder:
    def build(config: TrainingConfig, num_classes: int) -> nn.Module:
        import segmentation_models_pytorch as smp

        kinds = {"deeplabv3plus": smp.DeepLabV3Plus, "unet": smp.Unet, "fpn": smp.FPN}
        extra = {"encoder_output_stride": config.output_stride} if architecture == "deeplabv3plus" else {}
        if config.encoder.startswith("mit_") and config.encoder_weights is not None:
            raise ConfigError(
                f"The weights of encoder {config.encoder!r} are licensed for research only. Use another encoder, or "
                "encoder_weights: null."
            )

        def built(weights: str | None) -> nn.Module:
            network: nn.Module = kinds[architecture](
                config.encoder, encoder_weights=weights, classes=num_classes, **extra
            )
            return network

        own = config.encoder_weights if has_own_weights(config.encoder_weights) else None
        try:
            network = built(None if own else config.encoder_weights)
            if own:
                load_encoder(network.get_submodule("encoder"), config.encoder, own)
            return network
        except A2LCError:
            raise
        except KeyError:
            raise ConfigError(
                f"segmentation-models-pytorch does not have training.encoder {config.encoder!r} or its weights "
                f"{config.encoder_weights!r}. Known to work: resnet18, resnet50, resnet101 and mobilenet_v2."
            ) from None
        except (OSError, RuntimeError, ValueError) as error:
            if config.encoder_weights is None:
                raise
            _log.warning(
                "pretrained weights %r of %s could not be downloaded (%s); training starts from scratch",
                config.encoder_weights,
                config.encoder,
                str(error).splitlines()[0],
            )
            return built(None)

    return build


MODELS: dict[str, Builder] = {name: _smp(name) for name in ("deeplabv3plus", "unet", "fpn")}
"""Builders by name."""


def build_model(config: TrainingConfig, num_classes: int) -> nn.Module:
    """Build the network a configuration names.

    A name with a colon, `package.module:function`, is imported and called with `num_classes`; it must return a
    `torch.nn.Module` from images to logits of the same height and width, or an object with `.logits` of any size.

    Raises:
        UnknownNameError: There is no such model.
        ConfigError: The function cannot be imported, or returns no module.
    """
    network = _build_base(config, num_classes)
    return network if config.head == "linear" else HeadedNet(network, num_classes, config.head)


def _build_base(config: TrainingConfig, num_classes: int) -> nn.Module:
    if ":" not in config.model:
        return MODELS[
            require_known("model", config.model, [*MODELS, "head", "probabilities", "package.module:function"])
        ](config, num_classes)
    module_name, _, function = config.model.partition(":")
    try:
        builder: Any = getattr(importlib.import_module(module_name), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"training.model {config.model!r} cannot be imported: {error}.") from None
    model = builder(num_classes=num_classes)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"training.model {config.model!r} returned {type(model).__name__}, not a torch.nn.Module.")
    return model


def encoder_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Split parameters into those of the pretrained part and the rest; all in the rest if no part is an encoder."""
    encoder = getattr(model, "encoder", None)
    inside = {id(p) for p in encoder.parameters()} if isinstance(encoder, nn.Module) else set()
    both: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
    for parameter in model.parameters():
        both[0 if id(parameter) in inside else 1].append(parameter)
    return both
