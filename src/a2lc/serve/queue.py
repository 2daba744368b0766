"""The queue of questions that annotators work from."""

from __future__ import annotations

from a2lc.errors import A2LCError, UnknownNameError
from a2lc.records import Query

__all__ = ["NotNowError", "UnknownQuestionError"]


class NotNowError(A2LCError):
    """What was asked for is not possible at this point of a round."""


class UnknownQuestionError(UnknownNameError):
    """There is no such question."""


def likely_class(query: Query) -> int | None:
    """The class a mask would be given unseen: the first suggestion, else the one proposed."""
    return query.suggestions[0] if query.suggestions else query.proposed
