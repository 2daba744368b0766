"""Run the stages of a round that need no person, in a thread beside the requests."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from a2lc.errors import A2LCError, PoolExhaustedError, StageError
from a2lc.project.project import Project
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.result import StageResult
from a2lc.rounds.stages import next_stage, take_back
from a2lc.serve.background import Training
from a2lc.serve.queue import AHEAD, NotNowError, QuestionQueue

__all__ = ["Worker"]

_COUNT_SECONDS = 5.0
"""Seconds between two counts of the automatic corrections while answers come in."""

_RETRY_SECONDS = 10.0
"""Seconds until a stage that failed is tried again; a training waits six times as long."""

_PATIENCE_SECONDS = 20.0
"""Seconds that a request waits for the loop, and that closing waits for the thread."""

_TOP_UP_SECONDS = 0.5
"""Seconds that a request for more questions waits for the loop; it is served from the queue otherwise."""

_MAX_WAITING = 4
"""Requests that may wait for the loop at once: annotators need the other threads of the server."""


class LoopLock:
    """A reentrant lock that requests wait for in limited number and for a limited time.

    The worker uses it as a plain context manager and waits as long as it takes.
    """

    def __init__(self) -> None:
        """Create the lock, free."""
        self._lock = threading.RLock()
        self._places = threading.Semaphore(_MAX_WAITING)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @contextmanager
    def within(self, seconds: float) -> Iterator[bool]:
        """Wait at most so long; yield whether the lock is held."""
        held = self._lock.acquire(timeout=seconds)
        try:
            yield held
        finally:
            if held:
                self._lock.release()

    @contextmanager
    def for_request(self) -> Iterator[None]:
        """Hold the lock for a request that needs the loop, without taking the threads that annotators need.

        Raises:
            NotNowError: The loop is busy.
        """
        busy = NotNowError("The server is preparing questions. Try again in a moment.")
        if not self._places.acquire(blocking=False):
            raise busy
        try:
            with self.within(_PATIENCE_SECONDS) as held:
                if not held:
                    raise busy
                yield
        finally:
            self._places.release()


class Worker:
    """Own the loop and the training process; take a round from stage to stage as soon as its answers are in.

    Two locks keep requests fast: `QuestionQueue.lock` is held for moments, `Worker.lock` for as long as the loop
    computes. Whoever needs both takes `Worker.lock` first.

    Attributes:
        queue: Where new questions go and answers come from.
        loop: Runs the stages; used only while `lock` is held.
        lock: Guards the loop.
        wake: Set to have the thread look for work.
        trains: Whether models are trained in the background.
        stage: Round and stage that come next.
        message: What annotators should know, such as an error; "" if nothing.
        proposed: Number of automatic corrections that wait to be reviewed; None if not known.
        cut: A round that was finished early, and the clicks that it takes; None while none was.
    """

    def __init__(
        self,
        queue: QuestionQueue,
        plan: RoundPlan,
        *,
        wake: threading.Event,
        trains: bool = False,
        clock: Callable[[], float] = time.time,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Prepare the loop; `start` begins the work.

        Args:
            queue: The questions of an opened project.
            plan: How rounds are run; its annotator must be of kind `human`.
            wake: See the attribute.
            trains: See the attribute.
            clock: Returns seconds since 1970.
            log: Receives a line as each stage ends.

        Raises:
            A2LCError: The plan does not fit the project or its open round.
        """
        self.queue = queue
        self.project = queue.project
        self.wake = wake
        self.lock = LoopLock()
        self.loop = Loop(self.project, plan, on_stage=self._log_stage)
        # The head takes seconds: there is no reason to leave it for later.
        self.trains = trains or self.loop.context.uses_head
        self.loop.check()
        self.stage = next_stage(self.project)
        self.message = ""
        self.proposed: int | None = None
        self.cut: tuple[int, float] | None = None
        self._clock = clock
        self._log = log
        self._training: Training | None = None
        self._counted_at = 0.0
        self._counted_for = ("", 0, 0)  # stage, round and number of answers of the last count
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="a2lc-worker", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.wake.set()
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and the training. Recorded work is kept, and an interrupted training resumes the next time."""
        self._stop.set()
        self.wake.set()
        # A long stage is not waited for: it is repeated the next time.
        self._thread.join(timeout=_PATIENCE_SECONDS)
        if self._training is not None:
            self._training.stop()

    # ---- for requests -------------------------------------------------------------------------------------------

    @property
    def training(self) -> dict[str, Any] | None:
        """The state of the training process, see `Training.state`; None if none was started."""
        training = self._training
        return None if training is None else training.state()

    def needs_no_network(self, stage: str) -> bool:
        """Return whether a stage uses answers only, or probabilities from files."""
        from_files = self.loop.plan.training.model == "probabilities"
        return from_files or (stage == "correct" and self.loop.method.pixel_labels is None)

    def awaits_review(self, stage: str) -> bool:
        """Return whether a person reviews the automatic corrections at this stage."""
        return stage == "correct" and self.loop.method.corrects

    def top_up(self, wanted: int) -> None:
        """Add questions until `wanted` are free, unless the loop is busy."""
        with self.lock.within(_TOP_UP_SECONDS) as held:
            if held:
                self._top_up(wanted)

    def preview(self) -> dict[str, Any]:
        """Return the automatic corrections that would be made now; see `Desk.spread`.

        Raises:
            NotNowError: The loop is busy.
        """
        with self.lock.for_request():
            found = _preview(self.loop, self.project)
            if len(found["rows"]) or found["ready"]:
                self.proposed = len(found["rows"])
            return found

    def accept(self, threshold: float, rejected: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Make the automatic corrections of the round; see `Desk.accept_spread`.

        Raises:
            NotNowError: The answers of the round are not complete, its corrections are made, or the loop is busy.
        """
        with self.lock.for_request():
            round_index, stage = next_stage(self.project)
            if not self.awaits_review(stage):
                raise NotNowError(f"Round {round_index} is at stage '{stage}', so there are no corrections to accept.")
            result = self.loop.correct(threshold=threshold, rejected=rejected)
            self._after_stage()
        self.wake.set()
        details = result.details
        return {"changed": details["automatic"], "left_out": details.get("left_out", 0), "message": result.summary}

    def finish_round(self) -> float:
        """End the round early, see `Desk.finish_round`.

        Raises:
            NotNowError: The round asks no questions, their number is fixed, or the loop is busy.
        """
        with self.lock.for_request():
            round_index, stage = next_stage(self.project)
            questions = self.loop.questioner(round_index).finish() if stage == "answer" else None
            if questions is None:
                raise NotNowError(f"Round {round_index} cannot be finished early at stage '{stage}'.")
            self.cut = (round_index, float(questions))
        self.wake.set()
        return float(questions)

    @property
    def budget(self) -> float:
        """Clicks of the round: as planned, or fewer where someone finished it early."""
        cut_round, clicks = self.cut or (-1, 0.0)
        return clicks if cut_round == self.stage[0] else self.loop.plan.budget

    def undo(self) -> int:
        """Undo the automatic corrections that were accepted last; return the number of masks.

        Raises:
            NotNowError: A model was trained on them, there are none, or the loop is busy.
        """
        with self.lock.for_request():
            round_index, stage = next_stage(self.project)
            if stage != "train" or round_index < 1:
                raise NotNowError("No corrections can be undone here. Use a2lc undo.")
            if self._training is not None:
                self._training.stop()
                self._training = None
            try:
                changed = take_back(self.project, round_index, "automatic")
            except A2LCError as error:
                raise NotNowError(str(error)) from None
            self._after_stage()
            self.message = f"The automatic corrections of round {round_index} were undone."
        self.wake.set()
        return changed

    # ---- the thread ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.is_set():
            self.wake.wait(timeout=1.0)
            self.wake.clear()
            try:
                while not self._stop.is_set() and self._step():
                    pass
                continue
            except PoolExhaustedError:
                self.message = "All masks have been asked about."
            except A2LCError as error:
                self.message = str(error)
            except Exception:
                traceback.print_exc()
                self.message = "An internal error occurred; see the server's console. Answers are still recorded."
            self._stop.wait(_RETRY_SECONDS)

    def _step(self) -> bool:
        """Do the next thing that needs no person; return False if there is nothing to do."""
        with self.lock:
            round_index, stage = self.stage = next_stage(self.project)
            if self._training is not None and self._training.ended and not self._training.state()["error"]:
                self._training = None
                self._after_stage()
            if stage == "answer":
                return self._advance_answers(round_index)
            if self.awaits_review(stage):
                if self._count_for_review(round_index):
                    return False
            elif stage != "select" and not self.needs_no_network(stage):
                self._train()
                return False
            self.loop.run_stage(stage)
            self._after_stage()
            return True

    def _advance_answers(self, round_index: int) -> bool:
        """Choose more questions or end the stage, as the answers allow; return whether anything was done."""
        if self.cut is not None and self.cut[0] == round_index:
            # Grids that wait for their answers count at their dearest; once they are answered, fewer clicks are left.
            self.cut = (round_index, float(self.loop.questioner(round_index).finish() or self.cut[1]))
        with self.queue.lock:
            waiting = self.queue.has_open(round_index)
            short = self.queue.is_short()
            spent = self.queue.spent(round_index)
            wanted = self.queue.wanted()
        over = self.loop.method.query.priced_by_answer and spent + 1e-9 >= self.loop.plan.budget
        if waiting and short and self.loop.questioner(round_index).asks_freely:
            return self._top_up(wanted)
        if waiting and not over:
            self._count_while_answering()
            return False
        self.loop.run_stage("answer")
        self._after_stage()
        return True

    def _top_up(self, wanted: int) -> bool:
        """Choose questions until `wanted` are free, if the round chooses them in batches; return whether any came."""
        round_index, stage = next_stage(self.project)
        questioner = self.loop.questioner(round_index)
        if stage != "answer" or not questioner.in_batches:
            return False
        lacking = self.queue.lacking(wanted)
        if lacking <= 0:
            return False
        queries = questioner.free(lacking)
        if queries:
            self.project.ledger.add_queries(round_index, queries)
            self._after_stage(reload=False)
        return bool(queries)

    def _count_for_review(self, round_index: int) -> int:
        """Count the automatic corrections of a round whose answers are complete; again only after a changed answer."""
        state = self._counted("correct", round_index)
        if self._counted_for != state or self.proposed is None:
            self.proposed, self._counted_for = len(self.loop.proposed()[0].rows), state
        return self.proposed

    def _count_while_answering(self) -> None:
        """Count the automatic corrections every few seconds while answers come in."""
        round_index = self.stage[0]
        state = self._counted("answer", round_index)
        early = self._clock() - self._counted_at < _COUNT_SECONDS
        if not self.loop.method.corrects or early or self._counted_for == state:
            return
        self._counted_for = state
        if self.loop.questioner(round_index).in_batches or self.queue.recorder.answered[round_index]:
            with suppress(A2LCError):
                self.proposed = len(self.loop.proposed()[0].rows)
        self._counted_at = self._clock()

    def _counted(self, stage: str, round_index: int) -> tuple[str, int, int]:
        return stage, round_index, len(self.queue.recorder.all_answers())

    def _after_stage(self, *, reload: bool = True) -> None:
        """Bring the queue and the state shown to annotators up to date with the ledger."""
        with self.queue.lock:
            self.message = ""
            self.queue.refresh(reload=reload)
            self.stage = next_stage(self.project)
            if self.stage[1] not in {"answer", "correct"}:
                self.proposed = None

    def _train(self) -> None:
        """Keep the training process running, and meanwhile ask questions of the next round."""
        # Masks are always scored for annotators who wait; a model is trained only with `trains`.
        if not self.trains and next_stage(self.project)[1] != "score":
            return
        if self._training is not None and self._training.ended:
            # It failed. The error is shown, and there is time to fix its cause before the next try.
            if self._training.state()["seconds"] < self._training.ended_after + 6 * _RETRY_SECONDS:
                return
            self._training = None
        if self._training is None:
            self._training = Training(self.project.folder, self.wake.set, self._log, trains=self.trains)
        if self.trains and self.queue.active() and self.queue.is_short():
            with suppress(StageError, PoolExhaustedError):
                if self.loop.ask_ahead(AHEAD):
                    self.queue.refresh()

    def _log_stage(self, result: StageResult) -> None:
        """Log the result of a stage."""
        for line in result.lines():
            self._log(line)


def _preview(loop: Loop, project: Project) -> dict[str, Any]:
    """Return the automatic corrections that would be made now, most certain first."""
    round_index, stage = next_stage(project)
    empty = np.empty(0, dtype=np.int64)
    reply: dict[str, Any] = {"ready": False, "stage": stage, "total": 0}
    reply |= {"rows": empty, "old": empty, "new": empty, "probability": np.empty(0)}
    if not loop.method.corrects:
        return reply | {"promise": f"Method {loop.plan.method} makes no automatic corrections."}
    if stage not in {"answer", "correct"}:
        done = round_index if stage in {"train", "evaluate"} else round_index - 1
        return reply | {"promise": f"The automatic corrections of round {done} have been made."}
    try:
        changes, guarantee = loop.proposed()
    except StageError as error:
        return reply | {"promise": str(error)}
    old, new = loop.old_and_new(changes)
    order = np.argsort(-changes.confidences, kind="stable")
    return reply | {
        "ready": stage == "correct",
        "total": len(order),
        "promise": guarantee,
        "rows": changes.rows[order],
        "old": old[order].astype(np.int64),
        "new": new[order].astype(np.int64),
        "probability": changes.confidences[order],
    }
