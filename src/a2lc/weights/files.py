"""How pretrained weights come to this machine: from the user's folder, the hub's cache or, if asked for, the hub.

Nothing is downloaded that was not asked for. Weights are read as safetensors, from a pinned commit, and no code that
comes with them is run.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from a2lc.errors import InputError, MissingExtraError, MissingFileError
from a2lc.io.files import sha256
from a2lc.weights.catalogue import Weights, describe

__all__ = ["Ready", "folder_digest", "identity", "need_library", "need_transformers", "obtain"]

_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
)
"""What is fetched of a repository: configuration, words and safetensors; never pickles, never code."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Weights that are on this machine.

    Attributes:
        weights: Which; `revision` is that of the files for a repository.
        folder: Where their files are.
    """

    weights: Weights
    folder: Path


def need_library(library: str) -> None:
    """Check that the extra with the library of some weights is installed.

    Args:
        library: `transformers` or `timm`.

    Raises:
        MissingExtraError: It is not.
    """
    if library == "transformers":
        need_transformers()
        return
    try:
        import huggingface_hub  # noqa: F401
        import timm  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"Backbones of timm need {error.name or 'timm'}: pip install 'a2lc[train]'.") from None


def need_transformers() -> None:
    """Check that the extra of foundation models is installed.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"Foundation models need {error.name or 'transformers'}: pip install 'a2lc[foundation]'."
        ) from None


def obtain(
    weights: Weights, *, download: bool = False, ask: Callable[[Weights], bool] | None = None, cache: Path | None = None
) -> Ready:
    """Find the files of weights: the user's folder, or the hub's cache, or, if that was asked for, the hub.

    Args:
        weights: Which. Their licence is the caller's business (`check_license`).
        download: Fetch what is not in the cache.
        ask: Asked whether to fetch, where `download` is not set; None for no.
        cache: Folder of the hub's cache; its own by default.

    Raises:
        MissingExtraError: The library of the weights is not installed.
        MissingFileError: The files are not here and may not be fetched, or the folder is no model's.
        InputError: The download failed.
    """
    if weights.folder is not None:
        missing = _missing(weights.folder)
        if missing:
            writer = "timm's save_for_hf" if weights.library == "timm" else "transformers' save_pretrained"
            raise MissingFileError(
                f"{weights.folder} has no {missing}: expected a model as {writer} writes it, with model.safetensors."
            )
        return Ready(weights=weights, folder=weights.folder)
    need_library(weights.library)
    found = _cached(weights, cache)
    if found is not None:
        return found
    if _offline():
        raise MissingFileError(
            f"The weights {weights.name} are not in the cache of this machine, and HF_HUB_OFFLINE forbids "
            f"downloads. Unset it, or set `{weights.job}` to a folder with their files."
        )
    if not download and not (ask is not None and ask(weights)):
        raise MissingFileError(
            f"The weights {weights.name} are not in the cache of this machine. Set `download` to download them "
            f"({describe(weights)}), or set `{weights.job}` to a folder with their files."
        )
    return _fetch(weights, cache)


def _missing(folder: Path) -> str | None:
    """Return what a folder lacks to be a model's; None if nothing."""
    if not (folder / "config.json").is_file():
        return "config.json"
    whole = (folder / "model.safetensors").is_file() or (folder / "model.safetensors.index.json").is_file()
    return None if whole else "model.safetensors"


def _offline() -> bool:
    from huggingface_hub import constants

    # The library reads the variable once, at its import; whoever sets it later means it as well.
    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _snapshot(weights: Weights, cache: Path | None, local: bool) -> Ready:
    from huggingface_hub import snapshot_download

    place = snapshot_download(
        weights.name, revision=weights.revision, allow_patterns=list(_FILES), local_files_only=local, cache_dir=cache
    )
    folder = Path(str(place))
    missing = _missing(folder)
    if missing:
        raise MissingFileError(
            f"The repository {weights.name} at {folder.name} has no {missing}. a2lc reads only safetensors, "
            "because pickles can run code."
        )
    # The cache names a snapshot's folder by its commit.
    return Ready(weights=replace(weights, revision=folder.name), folder=folder)


def _cached(weights: Weights, cache: Path | None) -> Ready | None:
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return _snapshot(weights, cache, local=True)
    except HFValidationError as error:
        raise InputError(f"{weights.name}: not a valid repository name: {' '.join(str(error).split())}") from None
    except (MissingFileError, FileNotFoundError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        # Nothing, or only a part of it: an interrupted download goes on where it was.
        return None


def _fetch(weights: Weights, cache: Path | None) -> Ready:
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    # Of an attempt that failed only the last word is told.
    talk = logging.getLogger("huggingface_hub")
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        return _snapshot(weights, cache, local=False)
    except MissingFileError:
        raise
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"Downloading {weights.name} failed: {said[:300]} Try again, or set `{weights.job}` to a folder with "
            "its files."
        ) from None
    finally:
        talk.setLevel(level)


def folder_digest(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of a model's files: it stands for a folder in place of a commit."""
    digest = hashlib.sha256()
    paths = {path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()}
    for path in sorted(paths):
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def identity(ready: Ready) -> str:
    """Return what stands for weights in digests: their commit, or their very bytes."""
    if ready.weights.folder is not None:
        return folder_digest(ready.folder)
    return f"{ready.weights.name}@{ready.weights.revision}"
