"""What a method answers, and the registry of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from a2lc.acquisition.functions import ACQUISITIONS, score
from a2lc.errors import A2LCError, ConfigError, require_known
from a2lc.records import Changes, Inspection, PixelView, QueryKind, RoundView
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["METHODS", "Method", "create_method", "register"]


Labeller = Callable[[int], "NDArray[np.int32] | None"]
"""From an image to (H, W) labels of single pixels: class, VOID, or KEEP where it says nothing; None for nothing at all."""

MaskColumns = Callable[[int, Inspection, MaskStats, NDArray[Any]], dict[str, NDArray[Any]]]
"""From an image, what the network says of it, its M mask statistics and its (H, W) mask ids to (M,) or (M, D) columns by name."""


class Method:
    """A method of active label correction: how masks are ranked, what is asked, and what answers are spread to.

    Subclasses are frozen dataclasses whose fields are the method's settings, so that they are checked, printed and
    kept with every round.

    Attributes:
        name: As the command line has it.
        paper: Where it comes from.
        summary: One line.
        starts: Labels it is made for: `pseudo` (all images, doubtful), `nothing`, or `subset` (some images, trusted).
        head: Classifier of the network it trains: `linear`, `cosine` or `error`.
        training: What its networks are trained on: `labels`, or `semi` for unlabelled pixels as well.
        needs_totals: Its scores need sums over the whole pool.
        whole_pool: Its scores need all masks at once: they are handed to it in one piece.
        extra_columns: Columns it adds to the statistics of masks.
        columns_by_settings: Whether its settings decide what those hold.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    summary: ClassVar[str]
    starts: ClassVar[str] = "pseudo"
    head: ClassVar[str] = "linear"
    training: ClassVar[str] = "labels"
    needs_totals: ClassVar[bool] = False
    whole_pool: ClassVar[bool] = False
    extra_columns: ClassVar[tuple[str, ...]] = ()
    columns_by_settings: ClassVar[bool] = True
    acquisition: str = ""

    @property
    def asks_in_batches(self) -> bool:
        """Whether questions are chosen a batch at a time, each after the answers to the last (see `a2lc.asking`)."""
        return False

    @property
    def query_kind(self) -> QueryKind:
        """What a question asks."""
        return QueryKind.CORRECTION

    @property
    def remembers(self) -> bool:
        """Whether a mask that was asked about is never asked about again."""
        return True

    @property
    def overshoots(self) -> bool:
        """Whether the answer that passes the budget is still taken, where answers differ in clicks."""
        return False

    @property
    def gates(self) -> bool:
        """Whether the oracle keeps masks that are mostly right, though it is asked about one pixel."""
        return False

    @property
    def trains_regions(self) -> bool:
        """Whether a network is first trained on the classes of regions, to label their pixels (see `labeller`)."""
        return False

    def region_losses(self) -> dict[str, Any]:
        """How that network is trained: arguments of `a2lc.training.tasks.regions`."""
        return {}

    @property
    def labels_pixels(self) -> bool:
        """Whether it gives labels below the mask."""
        return False

    @property
    def pixels_by_hand(self) -> bool:
        """Whether all of those labels are pixel labels that came with answers."""
        return False

    @property
    def trusts_first_labels(self) -> bool:
        """Whether first labels count as given, where the networks tell given labels from others."""
        return True

    def labeller(self, view: PixelView) -> Labeller:
        """What labels single pixels, once answers are in; each round's labels take the place of the last one's."""
        return lambda image: None

    def mask_columns(self, view: PixelView) -> MaskColumns:
        """What adds columns to the statistics of an image's masks, while its probabilities are at hand.

        A column `region` joins masks: those of one number are asked about as one.
        """
        return lambda image, inspection, stats, mask_map: {}

    def columns(self) -> frozenset[str]:
        """Fields of `MaskStats` that `score` reads."""
        return ACQUISITIONS[self.acquisition].columns

    def score(self, view: RoundView) -> NDArray[np.float64]:
        """(M,) scores of the masks in view, higher asked first; masks asked before are left out by the caller."""
        return score(self.acquisition, view.stats, seed=view.seed)

    @property
    def corrects(self) -> bool:
        """Whether the method changes masks nobody looked at."""
        return False

    def propagate(self, view: RoundView, answered: NDArray[Any], classes: NDArray[Any]) -> Changes:
        """Changes for masks nobody looked at.

        Args:
            view: All masks of the project.
            answered: (n,) rows of the masks answered in this round.
            classes: (n,) class each carries now, VOID for none.
        """
        empty = np.empty(0)
        return Changes(rows=empty.astype(np.int64), classes=empty.astype(np.int32), confidences=empty)


METHODS: dict[str, type[Method]] = {}
"""Methods by name."""

_M = TypeVar("_M", bound=type[Method])


def register(name: str, *, paper: str, summary: str) -> Callable[[_M], _M]:
    """Make a method known by a name."""

    def add(method: _M) -> _M:
        method.name, method.paper, method.summary = name, paper, summary
        METHODS[name] = method
        return method

    return add


def create_method(name: str, settings: dict[str, Any] | None = None) -> Method:
    """A method by name, with settings other than its defaults.

    Raises:
        UnknownNameError: There is no such method, or no such setting of it.
        ConfigError: A setting has a value that does not fit.
    """
    method = METHODS[require_known("method", name, METHODS)]
    known = [field.name for field in fields(method)]  # type: ignore[arg-type]
    for key in settings or {}:
        require_known(f"setting of method {name!r},", key, known)
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
