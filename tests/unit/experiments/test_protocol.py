"""Protocol files: those of the package are whole, and every fault is one line that names file and key."""

import pytest

from a2lc.errors import ConfigError, MissingFileError, UnknownNameError
from a2lc.experiments.protocol import Protocol, planned_runs, protocol_names, read_protocol
from a2lc.methods import METHODS, create_method

GOOD = """
name = "own"
rounds = 2
budget = 5
seeds = [0, 1]
[data]
kind = "scenes"
images = 4
[masks]
method = "grid"
size = 16
[[methods]]
name = "random"
"""


def read(tmp_path, text):
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return read_protocol(str(path))[0]


@pytest.mark.parametrize("name", protocol_names())
def test_protocols_of_the_package_are_whole(name):
    protocol, _ = read_protocol(name)
    assert protocol.name == name
    runs = planned_runs(protocol)
    assert {METHODS[run.method] for run in runs} == {type(create_method(r.method, r.settings)) for r in runs}
    if name == "camvid_gain" or name.startswith("scenes_"):
        assert {run.method for run in runs} == {"gain", "alc", "a2lc"}
        return
    if name == "camvid_nothing":
        assert {run.method for run in runs} == {"gain", "classbal", "amss", "mulactseg", "plar"}
        assert all(run.start == ("subset" if run.method == "plar" else "nothing") for run in runs)
        return
    wanted = {
        "a2lc",
        "alc",
        "classbal",
        "amss",
        "mulactseg",
        "plar",
        "random",
        "entropy",
        "margin",
        "softmin",
        "cleanlab",
    }
    if name == "camvid_head":  # those that start without labels are in camvid_nothing
        wanted -= {"classbal", "amss", "mulactseg", "plar"}
    # The published set-ups of the published methods; our own beside them where it was measured.
    with_gain = name in {"smoke", "camvid_cpu"} or name.endswith("_head")
    assert wanted | ({"gain"} if with_gain else set()) == {run.method for run in runs}
    assert all(run.optional == (run.method == "cleanlab") for run in runs)


@pytest.mark.parametrize("name", ["camvid_head", "dubai_head", "voc_head", "camvid_nothing"])
def test_all_methods_that_can_use_the_head_do(name):
    for run in planned_runs(read_protocol(name)[0]):
        own = run.method in {"mulactseg", "plar"}
        assert (run.training.model == "head") != own
        # Whatever has a network of its own starts from the one that the head's features come from.
        assert not own or run.training.encoder_weights == "efficientnet-lite0"


def test_published_settings_are_in_the_protocols():
    runs = {(p, r.label): r for p in ("voc", "cityscapes") for r in planned_runs(read_protocol(p)[0])}
    assert runs["cityscapes", "A2LC"].settings["thresholds"] == [0.99, 0.99, 0.999, 0.9999, 0.9999999]
    assert (runs["cityscapes", "A2LC"].budget, runs["voc", "A2LC"].budget) == (10_000, 1_000)
    assert (runs["cityscapes", "AMSS"].masks.count, runs["cityscapes", "ClassBal"].masks.count) == (8192, 2048)
    assert (runs["voc", "MulActSeg"].masks.count, runs["voc", "ClassBal"].masks.count) == (150, 200)
    assert runs["voc", "MulActSeg"].settings["nu"] == 12
    assert (runs["cityscapes", "A2LC"].training.crop, runs["cityscapes", "A2LC"].training.batch_size) == (768, 8)
    assert (runs["voc", "A2LC"].training.crop, runs["voc", "A2LC"].training.learning_rate) == (513, 0.1)
    assert {run.seed for run in runs.values()} == {3} and runs["voc", "A2LC"].rounds == 5


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("rounds = 2", "round = 2", r"own\.toml: unknown key 'round'. Did you mean 'rounds'"),
        ("rounds = 2", "rounds = 0", r"own\.toml: rounds: .*greater than or equal to 1, found 0"),
        ("rounds = 2", "", r"own\.toml: rounds: Field required"),
        ("images = 4", "image = 4", r"own\.toml: unknown key 'data\.image'. Did you mean 'images'.*difficulty"),
        ('kind = "scenes"', 'kind = "scene"', r"own\.toml: data: .*'scenes', 'files'"),
        ("size = 16", "sise = 16", r"unknown key 'masks\.sise'. Did you mean 'size'\? Known: method, count, size"),
        ('method = "grid"', 'method = "gird"', r"masks\.method: Unknown mask method 'gird'. Did you mean 'grid'"),
        ('name = "random"', 'nam = "random"', r"unknown key 'methods\[0\]\.nam'. Did you mean 'name'|Field required"),
        ('name = "random"', 'name = "rndom"', r"own\.toml: methods\[0\]: Unknown method 'rndom'. Did you mean 'random'"),
        ('name = "random"', 'name = "a2lc"\nsettings = { tau = 1 }', r"methods\[0\]: Unknown setting of method 'a2lc': 'tau'"),
        ('name = "random"', 'name = "random"\n[[methods]]\nname = "random"', "'random' is the same as 'random'"),
        ('name = "random"', 'name = "random"\nlabel = "a, b"', r"methods\[0\]\.label: 'a, b' contains a comma"),
        ('name = "random"', 'name = "random"\ntraining = { steps = 1 }', r"methods\[0\]: training: unknown key 'steps'"),
        ('name = "random"', 'name = "plar"', r"starts from a subset: add a \[subset\] table"),
        ('[masks]\nmethod = "grid"\nsize = 16', '[subset]\nimages = 1', None),
        ("[[methods]]", '[annotator]\nkind = "human"\n[[methods]]', r"annotator\.kind: only the simulated annotator"),
        ("seeds = [0, 1]", "seeds = [1, 1]", r"seeds: \[1, 1\] contains a seed twice"),
        ("seeds = [0, 1]", "seeds = [0, -1]", r"seeds\[1\]: .*found -1"),
        ("seeds = [0, 1]", "seeds = [0, 1", r"own\.toml: not valid TOML"),
        ('kind = "scenes"\nimages = 4', 'kind = "files"\nground_truth = "t"', r"data\.classes is missing"),
        ('kind = "scenes"\nimages = 4', 'kind = "files"\nground_truth = "t"\nclasses = "c"', r"but data\.labels is not given"),
    ],
)  # fmt: skip
def test_faults_are_one_line_with_file_and_key(tmp_path, old, new, says):
    assert old in GOOD
    text = GOOD.replace(old, new)
    if says is None:
        text = text.replace('name = "random"', 'name = "classbal"')
        says = r"own\.toml: methods\[0\]: 'classbal' starts from nothing and needs masks: add a \[masks\] table"
    with pytest.raises(ConfigError, match=says) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value) and "own.toml" in str(caught.value)


def test_names_of_files_and_protocols(tmp_path):
    with pytest.raises(UnknownNameError, match=r"Unknown protocol 'smok'. Did you mean 'smoke'"):
        read_protocol("smok")
    with pytest.raises(MissingFileError, match=r"no protocol at .*none\.toml"):
        read_protocol(str(tmp_path / "none.toml"))


def test_what_decides_a_run_and_what_does_not(tmp_path):
    def first(text):
        return planned_runs(read(tmp_path, text))[0]

    plain = first(GOOD)
    for same in (GOOD.replace("rounds = 2", "rounds = 3"), GOOD + 'label = "Chance"'):
        assert first(same).digest == plain.digest
    for other in (
        GOOD.replace("budget = 5", "budget = 6"),
        GOOD.replace("images = 4", "images = 5"),
        GOOD + "training = { iterations = 7 }",
        GOOD + 'masks = { method = "grid", size = 8 }',
        GOOD.replace("[masks]", "[annotator]\nerror_rate = 0.1\n[masks]"),
    ):
        assert first(other).digest != plain.digest
    assert planned_runs(read(tmp_path, GOOD))[1].digest != plain.digest  # another seed


def test_runs_share_a_beginning_only_where_it_is_the_same():
    data = {"name": "x", "rounds": 1, "budget": 5, "seeds": [0], "data": {"kind": "scenes"}}
    data |= {"masks": {"method": "grid"}, "subset": {"images": 1}, "training_nothing": {"iterations": 9}}
    entries = [
        {"name": "random"},
        {"name": "entropy", "budget": 7},
        {"name": "margin", "training": {"iterations": 8}},
        {"name": "softmin", "masks": {"method": "grid"}},
        {"name": "classbal"},
        {"name": "mulactseg"},  # another head, but nothing is trained on no labels
        {"name": "amss", "masks": {"method": "grid", "size": 8}},
        {"name": "plar"},
        {"name": "classbal", "label": "b", "start": "subset"},
        {"name": "plar", "label": "c", "start": "pseudo"},
    ]
    runs = planned_runs(Protocol.model_validate(data | {"methods": entries}))
    begins = [run.beginning for run in runs]
    assert begins[0] == begins[1] and begins[4] == begins[5]
    assert len(set(begins)) == len(begins) - 2
    assert [run.training.iterations for run in runs] == [450, 450, 8, 450, 9, 9, 9, 9, 9, 450]
