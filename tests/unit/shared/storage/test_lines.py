"""Files that only grow: whole lines, durable ones, and what is made of a line that is not whole."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from shared.errors import StorageError
from shared.storage.lines import append_line, append_lines, read_lines


def test_a_torn_first_line_is_replaced(tmp_path: Path) -> None:
    """There is no line before it to keep."""
    path = tmp_path / "lines"
    path.write_bytes(b'{"torn')

    append_line(path, b"{}")

    assert path.read_bytes() == b"{}\n"


def test_a_line_that_the_volume_took_in_part_is_not_written(tmp_path: Path) -> None:
    """A full volume may take the beginning of it: that is an error now, and gone with the next line."""
    path = tmp_path / "lines"
    append_line(path, b"{1}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 3, before[1]))
    try:
        with pytest.raises(StorageError, match="the volume took 3 of 9 bytes"):
            append_line(path, b"{second}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == b"{1}\n{se"

    append_line(path, b"{third}")

    assert read_lines(path) == [b"{1}", b"{third}"]


def test_lines_are_read_from_the_end_without_the_rest(tmp_path: Path) -> None:
    """Only whole ones; all of them where the file is short; none where there is no file."""
    path = tmp_path / "lines"
    assert read_lines(path, last_bytes=10) == []
    append_lines(path, [b"first", b"second", b"third"])

    assert read_lines(path, last_bytes=10) == [b"third"]
    assert read_lines(path, last_bytes=1000) == [b"first", b"second", b"third"]


def test_a_new_file_is_private(tmp_path: Path) -> None:
    """Mode 0600 from the first moment."""
    append_line(tmp_path / "lines", b"x")

    assert (tmp_path / "lines").stat().st_mode & 0o777 == 0o600
