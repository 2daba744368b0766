"""Active and automated label correction for semantic segmentation data sets."""

from typing import TYPE_CHECKING, Any

from a2lc.version import __version__

if TYPE_CHECKING:
    from a2lc.project.project import Project

__all__ = ["Project", "__version__"]


def __getattr__(name: str) -> Any:
    # `import a2lc` does no work: the project, with its database and tables, is loaded when it is asked for.
    if name == "Project":
        from a2lc.project.project import Project

        return Project
    raise AttributeError(f"module 'a2lc' has no attribute {name!r}")
