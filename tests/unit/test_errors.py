from __future__ import annotations

import pytest

from a2lc import errors
from a2lc.errors import A2LCError, InputError, UnknownNameError, first_names, require_known


def test_every_exception_is_one_of_ours_and_exported():
    classes = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    assert len(classes) >= 15
    for cls in classes:
        assert issubclass(cls, A2LCError)
        assert cls.__name__ in errors.__all__
        assert cls.__name__ in (errors.__doc__ or ""), "the tree at the top shows every exception"
        assert cls.__doc__


@pytest.mark.parametrize(
    ("ours", "plain"),
    [
        ("InputError", ValueError),
        ("MissingFileError", FileNotFoundError),
        ("ShapeError", ValueError),
        ("LabelRangeError", ValueError),
        ("ImageFileError", ValueError),
        ("UnknownNameError", LookupError),
        ("MissingExtraError", ImportError),
    ],
)
def test_exceptions_are_still_what_plain_python_would_raise(ours, plain):
    assert issubclass(getattr(errors, ours), plain)


def test_a_user_mistake_is_told_from_a_refusal_by_the_project():
    for name in (
        "MissingFileError",
        "ShapeError",
        "LabelRangeError",
        "ImageFileError",
        "UnknownNameError",
        "ConfigError",
    ):
        assert issubclass(getattr(errors, name), InputError)
    for name in ("StageError", "PoolExhaustedError", "AlreadyAnsweredError", "LedgerError", "LockedError"):
        assert not issubclass(getattr(errors, name), InputError)
    assert issubclass(errors.NewerProjectError, errors.LedgerError)


def test_known_name_is_returned():
    assert require_known("method", "alc", iter(["a2lc", "alc"])) == "alc"


def test_message_of_an_unknown_name_is_not_quoted():
    with pytest.raises(UnknownNameError) as caught:
        require_known("class", "buss", ["bus", "car"])
    assert str(caught.value) == "Unknown class 'buss'. Did you mean 'bus'? Known: bus, car"


def test_nothing_near_gives_no_hint():
    with pytest.raises(UnknownNameError, match=r"^Unknown class 'zzz'. Known: bus, car$"):
        require_known("class", "zzz", ["bus", "car"])


def test_first_names():
    assert first_names(["a", "b"]) == "a, b"
    assert first_names(str(i) for i in range(5)) == "0, 1, 2, 3, 4"
    assert first_names(str(i) for i in range(7)) == "0, 1, 2, 3, 4 and 2 more"
    assert first_names([]) == ""
