"""The token of a server outlives it, is known to its owner alone, and can be changed."""

import os
import stat

import pytest

from a2lc.serve.token import project_token


def test_a_token_is_kept_until_another_is_wanted(tmp_path):
    first = project_token(tmp_path)
    assert len(first) >= 32 and project_token(tmp_path) == first
    other = project_token(tmp_path, new=True)
    assert other != first and project_token(tmp_path) == other
    assert [path.name for path in tmp_path.iterdir()] == [".serve.token"]


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX")
def test_only_its_owner_reads_it(tmp_path):
    project_token(tmp_path)
    assert stat.S_IMODE((tmp_path / ".serve.token").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "short", "with space" * 5, "é" * 40])
def test_a_damaged_token_is_replaced(tmp_path, text):
    (tmp_path / ".serve.token").write_text(text, encoding="utf-8")
    assert project_token(tmp_path) != text
