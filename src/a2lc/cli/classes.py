"""Commands that edit the classes of a project between rounds.

Each edit is a row of the ledger; recorded rows are never rewritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from a2lc.cli.console import app
from a2lc.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from a2lc.classes.edits import ClassEdit
    from a2lc.project.project import Project

__all__ = ["class_app"]

class_app = typer.Typer(
    help="Rename, merge, split or add classes of a project. No answer is lost.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(class_app, name="classes")

ProjectDir = Annotated[Path, typer.Argument(metavar="DIR", help="Project folder.")]
Colour = Annotated[str | None, typer.Option("--color", metavar="R,G,B", help="Colour of the class.")]


@contextmanager
def _between_rounds(folder: Path) -> Iterator[Project]:
    """Open and lock the project; raise an error if a round is open."""
    from a2lc.project.project import Project
    from a2lc.rounds.stages import require_between_rounds

    with Project(folder) as project, project.lock():
        project.reload_classes()  # as they are under the lock
        require_between_rounds(project)
        yield project


def _edit(folder: Path, make: Callable[[Project], ClassEdit]) -> None:
    import numpy as np

    with _between_rounds(folder) as project:
        before = project.masks.current(project.state())
        project.edit_classes(make(project))
        after = project.masks.current(project.state())
        names = ", ".join(project.classes.names[:12]) + (", .." if project.classes.num_classes > 12 else "")
        typer.echo(f"{project.classes.num_classes} classes: {names}")
        _say_counts(project, len(np.unique(before)), after)


def _say_counts(project: Project, kinds_before: int, now: np.ndarray) -> None:

    rounds = project.ledger.rounds()
    if rounds and project.class_change_since(rounds[-1].round) is not None:
        typer.echo(
            "the last model was trained on the previous classes; it scores the next round as far as its classes still exist, "
            "and the model after that is trained from scratch"
        )
    empty = [name for index, name in enumerate(project.classes.names) if not (now == index).any()]
    if empty and kinds_before:
        typer.echo(f"no mask is labeled {', '.join(empty[:8])}{', ..' if len(empty) > 8 else ''}")


@class_app.command()
def show(folder: ProjectDir, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the current classes, their numbers of masks, and all edits."""
    from a2lc.classes.edits import described
    from a2lc.project.project import Project

    with Project(folder) as project:
        now = project.masks.current(project.state())
        import numpy as np

        counts = np.bincount(now[now >= 0], minlength=project.classes.num_classes)
        rows = project.classes.to_json()["classes"]
        if as_json:
            rows_of_edits = [
                {
                    "kind": edit.kind,
                    "codes": list(edit.codes),
                    "details": edit.details,
                    "round": edit.round,
                    "time": edit.time,
                }
                for edit in project.ledger.class_edits()
            ]
            found = [{**row, "masks": int(count)} for row, count in zip(rows, counts.tolist(), strict=True)]
            typer.echo(
                json.dumps({"classes": found, "ignore": project.classes.ignore, "edits": rows_of_edits}, indent=1)
            )
            return
        for row, count in zip(rows, counts.tolist(), strict=True):
            typer.echo(f"{row['id']:>6}  {row['name']}  {count:,} masks")
        edits = project.ledger.class_edits()
        for edit, line in zip(edits, described(project.imported_classes, edits), strict=True):
            typer.echo(f"{edit.time}  {line}")


@class_app.command()
def rename(
    folder: ProjectDir,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Class to change.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="New name.")],
    color: Colour = None,
) -> None:
    """Rename a class, and optionally change its colour."""
    from a2lc.classes.edits import renamed

    _edit(folder, lambda project: renamed(project.view, name, new, _colour(color)))


@class_app.command()
def merge(
    folder: ProjectDir,
    names: Annotated[list[str], typer.Argument(metavar="NAME..", help="Classes to merge.")],
    into: Annotated[str, typer.Option("--into", metavar="NAME", help="Class to merge them into.")],
) -> None:
    """Merge classes into one. Their labels, answers and ground truth count as that class."""
    from a2lc.classes.edits import merged

    _edit(folder, lambda project: merged(project.view, names, into))


@class_app.command()
def split(
    folder: ProjectDir,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Class to change.")],
    into: Annotated[
        str, typer.Option("--into", metavar="A,B", help="Names of the new classes; existing labels get the first one.")
    ],
) -> None:
    """Split a class into several. Its labels get the first new class, and answered masks may be asked about again."""
    from a2lc.classes.edits import split as split_class

    parts = [part.strip() for part in into.split(",") if part.strip()]
    _edit(folder, lambda project: split_class(project.view, name, parts, _taken(project)))


@class_app.command()
def add(
    folder: ProjectDir,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the class.")],
    value: Annotated[
        int | None, typer.Option("--id", min=0, max=65535, help="Value of the class in label files.")
    ] = None,
    color: Colour = None,
) -> None:
    """Add a class that can be given in answers."""
    from a2lc.classes.edits import added

    _edit(folder, lambda project: added(project.view, name, value, _colour(color), _taken(project)))


@class_app.command()
def undo(folder: ProjectDir) -> None:
    """Undo the last edit. A class that is used in answers cannot be removed."""
    from a2lc.classes.edits import taken_back

    def make(project: Project) -> ClassEdit:
        edits = project.ledger.class_edits()
        edit = taken_back(edits)
        last = next(one for one in edits if one.number == edit.details["edit"])
        count = {"add": 1, "split": len(last.details.get("classes", ())) - 1}.get(last.kind, 0)
        first = project.history.codes_before(last)
        used = [code for code in range(first, first + count) if project.ledger.uses_code(code)]
        if used:
            raise InputError(
                "Answers use a class that this edit added, so it cannot be undone. Merge the class instead: a2lc classes merge"
            )
        return edit

    _edit(folder, make)


def _taken(project: Project) -> set[int]:
    """Return the label values that are read as another value."""
    return {*project.config.sources.value_map}


def _of_a_byte(text: str) -> bool:
    """Return whether text is a whole number in 0..255; unlike `isdigit`, superscripts do not count."""
    return text.isascii() and text.isdecimal() and len(text) < 5 and int(text) <= 255


def _colour(given: str | None) -> tuple[int, int, int] | None:
    if given is None:
        return None
    parts = given.split(",")
    if len(parts) != 3 or not all(_of_a_byte(part.strip()) for part in parts):
        raise InputError(f"--color {given}: expected three numbers in 0..255, such as 70,130,180.")
    red, green, blue = (int(part) for part in parts)
    return red, green, blue
