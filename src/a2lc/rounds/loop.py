"""The loop: run the stages of a project's rounds, one after another, until people are needed or all is done.

A stage reads files and the ledger, works on arrays, and writes its results in one step. A stage whose record is in the
ledger is never repeated, and one that was killed is begun again from the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, PoolExhaustedError, StageError
from a2lc.io.progress import Track, no_progress
from a2lc.methods import Method
from a2lc.project.project import Project
from a2lc.records import Changes
from a2lc.rounds import answer, correct, evaluate, score, select, train
from a2lc.rounds.context import Context
from a2lc.rounds.learned import prepare_features
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.providers import ConfiguredModels
from a2lc.rounds.questioner import Limits, Questioner, Questioners, old_and_new
from a2lc.rounds.result import StageResult
from a2lc.rounds.settled import check_plan, open_round
from a2lc.rounds.stages import next_stage, require_stage
from a2lc.rounds.stopping import Until
from a2lc.training.provider import ModelProvider

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Loop"]


def _ignore_result(result: StageResult) -> None:
    """Report nothing."""


class Loop:
    """Runs the stages of a project.

    Args:
        project: Opened, its lock held by the caller.
        plan: Settings of the rounds to come.
        models: Who trains and predicts; by default what the setting `training.model` names.
        model: A network in place of the configured one; short for `models=ConfiguredModels(model)`.
        workers: Processes that share the work on images.
        track: Shows progress.
        on_stage: Called with the result of each stage, also of one that waits for a person.
        after_round: Called with the number of each round that ends.

    Attributes:
        stopped: Why `run` ended before all rounds were done, if a stopping rule was met.

    Raises:
        UnknownNameError: There is no such method or setting.
        ConfigError: The method cannot work with the training settings or with this kind of annotator.
        InputError: The budget buys no answer.
    """

    def __init__(
        self,
        project: Project,
        plan: RoundPlan,
        *,
        models: ModelProvider | None = None,
        model: nn.Module | None = None,
        workers: int = 1,
        track: Track = no_progress,
        on_stage: Callable[[StageResult], None] = _ignore_result,
        after_round: Callable[[int], None] = lambda round_index: None,
    ) -> None:
        self.context = Context(
            project=project,
            plan=plan,
            models=ConfiguredModels(model) if models is None else models,
            workers=workers,
            track=track,
        )
        self.on_stage = on_stage
        self.after_round = after_round
        self.stopped: str | None = None
        self._questioners = Questioners(self.context)

    @property
    def project(self) -> Project:
        """The project."""
        return self.context.project

    @property
    def plan(self) -> RoundPlan:
        """Settings of the rounds to come."""
        return self.context.plan

    @property
    def method(self) -> Method:
        """The method, with its settings."""
        return self.context.method

    def questioner(self, round_index: int) -> Questioner:
        """Return what asks the queries of a round."""
        return self._questioners.of(round_index)

    def check(self) -> None:
        """Refuse a plan that contradicts what the open round has done, see `a2lc.rounds.settled.check_plan`."""
        check_plan(self.context)

    def run(self, rounds: int, until: Until | None = None) -> bool:
        """Run until `rounds` rounds are finished; rounds finished before count.

        Args:
            rounds: Total number of rounds, including finished ones.
            until: A rule that ends the run earlier, checked as each round ends.

        Returns:
            False if queries wait for a person's answers.

        Raises:
            PoolExhaustedError: There are not enough masks left to ask about.
            InputError: The rule rests on audits, and the method makes none.
        """
        context = self.context
        round_index, stage = next_stage(self.project)
        # Selected rounds have their queries; the others need new ones.
        selected = round_index if stage in {"answer", "correct", "train", "evaluate"} else round_index - 1
        missing = max(0, rounds - max(selected, 0)) * context.queries_per_round
        missing -= len(self.project.ledger.queries(selected + 1))  # asked ahead
        left = context.masks_left()
        # A rule may end the run long before; whether there is enough is then seen round by round.
        if missing > left and self.method.query.once and until is None:
            raise PoolExhaustedError(
                f"{rounds} rounds of {self.plan.budget:g} clicks need {missing} more masks, but only {left} have "
                "not been asked about. Lower `budget` or `rounds`."
            )
        if until is not None and not self.method.audited:
            raise InputError("`until` needs audits. Use method 'gain' with the setting `measure` above 0.")
        self.stopped = None
        while True:
            round_index, stage = next_stage(self.project)
            if round_index > rounds or (until is not None and self._reached(until, round_index - 1)):
                return True
            if self._all_asked(round_index):
                self.stopped = f"after round {round_index - 1}: every mask has been asked about"
                return True
            if not self.run_stage(stage).complete:
                return False
            if stage == "evaluate":
                self.after_round(round_index)

    def _all_asked(self, round_index: int) -> bool:
        """Return whether a further round in batches would have nothing to ask: grids may answer all masks early."""
        begun = round_index in {record.round for record in self.project.ledger.rounds()}
        if round_index < 2 or begun or self.context.masks_left() >= 1:
            return False
        return self.questioner(round_index).in_batches

    def run_stage(self, stage: str, limits: Limits | None = None) -> StageResult:
        """Run one stage.

        Args:
            stage: The stage that is next.
            limits: Corrections to leave out, for the stage `correct`.

        Raises:
            StageError: Another stage comes first, or the open round was begun with another plan.
            PoolExhaustedError: There is no mask left to ask about.
        """
        context = self.context
        round_index = require_stage(self.project, stage)
        begun = round_index in {record.round for record in self.project.ledger.rounds()}
        if round_index and not begun and context.masks_left() < 1 and not self.questioner(round_index).in_batches:
            # A round that can ask nothing would stay open, and nothing could be changed any more.
            raise PoolExhaustedError(
                f"All {len(self.project.masks):,} masks have been asked about, so round {round_index} has nothing "
                "to ask. The labels are complete, unless classes should be split: a2lc classes split"
            )
        made = prepare_features(context, stage)
        if made is not None:
            self.on_stage(made)
        open_round(context, round_index)
        try:
            result = self._work(stage, round_index, limits or Limits())
        finally:
            context.loaded.clear()
        self.on_stage(result)
        return result

    def _work(self, stage: str, round_index: int, limits: Limits) -> StageResult:
        context = self.context
        if stage == "score":
            return score.run(context, round_index)
        if stage == "train":
            return train.run(context, round_index)
        if stage == "evaluate":
            return evaluate.run(context, round_index)
        questioner = self.questioner(round_index)
        if stage == "select":
            self._questioners.end_ahead()
            return select.run(context, round_index, questioner)
        if stage == "answer":
            return answer.run(context, round_index, questioner)
        return correct.run(context, round_index, questioner, limits)

    def _reached(self, until: Until, round_index: int) -> bool:
        """Whether the rule is met by what the audits of a finished round showed."""
        ledger = self.project.ledger
        if round_index + 1 in {record.round for record in ledger.rounds()}:
            return False  # the round after it was begun
        if any(undo.undone == round_index or undo.round >= round_index for undo in ledger.undos()):
            return False  # the figures are of labels that were undone
        for stage in ledger.stages(round_index, "correct"):
            why = until.reached(stage.details)
            if why:
                self.stopped = f"after round {round_index}: {why}"
                return True
        return False

    def ask_ahead(self, count: int) -> int:
        """Ask queries of the next round by what scored this one, while its model is trained: nobody has to wait for it.

        They count in the next round's clicks. The new model chooses the rest.

        Args:
            count: How many at most.

        Returns:
            How many were recorded; 0 if the next round is full, the method asks otherwise, or nothing was scored yet.

        Raises:
            StageError: The round's answers are not in.
        """
        round_index, stage = next_stage(self.project)
        if stage not in {"train", "evaluate", "score"}:
            raise StageError(
                f"Round {round_index} is at stage '{stage}'. Questions can be asked ahead only while a model is trained."
            )
        following = round_index if stage == "score" else round_index + 1
        scored = following - 1
        if scored < 1 or self.context.statistics(scored).is_empty:
            return 0
        if self.project.class_change_since(scored) is not None:
            return 0  # those statistics are of other classes
        queries = self._questioners.ahead(following, scored).free(count)
        if queries:
            open_round(self.context, following)
            self.project.ledger.add_queries(following, queries)
        return len(queries)

    def correct(self, *, threshold: float = 0.0, rejected: Collection[tuple[int, int]] = ()) -> StageResult:
        """Run the stage `correct` without the corrections that someone who looked at the preview left out.

        Args:
            threshold: Corrections of less probability are left out, in [0, 1]. Withdrawn ones are not.
            rejected: Pairs of the class a mask carries and the one it would get, VOID for none.

        Raises:
            StageError: Another stage comes first.
        """
        return self.run_stage("correct", Limits(threshold=threshold, rejected=frozenset(rejected)))

    def proposed(self) -> tuple[Changes, str]:
        """Return what the stage `correct` would change now, and its guarantee in a line; nothing is recorded.

        Raises:
            InputError: The method corrects nothing unseen.
            StageError: The round's queries were not chosen yet, or its corrections are made already.
        """
        if not self.method.corrects:
            raise InputError(f"Method {self.plan.method} makes no automatic corrections.")
        round_index, stage = next_stage(self.project)
        state = self.project.state()
        if stage == "answer":
            return self.questioner(round_index).preview(state)
        require_stage(self.project, "correct")
        corrections = self.questioner(round_index).corrections(state, Limits())
        return corrections.changes, corrections.guarantee or f"Method {self.plan.method} gives no guarantee for them."

    def old_and_new(self, changes: Changes) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return (n,) classes that masks carry now, and those that corrections give them; VOID for none."""
        return old_and_new(self.context, changes)

    def preview(self, stage: str, examples: int = 3) -> dict[str, Any]:
        """Return what the stage `correct` would change, without changing it.

        Args:
            stage: Must be `correct`, and next.
            examples: Masks named for each pair of classes, the most probable first.

        Returns:
            `total` masks, `guarantee` as a line, and `pairs` of old and new class with `masks`, `pixels`, `examples`.

        Raises:
            InputError: The stage or the method corrects nothing unseen.
            StageError: Another stage comes first.
        """
        if stage != "correct" or not self.method.corrects:
            raise InputError("`preview` works only for the stage correct of a method that makes automatic corrections.")
        require_stage(self.project, stage)
        project, (changes, guarantee) = self.project, self.proposed()
        masks = project.masks
        old, new = self.old_and_new(changes)
        pairs: dict[tuple[int, int], list[int]] = {}
        for at in np.argsort(-changes.confidences, kind="stable").tolist():
            pairs.setdefault((int(old[at]), int(new[at])), []).append(at)
        rows = [
            {
                "old": before,
                "new": after,
                "masks": len(places),
                "pixels": int(masks.area[changes.rows[places]].sum()),
                "examples": [
                    {
                        "image_id": project.images[masks.image[changes.rows[at]]].image_id,
                        "mask_id": int(masks.mask_ids[changes.rows[at]]),
                        "probability": float(changes.confidences[at]),
                    }
                    for at in places[:examples]
                ],
            }
            for (before, after), places in sorted(pairs.items(), key=lambda item: -len(item[1]))
        ]
        return {"total": len(changes.rows), "guarantee": guarantee, "pairs": rows}
