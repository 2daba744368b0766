"""The same questions to every method."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from a2lc.classes.sentinels import VOID
from a2lc.correction import class_ranks
from a2lc.errors import ConfigError, UnknownNameError
from a2lc.methods import METHODS, create_method
from a2lc.records import Changes, Inspection, PixelView, PoolTotals, QueryKind, RoundView
from a2lc.statistics.mask_stats import MaskStats, mask_statistics

every = pytest.mark.parametrize("name", sorted(METHODS))
K = 4


def view_of(stats: MaskStats, *, seed: int = 5, asked=None) -> RoundView:
    """What the loop would show: totals of the whole pool, and a made-up column for methods that add one."""
    current = np.where(stats.label == stats.ignore_index, VOID, stats.label).astype(np.int32)
    pixels = np.bincount(current[current >= 0], weights=stats.area[current >= 0], minlength=stats.num_classes)
    return RoundView(
        stats=stats,
        current=current,
        asked=np.zeros(len(stats), dtype=bool) if asked is None else asked,
        pixels_per_class=pixels.astype(np.int64),
        void_pixels=int(stats.area[current < 0].sum()),
        round=1,
        seed=seed,
        totals=PoolTotals.of([stats], stats.num_classes),
        extra={"undecided": stats.entropy_sum, "region": stats.mask_ids},
    )


def fast(name, **settings):
    """The method with a few epochs, where it has any."""
    known = {field.name for field in fields(METHODS[name])}
    quick = {"epochs": 5, "learning_rate": 0.01, "thresholds": (0.3,)}
    return create_method(name, {k: v for k, v in quick.items() if k in known} | settings)


def good(method, view):
    values = method.score(view)
    assert values.shape == (len(view.stats),)
    assert np.isfinite(values).all()
    return values


def test_the_registry_has_what_the_design_names():
    assert {"a2lc", "alc", "classbal", "amss", "mulactseg", "plar", "random"} <= set(METHODS)
    assert {"entropy", "margin", "softmin", "cleanlab"} <= set(METHODS)


@every
def test_scores_each_mask_and_repeats_itself(name, make_stats):
    first, again = (good(fast(name), view_of(make_stats())) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@every
def test_same_seed_same_scores(name, make_stats):
    same = np.array_equal(
        good(fast(name), view_of(make_stats(), seed=1)), good(fast(name), view_of(make_stats(), seed=2))
    )
    assert same == (name != "random")


@every
def test_scores_do_not_depend_on_the_shard(name, make_stats):
    if METHODS[name].pool.whole:
        pytest.skip("the loop hands this method all masks at once")
    view = view_of(make_stats())
    whole = good(fast(name), view)
    part = view.stats.image == 1
    extra = {key: values[part] for key, values in view.extra.items()}
    shard = replace(view, stats=view.stats.take(part), current=view.current[part], asked=view.asked[part], extra=extra)
    np.testing.assert_array_equal(good(fast(name), shard), whole[part])


@every
def test_score_reads_no_column_it_does_not_name(name, make_stats):
    view = view_of(make_stats())
    method = fast(name)
    few = MaskStats.from_table(view.stats.to_table().select(sorted(method.columns())))
    np.testing.assert_array_equal(good(method, replace(view, stats=few)), good(method, view))


@every
@pytest.mark.parametrize("classes", [1, 2])
def test_one_image_and_few_classes(name, classes, make_stats):
    view = view_of(make_stats(images=1, classes=classes))
    method = fast(name)
    good(method, view)
    rows = np.flatnonzero(view.current >= 0)[:3]
    changes = method.propagate(view, rows, view.current[rows])
    assert isinstance(changes, Changes)


@every
def test_a_mask_of_one_pixel(name):
    stats = mask_statistics(np.array([[[0.25, 0.5]], [[0.75, 0.5]]]), np.array([[0, 1]]), np.array([[3, 0]]))
    view = view_of(stats)
    good(fast(name), view)
    fast(name).propagate(view, np.array([0]), np.array([1]))


@every
def test_no_masks(name, make_stats):
    stats = make_stats()
    view = view_of(stats.take(np.zeros(len(stats), dtype=bool)))
    assert len(good(fast(name), view)) == 0
    nothing = np.empty(0, dtype=np.int64)
    assert len(fast(name).propagate(view, nothing, nothing.astype(np.int32)).rows) == 0


@every
def test_all_void(name, make_probs, rng):
    stats = mask_statistics(make_probs(rng, 3, 4, 6), np.full((4, 6), 255), rng.integers(1, 4, size=(4, 6)))
    view = view_of(stats)
    good(fast(name), view)
    changes = fast(name).propagate(view, np.array([0]), np.array([VOID]))
    assert len(changes.rows) == 0, "an answer of void teaches nothing"


@every
def test_no_answers_change_nothing(name, make_stats):
    view = view_of(make_stats())
    changes = fast(name).propagate(view, np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))
    assert len(changes.rows) == len(changes.classes) == len(changes.confidences) == 0


def clear_view(seed: int) -> tuple[RoundView, np.ndarray, np.ndarray]:
    """Masks whose probabilities tell their class plainly, a third of them mislabelled; 40 of 120 asked."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(6, size=120, p=[0.35, 0.25, 0.2, 0.1, 0.06, 0.04])
    probs = np.full((6, 1, 120), 0.02)
    probs[truth, 0, np.arange(120)] = 0.9
    labels = np.where(rng.random(120) < 0.33, rng.integers(0, 6, size=120), truth)
    labels[rng.random(120) < 0.1] = 255
    stats = mask_statistics(probs, labels[None], np.arange(1, 121)[None])
    asked = np.zeros(120, dtype=bool)
    asked[rng.permutation(120)[:40]] = True
    view = view_of(stats, asked=asked)
    answered = rng.permutation(np.flatnonzero(asked))[:30]  # the other ten were asked in earlier rounds
    return view, answered, truth[answered].astype(np.int32)


@every
@pytest.mark.parametrize("seed", range(3))
def test_propagate_keeps_the_rules(name, seed):
    view, answered, classes = clear_view(seed)
    method = fast(name)
    if name == "gain":
        pytest.skip("its changes rest on audits, see tests/unit/audits/test_session.py")
    first, again = (method.propagate(view, answered, classes) for _ in range(2))
    np.testing.assert_array_equal(first.rows, again.rows)
    np.testing.assert_array_equal(first.classes, again.classes)
    np.testing.assert_array_equal(first.confidences, again.confidences)
    assert (len(first.rows) > 0) == method.corrects, "the test must see proposals"
    assert len(set(first.rows.tolist())) == len(first.rows)
    assert not view.asked[first.rows].any(), "an answered mask is never changed"
    assert (first.classes != view.current[first.rows]).all()
    assert ((first.confidences >= 0) & (first.confidences <= 1)).all()
    ranks = class_ranks(classes, 6)
    assert not np.isin(first.classes, ranks[:3]).any(), "a tail class is never proposed"
    assert not (view.current[first.rows] == ranks[0]).any(), "a mask of the rarest class keeps it"


def test_a2lc_can_change_masks_without_a_class():
    changed = [fast("a2lc").propagate(*clear_view(seed)) for seed in range(3)]
    assert any((clear_view(seed)[0].current[c.rows] == VOID).any() for seed, c in enumerate(changed))


def test_a2lc_threshold_of_each_round():
    view, answered, classes = clear_view(0)
    strict = fast("a2lc", thresholds=(0.3, 1.0))
    assert len(strict.propagate(view, answered, classes).rows)
    for number in (2, 3, 9):
        assert not len(strict.propagate(replace(view, round=number), answered, classes).rows), "the last goes on"


def test_a2lc_fits_on_the_answers_and_not_on_their_order():
    view, answered, classes = clear_view(1)
    backwards = np.argsort(-answered)
    one = fast("a2lc").propagate(view, answered, classes)
    other = fast("a2lc").propagate(view, answered[backwards], classes[backwards])
    # Which of equally rare classes is the rarest does follow the order, as published; what is learnt does not.
    common, at_one, at_other = np.intersect1d(one.rows, other.rows, return_indices=True)
    assert len(common) > 5
    np.testing.assert_array_equal(one.confidences[at_one], other.confidences[at_other])


def test_a2lc_without_lcm_corrects_nothing():
    method = fast("a2lc", lcm=False)
    assert not method.corrects
    assert not len(method.propagate(*clear_view(0)).rows)


def test_a2lc_weighs_by_void_only_if_asked(make_stats):
    view = view_of(make_stats())
    few = replace(view, pixels_per_class=np.array([1000, 100, 10, 0]), void_pixels=5)
    with_void, without = (good(fast("a2lc", count_void=flag), few) for flag in (True, False))
    assert not np.allclose(with_void, without)
    zero = replace(few, void_pixels=0)
    np.testing.assert_array_equal(good(fast("a2lc"), zero), without)


# ---- a method cannot see ground truth ---------------------------------------------------------------------------


def test_round_view_has_no_field_that_could_hold_ground_truth():
    allowed = {
        "stats": "MaskStats",
        "current": "NDArray[np.int32]",
        "asked": "NDArray[np.bool_]",
        "pixels_per_class": "NDArray[np.int64]",
        "void_pixels": "int",
        "round": "int",
        "seed": "int",
        "totals": "PoolTotals | None",
        "extra": "Mapping[str, NDArray[Any]]",
    }
    assert {field.name: str(field.type) for field in fields(RoundView)} == allowed
    shown = {"images", "num_classes", "round", "seed", "answers", "mask_map", "labels", "answered_pixels", "inspect"}
    assert {field.name for field in fields(PixelView)} == shown
    for cls in (RoundView, MaskStats, PixelView, PoolTotals, Inspection):
        for field in fields(cls):
            assert not {"truth", "gt", "true", "target", "project", "oracle"} & set(field.name.split("_")), field.name


def test_views_and_methods_are_frozen(make_stats):
    with pytest.raises(FrozenInstanceError):
        view_of(make_stats()).seed = 3
    with pytest.raises(FrozenInstanceError):
        create_method("a2lc").acquisition = "sim"


# ---- settings ---------------------------------------------------------------------------------------------------


@every
def test_misspelt_setting_names_the_nearest(name):
    right = fields(METHODS[name])[0].name
    wrong = right[:-2] + right[-1] + right[-2]
    message = rf"Unknown setting of method '{name}': '{wrong}'. Did you mean '{right}'\? Known: .*{right}"
    with pytest.raises(UnknownNameError, match=message):
        create_method(name, {wrong: "abc"})


def test_misspelt_method_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Unknown method 'a2cl'. Did you mean 'a2lc'\? Known: a2lc, alc"):
        create_method("a2cl")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": "many"}, r"^method 'a2lc': epochs: .*integer.*found 'many'"),
        ({"tail_fraction": 1.5}, r"^tail_fraction must be in \[0, 1\], found 1.5"),
        ({"thresholds": ()}, r"^thresholds must be one or more numbers in \[0, 1\], found \(\)"),
        ({"thresholds": (0.5, 2)}, r"^thresholds must be .* found \(0.5, 2.0\)"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(ConfigError, match=message):
        create_method("a2lc", settings)


RANKED = [name for name in sorted(METHODS) if "acquisition" in {field.name for field in fields(METHODS[name])}]


@pytest.mark.parametrize("name", RANKED)
def test_unknown_acquisition_of_a_method(name):
    with pytest.raises(UnknownNameError, match=r"^Unknown acquisition function 'abd'. Did you mean 'abc'\?"):
        create_method(name, {"acquisition": "abd"})


@pytest.mark.parametrize("name", RANKED)
def test_settings_from_a_file_are_read_as_their_types(name):
    assert create_method(name, {"acquisition": "lcil"}).acquisition == "lcil"
    if name == "a2lc":
        assert create_method(name, {"thresholds": [0.5, 0.75]}).thresholds == (0.5, 0.75)


# ---- what methods ask and say about themselves -------------------------------------------------------------------


@every
def test_a_method_says_where_it_starts_and_what_it_asks(name):
    method = create_method(name)
    assert method.starts in {"pseudo", "nothing", "subset"}
    assert isinstance(method.query.kind, QueryKind)
    assert method.query.once and not method.query.overshoots, (
        "never the same question twice, never over budget, by default"
    )
    assert method.paper and method.summary


@pytest.mark.parametrize(
    ("name", "settings", "kind"),
    [
        ("alc", {"ask": "pixel"}, QueryKind.PIXEL),
        ("classbal", {}, QueryKind.DOMINANT),
        ("classbal", {"labelling": "precise"}, QueryKind.PRECISE),
        ("mulactseg", {}, QueryKind.CLASSES),
        ("a2lc", {}, QueryKind.CORRECTION),
    ],
)
def test_what_is_asked(name, settings, kind):
    assert create_method(name, settings).query.kind == kind


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("amss", {"epsilon": 2}, r"^epsilon must be in \[0, 1\], found 2"),
        ("amss", {"sieve_points": 1}, "^sieve_points must be 2 or more"),
        ("mulactseg", {"nu": -1}, "^nu must be 0 or more, found -1"),
        ("mulactseg", {"variant": "paper"}, "^method 'mulactseg': variant: .*'code' or 'slides'.*found 'paper'"),
        ("plar", {"margin": 1.5}, r"^margin must be in \[0, 1\], found 1.5"),
        ("alc", {"ask": "image"}, "^method 'alc': ask: .*'mask' or 'pixel'"),
        ("a2lc", {"parts": "all"}, "^method 'a2lc': parts: .*'both'"),
        ("gain", {"min_precision": 1.0}, r"^min_precision must be in \[0, 1\), found 1.0"),
        ("gain", {"certify": 0.5, "measure": 0.5}, r"^certify \(0.5\) and measure \(0.5\) leave no questions"),
        ("gain", {"confidence": 0.2}, r"^confidence must be in \[0.5, 1\), found 0.2"),
        ("gain", {"batch": 0}, "^batch must be 1 or more, found 0"),
        ("gain", {"ridge": 0}, "^ridge must be above 0, found 0"),
    ],
)
def test_settings_of_the_other_methods(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        create_method(name, settings)


@pytest.mark.parametrize(
    ("parts", "asks", "corrects"),
    [("both", "abc", True), ("abc", "abc", False), ("lcm", "sim", True), ("neither", "sim", False)],
)
def test_the_published_ablation(parts, asks, corrects, make_stats):
    method = fast("a2lc", parts=parts)
    view = view_of(make_stats())
    plain = good(fast("alc"), view)
    assert np.array_equal(good(method, view), plain) == (asks == "sim")
    assert method.columns() == fast("alc" if asks == "sim" else "a2lc").columns()
    assert method.corrects == corrects
    assert (len(method.propagate(*clear_view(0)).rows) > 0) == corrects


def test_cleanlab_finds_the_planted_errors():
    pytest.importorskip("cleanlab", reason="an optional baseline")
    view, _, _ = clear_view(0)
    scores = good(fast("cleanlab"), view)
    wrong = (view.stats.dominant != view.current) & (view.current >= 0)
    right = (view.stats.dominant == view.current) & (view.current >= 0)
    assert scores[wrong].min() > scores[right].max()
