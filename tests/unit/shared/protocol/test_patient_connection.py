"""The patient's connection: what it keeps, what it forgets, what it does with the doctor's messages."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from shared.crypto.kdf import Label
from shared.crypto.signatures import ECDSA_P256
from shared.protocol.epochs import Epoch
from shared.protocol.events import (
    Confirmed,
    Disconnected,
    Dropped,
    EpochBegun,
    Failed,
    MessageReceived,
    Positioned,
    Repeated,
    Traced,
)
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.transitions import State
from shared.wire.checks import Check
from shared.wire.messages import Direct, Ping, Position, Receipt, Wire
from shared.wire.opcodes import DisconnectReason, Opcode
from tests.crypto_tools import flip_bit
from tests.protocol_bench import ESTABLISHED, EVERYONE, GROUP, WALL, Clinic, FakeLink, events_of, only
from tests.protocol_puppets import PuppetDoctor, build


def established(clinic: Clinic | None = None) -> tuple[Clinic, PatientConnection, PuppetDoctor]:
    """A patient's connection that a puppet has brought to ESTABLISHED, with epoch 1 of `everyone`."""
    clinic = clinic or Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    puppet.establish(patient)
    patient.take_events()
    return clinic, patient, puppet


def held_epoch(patient: PatientConnection) -> Epoch:
    """The epoch of `everyone` that a patient holds: the tests broadcast under it."""
    return patient._epochs._by_group[GROUP]


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


# The doctor's messages


def test_a_broadcast_is_applied_once_and_in_order() -> None:
    """The next number is told, a repetition is not, and the position follows."""
    clinic, patient, puppet = established()
    patient.receive_data(puppet.record(Opcode.GROUP_KEY, clinic.epoch(2).group_key(10)), clinic.clock.now)
    epoch = held_epoch(patient)
    first, second = clinic.sign(15, 10, b"one"), clinic.sign(20, 15, b"two")

    for sequence, message in enumerate((first, first, second, first)):
        patient.receive_data(epoch.seal(sequence, message), clinic.clock.now)

    received = events_of(MessageReceived, patient.take_events())
    assert [(event.envelope.number, event.body, event.direct) for event in received] == [
        (15, b"one", False),
        (20, b"two", False),
    ]
    assert patient._positions[EVERYONE] == 20


def drops(frames: Callable[[Clinic, Epoch], bytes]) -> list[Dropped]:
    """What an established patient drops; afterwards it must still take an honest broadcast."""
    clinic, patient, _ = established()
    epoch = held_epoch(patient)
    patient.receive_data(frames(clinic, epoch), clinic.clock.now)
    dropped = events_of(Dropped, patient.take_events())
    assert patient.state is State.ESTABLISHED
    assert patient.data_to_send() == b""

    patient.receive_data(epoch.seal(99, clinic.sign(5, 0)), clinic.clock.now)
    assert only(MessageReceived, patient.take_events()).envelope.number == 5
    return dropped


def test_v074_a_broadcast_under_another_key_is_dropped() -> None:
    """Its key is the whole group's: were this fatal, any member could end the others' sessions."""
    (dropped,) = drops(lambda clinic, epoch: clinic.epoch(2).seal(0, clinic.sign(1, 0)))

    assert dropped.check is Check.EPOCH_KEY_KNOWN


def test_v075_a_broadcast_that_does_not_open_is_dropped() -> None:
    """One changed bit."""
    (dropped,) = drops(lambda clinic, epoch: flip_bit(epoch.seal(0, clinic.sign(1, 0)), 8 * 100))

    assert dropped.check is Check.BROADCAST_OPENS


def test_v081_a_members_forgery_is_dropped() -> None:
    """A member holds the group key; it does not hold the doctor's."""
    member = Clinic("member").envelope_key

    def forgery(clinic: Clinic, epoch: Epoch) -> bytes:
        real = clinic.sign(1, 0)
        return epoch.seal(
            0, replace(real, signature=ECDSA_P256.sign(member, Label.ENVELOPE_SIGNATURE, real.envelope))
        )

    assert [dropped.check for dropped in drops(forgery)] == [Check.ENVELOPE_SIGNATURE]


def test_v085_a_broadcast_after_a_gap_is_dropped_and_names_its_stream() -> None:
    """So that the patient can ask for what is missing."""
    (dropped,) = drops(lambda clinic, epoch: epoch.seal(0, clinic.sign(5, 3)))

    assert (dropped.check, dropped.stream) == (Check.ENVELOPE_PREVIOUS, EVERYONE)


def test_v004_a_broadcast_that_is_no_message_is_dropped() -> None:
    """A member can seal anything."""
    short = build(Opcode.BROADCAST, bytes(3))

    assert [dropped.check for dropped in drops(lambda clinic, epoch: short)] == [Check.PAYLOAD_CANONICAL]


def test_an_old_epochs_broadcast_is_not_read_any_more() -> None:
    """The successor erases the key."""
    clinic, patient, puppet = established()
    old = held_epoch(patient)
    patient.receive_data(puppet.record(Opcode.GROUP_KEY, clinic.epoch(2).group_key(0)), clinic.clock.now)
    patient.take_events()

    patient.receive_data(old.seal(0, clinic.sign(1, 0)), clinic.clock.now)

    assert only(Dropped, patient.take_events()).check is Check.EPOCH_KEY_KNOWN


def test_a_missed_broadcast_comes_as_direct() -> None:
    """With its start number; a repetition is not applied, but told: its receipt has not arrived."""
    clinic, patient, puppet = established()
    missed = Direct(10, clinic.sign(15, 10, b"missed"))
    for _ in range(2):
        patient.receive_data(puppet.record(Opcode.DIRECT, missed), clinic.clock.now)

    events = patient.take_events()
    received = only(MessageReceived, events)
    assert (received.envelope.number, received.body, received.direct) == (15, b"missed", True)
    assert events_of(Repeated, events) == [Repeated(EVERYONE, 15)]


def test_a_private_message_is_told() -> None:
    """In the patient's own stream."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    puppet.confirm(patient)
    message = clinic.sign(3, 0, b"for you", stream=device.stream, name=device.reader.patient_fingerprint)
    patient.take_events()

    patient.receive_data(puppet.record(Opcode.DIRECT, Direct(0, message)), clinic.clock.now)

    kinds = [type(event) for event in patient.take_events()]
    assert kinds == [Confirmed, MessageReceived]
    assert patient.state is State.ESTABLISHED


def test_an_expired_message_moves_the_position_and_shows_nothing() -> None:
    """With or without its body."""
    clinic, patient, puppet = established()
    first = clinic.sign(1, 0, b"late", expires=WALL - 1)
    second = replace(clinic.sign(2, 1, b"later", expires=WALL - 1), body=None)
    for message in (first, second):
        patient.receive_data(puppet.record(Opcode.DIRECT, Direct(0, message)), clinic.clock.now)

    received = events_of(MessageReceived, patient.take_events())
    assert [(event.envelope.number, event.body) for event in received] == [(1, None), (2, None)]
    assert patient._positions[EVERYONE] == 2


def fatal(make: Callable[[Clinic], tuple[Opcode, Wire]]) -> Check:
    """The check that ends a session for a record; the positions stay as they were."""
    clinic, patient, puppet = established()
    before = dict(patient._positions._last)
    patient.receive_data(puppet.record(*make(clinic)), clinic.clock.now)

    failed = only(Failed, patient.take_events())
    assert patient.state is State.FAILED
    assert patient._positions._last == before
    return failed.check


def test_a_bad_record_ends_the_session() -> None:
    """A record comes from the doctor itself, so a bad one is the doctor's fault and fatal: each check once."""

    def direct(**changes: object) -> Callable[[Clinic], tuple[Opcode, Wire]]:
        return lambda clinic: (Opcode.DIRECT, Direct(0, replace(clinic.sign(9, 4), **changes)))

    stranger = Clinic("stranger")
    assert fatal(direct()) is Check.ENVELOPE_PREVIOUS
    assert fatal(direct(signature=b"")) is Check.ENVELOPE_SIGNATURE
    assert fatal(direct(body=b"x")) is Check.ENVELOPE_BODY
    assert fatal(direct(body=None)) is Check.ENVELOPE_BODY_PRESENT
    assert fatal(direct(envelope=stranger.sign(1, 0).envelope)) is Check.ENVELOPE_DOCTOR
    assert fatal(lambda clinic: (Opcode.GROUP_KEY, clinic.epoch(1).group_key(0))) is Check.EPOCH_NOT_REPEATED
    assert fatal(lambda clinic: (Opcode.GROUP_KEY, clinic.epoch(3).group_key(0))) is Check.EPOCH_NOT_SKIPPED
    assert fatal(lambda clinic: (Opcode.GROUP_KEY, Ping(bytes(8)))) is Check.PAYLOAD_CANONICAL
    assert fatal(lambda clinic: (Opcode.RECEIPT, Receipt([]))) is Check.OPCODE_IN_STATE


def test_v072_a_group_key_that_has_passed_ends_the_session() -> None:
    """A past epoch's secret is never sent again."""
    clinic, patient, puppet = established()
    for number in (2, 1):
        key = clinic.epoch(number).group_key(0)
        patient.receive_data(puppet.record(Opcode.GROUP_KEY, key), clinic.clock.now)

    assert only(Failed, patient.take_events()).check is Check.EPOCH_NOT_LOWER


# Sessions


def test_the_first_receipt_says_where_the_patient_stands() -> None:
    """Every stream it knows."""
    clinic = Clinic()
    device = clinic.patient()
    device.positions.raise_to(EVERYONE, 12)
    device.positions.raise_to(device.stream, 3)

    link = clinic.link(device).run()

    told = only(Positioned, link.doctor_events).positions
    assert told == (Position(EVERYONE, 12, []), Position(device.stream, 3, []))


def test_the_first_receipt_says_what_the_program_wants_it_to() -> None:
    """It is asked when the RECEIPT goes out, not before: meanwhile another session may have brought something."""
    clinic = Clinic()
    device = clinic.patient()
    standing: list[Position] = []
    patient = PatientConnection(
        device.identity, device.reader, device.positions, clinic.clock.now, clinic.random, lambda: standing
    )
    standing.append(Position(EVERYONE, 12, [7, 11]))

    link = FakeLink(patient, clinic.doctor_connection(), clinic.clock).run()

    assert only(Positioned, link.doctor_events).positions == (Position(EVERYONE, 12, [7, 11]),)


def test_a_session_is_renewed_by_a_second_connection_into_one_inbox() -> None:
    """Both are read until the old one ends; a message that comes over both is applied once, in whatever order."""
    clinic = Clinic()
    device = clinic.patient()
    old = clinic.link(device).run()
    epoch = held_epoch(old.patient)
    message, following = clinic.sign(5, 0, b"one"), clinic.sign(6, 5, b"two")
    old.patient.receive_data(epoch.seal(0, message), clinic.clock.now)

    new = clinic.link(device).run()
    new.doctor.send_direct(0, message)
    new.doctor.send_direct(0, following)
    old.patient.receive_data(epoch.seal(1, following), clinic.clock.now)
    new.run()
    old.doctor.disconnect(DisconnectReason.REPLACED)
    old.run()

    by_old = [event.envelope.number for event in events_of(MessageReceived, old.patient_events)]
    by_new = [event.envelope.number for event in events_of(MessageReceived, new.patient_events)]
    assert (by_old, by_new) == ([5, 6], [])
    assert only(Positioned, new.doctor_events).positions == (Position(EVERYONE, 5, []),)
    assert only(Disconnected, old.patient_events).reason is DisconnectReason.REPLACED
    assert new.states == ESTABLISHED


def test_sessions_share_no_key() -> None:
    """A renewal begins anew: a record of the old session does not open in the new one."""
    clinic = Clinic()
    device = clinic.patient()
    old, new = clinic.link(device).run(), clinic.link(device).run()
    old.doctor.send_group_key(clinic.epoch(2), 0)

    new.patient.receive_data(old.doctor.data_to_send(), clinic.clock.now)

    assert only(Failed, new.patient.take_events()).check is Check.RECORD_OPENS
    assert old.states == ESTABLISHED
