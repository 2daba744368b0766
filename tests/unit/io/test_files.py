from __future__ import annotations

import errno
import hashlib
import json
import math

import pytest

from a2lc.io.files import atomic_path, free_space_error, json_safe, sha256, write_bytes, write_text


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "new" / "deep" / "a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent, "renaming is atomic within a folder only"
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_failure_before_anything_was_written(tmp_path):
    with pytest.raises(ValueError, match="early"), atomic_path(tmp_path / "a.txt"):
        raise ValueError("early")
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_text(target, "new")
    assert free_space_error(caught.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_only_a_full_disk_is_a_full_disk():
    assert free_space_error(OSError(errno.EDQUOT, ""))
    assert not free_space_error(OSError(errno.EACCES, ""))


def test_bytes_text_and_hash(tmp_path):
    write_bytes(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    write_text(tmp_path / "t", "ä\n")
    assert (tmp_path / "t").read_bytes() == b"\xc3\xa4\n"
    assert sha256(tmp_path / "b") == hashlib.sha256(b"\x00\xff").hexdigest()


def test_nan_becomes_null_at_any_depth():
    data = {"a": math.nan, "b": [1.5, math.nan, {"c": (math.nan, "x")}], "d": None}
    assert json_safe(data) == {"a": None, "b": [1.5, None, {"c": [None, "x"]}], "d": None}
    json.dumps(json_safe(data), allow_nan=False)
