"""ALC: active label correction."""

from __future__ import annotations

from dataclasses import dataclass

from a2lc.methods.base import Method, register

__all__ = ["ALC"]


@register(
    "alc",
    paper="Kim et al., ICML 2024, arXiv:2403.10820",
    summary="asks where a corrected pixel would, expanded to its mask, remove most doubt (SIM); corrects nothing by itself",
)
@dataclass(frozen=True, kw_only=True)
class ALC(Method):
    """Active label correction with foundation models (Kim et al., ICML 2024, arXiv:2403.10820).

    SIM over masks, each represented by its most typical pixel; an answer is expanded to the whole mask. As in
    A2LC's comparison, the answer is the mask's majority class and no mask is asked about twice.
    """

    acquisition: str = "sim"
