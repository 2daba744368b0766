"""Remedies as objects: what they change, how they are joined, tried and printed."""

import pytest

from a2lc.cli.doctor import flag_of
from a2lc.doctor.diagnosis import Finding, remedies_of
from a2lc.doctor.remedies import Remedy, apply_remedies, joined
from a2lc.doctor.trial import try_remedies
from a2lc.errors import InputError
from a2lc.images.multiband import Stretch
from a2lc.images.options import ReadingOptions

VOID = Remedy(option="value_map", value={34: 255})

ALL = [
    (VOID, ReadingOptions(value_map={34: 255}), "`value_map` 34=255", "--map 34=255"),
    (Remedy(option="ignore", value=7), ReadingOptions(ignore=7), "`ignore` 7", "--ignore 7"),
    (Remedy(option="snap", value=3), ReadingOptions(snap=3), "`snap` 3", "--snap 3"),
    (Remedy(option="colours", value=True), ReadingOptions(colours=True), "`colours`", "--colours"),
    (Remedy(option="exif", value="bake"), ReadingOptions(exif="bake"), "`exif` bake", "--bake-exif"),
    (Remedy(option="exif", value="ignore"), ReadingOptions(exif="ignore"), "`exif` ignore", "--exif ignore"),
    (Remedy(option="bands", value=(3, 2, 1)), ReadingOptions(bands=(3, 2, 1)), "`bands` 3,2,1", "--bands 3,2,1"),
    (
        Remedy(option="stretch", value=Stretch(0, 0.5)),
        ReadingOptions(stretch=Stretch(0, 0.5)),
        "`stretch` 0:0.5",
        "--stretch 0:0.5",
    ),
    (Remedy(option="skip_bad", value=True), ReadingOptions(skip_bad=True), "`skip_bad`", "--skip-bad"),
    (Remedy(option="partial", value=True), ReadingOptions(partial=True), "`partial`", "--partial"),
    (
        Remedy(option="partial_truth", value=True),
        ReadingOptions(partial_truth=True),
        "`partial_truth`",
        "--partial-ground-truth",
    ),
]


@pytest.mark.parametrize(("remedy", "options", "setting", "flag"), ALL, ids=lambda value: str(value)[:30])
def test_a_remedy_is_an_option_a_setting_and_a_flag(remedy, options, setting, flag):
    assert remedy.apply(ReadingOptions()) == options
    assert (remedy.setting, flag_of(remedy)) == (setting, flag)


def test_pairs_are_added_to_the_value_map():
    options = ReadingOptions(value_map={1: 0})
    assert VOID.apply(options).value_map == {1: 0, 34: 255}
    assert options.value_map == {1: 0}
    with pytest.raises(InputError, match="read 34 both as 3 and as 255"):
        VOID.apply(ReadingOptions(value_map={34: 3}))


def test_joined_keeps_the_largest_snap_and_each_other_remedy_once():
    small, large, colours = (Remedy(option=o, value=v) for o, v in (("snap", 2), ("snap", 9), ("colours", True)))
    assert joined([small, VOID, colours, large, VOID]) == (VOID, colours, large)


def test_remedies_that_contradict_each_other_are_refused():
    both = [Remedy(option="exif", value="bake"), Remedy(option="exif", value="ignore")]
    with pytest.raises(InputError, match="exif bake for some files and ignore for others"):
        apply_remedies(ReadingOptions(), both)
    assert apply_remedies(ReadingOptions(skip_bad=True), [VOID]) == ReadingOptions(skip_bad=True, value_map={34: 255})


def error(code, *remedies):
    return Finding(code=code, level="fault", message=f"{code}.", remedies=remedies)


def test_an_error_without_a_remedy_leaves_none():
    warning = Finding(code="w", level="doubt", message="w")
    assert remedies_of([error("a", VOID), warning]) == (VOID,)
    assert remedies_of([warning]) == ()
    assert remedies_of([error("a", VOID), error("b")]) is None


@pytest.mark.parametrize(
    ("left", "added"),
    [
        ([], []),
        ([error("b", Remedy(option="skip_bad", value=True))], ["b"]),  # fixed as well, by an option more
        ([error("a", VOID)], ["options-not-enough"]),  # the remedy does not help
        ([error("b")], ["options-not-enough"]),
    ],
)
def test_remedies_are_tried_before_they_are_proposed(left, added):
    seen = []

    def look(options):
        seen.append(options)
        return left if not options.skip_bad else []

    found = try_remedies([error("a", VOID)], ReadingOptions(snap=1), look)
    assert [finding.code for finding in found] == ["a", *added]
    assert seen[0] == ReadingOptions(snap=1, value_map={34: 255})
    if added == ["options-not-enough"]:
        assert found[-1].message == f"Even with `value_map` 34=255, the import would be refused: {left[0].message}"


def test_trying_ends():
    codes = iter(range(100))
    found = try_remedies(
        [error("a", Remedy(option="snap", value=0))],
        ReadingOptions(),
        lambda options: [error(str(next(codes)), Remedy(option="value_map", value={next(codes): 0}))],
    )
    assert found[-1].code == "options-not-enough" and len(found) == 6


def test_nothing_is_looked_at_without_remedies():
    assert try_remedies([error("a")], ReadingOptions(), lambda options: pytest.fail("looked")) == [error("a")]
