"""The loop: rounds of score, select, answer, correct, train, evaluate. Each stage is recorded when it ends.

A stage reads files and the ledger, works on arrays, and writes its results in one step; a stage whose record is in
the ledger is never repeated, and one that was killed is begun again from the same state.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.config import AnnotatorConfig, TrainingConfig
from a2lc.correction.manual import answered_class, check_answer, manual_corrections
from a2lc.cost import ClickCost
from a2lc.errors import InputError, MissingExtraError, MissingFileError, PoolExhaustedError, StageError
from a2lc.files import atomic_path, json_safe, write_text
from a2lc.ledger import VOID, MaskState, apply_to_labels, mask_keys
from a2lc.methods import Method, create_method
from a2lc.metrics import ConfusionCounts
from a2lc.oracle import ORACLE, Oracle
from a2lc.progress import Track, no_progress
from a2lc.project import Project
from a2lc.records import Answer, AnswerKind, Query, Reason, RoundView, Source
from a2lc.selection import top_masks
from a2lc.stages import next_stage, require_stage
from a2lc.stats import MaskStats, mask_statistics
from a2lc.version import versions

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Loop", "RoundPlan", "record_answer"]

SHARD = 64
"""Images a statistics file covers: what a killed scoring loses at most."""

_SUGGESTIONS = 9  # as many as an annotator has digits

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """All that decides a round, beside the project's files.

    Attributes:
        method: Name of the method.
        settings: Its settings, where they are not the defaults.
        budget: Clicks a round.
        training: How models are trained.
        annotator: Who answers.
        seed: Of the project; each round draws its own from it.
    """

    method: str
    settings: dict[str, Any]
    budget: float
    training: TrainingConfig
    annotator: AnnotatorConfig
    seed: int

    def to_json(self) -> dict[str, Any]:
        """As kept in the ledger."""
        return {
            "method": self.method,
            "settings": asdict(create_method(self.method, self.settings)),  # type: ignore[call-overload]
            "budget": self.budget,
            "training": self.training.model_dump(mode="json"),
            "annotator": self.annotator.model_dump(mode="json"),
            "seed": self.seed,
        }


class Loop:
    """Runs the stages of a project, one after another."""

    def __init__(
        self,
        project: Project,
        plan: RoundPlan,
        *,
        model: nn.Module | None = None,
        track: Track = no_progress,
        say: Say = lambda line: None,
        after_round: Callable[[int], None] = lambda number: None,
    ) -> None:
        """Prepare to run.

        Args:
            project: Opened, its lock held by the caller.
            plan: What a round is to be.
            model: A network in place of the configured one.
            track: Shows progress.
            say: Gets a line as each stage ends.
            after_round: Called with the number of each round that ends.

        Raises:
            UnknownNameError: There is no such method or setting.
            PoolExhaustedError: The budget is no number of clicks.
        """
        self.project = project
        self.plan = plan
        self.method: Method = create_method(plan.method, plan.settings)
        self.cost = ClickCost(confirm=plan.annotator.confirm_clicks, correct=plan.annotator.correct_clicks)
        self.model = model
        self.track = track
        self.say = say
        self.after_round = after_round
        if not plan.budget >= self.cost.highest:
            raise InputError(
                f"A budget of {plan.budget:g} clicks buys no answer: one costs up to {self.cost.highest:g}."
            )

    # ---- rounds -------------------------------------------------------------------------------------------------

    @property
    def queries_a_round(self) -> int:
        """Questions that a round's budget always pays for."""
        return int(self.plan.budget / self.cost.highest + 1e-9)

    def run(self, rounds: int) -> bool:
        """Run until `rounds` rounds are finished; rounds finished before count.

        Returns:
            False if questions wait for a person's answers.

        Raises:
            PoolExhaustedError: There are not enough masks left to ask about.
        """
        number, stage = next_stage(self.project)
        # Selected rounds have their questions; the others need new ones.
        selected = number if stage in {"answer", "correct", "train", "evaluate"} else number - 1
        missing = max(0, rounds - max(selected, 0)) * self.queries_a_round
        left = self.masks_left()
        if missing > left:
            raise PoolExhaustedError(
                f"{rounds} rounds of {self.plan.budget:g} clicks need {missing} more masks, but only {left} were not asked "
                "about yet. Lower --budget or --rounds."
            )
        while True:
            number, stage = next_stage(self.project)
            if number > rounds:
                return True
            if not self.run_stage(stage):
                return False
            if stage == "evaluate":
                self.after_round(number)

    def masks_left(self) -> int:
        """Masks that were never asked about."""
        return len(self.project.masks) - len(self.project.ledger.asked_masks())

    def run_stage(self, stage: str) -> bool:
        """Run one stage.

        Returns:
            False if it could not end: questions wait for a person.

        Raises:
            StageError: Another stage comes first, or the open round was begun with another plan.
        """
        number = require_stage(self.project, stage)
        self._open(number)
        began = time.perf_counter()
        work = {
            "score": self._score,
            "select": self._select,
            "answer": self._answer,
            "correct": self._correct,
            "train": self._train,
            "evaluate": self._evaluate,
        }[stage]
        line = work(number, began)
        if line is None:
            return False
        self.say(f"round {number}  {stage:<8} {time.perf_counter() - began:7.1f} s  {line}")
        return True

    def check(self) -> None:
        """Refuse a plan that contradicts what the open round has done by another one.

        Training may change at any time: each round's model is scored with the settings it was trained by. Method,
        budget and seed are settled when the questions are chosen, the annotator when the first is answered.

        Raises:
            StageError: The open round was settled by another plan.
        """
        number, _ = next_stage(self.project)
        done = {stage.stage: stage.details for stage in self.project.ledger.stages() if stage.round == number}
        settled = dict(done["select"].get("plan", {})) if "select" in done else {}
        if self.project.ledger.answers(number):
            settled["annotator"] = self._settled_annotator(number)
        plan = json.loads(json.dumps(self.plan.to_json()))
        differ = [key for key in settled if settled[key] != plan[key]]
        if differ:
            raise StageError(
                f"Round {number} was begun with another {' and '.join(differ)}: "
                + "; ".join(f"{key} {_short(settled[key], plan[key])}" for key in differ)
                + f". Finish it with those, a2lc run DIR --rounds {number}, and change them for the next."
            )

    def _settled_annotator(self, number: int) -> dict[str, Any]:
        """What the plan says, but of the kind that has answered: people and the oracle do not share a round."""
        own = self.plan.annotator.model_dump(mode="json")
        return own | {"kind": "oracle" if self.project.ledger.answers(number)[0][0].annotator == ORACLE else "human"}

    def _open(self, number: int) -> None:
        self.check()
        if number in {record.round for record in self.project.ledger.rounds()}:
            return
        plan = json.loads(json.dumps(self.plan.to_json()))
        self.project.ledger.open_round(
            number,
            method=self.plan.method,
            config=plan,
            model=self._model_name(number),
            seed=self._seed(number),
            versions=versions(),
        )

    def _seed(self, number: int) -> int:
        return int(np.random.default_rng([self.plan.seed, number]).integers(2**31))

    def _model_name(self, number: int) -> str:
        """What scores a round: the weights the round before ended with."""
        if self.plan.training.model == "probabilities":
            return str(self.plan.training.probabilities)
        folder = self.project.round_folder(max(number - 1, 0))
        return (folder / "model.ckpt").relative_to(self.project.folder).as_posix()

    # ---- the stages ---------------------------------------------------------------------------------------------

    def _score(self, number: int, began: float) -> str:
        """Statistics of every mask, in files of `SHARD` images; files that are there are not made again."""
        project = self.project
        folder = project.round_folder(number) / "stats"
        state = project.state()
        images = project.images
        shards = [images[i : i + SHARD] for i in range(0, len(images), SHARD)]
        predict = None
        with self.track("scoring", len(images)) as advance:
            for index, shard in enumerate(shards):
                path = folder / f"part-{index:05d}.parquet"
                if path.is_file():
                    advance(len(shard))
                    continue
                # Only now: a run killed between this stage's last file and its record needs no model.
                predict = predict or self._predictor(number)
                parts = []
                for image in shard:
                    parts.append(self._image_statistics(predict(image), image, state))
                    advance()
                with atomic_path(path) as temporary:
                    pq.write_table(MaskStats.concat(parts).to_table(), temporary)
        masks = len(project.masks)
        forward = 0.0 if predict is None else predict.forward_seconds
        self._finish(number, "score", began, {"images": len(images), "masks": masks, "forward_seconds": forward})
        return f"{masks:,} masks of {len(images):,} images"

    def _image_statistics(self, probs: Any, image: Any, state: MaskState) -> MaskStats:
        project = self.project
        mask_map = project.mask_map(image)
        first, last = np.searchsorted(project.masks.image, [image.index, image.index + 1])
        labels = apply_to_labels(
            project.first_labels(image),
            mask_map,
            project.masks.mask_ids[first:last],
            state.classes[first:last],
            project.classes.ignore_index,
        )
        ignore = project.classes.ignore_index
        try:
            if isinstance(probs, np.ndarray):
                stats = mask_statistics(probs, labels, mask_map, ignore)
            else:
                from a2lc.stats_torch import mask_statistics_torch

                stats = mask_statistics_torch(probs, labels, mask_map, ignore)
        except InputError as error:
            raise type(error)(f"Image {image.image_id}: {error}") from None
        return stats.with_image(image.index)

    def _select(self, number: int, began: float) -> str:
        """The masks of highest score that were never asked about."""
        project = self.project
        count = self.queries_a_round
        left = self.masks_left()
        if count > left:
            raise PoolExhaustedError(
                f"Budget is {self.plan.budget:g} clicks, but only {left} masks are unanswered. Lower --budget or end the run."
            )
        state = project.state()
        current = project.masks.current(state)
        asked = np.isin(project.masks.keys, project.ledger.asked_masks())
        pixels, void = project.masks.pixels_by_class(state, project.classes.num_classes, ~asked)

        def scored() -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
            for stats in self._read_statistics(number, self.method.columns()):
                rows = project.masks.rows(stats.image, stats.mask_ids)
                view = RoundView(
                    stats=stats,
                    current=current[rows],
                    asked=asked[rows],
                    pixels_per_class=pixels,
                    void_pixels=void,
                    round=number,
                    seed=self._seed(number),
                )
                values = self.method.score(view)
                yield stats.image, stats.mask_ids, np.where(asked[rows], -np.inf, values)

        images, mask_ids, scores = top_masks(scored(), count)
        if len(images) < count:
            raise RuntimeError(
                f"{count - len(images)} masks have a score that is no number: method {self.plan.method!r}"
            )
        likely = self._likely_classes(number, images, mask_ids)
        rows = project.masks.rows(images, mask_ids)
        queries = [
            Query(
                round=number,
                image=int(image),
                mask_ids=(int(mask),),
                proposed=None if current[row] == VOID else int(current[row]),
                suggestions=tuple(int(c) for c in order),
                score=float(value),
                reason=Reason.ACQUISITION,
            )
            for image, mask, row, value, order in zip(images, mask_ids, rows, scores, likely, strict=True)
        ]
        plan = {key: value for key, value in self.plan.to_json().items() if key not in {"training", "annotator"}}
        details = {
            "queries": len(queries),
            "void_pixels": void,
            "pixels_per_class": pixels.tolist(),
            "plan": json.loads(json.dumps(plan)),
        }
        project.ledger.add_queries(number, queries, time.perf_counter() - began, details)
        return f"{len(queries)} questions"

    def _likely_classes(self, number: int, images: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[Any]:
        """Classes of masks by falling mean probability, for the annotator's keys."""
        keys = mask_keys(images, mask_ids)
        order = np.argsort(keys)
        count = min(_SUGGESTIONS, self.project.classes.num_classes)
        likely = np.zeros((len(keys), count), dtype=np.int64)
        for stats in self._read_statistics(number, frozenset({"image", "mask_ids", "prob_sums"})):
            here = mask_keys(stats.image, stats.mask_ids)
            place = np.searchsorted(keys[order], here)
            found = (place < len(keys)) & (keys[order][np.minimum(place, len(keys) - 1)] == here)
            likely[order[place[found]]] = np.argsort(-stats.prob_sums[found], axis=1, kind="stable")[:, :count]
        return likely

    def _answer(self, number: int, began: float) -> str | None:
        """The oracle's answers, all in one transaction; a person's arrive on their own."""
        project = self.project
        waiting = project.ledger.queries(number, unanswered=True)
        answers = project.ledger.answers(number)
        if self.plan.annotator.kind == "human":
            if waiting:
                self.say(
                    f"round {number}  answer    {len(waiting)} of {len(waiting) + len(answers)} questions wait for a person."
                )
                return None
            clicks = sum(c for _, c in answers)
            self._finish(number, "answer", began, {"answers": len(answers), "clicks": clicks})
            return f"{len(answers)} answers"
        state = project.state()
        oracle = Oracle(
            num_classes=project.classes.num_classes,
            error_rate=self.plan.annotator.error_rate,
            seed=self._seed(number),
        )
        replies = oracle.answer(waiting, project.masks, project.truth, state)
        rows = [
            (answer, self.cost.of(answer.kind), _corrections(project, query, answer, state))
            for query, answer in zip(waiting, replies, strict=True)
        ]
        clicks = sum(cost for _, cost, _ in rows) + sum(c for _, c in answers)
        details = {"answers": len(rows) + len(answers), "clicks": clicks}
        project.ledger.add_answers(number, rows, stage=(time.perf_counter() - began, details))
        changed = sum(bool(corrections) for _, _, corrections in rows)
        return f"{details['answers']} answers, {clicks:g} clicks, {changed} corrected"

    def _correct(self, number: int, began: float) -> str:
        """Automatic corrections by the method, none over an answer."""
        project = self.project
        if not self.method.corrects:
            self._finish(number, "correct", began, {"automatic": 0})
            return "no automatic corrections by this method"
        state = project.state()
        current = project.masks.current(state)
        answered_keys = project.ledger.asked_masks(answered=True)
        asked = np.isin(project.masks.keys, answered_keys)
        queries = {query.query_id: query for query in project.ledger.queries(number)}
        # Answers that name no class of the mask teach nothing.
        learnt = [
            queries[answer.query_id]
            for answer, _ in project.ledger.answers(number)
            if answered_class(answer) is not None
        ]
        rows = project.masks.rows(
            np.array([query.image for query in learnt for _ in query.mask_ids], dtype=np.int64),
            np.array([mask for query in learnt for mask in query.mask_ids], dtype=np.int64),
        )
        stats = MaskStats.concat(
            list(self._read_statistics(number, frozenset({"image", "mask_ids", "prob_sums", "area"})))
        )
        pixels, void = project.masks.pixels_by_class(state, project.classes.num_classes)
        view = RoundView(
            stats=stats,
            current=current,
            asked=asked,
            pixels_per_class=pixels,
            void_pixels=void,
            round=number,
            seed=self._seed(number),
        )
        changes = self.method.propagate(view, rows, current[rows])
        project.ledger.add_corrections(
            number,
            Source.AUTOMATIC,
            project.masks.image[changes.rows],
            project.masks.mask_ids[changes.rows],
            state.classes[changes.rows],
            changes.classes,
            confidences=changes.confidences,
            model=f"{self.plan.method} round {number}",
            stage=("correct", time.perf_counter() - began, {"automatic": len(changes.rows)}),
        )
        return f"{len(changes.rows)} automatic corrections"

    def _train(self, number: int, began: float) -> str:
        """A model of the corrected labels."""
        if self.plan.training.model == "probabilities" and self.model is None:
            details = {
                "skipped": "probabilities come from files",
                "training": self.plan.training.model_dump(mode="json"),
            }
            self._finish(number, "train", began, details)
            return "nothing to train: probabilities come from files"
        fit_model = _training("fit").fit_model
        folder = self.project.round_folder(number)
        start = None
        if number > 0 and self.plan.training.warm_start:
            before, now = self._trained_with(number - 1), self.plan.training
            weights = self.project.round_folder(number - 1) / "model.ckpt"
            parts = ("model", "encoder", "output_stride")
            if weights.is_file() and all(getattr(before, part) == getattr(now, part) for part in parts):
                start = weights
            else:
                self.say(f"round {number}  train     another network than in round {number - 1}: it starts anew")
        fitted = fit_model(
            self.project,
            self.plan.training,
            self.project.state(),
            folder,
            seed=self._seed(number),
            start=start,
            model=self.model,
            track=self.track,
        )
        training = self.plan.training.model_dump(mode="json")
        details = asdict(fitted) | {"warm_start": start is not None, "training": training}
        self._finish(number, "train", began, details)
        if fitted.validation_miou is None:
            kept = "the last weights kept: there is no validation ground truth to choose by"
        else:
            kept = f"the {fitted.kept} weights kept, validation mIoU {fitted.validation_miou:.4f}"
        return f"{fitted.steps} steps, {kept}"

    def _evaluate(self, number: int, began: float) -> str:
        """Quality of labels and model against ground truth, where there is any."""
        project = self.project
        details: dict[str, Any] = {"model_miou": None, "model_iou": None, "measured_on": None}
        images = project.validation_images or (project.images if project.has_ground_truth else [])
        if images:
            predict = self._predictor(number + 1)
            missing = ""
            counts = ConfusionCounts(project.classes.num_classes, project.classes.ignore_index)
            try:
                with self.track("evaluating", len(images)) as advance:
                    for image in images:
                        probs = predict(image)
                        pred = np.asarray(probs.argmax(0) if isinstance(probs, np.ndarray) else probs.argmax(0).cpu())
                        counts.update(pred, project.ground_truth(image))
                        advance()
            except MissingFileError:
                # Probability files need not cover validation images; without them the model is not measured.
                if self.plan.training.model != "probabilities":
                    raise
                missing = "model not measured: no probabilities of the images to measure on"
            else:
                details |= {
                    "forward_seconds": predict.forward_seconds,
                    "model_miou": counts.miou,
                    "model_iou": [None if np.isnan(v) else float(v) for v in counts.iou],
                    "measured_on": "validation images" if project.validation_images else "training images",
                }
        line = []
        if project.has_ground_truth:
            quality = project.truth.confusion(project.state(), project.classes.num_classes)
            details |= {"data_miou": quality.miou, "data_iou": [None if np.isnan(v) else float(v) for v in quality.iou]}
            line.append(f"data mIoU {quality.miou:.4f}")
        if details["model_miou"] is not None:
            where = "" if project.validation_images else " (on the training images)"
            line.append(f"model mIoU {details['model_miou']:.4f}{where}")
        elif images and missing:
            line.append(missing)
        write_text(project.round_folder(number) / "evaluation.json", json.dumps(json_safe(details), indent=1))
        self._finish(number, "evaluate", began, details)
        return ", ".join(line) or "no ground truth to measure against"

    # ---- parts --------------------------------------------------------------------------------------------------

    def _finish(self, number: int, stage: str, began: float, details: dict[str, Any]) -> None:
        self.project.ledger.finish_stage(number, stage, time.perf_counter() - began, details)

    def _trained_with(self, number: int) -> TrainingConfig:
        """The settings that a round's model was trained by, which may have changed since."""
        for stage in self.project.ledger.stages():
            if stage.round == number and stage.stage == "train" and "training" in stage.details:
                return TrainingConfig.model_validate(stage.details["training"])
        return self.plan.training

    def _predictor(self, number: int) -> Any:
        """What gives the probabilities that score round `number`: the model of the round before, or files."""
        training = self._trained_with(number - 1)
        if self.model is None and "probabilities" in {training.model, self.plan.training.model}:
            from a2lc.training.predict import probabilities_from_files

            # Files may have moved since: what is said now counts.
            folder = self.plan.training.probabilities or training.probabilities
            assert folder is not None
            return probabilities_from_files(self.project, self.project.source_path(folder))
        weights = self.project.round_folder(number - 1) / "model.ckpt"
        if not weights.is_file():
            raise MissingFileError(
                f"{weights} is missing: the model of round {number - 1} cannot score. Restore it from a copy."
            )
        return _training("predict").probabilities_from_model(self.project, training, weights, self.model)

    def _read_statistics(self, number: int, columns: frozenset[str]) -> Iterator[MaskStats]:
        """Statistics of a round, a file at a time, only the columns asked for."""
        folder = self.project.round_folder(number) / "stats"
        for path in sorted(folder.glob("part-*.parquet")):
            # One thread: decoding so few columns is over before a second one has begun.
            yield MaskStats.from_table(pq.read_table(path, columns=sorted(columns), use_threads=False))


def _corrections(
    project: Project, query: Query, answer: Answer, state: MaskState, before: dict[int, int] | None = None
) -> list[tuple[int, int, int, int]]:
    image = np.full(len(query.mask_ids), query.image)
    rows = project.masks.rows(image, np.array(query.mask_ids))
    standing = dict(zip(query.mask_ids, state.classes[rows].tolist(), strict=True))
    return manual_corrections(query, answer, standing, before)


def _before(project: Project, answer: Answer) -> dict[int, int]:
    """What the masks of a question carried before the answers that this one replaces, where those changed anything."""
    chain = []
    known = {a.answer_id: a for a, _ in project.ledger.answers(standing=False) if a.query_id == answer.query_id}
    replaced = answer.replaces
    while replaced is not None and replaced in known:
        chain.append(replaced)
        replaced = known[replaced].replaces
    made = project.ledger.corrections_of_answers(chain)
    # The earliest comes last and has the say.
    return {mask: old for answer_id in chain for mask, old in made.get(answer_id, {}).items()}


def record_answer(project: Project, answer: Answer, cost: ClickCost | None = None) -> bool:
    """Record a person's answer, by the same path as the oracle's.

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
    check_answer(answer, project.classes.num_classes)
    found = [query for query in project.ledger.queries() if query.query_id == answer.query_id]
    if not found:
        raise InputError(f"There is no question {answer.query_id} in {project.folder}.")
    proposed = found[0].proposed
    if answer.kind == AnswerKind.CONFIRM and answer.classes != (proposed,):
        named = "void" if proposed is None else project.classes.names[proposed]
        raise InputError(f"Question {answer.query_id} proposes {named}: to name another class, answer 'correct'.")
    if cost is None:
        annotator = project.config.annotator
        cost = ClickCost(confirm=annotator.confirm_clicks, correct=annotator.correct_clicks)
    clicks = cost.of(answer.kind)
    # A changed answer belongs to the round it is given in: what earlier rounds came to stays as it was.
    number = project.ledger.rounds()[-1].round
    state = project.state()
    rows = _corrections(project, found[0], answer, state, before=_before(project, answer))
    return bool(project.ledger.add_answers(number, [(answer, clicks, rows)]))


def _training(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"a2lc.training.{name}")
    except ImportError as error:
        raise MissingExtraError(
            f"Training and predicting need the extra [train] ({error.name} is missing): pip install 'a2lc[train]'"
        ) from None


def _short(begun: Any, now: Any) -> str:
    if isinstance(begun, dict) and isinstance(now, dict):
        keys = [key for key in now if begun.get(key) != now[key]]
        return ", ".join(f"{key} was {begun.get(key)!r}, now {now[key]!r}" for key in keys[:3])
    return f"was {begun!r}, now {now!r}"
