"""The patient's connection: what it keeps, what it forgets, what it does with the doctor's messages."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from shared.crypto.kdf import Label
from shared.crypto.signatures import ECDSA_P256
from shared.errors import LocalError
from shared.protocol.clock import SECOND
from shared.protocol.epochs import Epoch
from shared.protocol.events import (
    Confirmed,
    Disconnected,
    Dropped,
    EpochBegun,
    Failed,
    MessageReceived,
    Positioned,
    ReceiptsHeard,
    Repeated,
    Reported,
    ReportsReceipted,
    ResendRequested,
    Traced,
)
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.resend_requests import ASK_INTERVAL
from shared.protocol.transitions import State
from shared.wire import messages
from shared.wire.checks import Check
from shared.wire.messages import (
    BODY_LIMIT,
    Direct,
    Ping,
    Pong,
    Position,
    Receipt,
    Report,
    ReportKind,
    ResendRequest,
    Stream,
    TargetKind,
    Wire,
)
from shared.wire.opcodes import DisconnectReason, Opcode
from tests.crypto_tools import flip_bit
from tests.protocol_bench import (
    DAY,
    ESTABLISHED,
    EVERYONE,
    GROUP,
    WALL,
    Clinic,
    FakeLink,
    events_of,
    frame_of,
    only,
    split,
)
from tests.protocol_puppets import PuppetDoctor, PuppetPatient, build

HOUR = 3600 * SECOND


def established(clinic: Clinic | None = None) -> tuple[Clinic, PatientConnection, PuppetDoctor]:
    """A patient's connection that a puppet has brought to ESTABLISHED, with epoch 1 of `everyone`."""
    clinic = clinic or Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    puppet.establish(patient)
    patient.take_events()
    puppet.opener.advance()  # `confirm` looked at the first receipt without counting it
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


def drops(
    frames: Callable[[Clinic, Epoch], bytes], asks: Callable[[Epoch], bytes] | None = None
) -> list[Dropped]:
    """What an established patient drops; afterwards it must still take an honest broadcast.

    `asks`: the key id that it names when it asks where its only stream goes on; None: it asks for nothing.
    """
    clinic, patient, puppet = established()
    epoch = held_epoch(patient)
    patient.receive_data(frames(clinic, epoch), clinic.clock.now)
    dropped = events_of(Dropped, patient.take_events())
    assert patient.state is State.ESTABLISHED
    asked = [ResendRequest(asks(epoch), [Position(EVERYONE, 0, [])])] if asks else []
    assert questions(patient, puppet) == asked

    patient.receive_data(epoch.seal(99, clinic.sign(5, 0)), clinic.clock.now)
    assert only(MessageReceived, patient.take_events()).envelope.number == 5
    return dropped


def questions(patient: PatientConnection, puppet: PuppetDoctor) -> list[ResendRequest]:
    """What a patient has asked for since the last call; it must have sent nothing else."""
    frames = [frame_of(data) for data in split(patient.data_to_send())]
    assert {frame.opcode for frame in frames} <= {Opcode.RESEND_REQUEST}
    asked = []
    for frame in frames:
        asked.append(messages.decode(ResendRequest, puppet.opener.open(frame)))
        puppet.opener.advance()
    return asked


def test_v074_a_broadcast_under_another_key_is_dropped() -> None:
    """Its key is the whole group's: were this fatal, any member could end the others' sessions."""
    other = Clinic("other").epoch(2)
    (dropped,) = drops(lambda clinic, epoch: other.seal(0, clinic.sign(1, 0)), lambda epoch: other.key_id)

    assert dropped.check is Check.EPOCH_KEY_KNOWN


def test_v075_a_broadcast_that_does_not_open_is_dropped() -> None:
    """One changed bit."""
    (dropped,) = drops(
        lambda clinic, epoch: flip_bit(epoch.seal(0, clinic.sign(1, 0)), 8 * 100), lambda epoch: epoch.key_id
    )

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
    (dropped,) = drops(lambda clinic, epoch: epoch.seal(0, clinic.sign(5, 3)), lambda epoch: b"")

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


# Asking for what is missing


def known(last: int = 3) -> tuple[Clinic, PatientConnection, PuppetDoctor, Stream]:
    """A patient that has applied `last` messages of its group and one of its own stream."""
    clinic = Clinic()
    device = clinic.patient()
    device.positions.raise_to(EVERYONE, last)
    device.positions.raise_to(device.stream, 1)
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    puppet.establish(patient)
    patient.take_events()
    puppet.opener.advance()
    return clinic, patient, puppet, device.stream


@pytest.mark.parametrize("jump", [DAY + HOUR, -DAY], ids=["forward", "back"])
def test_a_clock_that_jumps_in_a_session_hides_no_message_and_ends_nothing(jump: int) -> None:
    """Both clocks were found right in the handshake; from there on the one that does not jump carries it on."""
    clinic, patient, puppet = established()
    old = clinic.sign(1, 0, expires=WALL - HOUR)
    clinic.clock.jump(jump)
    directs = [Direct(0, replace(old, body=None)), Direct(0, clinic.sign(2, 1, b"in time"))]
    for direct in directs:
        patient.receive_data(puppet.record(Opcode.DIRECT, direct), clinic.clock.now)
    epoch = held_epoch(patient)
    patient.receive_data(epoch.seal(0, clinic.sign(3, 2, b"too")), clinic.clock.now)

    received = events_of(MessageReceived, patient.take_events())
    assert [event.body for event in received] == [None, b"in time", b"too"]
    assert patient.state is State.ESTABLISHED


def test_in_a_session_messages_still_expire() -> None:
    """Time passes by the clock that does not jump."""
    clinic, patient, puppet = established()
    message = clinic.sign(1, 0, expires=WALL + HOUR)
    clinic.clock.advance(HOUR + SECOND)
    patient.receive_data(puppet.record(Opcode.DIRECT, Direct(0, message)), clinic.clock.now)

    assert only(MessageReceived, events_of(MessageReceived, patient.take_events())).body is None


def test_a_gap_is_asked_for_once_with_the_position() -> None:
    """The frames behind a gap all miss the same; the stream is the one that has the gap, and no receipt is implied."""
    clinic, patient, puppet, _ = known()
    epoch = held_epoch(patient)
    for sequence, (number, previous) in enumerate([(5, 4), (6, 5), (7, 6)]):
        patient.receive_data(epoch.seal(sequence, clinic.sign(number, previous)), clinic.clock.now)

    assert questions(patient, puppet) == [ResendRequest(b"", [Position(EVERYONE, 3, [])])]
    assert [event.check for event in events_of(Dropped, patient.take_events())] == [
        Check.ENVELOPE_PREVIOUS
    ] * 3


def test_what_was_asked_for_closes_the_gap() -> None:
    """The doctor hears the request, sends the missing as DIRECT, and the next broadcast follows."""
    clinic = Clinic()
    link = clinic.link().run()
    epoch = held_epoch(link.patient)
    link.patient.receive_data(epoch.seal(1, clinic.sign(2, 1)), clinic.clock.now)
    link.run()
    asked = only(ResendRequested, link.doctor_events)

    for number in (1, 2):
        link.doctor.send_direct(0, clinic.sign(number, number - 1))
    link.run()
    link.patient.receive_data(epoch.seal(2, clinic.sign(3, 2)), clinic.clock.now)
    link.run()

    assert asked == ResendRequested(b"", (Position(EVERYONE, 0, []),))
    received = events_of(MessageReceived, link.patient_events)
    assert [event.envelope.number for event in received] == [1, 2, 3]


def test_an_unknown_key_asks_for_every_stream() -> None:
    """Without the key nobody can say which group it was; the key's id is named."""
    clinic, patient, puppet, own = known()
    other = clinic.epoch(2)

    patient.receive_data(other.seal(0, clinic.sign(4, 3)), clinic.clock.now)

    expected = ResendRequest(other.key_id, [Position(EVERYONE, 3, []), Position(own, 1, [])])
    assert questions(patient, puppet) == [expected]


def test_at_most_one_question_a_second() -> None:
    """Whatever its cause: else anyone on the network could make a device ask with every frame."""
    clinic, patient, puppet, _ = known()
    frames = [clinic.epoch(2).seal(0, clinic.sign(4, 3)), held_epoch(patient).seal(0, clinic.sign(5, 4))]
    asked = []
    for wait in (0, 1, 998, 1, 999, 1):
        clinic.clock.advance(wait)
        for frame in frames:
            patient.receive_data(frame, clinic.clock.now)
        asked.append(len(questions(patient, puppet)))

    assert asked == [1, 0, 0, 1, 0, 1]


def test_a_question_that_came_too_early_goes_out_in_its_time() -> None:
    """The timer rings for it, though no further frame comes; the watch for silence goes on beside it."""
    clinic, patient, puppet, _ = known()
    epoch = held_epoch(patient)
    patient.receive_data(clinic.epoch(2).seal(0, clinic.sign(4, 3)), clinic.clock.now)
    patient.receive_data(epoch.seal(0, clinic.sign(5, 4)), clinic.clock.now)
    at_once, silence = questions(patient, puppet), patient._deadline
    deadline = patient.next_deadline()
    patient.handle_timeout(clinic.clock.advance(ASK_INTERVAL - 1))
    early = questions(patient, puppet)
    patient.handle_timeout(clinic.clock.advance(1))

    assert (len(at_once), deadline, early) == (1, ASK_INTERVAL, [])
    assert questions(patient, puppet) == [ResendRequest(b"", [Position(EVERYONE, 3, [])])]
    assert patient.next_deadline() == patient._deadline == silence


def test_a_session_that_has_ended_asks_nothing_more() -> None:
    """Also where a question was waiting."""
    clinic, patient, puppet, _ = known()
    for _ in range(2):
        patient.receive_data(held_epoch(patient).seal(0, clinic.sign(5, 4)), clinic.clock.now)
    questions(patient, puppet)
    patient.disconnect(DisconnectReason.CLOSING)
    patient.data_to_send()
    patient.handle_timeout(clinic.clock.advance(ASK_INTERVAL))

    assert patient.next_deadline() is None
    assert patient.data_to_send() == b""


@pytest.mark.parametrize("flaw", [{"signature": b""}, {"body": b"x"}, {"body": None}])
def test_a_forged_broadcast_asks_for_nothing(flaw: dict[str, object]) -> None:
    """A member could have sealed it (V-081, V-083, V-084): there is nothing behind it. A real gap is then asked for."""
    clinic, patient, puppet, _ = known()
    epoch = held_epoch(patient)
    patient.receive_data(epoch.seal(0, replace(clinic.sign(5, 4), **flaw)), clinic.clock.now)
    forged = questions(patient, puppet)

    patient.receive_data(epoch.seal(1, clinic.sign(5, 4)), clinic.clock.now)

    assert only(Dropped, patient.take_events()[:1]).check is not Check.ENVELOPE_PREVIOUS
    assert forged == []
    assert len(questions(patient, puppet)) == 1


def test_a_patient_without_a_stream_has_nothing_to_ask_for() -> None:
    """It was confirmed by a PING and belongs to no group yet: it drops the frame, and may ask the moment it has a stream."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    puppet.confirm(patient)
    puppet.opener.advance()
    patient.receive_data(puppet.record(Opcode.PONG, Pong(bytes(8))), clinic.clock.now)
    frame = clinic.epoch(2).seal(0, clinic.sign(1, 0))
    patient.receive_data(frame, clinic.clock.now)
    before = questions(patient, puppet)

    patient.receive_data(puppet.record(Opcode.GROUP_KEY, clinic.epoch(1).group_key(0)), clinic.clock.now)
    patient.receive_data(frame, clinic.clock.now)

    assert before == []
    assert len(events_of(Dropped, patient.take_events())) == 2
    assert len(questions(patient, puppet)) == 1


# Receipts


MINE = Stream(TargetKind.PATIENT, "alice")


def heard_after_a_ping(clinic: Clinic, link: FakeLink) -> list[dict[Stream, int]]:
    """What the patient learns that the doctor has read, when its next PING is answered."""
    earlier = len(events_of(ReceiptsHeard, link.patient_events))
    link.patient.handle_timeout(clinic.clock.advance(20_000))
    link.run()
    return [dict(event.last) for event in events_of(ReceiptsHeard, link.patient_events)[earlier:]]


def test_a_pong_says_that_the_receipts_before_its_ping_were_read() -> None:
    """Each is told once, with the last number of its stream; a receipt that follows the PING waits for the next one."""
    clinic = Clinic()
    link = clinic.link().run()
    link.patient.acknowledge([Position(EVERYONE, 1, []), Position(MINE, 7, [])])
    link.patient.acknowledge([Position(EVERYONE, 2, [])])

    assert heard_after_a_ping(clinic, link) == [{EVERYONE: 2, MINE: 7}]
    assert heard_after_a_ping(clinic, link) == []
    link.patient.acknowledge([Position(EVERYONE, 3, [])])
    assert heard_after_a_ping(clinic, link) == [{EVERYONE: 3}]


def test_a_pong_that_answers_another_ping_says_nothing() -> None:
    """Neither one that nobody asked for, nor a late one; what is told next covers it all the same."""
    clinic, patient, puppet = established()
    patient.acknowledge([Position(EVERYONE, 1, [])])
    patient.receive_data(puppet.record(Opcode.PONG, Pong(bytes(8))), clinic.clock.now)
    for _ in range(2):
        patient.handle_timeout(clinic.clock.advance(20_000))
        patient.acknowledge([Position(EVERYONE, 2, [])])
    first, second = pings(patient, puppet)

    patient.receive_data(puppet.record(Opcode.PONG, Pong(first)), clinic.clock.now)
    late = events_of(ReceiptsHeard, patient.take_events())
    patient.receive_data(puppet.record(Opcode.PONG, Pong(second)), clinic.clock.now)

    assert late == []
    assert only(ReceiptsHeard, patient.take_events()).last == {EVERYONE: 2}


def pings(patient: PatientConnection, puppet: PuppetDoctor) -> list[bytes]:
    """The tokens of the PINGs that a patient has sent since the last call."""
    tokens = []
    for frame in map(frame_of, split(patient.data_to_send())):
        payload = puppet.opener.open(frame)
        puppet.opener.advance()
        if frame.opcode is Opcode.PING:
            tokens.append(messages.decode(Ping, payload).token)
    return tokens


# Reports


REPORT = Report(b"r" * 16, ReportKind.VITALS, WALL, b'{"pulse": 61}')


def test_a_report_reaches_the_doctor_and_its_receipt_the_patient() -> None:
    """Sent again under its id, it is told again: who stores it knows the id."""
    link = Clinic().link().run()
    for _ in range(2):
        link.patient.report(REPORT)
    link.run()
    link.doctor.acknowledge_reports([REPORT.report_id, b"s" * 16])
    link.run()

    assert [event.report for event in events_of(Reported, link.doctor_events)] == [REPORT, REPORT]
    assert only(ReportsReceipted, link.patient_events).report_ids == (REPORT.report_id, b"s" * 16)
    assert link.states == ESTABLISHED


def test_a_report_of_the_largest_body_passes() -> None:
    """32 KiB, padded and sealed, stay within a frame."""
    link = Clinic().link().run()
    largest = replace(REPORT, body=bytes(BODY_LIMIT))
    link.patient.report(largest)
    link.run()

    assert only(Reported, link.doctor_events).report == largest


@pytest.mark.parametrize("flaw", [{"body": bytes(BODY_LIMIT + 1)}, {"body": b""}, {"report_id": bytes(15)}])
def test_v004_a_report_out_of_bounds_ends_the_session(flaw: dict[str, object]) -> None:
    """The doctor stores nothing of it."""
    link = Clinic().link().run()
    link.patient.report(replace(REPORT, **flaw))
    link.run()

    assert events_of(Reported, link.doctor_events) == []
    assert only(Failed, link.doctor_events).check is Check.PAYLOAD_CANONICAL


@pytest.mark.parametrize("ids", [[], [bytes(16)] * 257, [bytes(17)]], ids=["none", "too many", "too long"])
def test_v004_a_report_receipt_out_of_bounds_ends_the_session(ids: list[bytes]) -> None:
    """The patient takes none of it for stored."""
    link = Clinic().link().run()
    link.doctor.acknowledge_reports(ids)
    link.run()

    assert events_of(ReportsReceipted, link.patient_events) == []
    assert only(Failed, link.patient_events).check is Check.PAYLOAD_CANONICAL


def test_nothing_is_reported_or_acknowledged_before_the_session_is_established() -> None:
    """A patient that is not yet confirmed, and a doctor that does not yet know where it stands, keep it to themselves."""
    clinic = Clinic()
    device = clinic.patient()
    patient, doctor = clinic.patient_connection(device), clinic.doctor_connection()
    states = []
    for _ in range(3):
        for connection, other in ((patient, doctor), (doctor, patient)):
            states.append(connection.state)
            with pytest.raises(LocalError, match=r"REPORT|REPORT_RECEIPT may not be sent in state"):
                patient.report(REPORT)
            with pytest.raises(LocalError, match="REPORT_RECEIPT may not be sent in state"):
                doctor.acknowledge_reports([REPORT.report_id])
            other.receive_data(connection.data_to_send(), clinic.clock.now)
    doctor.admit(clinic.clock.now)
    doctor.acknowledge_reports([REPORT.report_id])

    assert {State.AWAIT_REPLY, State.AWAIT_RESPONSE, State.CONFIRMING} <= set(states)
    assert doctor.state is State.ESTABLISHED


def test_v005_the_doctor_takes_no_report_before_the_first_receipt() -> None:
    """It does not yet know where the patient stands."""
    clinic = Clinic()
    doctor = clinic.doctor_connection()
    puppet = PuppetPatient(clinic.patient(), clinic.clock, clinic.random)
    now = clinic.clock.now
    doctor.receive_data(puppet.key_exchange(), now)
    doctor.receive_data(puppet.auth_request(doctor.data_to_send()), now)
    doctor.receive_data(puppet.session_verifier(doctor.data_to_send()), now)
    doctor.admit(now)

    doctor.receive_data(puppet.record(Opcode.REPORT, REPORT), now)

    events = doctor.take_events()
    assert only(Failed, events).check is Check.OPCODE_IN_STATE
    assert events_of(Reported, events) == []


def test_v070_a_report_that_is_repeated_by_the_network_is_refused() -> None:
    """Records count: only the patient itself can say the same again."""
    link = Clinic().link().run()
    link.patient.report(REPORT)
    frame = link.patient.data_to_send()
    for _ in range(2):
        link.doctor.receive_data(frame, link.clock.now)

    events = link.doctor.take_events()
    assert only(Reported, events).report == REPORT
    assert only(Failed, events).check is Check.RECORD_OPENS


# The doctor's messages to one patient


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
