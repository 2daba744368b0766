"""`--method sam`: masks of everything, kept image by image until all are there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from a2lc.creation.masks import SamMasks, make_masks
from a2lc.errors import InputError, UnknownNameError
from a2lc.foundation.segmenter import AutomaticSettings, Segmenter

LOOSE = AutomaticSettings(points=4, min_iou=0.0, min_stability=0.0, offset=0.0, nms=1.0)


@pytest.fixture
def sam(ready):
    def make(name="sam2", **settings):
        return SamMasks(ready=ready(name), device="cpu", **{"automatic": LOOSE} | settings)

    return make


@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_masks_are_those_of_the_segmenter(project, ready, sam, name):
    number = make_masks(project, "sam", sam=sam(name))
    segmenter, total = Segmenter(ready(name)), 0
    for image in project.images:
        expected = segmenter.automatic(project.pixels(image), LOOSE)
        np.testing.assert_array_equal(project.mask_map(image), expected)
        total += int(expected.max())
    assert number == total == len(project.masks) > 8
    said = json.loads((project.folder / "tables" / "masks.json").read_text())
    assert said["method"] == "sam" and said["points"] == 4 and len(said["revision"]) == 64
    assert not list((project.folder / "pseudo").iterdir()), "they are in place now"


def test_the_rest_may_be_covered(project, sam):
    make_masks(project, "sam", count=12, sam=sam(automatic=AutomaticSettings(points=2, min_iou=1.0), cover="slic"))
    for image in project.images:
        assert (project.mask_map(image) > 0).all() and 4 < project.mask_map(image).max() < 30


def test_a_killed_run_goes_on_at_the_image(project, sam, monkeypatch, snapshot):
    class Killed(BaseException):
        pass

    original, calls = Segmenter.automatic, []

    def killed(self, *args):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return original(self, *args)

    monkeypatch.setattr(Segmenter, "automatic", killed)
    with pytest.raises(Killed):
        make_masks(project, "sam", sam=sam())
    assert not len(project.masks)
    number = make_masks(project, "sam", sam=sam())
    assert len(calls) == 5, "two were there"
    masks = snapshot(project.folder / "masks")
    assert make_masks(project, "sam", sam=sam(), replace=True) == number
    assert snapshot(project.folder / "masks") == masks


def test_refusals(project, sam):
    with pytest.raises(InputError, match="Masks by SAM need weights"):
        make_masks(project, "sam")
    with pytest.raises(UnknownNameError, match="Unknown cover 'slik'"):
        make_masks(project, "sam", sam=sam(cover="slik"))
    with pytest.raises(InputError, match="`points` is 300"):
        make_masks(project, "sam", sam=sam(automatic=AutomaticSettings(points=300)))
    with pytest.raises(InputError, match=r"No masks were found: the model was not confident of any\. Lower `min_iou`"):
        make_masks(project, "sam", sam=sam(automatic=AutomaticSettings(points=2, min_iou=1.0)))
