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
from a2lc.errors import ConfigError, UnknownNameError
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
    assert find_reader("made-up") is find_format("made-up").reader
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
