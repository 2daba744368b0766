"""Methods of active label correction, one module each, composed of the other packages."""

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
from a2lc.methods.base import METHODS, Method, create_method, find_method, load_methods, register
from a2lc.methods.batches import BatchMethod, BatchSession

__all__ = [
    "METHODS",
    "BatchMethod",
    "BatchSession",
    "Method",
    "create_method",
    "find_method",
    "load_methods",
    "register",
]
