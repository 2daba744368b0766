"""Write and read hand-overs for Label Studio: one task for each question, its masks as a brush region."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError
from a2lc.formats.label_studio import IMAGE, brush_of_region, brush_region, interface, objects, read_tasks
from a2lc.handover.questions import Drawing, Handed, HandedImage, Label, Sheet, Verdict, tool_image, write_tool_image
from a2lc.ledger import KEEP
from a2lc.project.project import Project
from a2lc.records import ImageRecord

__all__ = ["LabelStudioExport", "label_config", "write_label_studio"]

_VERDICT = "verdict"  # name of the choices; results refer to it


def label_config(labels: Iterable[Label]) -> str:
    """Return the labelling interface: an image, a brush for each label, and choices that need no drawing."""
    labels = list(labels)
    view, brushes = interface((label.name, label.hexadecimal) for label in labels)
    view.insert(0, Element("Header", value="$question"))
    for place, (label, tag) in enumerate(zip(labels, brushes, strict=True)):
        # Digits as in the browser: 1 to 9 for the first classes, 0 for void.
        if label.class_index is None:
            tag.set("hotkey", "0")
        elif place < 9:
            tag.set("hotkey", str(place + 1))
    choices = SubElement(view, "Choices", name=_VERDICT, toName=IMAGE, choice="single", showInline="true")
    for verdict in Verdict:
        SubElement(choices, "Choice", value=verdict.value)
    indent(view)
    return tostring(view, encoding="unicode") + "\n"


def write_label_studio(
    project: Project,
    handed: Handed,
    sheets: Iterable[Sheet],
    folder: Path,
    place: str,
    image_root: Path | None,
) -> None:
    """Write tasks, the labelling interface, and images unless Label Studio serves them already.

    Args:
        project: Opened.
        handed: The hand-over.
        sheets: Images with their questions.
        folder: Where to; it exists.
        place: Path of the folder below Label Studio's document root.
        image_root: Label Studio's document root, if it serves the images where they are.

    Raises:
        InputError: An image lies elsewhere, or cannot be shown as it is.
    """
    (folder / "label_config.xml").write_text(label_config(handed.labels), encoding="utf-8")
    first = True
    with (folder / "tasks.json").open("w", encoding="utf-8") as file:
        file.write("[")
        for sheet in sheets:
            served = _served(project, sheet.handed, sheet.record, folder, place, image_root)
            for number in sheet.queries:
                file.write("\n" if first else ",\n")
                json.dump(
                    _task(sheet, number, handed, "/data/local-files/?d=" + quote(served)), file, ensure_ascii=False
                )
                first = False
        file.write("\n]\n")


def _served(
    project: Project, image: HandedImage, record: ImageRecord, folder: Path, place: str, root: Path | None
) -> str:
    _, path = tool_image(project, record)
    if root is None:
        target = folder / "images" / image.file
        target.parent.mkdir(parents=True, exist_ok=True)
        if path is None:
            write_tool_image(project, record, target)
        else:
            shutil.copyfile(path, target)
        return f"{place}/images/{image.file}"
    own = project.image_path(record).resolve()
    if path is None:
        raise InputError(
            f"{own}: browsers rotate this image or cannot show it. Omit image_root to have the images copied."
        )
    if not own.is_relative_to(root):
        raise InputError(
            f"{own} is not inside image_root {root}. Name a folder that contains the images, or omit it to have them copied."
        )
    return own.relative_to(root).as_posix()


def _task(sheet: Sheet, number: int, handed: Handed, url: str) -> dict[str, Any]:
    query, record = sheet.queries[number], sheet.record
    label = handed.labels[-1 if query.proposed is None else query.proposed]
    region = brush_region(label.name, sheet.inside(number), f"question{number}")
    return {
        "data": {
            "image": url,
            "question": f"Question {number}: is this {label.name}? If not, change its label or draw the right labels.",
            "query_id": number,
            "image_id": record.image_id,
            "handover": handed.key,
        },
        "predictions": [{"model_version": "a2lc", "result": [region]}],
    }


# ---- reading exports ----------------------------------------------------------------------------------------------


class LabelStudioExport:
    """An export of Label Studio in its JSON format; only questions of one hand-over are read."""

    def __init__(self, source: Path, handed: Handed) -> None:
        """Read it.

        Raises:
            InputError: It is no such export, or holds no task of the hand-over.
        """
        self.path = source
        self.labels = {label.name: label.value for label in handed.labels}
        self.messages: list[str] = []
        self.outside = 0
        tasks = read_tasks(source)
        known = {question.query_id for question in handed.questions}
        self.tasks: dict[int, list[dict[str, Any]]] = {}
        strangers, others = 0, []
        for task in tasks:
            data = task.get("data")
            data = data if isinstance(data, dict) else {}
            number = data.get("query_id")
            if "handover" not in data:
                strangers += 1
            elif data["handover"] != handed.key:
                others.append(data["handover"])
            elif type(number) is not int or number not in known:
                self.messages.append(f"{source}: a task is about question {number!r}, which was not handed over.")
            else:
                self.tasks.setdefault(number, []).append(task)
        if tasks and not self.tasks and (others or strangers):
            raise InputError(
                f"{source}: none of its {len(tasks):,} tasks belongs to the hand-over {handed.key} of project "
                f"{handed.project!r}. Use the {'handover.json of these tasks' if others else 'export of its tasks'}."
            )
        if strangers or others:
            self.messages.append(f"{source}: {strangers + len(others):,} other tasks were ignored.")

    def drawings(self, sheet: Sheet) -> Iterator[tuple[int, list[Drawing] | str]]:
        """Yield the drawings of each question of an image, one for each annotation, or a message why there is none."""
        for number in sheet.queries:
            try:
                found = [one for task in self.tasks.get(number, ()) for one in objects(task, "annotations")]
                # A skipped annotation does not count beside others.
                found = [one for one in found if one.get("was_cancelled") is not True] or found
                said = [self._drawing(annotation, sheet.handed) for annotation in found]
            except InputError as error:
                yield number, f"{error}."
                continue
            inside = sheet.inside(number)
            self.outside += max((int(((drawing.painted != KEEP) & ~inside).sum()) for drawing in said), default=0)
            yield number, said

    def close(self) -> None:
        """Do nothing: no file is open."""

    def _drawing(self, annotation: Mapping[str, Any], image: HandedImage) -> Drawing:
        seconds = annotation.get("lead_time")
        timed = isinstance(seconds, int | float) and 0 <= seconds < 1e6
        painted = np.full((image.height, image.width), KEEP, dtype=np.int32)
        verdict = Verdict.CANNOT_TELL if annotation.get("was_cancelled") is True else None
        for result in objects(annotation, "result"):
            kind, value = result.get("type"), result.get("value")
            if not isinstance(kind, str) or not isinstance(value, dict):
                continue  # a relation between regions
            if kind == "choices":
                verdict = verdict or _chosen(value)
            elif kind in {"brushlabels", "brush"}:
                self._paint(painted, result, value, image)
            elif kind.endswith("labels") or "x" in value or "points" in value:
                raise InputError(f"a region of type {kind!r}; only brush regions are read")
        return Drawing(
            painted=painted,
            verdict=verdict,
            submitted=True,
            milliseconds=round(seconds * 1000) if timed and seconds is not None else None,
        )

    def _paint(
        self, painted: NDArray[np.int32], result: Mapping[str, Any], value: Mapping[str, Any], image: HandedImage
    ) -> None:
        name, inside = brush_of_region(result, value, image.height, image.width)
        if name is None:
            return  # drawn without a class
        if name not in self.labels:
            raise InputError(f"label {name!r} was not handed over; use those of label_config.xml")
        # Later regions cover earlier ones.
        painted[inside] = self.labels[name]


def _chosen(value: Mapping[str, Any]) -> Verdict | None:
    chosen = value.get("choices")
    if not isinstance(chosen, list) or len(chosen) > 1:
        raise InputError("more than one choice; select only one")
    if not chosen:
        return None
    if chosen[0] not in [verdict.value for verdict in Verdict]:
        raise InputError(f"choice {chosen[0]!r} was not handed over; use those of label_config.xml")
    return Verdict(chosen[0])
