"""Rounds on made-up scenes with probabilities from files: the whole loop but for training."""

import dataclasses
import json

import numpy as np
import pytest

from a2lc.acquisition.cost import ClickCost
from a2lc.creation.importer import create_project
from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import write_scenes
from a2lc.demo.settings import SceneSettings
from a2lc.errors import (
    AlreadyAnsweredError,
    ConfigError,
    InputError,
    MissingFileError,
    PoolExhaustedError,
    StageError,
    UnknownNameError,
)
from a2lc.formats.base import Sources
from a2lc.project.config import AnnotatorConfig, TrainingConfig
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind
from a2lc.rounds import score
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.recorder import record_answer
from a2lc.rounds.settled import open_round
from a2lc.rounds.stages import STAGES, next_stage
from a2lc.rounds.status import project_status


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Scenes, and probabilities of a model that is right on seven pixels of ten."""
    root = tmp_path_factory.mktemp("loop")
    write_scenes(root / "scenes", SceneSettings(images=6, validation_images=2, height=48, width=64, seed=3))
    with make_project(root, "probe.a2lc") as project:
        classes = project.classes.num_classes
        for image in project.all_images:
            truth = project.truth.pixels(image).astype(int)
            rng = np.random.default_rng([5, image.index])
            seen = np.where(rng.random(truth.shape) < 0.7, truth, rng.integers(0, classes, truth.shape))
            seen[truth == 255] = 0
            logits = rng.normal(size=(classes, *truth.shape)) + 3 * (np.arange(classes)[:, None, None] == seen)
            probs = np.exp(logits) / np.exp(logits).sum(axis=0)
            path = root / "probs" / f"{image.image_id}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, probs.astype(np.float16))
    return root


def make_project(root, name, **without):
    scenes = root / "scenes"
    sources = Sources(
        images=scenes / "images",
        labels=scenes / "labels",
        masks=scenes / "masks",
        ground_truth=None if without.get("ground_truth") is False else scenes / "ground_truth",
    )
    create_project(root / name, sources, scene_classes())
    return Project(root / name)


def plan(root, method="alc", budget=10, **changes):
    settings = {"epochs": 20} if method == "a2lc" else {}
    settings |= changes.pop("settings", {})
    return RoundPlan(
        method=method,
        settings=settings,
        budget=budget,
        training=TrainingConfig(model="probabilities", probabilities=str(root / "probs")),
        annotator=AnnotatorConfig(**changes),
        seed=0,
    )


@pytest.fixture
def project(made, request):
    name = request.node.name.translate(str.maketrans("[]/", "---"))
    with make_project(made, f"{name}.a2lc") as opened:
        yield opened


def answers_of(project):
    return [(a.query_id, a.kind, a.classes) for a, _ in project.ledger.answers()]


@pytest.mark.parametrize(
    "method", ["a2lc", *(pytest.param(m, marks=pytest.mark.slow) for m in ("alc", "random", "entropy"))]
)
def test_rounds_ask_what_the_budget_pays_for_and_improve_labels(made, project, method):
    assert Loop(project, plan(made, method)).run(2)
    status = project_status(project)
    assert [row["round"] for row in status["rounds"]] == [0, 1, 2]
    assert [row["clicks"] for row in status["rounds"]] == [0, 10, 10]
    assert status["rounds"][2]["data_miou"] > status["rounds"][0]["data_miou"]
    assert status["next"] == {"round": 3, "stage": "score"}
    asked = [(q.image, q.mask_ids) for q in project.ledger.queries()]
    assert len(asked) == len(set(asked)) == 20


def test_same_seed_same_answers_and_other_seed_others(made):
    ledgers = []
    for name, seed in (("same-a.a2lc", 0), ("same-b.a2lc", 0), ("same-c.a2lc", 1)):
        with make_project(made, name) as project:
            Loop(project, dataclasses.replace(plan(made, "random"), seed=seed)).run(1)
            ledgers.append([(q.image, q.mask_ids) for q in project.ledger.queries()])
    assert ledgers[0] == ledgers[1] != ledgers[2]


def test_a_run_broken_after_every_stage_comes_to_the_same(made):
    with make_project(made, "unbroken.a2lc") as project:
        Loop(project, plan(made)).run(2)
        whole = answers_of(project), project.state().classes.tolist()
    folder = made / "broken.a2lc"
    make_project(made, "broken.a2lc").close()
    seen = []
    while True:
        with Project(folder) as project:
            number, stage = next_stage(project)
            if number == 3:
                break
            seen.append((number, stage))
            Loop(project, plan(made)).run_stage(stage)
    assert seen == [(0, "train"), (0, "evaluate"), *((n, stage) for n in (1, 2) for stage in STAGES)]
    with Project(folder) as project:
        assert (answers_of(project), project.state().classes.tolist()) == whole


def test_a_score_broken_between_its_files_does_not_repeat_them(made, project, monkeypatch):
    loop = Loop(project, plan(made))
    loop.context.shard_size = 2
    loop.run(0)
    real, calls = score.mask_statistics, []

    def failing(*args):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("killed")
        return real(*args)

    monkeypatch.setattr(score, "mask_statistics", failing)
    with pytest.raises(RuntimeError, match="killed"):
        loop.run_stage("score")
    again, second = Loop(project, plan(made)), []
    again.context.shard_size = 2
    monkeypatch.setattr(score, "mask_statistics", lambda *args: second.append(1) or real(*args))
    assert again.run_stage("score").complete
    assert len(second) == len(project.images) - 2, "the first file was whole"


def test_stages_come_in_order(made, project):
    with pytest.raises(StageError, match="at stage 'train', not at 'select'"):
        Loop(project, plan(made)).run_stage("select")


def test_questions_settle_the_plan_of_a_round_and_nothing_before_does(made, project):
    Loop(project, plan(made, "random")).run(0)
    Loop(project, plan(made, "random")).run_stage("score")
    Loop(project, plan(made, "alc", budget=5)).run_stage("select")
    with pytest.raises(
        StageError, match=r"Round 1 was started with a different method and settings and budget: method was 'alc'"
    ):
        Loop(project, plan(made, "a2lc")).run_stage("answer")
    with pytest.raises(StageError, match=r"different budget: budget was 5, now 6\. Finish it with the original values"):
        Loop(project, plan(made, "alc", budget=6)).run(1)
    assert Loop(project, plan(made, "alc", budget=5)).run(1)
    row = project_status(project)["rounds"][1]
    assert row["method"] == "alc" and row["clicks"] == 5
    assert Loop(project, plan(made)).run(2)


def test_a_wrong_folder_of_probabilities_can_be_mended(made, project, tmp_path):
    wrong = dataclasses.replace(plan(made), training=TrainingConfig(model="probabilities", probabilities=str(tmp_path)))
    lines = []
    with pytest.raises(MissingFileError, match="no probabilities of image"):
        Loop(project, wrong, on_stage=lambda result: lines.extend(result.lines())).run(1)
    assert "model not measured" in lines[1]
    assert Loop(project, plan(made)).run(1)


def test_files_of_probabilities_score_the_round_after_whatever_trains_it(made, project):
    Loop(project, plan(made)).run(0)
    network = dataclasses.replace(plan(made), training=TrainingConfig(preset="tiny"))
    assert Loop(project, network).run_stage("score").complete


@pytest.mark.parametrize(("model", "file"), [("deeplabv3plus", r"model\.ckpt"), ("head", r"head\.npz")])
def test_missing_weights_are_said_by_name(made, project, model, file):
    network = dataclasses.replace(plan(made), training=TrainingConfig(preset="tiny", model=model))
    loop = Loop(project, network)
    open_round(loop.context, 0)
    for stage in ("train", "evaluate"):
        project.ledger.finish_stage(0, stage, 0.0, {"training": network.training.model_dump(mode="json")})
    with pytest.raises(MissingFileError, match=rf"{file} is missing, so the model of round 0 cannot score"):
        loop.run_stage("score")


def test_meaningless_settings_are_refused(made, project):
    for setting in ({"power": float("nan")}, {"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            Loop(project, plan(made, "a2lc", settings=setting))


def test_budget_over_what_is_left_is_refused_before_any_work(made, project):
    left = len(project.masks)
    with pytest.raises(PoolExhaustedError, match=rf"2 rounds .* need \d+ more masks, but only {left}"):
        Loop(project, plan(made, budget=left)).run(2)
    assert project.ledger.rounds() == []


def test_budget_that_buys_nothing_is_refused(made, project):
    with pytest.raises(InputError, match="pays for no answer"):
        Loop(project, plan(made, budget=0.5))


def test_dear_answers_never_pass_the_budget(made, project):
    Loop(project, plan(made, "random", budget=10, correct_clicks=3.0)).run(1)
    row = project_status(project)["rounds"][1]
    assert row["queries"] == 3 and 3 <= row["clicks"] <= 9


def test_misspelt_setting_names_the_nearest(made, project):
    with pytest.raises(UnknownNameError, match="Did you mean 'tail_fraction'"):
        Loop(project, plan(made, "a2lc", settings={"tail_fracton": 0.3}))


def test_oracle_errors_lower_the_gain(made):
    gains = []
    for name, rate in (("right.a2lc", 0.0), ("wrong.a2lc", 0.9)):
        with make_project(made, name) as project:
            Loop(project, plan(made, "alc", budget=30, error_rate=rate)).run(1)
            rounds = project_status(project)["rounds"]
            gains.append(rounds[1]["data_miou"] - rounds[0]["data_miou"])
    assert gains[1] < 0 < gains[0]


def test_automatic_corrections_leave_answers_alone(made, project):
    Loop(project, plan(made, "a2lc", settings={"thresholds": [0.0], "tail_fraction": 0.0, "epochs": 200})).run(2)
    rows = project.corrections()
    automatic = rows.take(rows.source == 2)
    assert len(automatic)
    for number in (1, 2):
        asked = project.ledger.asked_masks(before=number + 1)
        assert not np.isin(automatic.keys[automatic.rounds == number], asked).any()


def test_lcm_off_is_the_ablation(made, project):
    Loop(project, plan(made, "a2lc", settings={"lcm": False})).run(1)
    assert project_status(project)["rounds"][1]["automatic_changed"] == 0


def test_without_ground_truth_figures_are_null_and_a_person_answers(made):
    with make_project(made, "blind.a2lc", ground_truth=False) as project:
        loop = Loop(project, plan(made, kind="human"))
        assert loop.run(1) is False
        waiting = project.ledger.queries(1, unanswered=True)
        assert len(waiting) == 10 and loop.run(1) is False
        for query in waiting[:-1]:
            kind, classes = (AnswerKind.CONFIRM, (query.proposed,)) if query.query_id % 2 else (AnswerKind.SKIP, ())
            assert record_answer(project, Answer(query_id=query.query_id, annotator="ann", kind=kind, classes=classes))
        with pytest.raises(InputError, match="To choose another class, answer 'correct'"):
            wrong = (waiting[-1].proposed + 1) % 11
            kind = AnswerKind.CONFIRM
            record_answer(project, Answer(query_id=waiting[-1].query_id, annotator="ann", kind=kind, classes=(wrong,)))
        changed = Answer(query_id=waiting[-1].query_id, annotator="ann", kind=AnswerKind.CORRECT, classes=(3,))
        assert record_answer(project, changed) and not record_answer(project, changed)
        other = dataclasses.replace(changed, classes=(4,))
        with pytest.raises(AlreadyAnsweredError, match="replaces answer"):
            record_answer(project, other)
        standing = project.ledger.answers(1)[-1][0].answer_id
        assert record_answer(project, dataclasses.replace(other, replaces=standing))
        assert loop.run(1)
        row = project_status(project)["rounds"][1]
        figures = ("data_miou", "coverage", "pixel_accuracy", "automatic_precision", "model_miou")
        assert [row[key] for key in figures] == [None] * 5
        assert row["clicks"] == sum(1 for q in waiting[:-1] if q.query_id % 2) + 2
        place = project.masks.rows(np.array([waiting[-1].image]), np.array(waiting[-1].mask_ids))[0]
        assert project.state().classes[place] == 4


def test_record_answer_refuses_what_fits_no_question(made, project):
    Loop(project, plan(made, kind="human")).run(1)
    with pytest.raises(InputError, match="no question 999"):
        record_answer(project, Answer(query_id=999, annotator="a", kind=AnswerKind.VOID))
    with pytest.raises(InputError, match="Class 77"):
        record_answer(project, Answer(query_id=1, annotator="a", kind=AnswerKind.CORRECT, classes=(77,)))
    with pytest.raises(InputError, match="needs exactly one class, found 0"):
        record_answer(project, Answer(query_id=1, annotator="a", kind=AnswerKind.CONFIRM))


def test_probability_files_are_checked(made, project, tmp_path):
    bad = dataclasses.replace(
        plan(made), training=TrainingConfig(model="probabilities", probabilities=str(tmp_path / "none"))
    )
    with pytest.raises(InputError, match="No folder of probabilities"):
        Loop(project, bad).run(1)


def test_evaluation_matches_pixels(made, project):
    from a2lc.statistics.metrics import ConfusionCounts

    Loop(project, plan(made)).run(2)
    counts = ConfusionCounts(project.classes.num_classes)
    for image in project.images:
        counts.update(project.corrected_labels(image), project.truth.pixels(image))
    row = project_status(project)["rounds"][2]
    assert row["data_miou"] == pytest.approx(counts.miou, abs=1e-12)
    assert row["pixel_accuracy"] == pytest.approx(counts.pixel_accuracy, abs=1e-12)
    assert row["coverage"] == pytest.approx(counts.coverage, abs=1e-12)
    evaluation = json.loads((project.round_folder(2) / "evaluation.json").read_text())
    assert evaluation["data_miou"] == row["data_miou"]


def test_clicks_of_kinds():
    cost = ClickCost(confirm=1, correct=2.5)
    assert [cost.of(kind) for kind in AnswerKind] == [1, 2.5, 2.5, 2.5, 2.5, 0]


def test_a_run_ends_where_every_mask_has_been_asked_about(few_scored, monkeypatch):
    with few_scored.project("all-asked.a2lc") as project:
        loop = Loop(project, few_scored.plan(project, budget=20))
        # Grids may answer for all masks long before the clicks are spent, which the check before a run cannot foresee.
        spent = lambda context: 0 if next_stage(project)[0] > 1 else 99  # noqa: E731
        monkeypatch.setattr(type(loop.context), "masks_left", spent)
        assert loop.run(3)
        assert loop.stopped == "after round 1: every mask has been asked about"
        assert [record.round for record in project.ledger.rounds()] == [0, 1], "no round is left open"
