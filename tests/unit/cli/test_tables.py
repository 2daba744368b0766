"""Tables that commands print, and lines of text."""

import pytest

from a2lc.cli.console import print_line
from a2lc.cli.tables import format_table


def test_columns_are_aligned_two_spaces_apart():
    rows = [("1", "gain", "280"), ("12", "a method of one's own", "-")]
    assert format_table(("round", "method", "clicks"), rows, left=("method",)).splitlines() == [
        "round  method                 clicks",
        "    1  gain                      280",
        "   12  a method of one's own       -",
    ]


def test_a_table_without_rows_is_its_header():
    assert format_table(("round", "method"), [], left=("method",)) == "round  method"


@pytest.mark.parametrize("text", ["[bold]car[/bold]", ":car: and 0.5", "street (3)\ttwo", "Fußgänger", "x" * 300])
def test_a_line_is_printed_as_it_is(capsys, text):
    print_line(text)
    assert capsys.readouterr().out == text + "\n"


def test_control_signs_in_names_do_not_reach_the_terminal(capsys):
    print_line("a\x1b[31mb\rc\x07\x7f")
    assert capsys.readouterr().out == "a[31mbc\n"
