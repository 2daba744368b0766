"""Boxes of the classes in images: Grounding DINO, each class scored over its own words.

The model gives each box a logit for every token of the prompt. The score of a phrase is the mean of the tokens'
probabilities over its span, and that of a class the highest of its phrases. The mean, since the authors' own evaluation on
COCO and MMDetection's take it (PostProcessCocoGrounding in demo/test_ap_on_coco.py of IDEA-Research/GroundingDINO;
convert_grounding_to_cls_scores of open-mmlab/mmdetection), and since the highest token of "traffic sign" is often
"traffic", which a traffic light earns as well. Labels of ALC and A2LC were made by the highest token: `reduction="max"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, require_known
from a2lc.foundation.prompts import Prompt, make_prompts
from a2lc.weights.files import Ready, need_transformers
from a2lc.weights.loading import load_model, load_processor, reading_config

__all__ = ["REDUCTIONS", "Detections", "Detector", "class_scores"]

REDUCTIONS = {
    "mean": "mean probability of the tokens of a phrase",
    "max": "highest probability of a token of a phrase, as ALC and A2LC",
}
"""How tokens' probabilities make a phrase's score."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Boxes of one image, the best first.

    Attributes:
        boxes: (N, 4) float32: left, top, right, bottom in pixels, within the image.
        classes: (N,) int32 class with the highest score.
        scores: (N,) float32 that score, 0..1.
        class_scores: (N, K) float16 of every class; NaN of classes that stood in another prompt than the box was found by.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int32]
    scores: NDArray[np.float32]
    class_scores: NDArray[np.float16]


def class_scores(probs: Any, prompt: Prompt, num_classes: int, reduction: str) -> Any:
    """Scores of classes from probabilities of tokens.

    Args:
        probs: (Q, T) tensor in [0, 1]: of each box and token.
        prompt: Where phrases stand among the tokens.
        num_classes: K.
        reduction: `mean` or `max` over the tokens of a phrase.

    Returns:
        (Q, K) tensor; NaN of classes the prompt does not ask for.
    """
    import torch

    found = torch.full((len(probs), num_classes), torch.nan, dtype=probs.dtype, device=probs.device)
    for phrase in prompt.phrases:
        span = probs[:, phrase.first : phrase.last]
        score = span.mean(dim=1) if reduction == "mean" else span.amax(dim=1)
        # Of synonyms the best: fmax takes the number where the other is NaN.
        found[:, phrase.class_index] = torch.fmax(found[:, phrase.class_index], score)
    return found


class Detector:
    """Grounding DINO of transformers, its prompts made, on a device."""

    def __init__(
        self,
        ready: Ready,
        phrases: dict[int, tuple[str, ...]],
        num_classes: int,
        *,
        device: str = "cpu",
        one_class: bool = False,
        reduction: str = "mean",
        floor: float = 0.2,
        nms: float = 0.8,
        most: int = 1000,
        shortest: int = 800,
        longest: int = 1333,
        autocast: bool = True,
    ) -> None:
        """Load the model.

        Args:
            ready: Its files.
            phrases: Of each class to look for.
            num_classes: K.
            device: `cpu`, `cuda` or `cuda:N`.
            one_class: A prompt a class.
            reduction: `mean` or `max`, see the module.
            floor: Boxes of lower scores are dropped.
            nms: Of two boxes of one class whose intersection is more than this share of their union, the better stays.
            most: Boxes kept of an image, the best.
            shortest: Images are resized, aspect kept, to this shortest side in pixels,
            longest: or to this longest side, whichever makes them smaller.
            autocast: Half precision on CUDA devices; where that overflows, a batch is done again in full precision.

        Raises:
            InputError: The files are of another model, or a class does not fit its text window.
            MissingExtraError: transformers is not installed.
        """
        need_transformers()
        from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

        require_known("reduction", reduction, REDUCTIONS)
        found = reading_config(ready).get("model_type")
        if found != "grounding-dino":
            raise InputError(
                f"{ready.folder} contains a model of type {found!r}; a detector must be of type 'grounding-dino'."
            )
        processor = load_processor(GroundingDinoProcessor, ready)
        self.model = load_model(GroundingDinoForObjectDetection, ready, device)
        self.images, self.tokenizer = processor.image_processor, processor.tokenizer
        self.device, self.autocast = device, autocast and device.startswith("cuda")
        self.num_classes, self.reduction, self.floor, self.nms, self.most = num_classes, reduction, floor, nms, most
        self.size = {"shortest_edge": shortest, "longest_edge": longest}
        self.prompts = make_prompts(phrases, self.tokenizer, int(self.model.config.max_text_len), one_class=one_class)

    def detect(self, images: Sequence[NDArray[np.uint8]], batch: int = 1) -> list[Detections]:
        """Boxes in images of one size.

        Pairs of image and prompt go through the model `batch` at a time. Images of different sizes would be padded, and a
        padded image gives other boxes than the same image alone.

        Args:
            images: Each (H, W, 3) uint8, all of one size.
            batch: Pairs at once.
        """
        if not images:
            return []
        height, width = images[0].shape[:2]
        if any(image.shape != (height, width, 3) for image in images):
            raise InputError("All images of one call must have the same size.")
        pixels = self.images(
            images=list(images), size=self.size, input_data_format="channels_last", return_tensors="pt"
        )["pixel_values"]
        pairs = [(i, p) for i in range(len(images)) for p in range(len(self.prompts))]
        parts: list[list[tuple[Any, Any]]] = [[] for _ in images]
        for start in range(0, len(pairs), batch):
            some = pairs[start : start + batch]
            logits, boxes = self._forward(pixels[[i for i, _ in some]], [self.prompts[p] for _, p in some])
            for row, (image, number) in enumerate(some):
                prompt = self.prompts[number]
                probs = logits[row, :, : prompt.tokens].sigmoid()
                scores = class_scores(probs, prompt, self.num_classes, self.reduction).cpu()
                best = scores.nan_to_num(-1.0).amax(dim=1)
                keep = best >= self.floor
                # Only what is kept waits for the image's other prompts.
                parts[image].append((scores[keep], boxes[row].cpu()[keep]))
        return [self._choose(some, height, width) for some in parts]

    def _forward(self, pixels: Any, prompts: Sequence[Prompt]) -> tuple[Any, Any]:
        """Logits (B, Q, T) and boxes (B, Q, 4), centre and size as shares of the image, both float32 on the device."""
        import torch

        text = self.tokenizer([prompt.text for prompt in prompts], padding=True, return_tensors="pt")
        arguments = {name: text[name].to(self.device) for name in ("input_ids", "token_type_ids", "attention_mask")}
        arguments["pixel_values"] = pixels.to(self.device)
        arguments["pixel_mask"] = torch.ones(pixels[:, 0].shape, dtype=torch.long, device=self.device)
        for half in (True, False) if self.autocast else (False,):
            with torch.inference_mode(), torch.autocast("cuda", torch.float16) if half else nullcontext():
                out = self.model(**arguments)
            logits, boxes = out.logits.float(), out.pred_boxes.float()
            # Minus infinity stands for padding; anything else that is not a number is an overflow.
            if bool(boxes.isfinite().all()) and not bool((logits.isnan() | logits.isposinf()).any()):
                break
        else:
            raise InputError(
                "The detector's output is not finite; its weights are damaged, or are not those of a detector."
            )
        return logits, boxes

    def _choose(self, parts: Sequence[tuple[Any, Any]], height: int, width: int) -> Detections:
        """Of an image's boxes those that stay."""
        import torch
        from torchvision.ops import batched_nms, box_convert

        scores = torch.cat([score for score, _ in parts])
        boxes = torch.cat([box for _, box in parts])
        boxes = box_convert(boxes, "cxcywh", "xyxy") * torch.tensor([width, height, width, height])
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        best, classes = scores.nan_to_num(-1.0).max(dim=1)
        wide = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
        scores, boxes, best, classes = scores[wide], boxes[wide], best[wide], classes[wide]
        keep = batched_nms(boxes, best, classes, self.nms)
        # The best first; among equals the first found, so that the order never depends on how sorting is done.
        keep = keep[torch.as_tensor(np.lexsort((keep.numpy(), -best[keep].numpy())))][: self.most]
        return Detections(
            boxes[keep].numpy().astype(np.float32),
            classes[keep].numpy().astype(np.int32),
            best[keep].numpy().astype(np.float32),
            scores[keep].numpy().astype(np.float16),
        )
