"""The version of the package, and versions of the libraries that its figures depend on."""

from __future__ import annotations

__all__ = ["__version__", "versions"]

__version__ = "0.2.0"


def versions() -> dict[str, str]:
    """Return the versions of everything that can change a figure: recorded with every round and shown in the report."""
    import platform
    from importlib import metadata

    found = {"a2lc": __version__, "python": platform.python_version()}
    for name in ("numpy", "numba", "torch", "torchvision", "lightning", "segmentation-models-pytorch", "pillow"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
