"""Which pretrained weights there are, under which licence, and how they are named."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from a2lc.errors import InputError, MissingExtraError, MissingFileError, UnknownNameError, require_known

__all__ = [
    "BACKBONES",
    "DETECTORS",
    "KNOWN",
    "SEGMENTERS",
    "Weights",
    "check_license",
    "describe",
    "find_weights",
]

PERMISSIVE = frozenset({"apache-2.0", "mit", "bsd-3-clause"})
"""Licences, as timm writes them, that allow any use."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights by name, before they are here.

    Attributes:
        name: Repository on the Hugging Face hub, or the user's own folder.
        job: `detector`, `segmenter` or `backbone`.
        library: Which builds the model of them: `transformers` or `timm`.
        revision: Full commit hash; None where none is pinned: the first download's commit is recorded then.
        license: Of the weights; None if not known.
        permissive: Whether that licence allows any use, commercial included.
        size: Bytes of the safetensors file, about; None if not known.
        folder: The user's own folder; None for a repository.
    """

    name: str
    job: str
    library: str = "transformers"
    revision: str | None = None
    license: str | None = None
    permissive: bool = False
    size: int | None = None
    folder: Path | None = None


def _known(name: str, job: str, revision: str, size: int) -> Weights:
    return Weights(name=name, job=job, revision=revision, license="Apache-2.0", permissive=True, size=size)


# Licences are those of the model cards. Each commit is named as that repository's by several public projects that pin
# it. Sizes are rounded: of grounding-dino-tiny and sam2.1 small and base-plus from such projects' lists of files, of the
# others four bytes a parameter. Any encoder of a segmenter serves as a backbone too.
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
    "dinov2-small": _known("facebook/dinov2-small", "backbone", "ed25f3a31f01632728cabb09d1542f84ab7b0056", 88_000_000),
    "dinov2-base": _known("facebook/dinov2-base", "backbone", "f9e44c814b77203eaa57a6bdbbd535f21ede1415", 346_000_000),
    "dinov2-large": _known(
        "facebook/dinov2-large", "backbone", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c", 1_218_000_000
    ),
}
"""Weights whose licence was looked up, by short name; the repository's full name is known as well."""

DETECTORS = tuple(name for name, weights in KNOWN.items() if weights.job == "detector")
"""Short names of known detectors."""

SEGMENTERS = tuple(name for name, weights in KNOWN.items() if weights.job == "segmenter")
"""Short names of known segmenters."""

BACKBONES = tuple(name for name, weights in KNOWN.items() if weights.job == "backbone")
"""Short names of known backbones of transformers."""


def find_weights(
    name: str, job: str, recorded: Mapping[str, str] | None = None, *, library: str = "transformers"
) -> Weights:
    """Find weights by what the user wrote.

    Args:
        name: A short name, a repository `owner/name`, that with a commit `owner/name@commit`, or a folder. Of timm, the
            name of a model with pretrained weights in place of a short name.
        job: What they are to do: `detector`, `segmenter` or `backbone`.
        recorded: Commits a project has used before, by repository: what is not pinned here stays at that one.
        library: Which builds the model: `transformers` or `timm`.

    Raises:
        UnknownNameError: It is none of these.
        MissingFileError: It is a path, and there is no such folder.
        InputError: The weights do another job.
        MissingExtraError: It is the name of a model of timm, and timm is not installed.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return Weights(name=str(path), job=job, library=library, folder=path.absolute(), permissive=True)
    repository, _, commit = name.partition("@")
    for short, weights in KNOWN.items():
        if library == weights.library and repository in {short, weights.name}:
            if weights.job != job and (weights.job, job) != ("segmenter", "backbone"):
                raise InputError(f"{name} is a {weights.job}, not a {job}. Known: {', '.join(_of_job(job))}")
            return replace(weights, job=job, revision=commit or weights.revision)
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        raise MissingFileError(f"No folder of weights at {path}.")
    if library == "timm" and repository.count("/") == 0:
        return _of_timm(repository, job, commit or (recorded or {}).get(f"timm/{repository}"))
    if _HUB_NAME.fullmatch(repository):
        revision = commit or (recorded or {}).get(repository)
        return Weights(name=repository, job=job, library=library, revision=revision)
    try:
        require_known(job, repository, _of_job(job))
    except UnknownNameError as error:
        raise UnknownNameError(f"{error}; a repository OWNER/NAME or a folder also works.") from None
    raise AssertionError("known names were found above")


def _of_timm(model: str, job: str, revision: str | None) -> Weights:
    """Find weights by the name of a model of timm, whose own table has their licence."""
    try:
        import timm
    except ImportError:
        raise MissingExtraError("Backbones of timm need timm: pip install 'a2lc[train]'.") from None
    known = timm.list_pretrained()
    if model not in known and not any(name.startswith(f"{model}.") for name in known):
        close = difflib.get_close_matches(model, known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UnknownNameError(f"Unknown model of timm {model!r}.{hint} timm.list_pretrained() lists all.")
    config = timm.models.get_pretrained_cfg(model)
    license = None if config is None or config.license in {None, "unknown"} else str(config.license)
    repository = f"timm/{model}" if config is None or not config.hf_hub_id else str(config.hf_hub_id)
    permissive = (license or "").lower() in PERMISSIVE
    return Weights(name=repository, job=job, library="timm", revision=revision, license=license, permissive=permissive)


def _of_job(job: str) -> list[str]:
    return [short for short, weights in KNOWN.items() if weights.job == job]


def describe(weights: Weights) -> str:
    """Format name, job, licence, size and commit in one line for people."""
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
