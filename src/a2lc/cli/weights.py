"""Show which pretrained weights a command needs, and obtain them once their licence and download are agreed to."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import typer

from a2lc.cli.console import print_line

if TYPE_CHECKING:
    from a2lc.weights.catalogue import Weights
    from a2lc.weights.files import Ready

__all__ = ["obtain_weights"]


def obtain_weights(found: Sequence[Weights], download: bool, accepted: Collection[str] | None) -> list[Ready]:
    """Check the licences of weights, print what they are, and find or download their files.

    Args:
        found: Weights that a command needs.
        download: Download what is not on this machine; otherwise a person at a terminal is asked.
        accepted: Names of weights whose licence the user accepts.

    Raises:
        InputError: A licence was not accepted, or a download failed.
        MissingFileError: Files are not here and may not be downloaded.
        MissingExtraError: The library of the weights is not installed.
    """
    from a2lc.weights.catalogue import check_license, describe
    from a2lc.weights.files import obtain

    for weights in found:
        check_license(weights, accepted or [])
    for weights in found:
        print_line(describe(weights))

    def ask(weights: Weights) -> bool:
        return sys.stdin.isatty() and typer.confirm(f"Download {weights.name}?", err=True)

    return [obtain(weights, download=download, ask=ask) for weights in found]
