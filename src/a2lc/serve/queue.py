"""The queue of questions that annotators share: leases, answers, and the history of each annotator."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence

from a2lc.errors import A2LCError, UnknownNameError
from a2lc.project.project import Project
from a2lc.records import Answer, Query, QueryKind
from a2lc.rounds.recorder import Outcome, Recorder

__all__ = ["NotNowError", "QuestionQueue", "UnknownQuestionError", "likely_class"]

AHEAD = 16
"""Questions that are kept ready for each annotator: two pages of them."""

_VARIABLE_PRICE = frozenset({QueryKind.CLASSES, QueryKind.PRECISE})
"""Kinds of query whose clicks are known only once they are answered."""


class NotNowError(A2LCError):
    """The request is not possible at this point of a round."""


class UnknownQuestionError(UnknownNameError):
    """No question has this number."""


def likely_class(query: Query) -> int | None:
    """Return the class that a mask most likely has: the first suggestion, else the proposed class; None for neither."""
    return query.suggestions[0] if query.suggestions else query.proposed


class QuestionQueue:
    """Lend open questions to annotators and record their answers. Threads may share it.

    A lease holds a question for one annotator for `lease_seconds`; any sign of life renews it. Leases are kept in the
    ledger, so that a restarted server does not ask two people the same question.

    Attributes:
        project: The project whose questions are asked.
        lease_seconds: Seconds after which a question that was lent and not answered is free again.
        recorder: Validates answers and writes them to the ledger.
        lock: Guards everything here. It is held for milliseconds only; never wait for the loop while holding it.
    """

    def __init__(
        self,
        project: Project,
        *,
        lease_seconds: float = 120.0,
        clock: Callable[[], float] = time.time,
        notify: Callable[[], None] = lambda: None,
    ) -> None:
        """Restore the queue from the ledger.

        Args:
            project: Opened; its lock is held by the caller.
            lease_seconds: See the attribute.
            clock: Returns seconds since 1970.
            notify: Called when there may be work to do: questions run low, or answers may have ended the round.
        """
        self.project = project
        self.lease_seconds = lease_seconds
        self.lock = threading.RLock()
        self.recorder = Recorder(project)
        self._clock = clock
        self._notify = notify
        self._open: dict[int, Query] = {}
        standing = self.recorder.standing
        self._leases = {q: lease for q, lease in project.ledger.leases().items() if q not in standing}
        self._expiry: list[tuple[float, int]] = [(until, q) for q, (_, until) in self._leases.items()]
        heapq.heapify(self._expiry)
        self._free: list[tuple[float, int]] = []  # a heap of (position, question)
        self._last = 0.0  # the last position; released questions go behind it
        self._seen: dict[str, float] = {}
        self._spent: dict[int, float] = {}
        for query_id, answer in standing.items():
            self._spend(query_id, self._clicks(answer))
        self._by_annotator: dict[str, list[int]] = {}
        for answer in self.recorder.all_answers():
            self._by_annotator.setdefault(answer.annotator, []).append(answer.answer_id)
        self._enqueue(list(self.recorder.queries.values()))
        self._leases = {q: lease for q, lease in self._leases.items() if q in self._open}

    # ---- lending ------------------------------------------------------------------------------------------------

    def lease(self, annotator: str, count: int, have: Sequence[int] = ()) -> tuple[list[Query], list[int]]:
        """Lend the next questions of the queue to an annotator.

        Args:
            annotator: Name of the annotator. Questions lent to them before that are not in `have` come first.
            count: Maximum number of questions.
            have: Questions that the annotator's page holds: their leases are renewed.

        Returns:
            The questions, and those of `have` that are no longer the annotator's.
        """
        with self.lock:
            now = self._sign_of_life(annotator)
            gone, renewed = [], []
            for query_id in dict.fromkeys(have):
                lease = self._leases.get(query_id)
                if query_id not in self._open or (lease is not None and lease[0] != annotator):
                    gone.append(query_id)
                elif lease is None or lease[1] - now < self.lease_seconds / 2:
                    renewed.append(query_id)
            held = set(have)
            mine = [
                q for q, (name, _) in self._leases.items() if name == annotator and q not in held and q in self._open
            ]
            lent = sorted(mine)[:count]
            while len(lent) < count and self._free:
                _, query_id = heapq.heappop(self._free)
                if query_id in self._open and query_id not in self._leases and query_id not in lent:
                    lent.append(query_id)
            self._lend([*renewed, *lent], annotator, now)
            if self.is_short():
                self._notify()
            return [self._open[query_id] for query_id in lent], gone

    def free_questions(self, annotator: str) -> list[Query]:
        """Return the questions that are lent to nobody, in the order of the queue."""
        with self.lock:
            self._sign_of_life(annotator)
            free = [q for _, q in sorted(self._free) if q in self._open and q not in self._leases]
            return [self._open[query_id] for query_id in dict.fromkeys(free)]

    def lend_if_free(self, queries: Sequence[Query], annotator: str) -> list[Query]:
        """Lend those of the questions that are still free, and return them."""
        with self.lock:
            now = self._expire()
            lent = [q for q in queries if q.query_id in self._open and q.query_id not in self._leases]
            self._lend([query.query_id for query in lent], annotator, now)
            self._notify()
            return lent

    def release(self, annotator: str, ids: Sequence[int]) -> int:
        """Take back questions unanswered and put them at the end of the queue; return how many were the annotator's."""
        with self.lock:
            mine = [q for q in dict.fromkeys(ids) if self._leases.get(q, ("", 0.0))[0] == annotator]
            for query_id in mine:
                del self._leases[query_id]
                self._last += 1
                heapq.heappush(self._free, (self._last, query_id))
            if mine:
                self.project.ledger.end_leases(mine)
            return len(mine)

    def _lend(self, ids: Sequence[int], annotator: str, now: float) -> None:
        until = now + self.lease_seconds
        for query_id in ids:
            self._leases[query_id] = (annotator, until)
            heapq.heappush(self._expiry, (until, query_id))
        self.project.ledger.lend(ids, annotator, until)

    def _sign_of_life(self, annotator: str) -> float:
        """Note that an annotator is active; return the time."""
        now = self._expire()
        self._seen[annotator] = now
        return now

    def _expire(self) -> float:
        """Free the questions whose lease is over; return the time."""
        now = self._clock()
        while self._expiry and self._expiry[0][0] <= now:
            until, query_id = heapq.heappop(self._expiry)
            lease = self._leases.get(query_id)
            if lease is not None and lease[1] <= until:  # not renewed since
                del self._leases[query_id]
                heapq.heappush(self._free, (query_id, query_id))
        return now

    # ---- answers ------------------------------------------------------------------------------------------------

    def question(self, query_id: int) -> Query:
        """Return a question by its number.

        Raises:
            UnknownQuestionError: No question has this number.
        """
        with self.lock:
            query = self.recorder.queries.get(query_id)
        if query is None:
            raise UnknownQuestionError(f"There is no question {query_id}.")
        return query

    def standing(self, query_id: int) -> Answer | None:
        """Return the current answer of a question; None if it is unanswered."""
        with self.lock:
            return self.recorder.standing.get(query_id)

    def answer(self, answers: Sequence[Answer]) -> list[Outcome]:
        """Record answers; each has its own outcome."""
        with self.lock:
            before = {answer.query_id: self.recorder.standing.get(answer.query_id) for answer in answers}
            outcomes = self.recorder.record(answers)
            recorded = [outcome.query_id for outcome in outcomes if outcome.status == "recorded"]
            for query_id in recorded:
                answer, old = self.recorder.standing[query_id], before[query_id]
                self._open.pop(query_id, None)
                self._leases.pop(query_id, None)
                self._by_annotator.setdefault(answer.annotator, []).append(answer.answer_id)
                self._spend(query_id, self._clicks(answer) - (self._clicks(old) if old is not None else 0.0))
                self._seen[answer.annotator] = self._clock()
            variable = any(self.recorder.queries[query_id].kind in _VARIABLE_PRICE for query_id in recorded)
            if not self._open or self.is_short() or variable:
                self._notify()
            return outcomes

    def history(self, annotator: str, limit: int) -> list[tuple[Query, Answer, str]]:
        """Return the questions that an annotator answered last, newest first, each once.

        Returns:
            At most `limit` tuples of question, its current answer, and when that was given (ISO 8601).
        """
        with self.lock:
            entries: list[tuple[Query, Answer, str]] = []
            seen: set[int] = set()
            for answer_id in reversed(self._by_annotator.get(annotator, [])):
                query_id = self.recorder.answer(answer_id).query_id
                if query_id not in seen:
                    seen.add(query_id)
                    current = self.recorder.standing[query_id]
                    entries.append((self.recorder.queries[query_id], current, self.recorder.times[current.answer_id]))
                if len(entries) >= limit:
                    break
            return entries

    def _clicks(self, answer: Answer) -> float:
        return self.recorder.clicks[answer.answer_id]

    def _spend(self, query_id: int, clicks: float) -> None:
        round_index = self.recorder.queries[query_id].round
        self._spent[round_index] = self._spent.get(round_index, 0.0) + clicks

    # ---- what the worker needs to know --------------------------------------------------------------------------

    def refresh(self, *, reload: bool = False) -> None:
        """Add new questions of the ledger and drop those of rounds that are over.

        Args:
            reload: Read the masks' classes and the closed rounds again: they changed by more than answers.
        """
        with self.lock:
            if reload:
                self.recorder.reload()
            self._enqueue(self.recorder.learn_queries())
            for query_id in [q for q, query in self._open.items() if query.round in self.recorder.closed]:
                # Left over when the clicks of the round were spent.
                del self._open[query_id]
                self._leases.pop(query_id, None)

    def _enqueue(self, queries: Sequence[Query]) -> None:
        for query in queries:
            if query.query_id not in self.recorder.standing and query.round not in self.recorder.closed:
                self._open[query.query_id] = query
                if query.query_id not in self._leases:
                    heapq.heappush(self._free, (query.query_id, query.query_id))
        self._last = max([self._last, *(float(query.query_id) for query in queries)])

    @property
    def waiting(self) -> int:
        """Number of open questions, lent or free."""
        return len(self._open)

    @property
    def open_round(self) -> int | None:
        """The round that open questions belong to; None if no question is open."""
        with self.lock:
            # Open questions are all of one round: the last one.
            return next(iter(self._open.values())).round if self._open else None

    def has_open(self, round_index: int) -> bool:
        """Return whether a question of a round is open."""
        with self.lock:
            return any(query.round == round_index for query in self._open.values())

    def open_questions(self) -> list[Query]:
        """Return all open questions, lent or free."""
        with self.lock:
            return list(self._open.values())

    def spent(self, round_index: int) -> float:
        """Return the clicks of all current answers to questions of a round."""
        return self._spent.get(round_index, 0.0)

    def active(self) -> int:
        """Return how many annotators have shown a sign of life within the time of a lease."""
        with self.lock:
            now = self._expire()
            return sum(now - seen < self.lease_seconds for seen in self._seen.values())

    def wanted(self) -> int:
        """Return how many questions should be free for the annotators who are active now."""
        return AHEAD * max(1, self.active())

    def lacking(self, wanted: int) -> int:
        """Return how many questions are missing until `wanted` are free; 0 or less if there are enough."""
        with self.lock:
            return wanted - (len(self._open) - len(self._leases))

    def is_short(self) -> bool:
        """Return whether questions run low for the annotators who are active now."""
        with self.lock:
            return self.lacking(self.wanted()) > 0
