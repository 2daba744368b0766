"""Choose the queries of a round: all at once by score, or in batches with a refit after each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from a2lc.audits.session import Session
from a2lc.classes.sentinels import FIRST
from a2lc.errors import PoolExhaustedError
from a2lc.ledger.replay import MaskState
from a2lc.methods.base import Method
from a2lc.methods.batches import BatchSession
from a2lc.records import Changes, Query
from a2lc.rounds.context import Context
from a2lc.rounds.propagate import propagated
from a2lc.rounds.ranking import best_queries
from a2lc.rounds.source import ProjectSource

__all__ = ["Corrections", "InBatches", "Limits", "OneShot", "Questioner", "Questioners", "Selection"]

_SOME_MISSING = "Some answers of the round are still missing."


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Corrections that someone who looked at the preview left out.

    Attributes:
        threshold: Corrections of less probability are left out, in [0, 1]. Withdrawn ones are not.
        rejected: Pairs of the class a mask carries and the one it would get, VOID for none.
    """

    threshold: float = 0.0
    rejected: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Queries chosen, and what chose them.

    Attributes:
        queries: To be recorded, in the order they are to be asked.
        details: For the ledger.
        summary: One line.
    """

    queries: list[Query]
    details: dict[str, Any] = field(default_factory=dict)
    summary: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Corrections:
    """Corrections of masks nobody looked at, as the `correct` stage would record them.

    Attributes:
        changes: The corrections, without those left out.
        details: For the ledger.
        summary: One line: the corrections, and their guarantee if there is one.
        guarantee: The same line if something is guaranteed; else empty.
    """

    changes: Changes
    details: dict[str, Any]
    summary: str
    guarantee: str = ""


class Questioner(Protocol):
    """Asks the queries of one round and draws conclusions from the answers."""

    round_index: int

    @property
    def in_batches(self) -> bool:
        """Whether more queries may follow the answers to the last."""
        ...

    def select(self, asked: Sequence[Query]) -> Selection:
        """Choose the first queries of the round.

        Args:
            asked: Queries of the round that were asked ahead.

        Raises:
            PoolExhaustedError: Too few masks are left.
        """
        ...

    def more(self) -> list[Query]:
        """Return the next queries once those asked have their answers; empty when the round has asked all."""
        ...

    def finish(self) -> int | None:
        """End the round early, after its audits; return how many queries it has then, or None where rounds are of fixed size."""
        ...

    def free(self, count: int) -> list[Query]:
        """Return about `count` further queries that need not wait for answers; empty where there are none."""
        ...

    @property
    def asks_freely(self) -> bool:
        """Whether `free` may return more."""
        ...

    def preview(self, state: MaskState) -> tuple[Changes, str]:
        """Return the corrections that the answers so far suggest, and a line on what decides them."""
        ...

    def corrections(self, state: MaskState, limits: Limits) -> Corrections:
        """Return the corrections that the answers of the round support, once all are in."""
        ...


class OneShot:
    """Chooses all queries of a round at once, by the method's scores.

    Args:
        context: Of the run.
        round_index: The round.
        scored: Round whose statistics are read; an earlier one where queries are asked ahead.
    """

    in_batches = False
    asks_freely = False

    def __init__(self, context: Context, round_index: int, scored: int) -> None:
        self.context = context
        self.round_index = round_index
        self.scored = scored

    def select(self, asked: Sequence[Query]) -> Selection:
        """Choose the masks of highest score that were never asked about."""
        context = self.context
        left = context.masks_left()
        count = context.queries_prepared(left + len(asked)) - len(asked)
        if not asked and (count > left or count < 1):
            raise PoolExhaustedError(
                f"The budget is {context.plan.budget:g} clicks, but only {left} masks are unanswered. Lower "
                "`budget`, or stop here."
            )
        queries, details = best_queries(context, self.round_index, self.scored, min(count, left))
        how = " at random, because there is no model yet" if details["warm_up"] else ""
        return Selection(queries=queries, details=details, summary=f"{len(queries)} questions{_ahead(asked)}{how}")

    def more(self) -> list[Query]:
        """Return nothing: all queries were chosen before."""
        return []

    def finish(self) -> None:
        """Return None: the queries of the round are asked at once."""
        return

    def free(self, count: int) -> list[Query]:
        """Choose queries ahead of the round, as far as its budget surely pays for them."""
        context = self.context
        # Merged masks and answers of different prices are counted when the round is selected.
        if context.method.query.priced_by_answer or context.method.pool.merges or context.is_warm_up(self.scored):
            return []
        asked = context.project.ledger.queries(self.round_index)
        left = context.masks_left()
        count = min(count, left, context.queries_prepared(left + len(asked)) - len(asked))
        return best_queries(context, self.round_index, self.scored, count)[0] if count > 0 else []

    def preview(self, state: MaskState) -> tuple[Changes, str]:
        """Propagate the answers so far."""
        return propagated(self.context, self.round_index, state), _SOME_MISSING

    def corrections(self, state: MaskState, limits: Limits) -> Corrections:
        """Propagate the answers of the round, where the method does."""
        method = self.context.method
        changes = propagated(self.context, self.round_index, state) if method.corrects else Changes.none()
        changes, left_out = within_limits(self.context, changes, limits)
        details: dict[str, Any] = {"automatic": len(changes.rows)} | _left_out(left_out, limits)
        return Corrections(changes=changes, details=details, summary=_counted(method, changes, left_out))


class InBatches:
    """Asks in batches through a session, which may audit and certify corrections.

    Args:
        context: Of the run.
        session: Of the round.
    """

    in_batches = True

    def __init__(self, context: Context, session: BatchSession) -> None:
        self.context = context
        self.session = session
        self.round_index = session.round_index

    def select(self, asked: Sequence[Query]) -> Selection:
        """Choose the first batch, unless queries asked ahead still wait for answers."""
        project = self.context.project
        answered = {answer.query_id for answer, _ in project.ledger.answers(self.round_index)} if asked else set()
        waiting = any(query.query_id not in answered for query in asked)
        queries = [] if waiting else self.session.next_questions()
        if not queries and not asked:
            raise PoolExhaustedError(
                f"No mask of {project.folder} is left to ask about, so no further round is possible."
            )
        return Selection(queries=queries, summary=f"{len(queries)} questions in the first batch{_ahead(asked)}")

    def more(self) -> list[Query]:
        """Return the next batch, or audits."""
        return self.session.next_questions()

    @property
    def asks_freely(self) -> bool:
        """Whether more queries may be asked before those asked have their answers."""
        return self.session.asks_freely

    def finish(self) -> int | None:
        """End the round early, if its session audits."""
        return self.session.finish() if isinstance(self.session, Session) else None

    def free(self, count: int) -> list[Query]:
        """Return at least `count` queries, if the session has them."""
        return self.session.free_questions(count)

    def preview(self, state: MaskState) -> tuple[Changes, str]:
        """Return what the answers so far suggest, before any audit."""
        audits = isinstance(self.session, Session)
        note = "Audits at the end of the round decide which of these are made." if audits else _SOME_MISSING
        return self.session.proposals(), note

    def corrections(self, state: MaskState, limits: Limits) -> Corrections:
        """Return what the session supports by all answers; where it audits, this replaces earlier automatic corrections."""
        project = self.context.project
        changes, left_out = within_limits(self.context, self.session.changes(state), limits)
        details: dict[str, Any] = {"automatic": len(changes.rows)} | _left_out(left_out, limits)
        details["withdrawn"] = int((changes.classes == FIRST).sum())
        details |= self.session.findings(left_out, project.masks.current(state)[left_out])
        guarantee = self.session.guarantee(details)
        summary = guarantee or _counted(self.context.method, changes, left_out)
        return Corrections(changes=changes, details=details, summary=summary, guarantee=guarantee)


class Questioners:
    """The questioners of a run: that of the open round, and that of the round asked ahead.

    Args:
        context: Of the run.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._open: Questioner | None = None
        self._ahead: Questioner | None = None

    def of(self, round_index: int) -> Questioner:
        """Return the questioner of a round, which reads that round's own statistics."""
        if self._open is None or self._open.round_index != round_index:
            self._open = self._make(round_index, round_index)
        return self._open

    def ahead(self, round_index: int, scored: int) -> Questioner:
        """Return a questioner of a round that reads the statistics of an earlier one."""
        if self._ahead is None or self._ahead.round_index != round_index:
            self._ahead = self._make(round_index, scored)
            if self._open is not None and self._open.round_index == scored:
                ahead, current = (getattr(one, "session", None) for one in (self._ahead, self._open))
                if isinstance(ahead, Session) and isinstance(current, Session):
                    ahead.share_pool(current)
        return self._ahead

    def end_ahead(self) -> None:
        """Forget what asked ahead: the round's own statistics are there."""
        self._ahead = None

    def _make(self, round_index: int, scored: int) -> Questioner:
        context = self.context
        session = context.method.session(
            ProjectSource(context, scored),
            round_index,
            seed=context.seed(round_index),
            questions=context.queries_per_round,
        )
        # Only a session that audits begins without a model; others would rank masks by nothing.
        if session is None or (context.is_warm_up(scored) and not isinstance(session, Session)):
            return OneShot(context, round_index, scored)
        return InBatches(context, session)


def within_limits(context: Context, changes: Changes, limits: Limits) -> tuple[Changes, NDArray[np.int64]]:
    """Return corrections without those that were excluded in review, and the rows of these."""
    out = (changes.confidences < limits.threshold) & (changes.classes != FIRST)
    if limits.rejected:
        pairs = zip(*(labels.tolist() for labels in old_and_new(context, changes)), strict=True)
        out |= np.fromiter((pair in limits.rejected for pair in pairs), dtype=bool, count=len(out))
    kept = Changes(rows=changes.rows[~out], classes=changes.classes[~out], confidences=changes.confidences[~out])
    return kept, changes.rows[out]


def old_and_new(context: Context, changes: Changes) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return (n,) classes that masks carry now, and those that corrections give them; VOID for none."""
    masks = context.project.masks
    old = masks.current(context.project.state())[changes.rows]
    return old, np.where(changes.classes == FIRST, masks.label[changes.rows], changes.classes).astype(np.int32)


def _left_out(rows: NDArray[np.int64], limits: Limits) -> dict[str, Any]:
    if not len(rows):
        return {}
    rejected: Collection[Any] = sorted(map(list, limits.rejected))
    return {"left_out": len(rows), "threshold": limits.threshold, "rejected": rejected}


def _ahead(asked: Sequence[Query]) -> str:
    return f", in addition to the {len(asked)} asked ahead" if asked else ""


def _counted(method: Method, changes: Changes, left_out: NDArray[np.int64]) -> str:
    parts = [f"{len(changes.rows)} automatic corrections"] if method.corrects else []
    if len(left_out):
        parts.append(f"{len(left_out)} excluded in review")
    return ", ".join(parts)
