"""Repair a data set from Python: create a project, run two rounds, read the label quality, and export.

    python examples/repair_a_data_set.py [FOLDER]

Answers come from the ground truth of synthetic scenes, so no annotator is needed. No GPU, no torch, no download.
"""

from __future__ import annotations

import sys
from pathlib import Path

from made_up_data import make_data, make_probabilities

import a2lc
from a2lc.demo.looks import scene_classes


def main(folder: Path) -> None:
    """Run the example in a folder."""
    data = make_data(folder / "data")
    probabilities = make_probabilities(data, folder / "probabilities")

    project = a2lc.create_project(
        folder / "scenes.a2lc",
        images=data / "images",
        labels=data / "labels",
        masks=data / "masks",
        ground_truth=data / "ground_truth",
        classes=scene_classes(),
    )
    with project:
        print(f"{len(project.images)} images, {len(project.masks)} masks, {project.classes.num_classes} classes")

        result = project.run(
            method="gain", rounds=2, budget=60, probabilities=probabilities, on_stage=lambda stage: print(stage.summary)
        )
        for row in result.rounds:
            print(f"round {row['round']}: {row['clicks']:g} clicks, data mIoU {row['data_miou']:.3f}")

        quality = project.label_quality()
        if quality is not None:  # only rounds with audits have it
            accuracy = quality["after"]["pixel_accuracy"]
            print(f"estimated without ground truth: pixel accuracy {accuracy['low']:.3f} to {accuracy['high']:.3f}")

        print("report:", project.report())
        summary = project.export(folder / "corrected", format="voc")
        print(f"exported {summary.images} label maps, {summary.changed_images} of them changed")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("a2lc-example"))
