"""Put a complete set of new masks in place of the old ones, safe against a kill at any step."""

from __future__ import annotations

__all__ = ["MADE_MASKS"]


MADE_MASKS = ".masks.made"
"""Folder in a project with new masks, and labels if they are new too, complete, that are about to take the place of those
there."""
