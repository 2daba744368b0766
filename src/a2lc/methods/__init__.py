"""Methods: one a page, composed of the parts above."""

from a2lc.methods import a2lc, alc, amss, baselines, classbal, cleanlab, mulactseg, plar  # noqa: F401 - they register
from a2lc.methods.base import METHODS, Method, create_method

__all__ = ["METHODS", "Method", "create_method"]
