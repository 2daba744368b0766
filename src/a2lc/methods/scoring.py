"""Let a method score masks, and check what it reads and returns."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ConfigError
from a2lc.methods.base import Method
from a2lc.records import RoundView
from a2lc.statistics.mask_stats import LAYOUT, MaskStats

__all__ = ["checked_scores"]


def checked_scores(method: Method, view: RoundView, columns: frozenset[str], name: str) -> NDArray[Any]:
    """Return what a method scores, once it is seen to be a number for each mask.

    Args:
        method: The method.
        view: What it is shown.
        columns: Fields of the statistics that were read.
        name: Name of the method for messages.

    Returns:
        (M,) numbers.

    Raises:
        ConfigError: The method reads another column, or returns something else.
    """
    count = len(view.stats)
    values = np.asarray(method.score(replace(view, stats=_declared(view.stats, columns, name))))
    if values.shape != (count,) or values.dtype.kind not in "fiub":
        raise ConfigError(
            f"method {name!r}: `score` returned {values.dtype} {values.shape}; expected floats ({count},)."
        )
    if np.isnan(values).any():
        raise ConfigError(
            f"method {name!r}: `score` returned {int(np.isnan(values).sum())} values that are no number, of {count}."
        )
    return values


def _declared(stats: MaskStats, columns: frozenset[str], method: str) -> MaskStats:
    """Return statistics of which only the columns that a method declares can be read.

    The others were not read from disk and are 0, so a score that used one would be wrong without a word.

    Args:
        stats: Of the pool, or of a part of it.
        columns: What was read.
        method: Name for the message.

    Raises:
        ConfigError: Later, when another column is read.
    """
    absent = frozenset(LAYOUT) - columns - _DERIVED
    plain = {field.name: getattr(stats, field.name) for field in fields(MaskStats)}

    class Declared(MaskStats):
        def __getattribute__(self, name: str) -> Any:
            if name in absent:
                raise ConfigError(
                    f"method {method!r}: `score` reads the column {name!r}, which `columns` does not name. Add it there."
                )
            if name in _WHOLE:
                return getattr(stats, name)
            return object.__getattribute__(self, name)

    return Declared(**plain)


_DERIVED = frozenset({"image", "mask_ids", "pair_row"})  # always there

_WHOLE = frozenset({"take", "grouped", "with_image", "to_table"})
"""Methods that touch all columns, those that were not read too."""
