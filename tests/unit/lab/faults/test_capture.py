"""A capture is read as an eavesdropper reads it: whole frames, by connection and direction."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.faults.capture import Capture, Way
from shared.protocol.patient_handshake import frame_of
from shared.wire.opcodes import Opcode

FIRST, SECOND = frame_of(Opcode.BROADCAST, b"one"), frame_of(Opcode.PONG, b"two")


@pytest.mark.parametrize("spilled", [False, True], ids=["in memory", "in a file"])
def test_frames_are_put_together_from_chunks_of_one_connection(spilled: bool, tmp_path: Path) -> None:
    """However they were cut, and whatever came in between on others."""
    capture = Capture(tmp_path / "capture" if spilled else None)
    capture.add(1, Way.TO_PATIENT, 0.5, FIRST[:4])
    capture.add(2, Way.TO_PATIENT, 0.5, SECOND)
    capture.add(1, Way.TO_DOCTOR, 0.5, SECOND)
    capture.add(1, Way.TO_PATIENT, 0.5, FIRST[4:] + SECOND)

    found = [(connection, frame.data) for connection, frame in capture.frames(Way.TO_PATIENT)]

    assert found == [(1, FIRST), (1, SECOND), (2, SECOND)]
    assert [frame.payload for _, frame in capture.frames(Way.TO_DOCTOR)] == [b"two"]
    capture.close()


def test_a_capture_in_a_file_keeps_only_places_in_memory(tmp_path: Path) -> None:
    """What follows on the same line is one piece with what was there before."""
    capture = Capture(tmp_path / "capture")
    for second in range(100):
        capture.add(1, Way.TO_PATIENT, second, FIRST)
    capture.add(2, Way.TO_PATIENT, 0.5, SECOND)
    capture.add(1, Way.TO_PATIENT, 99.5, SECOND)

    assert capture.lines == [(1, Way.TO_PATIENT), (2, Way.TO_PATIENT)]
    assert list(capture.pieces((1, Way.TO_PATIENT))) == [FIRST * 100, SECOND]
    assert capture.streams()[2, Way.TO_PATIENT] == SECOND
    assert capture.span((1, Way.TO_PATIENT)) == (0, 99.5)
    assert capture.size == len(FIRST) * 100 + len(SECOND) * 2
    capture.close()
    assert (tmp_path / "capture").stat().st_size == capture.size


def test_a_cut_or_garbled_rest_is_left_out() -> None:
    """What was whole before it is there."""
    capture = Capture()
    capture.add(1, Way.TO_PATIENT, 0.5, FIRST + SECOND[:-1])
    capture.add(2, Way.TO_PATIENT, 0.5, FIRST + b"\xff\xff\xff\xff\xff\xff" + SECOND)

    assert [connection for connection, _ in capture.frames(Way.TO_PATIENT)] == [1, 2]


def test_what_is_added_while_it_is_read_changes_neither(tmp_path: Path) -> None:
    """A round is judged on a thread while the devices stay connected; a soak once took this for records under wrong keys."""
    capture, added = Capture(tmp_path / "capture"), range(3000)
    capture.add(1, Way.TO_DOCTOR, 0.5, FIRST * 50)
    reading, everything_added = threading.Event(), threading.Event()

    def add() -> None:
        reading.wait()
        for number in added:
            capture.add(2 + number % 2, Way.TO_DOCTOR, 0.5, SECOND)
        everything_added.set()

    with ThreadPoolExecutor() as pool:
        adding = pool.submit(add)
        while not everything_added.is_set():
            assert b"".join(capture.pieces((1, Way.TO_DOCTOR))) == FIRST * 50
            reading.set()
        adding.result()

    assert capture.streams()[2, Way.TO_DOCTOR] == SECOND * (len(added) // 2)
    capture.close()
