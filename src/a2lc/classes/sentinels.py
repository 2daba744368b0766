"""The negative numbers that stand beside class indices, no two alike."""

from __future__ import annotations

__all__ = ["FIRST", "KEEP", "VOID"]


FIRST = -2
"""In `MaskState.classes`: the mask carries its first labels, whatever they are."""


VOID = -1
"""In the ledger: the ignore index."""


KEEP = -3
"""In a layer of labels below the mask: nothing is said of the pixel."""
