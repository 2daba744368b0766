"""A project folder: configuration, ledger, initial labels, masks, and the files of rounds."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2lc.project.project import Project

__all__ = ["Project"]


def __getattr__(name: str) -> Any:
    # Whoever reads the settings alone loads no database.
    if name == "Project":
        from a2lc.project.project import Project

        return Project
    raise AttributeError(f"module 'a2lc.project' has no attribute {name!r}")
