"""The same demands on every method, run through the loop with a network of a few weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

from a2lc.audits.session import Session
from a2lc.creation.importer import create_project
from a2lc.creation.masks import make_masks
from a2lc.errors import StageError
from a2lc.formats.base import Sources
from a2lc.images.label_maps import write_ids
from a2lc.images.options import ReadingOptions
from a2lc.images.rgb import write_rgb
from a2lc.methods import METHODS, create_method
from a2lc.methods.base import PixelLabels
from a2lc.models.build import MODELS
from a2lc.project.config import AnnotatorConfig, TrainingConfig
from a2lc.project.project import Project
from a2lc.records import QueryKind
from a2lc.rounds.loop import Loop
from a2lc.rounds.models import region_predictor
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.status import project_status


class Tiny(torch.nn.Module):
    """Encoder, decoder and head, as the networks of segmentation-models-pytorch have them, with a few weights."""

    def __init__(self, num_classes):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3, 2, 1), torch.nn.ReLU())
        self.decoder = torch.nn.Sequential(torch.nn.Conv2d(6, 5, 3, 2, 1), torch.nn.BatchNorm2d(5))
        up = torch.nn.Upsample(scale_factor=4, mode="bilinear")
        self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(5, num_classes, 1), up)

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))


MODELS["tiny_parts"] = lambda config, num_classes: Tiny(num_classes)
TRAINING = TrainingConfig(
    preset="tiny",
    model="tiny_parts",
    resize=32,
    iterations=3,
    warm_iterations=2,
    batch_size=2,
    checkpoint="last",
    precision="32-true",
    logger="none",
)
VARIANTS = {
    **{name: (name, {}) for name in sorted(METHODS)},
    # So weak a network sees all masks alike: a small ε leaves some to ask about.
    "amss": ("amss", {"epsilon": 0.002, "sieve_pixels": 20}),
    "alc pixel": ("alc", {"ask": "pixel"}),
    # Audits in so small a budget; who is asked twice is a test of its own.
    "gain": ("gain", {"batch": 2, "certify": 0.25, "measure": 0.25, "gold": 0.0, "random_features": 16}),
    "classbal precise": ("classbal", {"labelling": "precise"}),
    "mulactseg as coded": ("mulactseg", {"variant": "code"}),
}
every = pytest.mark.parametrize("variant", sorted(VARIANTS))


def write_data(root, *, images=3, classes=3, void=False, seed=0):
    """Stripes of colour whose class is the colour, labels wrong in places; one mask of a single pixel."""
    rng = np.random.default_rng(seed)
    for i in range(images):
        truth = np.repeat(rng.integers(0, classes, size=8), 6)[None].repeat(36, axis=0)
        colours = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])[truth % 3]
        pixels = np.clip(colours + rng.normal(0, 12, size=(*truth.shape, 3)), 0, 255).astype(np.uint8)
        masks = (np.arange(48) // 6 + 1)[None].repeat(36, axis=0)
        masks[18:] += 8
        masks[0, 0] = 40
        labels = truth.copy()
        labels[:18, :6] = (labels[:18, :6] + 1) % classes
        if void:
            truth, labels = np.full_like(truth, 255), np.full_like(labels, 255)
        for kind, values in (("labels", labels), ("masks", masks), ("truth", truth)):
            write_ids(root / kind / f"{i}.png", values.astype(np.uint8))
        write_rgb(root / "images" / f"{i}.png", pixels)


def make_project(root, variant, *, classes=3, **data):
    from a2lc.classes.table import ClassTable

    (root / "images").mkdir(parents=True)
    for kind in ("labels", "masks", "truth"):
        (root / kind).mkdir()
    write_data(root, classes=classes, **data)
    start = METHODS[VARIANTS[variant][0]].starts
    if start == "subset":
        for path in sorted((root / "labels").iterdir())[1:]:
            path.unlink()
    own = {"labels": root / "labels", "masks": root / "masks"} if start == "pseudo" else {}
    if start == "subset" and not data.get("void"):
        own = {"labels": root / "labels"}
    names = [f"class {i}" for i in range(classes)]
    sources = Sources(images=root / "images", ground_truth=root / "truth", **own)
    rules = ReadingOptions(partial="labels" in own and start == "subset")
    create_project(root / "p.a2lc", sources, ClassTable.from_names(names), rules, seed=3)
    project = Project(root / "p.a2lc")
    if start != "pseudo":
        make_masks(project, "grid", size=9, replace=start == "subset")
    return project


def loop_of(project, variant, *, budget=8.0, **annotator):
    name, settings = VARIANTS[variant]
    known = {"epochs": 3} if name == "a2lc" else {}
    plan = RoundPlan(
        method=name,
        settings=known | settings,
        budget=budget,
        training=TRAINING,
        annotator=AnnotatorConfig(**annotator),
        seed=3,
    )
    return Loop(project, plan)


def asked_of(project):
    return [(q.round, q.image, q.mask_ids, q.pixel, q.score) for q in project.ledger.queries()]


class GuardedTruth:
    """A store of ground truth that is closed while the code of a method runs."""

    def __init__(self, store):
        self.store, self.closed, self.reads = store, 0, 0

    def __getattr__(self, name):
        assert not self.closed, f"a method's code reached `{name}` of ground truth"
        self.reads += 1
        return getattr(self.store, name)


class Closing:
    """A method, or the session it opened, during whose calls ground truth is closed."""

    def __init__(self, inner, truth):
        self.__dict__.update(inner=inner, truth=truth)

    def __getattr__(self, name):
        return closing(getattr(self.inner, name), self.truth)


def closing(value, truth):
    if isinstance(value, Session):
        return Closing(value, truth)
    if isinstance(value, PixelLabels):
        return replace(value, labeller=closing(value.labeller, truth))
    if not callable(value) or isinstance(value, type):
        return value

    def call(*args, **kwargs):
        truth.closed += 1
        try:
            return closing(value(*args, **kwargs), truth)
        finally:
            truth.closed -= 1

    return call


@every
def test_rounds_keep_the_budget_ask_nothing_twice_and_reach_no_ground_truth(variant, tmp_path):
    with make_project(tmp_path / "a", variant) as project:
        assert loop_of(project, variant).run(3)
        rounds = project_status(project)["rounds"]
        assert [row["round"] for row in rounds] == [0, 1, 2, 3] and all(row["finished"] for row in rounds)
        for row in rounds[1:]:
            assert 0 < row["clicks"] <= 8, row
        answered = {answer.query_id for answer, _ in project.ledger.answers()}
        masks = [(q.image, m) for q in project.ledger.queries() if q.query_id in answered for m in q.mask_ids]
        assert len(masks) == len(set(masks)), "a mask was asked about twice"
        kinds = {q.kind for q in project.ledger.queries()}
        assert kinds == {create_method(*VARIANTS[variant]).query.kind}
        first = asked_of(project)
        labels = [project.corrected_labels(image) for image in project.images]
        quality = project.truth.confusion(project.state()).counts
    # The table's count of label quality is that of the pixels.
    by_pixel = np.zeros_like(quality)
    for image, found in zip(project.images, labels, strict=True):
        truth = project.truth.pixels(image)
        both = (truth != 255) & (found != 255)
        np.add.at(by_pixel, (truth[both].astype(int), found[both].astype(int)), 1)
    np.testing.assert_array_equal(quality, by_pixel)
    # Again, with ground truth closed to the method: it asks the same, so it was not open to it either.
    with make_project(tmp_path / "b", variant) as project:
        loop = loop_of(project, variant)
        truth = GuardedTruth(project.truth)
        # The one store of the project: who asks the project for it, or the context, gets the guarded one.
        loop.context.truth = project.__dict__["truth"] = truth
        loop.context.__dict__["method"] = Closing(loop.context.method, truth)
        loop.run(3)
        assert truth.reads, "the oracle and the metrics read it"
        assert asked_of(project) == first, "the same seed asks the same questions"
        for image, found in zip(project.images, labels, strict=True):
            np.testing.assert_array_equal(project.corrected_labels(image), found)


def test_a_method_that_looks_is_caught(tmp_path):
    """The guard of the test above bites."""
    with make_project(tmp_path / "a", "random") as project:
        truth = GuardedTruth(project.truth)

        class Peeking:
            def score(self):
                return truth.table

        with pytest.raises(AssertionError, match="a method's code reached `table`"):
            Closing(Peeking(), truth).score()


@every
@pytest.mark.parametrize(
    ("data", "error_rate"),
    [
        pytest.param({"images": 1}, 0.5, id="one image, half of the answers wrong"),
        pytest.param({"classes": 1}, 0.0, id="one class"),
        pytest.param({"void": True}, 0.0, id="all void"),
    ],
)
def test_survives(variant, data, error_rate, tmp_path):
    with make_project(tmp_path / "a", variant, **data) as project:
        loop_of(project, variant, error_rate=error_rate).run(2)
        rounds = project_status(project)["rounds"]
        assert all(row["clicks"] <= 8 for row in rounds) and rounds[-1]["finished"]


def test_the_published_budget_rule_goes_one_answer_over(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "over", ("mulactseg", {"overshoot": True}))
    clicks = {}
    for variant in ("mulactseg", "over"):
        with make_project(tmp_path / variant, variant) as project:
            loop_of(project, variant, budget=4, error_rate=0.0).run(1)
            clicks[variant] = [c for _, c in project.ledger.answers()]
    assert sum(clicks["mulactseg"]) <= 4 < sum(clicks["over"])
    assert sum(clicks["over"][:-1]) <= 4, "only the last answer passes the budget"


def test_a_method_without_memory_may_ask_again(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "forgets", ("alc", {"memory": False}))
    with make_project(tmp_path / "a", "forgets", images=1) as project:
        loop_of(project, "forgets", budget=15).run(3)
        masks = [m for q in project.ledger.queries() for m in q.mask_ids]
        assert len(masks) == 45 > len(set(masks))


def test_pixel_queries_name_the_representative_pixel(tmp_path):
    with make_project(tmp_path / "a", "alc pixel") as project:
        loop_of(project, "alc pixel").run(1)
        for query in project.ledger.queries():
            assert query.kind == QueryKind.PIXEL and query.pixel is not None
            mask_map = project.mask_map(project.images[query.image])
            assert mask_map.ravel()[query.pixel] == query.mask_ids[0]


def test_columns_of_another_method_are_not_taken_for_ones_own(tmp_path):
    with make_project(tmp_path / "a", "amss") as project:
        loop_of(project, "amss").run(1)
        other = loop_of(project, "classbal")
        other.run_stage("score")
        message = r"Round 2 was scored for method 'classbal', and these scores do not serve method 'amss'\. Finish it"
        with pytest.raises(StageError, match=message):
            loop_of(project, "amss").run_stage("select")
        assert other.run_stage("select").complete, "the method it was scored for goes on"


def test_files_a_killed_score_left_with_other_settings_are_made_again(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setitem(VARIANTS, "alone", ("amss", {"merge": False}))
    with make_project(tmp_path / "a", "amss") as project:
        loop_of(project, "amss").run(1)
        loop = loop_of(project, "alone")
        monkeypatch.setattr(project.ledger, "finish_stage", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loop.run_stage("score")
        (part,) = (project.round_folder(2) / "stats").glob("part-*.parquet")
        alone = pq.read_table(part)
        assert alone["region"].to_pylist() == alone["mask_ids"].to_pylist()
        monkeypatch.undo()
        loop_of(project, "amss").run_stage("score")
        assert pq.read_table(part)["region"].to_pylist() != alone["mask_ids"].to_pylist(), "merged anew"


def test_what_was_taken_back_does_not_come_back_with_the_next_layer(tmp_path):
    """Pixel labels of undone answers are in no later layer."""
    from a2lc.cli.app import _main

    with make_project(tmp_path / "a", "classbal precise") as project:
        loop_of(project, "classbal precise", budget=30).run(2)
        folder = project.folder
        ended = project.truth.confusion(project.state(through=1)).coverage
        both = project.truth.confusion(project.state()).coverage
    assert 0 < ended < both
    assert _main(["undo", str(folder), "2"]) == 0
    with Project(folder) as project:
        assert project.truth.confusion(project.state()).coverage == ended
        asked = {(q.image, m) for q in project.ledger.queries(2) for m in q.mask_ids}
        loop_of(project, "classbal precise", budget=30).run(3)
        for answer, _ in project.ledger.answers(2):
            (query,) = [q for q in project.ledger.queries(2) if q.query_id == answer.query_id]
            labels = project.corrected_labels(project.images[query.image])
            mask_map = project.mask_map(project.images[query.image])
            assert (labels[mask_map == query.mask_ids[0]] == 255).all()
        assert asked


def test_networks_of_ones_own_cannot_be_files(tmp_path):
    from a2lc.errors import ConfigError

    files = TrainingConfig(model="probabilities", probabilities=str(tmp_path))
    for name in ("mulactseg", "plar"):
        with make_project(tmp_path / name, name) as project:
            plan = loop_of(project, name).plan
            with pytest.raises(ConfigError, match=rf"Method '{name}' trains networks of its own and cannot use files"):
                Loop(project, replace(plan, training=files))


def test_nobody_is_asked_to_draw_by_keys(tmp_path):
    from a2lc.errors import ConfigError

    with (
        make_project(tmp_path / "a", "classbal precise") as project,
        pytest.raises(ConfigError, match=r"^Precise labels are drawn and cannot be given by keys"),
    ):
        loop_of(project, "classbal precise", kind="human")


def test_a_person_may_tick_classes_until_the_clicks_are_spent(tmp_path):
    from a2lc.errors import InputError
    from a2lc.records import Answer, AnswerKind
    from a2lc.rounds.recorder import record_answer

    with make_project(tmp_path / "a", "mulactseg") as project:
        loop = loop_of(project, "mulactseg", budget=4, kind="human")
        assert not loop.run(1), "questions wait"
        first, second, third, *_ = project.ledger.queries(1)
        for query in (first, second):
            reply = Answer(query_id=query.query_id, annotator="eve", kind=AnswerKind.CLASSES, classes=(0, 1))
            assert record_answer(project, reply)
        assert loop.run(1), "four clicks are spent, whatever questions are left"
        assert project_status(project)["rounds"][1]["queries"] == 2
        late = Answer(query_id=third.query_id, annotator="eve", kind=AnswerKind.CLASSES, classes=(2,))
        with pytest.raises(InputError, match=r"was not answered before the clicks of round 1 were spent"):
            record_answer(project, late)


def test_regions_network_of_other_settings_is_trained_anew(tmp_path):
    with make_project(tmp_path / "a", "mulactseg") as project:
        loop = loop_of(project, "mulactseg")
        for stage in ("train", "evaluate", "score", "select", "answer"):
            loop.run_stage(stage)
        region_predictor(loop.context, 1)
        weights = project.round_folder(1) / "regions.ckpt"
        first = torch.load(weights, weights_only=True)
        other = Loop(project, replace(loop.plan, training=TRAINING.model_copy(update={"iterations": 5})))
        region_predictor(other.context, 1)
        second = torch.load(weights, weights_only=True)
        assert any(not torch.equal(first[k], second[k]) for k in first)
        for stage in ("correct", "train", "evaluate", "score"):
            other.run_stage(stage)
        assert project.ledger.rounds()[-1].model == "rounds/01/regions.ckpt", "what scored is written down"


def test_a_budget_that_pays_for_nothing_can_be_raised(tmp_path):
    from a2lc.errors import PoolExhaustedError

    with make_project(tmp_path / "a", "classbal precise") as project:
        loop = loop_of(project, "classbal precise", budget=1)
        with pytest.raises(PoolExhaustedError, match=r"pays for none of the .* costs \d+\. Raise `budget`\.$"):
            loop.run(1)
        assert loop_of(project, "classbal precise", budget=30).run(1), "the same round goes on"
        assert 1 < project_status(project)["rounds"][1]["clicks"] <= 30
