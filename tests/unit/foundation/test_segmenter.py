"""Masks of tiny SAM and SAM 2 with random weights, checked against transformers' own way through their processors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from a2lc.errors import InputError
from a2lc.foundation.segmenter import AutomaticSettings, Segmenter
from a2lc.masks.superpixels import grid

torch = pytest.importorskip("torch", reason="needs the extra foundation")

BOXES = np.array([[3.0, 4.0, 30.0, 38.5], [10.0, 10.0, 55.0, 20.0], [0.0, 0.0, 56.0, 40.0]], dtype=np.float32)
LOOSE = AutomaticSettings(points=6, min_iou=0.0, min_stability=0.0, offset=0.0, min_area=1, nms=1.0)


@pytest.fixture(params=["sam", "sam2"])
def segmenter(ready, request):
    return Segmenter(ready(request.param))


def by_processor(segmenter, image, several=False, **prompts):
    """Masks by the documented calls of transformers, everything at once."""
    inputs = segmenter.processor(images=image, return_tensors="pt", **prompts)
    sizes = [inputs.pop("original_sizes")]
    if not segmenter.second:
        sizes.append(inputs.pop("reshaped_input_sizes"))
    inputs = {name: v.float() if v.dtype == torch.float64 else v for name, v in inputs.items()}
    with torch.inference_mode():
        out = segmenter.model(**inputs, multimask_output=several)
    return segmenter.processor.post_process_masks(out.pred_masks, *sizes)[0].numpy(), out.iou_scores[0].numpy()


def agree(ours, theirs):
    # Coordinates are scaled in double precision here and in single there: a pixel at a border may fall otherwise.
    assert ours.shape == theirs.shape and (ours != theirs).mean() < 0.01


def test_masks_of_boxes(segmenter, pictures):
    (image,) = pictures(1)
    found = segmenter.masks_for_boxes(image, BOXES)
    expected, _ = by_processor(segmenter, image, input_boxes=[BOXES.tolist()])
    assert len(found) == 3 and found.areas().min() > 0
    for index in range(3):
        agree(found.mask(index), expected[index, 0])
    assert not np.array_equal(found.mask(0), found.mask(1)), "a mask is of its box"


def test_an_image_three_pixels_high_is_not_taken_for_three_channels(segmenter):
    image = np.random.default_rng(0).integers(0, 256, size=(3, 50, 3), dtype=np.uint8)
    seen = segmenter.embed(image)
    assert (seen.height, seen.width) == (3, 50)
    assert segmenter.masks_for_boxes(seen, np.array([[5.0, 0.0, 30.0, 3.0]])).mask(0).shape == (3, 50)


def test_boxes_some_at_a_time_and_an_image_seen_once(segmenter, pictures, monkeypatch):
    (image,) = pictures(1)
    whole = segmenter.masks_for_boxes(image, BOXES)
    seen, calls = segmenter.embed(image), []
    decode = segmenter._decode

    def counted(*args, boxes, **kwargs):
        calls.append(len(boxes))
        return decode(*args, boxes=boxes, **kwargs)

    monkeypatch.setattr(segmenter, "_decode", counted)
    monkeypatch.setattr(segmenter, "embed", lambda image: pytest.fail("the image was embedded before"))
    monkeypatch.setattr(segmenter, "at_once", 2)
    parts = segmenter.masks_for_boxes(seen, BOXES)
    assert calls == [2, 1]
    for index in range(3):
        agree(parts.mask(index), whole.mask(index))
    assert len(segmenter.masks_for_boxes(seen, np.empty((0, 4), dtype=np.float32))) == 0


def test_decoding_is_bounded_by_pixels(segmenter):
    from a2lc.foundation.segmenter import _PIXELS_AT_ONCE, Embedded

    large = Embedded(6000, 8000, None, np.ones(2), (64, 64))
    assert segmenter._step(large, 1) == 1 == _PIXELS_AT_ONCE // (6000 * 8000)
    assert segmenter._step(Embedded(40, 56, None, np.ones(2), (64, 64)), 3) == 64


def test_masks_of_clicks(segmenter, pictures):
    (image,) = pictures(1)
    seen = segmenter.embed(image)
    # One click: of three masks the one the model trusts most.
    one = segmenter.masks_for_points(seen, [(20, 30)], [1])
    masks, quality = by_processor(segmenter, image, True, input_points=[[[[20.0, 30.0]]]], input_labels=[[[1]]])
    agree(one, masks[0, quality[0].argmax()])
    # Clicks on it and beside it: one mask.
    two = segmenter.masks_for_points(image, [(20, 30), (50, 5)], [1, 0])
    masks, _ = by_processor(segmenter, image, input_points=[[[[20.0, 30.0], [50.0, 5.0]]]], input_labels=[[[1, 0]]])
    agree(two, masks[0, 0])
    assert one.shape == (40, 56) and one.dtype == np.bool_
    other = segmenter.masks_for_points(seen, [(20, 30), (50, 5)], [1, 1])
    assert not np.array_equal(two, other), "a click beside it says something else than one on it"


def test_clicks_that_make_no_sense(segmenter, pictures):
    seen = segmenter.embed(*pictures(1))
    for points, labels in (([(1, 1)], [0]), ([(1, 1)], [1, 1]), ([(1, 1)], [2]), ([], [])):
        with pytest.raises(InputError, match="expected one label per click, 1 on the object or 0 beside it"):
            segmenter.masks_for_points(seen, points, labels)
    with pytest.raises(InputError, match="outside the image of 56 x 40 pixels"):
        segmenter.masks_for_points(seen, [(20, 41)], [1])


def test_masks_of_everything(segmenter, pictures):
    (image,) = pictures(1)
    found = segmenter.automatic(image, LOOSE)
    assert found.shape == (40, 56) and found.dtype == np.uint16 and found.max() > 1
    np.testing.assert_array_equal(np.unique(found[found > 0]), np.arange(1, found.max() + 1))
    # By hand: the masks of every point, the large below the small.
    ticks = [(i + 0.5) / 6 for i in range(6)]
    points = [[[x * 56, y * 40]] for y in ticks for x in ticks]
    masks, quality = by_processor(segmenter, image, True, input_points=[points], input_labels=[[[1]] * 36])
    sure = quality.ravel() > 0
    masks, quality = masks.reshape(-1, 40, 56)[sure], quality.ravel()[sure]
    expected = np.zeros((40, 56), dtype=int)
    for number in np.lexsort((quality, -masks.sum(axis=(1, 2)))):
        expected[masks[number]] = number + 1
    assert abs(int(found.max()) - len(np.unique(expected)) + 1) <= 2
    np.testing.assert_array_less(np.mean((found > 0) != (expected > 0)), 0.02)
    sideways = [values[:, 1:] != values[:, :-1] for values in (found, expected)]
    assert (sideways[0] != sideways[1]).mean() < 0.05, "the same pieces"
    # Masks of random weights fill the image, so that of the boxes that overlap the best alone stays.
    (best,) = np.unique(segmenter.automatic(image, replace(LOOSE, nms=0.5)))[1:]
    assert best == 1
    agree(segmenter.automatic(image, replace(LOOSE, nms=0.5)) > 0, masks[quality.argmax()])


def test_unsure_unstable_and_small_masks_are_dropped(segmenter, pictures):
    seen = segmenter.embed(*pictures(1))
    assert segmenter.automatic(seen, LOOSE).any()
    for change in ({"min_iou": 1.0}, {"min_stability": 1.0}, {"offset": 1e6}, {"min_area": 40 * 56 + 1}):
        assert not segmenter.automatic(seen, replace(LOOSE, **change)).any(), change
    covered = segmenter.automatic(seen, replace(LOOSE, min_iou=1.0), grid(40, 56, 8))
    np.testing.assert_array_equal(covered, grid(40, 56, 8))


def test_refusals(ready):
    with pytest.raises(
        InputError, match="contains a model of type 'grounding-dino'; a segmenter must be of type 'sam' or 'sam2'"
    ):
        Segmenter(ready("detector"))
    with pytest.raises(InputError, match="`points` is 0; expected 1 to 256"):
        AutomaticSettings(points=0).check()
    with pytest.raises(InputError, match=r"`min_iou` is 1\.5; expected 0 to 1"):
        AutomaticSettings(min_iou=1.5).check()


def test_weights_as_sam_2_1_is_published(models, tmp_path, pictures):
    """The published files are those of the model for video; the parts for images are read from them, each of them."""
    from transformers import Sam2VideoModel

    from a2lc.weights.catalogue import find_weights
    from a2lc.weights.files import obtain

    from .models import write_sam2_video

    folder = write_sam2_video(tmp_path / "video", models / "sam2")
    segmenter = Segmenter(obtain(find_weights(str(folder), "segmenter")))
    video = dict(Sam2VideoModel.from_pretrained(folder).named_parameters())
    ours = dict(segmenter.model.named_parameters())
    assert len(video) > len(ours) > 100
    for name, values in ours.items():
        assert torch.equal(values, video[name]), name
    found = segmenter.masks_for_boxes(*pictures(1), BOXES)
    assert len(found) == 3 and found.areas().min() > 0
