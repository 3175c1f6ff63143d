"""One changed bit in any message of a session: nobody accepts it.

A handshake is run over a link that changes one bit of one frame. A sample of 300 runs always; the campaign's row bit-flips takes
3,000, and `slow` every bit of suites 2 and 3.
"""

from __future__ import annotations

import random

import pytest

from shared.crypto.suites import DEFAULT_SUITE, Suite
from shared.protocol.events import Direction, Dropped, Failed, MessageReceived
from shared.protocol.transitions import State
from shared.wire.messages import Position
from tests.crypto_tools import flip_bit, flipped
from tests.protocol_bench import ESTABLISHED, EVERYONE, Clinic, FakeLink, events_of
from tests.protocol_puppets import PuppetDoctor
from tests.protocol_stages import P256

P_TO_D, D_TO_P = Direction.SENT, Direction.RECEIVED
Place = tuple[Direction, int, int]


def sizes(suite: Suite) -> dict[tuple[Direction, int], int]:
    """The bits of each frame of an honest session: five messages of the handshake, a receipt and a group key."""
    clinic = Clinic()
    link = clinic.link(clinic.patient(suite=suite)).run()
    assert link.states == ESTABLISHED
    return {
        (direction, index): 8 * len(frame)
        for direction in (P_TO_D, D_TO_P)
        for index, frame in enumerate(link.sent[direction])
    }


def run_with_flip(clinic: Clinic, suite: Suite, place: Place) -> FakeLink:
    """A session whose link changes one bit."""
    direction, index, bit = place

    def tamper(way: Direction, number: int, frame: bytes) -> list[bytes]:
        return [flip_bit(frame, bit) if (way, number) == (direction, index) else frame]

    return clinic.link(clinic.patient(suite=suite), tamper=tamper).run()


def accepted(suite: Suite, places: list[Place]) -> list[Place]:
    """The places where a changed bit was taken: both sides established although one frame was not what was sent."""
    clinic = Clinic()
    taken = []
    for place in places:
        link = run_with_flip(clinic, suite, place)
        if link.patient.state is State.ESTABLISHED or (
            link.doctor.state is State.ESTABLISHED and place[:2] != (D_TO_P, 2)
        ):
            taken.append(place)
    return taken


def all_places(suite: Suite) -> list[Place]:
    """Every bit."""
    return [(way, index, bit) for (way, index), bits in sizes(suite).items() for bit in range(bits)]


def test_no_changed_bit_of_a_handshake_is_accepted() -> None:
    """300 of the 20,000 bits of suite 2, another sample in each run's seed."""
    places = random.sample(all_places(P256), 300)

    assert accepted(P256, places) == []


def test_the_frames_that_are_changed_are_those_of_the_whole_handshake() -> None:
    """Five messages, the first receipt and the group key: four and three."""
    assert sorted((way.value, index) for way, index in sizes(P256)) == [
        ("received", 0),
        ("received", 1),
        ("received", 2),
        ("sent", 0),
        ("sent", 1),
        ("sent", 2),
        ("sent", 3),
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("suite", [P256, DEFAULT_SUITE], ids=lambda suite: suite.name)
def test_no_bit_at_all_of_a_handshake_can_be_changed(suite: Suite) -> None:
    """Each one."""
    assert accepted(suite, all_places(suite)) == []


def test_no_changed_bit_of_a_broadcast_is_accepted() -> None:
    """Every bit: the payload's are dropped, the header's end the connection or wait for bytes that do not come."""
    clinic = Clinic()
    device = clinic.patient(suite=P256)
    puppet = PuppetDoctor(clinic, device)
    patient = clinic.patient_connection(device)
    epoch = puppet.establish(patient)
    frame = epoch.seal(0, clinic.sign(1, 0))
    patient.take_events()
    drops = 0
    for payload in flipped(frame[6:]):
        patient.receive_data(frame[:6] + payload, clinic.clock.now)
        drops += len(events_of(Dropped, patient.take_events()))
    for bit in range(48):
        other = clinic.patient_connection(device)
        again = PuppetDoctor(clinic, device)
        again.establish(other, epoch)
        other.receive_data(flip_bit(frame, bit), clinic.clock.now)
        assert not events_of(MessageReceived, other.take_events())

    patient.receive_data(frame, clinic.clock.now)

    assert drops == 8 * (len(frame) - 6)
    assert events_of(MessageReceived, patient.take_events()) != []


def test_no_changed_bit_of_a_receipt_is_accepted() -> None:
    """Every 25th bit of a receipt in a running session: each ends it or waits for bytes that do not come."""
    clinic = Clinic()
    device = clinic.patient(suite=P256)
    survivors = []
    for bit in range(0, 8 * 278, 25):
        link = clinic.link(device).run()
        link.doctor.take_events()
        link.patient.acknowledge([Position(EVERYONE, 7, [])])
        frame = link.patient.data_to_send()
        assert len(frame) == 278
        link.doctor.receive_data(flip_bit(frame, bit), clinic.clock.now)
        events = link.doctor.take_events()
        waits = len(link.doctor._buffer) > 0
        if not waits and not events_of(Failed, events):
            survivors.append(bit)

    assert survivors == []
