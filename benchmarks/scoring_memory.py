"""Peak memory of scoring 200 and 2,000 images, each in a process of its own.

python benchmarks/scoring_memory.py
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path


def score(images):
    """Score a project of so many images and print the peak memory in MiB."""
    from a2lc.creation.importer import create_project
    from a2lc.demo.looks import scene_classes
    from a2lc.demo.scenes import write_scenes
    from a2lc.demo.settings import SceneSettings
    from a2lc.formats.base import Sources
    from a2lc.project.config import AnnotatorConfig, TrainingConfig
    from a2lc.project.project import Project
    from a2lc.rounds.loop import Loop
    from a2lc.rounds.plan import RoundPlan

    training = TrainingConfig(preset="tiny", iterations=1, validate_every=1000, cache_megabytes=0, checkpoint="last")
    with tempfile.TemporaryDirectory() as root:
        scenes = Path(root) / "scenes"
        write_scenes(scenes, SceneSettings(images=images, validation_images=4, height=128, width=160))
        sources = Sources(
            images=scenes / "images",
            labels=scenes / "labels",
            masks=scenes / "masks",
            ground_truth=scenes / "ground_truth",
        )
        create_project(Path(root) / "p.a2lc", sources, scene_classes())
        plan = RoundPlan(method="a2lc", settings={}, budget=100, training=training, annotator=AnnotatorConfig(), seed=0)
        with Project(Path(root) / "p.a2lc") as project:
            Loop(project, plan).run(0)
            before = peak()
            for stage in ("score", "select"):
                Loop(project, plan).run_stage(stage)
            print(f"{images} images: {peak():.0f} MiB at the peak, {before:.0f} MiB before scoring")
            print(peak())


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    figures = []
    for images in (200, 2000):
        done = subprocess.run([sys.executable, __file__, str(images)], capture_output=True, text=True, check=True)
        print(done.stdout.splitlines()[0])
        figures.append(float(done.stdout.splitlines()[-1]))
    print(f"ratio {figures[1] / figures[0]:.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        score(int(sys.argv[1]))
    else:
        main()
