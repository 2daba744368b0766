from __future__ import annotations

import numpy as np
import pytest

from a2lc.classes.sentinels import FIRST, VOID
from a2lc.correction import LabelCorrectionModule, class_ranks, manual_corrections
from a2lc.correction.manual import answered_class, check_answer
from a2lc.correction.module import class_loss_weights
from a2lc.errors import InputError, ShapeError
from a2lc.records import Answer, AnswerKind, Query

QUERY = Query(query_id=1, round=2, image=4, mask_ids=(3, 8), proposed=1, score=0.0)


def reply(kind, *classes):
    return Answer(query_id=1, annotator="eve", kind=AnswerKind(kind), classes=classes)


# ---- answers by hand ---------------------------------------------------------------------------------------------


def test_confirming_first_labels_changes_nothing():
    assert manual_corrections(QUERY, reply("confirm", 1), {3: FIRST, 8: FIRST}) == []


def test_confirming_an_earlier_correction_makes_it_the_persons_own():
    assert manual_corrections(QUERY, reply("confirm", 1), {3: 1, 8: FIRST}) == [(4, 3, 1, 1)]


def test_correcting_changes_every_mask_of_the_question():
    assert manual_corrections(QUERY, reply("correct", 2), {3: FIRST, 8: 0}) == [(4, 3, FIRST, 2), (4, 8, 0, 2)]


def test_void():
    assert manual_corrections(QUERY, reply("void"), {3: FIRST, 8: VOID}) == [(4, 3, FIRST, VOID), (4, 8, VOID, VOID)]


def test_one_class_of_classes_is_a_class():
    assert manual_corrections(QUERY, reply("classes", 2), {3: 0, 8: 1}) == [(4, 3, 0, 2), (4, 8, 1, 2)]


@pytest.mark.parametrize("answer", [reply("mixed"), reply("skip"), reply("classes", 1, 2)])
def test_answers_that_name_no_one_class_change_nothing(answer):
    assert manual_corrections(QUERY, answer, {3: 0, 8: FIRST}) == []
    assert answered_class(answer) is None


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply("correct", 3), "Class 3 in an answer is not one of the 3 classes"),
        (reply("classes", 0, -1), "Class -1 in an answer"),
        (reply("correct"), "An answer 'correct' needs exactly one class, found 0"),
        (reply("confirm", 0, 1), "An answer 'confirm' needs exactly one class, found 2"),
        (reply("classes"), "An answer 'classes' needs at least one class"),
        (reply("void", 0), "An answer 'void' has no class, found 1"),
        (reply("skip", 0), "An answer 'skip' has no class, found 1"),
        (reply("mixed", 0), "An answer 'mixed' has no class, found 1"),
    ],
)
def test_answers_that_say_nothing_definite(answer, message):
    with pytest.raises(InputError, match=message):
        check_answer(answer, 3)


@pytest.mark.parametrize(
    "answer",
    [reply("confirm", 0), reply("correct", 2), reply("classes", 0, 2), reply("mixed"), reply("void"), reply("skip")],
)
def test_good_answers(answer):
    check_answer(answer, 3)


# ---- the module --------------------------------------------------------------------------------------------------


def quick(**more):
    return LabelCorrectionModule(**{"epochs": 30, "learning_rate": 3e-3} | more)


def test_module_learns_and_repeats_itself(make_stats):
    stats = make_stats()
    classes = stats.dominant
    found, again = (quick().fit(stats, classes).propose(stats) for _ in range(2))
    np.testing.assert_array_equal(found[0], again[0])
    np.testing.assert_array_equal(found[1], again[1])
    assert found[0].shape == found[1].shape == (len(stats),)
    assert found[0].dtype == np.int32
    assert ((found[1] >= 1 / 4) & (found[1] <= 1)).all()
    other = quick(seed=1).fit(stats, classes).propose(stats)
    assert not np.array_equal(found[1], other[1])


def test_module_tells_plain_classes_apart():
    from a2lc.statistics.mask_stats import mask_statistics

    truth = np.tile([0, 1, 2], 20)
    probs = np.full((3, 1, 60), 0.05)
    probs[truth, 0, np.arange(60)] = 0.9
    stats = mask_statistics(probs, np.zeros((1, 60), dtype=int), np.arange(1, 61)[None])
    learnt, seen = np.arange(60) < 30, slice(30, None)
    classes, confidences = quick().fit(stats.take(learnt), truth[learnt]).propose(stats)
    np.testing.assert_array_equal(classes[seen], truth[seen])
    assert confidences.min() > 0.9


def test_fitting_leaves_the_callers_random_numbers_alone(make_stats):
    import torch

    stats = make_stats()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    quick(epochs=1).fit(stats, stats.dominant)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_module_by_its_published_shape():
    import torch

    net = LabelCorrectionModule()._build(19)
    linear = [m for m in net if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(19, 256), (256, 128), (128, 64), (64, 19)]
    settings = LabelCorrectionModule()
    assert (settings.learning_rate, settings.epochs, settings.batch_size, settings.double_softmax) == (
        1e-4,
        100,
        8,
        True,
    )


def test_module_refuses(make_stats):
    stats = make_stats()
    with pytest.raises(ShapeError, match=rf"a class for each of {len(stats)} masks, found \(2,\)"):
        quick().fit(stats, np.array([0, 1]))
    none = stats.take(np.zeros(len(stats), dtype=bool))
    with pytest.raises(InputError, match="at least one answered mask with a class"):
        quick().fit(none, np.empty(0, dtype=int))
    for bad in (-1, 4):
        with pytest.raises(InputError, match=rf"classes must be in \[0, 4\), found .*{bad}"):
            quick().fit(stats, np.where(np.arange(len(stats)) == 0, bad, 1))
    with pytest.raises(InputError, match="is not fitted: call fit first"):
        quick().propose(stats)


def test_module_proposes_nothing_for_no_masks(make_stats):
    stats = make_stats()
    none = stats.take(np.zeros(len(stats), dtype=bool))
    classes, confidences = quick(epochs=1).fit(stats, stats.dominant).propose(none)
    assert len(classes) == len(confidences) == 0


def test_loss_weights_sum_to_one_and_leave_out_the_absent():
    weights = class_loss_weights(np.array([1, 1, 1, 4]), 5)
    assert weights.tolist() == pytest.approx([0, 0.25, 0, 0, 0.75])
    assert not class_loss_weights(np.empty(0, dtype=int), 3).any()


def test_ranks_of_no_answers_are_the_classes_in_order():
    assert class_ranks(np.empty(0, dtype=np.int32), 4).tolist() == [0, 1, 2, 3]
