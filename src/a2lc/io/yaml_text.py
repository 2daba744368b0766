"""YAML as text, by libyaml where PyYAML has it: ten times as fast as Python's parser, and limited in depth."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["YAMLError", "read_yaml", "to_yaml"]

YAMLError = yaml.YAMLError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_yaml(text: str) -> Any:
    """Parse YAML into plain values: dicts, lists, strings, numbers, dates; no other object is ever made.

    Raises:
        YAMLError: The text is not YAML.
        RecursionError: It is nested too deeply for Python's parser.

    Example:
        >>> read_yaml("a: [1, two]")
        {'a': [1, 'two']}
    """
    try:
        return yaml.load(text, Loader=_LOADER)
    except UnicodeEncodeError as error:  # half a character, as arguments of a command may have
        raise YAMLError(str(error)) from None


def to_yaml(data: Any) -> str:
    """Write plain values as YAML, keys in their order.

    Example:
        >>> print(to_yaml({"b": 1, "a": ["é"]}), end="")
        b: 1
        a:
        - é
    """
    return str(yaml.dump(data, Dumper=_DUMPER, sort_keys=False, allow_unicode=True))
