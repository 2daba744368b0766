"""Parquet files as the Hugging Face hub has them, with id2label.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from a2lc.errors import MissingFileError
from a2lc.formats.huggingface import ID2LABEL, METADATA_KEY
from a2lc.formats.writing import Corrected, class_values, register_export, stored_bytes
from a2lc.images.rgb import png_bytes
from a2lc.io.files import write_text
from a2lc.project.project import Project

__all__ = ["HuggingFaceWriter"]

_GROUP, _SHARD = 64 << 20, 400 << 20  # bytes of a row group and of a file, about
_ROWS = 100  # of a row group at most: viewers of the hub read whole ones

_README = """\
---
task_categories:
- image-segmentation
---

# {name}

Images and their label maps, corrected with a2lc. `label` is a PNG of class ids, one a pixel; {ignore} is void (no class).
Names are in `id2label.json`. Ids are used as they are: set `do_reduce_labels=False` in image processors, and have the loss
ignore {ignore}.

{changed:,} of {images:,} label maps were changed.
"""


@register_export(
    "huggingface", labels="data", line="data/train-*.parquet with images and label maps, id2label.json and a README.md"
)
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
                    f"Image {corrected.image} is gone. Put it back to have it in the table."
                ) from None
        # What was read as something else (--map) has no name in id2label.json: it becomes what it was read as.
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
