"""Telling two times from a sentence, and playing a recorded handshake back."""

from __future__ import annotations

from pathlib import Path

from lab.faults.capture import Capture, Way
from lab.faults.proxy import between
from lab.faults.recordings import REFUSED, handshakes, play_back
from lab.faults.rows.clocks import OFFSETS, WINDOW, apart
from shared.protocol.patient_handshake import frame_of
from shared.wire.opcodes import Opcode
from tests.doctor_bench import Device, on_a_loop, running


def test_a_sentence_with_two_times_says_how_far_apart_they_are() -> None:
    """Ahead of the doctor's counts up; one time alone says nothing."""
    first, second = "2027-01-15T08:00:31.000+00:00", "2027-01-15T08:00:00.500+00:00"

    assert apart(f"this device's shows {first}, the doctor's {second}. Set it.") == 30.5
    assert apart(f"this device's shows {second}, the doctor's {first}. Set it.") == -30.5
    assert apart(f"this device's shows {first}, the doctor's is not known.") is None


def test_both_sides_of_both_edges_of_the_window_are_tried() -> None:
    """A second inside, a second outside, and far out."""
    assert {WINDOW - 1, WINDOW + 1, 1 - WINDOW, -1 - WINDOW} < set(OFFSETS)
    assert sorted(OFFSETS) == list(OFFSETS)


def test_a_handshake_is_recorded_from_what_one_connection_has_sent() -> None:
    """Connections that came to nothing, or began otherwise, are left out."""
    hello, request = frame_of(Opcode.KEY_EXCHANGE, b"hello"), frame_of(Opcode.AUTH_REQUEST, b"request")
    capture = Capture()
    capture.add(1, Way.TO_DOCTOR, 0.0, hello)
    capture.add(2, Way.TO_DOCTOR, 0.0, hello + request[:3])
    capture.add(3, Way.TO_PATIENT, 0.0, hello + request)
    assert handshakes(capture) == []

    capture.add(2, Way.TO_DOCTOR, 0.0, request[3:] + request)
    assert handshakes(capture) == [(hello, request)]


@on_a_loop
async def test_what_is_played_back_is_refused_and_what_is_not_a_handshake_is_not_taken_for_one(
    tmp_path: Path,
) -> None:
    """The doctor answers a recorded hello with a fresh prekey, so the request behind it opens nothing."""
    async with running(tmp_path) as doctor, between("127.0.0.1", doctor.gateway.port) as proxy:
        anna = Device(await doctor.invite("anna"))
        await anna.connect(proxy.port)
        await doctor.attached(anna)
        (recorded,) = handshakes(proxy.capture)

        assert tuple(await play_back(doctor.gateway.port, recorded)) == REFUSED
        assert tuple(await play_back(doctor.gateway.port, recorded[1:])) != REFUSED
