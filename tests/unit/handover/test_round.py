"""A round whose questions were answered in another tool goes on like any other, with what was drawn in its labels."""

import json

import numpy as np
import pytest

from a2lc.formats.rle import brush_of_mask, mask_of_brush
from a2lc.handover import hand_over, take_back
from a2lc.rounds.loop import Loop
from a2lc.rounds.recorder import Recorder


@pytest.mark.slow
def test_a_round_goes_on_with_what_was_drawn_elsewhere(scored, tmp_path):
    with scored.project("handed-over.a2lc") as project:
        loop = Loop(project, scored.plan(project, 6, method="random", kind="human"))
        assert not loop.run(1), "it waits for answers"
        summary = hand_over(project, tmp_path / "out", "label-studio")
        assert summary.questions >= 6
        tasks = json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8"))
        for task in tasks:
            task["annotations"] = [{"result": task["predictions"][0]["result"]}]
        (handed,) = tasks[0]["annotations"][0]["result"]
        mask = mask_of_brush(handed["value"]["rle"], handed["original_height"], handed["original_width"])
        flat = np.flatnonzero(mask)
        bus = np.zeros_like(mask)
        bus.ravel()[flat[: len(flat) // 2]] = True
        drawn = handed | {"value": handed["value"] | {"rle": brush_of_mask(bus), "brushlabels": ["bus"]}}
        tasks[0]["annotations"][0]["result"] = [handed, drawn]
        (tmp_path / "out" / "done.json").write_text(json.dumps(tasks), encoding="utf-8")
        with project.lock():
            assert take_back(project, tmp_path / "out", annotator="Ada").recorded == summary.questions
        assert loop.run(1)
        image = project.record(tasks[0]["data"]["image_id"])
        proposed = Recorder(project).queries[tasks[0]["data"]["query_id"]].proposed
        labels = project.corrected_labels(image)
        assert (labels[bus] == project.classes.index("bus")).all()
        assert (labels[mask & ~bus] == proposed).all()
