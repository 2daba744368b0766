"""Asking in batches: what a round of the method `gain` asks next, what it changes unseen, and what it knows of the labels.

A round is four phases, told apart by what the ledger and the round's files hold, so that a killed one goes on where it was:

1. ask: batches of the questions of highest expected gain, a refit of the posterior between them;
2. certify: the posterior is frozen, and masks it would change are drawn at random and asked about;
3. measure: what those audits support is decided, and masks are drawn at random to measure the labels as they are then;
4. done: the changes are recorded by the stage `correct`, with the promise and the figures.

Audits are drawn after all that they judge is decided, so what they say holds for finite data and any posterior.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import best_labels, class_unions, expected_iou_gain, pick_batch
from a2lc.audits import (
    audit_sizes,
    certify,
    certify_gain,
    draw,
    draw_by_stake,
    effects,
    estimate_quality,
    expected_gain,
    inclusion_probabilities,
    stake_inclusion,
    stakes,
)
from a2lc.audits.findings import quality_figures
from a2lc.audits.knowledge import FEWEST_PAIRS, NO_ANSWER, TRIES, UNKNOWN, Known, error_rate_of, standing_answers
from a2lc.audits.pool import ReadStatistics
from a2lc.audits.tables import AppearanceTable, AuditTable, FrozenTable
from a2lc.correction.manual import answered_class
from a2lc.errors import ImageFileError, InputError, MissingFileError
from a2lc.io.files import json_safe
from a2lc.io.progress import Track, no_progress
from a2lc.ledger import FIRST, VOID, MaskState
from a2lc.ledger.replay import SOURCES
from a2lc.methods.gain import EMBEDDING, Gain, mask_embedding
from a2lc.posterior.calibration import calibrate
from a2lc.posterior.features import COLUMNS, MaskFeatures, mask_features
from a2lc.posterior.regression import fit_posterior, prior_posterior
from a2lc.project.project import Project
from a2lc.records import Changes, Query, Reason
from a2lc.statistics.appearance import Borders, borders, mask_appearance
from a2lc.statistics.features import FeatureMap, interpolation_matrix
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["Asking"]


_SUGGESTIONS = 9  # as many as an annotator has digits


_NEXT = 100  # questions whose gain is foretold


class Asking:
    """The questions of one round."""

    def __init__(
        self,
        project: Project,
        method: Gain,
        number: int,
        *,
        seed: int,
        questions: int,
        read: ReadStatistics,
        track: Track = no_progress,
    ) -> None:
        """Prepare; files are read when they are needed.

        Args:
            project: Opened.
            method: With its settings.
            number: The round.
            seed: Of the round.
            questions: How many the round may ask.
            read: Statistics of the round, the columns asked for.
            track: Shows progress.
        """
        self.project = project
        self.method = method
        self.number = number
        self.seed = seed
        self.track = track
        self.questions = questions
        self._read = read

    # ---- the pool -----------------------------------------------------------------------------------------------

    @cached_property
    def _pool(self) -> tuple[MaskStats, MaskFeatures]:
        """Statistics and features of all masks, in the order of the mask table."""
        parts = list(self._read(COLUMNS | {EMBEDDING}))
        stats = MaskStats.concat([part for part, _ in parts])
        embedding = None
        if parts and all(EMBEDDING in added for _, added in parts):
            embedding = np.concatenate([added[EMBEDDING] for _, added in parts])
        appearance, near = self._appearance()
        own = self._own_embedding()
        if own is not None:
            embedding = own if embedding is None else np.concatenate([embedding, own], axis=1)
        features = mask_features(
            stats,
            appearance,
            near,
            self.project.masks.label,
            embedding,
            random=self.method.random_features,
            seed=self.project.config.seed,
        )
        return stats, features

    def _appearance(self) -> tuple[NDArray[np.float32], Borders]:
        """How masks look and what lies beside them; made once for the life of a project's masks."""
        path = self.project.folder / "tables" / "appearance.parquet"
        masks = self.project.masks
        if path.is_file():
            table = AppearanceTable.load(path)
            if table.fits(masks):
                return table.appearance()
        looks, near = [], []
        with self.track("looking at masks", len(self.project.images)) as advance:
            for image in self.project.images:
                first, last = np.searchsorted(masks.image, [image.index, image.index + 1])
                mask_map, ids = self.project.mask_map(image), masks.mask_ids[first:last]
                looks.append(mask_appearance(self.project.pixels(image), mask_map, ids))
                near.append(borders(mask_map, ids).shifted(int(first)))
                advance()
        found, joined = np.concatenate(looks), Borders.concat(near)
        AppearanceTable.of(masks, found, joined).save(path)
        return found, joined

    def _own_embedding(self) -> NDArray[np.float32] | None:
        """Mean features of a backbone of the user's own, from files."""
        if self.method.embeddings is None:
            return None
        folder = self.project.source_path(self.method.embeddings)
        masks = self.project.masks
        found: list[NDArray[np.float32]] = []
        for image in self.project.images:
            path = folder / f"{image.image_id}.npy"
            if not path.is_file():
                raise MissingFileError(f"No embedding of image {image.image_id}: expected {path}.")
            try:
                values = np.load(path, allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise ImageFileError(f"{path}: not a plain NumPy array: {error}.") from None
            if values.ndim != 3 or not np.issubdtype(values.dtype, np.floating) or not values.size:
                raise ImageFileError(f"{path}: expected floats (D, h, w), found {values.dtype} {values.shape}.")
            if not np.isfinite(values).all():
                raise ImageFileError(f"{path}: holds values that are not finite.")
            if found and values.shape[0] != found[0].shape[1]:
                raise ImageFileError(
                    f"{path}: {values.shape[0]} features, but {found[0].shape[1]} in the files before."
                )
            height, width = values.shape[1:]
            grid = FeatureMap(
                values=values.astype(np.float32),
                rows=interpolation_matrix(image.height, height, height, 1.0),
                cols=interpolation_matrix(image.width, width, width, 1.0),
            )
            first, last = np.searchsorted(masks.image, [image.index, image.index + 1])
            found.append(mask_embedding(grid, self.project.mask_map(image), masks.mask_ids[first:last]))
        return np.concatenate(found)

    def _known(self, *, earlier: bool = False) -> Known:
        """What the answers say now, or said before this round."""
        project, masks = self.project, self.project.masks
        truth = np.full(len(masks), UNKNOWN, dtype=np.int32)
        said: dict[int, list[int]] = {}
        random: dict[int, float] = {}
        gold: dict[int, float] = {}
        pairs_of = [
            (query, answered_class(answer), mask)
            for query, answer in standing_answers(project)
            for mask in query.mask_ids
            if not earlier or query.round < self.number
        ]
        places = masks.rows(
            np.array([query.image for query, _, _ in pairs_of], dtype=np.int64),
            np.array([mask for _, _, mask in pairs_of], dtype=np.int64),
        )
        reopened = project.ledger.reopened()
        for (query, value, _), row in zip(pairs_of, places.tolist(), strict=True):
            if value is None:
                continue
            if query.query_id in reopened:
                # It holds until someone says which part of the split class it is, and teaches nothing of the parts.
                truth[row] = value
                continue
            said.setdefault(row, []).append(value)
            truth[row] = value
            if query.reason == Reason.AUDIT and query.inclusion_probability:
                random[row] = 1 / query.inclusion_probability
            elif query.reason == Reason.GOLD and query.inclusion_probability:
                gold.setdefault(row, 1 / query.inclusion_probability)
        rows = np.array(sorted(said), dtype=np.int64)
        twice = [row for row, values in said.items() if len(values) > 1]
        # Two of three are enough; whoever never agrees with themselves is not asked for ever.
        disputed = [
            row for row in twice if len(said[row]) < TRIES and max(said[row].count(value) for value in said[row]) < 2
        ]
        pairs = [(gold[row], said[row][0] != said[row][1]) for row in twice if row in gold]
        asked = np.isin(masks.keys, project.ledger.asked_masks())
        return Known(
            truth=truth,
            asked=asked,
            open=asked & ~np.isin(masks.keys, project.ledger.asked_masks(closed=True)),
            rows=rows,
            random=np.array([random.get(int(row), 0.0) for row in rows]),
            error_rate=error_rate_of(pairs, project.classes.num_classes),
            pairs=len(pairs),
            disputed=np.array(sorted(disputed), dtype=np.int64),
            checked=np.array(sorted(twice), dtype=np.int64),
        )

    def _posterior(self, known: Known, *, calibrated: bool = False) -> NDArray[np.float32]:
        """(M, K + 1) refitted on all answers.

        Fitted from zero each time, and while questions are asked with the temperature that the rounds before call for: what
        is asked next must not depend on whether the process was killed in between.
        """
        stats, features = self._pool
        first, classes = self.project.masks.label, self.project.classes.num_classes
        prior = prior_posterior(stats, first)
        if not len(known.rows):
            return prior
        rows, named, weights = self._lessons(known)
        fitted = fit_posterior(
            features,
            rows,
            named,
            weights,
            num_classes=classes,
            ridge=self.method.ridge,
            error_rate=known.error_rate,
            temperature=self._temperature(known) if calibrated else self._earlier_temperature,
        )
        found = fitted.predict(features)
        if not np.isfinite(found).all():
            raise InputError(
                f"The features of masks in {self.project.round_folder(self.number)} are not all finite numbers: the model that "
                "scored them has broken weights. Train it again."
            )
        # With a handful of answers, what was believed before still counts.
        trust = len(known.rows) / (len(known.rows) + 10)
        return np.asarray(trust * found + (1 - trust) * prior, dtype=np.float32)

    def _temperature(self, known: Known) -> float:
        """Under which masks drawn at random are foretold best, each left out of the fit."""
        if not len(known.rows):
            return 1.0
        _, features = self._pool
        rows, named, weights = self._lessons(known)
        drawn = np.concatenate([known.random, np.zeros(len(rows) - len(known.rows))])
        classes = self.project.classes.num_classes
        return calibrate(features, rows, named, weights, drawn, num_classes=classes, ridge=self.method.ridge)

    @cached_property
    def _earlier_temperature(self) -> float:
        return self._temperature(self._known(earlier=True))

    def _lessons(self, known: Known) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Masks to learn from, their classes (K for none) and weights: answers, and first labels drawn at random."""
        method, first, classes = self.method, self.project.masks.label, self.project.classes.num_classes
        rng = np.random.default_rng([self.project.config.seed, 3])
        anchors = rng.permutation(len(first))[:1000]
        anchors = np.sort(anchors[(first[anchors] >= 0) & (known.truth[anchors] == UNKNOWN)])
        rows = np.concatenate([known.rows, anchors])
        named = np.concatenate([known.truth[known.rows], first[anchors]])
        weights = np.concatenate(
            [
                np.where(known.random > 0, method.audit_weight, 1.0),
                np.full(len(anchors), method.anchors / max(1, len(anchors))),
            ]
        )
        return rows, np.where(named == VOID, classes, named).astype(np.int64), weights

    def _certain(self, posterior: NDArray[np.float32], known: Known) -> NDArray[np.float32]:
        """The same, with answered masks what was answered."""
        classes = self.project.classes.num_classes
        found = posterior.copy()
        said = known.truth[known.rows]
        found[known.rows] = 0
        found[known.rows, np.where(said == VOID, classes, said)] = 1
        return found

    def _labels(self, posterior: NDArray[np.float32], known: Known) -> NDArray[np.int32]:
        """What each mask would carry if nobody were asked any more."""
        first = self.project.masks.label
        base = np.where(known.truth == UNKNOWN, first, known.truth)
        if not self.method.corrects:
            return base.astype(np.int32)
        fixed = known.truth != UNKNOWN
        return best_labels(self.project.masks.area, base, posterior, known=fixed, floor=self.method.floor)

    # ---- questions ----------------------------------------------------------------------------------------------

    @property
    def asks_freely(self) -> bool:
        """Whether more questions of highest gain may be asked before those asked have their answers."""
        return self._frozen() is None and len(self.project.ledger.queries(self.number)) < self._free

    @property
    def _free(self) -> int:
        """Questions of a round that are no audits."""
        certify_count = int(self.questions * self.method.certify) if self.method.corrects else 0
        return self.questions - certify_count - int(self.questions * self.method.measure)

    def free_questions(self, lots: int) -> list[Query]:
        """More questions of highest gain, whether or not those asked have their answers; none where audits are next.

        Args:
            lots: Batches at once, for many annotators.
        """
        if not self.asks_freely:
            return []
        chosen = len(self.project.ledger.queries(self.number))
        return self._batch(min(self.method.batch * lots, self._free - chosen), chosen)

    def share(self, other: Asking) -> None:
        """Take over what another round has read of the same statistics."""
        if "_pool" in other.__dict__:
            self.__dict__["_pool"] = other.__dict__["_pool"]

    def next_questions(self) -> list[Query]:
        """The next questions of the round, empty when it has asked all; those asked before must have their answers."""
        asked = self.project.ledger.queries(self.number)
        audits = sum(query.reason == Reason.AUDIT for query in asked)
        measure_count = int(self.questions * self.method.measure)
        frozen = self._frozen()
        if frozen is None:
            chosen = len(asked)
            if chosen < self._free:
                found = self._batch(min(self.method.batch, self._free - chosen), chosen)
                if found:
                    return found
            frozen = self._freeze(self.questions - self._free - measure_count)
        drawn = np.unique(frozen.drawn)
        if audits < len(drawn):
            return self._audits(drawn, frozen.probability, frozen)
        measured = self._measured()
        if measured is None:
            # Draws that hit the same mask twice leave questions over: they measure too.
            measured = self._decide(frozen, max(0, self.questions - len(asked)) if measure_count else 0)
        if audits < len(drawn) + len(measured.drawn):
            return self._audits(measured.drawn, measured.probability, frozen)
        return []

    def _batch(self, count: int, before: int) -> list[Query]:
        """The most valuable questions, and, at its rate, one that was answered before."""
        known = self._known()
        posterior = self._posterior(known)
        gold = int((before + count) * self.method.gold) - int(before * self.method.gold)
        again, chance = self._doubtful_answers(posterior, known, gold)
        certain = self._certain(posterior, known)
        labels = self._labels(certain, known)
        scores = expected_iou_gain(self.project.masks.area, labels, certain)
        scores = np.where(known.asked & ~known.open, 0.0, np.maximum(scores, 1e-12))
        _, features = self._pool
        rows = pick_batch(scores, features.base, count - len(again), alike=self.method.alike)
        queries = self._queries(rows, labels, posterior, scores[rows], Reason.ACQUISITION, np.ones(len(rows)))
        if not queries and len(again) < count:
            return []  # nothing is left that was not asked
        return queries + self._queries(again, labels, posterior, np.zeros(len(again)), Reason.GOLD, chance)

    def _doubtful_answers(
        self, posterior: NDArray[np.float32], known: Known, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Answered masks to ask about again: disputed ones, then a draw by how much the posterior doubts the answer."""
        pending = self._asked_again()
        disputed = known.disputed[~np.isin(known.disputed, pending)][:count]
        open_rows = known.rows[~np.isin(known.rows, known.checked) & ~np.isin(known.rows, pending)]
        count = min(count - len(disputed), len(open_rows))
        if count <= 0:
            return disputed, np.ones(len(disputed))
        said = known.truth[open_rows]
        said = np.where(said == VOID, posterior.shape[1] - 1, said)
        doubt = 0.05 + 1 - posterior[open_rows, said].astype(np.float64)
        chance = inclusion_probabilities(doubt, count)
        rng = np.random.default_rng([self.seed, 4, len(known.rows), *([len(pending)] if len(pending) else [])])
        taken = draw(chance, rng)
        rows = np.concatenate([disputed, open_rows[taken]])
        return rows, np.concatenate([np.ones(len(disputed)), chance[taken]])

    def _asked_again(self) -> NDArray[np.int64]:
        """Rows asked about again in this round that wait for that answer."""
        said = {answer.query_id for answer, _ in self.project.ledger.answers(self.number)}
        again = [
            q for q in self.project.ledger.queries(self.number) if q.reason == Reason.GOLD and q.query_id not in said
        ]
        image = np.array([query.image for query in again], dtype=np.int64)
        return self.project.masks.rows(image, np.array([query.mask_ids[0] for query in again], dtype=np.int64))

    def _audits(self, rows: NDArray[Any], chance: NDArray[Any], frozen: FrozenTable) -> list[Query]:
        posterior = frozen.posteriors(self.project.classes.num_classes)
        # In an order of their own, so that nobody can tell what is expected of them.
        order = np.random.default_rng([self.seed, 5, len(rows)]).permutation(len(rows))
        rows, chance = rows[order], chance[order]
        return self._queries(rows, frozen.labels, posterior, np.zeros(len(rows)), Reason.AUDIT, chance)

    def _queries(
        self,
        rows: NDArray[Any],
        labels: NDArray[Any],
        posterior: NDArray[Any],
        scores: NDArray[Any],
        reason: Reason,
        chance: NDArray[Any],
    ) -> list[Query]:
        if not len(rows):
            return []
        masks = self.project.masks
        current = masks.current(self.project.state())
        classes = self.project.classes.num_classes
        likely = np.argsort(-posterior[rows, :classes], axis=1, kind="stable")
        queries = []
        for row, order, score, probability in zip(rows.tolist(), likely.tolist(), scores, chance, strict=True):
            # What the mask would be labelled comes first: that is also what the answer is held against later.
            # Whoever is asked again must not be led to what they said before.
            best = [int(labels[row])] if labels[row] >= 0 and reason != Reason.GOLD else []
            suggestions = [*best, *(c for c in order if c not in best)][:_SUGGESTIONS]
            queries.append(
                Query(
                    round=self.number,
                    image=int(masks.image[row]),
                    mask_ids=(int(masks.mask_ids[row]),),
                    proposed=None if current[row] == VOID else int(current[row]),
                    suggestions=tuple(suggestions),
                    score=float(score),
                    reason=reason,
                    inclusion_probability=float(probability),
                )
            )
        return queries

    # ---- audits -------------------------------------------------------------------------------------------------

    def _frozen(self) -> FrozenTable | None:
        path = self.project.round_folder(self.number) / "posterior.parquet"
        if not path.is_file():
            return None
        found = FrozenTable.load(path)
        change = self.project.class_change_since(self.number)
        if change is None:
            return found
        # Classes were edited since: void, the last column, stays what it was.
        posterior = found.posteriors(change.shape[1])
        turned = np.concatenate([posterior[:, :-1] @ change.T, posterior[:, -1:]], axis=1).astype(np.float32)
        return replace(
            found,
            labels=self.project.labels_since(self.number, found.labels),
            known=self.project.labels_since(self.number, found.known),
            posterior=turned.ravel(),
        )

    def _measured(self, number: int | None = None) -> AuditTable | None:
        path = self.project.round_folder(self.number if number is None else number) / "measured.parquet"
        if not path.is_file():
            return None
        found = AuditTable.load(path)
        since = self.number if number is None else number
        return replace(found, labels=self.project.labels_since(since, found.labels))

    def _freeze(self, count: int) -> FrozenTable:
        """Write down what the posterior says, and draw the masks that audit what it would change."""
        known = self._known()
        posterior = self._posterior(known, calibrated=True)
        certain = self._certain(posterior, known)
        labels = self._labels(certain, known)
        proposals = np.flatnonzero((labels != self.project.masks.label) & ~known.asked)
        rng = np.random.default_rng([self.seed, 6])
        drawn = np.empty(0, dtype=np.int64)
        chance = np.empty(0)
        if len(proposals) and count:
            if self.method.min_precision > 0:
                drawn = np.sort(rng.choice(proposals, min(count, len(proposals)), replace=False))
                chance = np.full(len(drawn), len(drawn) / len(proposals))
            else:
                stake = self._stakes(proposals, labels, certain)
                # One mask may be drawn more than once: the draws count, the mask is asked about once.
                drawn = proposals[draw_by_stake(stake, count, rng)]
                included = stake_inclusion(stake, count)
                place = np.searchsorted(proposals, np.unique(drawn))
                chance = np.clip(included[place], 1e-12, 1.0)
        frozen = FrozenTable(
            labels=labels,
            posterior=certain.ravel(),
            drawn=drawn,
            probability=chance,
            known=np.where(known.asked & (known.truth == UNKNOWN), NO_ANSWER, known.truth).astype(np.int32),
        )
        frozen.save(self.project.round_folder(self.number) / "posterior.parquet")
        return frozen

    def _unions(self, labels: NDArray[Any], posterior: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        return class_unions(self.project.masks.area, labels, posterior)

    def _stakes(self, rows: NDArray[Any], labels: NDArray[Any], posterior: NDArray[Any]) -> NDArray[np.float64]:
        unions, ious = self._unions(labels, posterior)
        masks = self.project.masks
        return stakes(masks.area[rows], masks.label[rows], labels[rows], unions, ious)

    def accepted(self, frozen: FrozenTable) -> tuple[NDArray[np.int64], dict[str, Any]]:
        """Rows that may change without being looked at, and the promise that goes with them."""
        masks, known = self.project.masks, self._known()
        posterior = frozen.posteriors(self.project.classes.num_classes)
        proposals = np.flatnonzero((frozen.labels != masks.label) & (frozen.known == UNKNOWN))
        sure = posterior[proposals, frozen.labels[proposals]].astype(np.float64)
        # A draw whose answer named no class of the mask says nothing for the change.
        answered = known.truth
        told: dict[str, Any] = {"proposed": len(proposals), "confidence": self.method.confidence}
        if not self.method.corrects:
            return np.empty(0, dtype=np.int64), told | {"accepted": 0, "reason": "switched off"}
        if self.method.min_precision > 0:
            drawn = np.searchsorted(proposals, frozen.drawn)
            right = answered[frozen.drawn] == frozen.labels[frozen.drawn]
            promise = certify(
                sure, drawn, right, min_precision=self.method.min_precision, confidence=self.method.confidence
            )
            rows = proposals[promise.accepted]
            told |= {"kind": "precision", "asked": self.method.min_precision, "lower": promise.lower}
            told |= {"estimate": promise.estimate, "audits": promise.audits, "reason": promise.reason}
        else:
            unions, ious = self._unions(frozen.labels, posterior)
            old, new = masks.label[proposals], frozen.labels[proposals]
            stake = stakes(masks.area[proposals], old, new, unions, ious)
            drawn = np.searchsorted(proposals, frozen.drawn)
            said = answered[frozen.drawn]
            found = effects(masks.area[frozen.drawn], old[drawn], new[drawn], np.maximum(said, VOID), unions, ious)
            # An audit that named no class counts as the worst.
            found = np.where(said == UNKNOWN, -stake[drawn], found)
            gain = certify_gain(sure, stake, drawn, found, confidence=self.method.confidence)
            rows = proposals[gain.accepted]
            classes = self.project.classes.num_classes
            told |= {"kind": "gain", "lower": gain.unseen.low / classes, "estimate": gain.unseen.estimate / classes}
            told |= {"audits": gain.audits, "reason": gain.reason}
        gone = rows[known.asked[rows]]
        rows = rows[~known.asked[rows]]
        if len(gone) and told.get("kind") == "precision":
            # What the promise holds of, less what was asked about since; one without an answer may have been a right one.
            hits = int(((answered[gone] == UNKNOWN) | (answered[gone] == frozen.labels[gone])).sum())
            told["lower"] = max(0.0, (told["lower"] * (len(rows) + len(gone)) - hits) / max(1, len(rows)))
        elif len(gone) and told.get("kind") == "gain":
            unions, ious = self._unions(frozen.labels, posterior)
            brought = (
                effects(
                    masks.area[gone],
                    masks.label[gone],
                    frozen.labels[gone],
                    np.where(answered[gone] == UNKNOWN, frozen.labels[gone], answered[gone]),
                    unions,
                    ious,
                ).sum()
                / self.project.classes.num_classes
            )
            told["lower"], told["estimate"] = told["lower"] - float(brought), told["estimate"] - float(brought)
        kept = np.setdiff1d(self._kept(frozen, posterior, known), rows)
        return np.union1d(rows, kept), told | {"accepted": len(rows), "kept": len(kept)}

    def _kept(self, frozen: FrozenTable, posterior: NDArray[Any], known: Known) -> NDArray[np.int64]:
        """Rows that the round before left changed, and against which nothing speaks since.

        A small round cannot prove again what a larger effect proved before: most of what was wrong has been asked about.
        So its silence withdraws nothing. A change goes if the posterior no longer proposes it, or all go if the audits
        since speak against them as a whole: their estimated effect is negative, or too few of them were right. Only what
        passed under a promise as strict as this round's is kept.
        """
        none, masks = np.empty(0, dtype=np.int64), self.project.masks
        before = self._before
        if before is None or before.promise is None:
            return none
        precision, confidence = before.promise.tolist()
        strict = precision >= self.method.min_precision if self.method.min_precision > 0 else precision == 0
        if not strict or confidence < self.method.confidence:
            return none
        state = self.project.state()
        held = before.accepted
        random = np.isin(known.rows, held) & (known.random > 0)
        measured = self._measured()
        if measured is not None:
            # What measures the labels of this round must not decide what they are.
            random &= ~np.isin(known.rows, measured.drawn)
        if random.any():
            drawn, weight = known.rows[random], known.random[random]
            said, label = known.truth[drawn], before.labels[drawn]
            if self.method.min_precision > 0:
                against = np.average(said == label, weights=weight) < self.method.min_precision
            else:
                unions, ious = self._unions(frozen.labels, posterior)
                found = effects(masks.area[drawn], masks.label[drawn], label, said, unions, ious)
                against = bool(found @ weight < 0)
            if against:
                return none
        standing = (state.source == SOURCES.index("automatic")) & (state.classes == before.labels)
        same = (frozen.labels == before.labels) & (frozen.labels != masks.label) & ~known.asked
        return np.asarray(held[standing[held] & same[held]], dtype=np.int64)

    @cached_property
    def _before(self) -> AuditTable | None:
        """What the last round before this one that asked in this way left."""
        for number in range(self.number - 1, 0, -1):
            found = self._measured(number)
            if found is not None:
                return found
        return None

    def _decide(self, frozen: FrozenTable, count: int) -> AuditTable:
        """Write down the labels as the audits allow them, and draw the masks that measure them."""
        rows, _ = self.accepted(frozen)
        known = self._known()
        masks = self.project.masks
        labels = np.where(known.truth == UNKNOWN, masks.label, known.truth).astype(np.int32)
        labels[rows] = frozen.labels[rows]
        posterior = self._certain(frozen.posteriors(self.project.classes.num_classes), known)
        size = audit_sizes(masks.area, labels, posterior, ~known.asked)
        chance = inclusion_probabilities(size, count)
        drawn = np.sort(draw(chance, np.random.default_rng([self.seed, 7]))) if count else np.empty(0, dtype=np.int64)
        measured = AuditTable(
            labels=labels,
            accepted=rows,
            drawn=drawn,
            probability=np.minimum(chance[drawn], 1.0),
            design=chance,
            promise=np.array([self.method.min_precision, self.method.confidence]),
        )
        measured.save(self.project.round_folder(self.number) / "measured.parquet")
        return measured

    def _standing(self, frozen: FrozenTable, measured: AuditTable, known: Known) -> NDArray[np.int64]:
        """Accepted rows that nobody was asked about since, and that the answers to the audits, as they are now, support."""
        rows, _ = self.accepted(frozen)
        rows = np.intersect1d(rows, measured.accepted)
        return np.asarray(rows[~known.asked[rows]], dtype=np.int64)

    # ---- what comes of it ---------------------------------------------------------------------------------------

    def changes(self, state: MaskState) -> Changes:
        """What the stage `correct` records: from first labels and answers alone, so a change can also be withdrawn."""
        masks, known = self.project.masks, self._known()
        frozen, measured = self._frozen(), self._measured()
        wanted = np.full(len(masks), FIRST, dtype=np.int32)
        if frozen is not None and measured is not None:
            rows = self._standing(frozen, measured, known)
            wanted[rows] = frozen.labels[rows]
        own = (state.source == SOURCES.index("automatic")) | (state.classes == FIRST)
        # One that was asked about and given no class goes back to its first labels.
        rows = np.flatnonzero(own & (known.truth == UNKNOWN) & (state.classes != wanted))
        sure = np.ones(len(rows))
        if frozen is not None:
            posterior = frozen.posteriors(self.project.classes.num_classes)
            label = np.where(wanted[rows] == FIRST, masks.label[rows], wanted[rows])
            sure = posterior[rows, label].astype(np.float64)
        return Changes(rows=rows, classes=wanted[rows], confidences=np.clip(sure, 0, 1))

    def proposals(self) -> Changes:
        """What the posterior would change by the answers so far, before any audit."""
        known = self._known()
        posterior = self._certain(self._posterior(known), known)
        labels = self._labels(posterior, known)
        current = self.project.masks.current(self.project.state())
        rows = np.flatnonzero((labels != current) & ~known.asked)
        return Changes(rows=rows, classes=labels[rows], confidences=posterior[rows, labels[rows]].astype(np.float64))

    def findings(self, left_out: NDArray[Any] | None = None, carried: NDArray[Any] | None = None) -> dict[str, Any]:
        """What the stage records beside: the promise, label quality before and after, what more questions would bring.

        Args:
            left_out: Rows of changes that someone left out by hand.
            carried: The classes these keep.
        """
        frozen, measured = self._frozen(), self._measured()
        if frozen is None or measured is None:
            return {}
        masks, known = self.project.masks, self._known()
        classes = self.project.classes.num_classes
        posterior = frozen.posteriors(classes)
        _, promise = self.accepted(frozen)
        answered = known.truth[measured.drawn] != UNKNOWN
        drawn, chance = measured.drawn[answered], measured.probability[answered]
        # A share of the draws that nobody could answer is taken to be like the rest.
        share = answered.mean() if len(answered) else 1.0
        chance = chance * share
        design = None if measured.design is None else measured.design * share
        truth = known.truth.copy()
        certain = self._certain(posterior, known)
        rate = known.error_rate if known.pairs >= FEWEST_PAIRS else None
        figures: dict[str, Any] = {"promise": promise, "error_rate": rate, "gold": known.pairs}
        # A change that was asked about and given no class is not made, nor one that a mended answer no longer supports.
        undone = np.setdiff1d(measured.accepted, self._standing(frozen, measured, known))
        labels = measured.labels.copy()
        undone = undone[truth[undone] == UNKNOWN]
        # An answer that was taken back says nothing, neither by its class nor by what it made of the posterior.
        unsaid = np.flatnonzero((truth == UNKNOWN) & (frozen.known >= VOID))
        for rows in (undone, unsaid):
            labels[rows] = masks.label[rows]
        if left_out is not None and carried is not None and len(left_out):
            labels[left_out] = carried
            promise |= {"left_out": len(left_out)}
        if len(unsaid):
            posterior = posterior.copy()
            posterior[unsaid] = prior_posterior(self._pool[0], masks.label)[unsaid]
        after = np.where(truth == UNKNOWN, labels, truth).astype(np.int32)
        before = masks.label
        figures["before"] = quality_figures(
            estimate_quality(
                masks.area,
                before,
                posterior,
                truth,
                drawn,
                np.minimum(chance, 1.0),
                design=design,
                confidence=self.method.confidence,
            )
        )
        figures["after"] = quality_figures(
            estimate_quality(
                masks.area,
                labels,
                posterior,
                truth,
                drawn,
                np.minimum(chance, 1.0),
                now=after,
                design=design,
                confidence=self.method.confidence,
            )
        )
        room = 1 - figures["after"]["miou"]["low"] if figures["after"]["miou"]["low"] is not None else 1.0
        figures["next"] = self._foretold(certain, after, known, changes=bool(len(measured.accepted)), room=room)
        figures["agreement"] = self._agreement(known, drawn, chance, figures["before"])
        return dict(json.loads(json.dumps(json_safe(figures))))

    def _foretold(
        self, posterior: NDArray[Any], labels: NDArray[Any], known: Known, *, changes: bool, room: float
    ) -> dict[str, Any]:
        """Expected gain of the next questions, in points of mean IoU, held against what the last ones brought.

        Gains fall from question to question, so this is an upper end, no lower one. An answer gains over the label its mask
        would have without it: the one proposed where audits allowed changes, else the first.
        """
        masks, classes = self.project.masks, self.project.classes.num_classes
        wanted = self._labels(posterior, known)
        scores = np.where(known.asked & ~known.open, 0.0, expected_iou_gain(masks.area, wanted, posterior))
        top = np.sort(scores)[::-1][:_NEXT]
        predicted, realised = [], []
        for query, answer in standing_answers(self.project):
            value = answered_class(answer)
            if query.reason != Reason.ACQUISITION or query.round != self.number or value is None:
                continue
            row = int(masks.rows(np.array([query.image]), np.array(query.mask_ids[:1]))[0])
            predicted.append(query.score)
            proposed = query.suggestions[0] if query.suggestions else VOID
            realised.append((row, proposed if changes else int(masks.label[row]), value))
        worth = self._realised(realised, posterior, labels)
        found = expected_gain(
            np.array(predicted[-200:]), worth[-200:], float(top.sum()), confidence=self.method.confidence
        )
        points = 100 / classes
        return {
            "questions": len(top),
            # First order only; no more can be gained than is missing.
            "gain": {
                "low": 0.0,
                "estimate": float(np.minimum(found.estimate * points, 100 * room)),
                "high": float(np.minimum(found.high * points, 100 * room)),
            },
        }

    def _realised(
        self, answered: list[tuple[int, int, int]], posterior: NDArray[Any], labels: NDArray[Any]
    ) -> NDArray[np.float64]:
        """What answers were worth, by the measure of `expected_iou_gain`: rows, would-be labels and true classes."""
        masks, classes = self.project.masks, self.project.classes.num_classes
        area = masks.area.astype(np.float64)
        mean = area.mean() if len(area) else 1.0
        labelled = np.bincount(labels[labels >= 0], weights=area[labels >= 0], minlength=classes) + mean
        expected = area @ posterior[:, :classes].astype(np.float64) + mean
        worth = []
        for row, label, true in answered:
            gain = 0.0
            if label != true:
                gain += 1 / labelled[label] if label >= 0 else 0.0
                gain += 1 / expected[true] if true >= 0 else 0.0
            worth.append(area[row] * gain)
        return np.array(worth, dtype=np.float64)

    def _agreement(
        self, known: Known, drawn: NDArray[Any], chance: NDArray[Any], before: dict[str, Any]
    ) -> dict[str, Any]:
        """How often first labels are right, against chance: labels that tell nothing."""
        if not len(drawn):
            return {"right": None, "chance": None, "informative": None}
        labels, classes = self.project.masks.label, self.project.classes.num_classes
        if bool((labels < 0).all()):
            return {"right": None, "chance": None, "informative": None}
        answered = np.flatnonzero(known.truth != UNKNOWN)
        wrong = int((labels[answered] != known.truth[answered]).sum())
        # Masks are chosen because their labels are doubted: those answered and those never asked about, together.
        right = 1 - (wrong + before["wrong_masks"]["estimate"]) / len(labels)
        surely = 1 - (wrong + before["wrong_masks"]["high"]) / len(labels)
        chosen = np.setdiff1d(answered, drawn)
        weight = 1 / np.maximum(chance, 1e-12)
        weight *= (len(labels) - len(chosen)) / weight.sum()
        true, weight = known.truth[np.append(drawn, chosen)], np.append(weight, np.ones(len(chosen)))
        by_label = np.bincount(labels[labels >= 0], minlength=classes) / len(labels)
        by_truth = np.bincount(true[true >= 0], weights=weight[true >= 0], minlength=classes) / len(labels)
        by_chance = float((by_label * by_truth).sum())
        return {"right": float(right), "chance": by_chance, "informative": bool(surely > by_chance)}
