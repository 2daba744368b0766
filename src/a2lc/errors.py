"""Errors: every exception of the package, and messages that name the nearest known word.

    A2LCError                       catch this for all of ours; the command line prints it and exits 2
    ├── InputError                  the user's files, options or data are not as they must be
    │   ├── MissingFileError        a file or folder is not where it was expected
    │   ├── ShapeError              arrays or files that belong together differ in size
    │   ├── LabelRangeError         a label is neither a class nor the ignore value
    │   ├── ImageFileError          a file cannot be read as the image it should be
    │   ├── UnknownNameError        a name is not in the registry it was looked up in
    │   └── ConfigError             project.yaml or a setting is not valid
    ├── StageError                  a stage was asked for before the one it needs
    ├── PoolExhaustedError          more clicks were asked for than there are masks to ask about
    ├── AlreadyAnsweredError        a question has another answer already
    ├── LedgerError                 the ledger refuses a row, or its file cannot be read
    │   └── NewerProjectError       the project was made by a newer version of the package
    ├── LockedError                 another process works on the project
    └── MissingExtraError           an optional dependency is not installed

Messages say what was expected, what came, which file, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "A2LCError",
    "AlreadyAnsweredError",
    "ConfigError",
    "ImageFileError",
    "InputError",
    "LabelRangeError",
    "LedgerError",
    "LockedError",
    "MissingExtraError",
    "MissingFileError",
    "NewerProjectError",
    "PoolExhaustedError",
    "ShapeError",
    "StageError",
    "UnknownNameError",
    "first_names",
    "require_known",
]


class A2LCError(Exception):
    """Base of every exception the package raises on purpose."""


class InputError(A2LCError, ValueError):
    """The user's files, options or data are not as they must be."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder is not where it was expected."""


class ShapeError(InputError):
    """Arrays or files that belong together differ in size."""


class LabelRangeError(InputError):
    """A label is neither a class nor the ignore value."""


class ImageFileError(InputError):
    """A file cannot be read as the image it should be."""


class UnknownNameError(InputError, LookupError):
    """A name is not in the registry it was looked up in."""


class ConfigError(InputError):
    """project.yaml, a classes file or a setting is not valid."""


class StageError(A2LCError):
    """A stage was asked for before the one it needs."""


class PoolExhaustedError(A2LCError):
    """More clicks were asked for than there are masks to ask about."""


class AlreadyAnsweredError(A2LCError):
    """A question has another answer already."""


class LedgerError(A2LCError):
    """The ledger refuses a row, or its file cannot be read."""


class NewerProjectError(LedgerError):
    """The project was made by a newer version of the package."""


class LockedError(A2LCError):
    """Another process works on the project."""


class MissingExtraError(A2LCError, ImportError):
    """An optional dependency is not installed."""


def first_names(names: Iterable[str], limit: int = 5) -> str:
    """Format the first few names of a list, and how many more there are.

    Example:
        >>> first_names(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    names = list(names)
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def require_known(kind: str, name: str, known: Iterable[str]) -> str:
    """Return `name` if it is known, else raise with the nearest known one.

    Raises:
        UnknownNameError: `name` is not in `known`.

    Example:
        >>> require_known("method", "a2cl", ["a2lc", "alc"])
        Traceback (most recent call last):
        ...
        a2lc.errors.UnknownNameError: Unknown method 'a2cl'. Did you mean 'a2lc'? Known: a2lc, alc
    """
    known = list(known)
    if name in known:
        return name
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise UnknownNameError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}")
