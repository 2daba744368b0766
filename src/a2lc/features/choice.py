"""Names of backbones: the one that is built in, or a model of timm or transformers with pretrained weights."""

from __future__ import annotations

from pathlib import Path

from a2lc.errors import InputError, require_known
from a2lc.weights.catalogue import KNOWN, Weights, find_weights
from a2lc.weights.files import Ready

__all__ = ["BUILT_IN", "find_backbone", "is_same_backbone", "pinned_name"]

BUILT_IN = "efficientnet-lite0"
"""The default, whose weights come with a package and which needs no torch."""

_LIBRARIES = ("timm", "transformers")


def find_backbone(name: str) -> Weights | None:
    """Find the weights of a backbone by its name.

    Args:
        name: `efficientnet-lite0`, `timm:NAME`, `transformers:NAME`, or either with `OWNER/NAME`, `NAME@COMMIT` or a folder
            in place of NAME.

    Returns:
        None for the one that is built in.

    Raises:
        UnknownNameError: There is no such backbone.
        MissingFileError: It is a folder that is not there.
        InputError: The weights are not those of a backbone.
        MissingExtraError: It is a model of timm, and timm is not installed.
    """
    library, colon, model = name.partition(":")
    if not colon:
        require_known("backbone", name, [BUILT_IN, *(f"{library}:NAME" for library in _LIBRARIES)])
        return None
    require_known("library of backbones", library, _LIBRARIES)
    if not model:
        raise InputError(f"`backbone` is {name!r}, without a model. Name one, or a folder, such as {library}:NAME.")
    return find_weights(model, "backbone", library=library)


def pinned_name(ready: Ready) -> str:
    """Return the name under which a project remembers weights: with their commit, or with the whole path of their folder."""
    weights = ready.weights
    if weights.folder is not None:
        return f"{weights.library}:{weights.folder}"
    model = weights.name.removeprefix("timm/") if weights.library == "timm" else weights.name
    return f"{weights.library}:{model}@{weights.revision}"


def is_same_backbone(wanted: str, used: str) -> bool:
    """Return whether a name means the backbone that another one, as `pinned_name` returns it, stands for.

    Neither the weights nor their library are needed. A name without a commit means any.

    Example:
        >>> used = "transformers:facebook/dinov2-small@ed25f3a31f01632728cabb09d1542f84ab7b0056"
        >>> is_same_backbone("transformers:dinov2-small", used), is_same_backbone("transformers:dinov2-base", used)
        (True, False)
        >>> is_same_backbone("timm:timm/convnext_atto.d2_in1k", "timm:convnext_atto.d2_in1k@0123")
        True
    """
    library, colon, model = wanted.partition(":")
    if not colon or wanted == used:
        return wanted == used
    path = Path(model).expanduser()
    if path.is_dir():
        return f"{library}:{path.absolute()}" == used
    name, at, commit = model.partition("@")
    if library == "timm":
        name = name.removeprefix("timm/")
    elif name in KNOWN:
        name = KNOWN[name].name
    return used == f"{library}:{name}@{commit}" if at else used.rpartition("@")[0] == f"{library}:{name}"
