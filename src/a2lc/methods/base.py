"""What a method answers, and the registry of methods."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from a2lc.acquisition.functions import ACQUISITIONS, score
from a2lc.errors import A2LCError, ConfigError, UnknownNameError, require_known
from a2lc.io.plugins import import_named
from a2lc.records import Changes, Inspection, PixelView, QueryKind, RoundView
from a2lc.statistics.mask_stats import MaskStats

if TYPE_CHECKING:
    from a2lc.audits.source import RoundSource
    from a2lc.methods.batches import BatchSession

__all__ = [
    "METHODS",
    "Method",
    "NetworkSpec",
    "PixelLabels",
    "PoolSpec",
    "QuerySpec",
    "create_method",
    "find_method",
    "load_methods",
    "register",
]


Labeller = Callable[[int], "NDArray[np.int32] | None"]
"""From an image to (H, W) pixel-level labels: class, VOID, or KEEP where the mask's class stays; None to leave all as it is."""

MaskColumns = Callable[[int, Inspection, MaskStats, NDArray[Any]], dict[str, NDArray[Any]]]
"""From an image, its inspection, its M mask statistics and its (H, W) mask ids to (M,) or (M, D) columns by name."""


@dataclass(frozen=True, kw_only=True)
class QuerySpec:
    """How a method asks.

    Attributes:
        kind: What a query asks.
        once: Whether a mask that was asked about is never asked about again.
        overshoots: Whether the answer that passes the budget is still taken, where answers differ in clicks.
        gated: Whether the simulated annotator keeps masks that are mostly right, though it is asked about one pixel.
    """

    kind: QueryKind = QueryKind.CORRECTION
    once: bool = True
    overshoots: bool = False
    gated: bool = False

    @property
    def priced_by_answer(self) -> bool:
        """Whether the clicks of an answer are known only when it is given."""
        return self.kind in {QueryKind.CLASSES, QueryKind.PRECISE}


@dataclass(frozen=True, kw_only=True)
class PoolSpec:
    """What a method's scores read beside the statistics of the masks in view.

    Attributes:
        totals: Sums over the whole pool, handed over as `RoundView.totals`.
        whole: All masks at once, in one piece.
        extra_columns: Columns that `Method.mask_columns` adds to the statistics. A column `region` merges masks.
        by_settings: Whether the method's settings decide what those columns hold.
    """

    totals: bool = False
    whole: bool = False
    extra_columns: tuple[str, ...] = ()
    by_settings: bool = True

    @property
    def merges(self) -> bool:
        """Whether masks are merged, so that those of one region are asked about as one."""
        return "region" in self.extra_columns


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """The network a method trains.

    Attributes:
        head: Classifier: `linear`, `cosine` or `error`.
        objective: `labels`, or `semi` to learn from unlabeled pixels as well.
        trusts_initial_labels: Whether `semi` takes initial labels for given ones.
    """

    head: str = "linear"
    objective: str = "labels"
    trusts_initial_labels: bool = True


@dataclass(frozen=True, kw_only=True)
class PixelLabels:
    """How a method labels single pixels once answers are in; each round's labels replace the last one's.

    Attributes:
        labeller: Makes the labeller of a round.
        region_losses: Arguments of `a2lc.training.tasks.regions` for a network that is first trained on the classes of
            regions and then inspected; None to inspect the round's own model.
        by_hand: Whether all of these labels come with answers.
    """

    labeller: Callable[[PixelView], Labeller]
    region_losses: dict[str, Any] | None = None
    by_hand: bool = False


class Method:
    """A method of active label correction: how masks are ranked, what is asked, and how answers propagate.

    Subclasses are frozen dataclasses whose fields are the method's settings, so that they are checked, printed and
    recorded with every round. A method gets views without ground truth; docs/guides/add-a-method.md walks through one.

    Attributes:
        name: Name on the command line, set by `register`.
        paper: Source, set by `register`.
        summary: One line, set by `register`.
        starts: Labels it is made for: `pseudo` (all images, doubtful), `nothing`, or `subset` (some images, trusted).
        query: How it asks.
        pool: What its scores read.
        network: The network it trains.
        acquisition: Acquisition function that `score` uses unless it is overridden.
        former_defaults: Defaults that settings had in earlier versions, by name: an open round that began with one goes on.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    summary: ClassVar[str]
    starts: ClassVar[str] = "pseudo"
    pool: ClassVar[PoolSpec] = PoolSpec()
    former_defaults: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    acquisition: str = ""

    @property
    def query(self) -> QuerySpec:
        """How the method asks."""
        return QuerySpec()

    @property
    def network(self) -> NetworkSpec:
        """The network the method trains."""
        return NetworkSpec()

    @property
    def pixel_labels(self) -> PixelLabels | None:
        """How the method labels single pixels; None if it labels whole masks alone."""
        return None

    @property
    def corrects(self) -> bool:
        """Whether the method corrects masks nobody looked at."""
        return False

    @property
    def learns_features(self) -> bool:
        """Whether the session reads features of the masks, which are then made before the first round."""
        return False

    @property
    def audited(self) -> bool:
        """Whether rounds end with audits that measure the labels."""
        return False

    def session(self, source: RoundSource, round_index: int, *, seed: int, questions: int) -> BatchSession | None:
        """Open a session that asks in batches, each after the answers to the last; `BatchMethod` has a plain one.

        Args:
            source: The data of the round.
            round_index: The round.
            seed: Of the round.
            questions: How many queries the round may ask.

        Returns:
            None where all queries of a round are chosen at once, by `score`.
        """
        return None

    def mask_columns(self, view: PixelView) -> MaskColumns:
        """Return what adds columns to the statistics of an image's masks, while its probabilities are at hand."""
        return lambda image, inspection, stats, mask_map: {}

    def columns(self) -> frozenset[str]:
        """Return the fields of `MaskStats` that `score` reads; here, those of the acquisition function."""
        return ACQUISITIONS[self._own_acquisition()].columns

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """Score the M masks in view, higher asked first: (M,). The caller leaves out masks that were asked about."""
        return score(self._own_acquisition(), view.stats, seed=view.seed)

    def _own_acquisition(self) -> str:
        if not self.acquisition:
            raise ConfigError(
                f"method {self.name!r} names no acquisition function: define both `columns` and `score`, or set `acquisition`."
            )
        return self.acquisition

    def propagate(self, view: RoundView, answered: NDArray[Any], classes: NDArray[Any]) -> Changes:
        """Propose corrections of masks nobody looked at.

        Args:
            view: All masks of the project.
            answered: (n,) rows of the masks answered in this round.
            classes: (n,) class each carries now, VOID for none.
        """
        return Changes.none()


METHODS: dict[str, type[Method]] = {}
"""Methods by name: those of this package, and those of other packages once `load_methods` has been called."""

ENTRY_POINTS = "a2lc.methods"
"""Group of entry points under which other packages announce methods: NAME = "package.module:Class"."""

_M = TypeVar("_M", bound=type[Method])


def register(name: str, *, paper: str, summary: str) -> Callable[[_M], _M]:
    """Return a class decorator that makes a method known by a name."""

    def add(method: _M) -> _M:
        method.name, method.paper, method.summary = name, paper, summary
        METHODS[name] = method
        return method

    return add


def load_methods() -> dict[str, type[Method]]:
    """Load the methods that installed packages announce as entry points, and return all methods by name.

    One that cannot be loaded is left out with a warning: nobody asked for that one.
    """
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name not in METHODS:
            try:
                METHODS[entry.name] = _import_method(entry.value, entry.name)
            except ConfigError as error:
                warnings.warn(str(error), stacklevel=2)
    return METHODS


def find_method(name: str) -> type[Method]:
    """Return a method by its name, or by where its class is: `package.module:Class`.

    Raises:
        UnknownNameError: There is no method of that name.
        ConfigError: The class cannot be imported, or is not a method.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" in name:
        METHODS[name] = _import_method(name, name)
        return METHODS[name]
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name == name:
            METHODS[name] = _import_method(entry.value, name)
            return METHODS[name]
    try:
        return METHODS[require_known("method", name, load_methods())]
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} A class of your own is named package.module:Class.") from None


def _import_method(place: str, name: str) -> type[Method]:
    """Import a class and see that it is a method."""
    loaded = import_named(place, f"method {name!r}")
    if not (isinstance(loaded, type) and issubclass(loaded, Method)):
        raise ConfigError(f"method {name!r}: {place} is no class that derives from a2lc.methods.Method.")
    if not ("__dataclass_fields__" in loaded.__dict__ and loaded.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        # Without its own decorator a class would have the settings of its parent, and no others.
        raise ConfigError(f"method {name!r}: decorate {place} with @dataclass(frozen=True, kw_only=True).")
    method: type[Method] = loaded
    if "name" not in method.__dict__:
        method.name = name
    for attribute, default in (("paper", place), ("summary", (method.__doc__ or place).strip().splitlines()[0])):
        if attribute not in method.__dict__:  # those of a parent are about the parent
            setattr(method, attribute, default)
    return method


def create_method(name: str, settings: dict[str, Any] | None = None) -> Method:
    """Create a method with settings other than its defaults.

    Args:
        name: Of the method, or `package.module:Class`.
        settings: Values by the names of its fields.

    Raises:
        UnknownNameError: There is no such method, or no such setting of it.
        ConfigError: A setting has a value that does not fit.
    """
    method = find_method(name)
    known = [field.name for field in fields(method)]  # type: ignore[arg-type]
    for key in settings or {}:
        require_known(f"setting of method {name!r}:", key, known)
    try:
        made: Method = TypeAdapter(method).validate_python(settings or {})
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        if isinstance(own, A2LCError):  # a method's own check, wrapped
            raise own from None
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"method {name!r}: {key}: {first['msg']}, found {first['input']!r}.") from None
    if made.acquisition:
        require_known("acquisition function", made.acquisition, ACQUISITIONS)
    return made
