"""Boxes and scores of a tiny Grounding DINO with random weights, checked against loops over its raw output."""

from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.table import ClassTable
from a2lc.errors import InputError, UnknownNameError
from a2lc.foundation.detector import Detector, class_scores
from a2lc.foundation.prompts import class_phrases, make_prompts
from a2lc.weights.loading import choose_device

torch = pytest.importorskip("torch", reason="needs the extra foundation")

TABLE = ClassTable.from_json(
    {
        "classes": [
            {"name": "road"},
            {"name": "traffic light", "synonyms": ["light", "kiosk"]},
            {"name": "traffic sign"},
            {"name": "car"},
        ]
    }
)
SMALL = {"shortest": 64, "longest": 96}


@pytest.fixture
def detector(ready):
    def make(name="detector", larger=0.0, **settings):
        """`larger` adds to the logits of boxes' sides: those of random weights are a few pixels."""
        made = Detector(ready(name), class_phrases(TABLE), 4, **SMALL | settings)
        with torch.no_grad():
            made.model.bbox_embed[-1].layers[2].bias[2:] += larger
        return made

    return make


def test_class_scores_are_those_of_a_loop(tokenizer):
    (prompt,) = make_prompts(class_phrases(TABLE), tokenizer, 256)
    rng = np.random.default_rng(0)
    probs = rng.random((6, prompt.tokens)).astype(np.float32)
    ids = tokenizer(prompt.text)["input_ids"]
    text = ["[CLS]", "road", ".", "traffic", "light", ".", "light", ".", *tokenizer.tokenize("kiosk"), "."]
    assert tokenizer.convert_ids_to_tokens(ids)[: len(text)] == text
    for reduction, reduce in (("mean", np.mean), ("max", np.max)):
        found = class_scores(torch.from_numpy(probs), prompt, 5, reduction).numpy()
        for box in range(6):
            row = probs[box]
            light = max(reduce(row[3:5]), row[6], reduce(row[8:13]))
            expected = [row[1], light, reduce(row[14:16]), row[17], np.nan]
            np.testing.assert_allclose(found[box], expected, rtol=1e-6)


def test_a_shared_word_alone_does_not_make_the_other_class(tokenizer):
    # "traffic" of "traffic sign" was taken for that of "traffic light" in published labels, and the other way round.
    (prompt,) = make_prompts({0: ("traffic light",), 1: ("traffic sign",)}, tokenizer, 256)
    probs = torch.tensor([[0.0, 0.9, 0.8, 0.0, 0.3, 0.1, 0.0, 0.0], [0.0, 0.3, 0.1, 0.0, 0.9, 0.8, 0.0, 0.0]])
    for reduction in ("mean", "max"):
        assert class_scores(probs, prompt, 2, reduction).argmax(dim=1).tolist() == [0, 1]


def test_boxes_are_those_of_the_model_itself(detector, pictures):
    """The whole way against the model called by hand, box after box."""
    (image,) = pictures(1)
    own = detector(floor=0.6, nms=1.0)
    (found,) = own.detect([image])
    (prompt,) = own.prompts
    pixels = own.images(images=[image], size={"shortest_edge": 64, "longest_edge": 96}, return_tensors="pt")
    with torch.inference_mode():
        out = own.model(**own.tokenizer([prompt.text], return_tensors="pt"), **pixels)
    expected = []
    for logits, (x, y, w, h) in zip(out.logits[0].sigmoid().numpy(), out.pred_boxes[0].numpy(), strict=True):
        scores = np.zeros(4)
        for phrase in prompt.phrases:
            score = logits[phrase.first : phrase.last].mean()
            scores[phrase.class_index] = max(scores[phrase.class_index], score)
        if scores.max() >= 0.6:
            sides = np.clip([x - w / 2, y - h / 2, x + w / 2, y + h / 2], 0, 1) * [56, 40, 56, 40]
            expected.append((scores.max(), int(scores.argmax()), *sides))
    expected.sort(key=lambda row: -row[0])
    assert len(expected) == len(found.scores) > 5
    np.testing.assert_allclose(found.scores, [row[0] for row in expected], rtol=1e-5)
    assert found.classes.tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(found.boxes, [row[2:] for row in expected], atol=1e-3)
    np.testing.assert_allclose(found.class_scores.max(axis=1), found.scores, atol=1e-3)


def test_the_floor_the_best_and_overlapping_boxes(detector, pictures):
    (image,) = pictures(1)
    (every,) = detector(floor=0.0, nms=1.0, larger=1.0).detect([image])
    assert len(every.scores) == 20 and (np.diff(every.scores) <= 0).all()
    middle = float(np.sort(every.scores)[12])
    (some,) = detector(floor=middle, nms=1.0, larger=1.0).detect([image])
    np.testing.assert_array_equal(some.boxes, every.boxes[every.scores >= middle])
    (few,) = detector(floor=0.0, nms=1.0, larger=1.0, most=3).detect([image])
    np.testing.assert_array_equal(few.boxes, every.boxes[:3])
    # A loop: the best stays, and what overlaps it more than allowed and is of its class goes.
    kept: list[int] = []
    for i, (a, of) in enumerate(zip(every.boxes, every.classes, strict=True)):
        if all(of != every.classes[k] or iou(a, every.boxes[k]) <= 0.05 for k in kept):
            kept.append(i)
    assert len(kept) < 20
    (apart,) = detector(floor=0.0, nms=0.05, larger=1.0).detect([image])
    np.testing.assert_array_equal(apart.boxes, every.boxes[kept])


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


@pytest.mark.parametrize("name", ["detector", "short"])
def test_the_batch_changes_nothing(detector, pictures, name):
    own, images = detector(name, floor=0.3), pictures(3)
    assert len(own.prompts) == (1 if name == "detector" else 2)
    alone = [own.detect([image])[0] for image in images]
    for batch in (2, 4):
        for one, other in zip(alone, own.detect(images, batch), strict=True):
            assert len(one.scores) == len(other.scores) > 0
            np.testing.assert_array_equal(one.classes, other.classes)
            np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_prompts_of_one_class(detector, pictures):
    (image,) = pictures(1)
    own = detector(one_class=True, floor=0.0, nms=1.0)
    assert [prompt.classes for prompt in own.prompts] == [(0,), (1,), (2,), (3,)]
    (found,) = own.detect([image], batch=3)
    assert len(found.scores) == 80
    # A box knows nothing of classes that stood in another prompt.
    known = ~np.isnan(found.class_scores)
    np.testing.assert_array_equal(known.sum(axis=1), 1)
    np.testing.assert_array_equal(known.argmax(axis=1), found.classes)
    alone = Detector(own_ready(own), {2: ("traffic sign",)}, 4, floor=0.0, nms=1.0, **SMALL)
    (sign,) = alone.detect([image])
    mine = found.scores[found.classes == 2]
    np.testing.assert_allclose(mine, sign.scores, atol=1e-5)


def own_ready(detector):
    from pathlib import Path

    from a2lc.weights.catalogue import Weights
    from a2lc.weights.files import Ready

    folder = Path(detector.model.config._name_or_path)
    return Ready(weights=Weights(name=str(folder), job="detector", folder=folder), folder=folder)


def test_images_of_one_size_alone(detector, pictures):
    own = detector()
    assert own.detect([]) == []
    with pytest.raises(InputError, match="All images of one call must have the same size"):
        own.detect([*pictures(1), *pictures(1, height=41)])


def test_an_image_three_pixels_high_is_not_taken_for_three_channels(detector):
    image = np.random.default_rng(0).integers(0, 256, size=(3, 50, 3), dtype=np.uint8)
    (found,) = detector(floor=0.0, nms=1.0, larger=1.0).detect([image])
    assert len(found.boxes) > 5 and found.boxes[:, 2].max() > 3 >= found.boxes[:, 3].max()


def test_refusals(ready, detector):
    with pytest.raises(InputError, match="contains a model of type 'sam'; a detector must be of type 'grounding-dino'"):
        Detector(ready("sam"), {0: ("road",)}, 1)
    with pytest.raises(UnknownNameError, match=r"Unknown reduction 'men'\. Did you mean 'mean'"):
        detector(reduction="men")
    with pytest.raises(InputError, match="Class 'road' needs 17 tokens"):
        Detector(ready("short"), {0: ("road", "car sign", "car pole", "car wheel", "bus sign sky")}, 1)


def test_an_output_that_is_no_number_is_refused(detector, pictures):
    own = detector()
    with torch.no_grad():
        own.model.bbox_embed[1].layers[2].bias.fill_(torch.nan)
        own.model.bbox_embed[0].layers[2].bias.fill_(torch.nan)
    with pytest.raises(InputError, match="output is not finite; its weights are damaged"):
        own.detect(pictures(1))


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_what_overflows_in_half_precision_is_done_again(detector, pictures, monkeypatch):
    # No GPU is here: autocast does nothing, and the overflow is made up.
    own, images = detector(floor=0.3), pictures(2)
    expected = own.detect(images, 2)
    forward, calls = own.model.forward, []

    def overflowing(**arguments):
        calls.append(torch.is_autocast_enabled("cuda"))
        out = forward(**arguments)
        if len(calls) == 1:
            out.pred_boxes[0, 3, 1] = torch.inf
        return out

    own.autocast = True
    monkeypatch.setattr(own.model, "forward", overflowing)
    for one, other in zip(expected, own.detect(images, 2), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert len(calls) == 2 and not calls[1]


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    with pytest.raises(InputError, match=r"`device` is cuda, but this machine has 0 CUDA devices\. Use cpu"):
        choose_device("cuda")
    with pytest.raises(InputError, match="Unknown device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(InputError, match="only cpu and cuda are supported"):
        choose_device("meta")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda" and choose_device("cuda:1") == "cuda:1"
    with pytest.raises(InputError, match="this machine has 2 CUDA devices"):
        choose_device("cuda:2")
