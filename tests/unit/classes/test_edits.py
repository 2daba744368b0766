"""Classes renamed, merged, split and added: what is recorded keeps its meaning, and nothing is written anew."""

from __future__ import annotations

import json
import shutil
import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2lc.classes.decoding import decode_labels
from a2lc.classes.edits import ClassEdit, added, class_change, merged, renamed, replay_edits, split, taken_back, view_of
from a2lc.classes.table import ClassTable
from a2lc.cli.app import _main
from a2lc.errors import InputError, PoolExhaustedError
from a2lc.export import export_project
from a2lc.images.label_maps import read_ids
from a2lc.project.project import Project
from a2lc.records import AnswerKind, Query, Source
from a2lc.report import write_report
from a2lc.rounds.loop import Loop
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.status import label_quality
from a2lc.statistics.metrics import ConfusionCounts

BASE = ClassTable.from_json(
    {
        "classes": [
            {"id": 7, "name": "road"},
            {"id": 8, "name": "car"},
            {"id": 3, "name": "van"},
            {"id": 4, "name": "tree"},
        ]
    }
)


def play(*makers, base=BASE):
    """The views after each of a row of edits, and the edits as the ledger would have them."""
    edits, views = [], [view_of(base)]
    for make in makers:
        made = make(views[-1]) if not isinstance(make, str) else taken_back(edits)
        edits.append(ClassEdit(kind=made.kind, codes=made.codes, details=made.details, number=len(edits) + 1))
        views.append(replay_edits(base, edits))
    return views, edits


# ---- the view ------------------------------------------------------------------------------------------------------


def test_no_edit_is_the_table_itself():
    view = view_of(BASE)
    assert view.plain and replay_edits(BASE, []).plain
    assert view.indices(np.array([0, 3, -1])).tolist() == [0, 3, -1]


def test_rename():
    views, _ = play(lambda v: renamed(v, "car", "vehicle", (1, 2, 3)))
    assert views[1].table.names == ("road", "vehicle", "van", "tree")
    assert views[1].table.colours[1] == (1, 2, 3) and views[1].plain
    assert class_change(views[0], views[1]) is None


def test_merge():
    views, _ = play(lambda v: merged(v, ["van", "car"], "car"))
    view = views[1]
    assert view.table.names == ("road", "car", "tree") and view.table.file_values == (7, 8, 4)
    assert view.table.aliases == ((3, 1),)
    assert view.indices(np.array([[0, 1, 2, 3], [-1, -2, -3, 2]])).tolist() == [[0, 1, 1, 2], [-1, -2, -3, 1]]
    assert view.coded(np.array([0, 1, 2, -1])).tolist() == [0, 1, 3, -1]
    assert class_change(views[0], view).tolist() == [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    labels, unknown = decode_labels(np.array([[7, 8, 3, 4, 255]]), view.table, {99: 3})
    assert labels.tolist() == [[0, 1, 1, 2, 255]] and not unknown
    assert view.table.rewritten({99: 3, 5: 4}) == {3: 8, 99: 8}


def test_merged_into_one_that_was_merged_later():
    views, _ = play(lambda v: merged(v, ["van"], "car"), lambda v: merged(v, ["car"], "road"))
    assert views[2].table.names == ("road", "tree")
    assert views[2].indices(np.arange(4)).tolist() == [0, 0, 0, 1]
    assert views[2].table.aliases == ((8, 0), (3, 0))


def test_add_and_split():
    views, _ = play(lambda v: added(v, "sky", 11, (9, 9, 9)), lambda v: split(v, "car", ["sedan", "taxi", "suv"], {12}))
    view = views[2]
    assert view.table.names == ("road", "sedan", "van", "tree", "sky", "taxi", "suv")
    assert view.table.file_values == (7, 8, 3, 4, 11, 13, 14), "12 has another meaning"
    change = class_change(views[0], view)
    assert change.shape == (7, 4) and change.sum(axis=0).tolist() == [1] * 4 and change[4:].sum() == 0


def test_undo_of_each():
    for make in (
        lambda v: renamed(v, "car", "x"),
        lambda v: merged(v, ["car"], "road"),
        lambda v: added(v, "sky"),
        lambda v: split(v, "car", ["car", "taxi"]),
    ):
        views, edits = play(make, "undo")
        assert views[2].table == BASE and edits[1].kind == "undo"
        assert class_change(views[0], views[2]) is None
        with pytest.raises(InputError, match="No class was edited"):
            taken_back(edits)


def test_codes_are_not_given_out_twice():
    """A class added after one that was taken back is another one."""
    views, _ = play(lambda v: added(v, "sky"), "undo", lambda v: added(v, "sea"))
    assert views[3].table.names[-1] == "sea"
    assert views[1].codes.tolist() == [0, 1, 2, 3, 4] and views[3].codes.tolist() == [0, 1, 2, 3, 5]
    assert views[3].indices(np.array([4])).tolist() == [-1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda v: renamed(v, "cra", "x"), "Did you mean 'car'"),
        (lambda v: renamed(v, "car", "van"), "A class 'van' exists already"),
        (lambda v: renamed(v, "car", " "), "must be printable"),
        (lambda v: renamed(v, "car", "a\nb"), "must be printable and fit on one line"),
        (lambda v: added(v, "void"), "stands for pixels without a class"),
        (lambda v: merged(v, ["car"], "car"), "no class to merge"),
        (lambda v: merged(v, ["bus"], "car"), "Unknown class 'bus'"),
        (lambda v: added(v, "car"), "A class 'car' exists already"),
        (lambda v: added(v, "sky", 3), "Value 3 has another meaning"),
        (lambda v: added(v, "sky", 255), "Value 255 is the ignore value"),
        (lambda v: split(v, "car", ["x"]), "name at least two different classes"),
        (lambda v: split(v, "car", ["x", "x"]), "name at least two different classes"),
        (lambda v: split(v, "car", ["x", "van"]), "A class 'van' exists already"),
    ],
)
def test_edits_that_make_no_sense(make, said):
    with pytest.raises(InputError, match=said):
        make(view_of(BASE))


NAMES = [f"n{i}" for i in range(12)]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(0, 30)), max_size=8))
def test_any_row_of_edits(moves):
    """Codes and indices agree both ways, a model's probabilities keep their sum, and labels keep a class."""
    edits, views = [], [view_of(BASE)]
    for place, (kind, first, second) in enumerate(moves):
        view = views[-1]
        one, two = (view.table.names[number % view.table.num_classes] for number in (first, second))
        try:
            made = [
                lambda v, a=one, n=f"r{place}": renamed(v, a, n),
                lambda v, a=one, b=two: merged(v, [a], b),
                lambda v, n=NAMES[place]: added(v, n),
                lambda v, a=one, n=f"s{place}": split(v, a, [a, n]),
                lambda v: taken_back(edits),
            ][kind](view)
        except InputError:
            continue
        edits.append(ClassEdit(kind=made.kind, codes=made.codes, details=made.details, number=len(edits) + 1))
        views.append(replay_edits(BASE, edits))
    last = views[-1]
    assert len(set(last.table.names)) == last.table.num_classes
    assert (last.indices(last.codes) == np.arange(last.table.num_classes)).all()
    values = {*last.table.file_values, *(value for value, _ in last.table.aliases)}
    assert set(BASE.file_values) <= values, "a value of the user's files must go on meaning something"
    for view in views:
        change = class_change(view, last)
        if change is not None:
            alive = last.places[view.codes] >= 0
            assert (change.sum(axis=0) == alive).all()


# ---- a project -----------------------------------------------------------------------------------------------------


def run(scored, project, rounds, method="alc"):
    plan = scored.plan(project, 20, method=method)
    Loop(project, plan).run(rounds)


@pytest.fixture
def project(scored, tmp_path_factory):
    name = f"edits{tmp_path_factory.mktemp('n').name}.a2lc"
    with scored.project(name) as found:
        yield found


def test_merge_keeps_every_answer(scored, project):
    run(scored, project, 1)
    before = {image.image_id: project.corrected_labels(image) for image in project.images}
    truth = {image.image_id: project.truth.pixels(image) for image in project.images}
    answers = project.ledger.answers()
    with sqlite3.connect(project.ledger.path) as connection:
        rows = (
            connection.execute("SELECT * FROM answers").fetchall(),
            connection.execute("SELECT * FROM corrections").fetchall(),
        )
    names = project.classes.names
    first, second = project.classes.index("car"), project.classes.index("road")
    with project.lock():
        project.edit_classes(merged(project.view, ["car"], "road"))
    assert project.classes.names == tuple(name for name in names if name != "car")
    places = project.view.places
    for image in project.images:
        old = before[image.image_id]
        expected = np.where(old == 255, 255, places[np.minimum(old, len(places) - 1)])
        assert (project.corrected_labels(image) == expected).all()
        was = truth[image.image_id]
        assert (
            project.truth.pixels(image) == np.where(was == 255, 255, places[np.minimum(was, len(places) - 1)])
        ).all()
    assert places[first] == places[second]
    now = project.ledger.answers()
    assert len(now) == len(answers)
    for (old_answer, _), (new_answer, _) in zip(answers, now, strict=True):
        assert new_answer.classes == tuple(dict.fromkeys(places[list(old_answer.classes)].tolist()))
    with sqlite3.connect(project.ledger.path) as connection:
        again = (
            connection.execute("SELECT * FROM answers").fetchall(),
            connection.execute("SELECT * FROM corrections").fetchall(),
        )
    assert again == rows, "a row was written anew"
    counts = ConfusionCounts(project.classes.num_classes, 255)
    for image in project.images:
        counts.update(project.corrected_labels(image), project.truth.pixels(image))
    found = project.truth.confusion(project.state())
    assert (found.counts == counts.counts).all(), "the tables say the same as the pixels"
    # Masks have the most frequent label as it is now.
    for image in project.images[:5]:
        labels, ids = project.first_labels(image), project.mask_map(image)
        for row in np.flatnonzero(project.masks.image == image.index):
            inside = labels[ids == project.masks.mask_ids[row]].astype(int)
            values, pixels = np.unique(np.where(inside == 255, 10**6, inside), return_counts=True)
            best = values[pixels == pixels.max()].min()
            assert project.masks.label[row] == (-1 if best == 10**6 else best)


@pytest.mark.parametrize("method", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("gain", "a2lc")), "alc"])
def test_rounds_go_on_after_each_edit(scored, project, method):
    run(scored, project, 1, method)
    with project.lock():
        project.edit_classes(merged(project.view, ["car"], "road"))
        project.edit_classes(added(project.view, "unicorn"))
        project.edit_classes(added(project.view, "dragon"))
        project.edit_classes(renamed(project.view, "tree", "plant"))
    answered = len(project.ledger.answers())
    run(scored, project, 2, method)
    assert len(project.ledger.answers()) > answered
    new = project.classes.index("unicorn")
    assert all(query.proposed != new for query in project.ledger.queries(2)), "no model knows it"
    for image in project.images[:3]:
        assert project.corrected_labels(image).max() <= 255
    with Project(project.folder) as again:
        assert again.classes == project.classes
        assert again.truth.confusion(again.state()).miou == project.truth.confusion(project.state()).miou


def test_split_asks_again(scored, project):
    run(scored, project, 1)
    asked = set(project.ledger.asked_masks(answered=True, closed=True).tolist())
    said = {}
    queries = {query.query_id: query for query in project.ledger.queries(1)}
    for answer, _ in project.ledger.answers():
        query = queries[answer.query_id]
        kind = query.proposed if answer.kind == AnswerKind.CONFIRM else answer.classes[0] if answer.classes else None
        said[(query.image << 32) | query.mask_ids[0]] = kind
    common = max(set(said.values()) - {None}, key=list(said.values()).count)
    name = project.classes.names[common]
    with project.lock():
        project.edit_classes(split(project.view, name, [name, f"{name} two"]))
    reopened = asked - set(project.ledger.asked_masks(answered=True, closed=True).tolist())
    assert set(project.ledger.asked_masks(answered=True).tolist()) == asked, "an answer goes on protecting its mask"
    assert reopened == {key for key, kind in said.items() if kind == common}
    kept = {image.image_id: project.corrected_labels(image) for image in project.images}
    with project.lock():
        project.edit_classes(taken_back(project.ledger.class_edits()))
    assert set(project.ledger.asked_masks(answered=True, closed=True).tolist()) == asked
    assert all((project.corrected_labels(image) == kept[image.image_id]).all() for image in project.images)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gain", "a2lc", "alc"])
def test_rounds_after_a_split(scored, project, method):
    """Whichever class is split, the next rounds run, and masks of it are asked about again."""
    run(scored, project, 1, method)
    again = 0
    for number, name in enumerate(("road", "sky", "car", "building"), start=2):
        with project.lock():
            project.edit_classes(split(project.view, name, [name, f"{name} two"]))
        before = {(query.image, mask) for query in project.ledger.queries() for mask in query.mask_ids}
        run(scored, project, number, method)
        again += sum((query.image, query.mask_ids[0]) in before for query in project.ledger.queries(number))
    assert again or method != "gain", "nothing was asked again"


@pytest.mark.slow
def test_figures_of_audits_keep_to_their_classes(scored, project, capsys):
    """After an edit, each class has the figures it had, and those that are others now have none."""
    run(scored, project, 1, "gain")
    before = label_quality(project)
    names = project.classes.names
    with project.lock():
        project.edit_classes(merged(project.view, ["building"], "sky"))
        project.edit_classes(added(project.view, "alien"))
        project.edit_classes(split(project.view, "road", ["road", "lane"]))
        project.edit_classes(renamed(project.view, "car", "auto"))
    after = label_quality(project)
    assert after["edited"] and not before["edited"] and after["true"] is None
    assert after["after"]["miou"] == before["after"]["miou"]
    for name, iou in zip(project.classes.names, after["after"]["iou"], strict=True):
        old = {"auto": "car"}.get(name, name)
        expected = None if name in {"sky", "alien", "road", "lane"} else before["after"]["iou"][names.index(old)]
        assert iou == expected, name
    write_report(project, project.folder / "report.html")
    text = (project.folder / "report.html").read_text(encoding="utf-8")
    assert "Classes were edited: merge building into sky, after round 1" in text
    assert _main(["status", str(project.folder)]) == 0
    assert "use the classes of that round" in capsys.readouterr().out
    assert _main(["status", str(project.folder), "--json"]) == 0
    json.loads(capsys.readouterr().out)
    run(scored, project, 2, "gain")
    assert not label_quality(project)["edited"]


def test_a_split_reopens_what_was_merged_into_the_class(scored, project):
    run(scored, project, 1)
    queries = {query.query_id: query for query in project.ledger.queries(1)}
    names = project.classes.names
    said = [
        answer.classes[0] if answer.classes else queries[answer.query_id].proposed
        for answer, _ in project.ledger.answers()
    ]
    first, second = sorted(set(said) - {None}, key=said.count)[-2:]
    with project.lock():
        project.edit_classes(merged(project.view, [names[first]], names[second]))
        project.edit_classes(split(project.view, names[second], [names[second], "other part"]))
    explicit = {answer.query_id for answer, _ in project.ledger.answers() if answer.classes}
    both = {project.view.places[first], project.view.places[second]}
    assert len(both) == 1
    expected = {
        answer.query_id for answer, _ in project.ledger.answers() if answer.classes and answer.classes[0] in both
    }
    assert project.ledger.reopened() & explicit == expected


def test_probability_files_of_as_many_other_classes(scored, project, tmp_path):
    """As many classes as before and others: files from before the edit are refused, new ones are taken."""
    run(scored, project, 1)
    with project.lock():
        project.edit_classes(merged(project.view, ["car"], "road"))
        project.edit_classes(added(project.view, "unicorn"))
    with pytest.raises(
        InputError, match=r"\.npy is older than the last edit of the classes.*Save the probabilities again"
    ):
        run(scored, project, 2)
    new = tmp_path / "new"
    shutil.copytree(scored.root / "probs", new, copy_function=shutil.copyfile)
    project.config = project.config.model_copy(
        update={"training": project.config.training.model_copy(update={"probabilities": str(new)})}
    )
    Loop(project, RoundPlan.of(project.config)).run(2)


@pytest.mark.slow
def test_trained_models_go_on(scenes_dir, tmp_path):
    """A model of other classes scores what it knows, and the next one starts anew."""
    pytest.importorskip("torch", reason="training needs the extra [train]")
    place = str(tmp_path / "p.a2lc")
    made = ["init", place, "--preset", "tiny", "--classes", str(scenes_dir / "classes.json")]
    for option in ("images", "labels", "masks", "ground_truth"):
        made += [f"--{option.replace('_', '-')}", str(scenes_dir / option)]
    assert _main(made) == 0
    short = ["--method", "alc", "--budget", "5"]
    for setting in ("iterations=2", "warm_iterations=2", "batch_size=2", "resize=32", "validate_every=2"):
        short += ["--set", f"training.{setting}"]
    assert _main(["run", place, "--rounds", "1", *short]) == 0
    assert _main(["classes", "merge", place, "car", "--into", "road"]) == 0
    assert _main(["classes", "add", place, "unicorn"]) == 0
    with Project(place) as project:
        old = project.history.before(1).table.num_classes
        assert project.class_change_since(1).shape == (project.classes.num_classes, old)
    assert _main(["run", place, "--rounds", "2"]) == 0
    with Project(place) as project:
        assert project.class_change_since(2) is None
        details = [stage.details for stage in project.ledger.stages() if (stage.round, stage.stage) == (2, "evaluate")]
        assert len(details[0]["model_iou"]) == project.classes.num_classes


# ---- the commands ----------------------------------------------------------------------------------------------------


def test_commands(scored, project, capsys):
    run(scored, project, 1)
    place = str(project.folder)
    assert _main(["classes", "rename", place, "tree", "plant", "--color", "1,2,3"]) == 0
    assert _main(["classes", "merge", place, "car", "--into", "road"]) == 0
    assert _main(["classes", "split", place, "sky", "--into", "sky,cloud"]) == 0
    assert _main(["classes", "add", place, "unicorn", "--id", "77"]) == 0
    assert "no mask is labeled cloud, unicorn" in capsys.readouterr().out
    assert _main(["classes", "show", place, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [edit["kind"] for edit in found["edits"]] == ["rename", "merge", "split", "add"]
    assert {"id": 77, "name": "unicorn"}.items() <= found["classes"][-1].items()
    assert _main(["classes", "undo", place]) == 0
    assert "unicorn" not in capsys.readouterr().out
    assert _main(["classes", "show", place]) == 0
    out = capsys.readouterr().out
    assert "plant" in out and "merge car into road, after round 1" in out and "undo unicorn, after" in out
    with Project(place) as again:
        assert again.classes.colours[again.classes.index("plant")] == (1, 2, 3)
    for arguments, said in (
        (["rename", place, "plnt", "x"], "Did you mean 'plant'"),
        (["add", place, "x", "--color", "1,2"], "expected three numbers in 0..255"),
        (["merge", place, "road", "--into", "road"], "no class to merge"),
    ):
        assert _main(["classes", *arguments]) == 2
        captured = capsys.readouterr().err
        assert said in captured and captured.count("\n") == 1


def test_an_open_round_is_about_the_same_classes(scored, project, capsys):
    plan = scored.plan(project, 20, method="alc")
    loop = Loop(project, plan)
    for stage in ("train", "evaluate", "score"):
        loop.run_stage(stage)
    assert _main(["classes", "rename", str(project.folder), "car", "x"]) == 2
    assert "Round 1 is open at stage 'select'. Finish it first" in capsys.readouterr().err


def test_nothing_left_to_ask_opens_no_round(scored, project):
    """Else the round could not end, and no class be split."""
    asked = np.arange(len(project.masks))
    project.ledger.open_round(0, method="alc", config={}, model="m", seed=0, versions={})
    for stage in ("train", "evaluate"):
        project.ledger.finish_stage(0, stage, 0.0, {})
    rows = [(int(project.masks.image[row]), int(project.masks.mask_ids[row])) for row in asked]
    project.ledger.add_queries(0, [Query(round=0, image=i, mask_ids=(m,), proposed=0, score=1.0) for i, m in rows])
    plan = scored.plan(project, 5, method="alc")
    with pytest.raises(PoolExhaustedError, match="masks have been asked about, so round 1 has nothing to ask"):
        Loop(project, plan).run_stage("score")
    assert [record.round for record in project.ledger.rounds()] == [0]


def test_a_class_in_use_cannot_be_taken_back(scored, project, capsys):
    assert _main(["classes", "add", str(project.folder), "unicorn"]) == 0
    project.reload_classes()
    run(scored, project, 1)
    mask = project.masks
    project.ledger.add_corrections(
        1,
        Source.IMPORT,
        mask.image[:1],
        mask.mask_ids[:1],
        mask.label[:1],
        np.array([project.classes.index("unicorn")]),
    )
    assert _main(["classes", "undo", str(project.folder)]) == 2
    assert "cannot be undone. Merge the class instead" in capsys.readouterr().err
    assert _main(["classes", "merge", str(project.folder), "unicorn", "--into", "road"]) == 0


def test_export_writes_merged_classes_as_one(scored, project, tmp_path):
    run(scored, project, 1)
    values = dict(zip(project.classes.names, project.classes.file_values, strict=True))
    with project.lock():
        project.edit_classes(merged(project.view, ["car"], "road"))
    export_project(project, tmp_path / "out")
    again = ClassTable.from_json(json.loads((tmp_path / "out" / "classes.json").read_text()))
    assert again.names == project.classes.names
    for image in project.images:
        raw = read_ids(tmp_path / "out" / "labels" / f"{image.image_id}.png")
        assert not (raw == values["car"]).any()
        labels, unknown = decode_labels(raw, again, {})
        assert not unknown and (labels == project.corrected_labels(image)).all()
