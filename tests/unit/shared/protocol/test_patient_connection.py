"""The patient's connection: what it keeps, what it forgets, what it does with the doctor's messages."""

from __future__ import annotations

import gc

import pytest

from shared.protocol.events import (
    Confirmed,
    EpochBegun,
    Failed,
    Traced,
)
from shared.protocol.patient_connection import PatientConnection
from shared.wire.checks import Check
from shared.wire.opcodes import Opcode
from tests.protocol_bench import (
    WALL,
    Clinic,
    PuppetDoctor,
    events_of,
    only,
)


def established(clinic: Clinic | None = None) -> tuple[Clinic, PatientConnection, PuppetDoctor]:
    """A patient's connection that a puppet has brought to ESTABLISHED, with epoch 1 of `everyone`."""
    clinic = clinic or Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    puppet.establish(patient)
    patient.take_events()
    return clinic, patient, puppet


def secrets_reachable_from(root: object) -> set[bytes]:
    """Every bytes object of 32 bytes or more that the garbage collector can find from `root`."""
    found, seen, queue = set(), set(), [root]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type) or type(item).__name__ in ("module", "function"):
            continue
        seen.add(id(item))
        if isinstance(item, bytes) and len(item) >= 32:
            found.add(item)
        queue += gc.get_referents(item)
        # msgspec structs without gc support and slots are not always reported: look at them by name.
        queue += [getattr(item, name) for name in getattr(item, "__struct_fields__", ())]
    return found


def test_the_handshakes_secrets_are_forgotten_once_it_is_over() -> None:
    """The ratchet would be in vain if the KEM secret and the session key stayed in memory."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    patient.receive_data(puppet.reply(patient.data_to_send()), clinic.clock.now)
    m3 = patient.data_to_send()
    session_key = puppet.open_request(m3).session_key
    before = secrets_reachable_from(patient)

    patient.receive_data(puppet.response(m3), clinic.clock.now)

    after = secrets_reachable_from(patient)
    assert {session_key, puppet.ss_d} <= before
    assert {session_key, puppet.ss_d} & after == set()


def test_confirmed_comes_after_what_happened_before_it() -> None:
    """Events keep the order of the facts, however late the program asks for them."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)

    PuppetDoctor(clinic, device).establish(patient)

    kinds = [type(event) for event in patient.take_events()]
    assert kinds == [Traced] * 5 + [Confirmed, EpochBegun]


def test_a_record_that_is_refused_does_not_count() -> None:
    """The counter moves when a record has passed all its checks, not when it has opened."""
    clinic, patient, puppet = established()
    assert patient._opener is not None
    count = patient._opener.count

    patient.receive_data(puppet.record(Opcode.GROUP_KEY, clinic.epoch(9).group_key(0)), clinic.clock.now)

    assert only(Failed, patient.take_events()).check is Check.EPOCH_NOT_SKIPPED
    assert patient._opener.count == count


def test_groups_that_share_a_secret_never_raise_out_of_the_connection() -> None:
    """A doctor that gives two groups one secret breaks its own groups, not this program."""
    clinic, patient, puppet = established()
    now = clinic.clock.now
    shared = clinic.epoch(5, "ward-b")
    for group, number in (("ward-b", 5), ("ward-c", 5)):
        shared.group, shared.number = group, number
        patient.receive_data(puppet.record(Opcode.GROUP_KEY, shared.group_key(0)), now)
    for group in ("ward-b", "ward-c"):
        patient.receive_data(puppet.record(Opcode.GROUP_KEY, clinic.epoch(6, group).group_key(0)), now)

    begun = events_of(EpochBegun, patient.take_events())
    assert [(event.group, event.epoch) for event in begun] == [
        ("ward-b", 5),
        ("ward-c", 5),
        ("ward-b", 6),
        ("ward-c", 6),
    ]


@pytest.mark.parametrize("skew", [46_000, -46_000])
def test_a_clock_failure_names_both_clocks(skew: int) -> None:
    """The user is told the doctor's signed time and the device's own."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    patient.receive_data(puppet.reply(patient.data_to_send()), clinic.clock.now)

    late = puppet.response(patient.data_to_send(), claims={"timestamp": WALL + skew})
    patient.receive_data(late, clinic.clock.now)

    failed = only(Failed, patient.take_events())
    assert failed.check is Check.RESPONSE_CLOCK
    assert failed.clocks == (WALL + skew, WALL)
