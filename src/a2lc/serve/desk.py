"""The desk: a project open for answering, shared by all who answer. Knows nothing of HTTP.

Three things go on at once: requests lend questions and record answers, in milliseconds; a worker thread chooses the next
questions and ends stages; and, if wanted, a process of its own trains the next model. Two locks keep them apart: one for
what is lent and recorded, held for moments; one for the loop, held while the worker or a preview computes.
"""

from __future__ import annotations

import heapq
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.errors import A2LCError, PoolExhaustedError, StageError
from a2lc.export import export_project
from a2lc.io.files import json_safe
from a2lc.ledger import mask_keys
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.recorder import Outcome, Recorder
from a2lc.rounds.stages import next_stage, take_back
from a2lc.rounds.status import label_quality, project_status
from a2lc.serve.background import Training
from a2lc.serve.dashboard import pace
from a2lc.serve.queue import NotNowError, UnknownQuestionError, likely_class
from a2lc.statistics.mask_stats import MaskStats
from a2lc.version import __version__

__all__ = ["Desk"]


_AHEAD = 16
"""Questions that lie ready for each annotator: two pages of them."""


_ALIKE = 120
"""Questions a grid chooses its look-alikes from, where more can be asked."""


_PAUSE = 5.0
"""Seconds between two counts of what would change."""


_REST = 10.0
"""Seconds until something that failed is tried again; for a training it is six times that."""


_PATIENCE = 20.0
"""Seconds that a request waits for the loop, and the end of the server for the worker."""


_WAITERS = 4
"""Requests that may wait for the loop: those who answer need the other threads."""


class Desk:
    """Lends questions, records answers, and takes the round on when they are in.

    Safe to share between threads. The caller holds the project's lock for as long as the desk lives.

    Attributes:
        project: What is answered for.
        trains: Whether models are trained in the background.
        lease_seconds: After so long without a sign a question goes back to the others.
    """

    def __init__(
        self,
        project: Project,
        plan: RoundPlan,
        *,
        trains: bool = False,
        lease_seconds: float = 120.0,
        clock: Callable[[], float] = time.time,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Open the desk; what was lent before still is.

        Args:
            project: Opened, its lock held by the caller.
            plan: Of the rounds; people answer, whatever it says.
            trains: Train models in a process of its own.
            lease_seconds: How long a question is one annotator's.
            clock: Seconds since 1970.
            say: Gets a line as each stage ends.

        Raises:
            A2LCError: The plan does not fit the project or its open round.
        """
        self.project = project
        self.trains = trains
        self.lease_seconds = lease_seconds
        self._clock = clock
        self._say = say
        plan = replace(plan, annotator=plan.annotator.model_copy(update={"kind": "human"}))
        self._loop = Loop(project, plan, say=self._heard)
        self._loop.check()
        self._training: Training | None = None
        self._message = ""
        self._line = ""
        self._proposed: int | None = None
        self._counted = 0.0
        self._looked = ("", 0, 0)
        self._stop = threading.Event()
        self._vectors: tuple[int, dict[int, NDArray[np.float32]]] = (0, {})

        self._books = threading.RLock()  # what is lent and recorded
        self._work = threading.RLock()  # the loop
        self._waiters = threading.Semaphore(_WAITERS)
        self._recorder = Recorder(project)
        self._stage = next_stage(project)
        self._open: dict[int, Query] = {}
        self._leases = {q: lease for q, lease in project.ledger.leases().items() if q not in self._recorder.standing}
        self._free: list[tuple[float, int]] = []
        self._last = 0.0  # place at the end of the queue, for what is put off
        self._expiry: list[tuple[float, int]] = [(until, q) for q, (_, until) in self._leases.items()]
        heapq.heapify(self._expiry)
        self._spent: dict[int, float] = {}
        for query_id, answer in self._recorder.standing.items():
            number = self._recorder.queries[query_id].round
            self._spent[number] = self._spent.get(number, 0.0) + self._clicks(answer)
        self._by_annotator: dict[str, list[int]] = {}
        for answer in self._recorder.all_answers():
            self._by_annotator.setdefault(answer.annotator, []).append(answer.answer_id)
        self._seen: dict[str, float] = {}
        self._take_in(list(self._recorder.queries.values()))
        self._leases = {q: lease for q, lease in self._leases.items() if q in self._open}

        self._wake = threading.Event()
        self._wake.set()
        self._worker = threading.Thread(target=self._run, name="a2lc-desk", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Stop the worker and the training; what was recorded stays, and a training goes on where it was another time."""
        self._stop.set()
        self._wake.set()
        # What it is at is begun again another time; a long stage is not waited for.
        self._worker.join(timeout=_PATIENCE)
        if self._training is not None:
            self._training.stop()

    # ---- lending ------------------------------------------------------------------------------------------------

    def lease(self, annotator: str, count: int, have: Sequence[int] = ()) -> tuple[list[Query], list[int]]:
        """Lend questions to an annotator, the next ones of the queue.

        Args:
            annotator: Who asks. What was lent to them before and is not in `have` comes first.
            count: At most so many.
            have: Questions they hold: their leases are renewed.

        Returns:
            The questions, and those of `have` that are not theirs any more.
        """
        with self._books:
            now = self._tick()
            self._seen[annotator] = now
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
            found = sorted(mine)[:count]
            while len(found) < count and self._free:
                _, query_id = heapq.heappop(self._free)
                if query_id in self._open and query_id not in self._leases and query_id not in found:
                    found.append(query_id)
            self._lend([*renewed, *found], annotator, now)
            if self._short():
                self._wake.set()
            return [self._open[query_id] for query_id in found], gone

    def grid(self, annotator: str, count: int) -> tuple[int | None, list[Query]]:
        """Lend questions about masks that look alike and would be given the same class.

        Args:
            annotator: Who asks.
            count: At most so many.

        Returns:
            The class, and the questions: the first free one that has a class, and those most like it by what the model
            says of them. The class is None where there are none.
        """
        if self._work.acquire(timeout=_PATIENCE / 40):
            try:
                self._ask_more(_ALIKE)
            finally:
                self._work.release()
        with self._books:
            now = self._tick()
            self._seen[annotator] = now
            free = [q for _, q in sorted(self._free) if q in self._open and q not in self._leases]
            queries = [self._open[query_id] for query_id in dict.fromkeys(free)]
        wanted = [(query, likely_class(query)) for query in queries]
        first = next(((query, label) for query, label in wanted if label is not None), None)
        if first is None:
            return None, []
        alike = [query for query, label in wanted if label == first[1]]
        vectors = self._vectors_of(first[0].round, alike)
        order = np.argsort(-(vectors @ vectors[0]), kind="stable")[:count]
        with self._books:
            # Others may have been lent some meanwhile.
            found = [alike[i] for i in order.tolist() if alike[i].query_id in self._open]
            found = [query for query in found if query.query_id not in self._leases]
            self._lend([query.query_id for query in found], annotator, now)
            self._wake.set()
        return (first[1], found) if found else (None, [])

    def release(self, annotator: str, ids: Sequence[int]) -> int:
        """Give questions back unanswered; they are asked again after all others."""
        with self._books:
            mine = [q for q in dict.fromkeys(ids) if self._leases.get(q, ("", 0.0))[0] == annotator]
            for query_id in mine:
                del self._leases[query_id]
                self._last += 1
                heapq.heappush(self._free, (self._last, query_id))
            if mine:
                self.project.ledger.end_leases(mine)
            return len(mine)

    def question(self, query_id: int) -> Query:
        """A question by its number.

        Raises:
            UnknownQuestionError: There is none.
        """
        with self._books:
            query = self._recorder.queries.get(query_id)
        if query is None:
            raise UnknownQuestionError(f"There is no question {query_id}.")
        return query

    def standing(self, query_id: int) -> Answer | None:
        """The answer that stands."""
        with self._books:
            return self._recorder.standing.get(query_id)

    def _lend(self, ids: Sequence[int], annotator: str, now: float) -> None:
        until = now + self.lease_seconds
        for query_id in ids:
            self._leases[query_id] = (annotator, until)
            heapq.heappush(self._expiry, (until, query_id))
        self.project.ledger.lend(ids, annotator, until)

    def _tick(self) -> float:
        """Take back what was lent for too long; the time now."""
        now = self._clock()
        while self._expiry and self._expiry[0][0] <= now:
            until, query_id = heapq.heappop(self._expiry)
            lease = self._leases.get(query_id)
            if lease is not None and lease[1] <= until:  # not renewed since
                del self._leases[query_id]
                heapq.heappush(self._free, (query_id, query_id))
        return now

    def _take_in(self, queries: Sequence[Query]) -> None:
        """Put questions on the queue that are open."""
        for query in queries:
            if query.query_id not in self._recorder.standing and query.round not in self._recorder.closed:
                self._open[query.query_id] = query
                if query.query_id not in self._leases:
                    heapq.heappush(self._free, (query.query_id, query.query_id))
        self._last = max([self._last, *(float(query.query_id) for query in queries)])

    def _short(self) -> bool:
        """Whether questions run low for those who answer now."""
        return len(self._open) - len(self._leases) < _AHEAD * max(1, self._active())

    def _active(self) -> int:
        """How many people answer now."""
        now = self._clock()
        return sum(now - seen < self.lease_seconds for seen in self._seen.values())

    # ---- answers ------------------------------------------------------------------------------------------------

    def answer(self, answers: Sequence[Answer]) -> list[Outcome]:
        """Record answers; each has its own outcome."""
        with self._books:
            before = {answer.query_id: self._recorder.standing.get(answer.query_id) for answer in answers}
            outcomes = self._recorder.record(answers)
            for outcome in outcomes:
                if outcome.status != "recorded":
                    continue
                answer = self._recorder.standing[outcome.query_id]
                self._open.pop(outcome.query_id, None)
                self._leases.pop(outcome.query_id, None)
                self._by_annotator.setdefault(answer.annotator, []).append(answer.answer_id)
                number = self._recorder.queries[outcome.query_id].round
                old = before[outcome.query_id]
                paid = self._clicks(answer) - (self._clicks(old) if old is not None else 0.0)
                self._spent[number] = self._spent.get(number, 0.0) + paid
                self._seen[answer.annotator] = self._clock()
            if not self._open or self._short() or self._loop.prices_differ:
                self._wake.set()
            return outcomes

    def history(self, annotator: str, limit: int) -> list[tuple[Query, Answer, str]]:
        """Questions, standing answers and their times, of an annotator, newest first; each question once."""
        with self._books:
            found: list[tuple[Query, Answer, str]] = []
            seen: set[int] = set()
            for answer_id in reversed(self._by_annotator.get(annotator, [])):
                query_id = self._recorder.answer(answer_id).query_id
                if query_id not in seen:
                    seen.add(query_id)
                    stands = self._recorder.standing[query_id]
                    found.append((self._recorder.queries[query_id], stands, self._recorder.times[stands.answer_id]))
                if len(found) >= limit:
                    break
            return found

    def _clicks(self, answer: Answer) -> float:
        return self._recorder.cost.of_answer(answer.kind, len(answer.classes))

    # ---- what the module would change -----------------------------------------------------------------------------

    def spread(self) -> dict[str, Any]:
        """What the correction module would change now.

        Returns:
            `ready`: whether it may be accepted; `stage`, `total`, `promise`, a line; and (n,) arrays, the surest first: `rows`
            of the mask table, `old` and `new` classes, VOID for none, and `probability`.
        """
        with self._at_work():
            number, stage = next_stage(self.project)
            empty = np.empty(0, dtype=np.int64)
            found: dict[str, Any] = {"ready": False, "stage": stage, "total": 0, "promise": ""}
            found |= {"rows": empty, "old": empty, "new": empty, "probability": np.empty(0)}
            if not self._loop.method.corrects:
                return found | {"promise": f"Method {self._loop.plan.method} changes no mask that nobody looked at."}
            if stage not in {"answer", "correct"}:
                return found | {
                    "promise": f"The changes of round {number if stage in {'train', 'evaluate'} else number - 1} are made."
                }
            try:
                changes, promise = self._loop.spread()
            except StageError as error:
                return found | {"promise": str(error)}
            old, new = self._loop.old_and_new(changes)
            order = np.argsort(-changes.confidences, kind="stable")
            self._proposed = len(order)
            return found | {
                "ready": stage == "correct",
                "total": len(order),
                "promise": promise,
                "rows": changes.rows[order],
                "old": old[order].astype(np.int64),
                "new": new[order].astype(np.int64),
                "probability": changes.confidences[order],
            }

    def accept_spread(self, threshold: float, rejected: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Make the changes of a round, but those of less probability and the rejected pairs of old and new class.

        Raises:
            NotNowError: The answers of the round are not all in, or its changes are made.
        """
        with self._at_work():
            number, stage = next_stage(self.project)
            if stage != "correct" or not self._loop.method.corrects:
                raise NotNowError(f"Round {number} is at its stage '{stage}': there are no changes to accept.")
            self._loop.correct(threshold=threshold, rejected=rejected)
            details = next(s.details for s in self.project.ledger.stages() if (s.round, s.stage) == (number, "correct"))
            self._after_stage()
            message = self._line
        self._wake.set()
        return {"changed": details["automatic"], "left_out": details.get("left_out", 0), "message": message}

    def undo_spread(self) -> int:
        """Take back the changes accepted last; how many masks go back.

        Raises:
            NotNowError: A model was trained on them, or there are none.
        """
        with self._at_work():
            number, stage = next_stage(self.project)
            if stage != "train" or number < 1:
                raise NotNowError("There are no changes that could be taken back here: see a2lc undo.")
            if self._training is not None:
                self._training.stop()
                self._training = None
            try:
                changed = take_back(self.project, number, "automatic")
            except A2LCError as error:
                raise NotNowError(str(error)) from None
            self._after_stage()
            self._message = f"The automatic changes of round {number} were taken back."
        self._wake.set()
        return changed

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """The loop, for a request: what takes long in it must not hold up all who answer.

        Raises:
            NotNowError: The worker is busy with it.
        """
        busy = NotNowError("The server is at work on the questions. Try again in a moment.")
        if not self._waiters.acquire(blocking=False):
            raise busy
        try:
            if not self._work.acquire(timeout=_PATIENCE):
                raise busy
            try:
                yield
            finally:
                self._work.release()
        finally:
            self._waiters.release()

    # ---- looking on -----------------------------------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """What does not change while people answer, as the page needs it."""
        project = self.project
        classes = project.classes
        names = [name for name in project.ledger.annotators() if name != "oracle"]
        return {
            "name": project.config.name,
            "folder_name": project.folder.name,
            "images": len(project.images),
            "masks": len(project.masks),
            "method": self._loop.plan.method,
            "round": self._stage[0],
            "trains": self.trains,
            "classes": [
                {"index": i, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*classes.colours[i])}
                for i, name in enumerate(classes.names)
            ],
            "version": __version__,
            "annotators": names,
            "lease_seconds": self.lease_seconds,
        }

    def status(self) -> dict[str, Any]:
        """Where the round stands; cheap enough to be asked for with every answer."""
        with self._books:
            number, stage = self._stage
            # Open questions are of one round: the last one.
            asked = next(iter(self._open.values())).round if self._open else number
            training = None if self._training is None else self._training.told()
            return {
                "round": asked,
                "stage": stage,
                "phase": self._phase(stage, training),
                "message": " ".join(filter(None, [self._message, self._waiting_for(number, stage, training)])),
                "waiting": len(self._open),
                "answered": self._recorder.answered[asked],
                "budget": self._loop.plan.budget,
                "ahead": bool(self._open) and stage != "answer",
                "training": training,
                "proposed": self._proposed,
            }

    def dashboard(self) -> dict[str, Any]:
        """What was done, by round, annotator, minute and class, and how good the labels are."""
        project = self.project
        standing = project_status(project)
        state = project.state()
        now_labels, first = project.masks.current(state), project.masks.label
        changed = now_labels != first
        classes = project.classes.num_classes
        away = np.bincount(first[changed & (first >= 0)], minlength=classes)
        into = np.bincount(now_labels[changed & (now_labels >= 0)], minlength=classes)
        with self._books:
            answers = [
                (a, self._recorder.times[a.answer_id])
                for a in sorted(self._recorder.standing.values(), key=lambda a: a.answer_id)
            ]
            queries = self._recorder.queries
        now = datetime.now(UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        people: dict[str, dict[str, Any]] = {}
        minutes: Counter[int] = Counter()
        for answer, told in answers:
            when = datetime.fromisoformat(told)
            row = people.setdefault(
                answer.annotator,
                {"name": answer.annotator, "answers": 0, "today": 0, "changed": 0, "times": deque(maxlen=50)},
            )
            row["answers"] += 1
            row["today"] += when >= midnight
            row["changed"] += answer.kind != AnswerKind.CONFIRM and (
                answer.classes[:1] != (queries[answer.query_id].proposed,) or len(answer.classes) != 1
            )
            row["times"].append(when)
            if answer.annotator != "oracle":
                ago = int((now - when).total_seconds() // 60)
                if 0 <= ago < 60:
                    minutes[ago] += 1
        for row in people.values():
            row["a_minute"] = pace(list(row.pop("times")))
        found: dict[str, Any] = json_safe(
            {
                "rounds": standing["rounds"],
                "annotators": sorted(people.values(), key=lambda row: -row["answers"]),
                "minutes": [
                    {"time": (now - timedelta(minutes=ago)).isoformat(timespec="minutes"), "answers": minutes[ago]}
                    for ago in range(59, -1, -1)
                ],
                "changes": [{"class": i, "from": int(away[i]), "to": int(into[i])} for i in range(classes)],
                "quality": label_quality(project),
                "clicks": float(sum(row["clicks"] for row in standing["rounds"])),
                "answers": len(answers),
                "waiting": len(self._open),
                "data_miou": None if standing["now"] is None else standing["now"]["data_miou"],
            }
        )
        return found

    def export(self) -> tuple[str, int]:
        """Write the corrected data set below the project's folder `exports`; its name there, and how many label maps."""
        stamp = datetime.now(UTC).strftime("corrected-%Y%m%d-%H%M%S")
        root, name, more = self.project.folder / "exports", stamp, 1
        root.mkdir(exist_ok=True)
        while True:
            try:
                (root / name).mkdir()
                break
            except FileExistsError:  # of the same second
                more += 1
                name = f"{stamp}-{more}"
        summary = export_project(self.project, root / name)
        return name, summary.images

    def _phase(self, stage: str, training: dict[str, Any] | None) -> str:
        if stage == "correct" and self._loop.method.corrects:
            return "spread"
        if self._open or stage in {"answer", "select"}:
            return "answering"
        return "training" if training is not None and not training["error"] else "waiting"

    def _waiting_for(self, number: int, stage: str, training: dict[str, Any] | None) -> str:
        """What people wait for, if they do."""
        if training is not None and training["error"]:
            return str(training["error"])
        if self._open or stage in {"answer", "select"}:
            return ""
        if stage == "correct":
            return f"All questions of round {number} are answered: look at what would change, then accept it."
        if training is not None:
            doing = "Masks are being scored" if stage == "score" else "The next model is being trained"
            return f"{doing}; questions come when that is done."
        if self._alone(stage):
            return "The next questions are being prepared."
        return (
            f"Round {number} goes on with a model. Stop this server and give a2lc serve {self.project.folder.name} --train: "
            "it trains while people answer."
        )

    # ---- the worker -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(timeout=1.0)
            self._wake.clear()
            try:
                while not self._stop.is_set() and self._step():
                    pass
                continue
            except PoolExhaustedError:
                self._message = "Every mask that can be asked about has been asked about."
            except A2LCError as error:
                self._message = str(error)
            except Exception:
                traceback.print_exc()
                self._message = "Something went wrong in the server; its console says what. Answers are still recorded."
            self._stop.wait(_REST)

    def _step(self) -> bool:
        """Do the next thing that needs no person; False if there is none."""
        with self._work:
            number, stage = self._stage = next_stage(self.project)
            if self._training is not None and self._training.ended and not self._training.told()["error"]:
                self._training = None
                self._after_stage()
            if stage == "answer":
                return self._while_answering(number)
            if stage == "select":
                self._loop.run_stage("select")
                self._after_stage()
                return True
            if stage == "correct" and self._loop.method.corrects:
                if self._changes_wait(number):
                    return False  # someone looks at what would change, and accepts it
            elif not self._alone(stage):
                return self._train()
            self._loop.run_stage(stage)
            self._after_stage()
            return True

    def _changes_wait(self, number: int) -> bool:
        """Whether the round has changes to look at; worked out anew only if someone has changed an answer since."""
        with self._books:
            said = ("correct", number, len(self._recorder.all_answers()))
        if self._looked != said or self._proposed is None:
            self._proposed, self._looked = len(self._loop.spread()[0].rows), said
        return self._proposed > 0

    def _while_answering(self, number: int) -> bool:
        with self._books:
            self._tick()
            waiting = any(query.round == number for query in self._open.values())
            short = self._short()
            spent = self._spent.get(number, 0.0)
        over = self._loop.prices_differ and spent + 1e-9 >= self._loop.plan.budget
        more = waiting and short and self._loop.method.asks_in_batches and self._loop.asking(number).asks_freely
        if waiting and not over and not more:
            self._count_proposals()
            return False
        if more:
            with self._books:
                wanted = _AHEAD * max(1, self._active())
            return self._ask_more(wanted)
        self._loop.run_stage("answer")
        self._after_stage()
        return True

    def _ask_more(self, wanted: int) -> bool:
        """Have so many questions free, where a round chooses them in batches and has not chosen all; whether any came."""
        number, stage = next_stage(self.project)
        if stage != "answer" or not self._loop.method.asks_in_batches:
            return False
        with self._books:
            lacking = wanted - (len(self._open) - len(self._leases))
        if lacking <= 0:
            return False
        asking = self._loop.asking(number)
        queries = asking.free_questions(lots=-(-lacking // asking.method.batch))
        if queries:
            self.project.ledger.add_queries(number, queries)
            self._after_stage(labels=False)
        return bool(queries)

    def _count_proposals(self) -> None:
        """How many masks would be changed now, every so often while answers come."""
        if not self._loop.method.corrects or self._clock() - self._counted < _PAUSE:
            return
        with self._books:
            said = ("answer", self._stage[0], len(self._recorder.all_answers()))
        if self._looked == said:
            return
        self._looked = said
        if self._loop.method.asks_in_batches or self._recorder.answered[self._stage[0]]:
            with suppress(A2LCError):
                self._proposed = len(self._loop.spread()[0].rows)
        self._counted = self._clock()

    def _after_stage(self, *, labels: bool = True) -> None:
        """Take in what the ledger has now; what masks carry only if it may have changed by more than answers."""
        with self._books:
            self._message = ""
            if labels:
                self._recorder.reload()
            self._take_in(self._recorder.learn_queries())
            for query_id in [q for q, query in self._open.items() if query.round in self._recorder.closed]:
                # Left over when the clicks of the round were spent.
                del self._open[query_id]
                self._leases.pop(query_id, None)
            self._stage = next_stage(self.project)
            if self._stage[1] not in {"answer", "correct"}:
                self._proposed = None

    def _alone(self, stage: str) -> bool:
        """Whether a stage needs no network: probabilities come from files, or the stage looks at answers alone."""
        if stage == "correct":
            return not self._loop.method.labels_pixels or self._loop.plan.training.model == "probabilities"
        return self._loop.plan.training.model == "probabilities"

    def _train(self) -> bool:
        """See to what needs a network, and ask ahead meanwhile; whether something was done."""
        if not self.trains and next_stage(self.project)[1] != "score":
            return False  # masks are scored for who asks; a model is trained only if that is wanted
        if self._training is not None and self._training.ended:
            # It failed: what it said is shown, and it is tried again when there was time to mend it.
            if self._training.told()["seconds"] < self._training.ended_after + 6 * _REST:
                return False
            self._training = None
        if self._training is None:
            self._training = Training(self.project.folder, self._wake.set, self._heard, trains=self.trains)
        self._ask_ahead()
        return False

    def _ask_ahead(self) -> None:
        """Have questions of the next round ready while the model that chooses the rest is not."""
        with self._books:
            wanted = self._active() and self._short()
        if not self.trains or not wanted:
            return
        with suppress(StageError, PoolExhaustedError):
            if self._loop.ask_ahead(_AHEAD):
                with self._books:
                    self._take_in(self._recorder.learn_queries())

    def _heard(self, line: str) -> None:
        self._line = line.split(" s  ", 1)[-1]
        self._say(line)

    # ---- look-alikes ----------------------------------------------------------------------------------------------

    def _vectors_of(self, number: int, queries: Sequence[Query]) -> NDArray[np.float32]:
        """(n, D) unit vectors of what the model says of the masks of questions, from the round's table of statistics."""
        known_round, known = self._vectors
        if known_round != number:
            known = {}
        missing = [query for query in queries if query.query_id not in known]
        if missing:
            keys = mask_keys(np.array([q.image for q in missing]), np.array([q.mask_ids[0] for q in missing]))
            found = self._read_vectors(number, keys)
            known = known | {query.query_id: found[i] for i, query in enumerate(missing)}
            self._vectors = (number, known)
        return np.stack([known[query.query_id] for query in queries])

    def _read_vectors(self, number: int, keys: NDArray[np.uint64]) -> NDArray[np.float32]:
        """(n, D) for mask keys in any order; zeros for masks without statistics."""
        order = np.argsort(keys)
        vectors = np.zeros((len(keys), self.project.classes.num_classes), dtype=np.float32)
        scored = {stage.round for stage in self.project.ledger.stages() if stage.stage == "score"}
        # Asked ahead: by what scored the round before.
        by = number if number in scored else number - 1
        folder = self.project.round_folder(by)
        change = self.project.class_change_since(by)
        for path in sorted((folder / "stats").glob("part-*.parquet")):
            stats = MaskStats.from_table(
                pq.read_table(path, columns=["image", "mask_ids", "prob_sums", "area"], use_threads=False)
            )
            here = mask_keys(stats.image, stats.mask_ids)
            place = np.searchsorted(keys[order], here)
            hit = (place < len(keys)) & (keys[order][np.minimum(place, len(keys) - 1)] == here)
            if not hit.any():
                continue
            probs = stats.prob_sums[hit] / np.maximum(stats.area[hit, None], 1)
            if change is not None:
                probs = probs @ change.T
            # Square roots: the dot product is then the Bhattacharyya coefficient, which sees differences in small shares too.
            vectors[order[place[hit]]] = np.sqrt(np.clip(probs, 0, None))
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norm, 1e-9), dtype=np.float32)
