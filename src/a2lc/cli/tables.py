"""Tables that commands print."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from a2lc.cli.console import print_line

__all__ = ["format_figure", "format_table", "print_status"]


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: Collection[str] = ()) -> str:
    """Return a table as lines of text, its columns aligned to the right but for those that `left` names.

    Example:
        >>> print(format_table(("method", "clicks"), [("gain", "280")], left=("method",)))
        method  clicks
        gain       280
    """
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["<" if name in left else ">" for name in header]
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)).rstrip()
        for line in lines
    )


def print_status(found: dict[str, Any]) -> None:
    """Print the result of `project_status`: a table of rounds, what runs next, and the estimated label quality."""
    header = (
        "round",
        "method",
        "clicks",
        "answers",
        "manual",
        "automatic",
        "precision",
        "data mIoU",
        "of all",
        "coverage",
        "pixel acc.",
        "model mIoU",
        "seconds",
    )
    rows = [
        (
            str(row["round"]) + ("" if row["finished"] else "*"),
            row["method"],
            f"{row['clicks']:g}",
            str(row["answered"]),
            str(row["manual_changed"]),
            str(row["automatic_changed"]),
            format_figure(row["automatic_precision"]),
            format_figure(row["data_miou"]),
            format_figure(row["data_miou_of_all"]),
            format_figure(row["coverage"]),
            format_figure(row["pixel_accuracy"]),
            format_figure(row["model_miou"]),
            f"{sum(row['seconds'].values()):.0f}",
        )
        for row in found["rounds"]
    ]
    print_line(format_table(header, rows, left=("method",)))
    print_line(
        f"{found['images']:,} images, {found['masks']:,} masks; next: round {found['next']['round']}, {found['next']['stage']}"
    )
    audited = [row["quality"] for row in found["rounds"] if row["quality"]]
    if audited and audited[-1]["after"]["audits"]:
        _print_quality(audited[-1])
    if found["undone"] and found["now"]:
        print_line(f"data mIoU after undoing: {format_figure(found['now']['data_miou'])}")


def _print_quality(quality: dict[str, Any]) -> None:
    """Print the label quality that was estimated from audits and answers, without ground truth."""
    after, before = quality["after"], quality["before"]

    def span(interval: dict[str, Any], digits: int = 3) -> str:
        if interval["low"] is None or interval["high"] is None:
            return "undefined"
        middle = interval["estimate"]
        ends = f"{interval['low']:,.{digits}f} to {interval['high']:,.{digits}f}"
        return ends if middle is None else f"{middle:,.{digits}f} ({ends})"

    sure, audits = after["confidence"], after["audits"]
    print_line(
        f"label quality per mask, from {audits} audits of round {quality['round']}, with {sure:.0%} intervals: pixel accuracy "
        f"{span(after['pixel_accuracy'])}, mean IoU {span(after['miou'])}; initial labels {span(before['pixel_accuracy'])} and "
        f"{span(before['miou'])}"
    )
    if quality["true"]:
        now = quality["true"]["after"]
        print_line(
            f"measured against ground truth: pixel accuracy {now['pixel_accuracy']:.3f}, mean IoU {now['miou']:.3f}"
        )
    print_line(f"wrong masks remaining: {span(after['wrong_masks'], 0)}")
    gain = quality["next"]["gain"]
    if gain["estimate"] is not None:
        print_line(
            f"the next {quality['next']['questions']} questions would raise the mean IoU by about {gain['estimate']:.2f} points, "
            f"and by at most {gain['high']:.2f}"
        )
    if quality["error_rate"] is not None:
        print_line(f"estimated error rate of answers, from {quality['gold']} repeats: {quality['error_rate']:.1%}")
    if quality["edited"]:
        print_line("these figures use the classes of that round, which have been edited since")
    if quality["undone"]:
        print_line("these figures describe the end of that round; corrections have been undone since")
    if quality["agreement"]["informative"] is False and quality["agreement"]["right"] > quality["agreement"]["chance"]:
        print_line("audits do not yet show that the initial labels are right more often than chance")
    elif quality["agreement"]["informative"] is False:
        print_line(
            f"warning: the initial labels agree with the answers no more often than chance ({quality['agreement']['right']:.2f} "
            f"against {quality['agreement']['chance']:.2f}), so they say nothing about the true classes"
        )


def format_figure(value: float | None) -> str:
    """Format a figure with four decimals, or `-` if there is none."""
    return "-" if value is None else f"{value:.4f}"
