"""The check values of the methods reference, section 7, that concern A2LC, ALC and BvSB."""

from __future__ import annotations

import math

import numpy as np
import pytest

from a2lc.acquisition.functions import class_weights, pixbal_weights, score
from a2lc.classes.sentinels import FIRST, VOID
from a2lc.correction import LabelCorrectionModule
from a2lc.correction.module import class_loss_weights
from a2lc.correction.rules import automatic_changes, class_ranks
from a2lc.ledger.replay import MaskState
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable
from a2lc.records import AnswerKind, Query
from a2lc.rounds.oracle import Oracle
from a2lc.statistics.mask_stats import MaskStats, mask_statistics

F = np.array([(0.7, 0.2, 0.1), (0.6, 0.3, 0.1), (0.2, 0.7, 0.1), (0.1, 0.1, 0.8)], dtype=np.float32)


@pytest.fixture(params=["numba", "torch"])
def mask_of_four(request) -> MaskStats:
    """Four pixels in a row, all labelled 1, one mask."""
    probs = np.ascontiguousarray(F.T[:, None, :])
    labels, mask_map = np.ones((1, 4), dtype=int), np.full((1, 4), 5)
    if request.param == "numba":
        return mask_statistics(probs, labels, mask_map)
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    from a2lc.statistics.torch_kernel import mask_statistics_torch

    return mask_statistics_torch(torch.from_numpy(probs), labels, mask_map)


def kl(counts):
    share = np.array(counts) / sum(counts)
    return float((share * np.log(share * len(counts))).sum())


def test_abc_exponent():
    assert kl([1000, 100, 10]) == pytest.approx(0.745324, abs=5e-7)
    weights = class_weights(np.array([1000, 100, 10]))
    np.testing.assert_allclose(weights, [0.148571, 0.385449, 1], atol=5e-7)
    # The exponent, from the weights alone: log w / log(min N / N).
    assert math.log(weights[0]) / math.log(10 / 1000) == pytest.approx(0.414034, abs=1e-6)


def test_abc_exponent_with_void_counted():
    assert kl([1000, 100, 10, 5]) == pytest.approx(1.005869, abs=5e-7)
    weights = class_weights(np.array([1000, 100, 10]), void_pixels=5)
    np.testing.assert_allclose(weights, [0.004552, 0.047416, 0.493900], atol=5e-7)
    assert math.log(weights[0]) / math.log(5 / 1000) == pytest.approx(1.017710, abs=1e-6)
    assert class_weights({0: 1000, 1: 100, 2: 10, 255: 5})[255] == 1


def test_abc_weights_of_balanced_classes():
    np.testing.assert_array_equal(class_weights(np.array([50, 50])), [1, 1])


def test_mask_score(mask_of_four):
    assert mask_of_four.dominant[0] == 0
    np.testing.assert_allclose(mask_of_four.direction[0], [0.65, 0.25, 0.10], atol=1e-6)
    assert score("abc", mask_of_four)[0] == pytest.approx(1.944154, rel=1e-5)
    assert score("abc", mask_of_four, weights=np.array([1, 0.5, 1]))[0] == pytest.approx(0.972077, rel=1e-5)
    assert mask_of_four.pair_doubt.tolist() == pytest.approx([0.8 + 0.7 + 0.3 + 0.9])


def test_mask_score_pixel_by_pixel():
    """The same pixels under four labels of their own show each cosine times its doubt."""
    wide = np.zeros((5, 1, 4), dtype=np.float32)
    wide[:3] = F.T[:, None, :]
    stats = mask_statistics(wide, np.array([[1, 0, 4, 3]]), np.ones((1, 4), dtype=int))
    doubts = {1: 0.8, 0: 0.4, 4: 1.0, 3: 1.0}
    cosines = {1: 0.996111, 0: 0.995433, 4: 0.609272, 3: 0.297423}
    assert stats.pair_label.tolist() == [0, 1, 3, 4]
    for label, value in zip(stats.pair_label.tolist(), stats.pair_similar.tolist(), strict=True):
        assert value == pytest.approx(doubts[label] * cosines[label], abs=2e-6)


def test_alc_row(mask_of_four):
    assert mask_of_four.representative_pixel[0] == 0
    assert score("sim", mask_of_four)[0] == pytest.approx(1.905602, rel=1e-5)
    assert score("lcil", mask_of_four)[0] == pytest.approx(0.675, rel=1e-6)
    assert score("cil", mask_of_four)[0] == pytest.approx(0.8, rel=1e-6)


def test_lcm_input(mask_of_four):
    np.testing.assert_allclose(mask_of_four.mean_probs[0], [0.400, 0.325, 0.275], atol=1e-6)


def test_bvsb(mask_of_four):
    assert score("margin", mask_of_four)[0] == pytest.approx(0.299107, abs=1e-6)
    single = mask_statistics(
        np.ascontiguousarray(F.T[:, None, :]), np.ones((1, 4), dtype=int), np.array([[1, 2, 3, 4]])
    )
    np.testing.assert_allclose(score("margin", single), [0.285714, 0.5, 0.285714, 0.125], atol=1e-6)


def test_pixbal_weights():
    shares = [0, 0.01, 0.1, 0.37]
    np.testing.assert_allclose(pixbal_weights(shares, nu=6), [1, 0.8900, 0.3906, 0.0964], atol=5e-5)
    np.testing.assert_allclose(pixbal_weights(shares, nu=12), [1, 0.7972, 0.2066, 0.0338], atol=5e-5)


def test_lcm_tail():
    answered = np.array([3] * 7 + [0] * 5 + [1] * 5)
    ranks = class_ranks(answered, 6)
    assert ranks.tolist() == [2, 4, 5, 0, 1, 3]
    proposed = np.arange(6)
    changed = automatic_changes(proposed, np.ones(6), np.full(6, 5), np.zeros(6, dtype=bool), ranks, threshold=0.5)
    assert set(np.flatnonzero(changed)) == {0, 1, 3}, "the tail is 2, 4 and 5"
    stays = automatic_changes(np.full(6, 3), np.ones(6), np.arange(6), np.zeros(6, dtype=bool), ranks, threshold=0.5)
    assert set(np.flatnonzero(stays)) == {0, 1, 4, 5}, "of the tail only the rarest, 2, keeps its label"
    np.testing.assert_allclose(class_loss_weights(answered, 6), [0.3684, 0.3684, 0, 0.2632, 0, 0], atol=5e-5)


@pytest.mark.parametrize(("classes", "tail"), [(19, 9), (21, 10), (2, 1), (1, 0)])
def test_size_of_the_tail(classes, tail):
    ranks = np.arange(classes)
    changed = automatic_changes(
        ranks, np.ones(classes), np.full(classes, VOID), np.zeros(classes, dtype=bool), ranks, threshold=0.5
    )
    assert (~changed).sum() == tail


# ---- the loss of the label correction module, seen through the module itself ------------------------------------


def losses(monkeypatch, stats, classes, *, output=None, **settings):
    """Losses of the module's steps; with `output`, of a network that gives these logits whatever it is shown."""
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    if output is not None:

        class Constant(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.logits = torch.nn.Parameter(torch.tensor([output], dtype=torch.float32))

            def forward(self, x):
                return self.logits.expand(len(x), -1)

        monkeypatch.setattr(LabelCorrectionModule, "_build", lambda self, classes: Constant())
    seen = []
    plain_backward = torch.Tensor.backward

    def backward(self, *args, **kwargs):
        seen.append(float(self.detach()))
        return plain_backward(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    LabelCorrectionModule(**settings).fit(stats, np.asarray(classes))
    return seen


def stats_of(mean_probs) -> MaskStats:
    """A mask of one pixel for each row of probabilities."""
    rows = np.asarray(mean_probs, dtype=np.float32)
    probs = np.ascontiguousarray(rows.T[:, None, :])
    return mask_statistics(probs, np.zeros((1, len(rows)), dtype=int), np.arange(1, len(rows) + 1)[None])


def test_loss_is_cross_entropy_of_the_softmax_of_the_softmax(monkeypatch):
    q = np.array([0.98, 0.01, 0.01])
    (coded,) = losses(monkeypatch, stats_of([q]), [0], output=np.log(q).tolist(), epochs=1)
    assert coded == pytest.approx(0.564271, abs=1e-6)


def test_loss_without_the_second_softmax_is_plain_cross_entropy(monkeypatch):
    q = np.array([0.98, 0.01, 0.01])
    settings = {"output": np.log(q).tolist(), "epochs": 1, "double_softmax": False}
    (true,) = losses(monkeypatch, stats_of([q]), [0], **settings)
    assert true == pytest.approx(0.020203, abs=1e-6)


@pytest.mark.parametrize(("classes", "floor"), [(2, 0.3133), (19, 2.0310), (21, 2.1232)])
def test_loss_never_falls_below_its_floor(monkeypatch, classes, floor):
    sure = [60.0] + [0.0] * (classes - 1)
    (least,) = losses(monkeypatch, stats_of(np.eye(classes)[:1]), [0], output=sure, epochs=1)
    assert least == pytest.approx(floor, abs=5e-5)
    assert least == pytest.approx(math.log((math.e + classes - 1) / math.e), abs=1e-6)


def test_fitting_the_real_network_approaches_the_floor_and_not_zero(monkeypatch):
    rows = np.tile(np.eye(2), (8, 1))
    seen = losses(monkeypatch, stats_of(rows), [0, 1] * 8, epochs=60, learning_rate=1e-2)
    assert seen[0] == pytest.approx(math.log(2), abs=0.05)
    assert 0.3132 < min(seen) < 0.33


def test_loss_is_weighted_by_class(monkeypatch):
    """Weighted mean: two answers of class 0 and one of class 1 count as much as each other."""
    q = np.array([0.98, 0.01, 0.01])
    args = (stats_of([q, q, q]), [0, 0, 1])
    (coded,) = losses(monkeypatch, *args, output=np.log(q).tolist(), epochs=1)
    total = np.exp(q).sum()
    assert coded == pytest.approx((-math.log(math.exp(q[0]) / total) - math.log(math.exp(q[1]) / total)) / 2, abs=1e-6)


# ---- rules at their thresholds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "kind"), [(5, AnswerKind.CORRECT), (6, AnswerKind.CONFIRM), (4, AnswerKind.CORRECT)])
def test_manual_rule_relabels_at_one_half(right, kind):
    """Ten pixels labelled 0; `right` of them truly 0, the others truly 1 - and 1 wins where it is not the minority."""
    masks = MaskTable(
        image=np.zeros(1, dtype=np.int32), mask_ids=np.array([3], dtype=np.int32), area=np.array([10], dtype=np.int32),
        label=np.zeros(1, dtype=np.int32), pair_row=np.zeros(1, dtype=np.int32), pair_label=np.zeros(1, dtype=np.int32),
        pair_pixels=np.array([10], dtype=np.int32),
    )  # fmt: skip
    # Class order makes the tie at 5 : 5 fall on the other class: labels are 1, truth is 1 or 0.
    truth = TruthTable(
        row=np.zeros(2, dtype=np.int32), label=np.ones(2, dtype=np.int32), truth=np.array([1, 0], dtype=np.int32),
        pixels=np.array([right, 10 - right], dtype=np.int32),
    )  # fmt: skip
    state = MaskState(classes=np.array([FIRST]), source=np.zeros(1, dtype=np.int8), winner=np.array([-1]))
    query = Query(query_id=1, round=1, image=0, mask_ids=(3,), proposed=1, score=0.0)
    (answer,) = Oracle(num_classes=2).answer([query], masks, truth, state)
    assert answer.kind == kind
    assert answer.classes == ((1,) if kind == AnswerKind.CONFIRM else (0,))


def test_automatic_rule_admits_a_confidence_equal_to_the_threshold():
    def allowed(confidence, threshold):
        return bool(
            automatic_changes(
                np.array([1]), np.array([confidence]), np.array([0]), np.array([False]), np.array([2, 0, 1]),
                threshold=threshold, tail_fraction=0.0,
            )[0]
        )  # fmt: skip

    assert allowed(np.float32(0.99), 0.99)
    assert allowed(0.99, 0.99)
    assert not allowed(np.nextafter(np.float32(0.99), np.float32(0)), 0.99)
    # Round 5 on Cityscapes: in single precision only the two largest numbers pass.
    assert allowed(np.float32(0.99999994), 0.9999999)
    assert allowed(np.float32(1), 0.9999999)
    assert not allowed(np.float32(0.9999998), 0.9999999)
