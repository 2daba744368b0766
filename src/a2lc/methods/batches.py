"""Ask in batches: what a session offers a round, and a method that ranks again after each batch of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.selection import top_masks
from a2lc.audits.source import RoundSource
from a2lc.classes.sentinels import VOID
from a2lc.correction.manual import answered_class
from a2lc.errors import ConfigError, require_known
from a2lc.ledger.replay import MaskState
from a2lc.methods.base import Method
from a2lc.methods.scoring import checked_scores
from a2lc.records import SUGGESTIONS, Changes, Query, QueryKind, Reason, RoundView
from a2lc.statistics.mask_stats import LAYOUT
from a2lc.statistics.store import joined

__all__ = ["BatchMethod", "BatchSession", "PlainSession"]


class BatchSession(Protocol):
    """The queries and corrections of one round that is asked in batches, as `Method.session` returns it.

    Everything a session knows of answers it reads from its source, so that an interrupted round goes on where it was.
    `PlainSession` asks by scores and audits nothing; `a2lc.audits.session.Session` audits and certifies.

    Attributes:
        round_index: The round.
    """

    round_index: int

    def next_questions(self) -> list[Query]:
        """Return the next batch, once all queries before it are answered; empty when the round has asked all."""
        ...

    @property
    def asks_freely(self) -> bool:
        """Whether `free_questions` may return more."""
        ...

    def free_questions(self, count: int) -> list[Query]:
        """Return at least `count` further queries, if there are so many, that need not wait for answers.

        People who answer together are never kept waiting; return an empty list if each batch must see the answers before it.
        """
        ...

    def proposals(self) -> Changes:
        """Return the automatic corrections that the answers so far suggest, for a preview."""
        ...

    def changes(self, state: MaskState) -> Changes:
        """Return the automatic corrections to record now that all answers of the round are in."""
        ...

    def findings(self, left_out: NDArray[Any], carried: NDArray[Any]) -> dict[str, Any]:
        """Return figures to record with the corrections.

        Args:
            left_out: (n,) rows of masks whose corrections were excluded in review.
            carried: (n,) classes they carry.
        """
        ...

    def guarantee(self, details: Mapping[str, Any]) -> str:
        """Return the recorded corrections and what is guaranteed of them in one line; empty if nothing is."""
        ...


class PlainSession:
    """Asks about the masks of highest score a batch at a time, ranked again after each batch of answers. Nothing is audited.

    Args:
        method: Scores, and propagates if it corrects.
        source: The data of the round.
        round_index: The round.
        seed: Of the round.
        questions: How many queries the round may ask.
        batch: How many are asked between two rankings.

    Raises:
        ConfigError: The method asks for something that needs all queries of a round at once.
    """

    def __init__(
        self, method: Method, source: RoundSource, round_index: int, *, seed: int, questions: int, batch: int
    ) -> None:
        if method.query.kind not in {QueryKind.CORRECTION, QueryKind.DOMINANT} or not method.query.once:
            raise ConfigError(
                f"method {method.name!r}: batches ask for the class of a mask, once; `query` says otherwise."
            )
        if method.pool.merges or method.pool.totals:
            raise ConfigError(f"method {method.name!r}: batches need a `pool` without `totals` and merged masks.")
        self.method = method
        self.source = source
        self.round_index = round_index
        self.seed = seed
        self.questions = questions
        self.batch = batch
        self._extra = frozenset(method.pool.extra_columns)
        self._columns = frozenset({"image", "mask_ids"}) | method.columns()
        for name in self._columns:
            require_known(f"column of method {method.name!r},", name, (*LAYOUT, *self._extra))

    def next_questions(self) -> list[Query]:
        """Return the next batch by the answers so far."""
        left = self._left()
        return self._best(min(self.batch, left)) if left > 0 else []

    @property
    def asks_freely(self) -> bool:
        """Whether the round has queries left."""
        return self._left() > 0

    def free_questions(self, count: int) -> list[Query]:
        """Return whole batches of at least `count` queries, by the answers so far."""
        count = min(-(-count // self.batch) * self.batch, self._left())
        return self._best(count) if count > 0 else []

    def proposals(self) -> Changes:
        """Propagate the answers so far, if the method does."""
        return self.changes(self.source.state())

    def changes(self, state: MaskState) -> Changes:
        """Propagate the answers of the round, if the method does."""
        # Answers that name no class of the mask teach nothing.
        learnt = [
            query
            for query, answer in self.source.standing_answers()
            if query.round == self.round_index and answered_class(answer) is not None
        ]
        if not learnt or not self.method.corrects:
            return Changes.none()
        (view,) = self._views(frozenset({"image", "mask_ids", "prob_sums", "area"}), state, whole=True)
        rows = self.source.masks.rows(
            np.array([query.image for query in learnt for _ in query.mask_ids], dtype=np.int64),
            np.array([mask for query in learnt for mask in query.mask_ids], dtype=np.int64),
        )
        return self.method.propagate(view, rows, view.current[rows])

    def findings(self, left_out: NDArray[Any], carried: NDArray[Any]) -> dict[str, Any]:
        """Return nothing: no figure is measured."""
        return {}

    def guarantee(self, details: Mapping[str, Any]) -> str:
        """Return nothing: nothing is guaranteed."""
        return ""

    def _left(self) -> int:
        return self.questions - len(self.source.queries(self.round_index))

    def _views(self, columns: frozenset[str], state: MaskState, *, whole: bool) -> Iterator[RoundView]:
        """Yield what the method is shown, shard by shard or as one."""
        masks = self.source.masks
        current = masks.current(state)
        answered = np.isin(masks.keys, self._answered())
        pixels, void = masks.pixels_by_class(state, self.source.num_classes, ~answered)
        parts = self.source.statistics(columns | self._extra)
        for stats, added in joined(parts) if whole else parts:
            rows = masks.rows(stats.image, stats.mask_ids)
            yield RoundView(
                stats=stats,
                current=current[rows],
                asked=answered[rows],
                pixels_per_class=pixels,
                void_pixels=void,
                round=self.round_index,
                seed=self.seed,
                extra={name: added[name] for name in self._extra if name in added},
            )

    def _answered(self) -> NDArray[np.uint64]:
        """Return the keys of masks whose answer stands; queries that still wait for theirs teach nothing."""
        answers = self.source.standing_answers()
        images = np.array([query.image for query, _ in answers for _ in query.mask_ids], dtype=np.int64)
        mask_ids = np.array([mask for query, _ in answers for mask in query.mask_ids], dtype=np.int64)
        return self.source.masks.keys[self.source.masks.rows(images, mask_ids)]

    def _best(self, count: int) -> list[Query]:
        """Make queries of the masks of highest score that were not asked about."""
        masks = self.source.masks
        closed = np.isin(masks.keys, self.source.asked_masks(closed=True))
        likely: dict[int, NDArray[np.int64]] = {}

        def scored() -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
            columns = self._columns | {"prob_sums"}
            for view in self._views(columns, self.source.state(), whole=self.method.pool.whole):
                rows = masks.rows(view.stats.image, view.stats.mask_ids)
                scores = checked_scores(self.method, view, self._columns, self.method.name)
                order = np.argsort(-view.stats.prob_sums, axis=1, kind="stable")[:, :SUGGESTIONS]
                best = np.argsort(-np.where(closed[rows], -np.inf, scores), kind="stable")[:count]
                likely.update(zip(rows[best].tolist(), order[best], strict=True))
                yield view.stats.image, view.stats.mask_ids, np.where(closed[rows], -np.inf, scores)

        images, mask_ids, scores = top_masks(scored(), count)
        current = masks.current(self.source.state())
        kind = self.method.query.kind
        return [
            Query(
                round=self.round_index,
                image=int(image),
                mask_ids=(int(mask),),
                # "Which class is it?" shows no guess.
                proposed=None if kind == QueryKind.DOMINANT or current[row] == VOID else int(current[row]),
                suggestions=tuple(likely[row].tolist()),
                score=float(score),
                reason=Reason.ACQUISITION,
                kind=kind,
            )
            for image, mask, row, score in zip(
                images, mask_ids, masks.rows(images, mask_ids).tolist(), scores, strict=True
            )
        ]


@dataclass(frozen=True, kw_only=True)
class BatchMethod(Method):
    """A method whose `score` ranks the masks again after each batch of answers, without audits.

    Derive from it and define `columns` and `score` as for any method. In the view, `asked` tells which masks have an
    answer by now, and `current` the classes that these answers gave them.

    Attributes:
        batch: How many queries are asked between two rankings.
    """

    batch: int = 20

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.batch < 1:
            raise ConfigError(f"method.batch is {self.batch}; expected at least 1.")

    def session(self, source: RoundSource, round_index: int, *, seed: int, questions: int) -> BatchSession:
        """Open a session that asks by `score`."""
        return PlainSession(self, source, round_index, seed=seed, questions=questions, batch=self.batch)
