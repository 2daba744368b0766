"""Word the guarantee on automatic corrections: as a line for the log and the page, and as sentences for the report.

The figures come from the ledger as `promise`, see `a2lc.rounds.status.label_quality`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["guarantee_line", "guarantee_sentences", "rounded_down"]


def guarantee_line(details: Mapping[str, Any]) -> str:
    """Summarise the stage `correct` in one line: the automatic corrections and their guarantee.

    Args:
        details: What the stage recorded: `automatic`, `withdrawn`, and `promise` if the round was audited.
    """
    if "promise" not in details:
        return "no automatic corrections: nothing was audited"
    promise = details["promise"]
    sure = f"with {promise['confidence']:.0%} confidence, by {promise.get('audits', 0)} audits{_allowing(promise)}"
    line = f"{details['automatic'] - details['withdrawn']} automatic corrections"
    if details["withdrawn"]:
        line += f", {details['withdrawn']} withdrawn"
    if promise.get("kept"):
        line += f"; {promise['kept']} from earlier rounds kept, as no later audit contradicts them"
    left_out = promise.get("left_out", 0)
    if left_out:
        line += f", {left_out} excluded in review"
    return line + _proved(promise, left_out, sure) + _expected(promise)


def _proved(promise: Mapping[str, Any], left_out: int, sure: str) -> str:
    """Say in half a line what is proved."""
    if not promise["accepted"]:
        return f"; {promise['proposed']} proposed: {promise['reason'] or 'nothing to correct'}"
    # The guarantee includes corrections of earlier rounds that were proved again, and those that were left out.
    line = f"; {promise['accepted']} masks without an answer "
    line += "would differ" if left_out else "differ"
    line += f" from their initial labels{' with the excluded ones' if left_out else ''}: "
    if promise["kind"] == "precision":
        return f"{line}at least {rounded_down(promise['lower'], 2)} of them are right, {sure}"
    if promise["lower"] <= 0:
        return f"{line}not yet shown to help ({promise['audits']} audits)"
    return f"{line}the mean IoU rises by at least {rounded_down(promise['lower'], 3)}, {sure}"


def _expected(promise: Mapping[str, Any]) -> str:
    """Say in half a line what is made without a proof."""
    count = promise.get("not_proven", 0)
    if not count:
        return ""
    return f"; {count} corrections are made that are not proven to help, {_expectation(promise)}"


def _expectation(promise: Mapping[str, Any]) -> str:
    """Say what corrections without a proof are expected to do."""
    if promise.get("kind") == "precision" and promise["asked_for"] == "expected":
        return f"of which {promise['expected']:.2f} are expected to be right"
    by = "posterior and audits" if promise["asked_for"] == "expected" else "the posterior alone"
    return f"expected by {by} to raise the mean IoU by {promise['expected']:.3f}"


def _allowing(promise: Mapping[str, Any]) -> str:
    """Say how many wrong answers a guarantee allows for, where repeats show that there are some."""
    wrong = promise.get("wrong_answers", 0.0)
    return f", allowing for {math.ceil(1000 * wrong) / 10:.1f}% wrong answers" if wrong > 0 else ""


def rounded_down(value: float, digits: int) -> str:
    """Format a lower bound, rounded down so that no more is guaranteed than was proved.

    A positive bound never reads as zero: a small one has as many digits as its first that is not zero.

    Example:
        >>> rounded_down(0.0129, 3), rounded_down(0.00047, 3), rounded_down(-0.0001, 3)
        ('0.012', '0.0004', '-0.001')
    """
    if 0 < value < 10**-digits:
        digits = math.ceil(-math.log10(value))
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def guarantee_sentences(promise: Mapping[str, Any]) -> str:
    """Word the guarantee on automatic corrections in sentences.

    Args:
        promise: The figures of the ledger.

    Example:
        >>> guarantee_sentences({"proposed": 3, "accepted": 0, "confidence": 0.95, "reason": "no audits"})
        '3 automatic corrections were proposed and none was accepted: no audits.'
        >>> guarantee_sentences({"proposed": 0, "accepted": 0, "confidence": 0.95, "reason": "no proposals"})
        'No automatic correction was proposed.'
    """
    proposed, accepted, reason = promise["proposed"], promise["accepted"], promise["reason"]
    if reason == "switched off":
        return "Automatic corrections are switched off."
    if not proposed:
        return "No automatic correction was proposed."
    line = f"{proposed:,} automatic correction{' was' if proposed == 1 else 's were'} proposed and "
    kept = ""
    if promise.get("not_proven"):
        kept = f" {promise['not_proven']:,} are made all the same, not proven to help, {_expectation(promise)}."
    if promise.get("kept"):
        kept += f" {promise['kept']:,} from earlier rounds are kept; no later audit contradicts them."
    if promise.get("left_out"):
        kept += f" {promise['left_out']:,} were excluded in review; the guarantee covers them as well."
    if not accepted:
        reason = "too few audits" if reason == "too few" else reason or "all of them were asked about"
        required = (
            f" At least {promise['asked']:.2f} of them must be right." if promise.get("kind") == "precision" else ""
        )
        return f"{line}none was accepted: {reason}.{required}{kept}"
    sure = f"with {promise['confidence']:.0%} confidence, by {promise.get('audits', 0)} audits{_allowing(promise)}"
    estimate = "" if promise["estimate"] is None else f" (estimate {promise['estimate']:.3f})"
    if promise["kind"] == "precision":
        asked = f"; at least {promise['asked']:.2f} must be"
        low = rounded_down(promise["lower"], 3)
        return f"{line}{accepted:,} accepted. At least {low} of these are right{estimate}{asked}, {sure}.{kept}"
    if promise["lower"] <= 0:
        return f"{line}{accepted:,} accepted. They are not yet shown to raise the mean IoU{estimate}, {sure}.{kept}"
    return (
        f"{line}{accepted:,} accepted. Compared with the initial labels of these masks they raise the mean IoU by at least "
        f"{rounded_down(promise['lower'], 3)}{estimate}, {sure}. The effect is summed "
        f"over single corrections, which is an approximation if many masks change.{kept}"
    )
