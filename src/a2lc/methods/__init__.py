"""Methods: one a page, composed of the parts above."""

from a2lc.methods import (  # noqa: F401 - they register
    a2lc,
    alc,
    amss,
    baselines,
    classbal,
    cleanlab,
    gain,
    mulactseg,
    plar,
)
from a2lc.methods.base import METHODS, Method, create_method

__all__ = ["METHODS", "Method", "create_method"]
