"""The guarantee in words: never more than was proved, and never "at least 0" for what was."""

import pytest

from a2lc.audits.wording import guarantee_line, guarantee_sentences, rounded_down

PROMISE = {
    "kind": "gain",
    "proposed": 9,
    "accepted": 5,
    "confidence": 0.95,
    "audits": 80,
    "estimate": 0.02,
    "reason": "",
}


@pytest.mark.parametrize(
    ("lower", "said"),
    [(0.0129, "at least 0.012"), (0.00047, "at least 0.0004"), (0.0, "not yet shown"), (-0.004, "not yet shown")],
)
def test_a_gain_is_rounded_down_and_shown_only_where_it_is_proved(lower, said):
    promise = PROMISE | {"lower": lower}
    assert said in guarantee_line({"automatic": 5, "withdrawn": 0, "promise": promise})
    assert said in guarantee_sentences(promise)


@pytest.mark.parametrize("value", [0.3, 0.05, 0.0099999, 0.001, 0.00099, 1e-7])
def test_rounded_down_is_never_more_and_never_zero(value):
    assert 0 < float(rounded_down(value, 2)) <= value


def test_a_precision_names_what_is_asked_for():
    promise = PROMISE | {"kind": "precision", "lower": 0.8777, "asked": 0.8, "kept": 2}
    line = guarantee_line({"automatic": 5, "withdrawn": 1, "promise": promise})
    assert "at least 0.87 of them are right" in line and "2 from earlier rounds kept" in line and "1 withdrawn" in line
    assert "At least 0.877 of these are right" in guarantee_sentences(promise)
