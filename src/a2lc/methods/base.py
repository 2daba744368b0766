"""What a method answers, and the registry of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from a2lc.acquisition import ACQUISITIONS, score
from a2lc.errors import A2LCError, ConfigError, require_known
from a2lc.records import Changes, RoundView

__all__ = ["METHODS", "Method", "create_method", "register"]


class Method:
    """A method of active label correction: how masks are ranked, and what answers are spread to.

    Subclasses are frozen dataclasses whose fields are the method's settings, so that they are checked, printed and
    kept with every round.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    summary: ClassVar[str]
    acquisition: str

    def columns(self) -> frozenset[str]:
        """Fields of `MaskStats` that `score` reads."""
        return ACQUISITIONS[self.acquisition].columns

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """(M,) scores of the masks in view, higher asked first; masks asked before are left out by the caller."""
        return score(self.acquisition, view.stats, seed=view.seed)

    @property
    def corrects(self) -> bool:
        """Whether the method changes masks nobody looked at."""
        return False

    def propagate(self, view: RoundView, answered: NDArray[Any], classes: NDArray[Any]) -> Changes:
        """Changes for masks nobody looked at.

        Args:
            view: All masks of the project.
            answered: (n,) rows of the masks answered in this round.
            classes: (n,) class each carries now, VOID for none.
        """
        empty = np.empty(0)
        return Changes(rows=empty.astype(np.int64), classes=empty.astype(np.int32), confidences=empty)


METHODS: dict[str, type[Method]] = {}
"""Methods by name."""

_M = TypeVar("_M", bound=type[Method])


def register(name: str, *, paper: str, summary: str) -> Callable[[_M], _M]:
    """Make a method known by a name."""

    def add(method: _M) -> _M:
        method.name, method.paper, method.summary = name, paper, summary
        METHODS[name] = method
        return method

    return add


def create_method(name: str, settings: dict[str, Any] | None = None) -> Method:
    """A method by name, with settings other than its defaults.

    Raises:
        UnknownNameError: There is no such method, or no such setting of it.
        ConfigError: A setting has a value that does not fit.
    """
    method = METHODS[require_known("method", name, METHODS)]
    known = [field.name for field in fields(method)]  # type: ignore[arg-type]
    for key in settings or {}:
        require_known(f"setting of method {name!r},", key, known)
    try:
        made: Method = TypeAdapter(method).validate_python(settings or {})
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        if isinstance(own, A2LCError):  # a method's own check, wrapped
            raise own from None
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"method {name!r}: {key}: {first['msg']}, found {first['input']!r}.") from None
    require_known("acquisition function", made.acquisition, ACQUISITIONS)
    return made
