"""Runs of a benchmark, in this process by a tiny network: what they come to, and what survives kills and failures."""

import csv
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

from a2lc.acquisition.cost import precise_clicks
from a2lc.cli.app import _main
from a2lc.errors import ConfigError, LockedError, MissingExtraError, UnknownNameError
from a2lc.experiments import execution, runner
from a2lc.experiments.curves import mean_curve
from a2lc.experiments.execution import answer_bits, answer_seconds, run_folder
from a2lc.experiments.points import curve_of
from a2lc.experiments.protocol import Protocol
from a2lc.experiments.results import area_under, mean_and_spread, write_results
from a2lc.experiments.runner import Bench
from a2lc.images.label_maps import read_ids
from a2lc.methods.baselines import Entropy
from a2lc.models.build import MODELS
from a2lc.project.config import AnnotatorConfig
from a2lc.project.project import Project
from a2lc.rounds.status import project_status


class Dots(torch.nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.head = torch.nn.Conv2d(3, num_classes, 1)

    def forward(self, x):
        return self.head(x)


class Parts(torch.nn.Module):
    """The parts that methods with a network of their own ask for."""

    def __init__(self, num_classes):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 4, 1)
        self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(4, num_classes, 1), torch.nn.Identity())

    def forward(self, x):
        return self.segmentation_head(self.decoder(self.encoder(x)))


MODELS["dots"] = lambda config, num_classes: Dots(num_classes)
MODELS["parts"] = lambda config, num_classes: Parts(num_classes)
BASE = {
    "name": "tiny",
    "rounds": 2,
    "budget": 3,
    "seeds": [0, 1],
    "data": {"kind": "scenes", "images": 4, "validation_images": 2, "height": 48, "width": 64, "difficulty": "hard"},
    "masks": {"method": "grid", "size": 16},
    "subset": {"images": 2},
    "training": {
        "preset": "tiny", "model": "dots", "resize": 32, "iterations": 2, "warm_iterations": 2, "batch_size": 2,
        "precision": "32-true", "logger": "none",
    },
    "methods": [{"name": "random", "label": "Chance"}, {"name": "entropy"}],
}  # fmt: skip


def protocol(**changes):
    return Protocol.model_validate(BASE | changes)


def bench(out, said=None, **changes):
    return Bench(protocol=protocol(**changes), out=out, isolate=False, say=(said if said is not None else []).append)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two methods, two seeds, two rounds; and what was said."""
    out, said = tmp_path_factory.mktemp("bench"), []
    made = bench(out, said)
    made.run(made.plan())
    write_results(made.protocol, made.outcomes(), out, command="a2lc bench tiny")
    return out, made, said


def figures(out):
    """What came out, but for times and memory."""
    kept = ("round", "queries", "clicks", "data_miou", "coverage", "model_miou", "bits")
    return {
        path.name: [{key: row[key] for key in kept} for row in json.loads((path / "bench.json").read_text())["result"]["rounds"]]
        for path in sorted((out / "runs").glob("*.a2lc"))
    }  # fmt: skip


def test_tables_say_what_the_projects_say(done):
    out, made, said = done
    with (out / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    for run in made.plan():
        with Project(run_folder(out, run)) as project:
            status = project_status(project)["rounds"]
            own = [row for row in rows if row["method"] == run.label and int(row["seed"]) == run.seed]
            clicks = 0.0
            for row, truth in zip(own, status, strict=True):
                clicks += truth["clicks"]
                assert float(row["clicks"]) == clicks and int(row["round"]) == truth["round"]
                for key in ("data_miou", "data_miou_of_all", "coverage", "pixel_accuracy", "model_miou"):
                    assert float(row[key]) == pytest.approx(truth[key], rel=1e-5)
                assert float(row["seconds"]) == pytest.approx(sum(truth["seconds"].values()), rel=1e-5)
                assert float(row["peak_mib"]) > 50
            assert [s["method"] for s in status[1:]] == [run.method] * 2 and clicks == 6
            # The next command in the run's folder goes on with the same.
            assert (project.config.method.name, project.config.method.budget) == (run.method, 3)
            assert project.config.training == run.training and project.config.seed == run.seed
    page = (out / "results.md").read_text(encoding="utf-8")
    last = [float(r["data_miou"]) for r in rows if r["method"] == "Chance" and r["round"] == "2"]
    assert f"{np.mean(last):.4f} ± {np.std(last, ddof=1):.4f} |" in page and "a2lc bench tiny" in page
    assert "coverage, the share" not in page and "of all pixels" not in page  # nobody started from nothing
    assert said[0] == "4 runs, 0 of them finished before"
    assert sum(": finished, data mIoU" in line for line in said) == 4
    assert sum(" round 1: 3 clicks, data mIoU" in line for line in said) == 4
    assert (out / "curves.png").stat().st_size > 10_000 and "Chance" in (out / "curves.svg").read_text(encoding="utf-8")


def test_runs_that_begin_alike_share_round_0(done):
    out, _, _ = done
    assert len(list((out / "beginnings").glob("*.a2lc"))) == 2  # a seed each
    for seed in (0, 1):
        weights = [
            (out / "runs" / f"{name}-{seed}.a2lc/rounds/00/model.ckpt").read_bytes() for name in ("chance", "entropy")
        ]
        assert weights[0] == weights[1]
    assert figures(out)["chance-0.a2lc"][0] != figures(out)["chance-1.a2lc"][0]


def test_a_shared_round_0_is_the_one_that_a_run_alone_comes_to(done, tmp_path):
    out, made, _ = done
    (run,) = [run for run in made.plan() if run.name == "entropy-1"]
    runner._check_begun(tmp_path, [run])
    alone = bench(tmp_path, methods=[{"name": "entropy"}])
    alone.run(alone.plan(seeds=[1]))
    assert figures(tmp_path)["entropy-1.a2lc"] == figures(out)["entropy-1.a2lc"]


def test_finished_runs_are_not_repeated(done, monkeypatch):
    out, made, said = done
    monkeypatch.setattr(runner, "execute", None)
    before = figures(out)
    made.run(made.plan())
    assert said[-1] == "4 runs, 4 of them finished before" and figures(out) == before


@pytest.mark.parametrize("after", [0, 2, 4, 7])
def test_killed_anywhere_the_same_call_goes_on(done, tmp_path, monkeypatch, after):
    from a2lc.training import fit

    real, calls = fit.fit_model, []

    def dies(*args, **kwargs):
        calls.append(1)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(fit, "fit_model", dies)
    made = bench(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made.run(made.plan())
    made.run(made.plan())
    assert figures(tmp_path) == figures(done[0])
    assert len(calls) == 2 + 2 * 4 + 1  # a round 0 a seed, two rounds a run, and the one that was killed


def test_a_folder_killed_before_its_masks_were_there_is_made_anew(tmp_path, monkeypatch):
    made = bench(tmp_path, methods=[{"name": "classbal"}], seeds=[0])
    real = execution.make_masks

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "make_masks", dies)
    with pytest.raises(KeyboardInterrupt):
        made.run(made.plan())
    monkeypatch.setattr(execution, "make_masks", real)
    made.run(made.plan())
    (outcome,) = made.outcomes()
    assert outcome.found["masks"] == 4 * 12 and outcome.found["rounds"][0]["data_miou"] is None


def test_more_rounds_go_on_and_other_settings_are_refused(tmp_path):
    made = bench(tmp_path, seeds=[0], methods=[{"name": "random"}], rounds=1)
    made.run(made.plan())
    longer = bench(tmp_path, seeds=[0], methods=[{"name": "random"}])
    assert not longer.outcomes() and longer.run(longer.plan()) is None
    assert len(longer.outcomes()[0].found["rounds"]) == 3
    # Fewer are a part of what is there.
    assert [x for x, _ in curve_of(made.outcomes()[0], "clicks", "data_miou")] == [0, 3]
    other = bench(tmp_path, seeds=[0], methods=[{"name": "random"}], budget=4)
    for refused in (lambda: other.run(other.plan()), other.outcomes):
        with pytest.raises(
            ConfigError,
            match=r"Run random-0 in .* other settings .*`out` to another folder, or delete .*random-0\.a2lc",
        ):
            refused()


def test_what_labelled_images_cost_is_where_the_curve_begins(tmp_path):
    made = bench(
        tmp_path, seeds=[0, 2], methods=[{"name": "random", "start": "subset"}, {"name": "margin", "start": "subset"}]
    )
    made.run(made.plan())
    outcomes = made.outcomes()
    chosen = []
    for place in sorted((tmp_path / "subsets").iterdir()):
        names = sorted(path.name for path in place.iterdir())
        truth = next(tmp_path.glob("scenes-*")) / "ground_truth" / "train"
        cost = sum(precise_clicks(read_ids(truth / name)) for name in names)
        assert len(names) == 2 and cost > 20
        assert all((place / name).read_bytes() == (truth / name).read_bytes() for name in names)
        chosen.append(names)
        seed = int(place.name.split("-")[1])
        for outcome in [o for o in outcomes if o.run.seed == seed]:
            assert outcome.found["start_clicks"] == cost and outcome.found["labelled_images"] == 2
            assert curve_of(outcome, "clicks", "data_miou")[0] == (cost, 1.0)
            assert [x for x, _ in curve_of(outcome, "clicks", "model_miou")] == [cost, cost + 3, cost + 6]
            assert [x for x, _ in curve_of(outcome, "queries", "model_miou")] == [0, 3, 6]
    assert len(chosen) == 2 and chosen[0] != chosen[1]
    write_results(made.protocol, outcomes, tmp_path, command="x")
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "Labelled images are not free" in page and "coverage, the share" in page
    assert "## Data mIoU of all pixels" in page


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, monkeypatch):
    def broken(self, view):
        raise ZeroDivisionError("no\nway")

    monkeypatch.setattr(Entropy, "score", broken)
    said = []
    made = bench(tmp_path, said, seeds=[0], methods=[{"name": "entropy"}, {"name": "random"}])
    made.run(made.plan())
    assert "[1/2] entropy-0: FAILED: ZeroDivisionError: no way" in said
    failed, fine = made.outcomes()
    assert failed.fault and failed.found is None and not failed.skipped and fine.found
    write_results(made.protocol, [failed, fine], tmp_path, command="x")
    assert "- entropy-0: failed: ZeroDivisionError: no way" in (tmp_path / "results.md").read_text(encoding="utf-8")
    monkeypatch.undo()
    made.run(made.plan())
    assert all(outcome.found and not outcome.fault for outcome in made.outcomes())


@pytest.mark.parametrize("optional", [True, False])
def test_what_is_not_installed_is_left_out_where_it_is_optional(tmp_path, monkeypatch, optional):
    def missing(self, view):
        raise MissingExtraError("needs something: pip install it")

    monkeypatch.setattr(Entropy, "score", missing)
    made = bench(tmp_path, seeds=[0], methods=[{"name": "entropy", "optional": optional}])
    made.run(made.plan())
    (outcome,) = made.outcomes()
    assert outcome.found is None and outcome.skipped == optional and outcome.fault == "needs something: pip install it"


def test_a_run_ends_with_a_note_where_no_mask_is_left(tmp_path):
    made = bench(tmp_path, seeds=[0], methods=[{"name": "classbal", "budget": 20}], rounds=5)
    made.run(made.plan())
    (outcome,) = made.outcomes()
    assert [row["round"] for row in outcome.found["rounds"]] == [0, 1, 2]
    assert "ended after round 2" in outcome.found["note"] and "\n" not in outcome.found["note"]
    write_results(made.protocol, [outcome], tmp_path, command="x")
    assert "Ended early: classbal-0 ended after round 2" in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_only_some_methods_and_seeds(tmp_path):
    made = bench(tmp_path)
    assert [run.name for run in made.plan([7, 3], ["entropy"])] == ["entropy-7", "entropy-3"]
    with pytest.raises(UnknownNameError, match=r"Unknown method of the protocol 'chance'. Did you mean 'Chance'"):
        made.plan(methods=["chance"])


def test_one_process_at_a_time(tmp_path):
    from filelock import FileLock

    made = bench(tmp_path)
    with FileLock(tmp_path / ".lock"), pytest.raises(LockedError, match="Another a2lc bench is using"):
        made.run(made.plan())


# ---- figures ----------------------------------------------------------------------------------------------------


def test_area_by_hand():
    # (0.4+0.6)/2 * 100 + 0.6 * 200 = 170 over 300
    assert area_under([(0, 0.4), (100, 0.6), (300, 0.6)]) == pytest.approx(170 / 300)
    assert area_under([(900, 0.4), (1000, 0.6), (1200, 0.6)]) == pytest.approx(170 / 300)  # over its own range
    assert area_under([(0, 0.4)]) is None and area_under([(5, 0.1), (5, 0.2)]) is None


def test_spread_over_seeds_is_the_sample_one():
    assert mean_and_spread([0.1, 0.2, 0.6]) == (pytest.approx(0.3), pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1)), 3)
    x, y, spread = mean_curve([[(0, 0.1), (4, 0.3)], [(0, 0.3), (6, 0.7), (9, 0.9)]])
    assert (
        x.tolist() == [0, 5]
        and y == pytest.approx([0.2, 0.5])
        and spread == pytest.approx([0.1 * 2**0.5, 0.2 * 2**0.5])
    )


@pytest.mark.parametrize("method", ["random", "classbal", "mulactseg"])
def test_bits_of_answers(tmp_path, method):
    head = {} if method != "mulactseg" else {"model": "parts"}
    made = bench(tmp_path, seeds=[0], methods=[{"name": method, "training": head}], rounds=1)
    made.run(made.plan())
    with Project(run_folder(tmp_path, made.plan()[0])) as project:
        answers = [answer for answer, _ in project.ledger.answers(1)]
        wrong = sum(answer.kind != "confirm" for answer in answers)
        expected = {
            "random": len(answers) + wrong * np.log2(10),
            "classbal": len(answers) * np.log2(11),
            "mulactseg": sum(max(1, len(a.classes)) for a in answers) * np.log2(11),
        }[method]
        assert answers and answer_bits(project, 1) == pytest.approx(expected)
        assert answer_bits(project, 0) == 0
        first = {query.query_id: query.suggestions[:1] for query in project.ledger.queries(1)}
        seconds = {
            "random": 2.5 * len(answers) + 1.5 * wrong,
            "classbal": sum(2.5 + 1.5 * (a.classes != first[a.query_id]) for a in answers),
            "mulactseg": sum(2.0 + 2.0 * max(1, len(a.classes)) for a in answers),
        }[method]
        assert answer_seconds(project, 1) == pytest.approx(seconds)
        assert answer_seconds(project, 0) == 0


def test_precise_labels_have_no_bits(tmp_path):
    entry = {"name": "classbal", "settings": {"labelling": "precise"}, "budget": 30}
    made = bench(tmp_path, seeds=[0], methods=[entry], rounds=1)
    made.run(made.plan())
    (outcome,) = made.outcomes()
    assert outcome.found["rounds"][1]["bits"] is None and outcome.found["rounds"][1]["clicks"] > 0
    assert curve_of(outcome, "bits", "data_miou") == []


def test_wrong_answers_of_the_annotator_reach_the_run(tmp_path):
    made = bench(tmp_path, seeds=[0], methods=[{"name": "random"}], annotator={"error_rate": 0.9}, rounds=1)
    made.run(made.plan())
    with Project(run_folder(tmp_path, made.plan()[0])) as project:
        assert project.config.annotator == AnnotatorConfig(error_rate=0.9)


# ---- the command ------------------------------------------------------------------------------------------------

TOML = """
name = "own"
rounds = 1
budget = 3
seeds = [0]
[data]
kind = "scenes"
images = 2
validation_images = 1
height = 48
width = 64
[training]
model = "probabilities"
probabilities = "no/such/folder"
[[methods]]
name = "random"
"""


def test_a_process_that_fails_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "own.toml").write_text(TOML, encoding="utf-8")
    command = ["bench", str(tmp_path / "own.toml"), "--out", str(tmp_path / "out")]
    assert _main(command) == 1
    said = capsys.readouterr().out
    assert "random-0: FAILED: No folder of probabilities at " in said
    assert "1 runs failed: random-0" in said
    assert "failed: No folder of probabilities at " in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert _main([*command, "--report-only"]) == 1


def test_mistakes_of_the_command_are_one_line(tmp_path, capsys):
    (tmp_path / "own.toml").write_text(TOML, encoding="utf-8")
    own, out = str(tmp_path / "own.toml"), str(tmp_path / "out")
    for arguments, says in (
        ([own, "--seeds", "1,x"], "--seeds 1,x: expected whole numbers"),
        ([own, "--data", "here"], "`data` is here, but the scenes of this protocol are synthetic"),
        ([own, "--report-only"], "There are no results in"),
        (["camvid_cpu"], "names no folder of data. Set `data`. (option: --data)"),
        (["camvid_cpu", "--data", str(tmp_path)], "no folder"),
    ):
        assert _main(["bench", *arguments, "--out", out]) == 2
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1, error
        assert not (tmp_path / "out").exists()


def test_tables_are_written_again_from_what_is_recorded(done):
    out, made, _ = done
    before = (out / "results.csv").read_bytes()
    (out / "results.csv").unlink()
    write_results(made.protocol, made.outcomes(), out, command="again")
    assert (out / "results.csv").read_bytes() == before
