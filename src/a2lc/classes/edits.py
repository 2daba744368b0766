"""Classes renamed, merged, split and added while a project runs, without losing an answer (pure).

The ledger and the files of a project speak of classes by **codes**, which never change: 0 .. K - 1 as imported, and the next
number for each class added. Everything else in the package counts the classes there are now, 0 .. K' - 1. A view, replayed
from the edits, translates between the two. So nothing that was recorded is ever rewritten, and an edit can be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable, class_colour, on_one_line
from a2lc.errors import InputError

__all__ = [
    "ClassEdit",
    "ClassView",
    "added",
    "class_change",
    "described",
    "merged",
    "renamed",
    "replay_edits",
    "split",
    "taken_back",
    "view_of",
]


@dataclass(frozen=True, kw_only=True)
class ClassEdit:
    """One edit, a row of the ledger.

    Attributes:
        kind: `rename`, `merge`, `split`, `add` or `undo`.
        codes: The classes it is about: the one renamed, those merged, the one split, the one added.
        details: What else it says: `into` (code) of a merge; `classes` (rows of a classes file) of the names given, the
            first of a split being the new name of the class itself; `edit` (number) of an undo.
        round: The last round there was.
        after: The last question there was.
        number: Its number in the ledger, 0 before it is recorded.
        time: When.
    """

    kind: str
    codes: tuple[int, ...]
    details: dict[str, Any]
    round: int = -1
    after: int = 0
    number: int = 0
    time: str = ""


@dataclass(frozen=True, eq=False)
class ClassView:
    """The classes there are now, and the codes they have in the ledger.

    Attributes:
        table: The classes, 0 .. K' - 1.
        codes: (K',) code of each.
        places: (C,) index of each code there ever was; that of the class it was merged into; -1 for a code that is not there.
    """

    table: ClassTable
    codes: NDArray[np.int64]
    places: NDArray[np.int64]

    @property
    def plain(self) -> bool:
        """Whether codes and indices are the same."""
        return len(self.codes) == len(self.places) and bool((self.places == np.arange(len(self.places))).all())

    def indices(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Translate codes to indices; negative numbers, which are sentinels, stay. Same shape and type."""
        if self.plain:
            return codes
        wide = np.asarray(codes).astype(np.int64)
        return np.where(wide >= 0, self.places[np.maximum(wide, 0)], wide).astype(np.asarray(codes).dtype)

    def coded(self, indices: NDArray[Any]) -> NDArray[Any]:
        """Translate indices to codes; negative numbers stay. Same shape and type."""
        if self.plain:
            return indices
        wide = np.asarray(indices).astype(np.int64)
        return np.where(wide >= 0, self.codes[np.maximum(wide, 0)], wide).astype(np.asarray(indices).dtype)

    def index(self, code: int | None) -> int | None:
        """Translate one code to its index; None and negative numbers stay."""
        return code if code is None or code < 0 else int(self.places[code])

    def code(self, index: int | None) -> int | None:
        """Code of one index; None and negative numbers stay."""
        return index if index is None or index < 0 else int(self.codes[index])


def view_of(table: ClassTable) -> ClassView:
    """Return the view of a table without edits."""
    numbers = np.arange(table.num_classes, dtype=np.int64)
    return ClassView(table, numbers, numbers.copy())


def replay_edits(base: ClassTable, edits: Iterable[ClassEdit], *, before: int | None = None) -> ClassView:
    """Return the classes after edits.

    Args:
        base: As imported.
        edits: In recorded order.
        before: Only those made before this round began.

    Returns:
        The view. Classes keep their order; those added come last.
    """
    chosen = [edit for edit in edits if before is None or edit.round < before]
    gone = {edit.details["edit"] for edit in chosen if edit.kind == "undo"}
    rows: list[dict[str, Any] | None] = [dict(row) for row in base.to_json()["classes"]]
    into = list(range(len(rows)))
    for edit in chosen:
        # A class that was added holds its code for ever, so that codes of later ones do not depend on what is taken back.
        new = edit.details.get("classes", ())
        if edit.kind in {"add", "split"}:
            extra = new if edit.kind == "add" else new[1:]
            for row in extra:
                into.append(len(rows))
                rows.append(None if edit.number in gone else dict(row))
        if edit.number in gone:
            continue
        if edit.kind in {"rename", "split"}:
            row = rows[edit.codes[0]]
            assert row is not None
            rows[edit.codes[0]] = {**row, **new[0]}
        elif edit.kind == "merge":
            for code in edit.codes:
                into[code] = edit.details["into"]
    for code in range(len(into)):
        while into[into[code]] != into[code]:  # merged into one that was merged later
            into[code] = into[into[code]]
    codes = [code for code, row in enumerate(rows) if row is not None and into[code] == code]
    place = {code: index for index, code in enumerate(codes)}
    places = [place[into[code]] if rows[code] is not None else -1 for code in range(len(rows))]
    kept = [row for code in codes if (row := rows[code]) is not None]
    table = ClassTable.from_json({"classes": kept, "ignore": base.ignore}, "the classes")
    aliases = tuple(
        (row["id"], places[code]) for code, row in enumerate(rows) if row is not None and into[code] != code
    )
    return ClassView(replace(table, aliases=aliases), np.array(codes, dtype=np.int64), np.array(places, dtype=np.int64))


def class_change(old: ClassView, new: ClassView) -> NDArray[np.float32] | None:
    """Return (K', K) that turns probabilities over the classes of one view into those over another's; None if nothing changes.

    A merged class gets the sum of its parts, a class that a model does not know nothing.
    """
    targets = new.places[old.codes]
    if len(new.codes) == len(old.codes) and (targets == np.arange(len(targets))).all():
        return None
    change = np.zeros((len(new.codes), len(old.codes)), dtype=np.float32)
    known = targets >= 0
    change[targets[known], np.flatnonzero(known)] = 1
    return change


def described(base: ClassTable, edits: Sequence[ClassEdit]) -> list[str]:
    """Describe each edit in words, with the names that classes had then."""
    names = dict(enumerate(base.names))
    lines = []
    for place, edit in enumerate(edits):
        new = [row["name"] for row in edit.details.get("classes", ())]
        first = len(replay_edits(base, edits[:place]).places)
        names |= {first + offset: name for offset, name in enumerate(new[edit.kind == "split" :])}
        said = ", ".join(names[code] for code in edit.codes)
        if edit.kind == "merge":
            said += f" into {names[edit.details['into']]}"
        elif edit.kind in {"rename", "split"}:
            said += f" to {', '.join(new)}"
            names[edit.codes[0]] = new[0]
        when = "before the first round" if edit.round < 0 else f"after round {edit.round}"
        lines.append(f"{edit.kind} {said}, {when}")
    return lines


# ---- making edits ------------------------------------------------------------------------------------------------


def renamed(view: ClassView, name: str, new: str, colour: Sequence[int] | None = None) -> ClassEdit:
    """Make the edit that renames a class.

    Raises:
        InputError: There is no such class, or the new name is taken or empty.
    """
    index = view.table.index(name)
    row: dict[str, Any] = {"name": _free_name(view, new, except_index=index)}
    if colour is not None:
        row["color"] = list(colour)
    return ClassEdit(kind="rename", codes=(int(view.codes[index]),), details={"classes": [row]})


def merged(view: ClassView, names: Sequence[str], into: str) -> ClassEdit:
    """Make the edit that merges classes into one of them, or into another existing class.

    Raises:
        InputError: One is not there, or nothing would change.
    """
    target = view.table.index(into)
    places = sorted({view.table.index(name) for name in names} - {target})
    if not places:
        raise InputError(f"There is no class to merge into {into!r}. Name at least one other class.")
    details = {"into": int(view.codes[target])}
    return ClassEdit(kind="merge", codes=tuple(int(view.codes[place]) for place in places), details=details)


def added(
    view: ClassView, name: str, value: int | None = None, colour: Sequence[int] | None = None, taken: Iterable[int] = ()
) -> ClassEdit:
    """Make the edit that adds a class.

    Args:
        view: The classes there are.
        name: Its name.
        value: That stands for it in label files; by default the next free one.
        colour: RGB; made up by default.
        taken: Values that files use for something else.

    Raises:
        InputError: The name or the value is taken.
    """
    row = _new_row(view, name, value, colour, {*taken}, len(view.places))
    return ClassEdit(kind="add", codes=(len(view.places),), details={"classes": [row]})


def split(view: ClassView, name: str, into: Sequence[str], taken: Iterable[int] = ()) -> ClassEdit:
    """Make the edit that splits a class: its labels keep the first name until someone answers which they are.

    Raises:
        InputError: There is no such class, fewer than two names, or one that is taken.
    """
    index = view.table.index(name)
    if len(into) < 2 or len(set(into)) < len(into):
        raise InputError(f"To split {name!r}, name at least two different classes, such as `into` car,van")
    rows: list[dict[str, Any]] = [{"name": _free_name(view, into[0], except_index=index)}]
    used = {*taken}
    for place, new in enumerate(into[1:]):
        row = _new_row(view, new, None, None, used, len(view.places) + place)
        used.add(row["id"])
        rows.append(row)
    return ClassEdit(kind="split", codes=(int(view.codes[index]),), details={"classes": rows})


def taken_back(edits: Sequence[ClassEdit]) -> ClassEdit:
    """Make the edit that undoes the last edit that was not undone.

    Raises:
        InputError: There is none.
    """
    gone = {edit.details["edit"] for edit in edits if edit.kind == "undo"}
    left = [edit for edit in edits if edit.kind != "undo" and edit.number not in gone]
    if not left:
        raise InputError("No class was edited, so there is nothing to undo.")
    return ClassEdit(kind="undo", codes=left[-1].codes, details={"edit": left[-1].number})


def _free_name(view: ClassView, name: str, except_index: int | None = None) -> str:
    name = name.strip()
    if not name or not on_one_line(name):
        raise InputError(f"A class name must be printable and fit on one line, found {name!r}.")
    if name == "void":
        raise InputError("The name void stands for pixels without a class. Choose another name for the class.")
    if any(known == name and index != except_index for index, known in enumerate(view.table.names)):
        raise InputError(
            f"A class {name!r} exists already. Choose another name, or merge the classes: a2lc classes merge"
        )
    return name


def _new_row(
    view: ClassView, name: str, value: int | None, colour: Sequence[int] | None, taken: set[int], code: int
) -> dict[str, Any]:
    table = view.table
    used = {*table.file_values, *(alias for alias, _ in table.aliases), table.ignore, *taken}
    if value is None:
        value = next(free for free in range(max(table.file_values) + 1, 65536 + len(used)) if free not in used)
    if not 0 <= value <= 65535:
        raise InputError(f"Value {value} of class {name!r} does not fit into 16 bits. Set `id` to a free value.")
    if value in used:
        what = "is the ignore value" if value == table.ignore else "has another meaning in the label files"
        raise InputError(f"Value {value} {what}. Set `id` of class {name!r} to another value.")
    row: dict[str, Any] = {"id": value, "name": _free_name(view, name), "color": list(colour or class_colour(code))}
    ClassTable.from_json({"classes": [row], "ignore": table.ignore}, "the new class")
    return row
