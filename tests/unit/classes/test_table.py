from __future__ import annotations

import json

import numpy as np
import pytest

from a2lc.classes.table import ClassTable, class_colour, read_classes
from a2lc.errors import ConfigError, MissingFileError, UnknownNameError

GOOD = {
    "classes": [
        {"id": 7, "name": "road", "color": [128, 64, 128]},
        {"id": 24, "name": "person", "color": [220, 20, 60]},
    ],
    "ignore": 255,
}


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_json(tmp_path):
    table = read_classes(write(tmp_path, "c.json", GOOD))
    assert table.names == ("road", "person")
    assert table.file_values == (7, 24)
    assert table.colours == ((128, 64, 128), (220, 20, 60))
    assert (table.num_classes, table.ignore, table.ignore_index) == (2, 255, 255)
    assert table.to_json() == GOOD
    assert ClassTable.from_json(table.to_json()) == table


def test_yaml(tmp_path):
    text = "classes:\n- {id: 7, name: road, color: [128, 64, 128]}\n- {id: 24, name: person, color: [220, 20, 60]}\n"
    for name in ("c.yaml", "c.yml", "C.YAML"):
        assert read_classes(write(tmp_path, name, text)).to_json() == GOOD


def test_text_with_a_name_a_line(tmp_path):
    table = read_classes(write(tmp_path, "names.txt", "# my classes\nroad\n\n  traffic light \r\ntree\n"))
    assert table.names == ("road", "traffic light", "tree")
    assert table.file_values == (0, 1, 2)
    assert table.ignore == 255
    assert len(set(table.colours)) == 3


@pytest.mark.parametrize("name", ["c.txt", "c.json", "c.yaml"])
def test_byte_order_mark_is_no_part_of_a_name(tmp_path, name):
    """Editors on Windows write one."""
    text = "road\ntree\n" if name == "c.txt" else json.dumps({"classes": ["road", "tree"]})
    assert read_classes(write(tmp_path, name, "\ufeff" + text)).names == ("road", "tree")


def test_names_alone_in_json(tmp_path):
    assert read_classes(write(tmp_path, "c.json", {"classes": ["road", "tree"]})) == ClassTable.from_names(
        ["road", "tree"]
    )


def classes_of(*rows, **more):
    return {"classes": list(rows), **more}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, r'expected \{"classes": .*found no classes'),
        ({"classes": []}, "found no classes"),
        ({"classes": "road"}, "found no classes"),
        ({"classes": {"road": 0}}, "found no classes"),
        ({"classes": ["a"], "ingore": 255}, "unknown key 'ingore'. Known: classes, ignore"),
        ({"classes": ["a"], 3: 1, "b": 2}, "unknown key"),
        (classes_of({"id": 0}), "class number 0 has no name"),
        (classes_of("a", {"name": "  "}), "class number 1 has no name"),
        (classes_of("a", 7), "class number 1 has no name"),
        (
            classes_of({"name": "a", "colour": [1, 2, 3]}),
            "class 'a' has an unknown key 'colour'. Known: id, name, color",
        ),
        (classes_of({"name": "a", "id": "0"}), r"class 'a' has id '0'; expected 0..65535"),
        (classes_of({"name": "a", "id": -1}), "class 'a' has id -1"),
        (classes_of({"name": "a", "id": 65536}), "class 'a' has id 65536"),
        (classes_of({"name": "a", "id": True}), "class 'a' has id True"),
        (classes_of({"name": "a", "id": 1.5}), "class 'a' has id 1.5"),
        (classes_of({"name": "a", "color": [1, 2]}), r"class 'a' has color \[1, 2\]; expected three numbers in 0..255"),
        (classes_of({"name": "a", "color": [1, 2, 256]}), "class 'a' has color"),
        (classes_of({"name": "a", "color": [1, 2, 0.5]}), "class 'a' has color"),
        (classes_of({"name": "a", "color": "red"}), "class 'a' has color 'red'"),
        (classes_of({"name": "a", "id": 1}, {"name": "b", "id": 1}), "two classes have the id 1"),
        (classes_of("a", "b", "a"), "two classes have the name 'a'"),
        (classes_of("a", {"name": "b", "id": 0}), "two classes have the id 0"),
        (classes_of("a", ignore=0), "ignore is 0; expected a value in 0..65535 that is not a class id"),
        (classes_of("a", ignore=-1), "ignore is -1"),
        (classes_of("a", ignore="255"), "ignore is '255'"),
        (classes_of("a", ignore=None), "ignore is None"),
    ],
)
def test_bad_tables(data, message):
    with pytest.raises(ConfigError, match=rf"^cl\.json: .*{message}"):
        ClassTable.from_json(data, "cl.json")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", "{", "not valid JSON: "),
        ("c.yaml", "a: [", "not valid YAML: "),
        ("c.json", "[1]", "expected .*found list"),
        ("c.yaml", "", "expected .*found NoneType"),
        ("c.txt", "", "found no classes"),
        ("c.txt", "# only this\n", "found no classes"),
        ("c.txt", "road\nroad\n", "two classes have the name 'road'"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_classes(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_not_text(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="not a text file; expected JSON, YAML, or one class name per line"):
        read_classes(path)


def test_missing(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(MissingFileError, match=r"No classes file at .*Set `classes` to a JSON, YAML or text file"):
            read_classes(path)


def test_more_classes_than_8_bits_hold():
    table = ClassTable.from_json({"classes": [f"c{i}" for i in range(300)]})
    assert (table.ignore, table.ignore_index, table.dtype) == (65535, 65535, np.uint16)
    assert len(table.palette()) == 768
    assert ClassTable.from_json({"classes": [f"c{i}" for i in range(255)]}).dtype == np.uint8


def test_ids_above_8_bits_move_the_default_ignore():
    assert ClassTable.from_json(classes_of({"name": "a", "id": 255})).ignore == 65535
    assert ClassTable.from_json(classes_of({"name": "a", "id": 254})).ignore == 255


def test_lookups():
    table = ClassTable.from_json(GOOD)
    assert table.index("person") == 1
    assert table.name_of(0) == "road"
    assert table.name_of(255) == table.name_of(-1) == table.name_of(None) == "unlabeled"
    assert table.name_of(255, void="void") == "void"
    with pytest.raises(UnknownNameError, match=r"Unknown class 'raod'. Did you mean 'road'\? Known: road, person"):
        table.index("raod")


def test_palette_is_by_file_value():
    palette = np.array(ClassTable.from_json(GOOD).palette()).reshape(256, 3)
    assert palette[7].tolist() == [128, 64, 128]
    assert palette[24].tolist() == [220, 20, 60]
    assert palette[255].tolist() == [224, 224, 192]
    assert palette[0].tolist() == [0, 0, 0]


def test_made_up_colours_are_stable_and_distinct():
    colours = [class_colour(i) for i in range(40)]
    assert len(set(colours)) == 40
    assert all(0 <= c <= 255 for colour in colours for c in colour)
    assert class_colour(3) == class_colour(3)


def test_synonyms_and_priorities(tmp_path):
    rows = [{"name": "car", "synonyms": ["van", " taxi "], "priority": 2}, {"name": "road"}]
    table = read_classes(write(tmp_path, "c.json", {"classes": rows}))
    assert table.prompts(0) == ("car", "van", "taxi") and table.prompts(1) == ("road",)
    assert table.priority(0) == 2 and table.priority(1) == 0
    assert ClassTable.from_json(table.to_json()) == table
    plain = ClassTable.from_names(["car", "road"])
    assert plain.prompts(1) == ("road",) and plain.priority(0) == 0 and "synonyms" not in plain.to_json()["classes"][0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"synonyms": "van"}, "list of words"),
        ({"synonyms": [""]}, "list of words"),
        ({"priority": 1.5}, "whole number"),
    ],
)
def test_bad_synonyms_and_priorities(row, said):
    with pytest.raises(ConfigError, match=said):
        ClassTable.from_json({"classes": [{"name": "car", **row}]})


def test_files_of_other_tools(tmp_path):
    table = read_classes(write(tmp_path, "id2label.json", {"1": "car", "0": "road", "10": "tree"}))
    assert table.names == ("road", "car", "tree") and table.file_values == (0, 1, 10)
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncar:0,0,142::\n"
    table = read_classes(write(tmp_path, "labelmap.txt", text))
    assert table.names == ("background", "car") and table.colours == ((0, 0, 0), (0, 0, 142))
    assert table.file_values == (0, 1)
    table = read_classes(write(tmp_path, "_classes.csv", "Pixel Value, Class\n0, background\n5, car\n"))
    assert table.names == ("background", "car") and table.file_values == (0, 5)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("c.json", "[" * 100_000, "nested too deeply|expected"),
        ("c.json", "9" * 100_000, "not valid JSON"),
        ("c.csv", "Pixel Value, Class\nx, y\n", "expected a value and a name on each line"),
        ("labelmap.txt", "a:300,0,0::\n", "expected three numbers in 0..255"),
        ("c.json", '{"classes": ["a\\nb"]}', "contains characters that cannot be printed"),
        ("c.txt", "x" * (9 << 20), "a classes file may have at most"),
    ],
)
def test_odd_files_are_one_line(tmp_path, name, content, said):
    with pytest.raises(ConfigError, match=said) as caught:
        read_classes(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)
