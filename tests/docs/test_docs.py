"""The documents name what there is, and nothing that there is not."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from a2lc.cli.app import MODULES
from a2lc.methods import METHODS
from a2lc.project.config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
COMMANDS = {name for names in MODULES.values() for name in names}


def text(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_shown_exists(page):
    shown = re.findall(r"(?:^|`|&& |bin/)a2lc ([a-z]+)", text(page), flags=re.MULTILINE)
    assert set(shown) <= COMMANDS, set(shown) - COMMANDS


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", text(page)):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"


def test_every_training_setting_is_documented():
    missing = [name for name in TrainingConfig.model_fields if f"`{name}`" not in text("docs/project.md")]
    assert not missing, missing


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_setting_of_a_method_is_documented(name):
    page = ROOT / "docs" / "methods" / f"{name}.md"
    shown = page.read_text(encoding="utf-8") if page.is_file() else text("docs/methods/baselines.md")
    assert page.is_file() or f"`{name}`" in shown
    own = {field.name for field in fields(METHODS[name])} - ({"acquisition"} if not page.is_file() else set())
    assert not {setting for setting in own if f"`{setting}`" not in shown}


def test_every_benchmark_named_exists():
    for name in re.findall(r"benchmarks/(\w+\.py)", text("docs/results.md")):
        assert (ROOT / "benchmarks" / name).is_file(), name


def test_the_readme_names_all_methods():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| method | ") :].split("\n\n")[0]
    names = [name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z0-9]+)`", row.split("|")[1])]
    assert sorted(names) == sorted(name for name in METHODS if METHODS[name].__module__.startswith("a2lc."))
