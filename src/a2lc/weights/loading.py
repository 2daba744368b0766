"""Load processors and models of transformers from files alone, and choose the device that they run on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from a2lc.errors import InputError
from a2lc.weights.files import Ready

__all__ = ["check_whole", "choose_device", "load_model", "load_processor", "reading_config"]


def choose_device(name: str) -> str:
    """Return a torch device by name; `auto` is a CUDA device if there is one, else the CPU.

    Raises:
        InputError: There is no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"Unknown device {name!r}. Known: auto, cpu, cuda, cuda:0, ..") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise InputError(f"`device` is {name}, but this machine has {torch.cuda.device_count()} CUDA devices. Use cpu.")
    if device.type not in {"cpu", "cuda"}:
        raise InputError(f"`device` is {name}, but only cpu and cuda are supported.")
    return name


def reading_config(ready: Ready) -> dict[str, Any]:
    """Read config.json of a model.

    Raises:
        InputError: It is not valid.
    """
    path = ready.folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path}: not valid JSON. Download the weights again.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected the configuration of a model, found {type(found).__name__}.")
    return found


def load_processor(kind: Any, ready: Ready) -> Any:
    """Load a processor of transformers from the files alone; no code of strangers is run.

    Raises:
        InputError: The files are not those of such a processor.
    """
    with _quiet():
        try:
            return kind.from_pretrained(ready.folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{ready.folder}: not the files of a {kind.__name__}: {' '.join(str(error).split())[:300]}"
            ) from None


def load_model(kind: Any, ready: Ready, device: str, **settings: Any) -> Any:
    """Load a model of transformers in single precision on a device, from safetensors alone.

    Args:
        kind: Its class.
        ready: Its files.
        device: `cpu`, `cuda` or `cuda:N`.
        settings: What its configuration is to say in place of what the files do.

    Raises:
        InputError: The file is damaged, or holds the weights of another model.
    """
    from safetensors import SafetensorError

    with _quiet():
        try:
            model, said = kind.from_pretrained(
                ready.folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
                **settings,
            )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{ready.folder}: not the files of a {kind.__name__}: {' '.join(str(error).split())[:300]}"
            ) from None
    # What a file lacks is made up at random, with no more than a warning. A buffer or two may be missing of weights saved by
    # an older version; a layer may not.
    own = dict(model.named_parameters())
    # Normalisations of stages, which only a backbone has, begin as the identity and are no weights that were learnt.
    missing = [name for name in said["missing_keys"] if name in own and "hidden_states_norms" not in name]
    check_whole(ready, kind.__name__, missing, {name: parameter.numel() for name, parameter in own.items()})
    return model.float().eval().to(device)


def check_whole(ready: Ready, model: str, missing: Iterable[str], sizes: Mapping[str, int]) -> None:
    """Refuse a file that lacks more than a hundredth of a model's weights.

    Args:
        ready: The file.
        model: Name of the model's class.
        missing: Names of parameters that the file lacks.
        sizes: Numbers in each parameter of the model, by name.

    Raises:
        InputError: It lacks too many.
    """
    made_up, total = sum(sizes[name] for name in missing), sum(sizes.values())
    if made_up * 100 > total:
        raise InputError(
            f"{ready.folder}: the file contains only {1 - made_up / total:.0%} of the weights of a {model}. "
            "Download it again, or name the folder of another model."
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep bars and warnings of transformers from the user while something is loaded."""
    from transformers.utils import logging as untyped

    said: Any = untyped
    level, bars = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        yield
    finally:
        said.set_verbosity(level)
        if bars:
            said.enable_progress_bar()
