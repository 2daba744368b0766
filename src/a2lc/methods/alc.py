"""ALC: active label correction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from a2lc.methods.base import Method, QuerySpec, register
from a2lc.records import QueryKind

__all__ = ["ALC"]


@register(
    "alc",
    paper="Kim et al., ICML 2024, arXiv:2403.10820",
    summary=(
        "asks where correcting a pixel, and with it its mask, would remove most doubt (SIM); no automatic corrections"
    ),
)
@dataclass(frozen=True, kw_only=True)
class ALC(Method):
    """Active label correction with foundation models (Kim et al., ICML 2024, arXiv:2403.10820).

    The pool is diversified: of each mask only its most typical pixel can be asked about. That pixel is scored by the doubt
    its answer would remove once expanded to the mask (`sim`; `lcil` and `cil` are the paper's others), and the answer is
    expanded to the whole mask. With `ask="mask"` the answer is the mask's majority class, as in A2LC's comparison; with
    `ask="pixel"` it is the class of that pixel. Differences are listed in docs/methods/alc.md.
    """

    acquisition: str = "sim"
    ask: Literal["mask", "pixel"] = "mask"
    gate: bool = False  # True: the oracle of `ask="pixel"` keeps masks that are mostly right, as coded
    memory: bool = True  # False: masks may be asked about again, as in the released scripts

    @property
    def query(self) -> QuerySpec:
        """Ask whether the mask's class is right, or that of its representative pixel."""
        kind = QueryKind.PIXEL if self.ask == "pixel" else QueryKind.CORRECTION
        return QuerySpec(kind=kind, once=self.memory, gated=self.gate)
