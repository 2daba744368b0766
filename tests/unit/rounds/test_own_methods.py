"""What the author of a method is told when it is not what a method must be; nothing is ranked by what was not read."""

import textwrap

import pytest

from a2lc.cli.app import _main
from a2lc.errors import ConfigError, UnknownNameError
from a2lc.methods import METHODS, find_method, load_methods
from a2lc.methods import base as methods
from a2lc.rounds.loop import Loop

HEAD = """
from dataclasses import dataclass
import numpy as np
from a2lc.methods import Method


@dataclass(frozen=True, kw_only=True)
class Own(Method):
    '''Ask about something of its own.'''

    columns_of = staticmethod(lambda: {columns})

    def columns(self):
        return frozenset(self.columns_of())

    def score(self, view):
        return {score}


@dataclass(frozen=True, kw_only=True)
class Child(Own):
    '''A child with its own words.'''


class Undecorated(Own):
    bonus: float = 1.0


@dataclass
class Thawed:
    pass


@dataclass(frozen=True, kw_only=True)
class Bare(Method):
    '''Neither columns nor score.'''
"""


@pytest.fixture
def own(tmp_path, monkeypatch, request):
    """Writes a module with a method; returns the name of a class in it."""
    known = dict(METHODS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(columns='{"area"}', score="view.stats.area.astype(float)", name="Own"):
        module = f"own_{abs(hash((request.node.name, columns, score)))}"
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(HEAD).format(columns=columns, score=score))
        return f"{module}:{name}"

    yield make
    METHODS.clear()
    METHODS.update(known)


def run(scored, request, method):
    name = f"own-{abs(hash(request.node.name))}"
    with scored.project(f"{name}.a2lc") as project:
        Loop(project, scored.plan(project, 5, method=method)).run(1)
        return [(query.image, query.mask_ids[0]) for query in project.ledger.queries()], project.masks


def test_positions_need_not_be_declared(scored, own, request):
    asked, masks = run(scored, request, own())
    largest = masks.area.max()
    assert len(asked) == 5
    rows = [int(((masks.image == image) & (masks.mask_ids == mask)).argmax()) for image, mask in asked]
    assert masks.area[rows[0]] == largest


@pytest.mark.parametrize(
    ("columns", "score", "message"),
    [
        ('{"area"}', "view.stats.prob_sums[:, 0]", "reads the column 'prob_sums', which `columns` does not name"),
        ('{"area"}', "view.stats.mean_probs[:, 0]", "reads the column 'prob_sums'"),
        ('{"area", "probs"}', "view.stats.area", "column of method .*'probs'. Did you mean 'prob_sums'"),
        ('{"prob_sums"}', "view.stats.prob_sums", r"`score` returned float32 \(\d+, \d+\); expected floats \(\d+,\)"),
        ('{"area"}', "view.stats.area[:, None]", "`score` returned .*expected floats"),
        ('{"area"}', "np.full(len(view.stats), np.nan)", "values that are no number"),
    ],
)
def test_wrong_scores_are_named_with_their_method(scored, own, request, columns, score, message):
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        run(scored, request, own(columns, score))


def test_rows_may_be_taken_whatever_was_read(scored, own, request):
    asked, _ = run(scored, request, own(score="view.stats.take(np.ones(len(view.stats), bool)).area.astype(float)"))
    assert len(asked) == 5


def test_a_method_without_scores_says_what_is_missing(scored, own, request):
    with pytest.raises(ConfigError, match="names no acquisition function: define both `columns` and `score`"):
        run(scored, request, own(name="Bare"))


def test_a_child_is_described_by_its_own_words(own):
    parent, child = find_method(own()), find_method(own(name="Child"))
    assert (parent.summary, child.summary) == ("Ask about something of its own.", "A child with its own words.")


@pytest.mark.parametrize("name", ["Undecorated", "Thawed"])
def test_classes_that_would_lose_their_settings_are_refused(own, name):
    with pytest.raises(ConfigError, match=r"decorate .*@dataclass\(frozen=True|no class that derives"):
        find_method(own(name=name))


def test_a_broken_package_does_not_hide_the_others(monkeypatch, capsys):
    class Entry:
        name, value = "broken", "no_such_module:X"

    monkeypatch.setattr(methods, "entry_points", lambda group: [Entry])
    with pytest.warns(UserWarning, match="'broken': no_such_module:X cannot be imported"):
        assert set(load_methods()) == set(METHODS)
    with pytest.raises(ConfigError, match="cannot be imported"):
        find_method("broken")
    with pytest.warns(UserWarning), pytest.raises(UnknownNameError, match=r"package\.module:Class"):
        find_method("mymethod.MyMethod")
    with pytest.warns(UserWarning):
        assert _main(["methods"]) == 0
    assert "gain" in capsys.readouterr().out
