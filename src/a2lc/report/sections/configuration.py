"""List settings, data sources, rounds and versions."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from a2lc.report.facts import Facts
from a2lc.version import __version__, versions

__all__ = ["ConfigSection", "date_of"]


@dataclass(frozen=True, kw_only=True)
class ConfigSection:
    """Everything needed to reproduce the project.

    Attributes:
        round: Round that the settings belong to; None before the first.
        settings: Dotted keys and values.
        sources: Locations of the user's files.
        rounds: Index, method, seed, scoring model, and start and end of each round.
        versions: Package versions of that round; those installed now before the first.
        versions_differ: Whether other rounds ran with other versions.
        created_by: Version that created the project.
        written_by: Version that writes the report.
        command: Command that writes the report again.
    """

    round: int | None
    settings: list[tuple[str, str]]
    sources: list[tuple[str, str]]
    rounds: list[dict[str, Any]]
    versions: dict[str, str]
    versions_differ: bool
    created_by: str
    written_by: str
    command: str


def configuration(facts: Facts) -> ConfigSection:
    """Compute the section."""
    config = facts.project.config
    last = facts.rounds[-1] if facts.rounds else None
    if last is not None:
        settings = dict(_flat(last.config))
    else:
        planned = config.model_dump(mode="json", include={"method", "training", "annotator", "seed"})
        settings = dict(_flat(planned))
    if settings.get("training.model") == "head":
        # The others are of networks.
        mine = ("training.model", "training.preset")
        settings = {key: value for key, value in settings.items() if key in mine or not key.startswith("training.")}
    ended: dict[int, str] = {stage.round: stage.ended for stage in facts.stages}
    return ConfigSection(
        round=None if last is None else last.round,
        settings=sorted(settings.items()),
        sources=[(key, value) for key, value in _flat(config.sources.model_dump(mode="json")) if value != "none"],
        rounds=[
            {
                "round": record.round,
                "method": record.method,
                "seed": record.seed,
                "model": record.model if record.round > 0 else "",
                "started": date_of(record.started),
                "ended": date_of(ended[record.round]) if record.round in ended else "",
            }
            for record in facts.rounds
        ],
        versions=versions() if last is None else last.versions,
        versions_differ=any(record.versions != facts.rounds[-1].versions for record in facts.rounds),
        created_by=config.created_by,
        written_by=f"a2lc {__version__}",
        command=f"a2lc report {shlex.quote(str(facts.project.folder))}",
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted keys and printed values.

    Example:
        >>> list(_flat({"a": {"b": [1, 2], "c": None}, "d": True}))
        [('a.b', '1, 2'), ('a.c', 'none'), ('d', 'yes')]
    """
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(str(item) for item in value) or "none"
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, float):
            yield name, f"{value:g}"
        else:
            yield name, "none" if value is None else str(value)


def date_of(time: str) -> str:
    """Shorten a UTC time of the ledger to minutes: `2026-11-20 20:05`."""
    return time[:16].replace("T", " ")
