"""Import what the user or an installed package names as `package.module:NAME`."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from a2lc.errors import ConfigError

__all__ = ["import_named"]


def import_named(place: str, what: str) -> Any:
    """Import a module and return what is called so in it.

    Args:
        place: `package.module:NAME`, or a module alone.
        what: What asked for it, at the beginning of the message.

    Raises:
        ConfigError: There is no such module, or it has no such name.

    Example:
        >>> import_named("os.path:basename", "function 'basename'")("a/b")
        'b'
    """
    module_name, colon, name = place.partition(":")
    try:
        module = importlib.import_module(module_name)
        return functools.reduce(getattr, name.split("."), module) if colon else module
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        # Python's own messages may run over lines; ours are one.
        message = " ".join(str(error).split())
        raise ConfigError(f"{what}: {place} cannot be imported: {message}.") from None
