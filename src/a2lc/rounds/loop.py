"""The loop: rounds of score, select, answer, correct, train, evaluate. Each stage is recorded when it ends.

A stage reads files and the ledger, works on arrays, and writes its results in one step; a stage whose record is in
the ledger is never repeated, and one that was killed is begun again from the same state.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.acquisition.cost import ClickCost
from a2lc.acquisition.functions import score
from a2lc.acquisition.selection import top_masks
from a2lc.audits.knowledge import standing_answers
from a2lc.audits.session import Asking
from a2lc.audits.wording import guarantee_line
from a2lc.correction.manual import answered_class
from a2lc.errors import (
    ConfigError,
    InputError,
    LedgerError,
    MissingExtraError,
    MissingFileError,
    PoolExhaustedError,
    StageError,
)
from a2lc.io.files import atomic_path, json_safe, write_text
from a2lc.io.progress import Track, no_progress
from a2lc.ledger import BY_HAND, FIRST, KEEP, VOID, MaskState, mask_keys
from a2lc.masks.counting import joint_counts
from a2lc.masks.tables import TruthTable
from a2lc.methods import Method, create_method
from a2lc.methods.base import MaskColumns
from a2lc.methods.gain import Gain
from a2lc.project.config import TrainingConfig
from a2lc.project.project import Project
from a2lc.records import (
    Answer,
    AnswerKind,
    Changes,
    ImageRecord,
    Inspection,
    PixelView,
    PoolTotals,
    Query,
    QueryKind,
    Reason,
    RegionAnswer,
    RoundView,
    Source,
)
from a2lc.rounds.oracle import ORACLE, Oracle, Seen
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.recorder import corrections_of
from a2lc.rounds.stages import next_stage, require_stage
from a2lc.rounds.stopping import Until
from a2lc.statistics.mask_stats import MaskStats, mask_statistics
from a2lc.statistics.metrics import ConfusionCounts
from a2lc.version import versions

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Loop"]


SHARD = 64
"""Images a statistics file covers: what a killed scoring loses at most."""


_SUGGESTIONS = 9  # as many as an annotator has digits


Say = Callable[[str], None]


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
            ConfigError: The method cannot work with the training settings or with this kind of annotator.
            InputError: The budget buys no answer.
        """
        self.project = project
        self.plan = plan
        self.method: Method = create_method(plan.method, plan.settings)
        self.cost = ClickCost(confirm=plan.annotator.confirm_clicks, correct=plan.annotator.correct_clicks)
        if plan.training.model == "probabilities" and (self.method.trains_regions or self.method.head != "linear"):
            raise ConfigError(
                f"Method {plan.method!r} trains networks of its own and cannot work from files of probabilities. Leave out "
                "--probabilities and set training.model, or take another method."
            )
        if plan.annotator.kind == "human" and self.method.query_kind == QueryKind.PRECISE:
            raise ConfigError(
                "Precise labels are drawn, not answered by keys: only the simulated annotator gives them. Set "
                "method.labelling=dominant, or take another method."
            )
        self.model = model
        self.track = track
        self.say = say
        self.after_round = after_round
        self._asking: Asking | None = None
        self._ahead: Asking | None = None
        self._limits: tuple[float, frozenset[tuple[int, int]]] = (0.0, frozenset())
        if not plan.budget >= self.cost.highest:
            raise InputError(
                f"A budget of {plan.budget:g} clicks buys no answer: one costs up to {self.cost.highest:g}."
            )

    # ---- rounds -------------------------------------------------------------------------------------------------

    @property
    def prices_differ(self) -> bool:
        """Whether what an answer costs is known only when it is given."""
        return self.method.query_kind in {QueryKind.CLASSES, QueryKind.PRECISE}

    @property
    def queries_a_round(self) -> int:
        """Questions that a round's budget always pays for; one, where answers differ in clicks or masks are merged."""
        merged = "region" in self.method.extra_columns
        return 1 if self.prices_differ or merged else int(self.plan.budget / self.cost.highest + 1e-9)

    def _questions(self, left: int) -> int:
        """How many questions a round prepares of the masks left: those that the least clicks pay for."""
        if "region" in self.method.extra_columns:
            return min(left, int(self.plan.budget / self.cost.highest + 1e-9))
        if not self.prices_differ:
            return self.queries_a_round
        lowest = self.cost.per_class if self.method.query_kind == QueryKind.CLASSES else 1.0
        return min(left, max(1, int(self.plan.budget / lowest + 1e-9)) + self.method.overshoots)

    def run(self, rounds: int, until: Until | None = None) -> bool:
        """Run until `rounds` rounds are finished; rounds finished before count.

        Args:
            rounds: At most.
            until: A rule that ends it earlier, looked at as each round ends.

        Returns:
            False if questions wait for a person's answers.

        Raises:
            PoolExhaustedError: There are not enough masks left to ask about.
        """
        number, stage = next_stage(self.project)
        # Selected rounds have their questions; the others need new ones.
        selected = number if stage in {"answer", "correct", "train", "evaluate"} else number - 1
        missing = max(0, rounds - max(selected, 0)) * self.queries_a_round
        missing -= len(self.project.ledger.queries(selected + 1))  # asked ahead
        left = self.masks_left()
        # A rule may end the run long before; whether there is enough is then seen round by round.
        if missing > left and self.method.remembers and until is None:
            raise PoolExhaustedError(
                f"{rounds} rounds of {self.plan.budget:g} clicks need {missing} more masks, but only {left} were not asked "
                "about yet. Lower --budget or --rounds."
            )
        if until is not None and not (self.method.asks_in_batches and getattr(self.method, "measure", 0) > 0):
            raise InputError("--until rests on audits: take method 'gain', with method.measure above 0.")
        while True:
            number, stage = next_stage(self.project)
            if number > rounds or (until is not None and self._reached(until, number - 1)):
                return True
            if not self.run_stage(stage):
                return False
            if stage == "evaluate":
                self.after_round(number)

    def _reached(self, until: Until, number: int) -> bool:
        """Whether the rule is met by what the audits of a finished round showed."""
        opened = {record.round for record in self.project.ledger.rounds()}
        if number + 1 in opened:
            return False  # the round after it was begun
        if any(undo.undone == number or undo.round >= number for undo in self.project.ledger.undos()):
            return False  # the figures are of labels that were taken back
        for stage in self.project.ledger.stages():
            if stage.round == number and stage.stage == "correct":
                why = until.reached(stage.details)
                if why:
                    self.say(f"stopped after round {number}: {why}")
                    return True
        return False

    def masks_left(self) -> int:
        """Masks that may still be asked about."""
        masks = len(self.project.masks)
        return masks - len(self.project.ledger.asked_masks(closed=True)) if self.method.remembers else masks

    def run_stage(self, stage: str) -> bool:
        """Run one stage.

        Returns:
            False if it could not end: questions wait for a person.

        Raises:
            StageError: Another stage comes first, or the open round was begun with another plan.
        """
        number = require_stage(self.project, stage)
        begun = number in {record.round for record in self.project.ledger.rounds()}
        if number and not begun and not self.method.asks_in_batches and self.masks_left() < 1:
            # A round that can ask nothing would stay open, and nothing could be changed any more.
            raise PoolExhaustedError(
                f"All {len(self.project.masks):,} masks were asked about: round {number} has nothing to ask. The labels are "
                "done, but for classes that should be split: a2lc classes split"
            )
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
        settled = dict(done["select"].get("plan", {})) if "select" in done else self._begun_ahead(number)
        if self.project.ledger.answers(number):
            settled["annotator"] = self._settled_annotator(number)
        elif self.prices_differ:
            settled.pop("budget", None)  # nothing is paid for yet, and a budget that pays for nothing must be raised
        if "budget" in done.get("answer", {}):
            settled["budget"] = done["answer"]["budget"]
        if "score" in done and "select" not in done:
            begun, now = done["score"].get("columns_by", ""), self._columns_by(number)
            if now not in {"", begun}:
                opened = self.project.ledger.rounds()[-1].method
                method = json.loads(begun)[0] if begun else opened
                other = "other settings" if method == self.plan.method else f"method {method!r}"
                raise StageError(
                    f"Round {number} was scored for {other}, and what method {self.plan.method!r} asks by is not in it. Go on "
                    f"with what it was scored for, a2lc run DIR --rounds {number}, and change it for the next."
                )
        plan = json.loads(json.dumps(self.plan.to_json()))
        differ = [key for key in settled if settled[key] != plan[key]]
        if differ:
            raise StageError(
                f"Round {number} was begun with another {' and '.join(differ)}: "
                + "; ".join(f"{key} {_short(settled[key], plan[key])}" for key in differ)
                + f". Finish it with those, a2lc run DIR --rounds {number}, and change them for the next."
            )

    def _begun_ahead(self, number: int) -> dict[str, Any]:
        """What settled a round whose first questions were asked before it was selected."""
        if not self.project.ledger.queries(number):
            return {}
        (config,) = [record.config for record in self.project.ledger.rounds() if record.round == number]
        return {key: config[key] for key in ("method", "settings", "budget", "seed")}

    def _settled_annotator(self, number: int) -> dict[str, Any]:
        """What the plan says, but of the kind that has answered: people and the oracle do not share a round."""
        own = self.plan.annotator.model_dump(mode="json")
        return own | {"kind": "oracle" if self.project.ledger.answers(number)[0][0].annotator == ORACLE else "human"}

    def _open(self, number: int) -> None:
        self.check()
        if number in {record.round for record in self.project.ledger.rounds()}:
            return
        plan = json.loads(json.dumps(self.plan.to_json()))
        try:
            self.project.ledger.open_round(
                number,
                method=self.plan.method,
                config=plan,
                model=self._model_name(number),
                seed=self._seed(number),
                versions=versions(),
            )
        except LedgerError:
            # Begun meanwhile by the other of the two that share a project: who trains, and who asks ahead.
            if number not in {record.round for record in self.project.ledger.rounds()}:
                raise

    def _seed(self, number: int) -> int:
        return int(np.random.default_rng([self.plan.seed, number]).integers(2**31))

    def _model_name(self, number: int) -> str:
        """What scores a round: the weights the round before ended with."""
        if self.plan.training.model == "probabilities":
            return str(self.plan.training.probabilities)
        folder = self.project.round_folder(max(number - 1, 0))
        return (folder / self._scored_by(number)).relative_to(self.project.folder).as_posix()

    # ---- the stages ---------------------------------------------------------------------------------------------

    def _score(self, number: int, began: float) -> str:
        """Statistics of every mask, in files of `SHARD` images; files that are there are not made again."""
        project = self.project
        folder = project.round_folder(number) / "stats"
        state = project.state()
        images = project.images
        shards = [images[i : i + SHARD] for i in range(0, len(images), SHARD)]
        # Only when asked for: a run killed between this stage's last file and its record needs no model.
        scorer = _Once(lambda: self._scorer(number))
        columns_of: MaskColumns | None = None
        signature = self._columns_by(number)
        wanted = bool(self.method.extra_columns) and not self._warm_up(number)
        with self.track("scoring", len(images)) as advance:
            for index, shard in enumerate(shards):
                path = folder / f"part-{index:05d}.parquet"
                # A killed run of another method, or with other settings, left other columns.
                if path.is_file() and _signature_of(path) == signature:
                    advance(len(shard))
                    continue
                if columns_of is None:
                    view = self._pixel_view(number, scorer()) if wanted else None
                    columns_of = _no_columns if view is None else self.method.mask_columns(view)
                parts, extra = [], []
                for image in shard:
                    inspection = scorer().inspect(image) if wanted else scorer()(image)
                    stats, columns = self._image_statistics(inspection, image, state, columns_of)
                    parts.append(stats)
                    extra.append(columns)
                    advance()
                table = MaskStats.concat(parts).to_table()
                for name in extra[0]:
                    table = table.append_column(name, _column(np.concatenate([columns[name] for columns in extra])))
                table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SIGNATURE: signature})
                with atomic_path(path) as temporary:
                    pq.write_table(table, temporary)
        masks = len(project.masks)
        forward = scorer().forward_seconds if scorer.made else 0.0
        details = {"images": len(images), "masks": masks, "forward_seconds": forward, "columns_by": signature}
        self._finish(number, "score", began, details)
        return f"{masks:,} masks of {len(images):,} images"

    def _image_statistics(
        self, inspection: Inspection, image: ImageRecord, state: MaskState, columns_of: MaskColumns
    ) -> tuple[MaskStats, dict[str, NDArray[Any]]]:
        project = self.project
        probs: Any = inspection.probs
        mask_map = project.mask_map(image)
        labels = project.corrected_labels(image, state, mask_map=mask_map)
        ignore = project.classes.ignore_index
        try:
            if isinstance(probs, np.ndarray):
                stats = mask_statistics(probs, labels, mask_map, ignore)
            else:
                from a2lc.statistics.torch_kernel import mask_statistics_torch

                stats = mask_statistics_torch(probs, labels, mask_map, ignore)
        except InputError as error:
            raise type(error)(f"Image {image.image_id}: {error}") from None
        return stats.with_image(image.index), columns_of(image.index, inspection, stats, mask_map)

    def _columns_by(self, number: int) -> str:
        """What statistics rest on beside the model: method and settings of columns of its own, or of its own network."""
        own = self.method.extra_columns or self._scored_by(number) != "model.ckpt"
        if not own or self._warm_up(number):
            return ""
        settings = self.plan.to_json()["settings"] if self.method.columns_by_settings else {}
        return json.dumps([self.plan.method, settings], sort_keys=True)

    def _warm_up(self, number: int) -> bool:
        """Whether nothing has been trained yet, for want of labels: masks are then asked about at random."""
        return any(
            stage.round == number - 1 and stage.stage == "train" and stage.details.get("skipped") == _NO_LABELS
            for stage in self.project.ledger.stages()
        )

    def _select(self, number: int, began: float) -> str:
        """The masks of highest score that were never asked about, or the first batch of them."""
        project = self.project
        self._ahead = None  # what scored the round before has had its say
        ahead = project.ledger.queries(number)
        more = f" more than the {len(ahead)} asked ahead" if ahead else ""
        if self.method.asks_in_batches:
            waiting = any(self._unanswered(ahead))
            queries = [] if waiting else self.asking(number).next_questions()
            if not queries and not ahead:
                raise PoolExhaustedError(f"No mask of {project.folder} is left to ask about. End the run.")
            project.ledger.add_queries(
                number, queries, time.perf_counter() - began, self._settled(len(ahead) + len(queries))
            )
            return f"{len(queries)} questions to begin with{more}"
        left = self.masks_left()
        count = self._questions(left + len(ahead)) - len(ahead)
        if not ahead and (count > left or count < 1):
            raise PoolExhaustedError(
                f"Budget is {self.plan.budget:g} clicks, but only {left} masks are unanswered. Lower --budget or end the run."
            )
        queries, details = self._best(number, number, min(count, left))
        details = self._settled(len(ahead) + len(queries)) | details
        project.ledger.add_queries(number, queries, time.perf_counter() - began, details)
        how = " at random: there is no model yet" if details["warm_up"] else ""
        return f"{len(queries)} questions{more}{how}"

    def _unanswered(self, queries: Sequence[Query]) -> list[Query]:
        """Those of some questions that nobody has answered."""
        if not queries:
            return []
        said = {answer.query_id for answer, _ in self.project.ledger.answers(queries[0].round)}
        return [query for query in queries if query.query_id not in said]

    def ask_ahead(self, count: int) -> int:
        """Ask questions of the next round by what scored this one, while its model is trained: nobody has to wait for it.

        They count in the next round's clicks. What the new model says of masks chooses the rest.

        Args:
            count: At most so many.

        Returns:
            How many were recorded; 0 where the round to come is full, the method asks otherwise or nothing was scored yet.

        Raises:
            StageError: The round's answers are not in.
        """
        number, stage = next_stage(self.project)
        if stage not in {"train", "evaluate", "score"}:
            raise StageError(
                f"Round {number} is at its stage '{stage}': questions are asked ahead while a model is trained."
            )
        following = number if stage == "score" else number + 1
        scored = following - 1
        if scored < 1 or not any((self.project.round_folder(scored) / "stats").glob("part-*.parquet")):
            return 0
        if self.project.class_change_since(scored) is not None:
            return 0  # those statistics are of other classes
        asked = self.project.ledger.queries(following)
        if self.method.asks_in_batches:
            asking = self._ahead_of(following, scored)
            queries = asking.free_questions(lots=-(-count // asking.method.batch))
        else:
            # Merged masks and answers of different prices are counted when the round is selected.
            if self.prices_differ or "region" in self.method.extra_columns or self._warm_up(scored):
                return 0
            left = self.masks_left()
            count = min(count, left, self._questions(left + len(asked)) - len(asked))
            queries = self._best(following, scored, count)[0] if count > 0 else []
        if queries:
            self._open(following)
            self.project.ledger.add_queries(following, queries)
        return len(queries)

    def _ahead_of(self, number: int, scored: int) -> Asking:
        if self._ahead is None or self._ahead.number != number:
            self._ahead = self._new_asking(number, scored)
            if self._asking is not None and self._asking.number == scored:
                self._ahead.share(self._asking)
        return self._ahead

    def _best(self, number: int, scored: int, count: int) -> tuple[list[Query], dict[str, Any]]:
        """Questions of a round about the masks of highest score, by the statistics of a round, and what chose them."""
        project = self.project
        if count < 1:
            return [], {"warm_up": self._warm_up(number)}
        state = project.state()
        current = project.masks.current(state)
        asked = np.isin(project.masks.keys, project.ledger.asked_masks(closed=True))
        pixels, void = project.masks.pixels_by_class(state, project.classes.num_classes, ~asked)
        warm = self._warm_up(number)
        method = self.method
        grouped = "region" in method.extra_columns and not warm
        columns = frozenset({"image", "mask_ids"}) if warm else method.columns()
        extra = frozenset() if warm else frozenset(method.extra_columns)
        totals = None
        if method.needs_totals and not warm:
            totals = PoolTotals.of([], project.classes.num_classes)
            for stats, added in self._read_statistics(scored, columns | {"dominant", "area", "prob_sums"} | extra):
                totals = totals.plus(stats.grouped(added["region"]) if grouped else stats)

        def views() -> Iterator[RoundView]:
            parts = self._read_statistics(scored, columns | extra)
            for stats, added in _joined(parts) if method.whole_pool and not warm else parts:
                rows = project.masks.rows(stats.image, stats.mask_ids)
                now, before = current[rows], asked[rows]
                if grouped:
                    # What was answered stays as it is: the rest of its region is asked about.
                    open_masks = ~before if method.remembers else np.ones(len(rows), dtype=bool)
                    region = added["region"][open_masks]
                    stats, added = stats.take(open_masks).grouped(region), {}
                    now = np.where(stats.label == stats.ignore_index, VOID, stats.label).astype(np.int32)
                    before = np.zeros(len(stats), dtype=bool)
                yield RoundView(
                    stats=stats,
                    current=now,
                    asked=before,
                    pixels_per_class=pixels,
                    void_pixels=void,
                    round=number,
                    seed=self._seed(number),
                    totals=totals,
                    extra=added,
                )

        def values_of() -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
            for view in views():
                values = score("random", view.stats, seed=view.seed) if warm else method.score(view)
                values = np.where(view.asked, -np.inf, values) if method.remembers else values
                yield view.stats.image, view.stats.mask_ids, values

        images, mask_ids, scores = top_masks(values_of(), count)
        if len(images) < count and not grouped:
            raise RuntimeError(
                f"{count - len(images)} masks have a score that is no number: method {self.plan.method!r}"
            )
        if not len(images):
            raise PoolExhaustedError(f"No mask of {self.project.folder} is left to ask about. End the run.")
        members = self._members(scored, images, mask_ids, asked) if grouped else {}
        likely = self._likely_classes(scored, images, mask_ids)
        rows = project.masks.rows(images, mask_ids)
        at = self._pixels_asked(scored, images, mask_ids) if method.query_kind == QueryKind.PIXEL else None
        dominant = method.query_kind not in {QueryKind.CORRECTION, QueryKind.PIXEL}
        queries = [
            Query(
                round=number,
                image=int(image),
                mask_ids=members.get((int(image), int(mask)), (int(mask),)),
                # "Which class is it?" shows no guess.
                proposed=None if dominant or current[row] == VOID else int(current[row]),
                suggestions=tuple(int(c) for c in order),
                score=float(value),
                reason=Reason.ACQUISITION,
                kind=method.query_kind,
                pixel=None if at is None else int(at[i]),
            )
            for i, (image, mask, row, value, order) in enumerate(
                zip(images, mask_ids, rows, scores, likely, strict=True)
            )
        ]
        return queries, {"void_pixels": void, "pixels_per_class": pixels.tolist(), "warm_up": warm}

    def _settled(self, queries: int) -> dict[str, Any]:
        """What the choice of questions settles for the round."""
        plan = {key: value for key, value in self.plan.to_json().items() if key not in {"training", "annotator"}}
        return {"queries": queries, "plan": json.loads(json.dumps(plan))}

    def asking(self, number: int) -> Asking:
        """What chooses the questions of a round, for methods that ask in batches."""
        if self._asking is None or self._asking.number != number:
            self._asking = self._new_asking(number, number)
        return self._asking

    def _new_asking(self, number: int, scored: int) -> Asking:
        assert isinstance(self.method, Gain)
        return Asking(
            self.project,
            self.method,
            number,
            seed=self._seed(number),
            questions=self.queries_a_round,
            read=lambda columns: self._read_statistics(scored, columns),
            track=self.track,
        )

    def _members(
        self, number: int, images: NDArray[Any], mask_ids: NDArray[Any], asked: NDArray[np.bool_]
    ) -> dict[tuple[int, int], tuple[int, ...]]:
        """The masks of each chosen region, by image and smallest mask id."""
        chosen = set(zip(images.tolist(), mask_ids.tolist(), strict=True))
        found: dict[tuple[int, int], tuple[int, ...]] = {}
        for stats, added in self._read_statistics(number, frozenset({"image", "mask_ids", "region"})):
            rows = self.project.masks.rows(stats.image, stats.mask_ids)
            keep = ~asked[rows] if self.method.remembers else np.ones(len(rows), dtype=bool)
            groups: dict[tuple[int, int], list[int]] = {}
            for image, region, mask in zip(
                stats.image[keep].tolist(), added["region"][keep].tolist(), stats.mask_ids[keep].tolist(), strict=True
            ):
                groups.setdefault((image, region), []).append(mask)
            for (image, _), masks in groups.items():
                if (image, masks[0]) in chosen:
                    found[image, masks[0]] = tuple(masks)
        return found

    def _pixels_asked(self, number: int, images: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[np.int64]:
        """The representative pixel of each chosen mask."""
        keys = mask_keys(images, mask_ids)
        pixels = np.zeros(len(keys), dtype=np.int64)
        for stats, _ in self._read_statistics(number, frozenset({"image", "mask_ids", "representative_pixel"})):
            here = mask_keys(stats.image, stats.mask_ids)
            place = np.minimum(np.searchsorted(here, keys), max(len(here) - 1, 0))
            found = here[place] == keys if len(here) else np.zeros(len(keys), dtype=bool)
            pixels[found] = stats.representative_pixel[place[found]]
        return pixels

    def _likely_classes(self, number: int, images: NDArray[Any], mask_ids: NDArray[Any]) -> NDArray[Any]:
        """Classes of masks by falling mean probability, for the annotator's keys."""
        keys = mask_keys(images, mask_ids)
        order = np.argsort(keys)
        count = min(_SUGGESTIONS, self.project.classes.num_classes)
        likely = np.zeros((len(keys), count), dtype=np.int64)
        for stats, _ in self._read_statistics(number, frozenset({"image", "mask_ids", "prob_sums"})):
            here = mask_keys(stats.image, stats.mask_ids)
            place = np.searchsorted(keys[order], here)
            found = (place < len(keys)) & (keys[order][np.minimum(place, len(keys) - 1)] == here)
            likely[order[place[found]]] = np.argsort(-stats.prob_sums[found], axis=1, kind="stable")[:, :count]
        return likely

    def _answer(self, number: int, began: float) -> str | None:
        """The oracle's answers, each lot in one transaction; a person's arrive on their own."""
        if not self.method.asks_in_batches:
            return self._answer_all(number, began)
        project = self.project
        while True:
            waiting = project.ledger.queries(number, unanswered=True)
            if waiting and self.plan.annotator.kind == "human":
                self.say(f"round {number}  answer    {len(waiting)} questions wait for a person.")
                return None
            if waiting:
                state = project.state()
                oracle = self._oracle(number)
                rows = []
                for query, answer, clicks in self._replies(oracle, waiting, state):
                    taken = answer()
                    rows.append((taken, clicks, corrections_of(project, query, taken, state.classes)))
                project.ledger.add_answers(number, rows)
            more = self.asking(number).next_questions()
            if not more:
                break
            project.ledger.add_queries(number, more)
        answers = project.ledger.answers(number)
        spent = float(sum(clicks for _, clicks in answers))
        self._finish(number, "answer", began, {"answers": len(answers), "clicks": spent, "budget": self.plan.budget})
        changed = sum(answer.kind != AnswerKind.CONFIRM for answer, _ in answers)
        audits = sum(query.reason == Reason.AUDIT for query in project.ledger.queries(number))
        return f"{len(answers)} answers, {audits} of them audits, {spent:g} clicks, {changed} corrected"

    def _answer_all(self, number: int, began: float) -> str | None:
        """Answers to questions that were all chosen before."""
        project = self.project
        waiting = project.ledger.queries(number, unanswered=True)
        answers = project.ledger.answers(number)
        spent = float(sum(c for _, c in answers))
        if self.plan.annotator.kind == "human":
            if waiting and not (self.prices_differ and spent + 1e-9 >= self.plan.budget):
                total = f"{spent:g} of {self.plan.budget:g} clicks" if self.prices_differ else ""
                of = total or f"{len(waiting)} of {len(waiting) + len(answers)} questions"
                what = f"{of} are spent; questions wait" if total else f"{of} wait"
                self.say(f"round {number}  answer    {what} for a person.")
                return None
            self._finish(number, "answer", began, {"answers": len(answers), "clicks": spent})
            return f"{len(answers)} answers"
        state = project.state()
        oracle = self._oracle(number)
        rows: list[tuple[Answer, float, list[tuple[int, int, int, int]]]] = []
        cheapest = float("inf")
        for query, answer, clicks in self._replies(oracle, waiting, state):
            if self.prices_differ and not self.method.overshoots and spent + clicks > self.plan.budget + 1e-9:
                if rows or answers:
                    break
                cheapest = min(cheapest, clicks)
                continue  # the first that the budget pays for
            taken = answer()
            rows.append((taken, clicks, corrections_of(project, query, taken, state.classes)))
            spent += clicks
            if self.prices_differ and spent + 1e-9 >= self.plan.budget + (1e-6 if self.method.overshoots else 0):
                break
        if waiting and not rows and not answers:
            raise PoolExhaustedError(
                f"A budget of {self.plan.budget:g} clicks pays for none of the {len(waiting)} questions: the cheapest answer "
                f"costs {cheapest:g}. Raise --budget."
            )
        details = {"answers": len(rows) + len(answers), "clicks": spent, "budget": self.plan.budget}
        project.ledger.add_answers(number, rows, stage=(time.perf_counter() - began, details))
        changed = sum(bool(corrections) for _, _, corrections in rows)
        return f"{details['answers']} answers, {spent:g} clicks, {changed} corrected"

    def _oracle(self, number: int) -> Oracle:
        return Oracle(
            num_classes=self.project.classes.num_classes,
            error_rate=self.plan.annotator.error_rate,
            seed=self._seed(number),
            gate=self.method.gates,
        )

    def _replies(
        self, oracle: Oracle, queries: list[Query], state: MaskState
    ) -> Iterator[tuple[Query, Callable[[], Answer], float]]:
        """The oracle's replies in the order of the questions, with their clicks; each is made when it is taken."""
        project = self.project
        by_table = {QueryKind.CORRECTION, QueryKind.DOMINANT}
        asked = [query for query in queries if query.kind in by_table]
        replies = dict(zip(asked, oracle.answer(asked, project.masks, project.truth, state), strict=True))
        looked: dict[Query, Seen] = {}
        # An image is read once, however many questions there are about it.
        for index in sorted({query.image for query in queries if query.kind not in by_table}):
            image = project.images[index]
            mask_map, truth = project.mask_map(image), project.ground_truth(image)
            labels = project.corrected_labels(image, state, mask_map=mask_map)
            mine = [query for query in queries if query.image == index and query.kind not in by_table]
            found = oracle.look(mine, mask_map, truth, labels, project.classes.ignore_index)
            looked |= dict(zip(mine, found, strict=True))
        for query in queries:
            seen = looked[query] if query in looked else Seen(answer=replies[query])
            clicks = self.cost.of_answer(seen.answer.kind, len(seen.answer.classes))
            taken = partial(self._with_pixels, oracle, query, seen.answer)
            yield query, taken, clicks if seen.clicks is None else seen.clicks

    def _with_pixels(self, oracle: Oracle, query: Query, answer: Answer) -> Answer:
        """An answer, with its pixel labels written down where it is a precise one."""
        if query.kind != QueryKind.PRECISE:
            return answer
        image = self.project.images[query.image]
        mask_map, truth = self.project.mask_map(image), self.project.ground_truth(image)
        said = oracle.draw(query, mask_map, truth, self.project.classes.ignore_index)
        return replace(answer, pixels=self.project.write_answered_pixels(said))

    def correct(self, *, threshold: float = 0.0, rejected: Collection[tuple[int, int]] = ()) -> None:
        """Run the stage `correct`, without the changes that someone who looked at the preview left out.

        Args:
            threshold: Changes of less probability are left out, in [0, 1]. Withdrawn changes are not.
            rejected: Pairs of the class a mask carries and the one it would get, VOID for none.

        Raises:
            StageError: Another stage comes first.
        """
        require_stage(self.project, "correct")
        self._limits = threshold, frozenset(rejected)
        try:
            self.run_stage("correct")
        finally:
            self._limits = 0.0, frozenset()

    def _correct(self, number: int, began: float) -> str:
        """Automatic corrections by the method, none over an answer, and labels of single pixels."""
        state = self.project.state()
        changes, details = self._spread(number, state)
        layer, by = self._layer(number)
        if not self.method.corrects and not self.method.asks_in_batches and layer is None:
            self._finish(number, "correct", began, {"automatic": 0})
            return "no automatic corrections by this method"
        if layer is not None:
            details["pixels"] = sum(pixels for _, pixels in layer.values())
        self._record_changes(number, began, state, changes, details, layer, by)
        line = []
        if self.method.asks_in_batches:
            line.append(guarantee_line(details))
        elif self.method.corrects:
            line.append(f"{len(changes.rows)} automatic corrections")
        if details.get("left_out") and not self.method.asks_in_batches:
            line.append(f"{details['left_out']} left out by hand")
        if layer is not None:
            line.append(f"{details['pixels']:,} pixels labelled on their own in {len(layer)} images")
        return ", ".join(line)

    def spread(self) -> tuple[Changes, str]:
        """What the stage `correct` would change now, and what is promised of it, in a line; nothing is recorded.

        Raises:
            InputError: The method changes nothing unseen.
            StageError: The round's questions were not chosen yet, or its changes are made already.
        """
        if not self.method.corrects:
            raise InputError(f"Method {self.plan.method} changes no mask that nobody looked at.")
        number, stage = next_stage(self.project)
        if stage == "answer" and not self.method.asks_in_batches:
            return self._automatic_changes(number, self.project.state()), "The round's answers are not all in."
        if stage == "answer":
            return self.asking(number).proposals(), "Audits at the end of the round decide which of these are made."
        require_stage(self.project, "correct")
        changes, details = self._spread(number, self.project.state())
        if self.method.asks_in_batches:
            return changes, guarantee_line(details)
        return changes, f"Method {self.plan.method} promises nothing of them."

    def preview(self, stage: str, examples: int = 3) -> dict[str, Any]:
        """What the stage `correct` would change, without changing it.

        Args:
            stage: Must be `correct`, and next.
            examples: Masks named for each pair of classes, the surest first.

        Returns:
            `total` masks, `promise` as a line, and `pairs` of old and new class with `masks`, `pixels`, `examples`.

        Raises:
            InputError: The stage or the method changes nothing unseen.
            StageError: Another stage comes first.
        """
        if stage != "correct" or not self.method.corrects:
            raise InputError("--preview is of `a2lc correct` and a method that changes masks nobody looked at.")
        require_stage(self.project, stage)
        project, (changes, promise) = self.project, self.spread()
        masks = project.masks
        old, new = self.old_and_new(changes)
        pairs: dict[tuple[int, int], list[int]] = {}
        for place in np.argsort(-changes.confidences, kind="stable").tolist():
            pairs.setdefault((int(old[place]), int(new[place])), []).append(place)
        told = [
            {
                "old": before,
                "new": after,
                "masks": len(places),
                "pixels": int(masks.area[changes.rows[places]].sum()),
                "examples": [
                    {
                        "image_id": project.images[masks.image[changes.rows[place]]].image_id,
                        "mask_id": int(masks.mask_ids[changes.rows[place]]),
                        "probability": float(changes.confidences[place]),
                    }
                    for place in places[:examples]
                ],
            }
            for (before, after), places in sorted(pairs.items(), key=lambda item: -len(item[1]))
        ]
        return {"total": len(changes.rows), "promise": promise, "pairs": told}

    def old_and_new(self, changes: Changes) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(n,) classes that masks carry now, and those that changes give them; VOID for none."""
        masks = self.project.masks
        old = masks.current(self.project.state())[changes.rows]
        return old, np.where(changes.classes == FIRST, masks.label[changes.rows], changes.classes).astype(np.int32)

    def _spread(self, number: int, state: MaskState) -> tuple[Changes, dict[str, Any]]:
        """The changes of masks nobody looked at, and what the stage tells of them."""
        none = np.empty(0)
        changes = Changes(rows=none.astype(np.int64), classes=none.astype(np.int32), confidences=none)
        if self.method.asks_in_batches:
            # In place of those made before: only what audits support.
            changes = self.asking(number).changes(state)
        elif self.method.corrects:
            changes = self._automatic_changes(number, state)
        changes, left_out = self._within_limits(changes)
        details: dict[str, Any] = {"automatic": len(changes.rows)}
        if len(left_out):
            threshold, rejected = self._limits
            details |= {"left_out": len(left_out), "threshold": threshold, "rejected": sorted(map(list, rejected))}
        if self.method.asks_in_batches:
            details["withdrawn"] = int((changes.classes == FIRST).sum())
            details |= self.asking(number).findings(left_out, self.project.masks.current(state)[left_out])
        return changes, details

    def _within_limits(self, changes: Changes) -> tuple[Changes, NDArray[np.int64]]:
        """Changes without those that were left out by hand, and the rows of these."""
        threshold, rejected = self._limits
        out = (changes.confidences < threshold) & (changes.classes != FIRST)
        if rejected:
            pairs = zip(*(labels.tolist() for labels in self.old_and_new(changes)), strict=True)
            out |= np.fromiter((pair in rejected for pair in pairs), dtype=bool, count=len(out))
        kept = Changes(rows=changes.rows[~out], classes=changes.classes[~out], confidences=changes.confidences[~out])
        return kept, changes.rows[out]

    def _record_changes(
        self,
        number: int,
        began: float,
        state: MaskState,
        changes: Changes,
        details: dict[str, Any],
        layer: dict[int, tuple[str, int]] | None,
        by: str,
    ) -> None:
        """The end of the stage `correct`, in one transaction."""
        masks = self.project.masks
        self.project.ledger.add_corrections(
            number,
            Source.AUTOMATIC,
            masks.image[changes.rows],
            masks.mask_ids[changes.rows],
            state.classes[changes.rows],
            changes.classes,
            confidences=changes.confidences,
            model=f"{self.plan.method} round {number}",
            layer=layer,
            layer_model=by,
            stage=("correct", time.perf_counter() - began, details),
        )

    def _automatic_changes(self, number: int, state: MaskState) -> Changes:
        """What the method proposes for masks nobody looked at."""
        project = self.project
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
        columns = frozenset({"image", "mask_ids", "prob_sums", "area"})
        stats = MaskStats.concat([stats for stats, _ in self._read_statistics(number, columns)])
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
        return self.method.propagate(view, rows, current[rows])

    def _pixel_view(self, number: int, predict: Any) -> PixelView:
        """What a method that labels single pixels is shown, with the network that `predict` runs, if any."""
        project = self.project
        said: dict[int, list[RegionAnswer]] = {}
        for query, answer in standing_answers(project):
            said.setdefault(query.image, []).append(
                RegionAnswer(
                    mask_ids=query.mask_ids,
                    kind=answer.kind,
                    classes=answer.classes,
                    round=query.round,
                    pixels=answer.pixels,
                )
            )
        by_masks = replace(project.state(), layer=None)
        ignore = project.classes.ignore_index

        def labels(index: int) -> NDArray[np.int32]:
            found = project.corrected_labels(project.images[index], by_masks).astype(np.int32)
            return np.where(found == ignore, VOID, found).astype(np.int32)

        return PixelView(
            images=range(len(project.images)),
            num_classes=project.classes.num_classes,
            round=number,
            seed=self._seed(number),
            answers=said,
            mask_map=lambda index: project.mask_map(project.images[index]),
            labels=labels,
            answered_pixels=project.answered_pixels,
            inspect=None if predict is None else lambda index: predict.inspect(project.images[index]),
        )

    def _layer(self, number: int) -> tuple[dict[int, tuple[str, int]] | None, str]:
        """Labels of single pixels, as files, and what they rest on: the method's, or those that came with answers."""
        name = f"{self.plan.method} round {number}"
        if self.method.labels_pixels:
            predict = None
            if self.method.trains_regions:
                predict = self._region_predictor(number)
            elif not self._warm_up(number):
                predict = self._predictor(number)
            view = self._pixel_view(number, predict)
            by_hand = BY_HAND if self.method.pixels_by_hand else ""
            return self._write_pixels(number, view, self.method.labeller(view)), by_hand + name
        # Answers that were taken back or replaced count too: the layer they were in is to be replaced.
        if not any(answer.pixels is not None for answer, _ in self.project.ledger.answers(standing=False)):
            return None, ""
        return self._write_pixels(number, self._pixel_view(number, None), lambda image: None), BY_HAND + name

    def _write_pixels(
        self, number: int, view: PixelView, label: Callable[[int], NDArray[np.int32] | None]
    ) -> dict[int, tuple[str, int]]:
        """Write labels of single pixels, those in answers above the method's; hash and pixels of each file come back."""
        project = self.project
        files: dict[int, tuple[str, int]] = {}
        truth: list[NDArray[Any]] = []
        with self.track("labelling pixels", len(project.images)) as advance:
            for image in project.images:
                said = label(image.index)
                for answer in view.answers.get(image.index, ()):
                    if answer.pixels is not None:  # what someone drew stands above what any method finds
                        own = project.answered_pixels(answer.pixels)
                        said = own if said is None else np.where(own == KEEP, said, own)
                if said is not None:
                    written = project.write_layer(number, image, said)
                    if written is not None:
                        files[image.index] = written
                    if project.has_ground_truth:
                        truth.append(self._joined_with_truth(image, said))
                elif project.has_ground_truth:
                    truth.append(self._joined_with_truth(image, None))
                advance()
        if project.has_ground_truth:
            table = np.concatenate(truth, axis=1)
            names = ("row", "label", "truth", "layer", "pixels")
            columns = {name: values.astype(np.int32) for name, values in zip(names, table, strict=True)}
            project.write_truth(project.round_folder(number) / "truth.parquet", TruthTable(**columns))
        return files

    def _joined_with_truth(self, image: ImageRecord, said: NDArray[Any] | None) -> NDArray[np.int64]:
        """(5, T) mask rows, first labels, ground truth, pixel labels and counts: for the metrics alone."""
        project = self.project
        mask_map = project.mask_map(image)
        first, last = np.searchsorted(project.masks.image, [image.index, image.index + 1])
        # Rows of this image's masks from 1; 0 outside masks.
        place = np.zeros(int(mask_map.max(initial=0)) + 1, dtype=np.int64)
        place[project.masks.mask_ids[first:last]] = np.arange(1, last - first + 1)
        classes, ignore = project.classes.num_classes, project.classes.ignore_index
        labels, truth = project.first_labels(image).astype(np.int64), project.ground_truth(image).astype(np.int64)
        layer = np.full(mask_map.shape, KEEP) if said is None else said
        row, label, true, own, pixels = joint_counts(
            place[mask_map],
            np.where(labels == ignore, 0, labels + 1),
            np.where(truth == ignore, 0, truth + 1),
            layer - KEEP,
            sizes=(int(last - first) + 1, classes + 1, classes + 1, classes - KEEP),
        )
        return np.stack([np.where(row > 0, row - 1 + first, -1), label - 1, true - 1, own + KEEP, pixels])

    def _train(self, number: int, began: float) -> str:
        """A model of the corrected labels."""
        if self.plan.training.model == "probabilities" and self.model is None:
            details = {
                "skipped": "probabilities come from files",
                "training": self.plan.training.model_dump(mode="json"),
            }
            self._finish(number, "train", began, details)
            return "nothing to train: probabilities come from files"
        tasks = _training("tasks")
        state, config = self.project.state(), self._training_config()
        if self.method.training == "semi":
            # Held out by the project's seed: later rounds go on from weights of earlier ones.
            given = (
                None
                if self.method.trusts_first_labels
                else np.isin(self.project.masks.keys, self.project.ledger.asked_masks(answered=True))
            )
            task = tasks.semi_supervised(self.project, state, config, self.plan.seed, given)
        else:
            task = tasks.supervised(self.project, state, config, self._seed(number))
        if not task.images:
            self._finish(number, "train", began, {"skipped": _NO_LABELS})
            return f"nothing to train: {_NO_LABELS}"
        start, note = self._warm_start(number, config)
        fitted = self._fit(number, task, config, start)
        details = asdict(fitted) | {"warm_start": start is not None, "training": config.model_dump(mode="json")}
        self._finish(number, "train", began, details)
        if note:
            self.say(f"round {number}  train     {note}")
        if fitted.validation_miou is None:
            kept = "the last weights kept: there is no validation ground truth to choose by"
        else:
            kept = f"the {fitted.kept} weights kept, validation mIoU {fitted.validation_miou:.4f}"
        return f"{fitted.steps} steps, {kept}"

    def _fit(self, number: int, task: Any, config: TrainingConfig, start: Path | None) -> Any:
        return _training("fit").fit_model(
            self.project,
            config,
            task,
            self.project.round_folder(number),
            seed=self._seed(number),
            start=start,
            model=self.model,
            track=self.track,
        )

    def _training_config(self) -> TrainingConfig:
        """The training settings, with the classifier the method needs."""
        config = self.plan.training
        return config if self.method.head == "linear" else config.model_copy(update={"head": self.method.head})

    def _warm_start(self, number: int, config: TrainingConfig) -> tuple[Path | None, str]:
        """Weights of the round before to go on from, if any, and why not, if the user should know."""
        if number == 0 or not config.warm_start:
            return None, ""
        weights = self.project.round_folder(number - 1) / "model.ckpt"
        if self.project.class_change_since(number - 1) is not None:
            return None, f"other classes than in round {number - 1}: it starts anew" if weights.is_file() else ""
        before = self._trained_with(number - 1)
        if weights.is_file() and all(getattr(before, part) == getattr(config, part) for part in _ARCHITECTURE):
            return weights, ""
        if not weights.is_file() and self._warm_up(number):
            return None, ""
        return None, f"another network than in round {number - 1}: it starts anew"

    def _region_predictor(self, number: int) -> Any:
        """What gives features of images, by a network trained on the classes of regions in this round."""
        config = self._training_config()
        weights = self.project.round_folder(number) / _REGION_WEIGHTS
        # A killed run that goes on with other settings has no use for this one's network.
        if not weights.is_file() or self._regions_trained_with(number) != config:
            view = self._pixel_view(number, None)
            task = _training("tasks").regions(self.project, view.answers, config, **self.method.region_losses())
            if not task.images:
                return None
            before = self._regions_trained_with(number - 1)
            start = self.project.round_folder(number - 1) / _REGION_WEIGHTS
            alike = before is not None and all(getattr(before, p) == getattr(config, p) for p in _ARCHITECTURE)
            alike &= self.project.class_change_since(number - 1) is None
            weights.unlink(missing_ok=True)
            self._fit(number, task, config, start if config.warm_start and start.is_file() and alike else None)
            write_text(weights.with_suffix(".json"), json.dumps(config.model_dump(mode="json")))
        return _training("predict").predict_from_model(self.project, config, weights, self.model)

    def _regions_trained_with(self, number: int) -> TrainingConfig | None:
        """The settings that a round's network of regions was trained by; None where there is none."""
        path = (self.project.round_folder(max(number, 0)) / _REGION_WEIGHTS).with_suffix(".json")
        if not path.is_file():
            return None
        return TrainingConfig.model_validate(json.loads(path.read_text(encoding="utf-8")))

    def _evaluate(self, number: int, began: float) -> str:
        """Quality of labels and model against ground truth, where there is any."""
        project = self.project
        details: dict[str, Any] = {"model_miou": None, "model_iou": None, "measured_on": None}
        images = project.validation_images or (project.images if project.has_ground_truth else [])
        if self._warm_up(number + 1):
            images = []  # nothing was trained
        if images:
            predict = self._predictor(number + 1)
            missing = ""
            counts = ConfusionCounts(project.classes.num_classes, project.classes.ignore_index)
            try:
                with self.track("evaluating", len(images)) as advance:
                    for image in images:
                        probs: Any = predict(image).probs
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
            quality = project.confusion(project.state())
            details |= {"coverage": quality.coverage}
            details |= {"data_miou": quality.miou, "data_iou": [None if np.isnan(v) else float(v) for v in quality.iou]}
            line.append("no label yet" if np.isnan(quality.miou) else f"data mIoU {quality.miou:.4f}")
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

    def _scorer(self, number: int) -> Any:
        """What gives the probabilities that score round `number`."""
        if self._warm_up(number):
            return _training("predict").predict_uniform(self.project)
        config = self._regions_trained_with(number - 1)
        if config is not None and self._scored_by(number) == _REGION_WEIGHTS:
            weights = self.project.round_folder(number - 1) / _REGION_WEIGHTS
            return self._predict_by(number - 1, config, weights)
        return self._predictor(number)

    def _scored_by(self, number: int) -> str:
        """Which weights of the round before score: those of regions, as published, where the method trained any."""
        weights = (self.project.round_folder(max(number - 1, 0)) / _REGION_WEIGHTS).with_suffix(".json")
        return _REGION_WEIGHTS if self.method.trains_regions and weights.is_file() else "model.ckpt"

    def _predictor(self, number: int) -> Any:
        """The model that round `number` begins with: that of the round before, or files of probabilities."""
        training = self._trained_with(number - 1)
        if self.model is None and "probabilities" in {training.model, self.plan.training.model}:
            from a2lc.training.predict import predict_from_files

            # Files may have moved since: what is said now counts.
            folder = self.plan.training.probabilities or training.probabilities
            assert folder is not None
            return predict_from_files(self.project, self.project.source_path(folder))
        weights = self.project.round_folder(number - 1) / "model.ckpt"
        if not weights.is_file():
            raise MissingFileError(
                f"{weights} is missing: the model of round {number - 1} cannot score. Restore it from a copy."
            )
        return self._predict_by(number - 1, training, weights)

    def _predict_by(self, trained: int, config: TrainingConfig, weights: Path) -> Any:
        """Predictions of a round's model, over the classes there are now."""
        change = self.project.class_change_since(trained)
        return _training("predict").predict_from_model(self.project, config, weights, self.model, change=change)

    def _read_statistics(
        self, number: int, columns: frozenset[str]
    ) -> Iterator[tuple[MaskStats, dict[str, NDArray[Any]]]]:
        """Statistics of a round and columns a method added, a file at a time, only those asked for."""
        folder = self.project.round_folder(number) / "stats"
        for path in sorted(folder.glob("part-*.parquet")):
            # One thread: decoding so few columns is over before a second one has begun.
            schema = pq.read_schema(path)
            # A network that shows no features leaves their column out.
            table = pq.read_table(path, columns=sorted(columns & set(schema.names)), use_threads=False)
            names = [name for name in self.method.extra_columns if name in table.column_names]
            added = {name: _values(table.column(name)) for name in names}
            yield MaskStats.from_table(table), added


_NO_LABELS = "no label to learn from yet"


_REGION_WEIGHTS = "regions.ckpt"


_ARCHITECTURE = ("model", "encoder", "output_stride", "head")


_SIGNATURE = b"a2lc_columns_by"


def _signature_of(path: Path) -> str:
    """What the columns a method added to a file of statistics rest on; empty where there are none."""
    metadata: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
    return metadata.get(_SIGNATURE, b"").decode()


def _column(values: NDArray[Any]) -> pa.Array:
    """(M,) or (M, D) values as a column."""
    return (
        pa.array(values)
        if values.ndim == 1
        else pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    )


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    """The inverse of `_column`."""
    whole = column.combine_chunks()
    if not pa.types.is_fixed_size_list(whole.type):
        return np.asarray(whole.to_numpy(zero_copy_only=False))
    return np.asarray(whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), whole.type.list_size))


def _no_columns(*_: Any) -> dict[str, NDArray[Any]]:
    return {}


class _Once:
    """Makes something when it is first asked for."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self.made: Any = None

    def __call__(self) -> Any:
        if self.made is None:
            self.made = self._make()
        return self.made


def _joined(
    parts: Iterator[tuple[MaskStats, dict[str, NDArray[Any]]]],
) -> Iterator[tuple[MaskStats, dict[str, NDArray[Any]]]]:
    """All parts in one."""
    stats, added = zip(*parts, strict=True)
    yield MaskStats.concat(list(stats)), {name: np.concatenate([a[name] for a in added]) for name in added[0]}


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
