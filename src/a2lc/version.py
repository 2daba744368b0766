"""The version of the package, and of what it stands on."""

from __future__ import annotations

import platform
from importlib import metadata

__all__ = ["__version__", "versions"]

__version__ = "0.2.0"


def versions() -> dict[str, str]:
    """Versions of everything that can move a number: kept with every round and printed in the report."""
    found = {"a2lc": __version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "torch", "torchvision", "lightning", "segmentation-models-pytorch", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
