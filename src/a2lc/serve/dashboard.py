"""Compute the figures of the page's dashboard."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query
from a2lc.rounds.status import label_quality, project_status

__all__ = ["dashboard", "pace"]

_PACE_ANSWERS = 50
_MINUTES = 60


def dashboard(
    project: Project,
    answers: Sequence[tuple[Answer, datetime]],
    queries: Mapping[int, Query],
    waiting: int,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Summarise the work so far by round, annotator, minute and class, and the quality of the labels.

    Args:
        project: Opened.
        answers: The current answers with their times, oldest first.
        queries: Questions by number.
        waiting: Number of open questions.
        now: The time; the clock's, if not given.

    Returns:
        The fields of `a2lc.serve.schemas.DashboardReply`. Figures that are not known are None or NaN.
    """
    now = now or datetime.now(UTC)
    status = project_status(project)
    return {
        "rounds": status["rounds"],
        "annotators": _annotators(answers, queries, now),
        "minutes": _minutes(answers, now),
        "changes": _class_changes(project),
        "quality": label_quality(project),
        "clicks": float(sum(row["clicks"] for row in status["rounds"])),
        "answers": len(answers),
        "waiting": waiting,
        "data_miou": None if status["now"] is None else status["now"]["data_miou"],
    }


def _annotators(
    answers: Sequence[tuple[Answer, datetime]], queries: Mapping[int, Query], now: datetime
) -> list[dict[str, Any]]:
    """Count the answers of each annotator, the most active first."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    rows: dict[str, dict[str, Any]] = {}
    times: dict[str, deque[datetime]] = {}
    for answer, when in answers:
        row = rows.setdefault(
            answer.annotator, {"name": answer.annotator, "answers": 0, "today": 0, "changed": 0, "a_minute": None}
        )
        row["answers"] += 1
        row["today"] += when >= midnight
        row["changed"] += answer.kind != AnswerKind.CONFIRM and (
            answer.classes[:1] != (queries[answer.query_id].proposed,) or len(answer.classes) != 1
        )
        times.setdefault(answer.annotator, deque(maxlen=_PACE_ANSWERS)).append(when)
    for name, row in rows.items():
        row["a_minute"] = pace(list(times[name]))
    return sorted(rows.values(), key=lambda row: -row["answers"])


def _minutes(answers: Sequence[tuple[Answer, datetime]], now: datetime) -> list[dict[str, Any]]:
    """Count the answers of people in each of the last 60 minutes, the oldest minute first."""
    counts = Counter(
        int((now - when).total_seconds() // 60) for answer, when in answers if answer.annotator != "oracle"
    )
    return [
        {"time": (now - timedelta(minutes=ago)).isoformat(timespec="minutes"), "answers": counts[ago]}
        for ago in range(_MINUTES - 1, -1, -1)
    ]


def _class_changes(project: Project) -> list[dict[str, int]]:
    """Count the masks that changed from and to each class."""
    current, initial = project.masks.current(project.state()), project.masks.label
    changed, classes = current != initial, project.classes.num_classes
    away = np.bincount(initial[changed & (initial >= 0)], minlength=classes)
    into = np.bincount(current[changed & (current >= 0)], minlength=classes)
    return [{"class": i, "from": int(away[i]), "to": int(into[i])} for i in range(classes)]


def pace(times: Sequence[datetime]) -> float | None:
    """Return answers per minute, not counting pauses of more than a minute; None for fewer than three answers."""
    gaps = [(after - before).total_seconds() for before, after in pairwise(times)]
    gaps = [gap for gap in gaps if gap <= 60]
    return 60 * len(gaps) / sum(gaps) if len(gaps) >= 2 and sum(gaps) > 0 else None
