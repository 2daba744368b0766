"""Put a complete set of new masks in place of the old ones, safe against a kill at any step."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["MADE_MASKS", "swap_is_pending", "swap_masks"]

MADE_MASKS = ".masks.made"
"""Folder in a project with new masks, and labels if they are new too, complete, that are about to replace the old ones."""


def swap_is_pending(folder: Path) -> bool:
    """Whether a process was killed while new masks replaced old ones."""
    return (folder / MADE_MASKS).is_dir()


def swap_masks(folder: Path) -> None:
    """Move new masks and their tables, complete in their folder, over the old ones; the caller holds the lock.

    New initial labels, if the folder has any, replace the old ones as well. Each step may be the last of a killed process:
    the next one that opens the project takes the steps left.

    Args:
        folder: Of the project.
    """
    made = folder / MADE_MASKS
    for kind in ("labels", "masks"):
        if (made / kind).is_dir():
            if (folder / kind).exists():
                shutil.rmtree(folder / kind)
            os.replace(made / kind, folder / kind)
    for name in ("truth.parquet", "pseudo.json", "masks.parquet", "masks.json"):
        if (made / name).is_file():
            os.replace(made / name, folder / "tables" / name)
    made.rmdir()
