"""Methods: one a page, composed of the parts above."""

from a2lc.methods import a2lc, alc, baselines  # noqa: F401 - they register themselves
from a2lc.methods.base import METHODS, Method, create_method

__all__ = ["METHODS", "Method", "create_method"]
