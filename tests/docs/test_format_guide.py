"""The guide for adding a format works as it says: its code is run, and its format makes a round trip."""

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

import a2lc
from a2lc.cli.app import _main
from a2lc.errors import InputError
from a2lc.formats import registry
from a2lc.images.label_maps import read_ids, write_ids
from a2lc.images.rgb import write_rgb

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "add-a-format.md"
NAMES = ("one", "two", "three")


def blocks_of(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the module of the guide and a data set in its format."""
    module = blocks_of("python")[0]
    assert module.startswith("# suffixed.py\n")
    (tmp_path / "suffixed.py").write_text(module)
    rng = np.random.default_rng(0)
    for name in NAMES:
        write_rgb(tmp_path / "streets" / f"{name}.png", rng.integers(0, 256, (12, 18, 3), dtype=np.uint8))
        blocks = np.kron(rng.integers(0, 3, (3, 6)), np.ones((4, 3)))
        write_ids(tmp_path / "streets" / f"{name}_mask.png", blocks.astype(np.uint8))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("suffixed", None)
    registry._LOADED.pop("suffixed", None)


def test_the_code_of_the_guide_runs_and_its_format_makes_a_round_trip(folder):
    _, use, test = blocks_of("python")
    namespace = {}
    exec(use, namespace)
    for name in NAMES:
        old = read_ids(folder / "streets" / f"{name}_mask.png")
        np.testing.assert_array_equal(read_ids(folder / "corrected" / "masks" / f"{name}_mask.png"), old)
    with a2lc.Project("my.a2lc") as project:
        assert sorted(image.image_id for image in project.images) == sorted(NAMES)
        assert len(project.masks) > len(NAMES)
    exec(test, namespace)
    (folder / "test").mkdir()
    namespace["test_suffixed"](folder / "test")


def test_missing_label_maps_are_named(folder):
    exec(blocks_of("python")[1].split("project =")[0], {})
    (folder / "streets" / "two_mask.png").unlink()
    arguments = {"images": "streets", "format": "suffixed", "classes": ["road", "car", "tree"]}
    with pytest.raises(InputError, match=r"two \(expected .*two_mask\.png\)"):
        a2lc.create_project("missing.a2lc", **arguments)
    with a2lc.create_project("part.a2lc", **arguments, partial=True) as project:
        assert len(project.images) == len(NAMES)


def test_the_entry_point_makes_it_known_to_the_command_line(folder, monkeypatch, capsys):
    (announced,) = blocks_of("toml")
    group, name, value = re.search(r'entry-points\."(.+?)"\]\n(\S+) = "(.+?)"', announced).groups()
    entry = EntryPoint(name=name, value=value, group=group)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [entry] if group == entry.group else [])
    classes = ["--classes", "road,car,tree"]
    assert _main(["init", "cli.a2lc", "--images", "streets", "--format", "suffixed", *classes]) == 0
    assert _main(["export", "cli.a2lc", "--out", "out", "--format", "suffixed"]) == 0
    assert len(list((folder / "out" / "masks").iterdir())) == len(NAMES)
    capsys.readouterr()
    assert _main(["doctor", "streets", "--classes", "road,car,tree"]) == 0
    assert "layout suffixed (its files have names such as IMAGE_mask)" in capsys.readouterr().out
    assert _main(["init", "--help"]) == 0
    assert "suffixed" in capsys.readouterr().out


def test_the_format_is_named_by_its_module(folder, capsys):
    for command in blocks_of("sh")[0].splitlines():
        assert _main(command.split()[1:]) == 0
    for name in NAMES:
        old = read_ids(folder / "streets" / f"{name}_mask.png")
        np.testing.assert_array_equal(read_ids(folder / "named" / "masks" / f"{name}_mask.png"), old)
    with a2lc.Project("named.a2lc") as project:
        assert project.config.sources.format == "suffixed:SUFFIXED"
    capsys.readouterr()
    assert _main(["doctor", "streets", "--format", "suffixed:SUFFIXED", "--classes", "road,car,tree"]) == 0
    assert "layout suffixed:SUFFIXED" in capsys.readouterr().out
