"""A history is append-only, and its file gives it back."""

from __future__ import annotations

from pathlib import Path

from lab.faults.history import Accepted, Applied, History, Kept, Killed


def test_a_history_is_read_back_from_its_file_as_it_was_recorded(tmp_path: Path) -> None:
    """Bodies that are no text, and one that had expired, included."""
    path = tmp_path / "history.jsonl"
    with History(path) as history:
        history.add(
            Accepted(
                time=2.0, asked=1.0, message="all.7", stream="group:all", number=7, recipients=1, body=b"\xff"
            )
        )
        history.add(Killed(time=3.0, program="doctor", at="accept.committed"))
        history.add(Kept(time=4.0, patient="a", stream="group:all", number=7, body=None))

    again = History.read(path)

    assert again.events == history.events
    assert [event.at for event in again.of(Killed)] == ["accept.committed"]
    assert list(again.of(Applied)) == []


def test_a_history_that_is_opened_again_goes_on(tmp_path: Path) -> None:
    """What stands there is not overwritten."""
    path = tmp_path / "history.jsonl"
    for number in (1, 2):
        with History(path) as history:
            history.add(Killed(time=float(number), program="doctor", at="x"))
    assert [event.time for event in History.read(path).events] == [1.0, 2.0]
