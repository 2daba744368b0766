"""Reading options that fix a finding, as objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from a2lc.errors import InputError
from a2lc.images.options import ReadingOptions

__all__ = ["Remedy", "apply_remedies", "joined"]


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A reading option under which the import accepts files that it refuses otherwise.

    Attributes:
        option: A field of `ReadingOptions`.
        value: Its value; for `value_map` a pair to add to it, such as `{34: 255}`.
    """

    option: str
    value: Any

    @property
    def setting(self) -> str:
        """The option in backticks, followed by its value unless it is a switch."""
        if self.value is True:
            return f"`{self.option}`"
        if isinstance(self.value, dict):
            text = ", ".join(f"{read}={becomes}" for read, becomes in self.value.items())
        elif isinstance(self.value, tuple):
            text = ",".join(map(str, self.value))
        else:
            text = str(self.value)
        return f"`{self.option}` {text}"

    def apply(self, options: ReadingOptions) -> ReadingOptions:
        """Return the options with this one changed.

        Raises:
            InputError: The options read one of the values as another one already.
        """
        if self.option != "value_map":
            return replace(options, **{self.option: self.value})
        for read, becomes in self.value.items():
            if options.value_map.get(read, becomes) != becomes:
                raise InputError(f"the options read {read} both as {options.value_map[read]} and as {becomes}.")
        return replace(options, value_map=options.value_map | self.value)


def joined(remedies: Iterable[Remedy]) -> tuple[Remedy, ...]:
    """Return remedies without those that are named twice, and of several values of `snap` the largest alone."""
    unique: list[Remedy] = []
    for remedy in remedies:
        if remedy not in unique:
            unique.append(remedy)
    # Labels and ground truth may be blurred by different amounts: the larger value reaches both.
    snap = max((remedy.value for remedy in unique if remedy.option == "snap"), default=None)
    return tuple(remedy for remedy in unique if remedy.option != "snap" or remedy.value == snap)


def apply_remedies(options: ReadingOptions, remedies: Iterable[Remedy]) -> ReadingOptions:
    """Return the options under all of several remedies.

    Raises:
        InputError: Two remedies set one option differently.
    """
    values: dict[str, Any] = {}
    for remedy in remedies:
        if remedy.option != "value_map" and values.setdefault(remedy.option, remedy.value) != remedy.value:
            before = values[remedy.option]
            raise InputError(f"the options need {remedy.option} {before} for some files and {remedy.value} for others.")
        options = remedy.apply(options)
    return options
