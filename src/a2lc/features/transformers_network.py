"""Networks of transformers: DINO, ConvNeXt, Swin, the encoders of SAM and SAM 2, and whatever shows patches or stages."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

from a2lc.errors import InputError
from a2lc.features.torch_backbone import Network, chosen_levels
from a2lc.images.normalisation import IMAGENET_MEAN, IMAGENET_STD
from a2lc.weights.files import Ready
from a2lc.weights.loading import load_model, reading_config

__all__ = ["open_network"]


def open_network(ready: Ready, device: str) -> Network:
    """Load a model of transformers from safetensors alone, in single precision on a device.

    Args:
        ready: Its files, as `save_pretrained` writes them.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: They are not those of a model that sees images and shows patches or stages.
    """
    config = _config(ready)
    kind = config.model_type
    if kind in {"sam", "sam2", "sam2_video"}:
        levels, side = _segment_anything(ready, device, kind)
    elif (backbone := _backbone_class(config)) is not None:
        indices = [at + 1 for at in chosen_levels(len(config.stage_names) - 1)]  # the first is the stem
        network = load_model(backbone, ready, device, out_indices=indices)

        def levels(images: Any) -> Sequence[Any]:
            found: Sequence[Any] = network(images).feature_maps
            return found

        side = _side(config)
    else:
        levels, side = _any_encoder(ready, device, config)
    mean, std = _normalisation(ready)
    return Network(levels=levels, mean=mean, std=std, side=side)


def _config(ready: Ready) -> Any:
    """Return the configuration of the model; no code of strangers is run."""
    from transformers import AutoConfig

    reading_config(ready)  # names a damaged file
    try:
        return AutoConfig.from_pretrained(str(ready.folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{ready.folder}: transformers does not know this kind of model: {said}") from None


def _backbone_class(config: Any) -> Any:
    """Return the class that shows the stages of a model, None if there is none."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

    if type(config) not in MODEL_FOR_BACKBONE_MAPPING or not getattr(config, "stage_names", None):
        return None
    return MODEL_FOR_BACKBONE_MAPPING[type(config)]


def _segment_anything(ready: Ready, device: str, kind: str) -> tuple[Any, int]:
    """Return the levels of the image encoder of SAM or SAM 2."""
    from transformers import Sam2Model, SamModel

    model_class: Any = SamModel if kind == "sam" else Sam2Model
    model = load_model(model_class, ready, device)
    encoder, config = model.vision_encoder, model.config.vision_config

    def of_first(images: Any) -> list[Any]:
        found = encoder(images, output_hidden_states=True)
        states = found.hidden_states[1:]
        *middle, _ = chosen_levels(len(states))
        return [*(states[at].permute(0, 3, 1, 2) for at in middle), found.last_hidden_state]

    def of_second(images: Any) -> Any:
        return encoder(images).fpn_hidden_states

    if kind == "sam":
        return of_first, _side(config)
    return of_second, _side(config.backbone_config)


def _any_encoder(ready: Ready, device: str, config: Any) -> tuple[Any, int]:
    """Return the levels of any model that sees images: its hidden states, of tokens or of stages."""
    from transformers import AutoModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    if type(config) not in MODEL_MAPPING:
        raise InputError(f"{ready.folder}: a model of type {config.model_type!r} cannot serve as a backbone.")
    model = load_model(AutoModel, ready, device)
    encoder = getattr(model, "vision_model", model)
    if getattr(encoder, "main_input_name", "") != "pixel_values":
        raise InputError(f"{ready.folder}: a model of type {config.model_type!r} does not see images.")
    side, name = _side(getattr(config, "vision_config", None) or config), config.model_type
    known = inspect.signature(encoder.forward).parameters
    more = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}
    patch = getattr(getattr(config, "vision_config", None) or config, "patch_size", None)

    def levels(images: Any) -> list[Any]:
        found = encoder(images, output_hidden_states=True, **more)
        states = getattr(found, "reshaped_hidden_states", None) or found.hidden_states
        if states is None:
            raise InputError(f"A model of type {name!r} does not give its hidden states. Choose another backbone.")
        if states[-1].ndim == 4:
            last_of_size = {tuple(state.shape[-2:]): state for state in states}
            return [list(last_of_size.values())[at] for at in chosen_levels(len(last_of_size))]
        rows, cols = images.shape[-2] // int(patch or 1), images.shape[-1] // int(patch or 1)
        tokens = [*states[1:-1], found.last_hidden_state]
        chosen = [tokens[at] for at in chosen_levels(len(tokens))]
        if rows * cols > chosen[0].shape[1]:
            raise InputError(f"A model of type {name!r} does not show a token for each patch. Choose another backbone.")
        # Tokens of classes and registers come first.
        return [t[:, t.shape[1] - rows * cols :].transpose(1, 2).reshape(len(t), -1, rows, cols) for t in chosen]

    return levels, side


def _side(config: Any) -> int:
    """Return the side of the images that a model was trained on."""
    size: Any = getattr(config, "image_size", None) or 224
    return int(max(size)) if isinstance(size, list | tuple) else int(size)


def _normalisation(ready: Ready) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of the channels, as the model's own processor takes them."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = ready.folder / name
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                found = found.get("image_processor", found)
                if found.get("image_mean") and found.get("image_std"):
                    return tuple(map(float, found["image_mean"])), tuple(map(float, found["image_std"]))
            except (ValueError, AttributeError, TypeError):
                raise InputError(f"{path}: not valid JSON of a processor. Download the weights again.") from None
    return IMAGENET_MEAN, IMAGENET_STD
