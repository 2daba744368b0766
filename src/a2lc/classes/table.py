"""A data set's class names, colours and ignore value."""

from __future__ import annotations

import colorsys
import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from a2lc.errors import ConfigError, MissingFileError, require_known
from a2lc.io.yaml_text import YAMLError, read_yaml

__all__ = ["VOID_NAME", "ClassTable", "class_colour", "on_one_line", "read_classes"]


VOID_NAME = "void"
"""Name of no class in files that programs read."""

_LARGEST = 8 << 20
_LABELMAP_LINE = re.compile(r"(?P<name>[^:]+):(?P<colour>\d{1,3},\d{1,3},\d{1,3}):[^:]*:[^:]*")


def on_one_line(name: str) -> bool:
    r"""Return whether a name has no control signs and no line breaks: it must fit a line of a message and of a table.

    Example:
        >>> on_one_line("traffic light"), on_one_line("a\nb")
        (True, False)
    """
    return not any(ord(sign) < 32 or sign in "\x7f\x85\u2028\u2029" for sign in name)


def class_colour(index: int) -> tuple[int, int, int]:
    """Return a distinct, stable colour for a class: hues by the golden ratio, two levels of lightness."""
    hue = (index * 0.61803398875) % 1.0
    red, green, blue = colorsys.hls_to_rgb(hue, 0.42 + 0.2 * (index % 2), 0.65)
    return round(red * 255), round(green * 255), round(blue * 255)


@dataclass(frozen=True)
class ClassTable:
    """Class names and colours, in the order the package counts classes: 0 .. K-1.

    Attributes:
        names: K class names, all different.
        colours: K RGB triples, 0..255.
        file_values: K values that stand for the classes in the user's label files.
        ignore: Value that means "no class" in the user's files; inside the package it is `ignore_index`.
        synonyms: K tuples of other words for the classes, by which foundation models look for them; empty for none at all.
        priorities: K numbers: where objects lie over each other, the class of the higher one wins; empty for all 0.
        aliases: Pairs of a value that also stands for a class in the user's files, and that class: what was merged into it.
    """

    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    file_values: tuple[int, ...]
    ignore: int = 255
    synonyms: tuple[tuple[str, ...], ...] = ()
    priorities: tuple[int, ...] = ()
    aliases: tuple[tuple[int, int], ...] = ()

    @property
    def num_classes(self) -> int:
        """How many classes there are (K)."""
        return len(self.names)

    @property
    def ignore_index(self) -> int:
        """What stands for "no class" in the package's own arrays: 255, or 65535 where K does not fit 8 bits."""
        return 255 if self.num_classes <= 255 else 65535

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the package's own label arrays: uint8, or uint16 where K does not fit."""
        return np.dtype(np.uint8 if self.num_classes <= 255 else np.uint16)

    def index(self, name: str) -> int:
        """Return the index of a class by its name.

        Raises:
            UnknownNameError: There is no class of that name.
        """
        return self.names.index(require_known("class", name, self.names))

    def name_of(self, index: int | None, *, void: str = "unlabeled") -> str:
        """Return the name of a class, or a word for pixels without one.

        Args:
            index: Class index, or None, a negative sentinel such as `VOID`, or `ignore_index` for no class.
            void: The word for no class; files and ledgers that programs read use `VOID_NAME`.
        """
        return void if index is None or index < 0 or index == self.ignore_index else self.names[index]

    def rewritten(self, value_map: Mapping[int, int]) -> dict[int, int]:
        """Return the values of label files that are rewritten as those of the classes they were merged into.

        Args:
            value_map: Values that are read as others.
        """
        own = {value: self.file_values[index] for value, index in self.aliases}
        return own | {value: own[becomes] for value, becomes in value_map.items() if becomes in own}

    def prompts(self, index: int) -> tuple[str, ...]:
        """Return the phrases that stand for a class: its name, and its synonyms."""
        return (self.names[index], *(self.synonyms[index] if self.synonyms else ()))

    def priority(self, index: int) -> int:
        """Return the priority of a class where objects overlap: the higher one wins."""
        return self.priorities[index] if self.priorities else 0

    def palette(self) -> list[int]:
        """Return 256 RGB triples in a row, as PIL's `putpalette` takes them, indexed by file value.

        The ignore value gets VOC's (224, 224, 192), so that it differs from black.
        """
        flat = [0] * 768
        if 0 <= self.ignore < 256:
            flat[3 * self.ignore : 3 * self.ignore + 3] = [224, 224, 192]
        for value, colour in zip(self.file_values, self.colours, strict=True):
            if value < 256:
                flat[3 * value : 3 * value + 3] = list(colour)
        return flat

    def to_json(self) -> dict[str, Any]:
        """Return the table as a classes file has it."""
        rows: list[dict[str, Any]] = []
        for index, (value, name, colour) in enumerate(zip(self.file_values, self.names, self.colours, strict=True)):
            row: dict[str, Any] = {"id": value, "name": name, "color": list(colour)}
            if self.synonyms and self.synonyms[index]:
                row["synonyms"] = list(self.synonyms[index])
            if self.priority(index):
                row["priority"] = self.priority(index)
            rows.append(row)
        return {"classes": rows, "ignore": self.ignore}

    @classmethod
    def from_names(cls, names: Sequence[str], ignore: int = 255) -> ClassTable:
        """Make a table of names alone: ids 0 .. K-1, colours generated."""
        colours = tuple(class_colour(i) for i in range(len(names)))
        return cls(tuple(names), colours, tuple(range(len(names))), ignore)

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "classes") -> ClassTable:
        """Read `{"classes": [{"id", "name", "color", "synonyms", "priority"}, ..], "ignore": 255}`; only the name is needed.

        Raises:
            ConfigError: Something is missing, doubled or out of range; the message names it.
        """
        unknown = set(data) - {"classes", "ignore"}
        if unknown:
            raise ConfigError(f"{where}: unknown key {sorted(unknown, key=str)[0]!r}. Known: classes, ignore")
        rows = data.get("classes")
        if not isinstance(rows, list) or not rows:
            raise ConfigError(f'{where}: expected {{"classes": [{{"id": 0, "name": "sky"}}, ..]}}, found no classes.')
        ids, names, colours, synonyms, priorities = [], [], [], [], []
        for position, row in enumerate(rows):
            if isinstance(row, str):
                row = {"name": row}
            if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not row["name"].strip():
                raise ConfigError(f"{where}: class number {position} has no name.")
            if not on_one_line(row["name"].strip()):
                raise ConfigError(
                    f"{where}: class name {row['name']!r} contains characters that cannot be printed, such as a "
                    "line break. Rename the class."
                )
            unknown = set(row) - {"id", "name", "color", "synonyms", "priority"}
            if unknown:
                raise ConfigError(
                    f"{where}: class {row['name']!r} has an unknown key {sorted(unknown, key=str)[0]!r}. Known: id, name, "
                    "color, synonyms, priority"
                )
            value = row.get("id", position)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 65535:
                raise ConfigError(f"{where}: class {row['name']!r} has id {value!r}; expected 0..65535.")
            colour = row.get("color", class_colour(position))
            good = isinstance(colour, list | tuple) and len(colour) == 3
            if not good or not all(isinstance(c, int) and 0 <= c <= 255 for c in colour):
                raise ConfigError(
                    f"{where}: class {row['name']!r} has color {colour!r}; expected three numbers in 0..255."
                )
            words = row.get("synonyms", [])
            if not isinstance(words, list | tuple) or not all(isinstance(w, str) and w.strip() for w in words):
                raise ConfigError(f"{where}: class {row['name']!r} has synonyms {words!r}; expected a list of words.")
            priority = row.get("priority", 0)
            if not isinstance(priority, int) or isinstance(priority, bool):
                raise ConfigError(f"{where}: class {row['name']!r} has priority {priority!r}; expected a whole number.")
            synonyms.append(tuple(word.strip() for word in words))
            priorities.append(priority)
            ids.append(value)
            names.append(row["name"].strip())
            colours.append((colour[0], colour[1], colour[2]))
        for what, values in (("id", ids), ("name", names)):
            doubled = sorted({v for v in values if values.count(v) > 1})
            if doubled:
                raise ConfigError(f"{where}: two classes have the {what} {doubled[0]!r}.")
        ignore = data.get("ignore", 255 if max(ids) < 255 else 65535)
        if not isinstance(ignore, int) or isinstance(ignore, bool) or not 0 <= ignore <= 65535 or ignore in ids:
            raise ConfigError(f"{where}: ignore is {ignore!r}; expected a value in 0..65535 that is not a class id.")
        # Without any, as a table of names alone has it: equal tables compare equal.
        return cls(
            tuple(names),
            tuple(colours),
            tuple(ids),
            ignore,
            tuple(synonyms) if any(synonyms) else (),
            tuple(priorities) if any(priorities) else (),
        )


def read_classes(path: Path) -> ClassTable:
    """Read a classes file.

    JSON or YAML as `ClassTable.from_json` takes it; JSON as `id2label.json` of Hugging Face has it; `labelmap.txt` of CVAT
    (`name:red,green,blue::`), whose labels are numbered in their order; `_classes.csv` of Roboflow (`Pixel Value, Class`); or
    text with a name a line.

    Raises:
        MissingFileError: There is no such file.
        ConfigError: The file is not what it should be.
    """
    try:
        if path.is_file() and path.stat().st_size > _LARGEST:
            raise ConfigError(
                f"{path} has {path.stat().st_size:,} bytes; a classes file may have at most {_LARGEST:,}."
            )
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows put a mark before the first name
    except (FileNotFoundError, IsADirectoryError):
        raise MissingFileError(
            f"No classes file at {path}. Set `classes` to a JSON, YAML or text file with the class names."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file; expected JSON, YAML, or one class name per line.") from None
    if path.suffix.lower() in {".json", ".yaml", ".yml"}:
        try:
            data = json.loads(text) if path.suffix.lower() == ".json" else read_yaml(text)
        except RecursionError:
            raise ConfigError(f"{path}: nested too deeply; expected a list of classes.") from None
        except (ValueError, YAMLError) as error:  # also numbers of thousands of digits
            raise ConfigError(f"{path}: not valid {path.suffix[1:].upper()}: {' '.join(str(error).split())}") from None
        if isinstance(data, dict) and data and all(str(key).isdecimal() and len(str(key)) <= 5 for key in data):
            rows = [{"id": int(key), "name": name} for key, name in sorted(data.items(), key=lambda item: int(item[0]))]
            return ClassTable.from_json({"classes": rows}, str(path))
        if not isinstance(data, dict):
            raise ConfigError(f'{path}: expected {{"classes": [..], "ignore": 255}}, found {type(data).__name__}.')
        return ClassTable.from_json(data, str(path))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    mapped = [_LABELMAP_LINE.fullmatch(line) for line in lines]
    if lines and all(mapped):
        rows = [
            {"name": match["name"], "color": [int(part) for part in match["colour"].split(",")]}
            for match in mapped
            if match is not None
        ]
        return ClassTable.from_json({"classes": rows}, str(path))
    if path.suffix.lower() == ".csv":
        cells = [[cell.strip() for cell in row] for row in csv.reader(lines)]
        # The first line names the columns.
        wrong = [row for row in cells[1:] if len(row) != 2 or not (row[0].isdecimal() and len(row[0]) <= 5)]
        if wrong or len(cells) < 2:
            raise ConfigError(f"{path}: expected a value and a name on each line below `Pixel Value, Class`.")
        rows = [{"id": int(value), "name": name} for value, name in cells[1:]]
        return ClassTable.from_json({"classes": rows}, str(path))
    names = lines
    return ClassTable.from_json({"classes": [{"name": name} for name in names]}, str(path))
