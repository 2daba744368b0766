"""The negative numbers that stand beside class indices, no two alike.

Class indices are 0 .. K - 1. Arrays of classes may also hold these. `VOID`, `FIRST` and `KEEP` are written to files and
to the ledger, so their values never change; `UNKNOWN` and `NO_ANSWER` had other values up to version 0.1.0, which
`a2lc.audits.tables.FrozenTable` translates when it reads such a file.
"""

from __future__ import annotations

__all__ = ["FIRST", "KEEP", "NO_ANSWER", "UNKNOWN", "VOID"]

VOID = -1
"""No class: what the ignore value of label files becomes in arrays of class indices."""

FIRST = -2
"""In `MaskState.classes`: the mask carries its initial labels, whatever they are."""

KEEP = -3
"""In pixel-level labels: the pixel keeps what its mask carries."""

UNKNOWN = -4
"""In arrays of true classes: nobody has answered for the mask, or ground truth has no pixel of it."""

NO_ANSWER = -5
"""In a frozen table: someone was asked about the mask and named no class."""
