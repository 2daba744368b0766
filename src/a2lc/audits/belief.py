"""The posterior over the true class of each mask, refitted from all answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from a2lc.acquisition.gain import best_labels
from a2lc.audits.knowledge import Known, read_knowledge
from a2lc.audits.pool import Pool, read_pool
from a2lc.audits.settings import SessionSettings
from a2lc.audits.source import RoundSource
from a2lc.classes.sentinels import UNKNOWN, VOID
from a2lc.errors import InputError
from a2lc.posterior.calibration import calibrate
from a2lc.posterior.prior import prior_posterior
from a2lc.posterior.regression import Posterior, fit_posterior

__all__ = ["Belief", "Lessons"]

_FOLDS = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Lessons:
    """Masks to learn from.

    Attributes:
        rows: (n,) masks.
        classes: (n,) their classes, K for none.
        weights: (n,) weights in the fit.
        errors: (n,) probabilities that the class is wrong.
    """

    rows: NDArray[np.int64]
    classes: NDArray[np.int64]
    weights: NDArray[np.float64]
    errors: NDArray[np.float64]

    def only(self, which: NDArray[np.bool_]) -> Lessons:
        """Return a part of them."""
        return Lessons(
            rows=self.rows[which], classes=self.classes[which], weights=self.weights[which], errors=self.errors[which]
        )


class Belief:
    """What the answers, the statistics and the appearance of masks say of their true classes in one round.

    Args:
        source: The data.
        settings: Of the session.
        round_index: The round.
    """

    def __init__(self, source: RoundSource, settings: SessionSettings, round_index: int) -> None:
        self.source = source
        self.settings = settings
        self.round_index = round_index

    @cached_property
    def pool(self) -> Pool:
        """Statistics and features of all masks, read when first needed."""
        return read_pool(self.source, self.settings)

    def share_pool(self, other: Belief) -> None:
        """Take over the pool that another round has read from the same statistics."""
        if "pool" in other.__dict__:
            self.__dict__["pool"] = other.__dict__["pool"]

    def known(self) -> Known:
        """Collect what the answers say now."""
        return read_knowledge(self.source)

    def posterior(self, known: Known, *, calibrated: bool = False) -> NDArray[np.float32]:
        """Refit on all answers: (M, K + 1) float32 probabilities, the last column for no class.

        Fitted from zero each time, and while questions are asked with the temperature that the rounds before call for: what
        is asked next must not depend on whether the process was killed in between.
        """
        stats, features = self.pool.stats, self.pool.features
        first = self.source.masks.label
        prior = prior_posterior(stats, first)
        if not len(known.rows):
            return prior
        temperature = self._temperature(known) if calibrated else self._earlier_temperature
        found = self._fit(self._lessons(known), temperature).predict(features)
        if not np.isfinite(found).all():
            raise InputError(
                f"Not all features of the masks in round {self.round_index} are finite numbers, so the model that "
                "scored them is broken. Train it again."
            )
        # With a handful of answers, what was believed before still counts.
        trust = len(known.rows) / (len(known.rows) + 10)
        return np.asarray(trust * found + (1 - trust) * prior, dtype=np.float32)

    def left_out(self, known: Known) -> NDArray[np.float32]:
        """Return (n, K + 1) probabilities of the answers to the answered masks, each from a fit without it, in five folds.

        Errors of answers are left in: it is for who asks to say how many answers are wrong.
        """
        prior = prior_posterior(self.pool.stats, self.source.masks.label)[known.rows]
        if len(known.rows) < 2:
            return prior
        lessons, found = self._lessons(known), np.empty_like(prior)
        lessons = replace(lessons, errors=np.zeros_like(lessons.errors))
        fold = np.random.default_rng([self.source.seed, 8]).permutation(len(known.rows)) % _FOLDS
        # Initial labels drawn at random have no answer, so they teach every fold.
        lesson_fold = np.append(fold, np.full(len(lessons.rows) - len(fold), -1))
        for number in range(_FOLDS):
            out = fold == number
            if out.any():
                fitted = self._fit(lessons.only(lesson_fold != number), self._earlier_temperature)
                found[out] = fitted.predict(self.pool.features, known.rows[out])
        trust = len(known.rows) / (len(known.rows) + 10)
        return np.asarray(trust * found + (1 - trust) * prior, dtype=np.float32)

    def _fit(self, lessons: Lessons, temperature: float) -> Posterior:
        return fit_posterior(
            self.pool.features,
            lessons.rows,
            lessons.classes,
            lessons.weights,
            num_classes=self.source.num_classes,
            ridge=self.settings.ridge,
            errors=lessons.errors,
            temperature=temperature,
        )

    def _temperature(self, known: Known) -> float:
        """Return the temperature that predicts masks drawn at random best, each left out of the fit."""
        if not len(known.rows):
            return 1.0
        features = self.pool.features
        lessons = self._lessons(known)
        drawn = np.concatenate([known.random, np.zeros(len(lessons.rows) - len(known.rows))])
        return calibrate(
            features,
            lessons.rows,
            lessons.classes,
            lessons.weights,
            drawn,
            num_classes=self.source.num_classes,
            ridge=self.settings.ridge,
            errors=lessons.errors,
        )

    @cached_property
    def _earlier_temperature(self) -> float:
        return self._temperature(read_knowledge(self.source, before=self.round_index))

    def _lessons(self, known: Known) -> Lessons:
        """Return what to learn from: answers, and initial labels drawn at random."""
        method, first, classes = self.settings, self.source.masks.label, self.source.num_classes
        rng = np.random.default_rng([self.source.seed, 3])
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
        errors = np.concatenate([known.wrong, np.zeros(len(anchors))])
        named = np.where(named == VOID, classes, named).astype(np.int64)
        return Lessons(rows=rows, classes=named, weights=weights, errors=errors)

    def certain(self, posterior: NDArray[np.float32], known: Known) -> NDArray[np.float32]:
        """Return the posterior with probability 1 for the answer of each answered mask."""
        classes = self.source.num_classes
        found = posterior.copy()
        said = known.truth[known.rows]
        found[known.rows] = 0
        found[known.rows, np.where(said == VOID, classes, said)] = 1
        return found

    def labels(self, posterior: NDArray[np.float32], known: Known) -> NDArray[np.int32]:
        """Return (M,) labels that each mask would carry if nobody were asked any more."""
        first = self.source.masks.label
        base = np.where(known.truth == UNKNOWN, first, known.truth)
        if not self.settings.corrects:
            return base.astype(np.int32)
        fixed = known.truth != UNKNOWN
        return best_labels(self.source.masks.area, base, posterior, known=fixed, floor=self.settings.floor)
