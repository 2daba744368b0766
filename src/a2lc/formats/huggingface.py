"""Data sets of the Hugging Face hub as Parquet files: images and label maps as the bytes of files, names in id2label.json.

Facts of the format are from the code of `datasets`: an Image feature is a struct of `bytes` and `path`; splits are told by
how file names begin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from functools import partial as bound
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, MissingFileError, first_names
from a2lc.formats.annotated import Category, join_classes, name_of, safe_path
from a2lc.formats.base import Found, Sample, Sources, maps_in
from a2lc.formats.detection import Detected, FolderView
from a2lc.formats.registry import Format, register
from a2lc.formats.writing import Corrected, class_values, stored_bytes
from a2lc.images.archive import parse_json, read_bounded
from a2lc.images.label_maps import read_ids
from a2lc.images.limits import IMAGE_SUFFIXES
from a2lc.images.opening import ImageBytes, open_image
from a2lc.images.rgb import png_bytes
from a2lc.images.sources import DrawnMap, PackedImage
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["ID2LABEL", "METADATA_KEY", "HuggingFaceWriter", "read_huggingface"]

ID2LABEL = "id2label.json"
METADATA_KEY = b"a2lc"
"""Of the Parquet files this package writes: a JSON object with the `ignore` value, which id2label.json has no place for."""

_LABEL_COLUMNS = ("label", "annotation", "mask", "labels", "segmentation_mask")
_TRAIN, _VALIDATION, _OTHER = ("train",), ("validation", "valid", "val", "dev"), ("test",)
_MOST_GROUP = 4 << 30
_MAGIC = (
    *((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"II*\0", ".tif")),
    *((b"MM\0*", ".tif"), (b"RIFF", ".webp"), (b"BM", ".bmp")),
)


@dataclass(frozen=True)
class _Row:
    """Where an image and its label map lie."""

    file: Path
    group: int
    row: int
    image: str | None
    label: str | None


def read_huggingface(sources: Sources, *, partial: bool = False, classes: ClassTable | None = None) -> Found:
    """Read Parquet files: `images` names the folder they are below.

    Columns are `image`, and `label`, `annotation` or `mask`. Files that begin with `validation` measure models, those of
    `test` are left out, all others are corrected. Values of label maps are those of `id2label.json`, in the folder or the
    one above: a shift (`do_reduce_labels`) is never made, so ids of a set that needs it must be named as the files have
    them. The void value is 255, or 65535 where ids go that high, or what files written by this package say.

    Images are named by their paths in the table where those are all different, or else by split and position.

    Args:
        sources: The folder, and folders of masks and ground truth.
        partial: Images without a label map start without labels.
        classes: The user's classes, whose ids are the values of label maps.

    Raises:
        MissingFileError: There is no Parquet file.
        InputError: Files are damaged or have no such columns.
    """
    if sources.images is None:
        raise InputError("`images` is missing. With `format` huggingface, it is the folder of Parquet files.")
    if sources.labels is not None:
        raise InputError(
            "`labels` cannot be used with `format` huggingface, because label maps are in the Parquet files."
        )
    root = sources.images
    files = _files(root)
    if not files:
        raise MissingFileError(f"There is no *.parquet in {root}. `format` huggingface expects Parquet files.")
    splits = {path: _split(path.name) for path in files}
    notes = []
    left = [path.name for path, split in splits.items() if split == "test"]
    if left:
        notes.append(f"{len(left)} files of the split test were left out: {first_names(left)}")
    table = _table(root, classes)
    ignores: set[int] = set()
    known: frozenset[int] = frozenset()
    rows: dict[str, list[_Row]] = {"train": [], "validation": []}
    names: dict[str, list[str | None]] = {"train": [], "validation": []}
    for path, split in splits.items():
        if split in rows:
            found, paths, ignore = _rows(path)
            rows[split] += found
            names[split] += paths
            ignores |= set() if ignore is None else {ignore}
    if not rows["train"]:
        raise InputError(
            f"{root}: no Parquet file belongs to a split to correct: {first_names(p.name for p in files)}."
        )
    if table is not None and classes is None and len(ignores) == 1:
        ignore = ignores.pop()
        known = frozenset({ignore})
        if ignore in table.file_values:
            raise InputError(f"{files[0]}: states that {ignore} is void, but in {ID2LABEL} it is a class.")
        table = ClassTable(table.names, table.colours, table.file_values, ignore)
    masks = {} if sources.masks is None else maps_in(sources.masks, "masks files")
    truth = {} if sources.ground_truth is None else maps_in(sources.ground_truth, "ground truth files")
    unmatched: dict[str, list[str]] = {}
    train = []
    for row, place in zip(rows["train"], _names("train", names["train"]), strict=True):
        name = name_of(place)
        labels = _label(row, name, sources.max_pixels)
        if labels is None and not partial:
            unmatched.setdefault("images without labels", []).append(f"{name} (in {row.file})")
            continue
        if sources.masks is not None and name not in masks:
            unmatched.setdefault("images without masks", []).append(name)
            continue
        if sources.ground_truth is not None and name not in truth:
            unmatched.setdefault("images without ground truth", []).append(name)
        image = _image(row, place)
        train.append(
            Sample(image_id=name, image=image, labels=labels, masks=masks.get(name), ground_truth=truth.get(name))
        )
    validation = []
    taken = {sample.image_id for sample in train}
    held_out = _names("validation", names["validation"])
    if any(name_of(one) in taken for one in held_out):
        # The same file name in two splits is common, and need not be the same image.
        held_out = [PurePosixPath("validation", one) for one in held_out]
    for row, place in zip(rows["validation"], held_out, strict=True):
        maps = _label(row, name_of(place), sources.max_pixels)
        if maps is not None:
            validation.append(Sample(image_id=name_of(place), image=_image(row, place), ground_truth=maps))
    if validation:
        notes.append(
            f"{len(validation)} validation images are used to measure models, with their labels as ground truth"
        )
    return Found(
        train=train,
        validation=validation,
        root=None,
        classes=table,
        void_values=known,
        unmatched=unmatched,
        notes=notes,
    )


def _files(root: Path) -> list[Path]:
    """Parquet files below a folder, without those of projects that lie there."""
    found = sorted(path for path in root.rglob("*.parquet") if path.is_file()) if root.is_dir() else []
    return [
        path
        for path in found
        if not any((root / part / "project.yaml").is_file() for part in path.relative_to(root).parents)
    ]


def _split(name: str) -> str:
    word = re.split(r"[-_.]", name.lower(), maxsplit=1)[0]
    if word in _VALIDATION:
        return "validation"
    return "test" if word in _OTHER else "train"


def _table(root: Path, given: ClassTable | None) -> ClassTable | None:
    """Read the classes of id2label.json; None if there is no such file or the user's classes hold."""
    if given is not None:
        return None
    path = next((folder / ID2LABEL for folder in (root, root.parent) if (folder / ID2LABEL).is_file()), None)
    if path is None:
        return None
    data = parse_json(read_bounded(path), str(path))
    if not isinstance(data, dict) or not data or not all(isinstance(name, str) for name in data.values()):
        raise InputError(f'{path}: expected {{"0": "road", ..}}.')
    if not all(re.fullmatch(r"[0-9]{1,5}", number) for number in data):
        raise InputError(f"{path}: ids must be whole numbers from 0, found {next(iter(data))!r:.40}.")
    rows = sorted((int(number), name) for number, name in data.items())
    table, _ = join_classes([Category(name=name, value=number) for number, name in rows], (), None, str(path))
    return table


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a complete Parquet file: {' '.join(str(error).split())[:200]}. Download it again."
        ) from None


def _rows(path: Path) -> tuple[list[_Row], list[str | None], Any]:
    """Where images and label maps of a file lie, the images' paths in it, and its void value if it says one."""
    import pyarrow as pa

    with _open(path) as file:
        schema = file.schema_arrow
        label = next((name for name in _LABEL_COLUMNS if name in schema.names), None)
        for name in ("image", *([] if label is None else [label])):
            kind = schema.field(name).type if name in schema.names else None
            if kind is None or not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
                raise InputError(
                    f"{path}: column {name!r} is not an image (a struct of bytes and path). Columns: "
                    f"{first_names(schema.names)}."
                )
        has_path = schema.field("image").type.get_field_index("path") >= 0
        label_path = label is not None and schema.field(label).type.get_field_index("path") >= 0
        rows: list[_Row] = []
        paths: list[str | None] = []
        try:
            for group in range(file.num_row_groups):
                about = file.metadata.row_group(group)
                if about.total_byte_size > _MOST_GROUP:
                    raise InputError(
                        f"{path}: row group {group} has {about.total_byte_size:,} bytes; at most {_MOST_GROUP:,} "
                        "are supported. Write the file with smaller row groups."
                    )
                cells: list[Any] = [{"path": None}] * about.num_rows
                if has_path:
                    cells = file.read_row_group(group, columns=["image.path"]).column("image").to_pylist()
                own: list[Any] = [None] * len(cells)
                if label_path and any(cell is None for cell in cells):
                    # Labels without images, as our own export has them: the label map has the name.
                    own = file.read_row_group(group, columns=[f"{label}.path"]).column(label).to_pylist()
                paths += [
                    (None if named is None else named["path"]) if cell is None else cell["path"]
                    for cell, named in zip(cells, own, strict=True)
                ]
                rows += [
                    _Row(path, group, row, None if cell is None else "image", label) for row, cell in enumerate(cells)
                ]
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: damaged: {' '.join(str(error).split())[:200]}. Download it again.") from None
        said = (schema.metadata or {}).get(METADATA_KEY)
    ignore = None
    if said is not None:
        about = parse_json(said, f"{path}: metadata a2lc")
        ignore = about.get("ignore") if isinstance(about, dict) else None
        if type(ignore) is not int or not 0 <= ignore <= 65535:
            raise InputError(f"{path}: its metadata state that {ignore!r} is void; expected 0..65535.")
    first = next((row for row in rows if row.image is not None), None)
    if first is not None and any(one is None or not PurePosixPath(one).suffix for one in paths):
        # Tables without paths: all images are of the first one's kind, as far as file names go.
        data = _cell(path, first.group, "image", first.row)
        suffix = next((end for magic, end in _MAGIC if data.startswith(magic)), ".png")
        paths = [one or suffix for one in paths]
    return rows, paths, ignore


def _names(split: str, paths: Iterable[str | None]) -> list[PurePosixPath]:
    """Return a name with suffix for each image: its path, or the last part of it, or its position."""
    given = [PurePosixPath((path or "").replace("\\", "/")) for path in paths]
    ends = [path.suffix.lower() if path.suffix else path.name.lower() for path in given]
    suffixes = [end if end in IMAGE_SUFFIXES else ".png" for end in ends]
    for choice in (given, [PurePosixPath(path.name) for path in given]):
        try:
            checked = [safe_path(str(path), split) for path in choice]
        except InputError:
            continue
        names = {name_of(path) for path in checked}
        if len(names) == len(checked) and all(path.suffix.lower() in IMAGE_SUFFIXES for path in checked):
            return checked
    return [PurePosixPath(f"{split}-{place:06d}{suffix}") for place, suffix in enumerate(suffixes)]


def _group(path: Path, group: int, column: str) -> Any:
    """Read a column of a row group."""
    try:
        about = path.stat()
    except OSError:
        raise MissingFileError(f"{path}: no longer exists.") from None
    return _read_group(path, group, column, (about.st_mtime_ns, about.st_size))


@lru_cache(maxsize=4)
def _read_group(path: Path, group: int, column: str, stamp: tuple[int, int]) -> Any:
    """Images come in order, so few columns are held at a time; `stamp` tells a file that was written anew."""
    import pyarrow as pa

    with _open(path) as file:
        try:
            return file.read_row_group(group, columns=[f"{column}.bytes"]).column(column)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{path}: damaged: {' '.join(str(error).split())[:200]}. Download it again.") from None


def _cell(path: Path, group: int, column: str, row: int) -> bytes:
    cell = _group(path, group, column)[row].as_py()
    data = None if cell is None else cell.get("bytes")
    if not isinstance(data, bytes):
        raise InputError(
            f"{path}: row {row} of row group {group} has no bytes in {column!r}. Embed the files in the table."
        )
    return data


def _image(row: _Row, path: PurePosixPath) -> PackedImage | None:
    if row.image is None:
        return None
    suffix = path.suffix.lower()
    read = bound(_cell, row.file, row.group, row.image, row.row)
    return PackedImage(where=f"{row.file}: {path}", suffix=suffix, read=read)


def _label(row: _Row, name: str, max_pixels: int) -> DrawnMap | None:
    if row.label is None or not _group(row.file, row.group, row.label)[row.row].is_valid:
        return None
    where = f"{row.file}: {row.label} of {name}"
    read = bound(_cell, row.file, row.group, row.label, row.row)

    def draw() -> NDArray[Any]:
        return read_ids(ImageBytes(where=where, data=read()), max_pixels=max_pixels)

    def stored() -> bytes:
        data = read()
        with open_image(ImageBytes(where=where, data=data), max_pixels) as image:
            exact = image.format == "PNG" and image.mode in {"L", "P", "1", "I;16", "I"}
        return data if exact else png_bytes(draw())

    return DrawnMap(where=where, draw=draw, stored=stored)


# ---- writing -------------------------------------------------------------------------------------------------------


_GROUP, _SHARD = 64 << 20, 400 << 20  # bytes of a row group and of a file, about
_ROWS = 100  # of a row group at most: viewers of the hub read whole ones

_README = """\
---
task_categories:
- image-segmentation
---

# {name}

Images and label maps, corrected with a2lc. `label` is a PNG with one class id per pixel; {ignore} is void (no class).
Names are in `id2label.json`. Ids are used as they are: set `do_reduce_labels=False` in image processors, and have the loss
ignore {ignore}.

{changed:,} of {images:,} label maps were changed.
"""


class HuggingFaceWriter:
    """Writes `data/train-00000.parquet` and so on, `id2label.json` and `README.md`.

    Image files are put in as they are. Label maps are the user's bytes where nothing changed, else PNGs of 8 or 16 bits.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        import pyarrow as pa

        self.project, self.folder, self.classes = project, folder, project.classes
        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        features = {name: {"_type": "Image"} for name in ("image", "label")}
        metadata = {
            b"huggingface": json.dumps({"info": {"features": features}}).encode(),
            METADATA_KEY: json.dumps({"ignore": self.classes.ignore}).encode(),
        }
        self.schema = pa.schema([("image", image), ("label", image)], metadata=metadata)
        self.rows: list[dict[str, Any]] = []
        self.waiting = self.written = self.shards = 0
        self.images = self.changed = 0
        self.file: Any = None

    def add(self, corrected: Corrected) -> None:
        """Add a row; images without a file have none in it."""
        image = None
        if corrected.image is not None:
            try:
                image = {"bytes": corrected.image.read_bytes(), "path": corrected.file}
            except FileNotFoundError:
                raise MissingFileError(
                    f"Image {corrected.image} is missing. Restore it, so that it can be written to the table."
                ) from None
        # What was read as something else (`value_map`) has no name in id2label.json: it becomes what it was read as.
        values = corrected.values
        if self.project.config.sources.value_map:
            values = class_values(corrected.labels, self.classes.file_values, self.classes.ignore)
        data = stored_bytes(corrected, values, ("L", "I;16", "I")) or png_bytes(values)
        self.rows.append({"image": image, "label": {"bytes": data, "path": f"{corrected.image_id}.png"}})
        self.waiting += len(data) + (0 if image is None else len(image["bytes"]))
        self.images += 1
        self.changed += corrected.changed > 0
        if self.waiting >= _GROUP or len(self.rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self.rows:
            return
        if self.file is None:
            path = self.folder / "data" / f"train-{self.shards:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Image files do not shrink any further.
            self.file = pq.ParquetWriter(path, self.schema, compression="none")
        self.file.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.written += self.waiting
        self.rows, self.waiting = [], 0
        if self.written >= _SHARD:
            self._close()

    def _close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file, self.written = None, 0
            self.shards += 1

    def finish(self) -> None:
        """Write the last rows, the names, and what they mean."""
        self._flush()
        self._close()
        names = dict(zip(map(str, self.classes.file_values), self.classes.names, strict=True))
        write_text(self.folder / ID2LABEL, json.dumps(names, indent=1, ensure_ascii=False) + "\n")
        text = _README.format(
            name=self.project.config.name, ignore=self.classes.ignore, images=self.images, changed=self.changed
        )
        write_text(self.folder / "README.md", text)


def _detect(folder: FolderView) -> Detected | None:
    if not any(path.suffix == ".parquet" for path in folder.files):
        return None
    return Detected(why="it contains parquet files", images=folder.folder)


register(
    Format(
        name="huggingface",
        title="Parquet files of the Hugging Face hub",
        reads=("the folder of `*.parquet`", "(in the Parquet files)"),
        reader=read_huggingface,
        writes="`data/train-*.parquet` with images and label maps, `id2label.json` and a `README.md`",
        writer=HuggingFaceWriter,
        labels="data",
        detect=_detect,
    )
)
