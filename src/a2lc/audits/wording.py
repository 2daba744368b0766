"""Word guarantees and label quality the same way in the log, the report and the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["describe_guarantee", "promise_sentence", "rounded_down"]


def describe_guarantee(details: dict[str, Any]) -> str:
    """What the stage `correct` did, in a line: the changes and what is promised of them."""
    if "promise" not in details:
        return "no automatic corrections: nothing was audited"
    promise, sure = details["promise"], f"with {details['promise']['confidence']:.0%} confidence"
    line = f"{details['automatic'] - details['withdrawn']} automatic corrections"
    if details["withdrawn"]:
        line += f", {details['withdrawn']} withdrawn"
    if promise.get("kept"):
        line += f"; {promise['kept']} of earlier rounds stand by their audits, against which none speaks since"
    left_out = promise.get("left_out", 0)
    if left_out:
        line += f", {left_out} left out by hand"
    if not promise["accepted"]:
        return f"{line}; {promise['proposed']} proposed: {promise['reason'] or 'nothing to change'}"
    # What was changed in earlier rounds and is proved again is part of it, and what was left out as well.
    line += f"; {promise['accepted']} masks nobody looked at "
    line += "would differ" if left_out else "differ now"
    line += f" from their first labels{' with those left out' if left_out else ''}: "
    sure += f", by {promise['audits']} audits"
    if promise["kind"] == "precision":
        return f"{line}at least {rounded_down(promise['lower'], 2)} of them are right, {sure}"
    return f"{line}that raises the mean IoU by at least {rounded_down(promise['lower'], 3)}, {sure}"


def rounded_down(value: float, digits: int) -> str:
    """What is promised is never more than what was proved."""
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def promise_sentence(promise: Mapping[str, Any]) -> str:
    """What audits promise of changes that nobody looked at, in sentences.

    Example:
        >>> promise_sentence({"proposed": 3, "accepted": 0, "confidence": 0.95, "reason": "no audits"})
        '3 automatic changes were proposed and none was accepted: no audits.'
        >>> promise_sentence({"proposed": 0, "accepted": 0, "confidence": 0.95, "reason": "no proposals"})
        'No automatic change was proposed.'
    """
    proposed, accepted, reason = promise["proposed"], promise["accepted"], promise["reason"]
    if reason == "switched off":
        return "Automatic changes are switched off."
    if not proposed:
        return "No automatic change was proposed."
    line = f"{proposed:,} automatic change{' was' if proposed == 1 else 's were'} proposed and "
    kept = ""
    if promise.get("kept"):
        kept = (
            f" {promise['kept']:,} of earlier rounds stand by the audits of then: no audit speaks against them since."
        )
    if promise.get("left_out"):
        kept += f" {promise['left_out']:,} were left out by hand: what is promised is of all of them."
    if not accepted:
        reason = "too few audits" if reason == "too few" else reason or "all of them were asked about"
        asked = (
            f" At least {promise['asked']:.2f} of them had to be right." if promise.get("kind") == "precision" else ""
        )
        return f"{line}none was accepted: {reason}.{asked}{kept}"
    sure = f"with {promise['confidence']:.0%} confidence, by {promise['audits']} audits"
    found = "" if promise["estimate"] is None else f" (estimate {promise['estimate']:.3f})"
    if promise["kind"] == "precision":
        asked = f"; at least {promise['asked']:.2f} had to be"
        low = rounded_down(promise["lower"], 3)
        return f"{line}{accepted:,} accepted. At least {low} of these are right{found}{asked}, {sure}.{kept}"
    return (
        f"{line}{accepted:,} accepted. Against the first labels of these masks they raise the mean IoU by at least "
        f"{rounded_down(promise['lower'], 3)}{found}, {sure}. The effect is added up "
        f"change by change, so where many change it is near, not exact.{kept}"
    )
