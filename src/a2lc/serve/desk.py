"""Open a project for answering. The desk is what the HTTP side talks to, and knows nothing of HTTP.

It composes four parts: the queue lends questions and records answers, in milliseconds; the worker runs the stages of the
round in a thread and trains models in a process; the similarity orders questions for the grid; and the dashboard computes
figures. The queue knows none of the others; the worker knows the queue.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from a2lc.export import export_project
from a2lc.project.project import Project
from a2lc.records import Answer, Query
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.recorder import Outcome
from a2lc.serve.dashboard import dashboard
from a2lc.serve.queue import QuestionQueue, likely_class
from a2lc.serve.similarity import Similarity
from a2lc.serve.worker import Worker
from a2lc.version import __version__

__all__ = ["Desk"]

_GRID_POOL = 120
"""Free questions that the similar masks of a grid are chosen from, if the round can choose that many."""


class Desk:
    """Lend questions, record answers, and continue the round when its answers are complete. Threads may share it.

    The caller holds the project's lock for as long as the desk is open.

    Attributes:
        project: The project whose questions are asked.
        trains: Whether models are trained in the background.
        lease_seconds: Seconds after which a question that was lent and not answered is free again.
        queue: Leases and answers.
        worker: The loop, its thread, and the training process.
        similarity: Finds similar masks.
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
        """Open the desk. Leases of an earlier server stay valid.

        Args:
            project: Opened; its lock is held by the caller.
            plan: How rounds are run; people answer, whatever annotator it names.
            trains: Train networks in the background; a head is fitted in any case.
            lease_seconds: See the attribute.
            clock: Returns seconds since 1970.
            say: Receives a line as each stage ends.

        Raises:
            A2LCError: The plan does not fit the project or its open round.
        """
        self.project = project
        self.lease_seconds = lease_seconds
        plan = replace(plan, annotator=plan.annotator.model_copy(update={"kind": "human"}))
        wake = threading.Event()
        self.queue = QuestionQueue(project, lease_seconds=lease_seconds, clock=clock, notify=wake.set)
        self.worker = Worker(self.queue, plan, wake=wake, trains=trains, clock=clock, log=say)
        self.trains = self.worker.trains
        self.similarity = Similarity(project)
        self.worker.start()

    def close(self) -> None:
        """Stop the worker and the training. Recorded work is kept, and an interrupted training resumes the next time."""
        self.worker.close()

    # ---- questions and answers ----------------------------------------------------------------------------------

    def lease(self, annotator: str, count: int, have: Sequence[int] = ()) -> tuple[list[Query], list[int]]:
        """Lend the next questions to an annotator; see `QuestionQueue.lease`."""
        return self.queue.lease(annotator, count, have)

    def grid(self, annotator: str, count: int) -> tuple[int | None, list[Query]]:
        """Lend questions about similar masks that most likely have the same class.

        Args:
            annotator: Name of the annotator.
            count: Maximum number of questions.

        Returns:
            The class, and the questions: of a grid that the round asks; else the first free one that has a likely class, and
            those most similar to it by the model's probabilities. The class is None if there are no questions.
        """
        together = self._together(self.queue.free_questions(annotator))[:count]
        if together:
            lent = self.queue.lend_if_free(together, annotator)
            if lent:
                return likely_class(lent[0]), lent
        self.worker.top_up(_GRID_POOL)
        # What the round asks as one grid is not broken up for another.
        free = [(query, likely_class(query)) for query in self.queue.free_questions(annotator) if query.grid is None]
        label = next((label for _, label in free if label is not None), None)
        if label is None:
            return None, []
        similar = self.similarity.order([query for query, likely in free if likely == label])[:count]
        # Others may have been lent some in the meantime.
        lent = self.queue.lend_if_free(similar, annotator)
        return (label, lent) if lent else (None, [])

    def _together(self, free: Sequence[Query]) -> list[Query]:
        """Return the questions of the first grid that is still whole; none if there is none.

        What is left of a grid was marked in it, or is of one that somebody answers otherwise: it is asked alone.
        """
        grids: dict[int, list[Query]] = {}
        for query in free:
            if query.grid is not None:
                grids.setdefault(query.grid, []).append(query)
        sizes = Counter(query.grid for query in self.queue.recorder.queries.values())
        return next((queries for number, queries in grids.items() if len(queries) == sizes[number]), [])

    def release(self, annotator: str, ids: Sequence[int]) -> int:
        """Take questions back unanswered; see `QuestionQueue.release`."""
        return self.queue.release(annotator, ids)

    def question(self, query_id: int) -> Query:
        """Return a question by its number.

        Raises:
            UnknownQuestionError: No question has this number.
        """
        return self.queue.question(query_id)

    def standing(self, query_id: int) -> Answer | None:
        """Return the current answer of a question; None if it is unanswered."""
        return self.queue.standing(query_id)

    def answer(self, answers: Sequence[Answer]) -> list[Outcome]:
        """Record answers; each has its own outcome."""
        return self.queue.answer(answers)

    def history(self, annotator: str, limit: int) -> list[tuple[Query, Answer, str]]:
        """Return what an annotator answered last; see `QuestionQueue.history`."""
        return self.queue.history(annotator, limit)

    # ---- automatic corrections ----------------------------------------------------------------------------------

    def spread(self) -> dict[str, Any]:
        """Return the automatic corrections that would be made now; nothing is recorded.

        Returns:
            `ready`: whether they may be accepted; `stage`; `total`; `promise`: their guarantee in one line; and (n,)
            arrays, the most probable first: `rows` of the mask table, `old` and `new` classes, VOID for unlabeled, and
            `probability`, 0..1.

        Raises:
            NotNowError: The worker is busy.
        """
        return self.worker.preview()

    def accept_spread(self, threshold: float, rejected: Sequence[tuple[int, int]]) -> dict[str, Any]:
        """Make the automatic corrections of the round, except improbable and rejected ones.

        Args:
            threshold: Corrections of lower probability are left out.
            rejected: Pairs of old and new class that are left out.

        Returns:
            `changed` and `left_out`, numbers of masks, and `message`, a line for people.

        Raises:
            NotNowError: The answers of the round are not complete, or its corrections are made.
        """
        return self.worker.accept(threshold, rejected)

    def finish_round(self) -> float:
        """End the round early, after the audits of what was answered; return the clicks that it takes now.

        Raises:
            NotNowError: The round asks no questions, or their number is fixed.
        """
        return self.worker.finish_round()

    def undo_spread(self) -> int:
        """Undo the automatic corrections that were accepted last; return the number of masks.

        Raises:
            NotNowError: A model was trained on them, or there are none.
        """
        return self.worker.undo()

    # ---- state and figures --------------------------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """Return what does not change while people answer: the fields of `a2lc.serve.schemas.OverviewReply`."""
        project = self.project
        classes = project.classes
        return {
            "name": project.config.name,
            "folder_name": project.folder.name,
            "images": len(project.images),
            "masks": len(project.masks),
            "method": self.worker.loop.plan.method,
            "round": self.worker.stage[0],
            "trains": self.trains,
            "classes": [
                {"index": i, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*classes.colours[i])}
                for i, name in enumerate(classes.names)
            ],
            "version": __version__,
            "annotators": [name for name in project.ledger.annotators() if name != "oracle"],
            "lease_seconds": self.lease_seconds,
        }

    def status(self) -> dict[str, Any]:
        """Return the state of the round, the fields of `a2lc.serve.schemas.StatusBody`; cheap enough for every reply."""
        with self.queue.lock:
            worker, waiting = self.worker, self.queue.waiting
            round_index, stage = worker.stage
            asked = self.queue.open_round if waiting else round_index
            assert asked is not None
            training = worker.training
            return {
                "round": asked,
                "stage": stage,
                "phase": self._phase(stage, training),
                "message": " ".join(filter(None, [worker.message, self._reason_to_wait(training)])),
                "waiting": waiting,
                "answered": round(self.queue.recorder.progress.get(asked, 0.0)),
                "budget": worker.budget,
                "finishing": worker.budget < worker.loop.plan.budget,
                "ahead": bool(waiting) and stage != "answer",
                "training": training,
                "proposed": worker.proposed,
            }

    def _phase(self, stage: str, training: dict[str, Any] | None) -> str:
        if self.worker.awaits_review(stage):
            return "spread"
        if self.queue.waiting or stage in {"answer", "select"}:
            return "answering"
        return "training" if training is not None and not training["error"] else "waiting"

    def _reason_to_wait(self, training: dict[str, Any] | None) -> str:
        """Return why there are no questions, or "" if there are."""
        round_index, stage = self.worker.stage
        if training is not None and training["error"]:
            return str(training["error"])
        if self.queue.waiting or stage in {"answer", "select"}:
            return ""
        if stage == "correct":
            return f"All questions of round {round_index} are answered. Review and accept the automatic corrections."
        if training is not None:
            activity = "Masks are being scored" if stage == "score" else "The next model is being trained"
            return f"{activity}; new questions follow."
        if self.worker.needs_no_network(stage):
            return "The next questions are being prepared."
        return (
            f"Round {round_index} needs a model to continue. Stop this server and run "
            f"a2lc serve {self.project.folder.name} --train, which trains while people answer."
        )

    def dashboard(self) -> dict[str, Any]:
        """Return figures by round, annotator, minute and class; see `a2lc.serve.dashboard.dashboard`."""
        recorder = self.queue.recorder
        with self.queue.lock:
            current = sorted(recorder.standing.values(), key=lambda answer: answer.answer_id)
            times = [recorder.times[answer.answer_id] for answer in current]
        answers = list(zip(current, map(datetime.fromisoformat, times), strict=True))
        return dashboard(self.project, answers, recorder.queries, self.queue.waiting)

    def export(self) -> tuple[str, int]:
        """Write the corrected data set below the project's folder `exports`.

        Returns:
            The name of the export's folder, and its number of label maps.
        """
        stamp = datetime.now(UTC).strftime("corrected-%Y%m%d-%H%M%S")
        root, name, copy = self.project.folder / "exports", stamp, 1
        root.mkdir(exist_ok=True)
        while True:
            try:
                (root / name).mkdir()
                break
            except FileExistsError:  # made in the same second
                copy += 1
                name = f"{stamp}-{copy}"
        summary = export_project(self.project, root / name)
        return name, summary.images
