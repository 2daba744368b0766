"""What methods do with single pixels, shown only what the loop shows them."""

import numpy as np
import pytest

from a2lc.ledger import KEEP, VOID
from a2lc.methods import create_method
from a2lc.records import AnswerKind, Inspection, PixelView, RegionAnswer
from a2lc.statistics.features import FeatureMap, interpolation_matrix

MASKS = np.repeat(np.arange(1, 5), 4)[None].repeat(8, axis=0)  # four stripes of 4 x 8 pixels


def view_of(answers, inspection, labels=None):
    labels = np.full(MASKS.shape, VOID) if labels is None else labels
    return PixelView(
        images=[0],
        num_classes=3,
        round=2,
        seed=5,
        answers={0: answers},
        mask_map=lambda image: MASKS,
        labels=lambda image: labels,
        answered_pixels=lambda digest: np.full(MASKS.shape, KEEP),
        inspect=None if inspection is None else lambda image: inspection,
    )


def answer(mask, *classes, kind="classes"):
    return RegionAnswer(mask_ids=(mask,), kind=AnswerKind(kind), classes=classes, round=1)


def seen(*, errors=None, classes=None):
    """Features and probabilities of stripes: each stripe's own class, said by `classes`."""
    classes = np.array([0, 0, 1, 1] if classes is None else classes)
    columns = np.repeat(classes, 4)
    features = np.eye(3, dtype=np.float32)[columns].T[:, None, :].repeat(8, axis=1)
    values = FeatureMap(
        values=np.ascontiguousarray(features[:, ::2, ::2]),
        rows=interpolation_matrix(8, 8, 4, 2.0),
        cols=interpolation_matrix(16, 16, 8, 2.0),
    )
    probs = (0.7 * features + 0.1).astype(np.float32)
    return Inspection(probs=probs, features=values, class_logits=values.values.copy(), errors=errors)


# ---- MulActSeg ---------------------------------------------------------------------------------------------------


def test_labels_spread_into_a_neighbour_but_never_into_a_void_answer():
    method = create_method("mulactseg", {"variant": "code"})
    inspection = seen()
    # Stripe 1 is not all alike: its neighbour can be nearer to its surest pixel than half of it is.
    inspection.features.values[1, 1:, :2] = np.random.default_rng(0).uniform(0.1, 0.5, size=(3, 2))
    inspection.features.values[:] /= np.linalg.norm(inspection.features.values, axis=0)
    free = method.labeller(view_of([answer(1, 0)], inspection))(0)
    assert (free[MASKS == 1] == 0).all() and (free[MASKS == 2] == 0).any(), "the test must see it spread"
    void = method.labeller(view_of([answer(1, 0), answer(2, kind="void")], inspection))(0)
    assert (void[MASKS == 2] == KEEP).all()
    assert method.labeller(view_of([answer(2, kind="void")], seen()))(0) is None
    assert method.labeller(view_of([answer(1, 0)], None))(0) is None, "no network, no features"


# ---- AMSS --------------------------------------------------------------------------------------------------------


def test_unlikely_pixels_of_an_answer_become_void():
    method = create_method("amss", {"sieve_pixels": 1, "sieve_points": 32})
    probs = np.full((3, *MASKS.shape), 0.05, dtype=np.float32)
    probs[0] = 0.9
    probs[0, :2, :4] = np.linspace(0.01, 0.3, 8).reshape(2, 4)  # the first rows of stripe 1 are hardly of class 0
    said = method.labeller(view_of([answer(1, 0, kind="correct")], Inspection(probs=probs)))(0)
    assert set(np.unique(said[MASKS == 1])) == {VOID, KEEP} and (said[MASKS != 1] == KEEP).all()
    assert (said[:2, :4] == VOID).sum() >= 6 and (said[2:, :4] == KEEP).all()
    whole = create_method("amss", {"sieve_pixels": 33}).labeller(
        view_of([answer(1, 0, kind="correct")], Inspection(probs=probs))
    )(0)
    assert (whole == KEEP).all(), "a region of 32 pixels is kept whole"
    assert method.labeller(view_of([answer(1, kind="void")], Inspection(probs=probs)))(0) is None


def test_sums_that_cannot_be_added_up_are_refused():
    from a2lc.errors import ConfigError

    with pytest.raises(ConfigError, match=r"acquisition 'sim' cannot be summed over merged masks; use amss, classbal"):
        create_method("amss", {"acquisition": "sim"})


# ---- PLAR --------------------------------------------------------------------------------------------------------


def plar_view(errors, answers=(), classes=None, **labels):
    trusted = np.full(MASKS.shape, VOID)
    for stripe, value in labels.items():
        trusted[int(stripe[1:]) == MASKS] = value
    return view_of(list(answers), seen(errors=errors, classes=classes), trusted)


def test_pseudo_labels_where_no_error_is_expected_and_none_where_labels_are_given():
    method = create_method("plar")
    said = method.labeller(plar_view(np.zeros(MASKS.shape, np.float32), m1=0, m3=1))(0)
    assert (said[(MASKS == 1) | (MASKS == 3)] == KEEP).all()
    assert (said[MASKS == 2] == 0).all() and (said[MASKS == 4] == 1).all()


def test_doubted_pixels_are_decided_by_their_features_or_left_alone():
    doubt = np.full(MASKS.shape, 0.9, np.float32)
    noisy = np.random.default_rng(0)
    view = plar_view(doubt, m1=0, m3=1)
    inspection = view.inspect(0)
    # Labelled pixels that are all one point have no spread: a little noise gives their clusters a width.
    inspection.features.values[:] += noisy.normal(0, 0.05, inspection.features.values.shape).astype(np.float32)
    refined = create_method("plar", {"margin": 0.0}).labeller(view)(0)
    decided = refined[MASKS == 2]
    assert set(np.unique(decided)) <= {0, KEEP} and (decided == 0).mean() > 0.5, "near class 0, and nothing else"
    without = create_method("plar", {"refine": False}).labeller(view)(0)
    assert (without == KEEP).all()


def test_a_void_answer_gets_no_pseudo_label():
    calm = np.zeros(MASKS.shape, np.float32)
    said = create_method("plar").labeller(plar_view(calm, [answer(2, kind="void")], m1=0, m3=1))(0)
    assert (said[MASKS == 2] == KEEP).all() and (said[MASKS == 4] == 1).all()


def test_doubtful_first_labels_are_not_trusted():
    calm = np.zeros(MASKS.shape, np.float32)
    view = plar_view(calm, [answer(3, 1, kind="correct")], m1=2, m3=1)
    said = create_method("plar", {"first_labels": "doubtful"}).labeller(view)(0)
    assert (said[MASKS == 1] == 0).all(), "the first label 2 of stripe 1 is nobody's word"
    assert (said[MASKS == 3] == KEEP).all(), "an answer is"


def test_undecided_mass_is_what_plar_asks_by():
    errors = np.zeros(MASKS.shape, np.float32)
    errors[MASKS == 4] = 0.8
    view = plar_view(errors, m1=0, m3=1)
    method = create_method("plar", {"refine": False})

    class Stats:
        mask_ids = np.array([1, 2, 3, 4])

    found = method.mask_columns(view)(0, view.inspect(0), Stats, MASKS)["undecided"]
    np.testing.assert_allclose(found, [0, 0, 0, 0.8 * 32], rtol=1e-5)


def test_plar_says_what_it_needs():
    from a2lc.errors import InputError

    plain = Inspection(probs=seen().probs)
    with pytest.raises(InputError, match="needs a model that it trained itself"):
        create_method("plar").labeller(view_of([], plain))(0)
