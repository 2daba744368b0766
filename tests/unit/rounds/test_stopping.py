"""Rules that end a run."""

import pytest

from a2lc.cli.app import _main
from a2lc.errors import InputError, UnknownNameError
from a2lc.rounds.stopping import Until, parse_until


def interval(low, high):
    return {"low": low, "estimate": (low + high) / 2, "high": high}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("accuracy=0.95", Until(figure="accuracy", value=0.95)),
        (" miou >= 0.7 ", Until(figure="miou", value=0.7)),
        ("gain<0.1", Until(figure="gain", value=0.1)),
        ("errors<2e2", Until(figure="errors", value=200)),
    ],
)
def test_rules_are_read(text, rule):
    assert parse_until(text) == rule


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("better", InputError, r"^`until` better: expected a rule such as accuracy=0.95"),
        ("acuracy=0.9", UnknownNameError, r"Did you mean 'accuracy'\?"),
        ("accuracy<0.9", InputError, "^`until` accuracy<0.9: write accuracy=0.9"),
        ("gain=0.1", InputError, "^`until` gain=0.1: write gain<0.1"),
        ("accuracy=95", InputError, "accuracy is a share, so the value can be at most 1"),
        ("gain<1.2.3", InputError, "1.2.3 is not a number"),
    ],
)
def test_bad_rules_are_named(text, error, message):
    with pytest.raises(error, match=message):
        parse_until(text)


def test_the_whole_interval_must_be_there():
    found = {
        "after": {"pixel_accuracy": interval(0.93, 0.97), "miou": interval(0.5, 0.7), "wrong_masks": interval(80, 190)},
        "next": {"gain": interval(0.05, 0.2)},
    }
    assert parse_until("accuracy=0.95").reached(found) == "", "the estimate alone is not enough"
    assert "pixel accuracy at least 0.93" in parse_until("accuracy=0.93").reached(found)
    assert parse_until("miou=0.6").reached(found) == ""
    assert "wrong masks remaining at most 190" in parse_until("errors<200").reached(found)
    assert parse_until("gain<0.2").reached(found) == "", "below, not at"
    assert parse_until("gain<0.21").reached(found)


def test_nothing_audited_reaches_nothing():
    assert parse_until("accuracy=0.1").reached({}) == ""
    assert parse_until("gain<100").reached({"next": {"gain": {"low": 0, "estimate": None, "high": None}}}) == ""


def test_the_command_refuses_a_bad_rule_before_it_does_anything(tiny_project_dir, capsys):
    assert _main(["run", str(tiny_project_dir), "--until", "accuracy<0.9"]) == 2
    assert "write accuracy=0.9" in capsys.readouterr().err
