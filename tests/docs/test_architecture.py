"""The table of packages in docs/architecture.md is what the code says, in the order of the layer test."""

import ast
import importlib.util
from pathlib import Path

import a2lc

ROOT = Path(a2lc.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
START, END = "<!-- packages: generated, see tests/docs/test_architecture.py -->", "<!-- end of packages -->"


def order():
    path = Path(__file__).parents[1] / "unit" / "test_layers.py"
    spec = importlib.util.spec_from_file_location("layers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ORDER


def first_line(name):
    path = ROOT / name / "__init__.py" if (ROOT / name).is_dir() else ROOT / f"{name}.py"
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).splitlines()[0]


def table():
    rows = [f"| `{name}` | {first_line(name)} |" for name in order() if name != "__main__"]
    return "\n".join([START, "| package | what it does |", "|---|---|", *rows, END])


def test_the_table_is_up_to_date():
    """To renew it: python -m pytest tests/docs/test_architecture.py prints what belongs there."""
    text = PAGE.read_text(encoding="utf-8")
    assert table() in text, f"docs/architecture.md should hold:\n{table()}"


def test_each_first_line_says_what_the_package_does():
    for name in order():
        line = first_line(name)
        assert (20 < len(line) <= 120 and line[0].isupper()) or line.startswith("`"), (name, line)
