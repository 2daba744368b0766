"""Real images: CamVid, where it lies beside the project."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2lc.cli.app import _main
from a2lc.project.project import Project

CAMVID = Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not CAMVID.is_dir(), reason="CamVid is not beside the project (../shared/data/camvid); its terms forbid a copy"
    ),
]


def test_import_of_all_counts_what_its_readme_says(tmp_path, capsys):
    options = {"images": "images", "labels": "pseudo_labels", "masks": "masks", "ground-truth": "ground_truth"}
    flags = [str(part) for option, folder in options.items() for part in (f"--{option}", CAMVID / folder)]
    assert _main(["init", str(tmp_path / "c.a2lc"), *flags, "--classes", str(CAMVID / "classes.json")]) == 0
    printed = capsys.readouterr().out
    assert "367 images, 18,101 masks, 11 classes" in printed and "101 validation images" in printed
    assert "data mIoU 0.4638" in printed


def test_a_slice_of_it_goes_the_whole_way(tmp_path, capsys, monkeypatch):
    pytest.importorskip("lightning", reason="training needs the extra [train]")
    stems = sorted(path.stem for path in (CAMVID / "images/train").iterdir())[::30]
    folders = {"images": "jpg", "ground_truth": "png", "masks": "png", "pseudo_labels": "png"}
    for folder, suffix in folders.items():
        (tmp_path / folder).mkdir()
        for stem in stems:
            (tmp_path / folder / f"{stem}.{suffix}").symlink_to(CAMVID / folder / "train" / f"{stem}.{suffix}")
    monkeypatch.chdir(tmp_path)
    options = ["--images", "images", "--labels", "pseudo_labels", "--masks", "masks", "--ground-truth", "ground_truth"]
    assert _main(["init", "slice.a2lc", *options, "--classes", str(CAMVID / "classes.json")]) == 0
    settings = ["resize=96", "iterations=30", "warm_iterations=10", "batch_size=4", "validate_every=1000"]
    flags = [part for setting in settings for part in ("--set", f"training.{setting}")]
    assert _main(["run", "slice.a2lc", "--rounds", "1", "--budget", "60", *flags]) == 0
    assert "head on learned features" in capsys.readouterr().out
    assert _main(["status", "slice.a2lc", "--json"]) == 0
    first, last = json.loads(capsys.readouterr().out)["rounds"]
    assert last["data_miou"] > first["data_miou"] and last["clicks"] == 60 and last["manual_changed"] > 5
    assert 0 < last["model_miou"] < 1
    assert _main(["export", "slice.a2lc", "--out", "fixed", "--format", "voc"]) == 0
    with Project("slice.a2lc") as project:
        for image in project.images:
            written = np.array(Image.open(tmp_path / f"fixed/SegmentationClass/{image.image_id}.png"))
            np.testing.assert_array_equal(written, project.corrected_labels(image))
    assert "<html" in (tmp_path / "slice.a2lc/report.html").read_text()[:500]
