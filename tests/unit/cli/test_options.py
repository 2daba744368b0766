"""Options that commands share: declared once, and the same wherever a command has them."""

import pytest

from a2lc.cli.app import command
from a2lc.cli.options import PLAN

STAGES = ("train", "score", "select", "answer", "correct", "evaluate")
PLAN_FLAGS = [
    *("--method", "--budget", "--annotator", "--error-rate", "--preset", "--backbone", "--set", "--probabilities"),
    *("--min-precision", "--confidence", "--guarantee"),
]
NOT_SERVED = {"--annotator", "--error-rate", "--probabilities"}


def parameters_of(name):
    built = command(name)
    return getattr(built, "commands", {}).get(name, built).params


def flags_of(name):
    return [parameter.opts[0] for parameter in parameters_of(name) if parameter.param_type_name == "option"]


@pytest.mark.parametrize("stage", STAGES)
def test_stages_take_the_options_of_a_run_in_its_order(stage):
    own = ["--final", "--out"] if stage == "train" else []
    assert flags_of(stage) == [*PLAN_FLAGS, "--preview", "--workers", *own]
    assert flags_of("run") == ["--rounds", *PLAN_FLAGS, "--until", "--workers"]


def test_the_page_takes_those_that_make_sense_for_people():
    own = ["--host", "--port", "--train", "--lease", "--name", "--new-token"]
    assert flags_of("serve") == own + [flag for flag in PLAN_FLAGS if flag not in NOT_SERVED]


def test_a_shared_option_has_one_text_and_no_default():
    texts = {}
    for name in ("run", *STAGES, "serve"):
        for parameter in parameters_of(name):
            if parameter.name in PLAN:
                texts.setdefault(parameter.name, set()).add((parameter.help, parameter.default))
    assert set(texts) == set(PLAN)
    for found in texts.values():
        ((text, default),) = found
        assert text and default is None
