"""Values of label maps: those that are no class, classes without a pixel, and how much is void."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from a2lc.doctor.diagnosis import Case, Finding, ValueCount, describe_finding, slug
from a2lc.doctor.evidence import Evidence
from a2lc.doctor.remedies import Remedy
from a2lc.errors import InputError, first_names
from a2lc.formats.reading import void_value

__all__ = ["check", "check_set"]

_SMOOTH = 0.8
"""Share of unknown values between two others above which a map was smoothed."""

_VOID_SHARE = 0.5
"""Share of void pixels above which someone should look."""

_MOST_PAIRS = 32
"""Number of unknown values up to which a value map is proposed."""


@dataclass(frozen=True, kw_only=True)
class _Explanation:
    """Why values are unknown.

    Attributes:
        text: The reason, for the message; "" if none is likely.
        fix: What to do.
        remedies: Options that do it.
        stretched: Whether ids were multiplied, so that no new ignore value is proposed.
    """

    text: str
    fix: str
    remedies: tuple[Remedy, ...] = ()
    stretched: bool = False


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report values that are no class, values that may mean two things, classes on no pixel, and the share of void."""
    if evidence.classes is None:
        return
    yield from _binary(evidence)
    new_ignore = _other_ignore(evidence)
    for what in ("labels", "ground truth"):
        case = evidence.cases.get(f"values:{what}")
        if case is None:
            continue
        explanation = _explain(evidence, what, case, new_ignore)
        if explanation.stretched:
            new_ignore = None
        yield describe_finding(
            f"{slug(what)}-values",
            "fault",
            (
                f"{what} contain {len(case.pixels):,} values that are neither a class nor the ignore value "
                f"({evidence.classes.ignore}): {sum(case.pixels.values()):,} pixels in {case.count:,} files.{explanation.text}"
            ),
            case,
            values=case.values(),
            fix=explanation.fix,
            remedies=explanation.remedies,
        )
    if evidence.seen.total():
        yield from _missing_classes(evidence)
        yield from _void_share(evidence)


def _read_as(value: int, becomes: int) -> Remedy:
    return Remedy(option="value_map", value={value: becomes})


def _binary(evidence: Evidence) -> Iterator[Finding]:
    """Report labels of 0 and 255 alone, where 255 is the ignore value but may mean an object."""
    classes, values = evidence.classes, set(evidence.seen)
    assert classes is not None
    if evidence.kinds["drawn"]:
        return  # annotations say what is void
    if values != {0, 255} or classes.ignore != 255 or 255 in evidence.options.value_map or 0 not in classes.file_values:
        return
    other = next((value for value in classes.file_values if value), None)
    fix = f"Choose: {_read_as(255, 255).setting} if it means no class."
    if other is not None:
        name = classes.names[classes.file_values.index(other)]
        fix = (
            f"{fix.removesuffix('.')}, {_read_as(255, other).setting} if it is {name!r}. The option below reads "
            "it as an object."
        )
    yield Finding(
        code="labels-binary",
        level="fault",
        message="The labels contain only 0 and 255, and 255 is the ignore value; it may mean an object, or no class.",
        count=evidence.label_maps,
        values=evidence.counts(sorted(values)),
        fix=fix,
        remedies=(_read_as(255, 255 if other is None else other),),
    )


def _other_ignore(evidence: Evidence) -> int | None:
    """Return the one unknown value of the labels, if it can take the place of an ignore value that is nowhere."""
    classes, case = evidence.classes, evidence.cases.get("values:labels")
    assert classes is not None
    if case is None or len(case.pixels) != 1 or evidence.options.ignore is not None:
        return None
    if evidence.seen[classes.ignore] or classes.ignore in evidence.seen_truth:
        return None
    # What is read as another value keeps what that stands for.
    own = {value for value, becomes in evidence.options.value_map.items() if becomes == classes.ignore}
    if own - evidence.found.void_values or classes.ignore in evidence.options.value_map:
        return None
    return int(next(iter(case.pixels)))


def _explain(evidence: Evidence, what: str, case: Case, new_ignore: int | None) -> _Explanation:
    """Return why values may be unknown, what fixes it, and the options that do.

    Args:
        evidence: Of the whole data set.
        what: `labels` or `ground truth`.
        case: The files with unknown values.
        new_ignore: The ignore value that is proposed for the labels, if one is.
    """
    classes, seen = evidence.classes, {*evidence.seen, *case.pixels}
    assert classes is not None
    values, ids = sorted(case.pixels), classes.file_values
    if max(values) >= 1000 and any(value >= 1000 and value // 1000 in ids for value in values):
        return _Explanation(
            text=" They look like instance ids, class * 1000 + number.",
            fix="Use the label files (such as _labelIds), not the instance files.",
        )
    step = _step(sorted(seen - {classes.ignore}) if classes.ignore not in seen else sorted(seen))
    if step is not None and len(seen) <= len(ids) + 1 and set(ids) >= set(range(len(seen))):
        return _Explanation(
            text=f" All values are multiples of {step}, so the ids were probably stretched to make them visible.",
            fix="Read each value as its position in the sequence.",
            remedies=tuple(_read_as(value, place) for place, value in enumerate(sorted(seen)) if value != place),
            stretched=True,
        )
    enough = len(values) <= _MOST_PAIRS
    to_void = _to_void(values, classes.ignore, new_ignore if what != "labels" else None) if enough else ()
    if evidence.smooth and float(np.mean(evidence.smooth)) > _SMOOTH and len(values) > 2:
        return _Explanation(
            text=" They lie between two other values at borders, so the maps were resized with smoothing.",
            fix=(
                "Create them again with nearest-neighbour interpolation; the option below makes such pixels unlabeled."
            ),
            remedies=to_void,
        )
    if values == [max(ids) + 1] and min(ids) == 0 and 0 not in evidence.seen:
        return _Explanation(
            text=f" Values run from 1 to {max(ids) + 1}, but ids start at 0, so the values were counted from 1.",
            fix="Give the classes ids from 1 in the classes file (`id`).",
        )
    if new_ignore is not None and what == "labels":
        return _Explanation(
            text=f" No pixel has the ignore value {classes.ignore}.",
            fix=f"If {new_ignore} means no class, set it as the ignore value; if it is a class, add it to the classes file.",
            remedies=(Remedy(option="ignore", value=new_ignore),),
        )
    return _Explanation(
        text="",
        fix="Add them to the classes file, or read them as other values"
        + ("; the options below make them unlabeled." if enough else " with `value_map`."),
        remedies=to_void,
    )


def _to_void(values: list[int], ignore: int, new_ignore: int | None) -> tuple[Remedy, ...]:
    """Return what reads values as the ignore value, which is another one if `new_ignore` is given."""
    first = () if new_ignore is None else (Remedy(option="ignore", value=new_ignore),)
    void = ignore if new_ignore is None else new_ignore
    return (*first, *(_read_as(value, void) for value in values if value != void))


def _step(values: list[int]) -> int | None:
    """Return the step of values that are 0, step, 2 step, ..; None if they are not, or the step is 1."""
    if len(values) < 2 or values[0] != 0 or values[1] < 2:
        return None
    steps = {second - first for first, second in pairwise(values)}
    return values[1] if steps <= {values[1], values[1] + 1} else None


def _missing_classes(evidence: Evidence) -> Iterator[Finding]:
    classes = evidence.classes
    assert classes is not None
    read = {evidence.read_as(value) for value in evidence.seen}
    pairs = zip(classes.names, classes.file_values, strict=True)
    missing = [f"{name!r} ({value})" for name, value in pairs if value not in read]
    if missing:
        yield Finding(
            code="class-missing",
            level="doubt",
            message=f"{len(missing)} of {classes.num_classes} classes have no pixels: {first_names(missing)}.",
            count=len(missing),
            values=tuple(ValueCount(value=name, pixels=0, files=0) for name in missing[:12]),
            fix="Check whether their values match the classes file.",
        )


def _void_share(evidence: Evidence) -> Iterator[Finding]:
    classes = evidence.classes
    assert classes is not None
    void = sum(pixels for value, pixels in evidence.seen.items() if evidence.read_as(value) == classes.ignore)
    share = void / evidence.seen.total()
    if share > _VOID_SHARE:
        files = evidence.seen_files[classes.ignore]
        yield Finding(
            code="void-share",
            level="doubt",
            message=f"{share:.1%} of all label pixels are unlabeled.",
            values=(ValueCount(value=str(classes.ignore), pixels=void, files=files),),
            fix=f"Check whether {classes.ignore} means no class; if another value does, set `ignore` to it.",
        )
    elif void:
        yield Finding(
            code="void-share", level="note", message=f"{share:.1%} of all label pixels are unlabeled ({void:,})."
        )


def check_set(evidence: Evidence) -> Iterator[Finding]:
    """Report that images without labels have no value for void, and that there are no classes to check values by."""
    if evidence.classes is not None and evidence.usable_unlabelled:
        try:
            void_value(evidence.classes, evidence.options)
        except InputError as error:
            yield Finding(
                code="no-void", level="fault", message=str(error), fix="Use another value for unlabeled pixels."
            )
    if evidence.classes is None and (not evidence.layout_error or evidence.sources.format == "folder"):
        values = ", ".join(f"{value} ({pixels:,})" for value, pixels in evidence.seen.most_common(12))
        yield Finding(
            code="no-classes",
            level="fault",
            message=(
                f"No classes are named, and format {evidence.sources.format!r} does not define any, so no value could "
                "be checked"
            )
            + (f"; values and pixels: {values}." if values else "."),
            fix="Set `classes` to a file, or to names separated by commas.",
        )
