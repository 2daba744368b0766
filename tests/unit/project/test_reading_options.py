"""The options that files are read with, from the record of a project and back."""

from dataclasses import fields

import pytest

from a2lc.errors import InputError
from a2lc.images.multiband import Stretch
from a2lc.images.options import ReadingOptions
from a2lc.project.config import SourcesConfig

OTHER = {
    "value_map": {34: 255},
    "colours": True,
    "snap": 12,
    "exif": "bake",
    "tile": 512,
    "bands": (4, 3, 2),
    "stretch": Stretch(2, 98, percent=True),
    "max_pixels": 1000,
    "partial": True,
    "partial_truth": True,
}
"""Of each option that a project stores, a value that is not its default."""


def test_the_default_record_reads_with_the_default_options():
    assert SourcesConfig().reading == ReadingOptions()
    assert SourcesConfig.of(ReadingOptions()) == SourcesConfig()


@pytest.mark.parametrize("name", sorted(OTHER))
def test_options_survive_the_record(name):
    options = ReadingOptions(**{name: OTHER[name]})
    assert options != ReadingOptions()
    record = SourcesConfig.of(options, format="voc", images="root")
    assert SourcesConfig.model_validate(record.model_dump(mode="json")).reading == options
    assert (record.format, record.images) == ("voc", "root")


def test_all_options_but_two_are_stored():
    assert {field.name for field in fields(ReadingOptions)} - OTHER.keys() == {"ignore", "skip_bad"}


@pytest.mark.parametrize("text", ["", "5", "5:5", "9:1", "0:inf", "nan:1", "2%:98", "-1%:5%", "5%:101%", "a:b"])
def test_texts_that_are_no_stretch(text):
    with pytest.raises(InputError, match=r"`stretch`.*expected LOW:HIGH"):
        Stretch.parse(text)


@pytest.mark.parametrize("stretch", [Stretch(0, 3000), Stretch(0.5, 99.5, percent=True), Stretch(-2.25, 1e6)])
def test_stretches_survive_their_text(stretch):
    assert Stretch.parse(str(stretch)) == stretch
