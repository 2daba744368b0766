"""Settings of a session that asks in batches, audits, and certifies."""

from __future__ import annotations

from dataclasses import dataclass

from a2lc.errors import ConfigError, require_known

__all__ = ["GUARANTEES", "SessionSettings"]

GUARANTEES = ("proven", "expected", "none")
"""What automatic corrections rest on: a certificate; else what posterior and audits expect; or the posterior alone."""


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """Settings of `a2lc.audits.session.Session`: the settings of the method `gain`."""

    batch: int = 20  # clicks between two refits
    grid: int = 24  # masks shown together at most, as thought to be of one class; 0: each mask is asked about alone
    certify: float | None = (
        None  # largest share that audits proposed corrections; None: .15 to prove a gain, otherwise .1
    )
    measure: float = 0.1  # share that measures the labels
    gold: float = 0.02  # share that repeats an answered query, to learn how often answers are wrong
    guarantee: str = "proven"  # of automatic corrections: proven, expected (marked as not proven), or none (no audits)
    automatic: bool = True  # False: no correction without an answer
    min_precision: float = 0.0  # of automatic corrections; 0: they only have to raise the mean IoU
    confidence: float = 0.95  # of the guarantee and of all intervals
    floor: float = 0.3  # probability below which no class is proposed
    alike: float = 0.9  # cosine of features from which two masks are not asked about in one batch
    ridge: float = 10.0
    anchors: float = 10.0  # weight, in answers, of initial labels drawn at random
    audit_weight: float = 2.0  # weight in the fit of an answer to a mask drawn at random
    random_features: int = 256  # per block: of appearance, of surroundings
    embeddings: str | None = None  # folder of IMAGE_ID.npy, (D, h, w) features of the user's own backbone

    def __post_init__(self) -> None:
        """Check the ranges of all settings.

        Raises:
            ConfigError: A share is outside [0, 1), or a number is below its minimum.
        """
        for name in ("measure", "gold", "min_precision", "floor"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise ConfigError(f"{name} must be in [0, 1), found {value}.")
        require_known("guarantee", self.guarantee, GUARANTEES)
        if self.certify is not None and not 0 <= self.certify < 1:
            raise ConfigError(f"certify must be in [0, 1), found {self.certify}.")
        if self.audit_share + self.measure > 0.9:
            raise ConfigError(
                f"certify ({self.audit_share:g}) and measure ({self.measure:g}) leave no questions to choose by gain."
            )
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"confidence must be in [0.5, 1), found {self.confidence}.")
        for name, low in (
            ("batch", 1),
            ("grid", 0),
            ("random_features", 1),
            ("anchors", 0),
            ("audit_weight", 0),
            ("alike", 0),
        ):
            value = getattr(self, name)
            if not low <= value < float("inf"):
                raise ConfigError(f"{name} must be {low} or more, found {value}.")
        if not 0 < self.ridge < float("inf"):
            raise ConfigError(f"ridge must be above 0, found {self.ridge}.")

    @property
    def certifies(self) -> bool:
        """Whether a share of the questions audits what would be corrected."""
        return self.automatic and self.guarantee != "none"

    @property
    def proves_in_order(self) -> bool:
        """Whether audits are asked one after another, until they prove a gain or cannot."""
        return self.certifies and self.guarantee == "proven" and self.min_precision == 0

    @property
    def audit_share(self) -> float:
        """Largest share of a round's queries that audit proposed corrections."""
        if not self.certifies:
            return 0.0
        return self.certify if self.certify is not None else 0.15 if self.proves_in_order else 0.1

    @property
    def corrects(self) -> bool:
        """Whether masks nobody looked at may be corrected."""
        return self.automatic
