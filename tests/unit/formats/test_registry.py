"""The registry of formats: what is loaded when, and a format of another package, from its reader to its export."""

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.cli.app import _main
from a2lc.creation.importer import create_project
from a2lc.doctor import find_layout
from a2lc.errors import ConfigError, InputError, UnknownNameError
from a2lc.export import export_project
from a2lc.formats import registry
from a2lc.formats.base import Found, Sample, Sources
from a2lc.formats.registry import (
    BUILT_IN,
    EXPORTS,
    FORMATS,
    Format,
    find_format,
    find_reader,
    find_writer,
    load_formats,
    markdown_table,
    register,
)
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.sources import DrawnMap
from a2lc.project.project import Project

CLASSES = ClassTable.from_names(["road", "car"])


def read_pairs(sources, *, partial=False, classes=None):
    """Read a folder of `NAME.photo.png` and `NAME.label.png`."""
    root = sources.images
    train = [
        Sample(
            image_id=path.name.removesuffix(".photo.png"),
            image=path,
            labels=path.with_name(path.name.replace(".photo.", ".label.")),
        )
        for path in sorted(root.glob("*.photo.png"))
    ]
    return Found(train=train, validation=[], root=root, classes=CLASSES)


class PairsWriter:
    def __init__(self, project, folder):
        self.folder = folder

    def add(self, corrected):
        write_ids(self.folder / f"{corrected.image_id}.label.png", corrected.values)

    def finish(self):
        return None


PAIRS = Format(
    name="pairs",
    title="Pairs of files",
    reads=("the folder of `*.photo.png`", "(beside the images)"),
    reader=read_pairs,
    writes="*.label.png",
    writer=PairsWriter,
    labels=".",
)


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_LOADED", dict(load_formats()))


@pytest.fixture
def pairs(tmp_path):
    labels = {name: np.array([[0, 0, 1, 255]] * 3, np.uint8) * (name == "a") for name in ("a", "b")}
    for name, values in labels.items():
        Image.fromarray(np.full((3, 4, 3), 90, np.uint8)).save(tmp_path / f"{name}.photo.png")
        Image.fromarray(values).save(tmp_path / f"{name}.label.png")
    return labels


def help_of(command, capsys):
    """What `a2lc COMMAND --help` prints, without white space: lines break within names."""
    assert _main([command, "--help"]) == 0
    return "".join(capsys.readouterr().out.split())


def test_a_format_of_another_package_is_read_and_written(tmp_path, pairs, capsys):
    register(PAIRS)
    create_project(tmp_path / "p.a2lc", Sources(format="pairs", images=tmp_path))
    with Project(tmp_path / "p.a2lc") as project:
        assert project.classes.names == CLASSES.names
        export_project(project, tmp_path / "out", "pairs")
    for name, values in pairs.items():
        np.testing.assert_array_equal(read_ids(tmp_path / "out" / f"{name}.label.png"), values)
    assert "pairs" in FORMATS and "pairs" in EXPORTS
    for command in ("init", "export"):
        help_text = help_of(command, capsys)
        assert "pairs" in help_text and "FORMATS_" not in help_text


def test_help_names_the_formats_of_each_way(capsys):
    texts = {command: help_of(command, capsys) for command in ("init", "export")}
    assert "labelme" in texts["init"] and "labelme" not in texts["export"]
    for name in EXPORTS:
        assert name in texts["init"] and name in texts["export"]


@pytest.mark.parametrize("kind", ["a format", "a module that registers it"])
def test_entry_points_are_loaded_by_name(tmp_path, monkeypatch, kind):
    module = tmp_path / f"made_up_{kind.split()[1]}.py"
    body = "from a2lc.formats.registry import Format, register\nfrom pathlib import Path\n\n\ndef read(sources, **_): ...\n"
    made = 'Format(name="made-up", title="Made up", reader=read)'
    module.write_text(body + (f"FORMAT = {made}\n" if kind == "a format" else f"register({made})\n"))
    monkeypatch.syspath_prepend(tmp_path)
    value = module.stem + (":FORMAT" if kind == "a format" else "")
    points = [EntryPoint("made-up", value, "a2lc.formats"), EntryPoint("broken", "no_such_module", "a2lc.formats")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert find_format("made-up").title == "Made up"
    with pytest.raises(InputError, match="format 'made-up': its reader returned NoneType"):
        find_reader("made-up")(Sources(images=tmp_path))
    assert "made-up" not in EXPORTS
    with pytest.warns(UserWarning, match="'broken'"), pytest.raises(UnknownNameError, match="made-up"):
        find_writer("made-up")
    with pytest.raises(ConfigError, match="'broken': no_such_module cannot be imported"):
        find_format("broken")


def test_an_entry_point_registers_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "empty_format.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("empty", "empty_format", "a2lc.formats")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(ConfigError, match="does not register a format of that name"):
        find_format("empty")


@pytest.mark.parametrize("changed", [{"name": ""}, {"reader": None, "writer": None}])
def test_a_format_without_name_or_use_is_refused(changed):
    with pytest.raises(ConfigError, match="needs a name, and a reader or a writer"):
        register(replace(PAIRS, **changed))


def test_unknown_formats_name_the_known_ones():
    with pytest.raises(UnknownNameError, match="folder"):
        find_reader("foldr")
    with pytest.raises(UnknownNameError, match="export format"):
        find_writer("labelme")
    with pytest.raises(UnknownNameError):
        find_format("nothing")


def test_every_format_is_registered_under_its_own_name_by_its_own_module():
    assert {name: format.name for name, format in load_formats().items() if name in BUILT_IN} == {
        name: name for name in BUILT_IN
    }
    for name, module in BUILT_IN.items():
        assert find_reader(name).__module__.startswith(module), name
        assert not Path(module.replace(".", "/") + "_writer.py").exists()


def test_only_the_format_that_is_asked_for_is_loaded():
    code = (
        "import sys\n"
        "import a2lc.creation.importer, a2lc.export\n"
        "from a2lc.formats.registry import find_reader, BUILT_IN\n"
        "loaded = lambda: {name for name, module in BUILT_IN.items() if module in sys.modules}\n"
        "assert loaded() == set(), loaded()\n"
        "find_reader('ade20k')\n"
        "assert loaded() == {'ade20k', 'folder'}, loaded()  # which it shares a helper with\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_of_a_format_that_is_only_read():
    table = markdown_table({"pairs": replace(PAIRS, writer=None)})
    assert (
        table.splitlines()[2] == "| `pairs` | Pairs of files | the folder of `*.photo.png` | (beside the images) | – |"
    )


BROKEN = {
    "its reader failed: KeyError: 'x'": lambda sources, **_: {}["x"],
    "its reader returned list; expected a Found": lambda sources, **_: [],
    "its reader failed: TypeError": lambda sources: None,
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_reader_of_another_package_that_fails_is_one_line(tmp_path, pairs, message):
    register(replace(PAIRS, reader=BROKEN[message]))
    with pytest.raises(InputError, match=f"format 'pairs': {message}"):
        create_project(tmp_path / "p.a2lc", Sources(format="pairs", images=tmp_path))


def test_a_reader_that_overlooks_validation_images_is_noticed(tmp_path, pairs):
    register(PAIRS)
    sources = Sources(format="pairs", images=tmp_path, validation_images=tmp_path)
    with pytest.raises(InputError, match="found no validation images"):
        create_project(tmp_path / "p.a2lc", sources)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (lambda: np.zeros((3, 4)), r"drew float64 \(3, 4\); expected \(H, W\) whole numbers"),
        (lambda: np.zeros((3, 4, 1), np.uint8), "expected"),
        (lambda: np.full((3, 4), 70_000), "expected"),
        (lambda: np.full((3, 4), -1), "expected"),
        (lambda: [1, 2][5], "it cannot be drawn: IndexError: list index out of range"),
    ],
)
def test_what_a_reader_draws_is_checked(drawn, message):
    with pytest.raises(InputError, match=f"some.json: .*{message}"):
        DrawnMap(where="some.json", draw=drawn).values()
    np.testing.assert_array_equal(
        DrawnMap(where="some.json", draw=lambda: np.full((2, 3), 300)).values(), np.full((2, 3), 300)
    )


def test_a_format_that_fails_to_look_at_a_folder_is_passed_over(tmp_path, pairs):
    register(replace(PAIRS, detect=lambda folder: {}["x"], detect_file=lambda folder, file: {}["y"]))
    (tmp_path / "notes.json").write_text("{}")
    with pytest.warns(UserWarning, match="format 'pairs' could not look at the folder: KeyError"):
        assert find_layout(tmp_path).sources.format == "folder"


# ---- formats named by their place --------------------------------------------------------------------------------


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_formats.py").write_text(
        "from a2lc.formats.registry import Format\n"
        "def read(sources, *, partial=False, classes=None): ...\n"
        "READ = Format(name='own', title='own', reader=read)\n"
        "WRITTEN = Format(name='own', title='own', writer=lambda project, folder: None)\n"
        "class Holder:\n    INNER = READ\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "own_formats"
    sys.modules.pop("own_formats", None)


def test_a_format_is_found_by_its_place_and_listed_nowhere(own_module):
    assert find_format("own_formats:READ").name == "own"
    assert find_format("own_formats:Holder.INNER") is find_format("own_formats:READ")
    assert "own_formats:READ" in FORMATS and "own_formats:READ" not in EXPORTS
    assert not {"own", "own_formats:READ"} & {*load_formats(), *FORMATS, *EXPORTS}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_formats:NONE", "own_formats:NONE cannot be imported: module 'own_formats' has no attribute 'NONE'."),
        ("no_such_module:READ", "no_such_module:READ cannot be imported: No module named 'no_such_module'."),
        (":READ", ":READ cannot be imported: Empty module name."),
        ("own_formats:", "own_formats: cannot be imported: module 'own_formats' has no attribute ''."),
        (".relative:READ", ".relative:READ cannot be imported: the 'package' argument is required"),
        ("own_formats:read", "own_formats:read is of type function; expected an a2lc.formats.registry.Format."),
        ("own_formats:Holder", "own_formats:Holder is a class; expected an a2lc.formats.registry.Format."),
        ("own_formats:WRITTEN", "has no `reader`, so it can only be written."),
    ],
)
def test_places_that_hold_no_format_are_told_in_one_line(own_module, tmp_path, capsys, name, message):
    (tmp_path / "images").mkdir()
    given = ["--images", str(tmp_path / "images"), "--classes", "road,car", "--format", name]
    assert _main(["init", str(tmp_path / "new.a2lc"), *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"a2lc: format {name!r}") and message in line
    assert not (tmp_path / "new.a2lc").exists()


def test_a_format_that_is_only_read_is_not_written(own_module):
    with pytest.raises(ConfigError, match="'own_formats:READ' has no `writer`, so it can only be read"):
        find_writer("own_formats:READ")


def test_an_unknown_name_says_how_own_formats_are_named():
    with pytest.raises(
        UnknownNameError, match=r"Did you mean 'coco'.* A format of your own is named package\.module:NAME"
    ):
        find_reader("cocoo")
