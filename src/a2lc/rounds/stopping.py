"""When to stop: rules on what audits show at the end of a round (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from a2lc.errors import InputError, require_known

__all__ = ["Until", "parse_until"]

_RULES = {
    "accuracy": (("after", "pixel_accuracy"), True, "pixel accuracy"),
    "miou": (("after", "miou"), True, "mean IoU"),
    "gain": (("next", "gain"), False, "gain of the next 100 questions (points of mean IoU)"),
    "errors": (("after", "wrong_masks"), False, "wrong masks remaining"),
}


@dataclass(frozen=True, kw_only=True)
class Until:
    """A rule that ends a run.

    Attributes:
        figure: `accuracy`, `miou`, `gain` or `errors`.
        value: What it must reach, or fall below.
    """

    figure: str
    value: float

    @property
    def _rule(self) -> tuple[tuple[str, str], bool, str]:
        return _RULES[self.figure]

    def reached(self, findings: Mapping[str, Any]) -> str:
        """Why to stop, or nothing: the whole interval must be on the far side, not only the estimate.

        Args:
            findings: Of the stage `correct`, see `a2lc.asking.Asking.findings`.
        """
        (group, name), upwards, said = self._rule
        interval = findings.get(group, {}).get(name)
        if not interval:
            return ""
        end = interval["low" if upwards else "high"]
        if end is None or not (end >= self.value if upwards else end < self.value):
            return ""
        side = "at least" if upwards else "at most"
        return f"{said} {side} {end:.4g}, which satisfies `until` {self.figure}{'=' if upwards else '<'}{self.value:g}"


def parse_until(text: str) -> Until:
    """Read a rule such as `accuracy=0.95`, `miou=0.7`, `gain<0.1` or `errors<200`.

    Raises:
        InputError: It is none.
        UnknownNameError: There is no such figure.
    """
    found = re.fullmatch(r"\s*([a-z_]+)\s*(=|>=|<)\s*([0-9.]+(?:e-?[0-9]+)?)\s*", text)
    if found is None:
        raise InputError(f"`until` {text}: expected a rule such as accuracy=0.95, miou=0.7, gain<0.1 or errors<200.")
    figure = require_known("figure of `until`", found[1], _RULES)
    upwards = _RULES[figure][1]
    if upwards == (found[2] == "<"):
        raise InputError(f"`until` {text}: write {figure}{'=' if upwards else '<'}{found[3]}.")
    try:
        value = float(found[3])
    except ValueError:
        raise InputError(f"`until` {text}: {found[3]} is not a number.") from None
    if figure in {"accuracy", "miou"} and value > 1:
        raise InputError(f"`until` {text}: {figure} is a share, so the value can be at most 1.")
    return Until(figure=figure, value=value)
