"""Answers of people on their way into the ledger: what follows from them, and what refuses them."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.cost import ClickCost
from a2lc.correction.manual import check_answer, manual_corrections
from a2lc.errors import A2LCError, AlreadyAnsweredError, InputError
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query
from a2lc.rounds.oracle import ORACLE

__all__ = ["Outcome", "Recorder", "annotator_name", "corrections_of", "record_answer"]

_LONGEST_NAME = 60


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an answer.

    Attributes:
        query_id: Its question.
        status: `recorded`, `same` (it was recorded before), `conflict` (another answer stands) or `refused` (it fits no question
            or no class).
        answer_id: Of the answer that stands, where there is one.
        message: Why it was not recorded.
    """

    query_id: int
    status: str
    answer_id: int | None = None
    message: str = ""


def corrections_of(
    project: Project,
    query: Query,
    answer: Answer,
    classes: NDArray[np.int32],
    before: Mapping[int, int] | None = None,
) -> list[tuple[int, int, int, int]]:
    """Derive the rows (image, mask id, old class, new class) that follow from an answer.

    Args:
        project: Opened.
        query: The question.
        answer: The reply.
        classes: (M,) what masks were corrected to, or FIRST.
        before: For masks that replaced answers changed, what they carried before those.
    """
    rows = project.masks.rows(np.full(len(query.mask_ids), query.image), np.array(query.mask_ids))
    standing = dict(zip(query.mask_ids, classes[rows].tolist(), strict=True))
    return manual_corrections(query, answer, standing, dict(before or {}))


class Recorder:
    """Records answers of people, by the same path as the oracle's, and keeps in mind what it needs for the next one.

    What masks carry is read from the ledger once: after corrections that came by another way, call `reload`. Not safe to
    share between threads without a lock.
    """

    def __init__(self, project: Project, cost: ClickCost | None = None) -> None:
        """Read what is recorded.

        Args:
            project: Opened.
            cost: Clicks of answers; as the project says, where it is not given.
        """
        self.project = project
        annotator = project.config.annotator
        self.cost = cost or ClickCost(confirm=annotator.confirm_clicks, correct=annotator.correct_clicks)
        self.queries: dict[int, Query] = {}
        """All questions, by id."""
        self.standing: dict[int, Answer] = {}
        """The answer that stands, by question."""
        self.times: dict[int, str] = {}
        """When each answer was given, by answer."""
        self.answered: Counter[int] = Counter()
        """Questions answered, by round."""
        self.clicks: dict[int, float] = {}
        """What each answer cost, by answer."""
        self.progress: dict[int, float] = {}
        """Questions answered, by round, where those of a grid count as the clicks they cost."""
        self._all: dict[int, Answer] = {}
        self._newest = 0
        self._last = 0
        self.learn_queries()
        for answer, clicks, when in project.ledger.timed_answers():
            self._remember(answer, clicks, when)
        self.reload()

    def learn_queries(self) -> list[Query]:
        """Take in questions recorded since the last time; they come back."""
        new = self.project.ledger.queries(after=self._last)
        for query in new:
            self.queries[query.query_id] = query
        if new:
            self._last = new[-1].query_id
        return new

    def reload(self) -> None:
        """Read again what masks carry, and which rounds take no more answers."""
        self._classes = self.project.state().classes.copy()
        self.closed = {stage.round for stage in self.project.ledger.stages() if stage.stage == "answer"}

    def record(self, answers: Sequence[Answer]) -> list[Outcome]:
        """Record answers, in one transaction; one that cannot be recorded does not spoil the others."""
        found: dict[int, Outcome] = {}
        rows: list[tuple[int, Answer, float, list[tuple[int, int, int, int]]]] = []
        taken: set[int] = set()
        for place, answer in enumerate(answers):
            refusal = self._refusal(answer)
            if refusal is None and answer.query_id in taken:
                refusal = Outcome(
                    query_id=answer.query_id,
                    status="refused",
                    message="Another answer to it was sent at the same time.",
                )
            if refusal is not None:
                found[place] = refusal
                continue
            taken.add(answer.query_id)
            query = self.queries[answer.query_id]
            clicks = self.cost.of_reply(query, answer)
            made = corrections_of(self.project, query, answer, self._classes, self._before(answer))
            # Two questions may be about one mask: the second finds what the first came to.
            for image, mask, _, new in made:
                self._classes[self.project.masks.rows(np.array([image]), np.array([mask]))] = new
            rows.append((place, answer, clicks, made))
        if rows:
            # A changed answer belongs to the round it is given in: what earlier rounds came to stays as it was.
            number = self.project.ledger.rounds()[-1].round
            try:
                self.project.ledger.add_answers(number, [(answer, clicks, made) for _, answer, clicks, made in rows])
            except A2LCError:
                self.reload()
                raise
            for answer, paid, when in self.project.ledger.timed_answers(after=self._newest):
                self._remember(answer, paid, when)
            for place, answer, _, _ in rows:
                now = self.standing[answer.query_id].answer_id
                found[place] = Outcome(query_id=answer.query_id, status="recorded", answer_id=now)
        return [found[place] for place in range(len(answers))]

    def answer(self, answer_id: int) -> Answer:
        """Return an answer by its number, replaced or not."""
        return self._all[answer_id]

    def all_answers(self) -> list[Answer]:
        """Return all answers in recorded order, replaced ones too."""
        return list(self._all.values())

    def _remember(self, answer: Answer, clicks: float, when: str) -> None:
        query = self.queries[answer.query_id]
        if answer.query_id not in self.standing:
            self.answered[query.round] += 1
            one = 1.0 if query.grid is None else clicks / self.cost.highest
            self.progress[query.round] = self.progress.get(query.round, 0.0) + one
        self.clicks[answer.answer_id] = clicks
        self._all[answer.answer_id] = answer
        self._newest = answer.answer_id
        self.times[answer.answer_id] = when
        self.standing[answer.query_id] = answer

    def _refusal(self, answer: Answer) -> Outcome | None:
        """Return why an answer is not to be recorded; None if it is."""

        def no(status: str, message: str = "", answer_id: int | None = None) -> Outcome:
            return Outcome(query_id=answer.query_id, status=status, answer_id=answer_id, message=message)

        query = self.queries.get(answer.query_id)
        if query is None:
            return no("refused", f"There is no question {answer.query_id} in {self.project.folder}.")
        try:
            check_answer(answer, self.project.classes.num_classes)
        except InputError as error:
            return no("refused", str(error))
        stands = self.standing.get(answer.query_id)
        if stands is None and answer.replaces is not None:
            return no("refused", f"Question {answer.query_id} has no answer to replace.")
        if stands is not None and answer.replaces != stands.answer_id:
            said = (stands.kind, stands.classes, stands.annotator, stands.pixels, stands.replaces)
            # The same message sent twice, as a page does that never heard back.
            if said[:4] == (answer.kind, answer.classes, answer.annotator, answer.pixels) and (
                answer.replaces is None or said[4] == answer.replaces
            ):
                return no("same", answer_id=stands.answer_id)
            return no(
                "conflict",
                (
                    f"Question {answer.query_id} was answered {stands.kind.value!r} by {stands.annotator}. To change "
                    f"the answer, state that it replaces answer {stands.answer_id}."
                ),
                stands.answer_id,
            )
        if stands is None and query.round in self.closed:
            return no(
                "refused",
                (
                    f"Question {answer.query_id} was not answered before the clicks of round {query.round} were spent, "
                    "and can no longer be answered."
                ),
            )
        if answer.kind == AnswerKind.CONFIRM and answer.classes != (query.proposed,):
            named = self.project.classes.name_of(query.proposed)
            return no(
                "refused", f"Question {answer.query_id} proposes {named}. To choose another class, answer 'correct'."
            )
        return None

    def _before(self, answer: Answer) -> dict[int, int]:
        """Return what masks carried before the answers that this one replaces, if those changed anything."""
        chain, replaced = [], answer.replaces
        while replaced is not None and replaced in self._all:
            chain.append(replaced)
            replaced = self._all[replaced].replaces
        if not chain:
            return {}
        made: Any = self.project.ledger.corrections_of_answers(chain)
        # The earliest comes last and has the say.
        return {mask: old for answer_id in chain for mask, old in made.get(answer_id, {}).items()}


def annotator_name(text: str) -> str:
    """Return the name of a person in the form in which it is recorded: stripped, and in Unicode normal form C.

    Raises:
        InputError: It is empty, longer than 60 characters, not printable, or the name of the simulated annotator.
    """
    # Composed, so that a name typed on two systems is one name.
    name = unicodedata.normalize("NFC", text.strip())
    # Joiners are not printable characters, but some scripts need them.
    printable = name.replace("\u200c", "").replace("\u200d", "")
    if not 1 <= len(name) <= _LONGEST_NAME or not printable or not printable.isprintable():
        raise InputError(
            f"Expected an annotator name of 1 to {_LONGEST_NAME} printable characters, found {text[:_LONGEST_NAME]!r}."
        )
    if unicodedata.normalize("NFKC", printable).strip().casefold() == ORACLE:
        raise InputError(f"{ORACLE!r} is the simulated annotator. Choose another name.")
    return name


def record_answer(project: Project, answer: Answer, cost: ClickCost | None = None) -> bool:
    """Record one answer of a person; many are recorded faster by one `Recorder`.

    Args:
        project: Opened.
        answer: The reply; with `replaces` it takes the place of an earlier one.
        cost: Clicks of answers; as the project says, where it is not given.

    Returns:
        False if the very same answer was recorded before.

    Raises:
        InputError: There is no such question, or the answer does not fit it.
        AlreadyAnsweredError: Another answer stands, and this one does not say that it replaces it.
    """
    (outcome,) = Recorder(project, cost).record([replace(answer, answer_id=0)])
    if outcome.status == "conflict":
        raise AlreadyAnsweredError(outcome.message)
    if outcome.status == "refused":
        raise InputError(outcome.message)
    return outcome.status == "recorded"
