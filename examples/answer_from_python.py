"""Answer queries from Python: for an annotation tool of your own, a script, or a second model.

    python examples/answer_from_python.py [FOLDER]

`Project.queries` lists the queries without an answer, `Project.answer` records an answer, and `Project.run` continues.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from made_up_data import make_data, make_probabilities

import a2lc
from a2lc.demo.looks import scene_classes
from a2lc.images.label_maps import read_ids
from a2lc.records import Query


def look_at(project: a2lc.Project, query: Query, data: Path) -> str | None:
    """Return the class of the mask that a query is about, in place of a person or of your own tool.

    Here it is the most frequent true class; None means that the mask belongs to no class.
    """
    image = project.images[query.image]
    inside = np.isin(project.mask_map(image), query.mask_ids)
    truth = read_ids(data / "ground_truth" / "train" / f"{image.image_id}.png")[inside]
    value = int(np.bincount(truth).argmax())
    values = list(project.classes.file_values)
    return project.classes.names[values.index(value)] if value in values else None


def main(folder: Path) -> None:
    """Run the example in a folder."""
    data = make_data(folder / "data", images=6)
    probabilities = make_probabilities(data, folder / "probabilities")
    project = a2lc.create_project(
        folder / "answers.a2lc",
        images=data / "images",
        labels=data / "labels",
        masks=data / "masks",
        classes=scene_classes(),
    )
    with project:
        result = project.run(method="gain", budget=30, annotator="human", probabilities=probabilities)
        while not result.finished:
            waiting = project.queries()
            for query in waiting:
                project.answer(query, look_at(project, query, data), annotator="script")
            print(f"answered {len(waiting)} queries")
            result = project.run()  # continues the open round
        changed = sum(row["manual_changed"] for row in result.rounds)
        print(f"{changed} masks corrected by the answers")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("a2lc-example"))
