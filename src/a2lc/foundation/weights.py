"""Weights of foundation models: which there are, under which licence, and how they come here.

Nothing is downloaded that was not asked for. Weights are read as safetensors, from a pinned commit, and no code that
comes with them is run.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a2lc.errors import InputError, MissingExtraError, MissingFileError, UnknownNameError, require_known
from a2lc.io.files import sha256

__all__ = [
    "DETECTORS",
    "KNOWN",
    "SEGMENTERS",
    "Ready",
    "Weights",
    "check_license",
    "describe",
    "find_weights",
    "folder_digest",
    "load_model",
    "load_processor",
    "need_transformers",
    "obtain",
]

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

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights by name, before they are here.

    Attributes:
        name: Repository on the Hugging Face hub, or the user's own folder.
        job: `detector` or `segmenter`.
        revision: Full commit hash; None where none is pinned: the first download's commit is recorded then.
        license: Of the weights; None if not known.
        permissive: Whether that licence allows any use, commercial included.
        size: Bytes of the safetensors file, about; None if not known.
        folder: The user's own folder; None for a repository.
    """

    name: str
    job: str
    revision: str | None = None
    license: str | None = None
    permissive: bool = False
    size: int | None = None
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Ready:
    """Weights that are on this machine.

    Attributes:
        weights: Which; `revision` is that of the files for a repository.
        folder: Where their files are.
    """

    weights: Weights
    folder: Path


def _known(name: str, job: str, revision: str, size: int) -> Weights:
    return Weights(name=name, job=job, revision=revision, license="Apache-2.0", permissive=True, size=size)


# Licences are those of the model cards. Each commit is named as that repository's by several public projects that pin
# it. Sizes are rounded: of grounding-dino-tiny and sam2.1 small and base-plus from such projects' lists of files, of the
# others four bytes a parameter.
KNOWN: dict[str, Weights] = {
    "grounding-dino-tiny": _known(
        "IDEA-Research/grounding-dino-tiny", "detector", "a2bb814dd30d776dcf7e30523b00659f4f141c71", 690_000_000
    ),
    "grounding-dino-base": _known(
        "IDEA-Research/grounding-dino-base", "detector", "12bdfa3120f3e7ec7b434d90674b3396eccf88eb", 930_000_000
    ),
    "sam-vit-base": _known(
        "facebook/sam-vit-base", "segmenter", "70c1a07f894ebb5b307fd9eaaee97b9dfc16068f", 375_000_000
    ),
    "sam-vit-large": _known(
        "facebook/sam-vit-large", "segmenter", "6851e0441005b0fb96f2cc4dfac472f3d1b14af1", 1_250_000_000
    ),
    "sam-vit-huge": _known(
        "facebook/sam-vit-huge", "segmenter", "87aecf0df4ce6b30cd7de76e87673c49644bdf67", 2_560_000_000
    ),
    "sam2.1-hiera-tiny": _known(
        "facebook/sam2.1-hiera-tiny", "segmenter", "de431c4043854a71d8101e17995dfe596bf101a5", 156_000_000
    ),
    "sam2.1-hiera-small": _known(
        "facebook/sam2.1-hiera-small", "segmenter", "ee5bba1d82bb8749febdf90f45e84b687142ba03", 184_000_000
    ),
    "sam2.1-hiera-base-plus": _known(
        "facebook/sam2.1-hiera-base-plus", "segmenter", "b7320756a13354e7530a63935656d35b2f91a290", 323_000_000
    ),
    "sam2.1-hiera-large": _known(
        "facebook/sam2.1-hiera-large", "segmenter", "665f8e2ad61cf5f53d65644ff27c8ee525124610", 898_000_000
    ),
}
"""Weights whose licence was looked up, by short name; the repository's full name is known as well."""

DETECTORS = tuple(name for name, weights in KNOWN.items() if weights.job == "detector")
"""Short names of known detectors."""

SEGMENTERS = tuple(name for name, weights in KNOWN.items() if weights.job == "segmenter")
"""Short names of known segmenters."""


def find_weights(name: str, job: str, recorded: Mapping[str, str] | None = None) -> Weights:
    """Weights by what the user wrote.

    Args:
        name: A short name, a repository `owner/name`, that with a commit `owner/name@commit`, or a folder.
        job: What they are to do: `detector` or `segmenter`.
        recorded: Commits a project has used before, by repository: what is not pinned here stays at that one.

    Raises:
        UnknownNameError: It is none of these.
        MissingFileError: It is a path, and there is no such folder.
        InputError: The weights do another job.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return Weights(name=str(path), job=job, folder=path.absolute(), permissive=True)
    repository, _, commit = name.partition("@")
    for short, weights in KNOWN.items():
        if repository in {short, weights.name}:
            if weights.job != job:
                raise InputError(f"{name} is a {weights.job}, not a {job}. Known: {', '.join(_of_job(job))}")
            return replace(weights, revision=commit) if commit else weights
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise MissingFileError(f"No folder of weights at {path}.")
    if _HUB_NAME.fullmatch(repository):
        return Weights(name=repository, job=job, revision=commit or (recorded or {}).get(repository))
    try:
        require_known(job, repository, _of_job(job))
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; a repository OWNER/NAME or a folder also works.") from None
    raise AssertionError("known names were found above")


def _of_job(job: str) -> list[str]:
    return [short for short, weights in KNOWN.items() if weights.job == job]


def describe(weights: Weights) -> str:
    """One line for people: name, job, licence, size and commit."""
    if weights.folder is not None:
        return f"{weights.job}: your folder {weights.name}"
    size = "size not known" if weights.size is None else f"about {weights.size / 1e6:,.0f} MB"
    commit = f"commit {weights.revision}" if weights.revision else "the newest commit, which the project will record"
    return f"{weights.job}: {weights.name}, {weights.license or 'licence not known'}, {size}, {commit}"


def check_license(weights: Weights, accepted: Collection[str]) -> None:
    """Refuse weights that are not free for any use until their name was accepted.

    The user's own folder needs no word: whoever put the files there knows their licence.

    Raises:
        InputError: The licence is not permissive or not known, and was not accepted.
    """
    if weights.permissive or weights.name in accepted:
        return
    what = (
        f"are under {weights.license}" if weights.license else "are not in a2lc's list, so their licence is not known"
    )
    raise InputError(
        f"The weights {weights.name} {what}. Read the licence on their page, and set `accept_license` to "
        f"{weights.name} if it permits your use."
    )


def need_transformers() -> None:
    """Check that the extra is installed.

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
        MissingExtraError: transformers is not installed.
        MissingFileError: The files are not here and may not be fetched, or the folder is no model's.
        InputError: The download failed.
    """
    if weights.folder is not None:
        missing = _missing(weights.folder)
        if missing:
            raise MissingFileError(
                f"{weights.folder} has no {missing}: expected a model as transformers' save_pretrained writes it, with "
                "model.safetensors."
            )
        return Ready(weights=weights, folder=weights.folder)
    need_transformers()
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
    """SHA-256 over the names and contents of a model's files: what stands for a folder in place of a commit."""
    digest = hashlib.sha256()
    paths = {path for pattern in _FILES for path in folder.glob(pattern) if path.is_file()}
    for path in sorted(paths):
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


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


def load_model(kind: Any, ready: Ready, device: str) -> Any:
    """Load a model of transformers in single precision on a device, from safetensors alone.

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
            )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{ready.folder}: not the files of a {kind.__name__}: {' '.join(str(error).split())[:300]}"
            ) from None
    # What a file lacks is made up at random, with no more than a warning. A buffer or two may be missing of weights saved by
    # an older version; a layer may not.
    own = dict(model.named_parameters())
    made_up = sum(own[name].numel() for name in said["missing_keys"] if name in own)
    total = sum(parameter.numel() for parameter in own.values())
    if made_up * 100 > total:
        raise InputError(
            f"{ready.folder}: the file contains only {1 - made_up / total:.0%} of the weights of a {kind.__name__}. "
            "Download it again, or name the folder of another model."
        )
    return model.float().eval().to(device)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and warnings of transformers while something is loaded."""
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
