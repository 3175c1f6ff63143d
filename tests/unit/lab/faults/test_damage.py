"""What a flipped bit has brought about is judged by what can be asked."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lab.faults.rows import damage
from lab.faults.rows.damage import NAMED, Count, Flip, Subject
from lab.faults.views import View
from shared.errors import StorageError

FLIP = Flip(Path("doctor.db"), 3, 1)
WHOLE: View = {"patient anna": "active", "group ward": ["anna"]}


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (WHOLE, None),
        (f"{NAMED}doctor.db is damaged", None),
        ({**WHOLE, "patient anna": "revoked"}, "undetected: patient anna: 'active' became 'revoked'"),
        ({"patient anna": "active"}, "undetected: group ward"),
        ("KeyError: 'anna'", "KeyError"),
    ],
)
def test_only_a_name_or_no_effect_is_right(found: View | str, finding: str | None) -> None:
    """A traceback is no name; what has gone is as bad as what has changed."""
    count = Count()
    said = damage.judge("a doctor", FLIP, WHOLE, found, count)

    assert (said is None) is (finding is None)
    assert finding is None or finding in (said or "")
    assert count.named + count.harmless == (finding is None)


async def test_one_bit_is_flipped_in_a_copy_and_what_was_told_of_it_kept(tmp_path: Path) -> None:
    """The original stays whole; an error of ours is a name, any other a finding."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "some.db").write_bytes(b"\0" * 9)

    async def look(copy: Path) -> View:
        content = (copy / "some.db").read_bytes()
        if content[2]:
            raise StorageError("some.db is damaged")
        return {"sum": sum(content), "tenth": 1 // (9 - content[3])}

    subject = Subject("a file", tmp_path / "whole", look)
    flips = [Flip(Path("some.db"), 2, 0), Flip(Path("some.db"), 3, 1), None]
    found = [await damage.look_at_copy(subject, tmp_path / "copy", flip) for flip in flips]

    assert found == [f"{NAMED}some.db is damaged", {"sum": 2, "tenth": 0}, {"sum": 0, "tenth": 0}]
    assert (tmp_path / "whole" / "some.db").read_bytes() == b"\0" * 9
    drawn = damage.draw(subject, random.Random(1))
    assert drawn.file == Path("some.db")
    assert drawn.at < 9
