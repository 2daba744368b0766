"""Mask statistics: class probabilities, labels and a mask map reduced to a row per mask, in one pass.

Everything the loop asks of pixels is asked here, once a round: scores, class weights, the correction
module and the report read the rows and never the pixels again.

Look-ahead scores need a cosine between each pixel and a direction that is known only when the whole mask has
been seen. The cosine is linear in the pixel's unit vector, so what is summed is that vector, weighted by the
doubt of the pixel's label; the direction is multiplied in at the end of the image:

    Σ_x w[l(x)]·(1−f_l(x))·cos(f(x), r)  =  Σ_l w[l] · ( Σ_{x: l(x)=l} (1−f_l(x))·f(x)/‖f(x)‖ ) · r/‖r‖

The bracket is kept per pair of a mask and a label found in it, so class weights can be applied, and changed,
afterwards. Only the choice of ALC's representative pixel looks at the pixels a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import InputError, LabelRangeError, ShapeError
from a2lc.statistics.kernel import reduce_pixels
from a2lc.statistics.mask_rows import first_bad_label, rows_of
from a2lc.statistics.run_kernel import FloatArray, IntArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MaskStats", "finish", "flat_ids", "mask_statistics"]


_ROWS = "rows"


PAIRS = "pairs"


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskStats:
    """What is known of M masks: arrays of M rows, and P rows for the pairs of a mask and a label found in it.

    "Label" below is the label a pixel is scored with: its current label or, where that is the ignore value,
    the class the model predicts there, as the ALC and A2LC code does.

    Attributes:
        num_classes: Number of classes K.
        ignore_index: Id of pixels that carry no class.
        image: (M,) int32, position of the mask's image in the caller's order; 0 for a single image.
        mask_ids: (M,) int32, ids in the mask map, ascending within an image.
        area: (M,) int32, pixels.
        label: (M,) int32, the most frequent current label in [0, K), or `ignore_index`; ties: the smallest.
        void_pixels: (M,) int32, pixels that carry `ignore_index`.
        prob_sums: (M, K) float32, sum of the probabilities over the mask; divided by `area` it is the mean softmax.
        pred_counts: (M, K) int32, pixels by predicted class.
        dominant: (M,) int32, the most frequent predicted class; ties: the smallest.
        direction: (M, K) float32, mean probabilities of the pixels predicted as `dominant` (f(m') of A2LC).
        representative: (M, K) float32, probabilities at the representative pixel (x_r of ALC).
        representative_pixel: (M,) int32, its flat index into H*W.
        representative_doubt: (M,) float32, one minus the probability of its label there: CIL in [0, 1].
        entropy_sum: (M,) float32, summed entropy of the pixels, nats.
        bvsb_sum: (M,) float32, summed ratio of second-best to best probability (BvSB).
        pred_bvsb: (M, K) float32, the same sum by predicted class: PixBal weighs each pixel by the class it is taken for.
        softmin: (M,) float32, soft minimum of the label confidences of the pixels, [0, 1].
        pair_row: (P,) int32, row of the mask, ascending.
        pair_label: (P,) int32, a label scored in it, [0, K), ascending within a mask.
        pair_pixels: (P,) int32, pixels scored with that label.
        pair_doubt: (P,) float32, sum of one minus the probability of that label (CIL).
        pair_similar: (P,) float32, the same sum weighted by the cosine to `direction`.
        pair_similar_representative: (P,) float32, the same weighted by the cosine to `representative`.
    """

    num_classes: int
    ignore_index: int
    image: IntArray
    mask_ids: IntArray
    area: IntArray
    label: IntArray
    void_pixels: IntArray
    prob_sums: FloatArray
    pred_counts: IntArray
    dominant: IntArray
    direction: FloatArray
    representative: FloatArray
    representative_pixel: IntArray
    representative_doubt: FloatArray
    entropy_sum: FloatArray
    bvsb_sum: FloatArray
    pred_bvsb: FloatArray
    softmin: FloatArray
    pair_row: IntArray
    pair_label: IntArray
    pair_pixels: IntArray
    pair_doubt: FloatArray
    pair_similar: FloatArray
    pair_similar_representative: FloatArray

    def __len__(self) -> int:
        """Return the number of masks, M."""
        return len(self.mask_ids)

    @property
    def mean_probs(self) -> FloatArray:
        """(M, K) mean softmax of each mask: φ(m), the input of the label correction module."""
        return (self.prob_sums / np.maximum(self.area, 1)[:, None]).astype(np.float32)

    def sum_pairs(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Add up (P,) values of the pairs into the (M,) masks they belong to."""
        # Without pairs bincount counts in integers, whatever the weights.
        return np.bincount(self.pair_row, weights=values, minlength=len(self)).astype(np.float64, copy=False)

    def take(self, keep: NDArray[Any]) -> MaskStats:
        """Return the rows that a boolean (M,) or an ascending index array names, with their pairs."""
        index = np.arange(len(self))[keep]
        position = np.full(len(self), -1, dtype=np.int32)
        position[index] = np.arange(len(index), dtype=np.int32)
        pairs = position[self.pair_row] >= 0
        chosen: dict[str, Any] = {}
        for name, kind in LAYOUT.items():
            values = getattr(self, name)
            chosen[name] = values[index] if kind == _ROWS else values[pairs]
        chosen["pair_row"] = position[self.pair_row[pairs]]
        return MaskStats(num_classes=self.num_classes, ignore_index=self.ignore_index, **chosen)

    def grouped(self, group: NDArray[Any]) -> MaskStats:
        """Add up the rows of masks that are asked about as one: merged superpixels.

        What is a sum over pixels is the same as if the group had been one mask from the start: area, label, void pixels,
        probabilities, predictions, entropy, BvSB, and pixels and doubt of the pairs. What is not (directions,
        representative pixels, soft minimum, look-ahead sums) is 0.

        Args:
            group: (M,) integers in [0, 2³²); rows of one image and one number are one group.

        Returns:
            A row per group, ordered by image and the smallest mask id of the group, which is its `mask_ids`.
        """
        key = self.image.astype(np.int64) << 32 | np.asarray(group).astype(np.int64)
        _, first, row = np.unique(key, return_index=True, return_inverse=True)
        # Rows ascend by image and mask id, so the first row of a group holds its smallest id.
        order = np.argsort(first, kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        row, first = place[row.ravel()], first[order]
        groups = len(first)

        def add(name: str) -> NDArray[Any]:
            values = getattr(self, name)
            total = np.zeros((groups, *values.shape[1:]), dtype=np.float64 if values.dtype.kind == "f" else np.int64)
            np.add.at(total, row, values)
            return total.astype(values.dtype)

        pair = row[self.pair_row] * self.num_classes + self.pair_label
        pairs, pair_place = np.unique(pair, return_inverse=True)

        def add_pairs(values: NDArray[Any]) -> NDArray[Any]:
            return np.bincount(pair_place.ravel(), weights=values, minlength=len(pairs)).astype(values.dtype)

        # A mask's own label, by area: which pixels of it carry the label is not kept, that it is the most frequent is.
        named = np.where(self.label == self.ignore_index, self.num_classes, self.label)
        by_label = np.zeros((groups, self.num_classes + 1), dtype=np.int64)
        np.add.at(by_label, (row, named), self.area)
        label = by_label.argmax(axis=1)
        pred_counts = add("pred_counts")
        values: dict[str, Any] = {
            name: add(name) for name in ("area", "void_pixels", "prob_sums", "entropy_sum", "bvsb_sum", "pred_bvsb")
        }
        values |= {
            "image": self.image[first],
            "mask_ids": self.mask_ids[first],
            "label": np.where(label == self.num_classes, self.ignore_index, label).astype(np.int32),
            "pred_counts": pred_counts,
            "dominant": pred_counts.argmax(axis=1).astype(np.int32),
            "pair_row": (pairs // self.num_classes).astype(np.int32),
            "pair_label": (pairs % self.num_classes).astype(np.int32),
            "pair_pixels": add_pairs(self.pair_pixels),
            "pair_doubt": add_pairs(self.pair_doubt),
        }
        for name, kind in LAYOUT.items():
            if name not in values:
                shape: tuple[int, ...] = (len(pairs),) if kind == PAIRS else (groups,)
                shape = (groups, self.num_classes) if name in _WIDE else shape
                values[name] = np.broadcast_to(np.zeros((), dtype=_DTYPES[name]), shape)
        return MaskStats(num_classes=self.num_classes, ignore_index=self.ignore_index, **values)

    def with_image(self, image: int) -> MaskStats:
        """Return the same rows as rows of image number `image`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["image"] = np.full(len(self), image, dtype=np.int32)
        return MaskStats(**values)

    @classmethod
    def concat(cls, parts: Sequence[MaskStats]) -> MaskStats:
        """Join the rows of several images.

        Raises:
            ShapeError: The parts differ in the number of classes, or there is none.
        """
        if not parts:
            raise ShapeError("MaskStats.concat needs at least one part.")
        sizes = {(part.num_classes, part.ignore_index) for part in parts}
        if len(sizes) != 1:
            raise ShapeError(f"Statistics have different numbers of classes or ignore values: {sorted(sizes)}.")
        offsets = np.cumsum([0, *(len(part) for part in parts[:-1])])
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in LAYOUT}
        joined["pair_row"] = np.concatenate(
            [part.pair_row + offset for part, offset in zip(parts, offsets, strict=True)]
        ).astype(np.int32)
        num_classes, ignore_index = next(iter(sizes))
        return cls(num_classes=num_classes, ignore_index=ignore_index, **joined)

    def to_table(self) -> pa.Table:
        """Return an Arrow table of M rows: fixed-size lists for (M, K), lists for the pairs of a mask."""
        import pyarrow as pa

        offsets = np.searchsorted(self.pair_row, np.arange(len(self) + 1)).astype(np.int32)
        columns: dict[str, pa.Array] = {}
        for name, kind in LAYOUT.items():
            values = getattr(self, name)
            if name == "pair_row":
                continue
            if kind == PAIRS:
                columns[name] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))
            elif values.ndim == 2:
                columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
            else:
                columns[name] = pa.array(values)
        meta = {"num_classes": str(self.num_classes), "ignore_index": str(self.ignore_index)}
        return pa.table(columns).replace_schema_metadata(meta)

    @classmethod
    def from_table(cls, table: pa.Table) -> MaskStats:
        """Invert `to_table`; columns that were not read come back as zeros.

        Reading a few columns of millions of masks is how selection stays small in memory.
        """
        meta = table.schema.metadata
        num_classes, ignore_index = int(meta[b"num_classes"]), int(meta[b"ignore_index"])
        rows = table.num_rows
        values: dict[str, Any] = {}
        lengths: NDArray[Any] = np.zeros(rows, dtype=np.int32)
        for name, kind in LAYOUT.items():
            if name not in table.column_names:
                continue
            column = table.column(name).combine_chunks()
            if kind == PAIRS:
                offsets = column.offsets.to_numpy()
                lengths = np.diff(offsets)
                values[name] = column.values.to_numpy()[offsets[0] : offsets[-1]] if rows else column.values.to_numpy()
            elif name in _WIDE:
                values[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(rows, num_classes)
            else:
                values[name] = column.to_numpy(zero_copy_only=False)
        values["pair_row"] = np.repeat(np.arange(rows, dtype=np.int32), lengths)
        pairs = len(values["pair_row"])
        for name, kind in LAYOUT.items():
            if name not in values:
                shape: tuple[int, ...] = (pairs,) if kind == PAIRS else (rows,)
                shape = (rows, num_classes) if name in _WIDE else shape
                # A view of one zero: a column that was not asked for takes no memory.
                values[name] = np.broadcast_to(np.zeros((), dtype=_DTYPES[name]), shape)
        return cls(num_classes=num_classes, ignore_index=ignore_index, **values)


LAYOUT = {
    field.name: PAIRS if field.name.startswith("pair_") else _ROWS
    for field in fields(MaskStats)
    if field.name not in {"num_classes", "ignore_index"}
}


_WIDE = frozenset({"prob_sums", "pred_counts", "pred_bvsb", "direction", "representative"})


_DTYPES = {
    field.name: np.dtype(np.float32 if "Float" in str(field.type) else np.int32)
    for field in fields(MaskStats)
    if field.name in LAYOUT
}


def mask_statistics(
    probs: NDArray[Any], labels: NDArray[Any], mask_map: NDArray[Any], ignore_index: int = 255
) -> MaskStats:
    """Reduce an image's class probabilities to a row per mask.

    Args:
        probs: Class probabilities, (K, H, W) floating point, each in [0, 1] and summing to 1 over K.
        labels: Current labels, (H, W) integer, in [0, K) or `ignore_index`.
        mask_map: Mask ids, (H, W) integer; 0 where there is no mask. Ids need not be contiguous.
        ignore_index: Id of pixels that carry no class.

    Returns:
        A row per mask id that occurs, ids ascending; no rows where there is no mask.

    Raises:
        ShapeError: The three arrays do not belong to one image.
        LabelRangeError: A label inside a mask is neither a class nor `ignore_index`.
        InputError: `probs` are not probabilities: negative, not summing to 1, or not numbers.

    Source:
        The fused look-ahead sum is ours; what is summed is CIL, LCIL and SIM of ALC (arXiv:2403.10820) and
        ABC of A2LC (arXiv:2506.11599), soft-min of arXiv:2307.05080.

    Example:
        >>> probs = np.array([[[0.7, 0.6]], [[0.3, 0.4]]])          # K=2, H=1, W=2
        >>> stats = mask_statistics(probs, np.array([[1, 1]]), np.array([[4, 4]]))
        >>> stats.mask_ids, stats.dominant, stats.mean_probs.round(4)
        (array([4], dtype=int32), array([0], dtype=int32), array([[0.65, 0.35]], dtype=float32))
    """
    probs = np.ascontiguousarray(probs, dtype=np.float32)
    if probs.ndim != 3 or probs.shape[0] < 1:
        raise ShapeError(f"Expected probs (K, H, W), found an array of shape {probs.shape}.")
    num_classes = probs.shape[0]
    flat_labels = flat_ids("labels", labels, probs.shape[1:])
    flat_masks = flat_ids("mask_map", mask_map, probs.shape[1:])
    mask_ids, rows = rows_of(flat_masks)
    bad = first_bad_label(flat_labels, rows, num_classes, ignore_index)
    if bad >= 0:
        raise LabelRangeError(
            f"Label {flat_labels[bad]} is neither one of the {num_classes} classes nor ignore_index={ignore_index}."
        )
    flat_probs = probs.reshape(num_classes, -1)
    sums = reduce_pixels(flat_probs, flat_labels, rows, len(mask_ids), ignore_index)
    return finish(mask_ids, num_classes, ignore_index, *sums)


def flat_ids(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> IntArray:
    """Flatten a map of labels or mask ids to (H*W,) int32: the kernel is compiled once, for that type.

    Raises:
        ShapeError: The map is not of `shape`, or not of an integer type.
        InputError: A value does not fit 32 bits.
    """
    array = np.asarray(array)
    if array.shape != tuple(shape):
        raise ShapeError(f"Expected {name} (H, W) = {tuple(shape)} as probs have, found {array.shape}.")
    if not np.issubdtype(array.dtype, np.integer):
        raise ShapeError(f"Expected {name} of an integer type, found {array.dtype}.")
    if array.size and not np.can_cast(array.dtype, np.int32):
        for value in (int(array.min()), int(array.max())):
            if not -(2**31) <= value < 2**31:
                raise InputError(f"Expected {name} that fit into 32 bits, found {value}. Number them from 0 or 1.")
    return np.ascontiguousarray(array, dtype=np.int32).ravel()


def finish(
    mask_ids: NDArray[Any],
    num_classes: int,
    ignore_index: int,
    area: NDArray[Any],
    label_counts: NDArray[Any],
    prob_sums: NDArray[Any],
    pred_counts: NDArray[Any],
    dominant: NDArray[Any],
    direction: NDArray[Any],
    representative_pixel: NDArray[Any],
    representative: NDArray[Any],
    representative_doubt: NDArray[Any],
    pixel_sums: NDArray[Any],
    pred_bvsb: NDArray[Any],
    pair_row: NDArray[Any],
    pair_label: NDArray[Any],
    pair_pixels: NDArray[Any],
    pair_doubt: NDArray[Any],
    pair_vector: NDArray[Any],
) -> MaskStats:
    """Turn the sums over pixels, of whichever device, into `MaskStats`.

    Args:
        mask_ids: (M,) ids.
        num_classes: K.
        ignore_index: Id of pixels that carry no class.
        area: (M,) pixels.
        label_counts: (M, K + 1) pixels by current label, the last column for `ignore_index`.
        prob_sums: (M, K) summed probabilities.
        pred_counts: (M, K) pixels by predicted class.
        dominant: (M,) most frequent predicted class.
        direction: (M, K) mean probabilities of the dominant part.
        representative_pixel: (M,) flat index.
        representative: (M, K) probabilities there.
        representative_doubt: (M,) one minus the label's probability there.
        pixel_sums: (M, 3) sums of entropy, and numerator and denominator of the soft minimum.
        pred_bvsb: (M, K) sums of BvSB by predicted class.
        pair_row: (P,) row of each pair of a mask and a label.
        pair_label: (P,) that label.
        pair_pixels: (P,) pixels.
        pair_doubt: (P,) summed doubt.
        pair_vector: (P, K) summed unit vectors times doubt: the bracket of the module's equation.

    Raises:
        InputError: The probabilities were none.
    """
    total = prob_sums.sum(axis=1)
    if len(area) and not np.all(np.abs(total - area) <= 1e-2 * area):
        worst = int(np.argmax(np.where(np.isfinite(total), np.abs(total / area - 1), np.inf)))
        raise InputError(
            f"Expected probabilities that sum to 1 over the classes; those of mask {mask_ids[worst]} sum to "
            f"{total[worst] / area[worst]:.4g} on average. Apply softmax to logits first."
        )
    if prob_sums.size and (prob_sums.min() < 0 or representative.min() < 0):
        raise InputError("Expected probabilities in [0, 1], found negative ones. Apply softmax to logits first.")
    order = np.lexsort((pair_label, pair_row))
    pair_row = pair_row[order].astype(np.int32)
    vector = pair_vector[order]
    label = np.argmax(label_counts, axis=1).astype(np.int32)
    label[label == num_classes] = ignore_index

    def unit(rows: NDArray[Any]) -> NDArray[np.float64]:
        length = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
        return np.asarray(rows / np.maximum(length, 1e-30), dtype=np.float64)

    def along(rows: NDArray[Any]) -> FloatArray:
        return np.asarray(np.einsum("pk,pk->p", vector, unit(rows)[pair_row]), dtype=np.float32)

    return MaskStats(
        num_classes=num_classes,
        ignore_index=ignore_index,
        image=np.zeros(len(mask_ids), dtype=np.int32),
        mask_ids=mask_ids.astype(np.int32),
        area=area.astype(np.int32),
        label=label,
        void_pixels=label_counts[:, num_classes].astype(np.int32),
        prob_sums=prob_sums.astype(np.float32),
        pred_counts=pred_counts.astype(np.int32),
        dominant=dominant.astype(np.int32),
        direction=direction.astype(np.float32),
        representative=representative.astype(np.float32),
        representative_pixel=representative_pixel.astype(np.int32),
        representative_doubt=representative_doubt.astype(np.float32),
        entropy_sum=pixel_sums[:, 0].astype(np.float32),
        bvsb_sum=pred_bvsb.sum(axis=1, dtype=np.float64).astype(np.float32),
        pred_bvsb=pred_bvsb.astype(np.float32),
        softmin=(pixel_sums[:, 1] / np.maximum(pixel_sums[:, 2], 1e-30)).astype(np.float32),
        pair_row=pair_row,
        pair_label=pair_label[order].astype(np.int32),
        pair_pixels=pair_pixels[order].astype(np.int32),
        pair_doubt=pair_doubt[order].astype(np.float32),
        pair_similar=along(direction),
        pair_similar_representative=along(representative),
    )
