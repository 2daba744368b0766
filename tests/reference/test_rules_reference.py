"""Weights, ranks and rules agree with the plain versions."""

from __future__ import annotations

import numpy as np
import plain
import pytest

from a2lc.acquisition.functions import class_weights
from a2lc.classes.sentinels import FIRST, VOID
from a2lc.correction.manual import manual_corrections
from a2lc.correction.rules import automatic_changes, class_ranks
from a2lc.ledger.replay import MaskState
from a2lc.masks.counting import joint_counts
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable
from a2lc.records import Query
from a2lc.rounds.oracle import Oracle


@pytest.mark.parametrize("case", range(30))
def test_class_weights(case):
    rng = np.random.default_rng(case)
    classes = int(rng.integers(1, 22))
    counts = rng.integers(0, 10 ** int(rng.integers(1, 7)), size=classes)
    counts[rng.random(classes) < 0.3] = 0
    void = int(rng.integers(0, 50)) if case % 2 else 0
    power = [3.0, 1.0, 0.0][case % 3]
    expected = plain.class_weights({**dict(enumerate(counts.tolist())), 255: void}, power)
    found = class_weights(counts, void_pixels=void, power=power)
    np.testing.assert_allclose(found, [expected[c] for c in range(classes)], rtol=1e-9)
    mapping = class_weights({**dict(enumerate(counts.tolist())), 255: void}, power=power)
    assert mapping == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", range(40))
def test_order_of_classes_by_rarity(case):
    rng = np.random.default_rng(case)
    classes = int(rng.integers(1, 22))
    answered = rng.integers(0, classes, size=int(rng.integers(1, 25))).tolist()
    assert class_ranks(np.array(answered), classes).tolist() == plain.order_by_rarity(answered, classes)


@pytest.mark.parametrize("case", range(20))
def test_automatic_rule(case):
    rng = np.random.default_rng(case)
    classes, masks = int(rng.integers(2, 9)), 60
    answered = rng.integers(0, classes, size=12).tolist()
    proposed, current = rng.integers(0, classes, size=(2, masks))
    current[rng.random(masks) < 0.1] = VOID
    # Numbers that single precision holds, so that "equal to the threshold" means the same in both.
    confidences = rng.choice([0.5, 0.9375, 0.96875, 1.0], size=masks)
    asked = rng.random(masks) < 0.3
    found = automatic_changes(
        proposed, confidences, current, asked, class_ranks(np.array(answered), classes), threshold=0.9375
    )
    expected = [
        plain.automatic(int(p), float(q), int(c), bool(a), answered, classes, 0.9375)
        for p, q, c, a in zip(proposed, confidences, current, asked, strict=True)
    ]
    assert found.tolist() == expected
    if case == 0:
        assert any(expected)


def tables(masks, labels, truth, classes):
    """Mask and truth tables of one image, made of the definition: VOID for 255."""
    columns = joint_counts(
        masks, np.where(labels == 255, classes, labels), np.where(truth == 255, classes, truth),
        sizes=(int(masks.max()) + 1, classes + 1, classes + 1),
    )  # fmt: skip
    mask, label, true, pixels = columns
    label, true = np.where(label == classes, VOID, label), np.where(true == classes, VOID, true)
    ids = np.unique(masks[masks > 0])
    row = np.searchsorted(ids, mask).astype(np.int32)
    row[mask == 0] = -1
    dominant = [plain.most_frequent([float("inf") if v == 255 else int(v) for v in labels[masks == i]]) for i in ids]
    table = MaskTable(
        image=np.zeros(len(ids), dtype=np.int32),
        mask_ids=ids.astype(np.int32),
        area=np.array([(masks == i).sum() for i in ids], dtype=np.int32),
        label=np.array([VOID if d == float("inf") else d for d in dominant], dtype=np.int32),
        pair_row=np.repeat(np.arange(len(ids)), [len(np.unique(labels[masks == i])) for i in ids]).astype(np.int32),
        pair_label=np.empty(0, dtype=np.int32),
        pair_pixels=np.empty(0, dtype=np.int32),
    )
    return table, TruthTable(row=row, label=label.astype(np.int32), truth=true.astype(np.int32), pixels=pixels)


@pytest.mark.parametrize("kind", ["one label a mask", "several labels a mask", "mostly void"])
@pytest.mark.parametrize("case", range(25))
def test_oracle_rule(case, kind):
    """Labels after the answer are those of the rule. The published data have one label a mask."""
    rng = np.random.default_rng(case)
    classes, height, width = 4, 6, 10
    masks = rng.integers(0, 6, size=(height, width)).astype(np.int64)
    if kind == "one label a mask":
        labels = rng.choice([0, 1, 2, 3, 255], size=6)[masks]
    else:
        share = [0.3, 0.3, 0.2, 0.1, 0.1] if kind == "several labels a mask" else [0.15, 0.15, 0.15, 0.15, 0.4]
        labels = rng.choice([0, 1, 2, 3, 255], size=(height, width), p=share)
    truth = np.where(
        rng.random((height, width)) < rng.random(), labels, rng.choice([0, 1, 2, 3, 255], size=(height, width))
    )
    table, truth_table = tables(masks, labels, truth, classes)
    nothing = MaskState(
        classes=np.full(len(table), FIRST, dtype=np.int32),
        source=np.zeros(len(table), dtype=np.int8),
        winner=np.full(len(table), -1, dtype=np.int64),
    )
    queries = [
        Query(query_id=i + 1, round=1, image=0, mask_ids=(int(m),), proposed=None if c == VOID else int(c), score=0.0)
        for i, (m, c) in enumerate(zip(table.mask_ids, table.label, strict=True))
    ]
    answers = Oracle(num_classes=classes).answer(queries, table, truth_table, nothing)
    for query, answer in zip(queries, answers, strict=True):
        inside = masks == query.mask_ids[0]
        expected = plain.manual(labels[inside].tolist(), truth[inside].tolist())
        after = labels[inside].tolist()
        for _, _, _, new in manual_corrections(query, answer, {query.mask_ids[0]: FIRST}):
            after = [255 if new == VOID else new] * len(after)
        assert after == expected, (query, answer)
