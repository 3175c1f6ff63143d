"""A capture is read as an eavesdropper reads it: whole frames, by connection and direction."""

from __future__ import annotations

from lab.faults.capture import Capture, Way
from shared.protocol.patient_handshake import frame_of
from shared.wire.opcodes import Opcode

FIRST, SECOND = frame_of(Opcode.BROADCAST, b"one"), frame_of(Opcode.PONG, b"two")


def test_frames_are_put_together_from_chunks_of_one_connection() -> None:
    """However they were cut, and whatever came in between on others."""
    capture = Capture()
    capture.add(1, Way.TO_PATIENT, 0.0, FIRST[:4])
    capture.add(2, Way.TO_PATIENT, 0.1, SECOND)
    capture.add(1, Way.TO_DOCTOR, 0.2, SECOND)
    capture.add(1, Way.TO_PATIENT, 0.3, FIRST[4:] + SECOND)

    found = [(connection, frame.data) for connection, frame in capture.frames(Way.TO_PATIENT)]

    assert found == [(1, FIRST), (1, SECOND), (2, SECOND)]
    assert [frame.payload for _, frame in capture.frames(Way.TO_DOCTOR)] == [b"two"]


def test_a_cut_or_garbled_rest_is_left_out() -> None:
    """What was whole before it is there."""
    capture = Capture()
    capture.add(1, Way.TO_PATIENT, 0.0, FIRST + SECOND[:-1])
    capture.add(2, Way.TO_PATIENT, 0.0, FIRST + b"\xff\xff\xff\xff\xff\xff" + SECOND)

    assert [connection for connection, _ in capture.frames(Way.TO_PATIENT)] == [1, 2]
