"""Label and mask maps that hold colours: colour-coded ones, and lossy ones whose colours are blurred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from a2lc.doctor.diagnosis import Case, Finding, ValueCount, colour_name, describe_finding, rgb, slug
from a2lc.doctor.evidence import Evidence
from a2lc.doctor.remedies import Remedy

__all__ = ["check"]

VOC_VOID = (224, 224, 192)
"""Colour of the ignore value in PASCAL VOC's pictures of label maps."""


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report colour-coded and lossy maps, and those that cannot be read at all."""
    for what in ("labels", "masks", "ground truth"):
        unreadable, coded, lossy = (evidence.cases.get(f"{k}:{what}") for k in ("unreadable", "colour-coded", "lossy"))
        if unreadable is not None:
            yield describe_finding(
                f"{slug(what)}-unreadable",
                "doubt" if evidence.options.skip_bad else "fault",
                f"{unreadable.count:,} {what} files cannot be read reliably: {' | '.join(unreadable.reasons)}",
                unreadable,
                fix="Save them as the message says, get them again, or continue without them.",
                remedies=(Remedy(option="skip_bad", value=True),),
            )
        if coded is not None:
            yield _colour_finding(evidence, what, coded)
        if lossy is not None:
            yield _lossy_finding(evidence, what, lossy)


def _lossy_finding(evidence: Evidence, what: str, case: Case) -> Finding:
    text, remedies = _snap(evidence, case) if what != "masks" else ("", ())
    return describe_finding(
        f"{slug(what)}-lossy",
        "fault",
        (
            f"{case.count:,} {what} files are JPEG or WebP, which blur values at every edge (they contain "
            f"{len(case.pixels):,} colours).{text}"
        ),
        case,
        values=case.values(colour_name),
        fix="Find the files as they were before compression"
        + ("; if that is impossible, read each pixel as the nearest known value." if remedies else "."),
        remedies=remedies,
    )


def _snap(evidence: Evidence, case: Case) -> tuple[str, tuple[Remedy, ...]]:
    """Return what is seen in blurred maps, and the options that read them.

    A pixel is read as the nearest known value where that is no guess: nearer than half the way between any two of them.
    """
    if evidence.classes is None:
        return "", ()
    grey = all(code >> 16 == (code >> 8 & 255) == code & 255 for code in case.pixels)
    if grey:
        values = {*evidence.classes.file_values, evidence.classes.ignore, *evidence.options.value_map}
        known = np.array(sorted(value for value in values if value <= 255), dtype=np.int64)[:, None]
        found = np.array([code & 255 for code in case.pixels], dtype=np.int64)[:, None]
    else:
        colours = {*evidence.classes.colours, VOC_VOID}
        known = np.array(sorted(colours), dtype=np.int64)
        found = np.array([(code >> 16, code >> 8 & 255, code & 255) for code in case.pixels], dtype=np.int64)
    if not len(known):
        return "", ()
    away = int(np.abs(found[:, None] - known[None]).max(axis=2).min(axis=1).max(initial=0))
    gaps = np.abs(known[:, None] - known[None]).max(axis=2)
    gap = int(gaps[~np.eye(len(known), dtype=bool)].min(initial=512))
    if 2 * away < gap:
        snap = Remedy(option="snap", value=away)
        return "", (snap,) if grey else (snap, Remedy(option="colours", value=True))
    what = "values" if grey else "colours"
    text = (
        f" Pixels differ by up to {away} from every known value, and known {what} are {gap} apart, so the "
        "nearest one is a guess."
    )
    often = sorted(code & 255 for code, pixels in case.pixels.items() if pixels >= sum(case.pixels.values()) / 100)
    strange = [value for value in often if np.abs(known - value).min() * 2 >= gap] if grey else []
    if strange:
        named = ", ".join(map(str, _peaks(often, case)))
        text += f" Values around {named} are frequent: the ids are stretched, or differ from those of the classes file."
    return text, ()


def _peaks(often: Sequence[int], case: Case) -> list[int]:
    """Return the most frequent value of each run of neighbours among frequent values: blur spreads a value to those beside it."""
    counts: Counter[int] = Counter()
    for code, pixels in case.pixels.items():
        counts[code & 255] += pixels
    runs: list[list[int]] = []
    for value in dict.fromkeys(often):
        if runs and value - runs[-1][-1] <= 4:
            runs[-1].append(value)
        else:
            runs.append([value])
    return [max(run, key=lambda value: counts[value]) for run in runs][:12]


def _colour_finding(evidence: Evidence, what: str, case: Case) -> Finding:
    """Report colour-coded files, by what their colours are."""
    code = f"{slug(what)}-colour-coded"
    red_alone = all(code & 0xFFFF == 0 for code in case.pixels)
    if evidence.classes is None:
        return describe_finding(
            code,
            "fault",
            f"{case.count:,} {what} files are colour-coded; they contain {len(case.pixels):,} colours.",
            case,
            values=case.values(colour_name),
            fix="Name a classes file with the colour of each class, and read the files through it.",
        )
    table = dict(zip(evidence.classes.colours, evidence.classes.names, strict=True))
    table.setdefault(VOC_VOID, "void")
    unknown = {code: pixels for code, pixels in case.pixels.items() if rgb(code) not in table}
    if red_alone and evidence.known is not None and {code >> 16 for code in case.pixels} <= evidence.known:
        return describe_finding(
            code,
            "fault",
            f"{case.count:,} {what} files store ids in the red channel only.",
            case,
            values=case.values(colour_name),
            fix=(
                "Save the red channel as 8-bit grey PNG, or give the classes these colours in the classes file and "
                "set `colours`."
            ),
        )
    if not unknown:
        return describe_finding(
            code,
            "fault",
            f"{case.count:,} {what} files are colour-coded in the colours of the classes.",
            case,
            values=case.values(lambda value: f"{colour_name(value)} {table[rgb(value)]}"),
            fix="Read them through the colours of the classes file.",
            remedies=(Remedy(option="colours", value=True),),
        )
    names = list(table)

    def nearest(value: int) -> str:
        away = [max(abs(a - b) for a, b in zip(rgb(value), colour, strict=True)) for colour in names]
        best = int(np.argmin(away))
        return f"{colour_name(value)}, {away[best]} from {table[names[best]]}"

    few = Counter(unknown).most_common(12)
    return describe_finding(
        code,
        "fault",
        (
            f"{case.count:,} {what} files are colour-coded, and {len(unknown):,} of their {len(case.pixels):,} "
            f"colours are not those of a class: {sum(unknown.values()):,} pixels."
        ),
        case,
        values=tuple(ValueCount(value=nearest(v), pixels=n, files=case.with_value[v]) for v, n in few),
        fix=(
            "Add these colours to the classes file (each with its class, or with the ignore value for unlabeled "
            "pixels), then set `colours`."
        ),
    )
