"""An annotator's answer as corrections of masks (pure)."""

from __future__ import annotations

from a2lc.classes.sentinels import FIRST, VOID
from a2lc.errors import InputError
from a2lc.records import Answer, AnswerKind, Query

__all__ = ["answered_class", "check_answer", "manual_corrections"]


def check_answer(answer: Answer, num_classes: int) -> None:
    """Refuse an answer that says nothing definite.

    Raises:
        InputError: The classes do not fit the kind, or are no classes of the project.
    """
    bad = [c for c in answer.classes if not 0 <= c < num_classes]
    if bad:
        raise InputError(f"Class {bad[0]} in an answer is not one of the {num_classes} classes.")
    count = len(answer.classes)
    if answer.kind in {AnswerKind.CONFIRM, AnswerKind.CORRECT} and count != 1:
        raise InputError(f"An answer {answer.kind.value!r} needs exactly one class, found {count}.")
    if answer.kind == AnswerKind.CLASSES and count == 0:
        raise InputError("An answer 'classes' needs at least one class.")
    if answer.kind in {AnswerKind.VOID, AnswerKind.SKIP, AnswerKind.MIXED} and count:
        raise InputError(f"An answer {answer.kind.value!r} has no class, found {count}.")


def answered_class(answer: Answer) -> int | None:
    """Return the one class an answer gives the whole mask: a class, VOID, or None if it gives none or labels pixels."""
    if answer.pixels is not None:
        return None
    if answer.kind == AnswerKind.VOID:
        return VOID
    single = answer.kind in {AnswerKind.CONFIRM, AnswerKind.CORRECT}
    if single or (answer.kind == AnswerKind.CLASSES and len(answer.classes) == 1):
        return answer.classes[0]
    return None


def manual_corrections(
    query: Query, answer: Answer, standing: dict[int, int], before: dict[int, int] | None = None
) -> list[tuple[int, int, int, int]]:
    """Derive the corrections that follow from an answer.

    Keeping a class changes nothing, so a mask that carries its first labels keeps them to the pixel. Where an
    earlier correction stands, keeping it is written down as the person's own, so that undoing the earlier one
    does not take away what a person has confirmed. An answer that takes the place of another first takes back what
    that one changed.

    Args:
        query: The question.
        answer: The reply.
        standing: For each mask of the question, the class it was corrected to, or FIRST.
        before: For masks that replaced answers changed, what they carried before those.

    Returns:
        Rows of (image, mask id, old class, new class).
    """
    wanted = answered_class(answer)
    before = before or {}
    rows = []
    for mask in query.mask_ids:
        old = standing[mask]
        base = before.get(mask, old)
        if wanted is None or (answer.kind == AnswerKind.CONFIRM and base == FIRST):
            if base != old:
                rows.append((query.image, mask, old, base))
            continue
        rows.append((query.image, mask, old, wanted))
    return rows
