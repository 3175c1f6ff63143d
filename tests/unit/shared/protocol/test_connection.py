"""Two real connections over a fake link: the handshake as a whole, and what both roles do alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.crypto.suites import SUITES, Suite
from shared.errors import LocalError
from shared.protocol.connection import Connection
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Standing
from shared.protocol.events import (
    Alerted,
    Confirmed,
    Direction,
    Disconnected,
    EpochBegun,
    Failed,
    Positioned,
    Receipted,
    Traced,
    Verified,
)
from shared.protocol.invitations import derived_id
from shared.protocol.transitions import Role, State
from shared.wire import framing, messages
from shared.wire.checks import Check
from shared.wire.framing import AUTHENTICATED_LIMIT, UNAUTHENTICATED_LIMIT
from shared.wire.messages import Alert, Ping, Pong, Position, Receipt, Stream, TargetKind
from shared.wire.opcodes import AlertCode, DisconnectReason, Opcode
from tests.protocol_bench import (
    ESTABLISHED,
    EVERYONE,
    GROUP,
    WALL,
    Clinic,
    events_of,
    frame_of,
    only,
    outcome,
    split,
)
from tests.protocol_puppets import PuppetDoctor, PuppetPatient, build

NOW = Clinic().clock.now

ALL_SUITES = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)


@ALL_SUITES
@pytest.mark.parametrize("chunk", [None, 1, 7, 1000], ids=lambda chunk: f"chunk-{chunk or 'whole'}")
def test_a_handshake_establishes_both_sides(suite: Suite, chunk: int | None) -> None:
    """Each suite, in whole writes and in portions down to single bytes."""
    clinic = Clinic()
    device = clinic.patient(suite=suite)

    link = clinic.link(device, chunk=chunk).run()

    assert link.states == ESTABLISHED
    verified = only(Verified, link.doctor_events)
    assert (verified.patient_id, verified.suite) == (device.patient_id, suite.id)
    assert verified.public_key == device.identity.key.public
    assert only(Positioned, link.doctor_events).positions == ()
    assert only(EpochBegun, link.patient_events) == EpochBegun(GROUP, 1, 0)
    assert len(events_of(Confirmed, link.patient_events)) == 1
    assert [trace.message for trace in events_of(Traced, link.patient_events)] == [
        "KEY_EXCHANGE",
        "KEY_EXCHANGE_REPLY",
        "AUTH_REQUEST",
        "AUTH_RESPONSE",
        "SESSION_VERIFIER",
    ]


@ALL_SUITES
def test_a_new_patient_enrols_with_its_invitation(suite: Suite) -> None:
    """An invited id is verified although the roster does not know it, and the event names the invitation."""
    clinic = Clinic()
    enrolment = clinic.invite("patient-new")
    device = clinic.patient("patient-new", suite, standing=None, enrolment=enrolment)

    link = clinic.link(device).run()

    assert link.states == ESTABLISHED
    assert only(Verified, link.doctor_events).invitation_id == enrolment.invitation_id


def test_a_fleet_patient_enrols_with_the_id_derived_from_its_key() -> None:
    """A fleet invitation names no id."""
    clinic = Clinic()
    enrolment = clinic.invite(None, uses=5)
    key = clinic.patient().identity.key
    name = derived_id(clinic.patient("probe", key=key, standing=None).reader.patient_fingerprint)
    clinic.directory.members.clear()
    device = clinic.patient(name, key=key, standing=None, enrolment=enrolment)

    link = clinic.link(device).run()

    assert link.states == ESTABLISHED
    assert only(Verified, link.doctor_events).invitation_id == enrolment.invitation_id


def test_a_patient_on_the_roster_needs_no_invitation_and_uses_none() -> None:
    """An enrolment that was cut is tried again: the id and key match, so the invitation is not touched."""
    clinic = Clinic()
    enrolment = clinic.invite("patient-a", uses=0)
    device = clinic.patient("patient-a", enrolment=enrolment)

    link = clinic.link(device).run()

    assert link.states == ESTABLISHED
    assert only(Verified, link.doctor_events).invitation_id is None


def test_a_retired_patient_comes_back_with_the_same_key() -> None:
    """Retired is not revoked."""
    clinic = Clinic()

    link = clinic.link(clinic.patient(standing=Standing.RETIRED)).run()

    assert link.states == ESTABLISHED


# Ends and limits


def at_state(state: State, clinic: Clinic) -> tuple[DoctorConnection, PuppetPatient]:
    """A doctor's connection that an honest puppet has brought to a state."""
    doctor, puppet = clinic.doctor_connection(), PuppetPatient(clinic.patient(), clinic.clock, clinic.random)
    now = clinic.clock.now
    steps: list[tuple[State, Callable[[], None]]] = [
        (State.AWAIT_KEY_EXCHANGE, lambda: doctor.receive_data(puppet.key_exchange(), now)),
        (
            State.AWAIT_AUTH_REQUEST,
            lambda: doctor.receive_data(puppet.auth_request(doctor.data_to_send()), now),
        ),
        (
            State.AWAIT_VERIFIER,
            lambda: doctor.receive_data(puppet.session_verifier(doctor.data_to_send()), now),
        ),
        (State.ADMITTING, lambda: doctor.admit(now)),
        (
            State.AWAIT_POSITION,
            lambda: doctor.receive_data(puppet.record(Opcode.RECEIPT, Receipt([])), now),
        ),
    ]
    for before, step in steps:
        if state is before:
            break
        step()
    assert doctor.state is state
    doctor.take_events()
    return doctor, puppet


HANDSHAKE = [
    State.AWAIT_KEY_EXCHANGE,
    State.AWAIT_AUTH_REQUEST,
    State.AWAIT_VERIFIER,
    State.ADMITTING,
    State.AWAIT_POSITION,
]


def test_v001_to_v003_end_a_connection_with_one_coarse_alert() -> None:
    """A bad header is answered at once, whatever is still to come."""
    verdicts = []
    for head in (b"\x02", b"\x01\xff", framing.header(Opcode.KEY_EXCHANGE, UNAUTHENTICATED_LIMIT + 1)):
        doctor = Clinic().doctor_connection()
        doctor.receive_data(head, NOW)
        verdicts.append(outcome(doctor).verdict)
        doctor.receive_data(b"\x01" * 1000, NOW)
        assert (doctor.take_events(), doctor.data_to_send()) == ([], b"")

    assert verdicts == [
        ("V-001", AlertCode.UNSUPPORTED, False),
        ("V-002", AlertCode.UNSUPPORTED, False),
        ("V-003", AlertCode.MALFORMED, False),
    ]


def test_v003_larger_frames_are_welcome_from_a_proven_peer_only() -> None:
    """A record of 64 KiB opens in ESTABLISHED; its header alone ends a handshake, and an unadmitted peer's input waits."""
    clinic = Clinic()
    doctor, puppet = at_state(State.ESTABLISHED, clinic)
    positions = [Position(Stream(TargetKind.GROUP, f"g{n}"), 1, [2**62] * 600) for n in range(10)]
    large = puppet.record(Opcode.RECEIPT, Receipt(positions))

    doctor.receive_data(large, NOW)

    assert len(large) > 50_000
    assert len(only(Receipted, doctor.take_events()).positions) == 10
    early, _ = at_state(State.AWAIT_VERIFIER, clinic)
    early.receive_data(large[:6], NOW)
    assert only(Failed, early.take_events()).check is Check.FRAME_LENGTH


def test_v005_an_opcode_out_of_state_ends_the_connection() -> None:
    """A verifier before its request, though well formed; the same frame is welcome in its own state."""
    clinic = Clinic()
    doctor, puppet = at_state(State.AWAIT_VERIFIER, clinic)
    fresh = clinic.doctor_connection()
    verifier = puppet.session_verifier(doctor.data_to_send())

    fresh.receive_data(verifier, NOW)
    doctor.receive_data(verifier, NOW)

    assert outcome(fresh).verdict == ("V-005", AlertCode.MALFORMED, False)
    assert doctor.state is State.ADMITTING


@pytest.mark.parametrize("state", HANDSHAKE)
def test_v006_a_stream_that_ends_inside_a_frame_is_a_fault(state: State) -> None:
    """Between frames it is just an end. While the roster decides, whatever waits was not even looked at."""
    clinic = Clinic()
    (cut, puppet), (whole, _) = at_state(state, clinic), at_state(state, clinic)
    cut.receive_data(b"\x01", NOW)

    cut.receive_eof(NOW)
    whole.receive_eof(NOW)

    assert (whole.state, whole.take_events()) == (State.CLOSED, [])
    if state is State.ADMITTING:
        assert (cut.state, cut.take_events()) == (State.CLOSED, [])
    else:
        alert_key = puppet.alert_key if hasattr(puppet, "alert_key") else None
        assert outcome(cut, alert_key).verdict == ("V-006", AlertCode.MALFORMED, alert_key is not None)


def test_v007_input_that_waits_for_an_admission_is_bounded() -> None:
    """One frame of the authenticated cap, and not a byte more."""
    clinic = Clinic()
    doctor, puppet = at_state(State.ADMITTING, clinic)

    doctor.receive_data(bytes(AUTHENTICATED_LIMIT + 6), NOW)
    assert doctor.state is State.ADMITTING
    doctor.receive_data(b"\0", NOW)

    assert outcome(doctor, puppet.alert_key).verdict == ("V-007", AlertCode.MALFORMED, True)
    assert len(doctor._buffer) == 0


def test_input_that_came_before_the_admission_is_read_after_it() -> None:
    """A patient sends its first receipt right behind its verifier."""
    clinic = Clinic()
    doctor, puppet = at_state(State.ADMITTING, clinic)
    doctor.receive_data(puppet.record(Opcode.RECEIPT, Receipt([])), NOW)
    assert doctor.take_events() == []

    doctor.admit(NOW)

    assert only(Positioned, doctor.take_events()) == Positioned(())
    assert doctor.state is State.ESTABLISHED


@pytest.mark.parametrize("state", [state for state in HANDSHAKE if state is not State.ADMITTING])
def test_v008_a_handshake_ends_within_ten_seconds(state: State) -> None:
    """In every state before ESTABLISHED, the wait for the first receipt included; a millisecond earlier nothing happens."""
    clinic = Clinic()
    doctor, puppet = at_state(state, clinic)
    assert doctor.next_deadline() == 10_000

    doctor.handle_timeout(clinic.clock.advance(9_999))
    assert doctor.state is state
    doctor.handle_timeout(clinic.clock.advance(1))

    alert_key = puppet.alert_key if hasattr(puppet, "alert_key") else None
    assert outcome(doctor, alert_key).verdict == ("V-008", AlertCode.BUSY, alert_key is not None)
    assert doctor.next_deadline() is None


def test_v008_an_admission_that_takes_too_long_ends_without_a_word() -> None:
    """The transaction may still commit: an alert would tell the patient that it has not."""
    clinic = Clinic()
    doctor, _ = at_state(State.ADMITTING, clinic)
    assert doctor.next_deadline() == 10_000

    doctor.handle_timeout(clinic.clock.advance(9_999))
    assert doctor.state is State.ADMITTING
    doctor.handle_timeout(clinic.clock.advance(1))

    assert (doctor.state, doctor.data_to_send(), doctor.next_deadline()) == (State.CLOSED, b"", None)
    doctor.admit(clinic.clock.now)
    assert (doctor.state, doctor.data_to_send(), doctor.take_events()) == (State.CLOSED, b"", [])


def test_v008_bytes_do_not_extend_the_deadline() -> None:
    """It is absolute: one byte a second gains nothing."""
    clinic = Clinic()
    doctor = clinic.doctor_connection()
    hello = PuppetPatient(clinic.patient(), clinic.clock, clinic.random).key_exchange()
    for second in range(10):
        doctor.receive_data(hello[second : second + 1], clinic.clock.now)
        clinic.clock.advance(1_000)
        doctor.handle_timeout(clinic.clock.now)

    assert only(Failed, doctor.take_events()).check is Check.HANDSHAKE_DEADLINE


def test_a_program_may_fail_a_connection_for_a_check_of_its_own() -> None:
    """V-090 is applied where the receipts are stored; the peer is told the code, the log the cause."""
    link = Clinic().link().run()

    link.doctor.fail(Check.RECEIPT_ISSUED, "number 9 of group:everyone", NOW)
    link.run()

    assert only(Failed, link.doctor_events).detail == "number 9 of group:everyone"
    assert only(Failed, link.doctor_events).patient_id == "patient-a"
    assert only(Alerted, link.patient_events) == Alerted(AlertCode.REFUSED, WALL, authentic=True)
    assert link.states == (State.CLOSED, State.FAILED)


def test_v090_a_receipt_of_numbers_never_issued_ends_the_session() -> None:
    """The connection hands receipts on unjudged; a receipt of issued numbers leaves it alone."""
    link = Clinic().link().run()
    issued = {EVERYONE: 7}
    for number in (7, 8):
        link.patient.acknowledge([Position(EVERYONE, number, [])])
        link.run()
        (position,) = events_of(Receipted, link.doctor_events)[-1].positions
        if position.last > issued[position.stream]:
            link.doctor.fail(Check.RECEIPT_ISSUED, f"{position.stream}: {position.last}", NOW)
        assert link.doctor.state is (State.ESTABLISHED if number == 7 else State.FAILED)

    link.run()

    assert only(Failed, link.doctor_events).check is Check.RECEIPT_ISSUED
    assert only(Alerted, link.patient_events).code is AlertCode.REFUSED


# Alerts


def test_an_alert_to_a_stranger_is_clear_and_coarse() -> None:
    """What only a proven peer may know becomes `refused`."""
    for check in (Check.NOT_REVOKED, Check.INVITATION_UNUSED, Check.INVITATION_VALID):
        doctor, _ = at_state(State.AWAIT_AUTH_REQUEST, Clinic())
        doctor.fail(check, "told to nobody", NOW)

        assert outcome(doctor).verdict == (check.number, AlertCode.REFUSED, False)


def test_an_alert_to_a_proven_patient_is_sealed_for_it_alone() -> None:
    """From the request's signature on; neither a listener nor the key of another handshake opens it."""
    clinic = Clinic()
    device = clinic.patient(standing=Standing.REVOKED)
    link = clinic.link(device).run()
    alert = link.sent[Direction.RECEIVED][-1]
    other = clinic.patient_connection(clinic.patient("patient-b"))
    other.receive_data(PuppetDoctor(clinic, clinic.patient("patient-b")).reply(other.data_to_send()), NOW)

    other.receive_data(alert, NOW)

    assert only(Alerted, link.patient_events) == Alerted(AlertCode.REVOKED, WALL, authentic=True)
    assert messages.decode(Alert, alert[6:]).code is AlertCode.SEALED
    assert only(Failed, other.take_events()).check is Check.RECORD_OPENS


def test_a_clear_alert_is_a_hint() -> None:
    """Anyone on the way can send one: it ends the connection and says nothing for certain, its clock least of all."""
    for code in (AlertCode.REVOKED, AlertCode.BUSY):
        clinic = Clinic()
        patient = clinic.patient_connection(clinic.patient())
        patient.receive_data(build(Opcode.ALERT, messages.encode(Alert(code, 12345, b""))), NOW)

        assert only(Alerted, patient.take_events()) == Alerted(code, 0, authentic=False)
        assert patient.state is State.CLOSED


def test_v070_a_sealed_alert_needs_a_key() -> None:
    """Before there is one nobody can have sealed it; a patient never seals one in a handshake."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    sealed = build(Opcode.ALERT, messages.encode(Alert(AlertCode.SEALED, 0, bytes(40))))
    doctor, _ = at_state(State.AWAIT_VERIFIER, clinic)

    patient.receive_data(sealed, NOW)
    doctor.receive_data(sealed, NOW)

    assert only(Failed, patient.take_events()).check is Check.RECORD_OPENS
    assert only(Failed, doctor.take_events()).check is Check.RECORD_OPENS


def test_v004_an_alert_inside_a_seal_has_a_code() -> None:
    """SEALED inside SEALED would be an authentic nothing."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    patient.receive_data(puppet.reply(patient.data_to_send()), NOW)
    puppet.open_request(patient.data_to_send())

    patient.receive_data(puppet.alert(AlertCode.SEALED), NOW)

    assert only(Failed, patient.take_events()).check is Check.PAYLOAD_CANONICAL


def test_the_patients_alert_never_uses_the_doctors_alert_key() -> None:
    """Key and nonce would seal two texts. Fail the patient in each state of the handshake: its alert is clear or a record."""
    for reached in ("reply", "response", "confirmed"):
        clinic = Clinic()
        device = clinic.patient()
        patient = clinic.patient_connection(device)
        puppet = PuppetDoctor(clinic, device)
        if reached != "reply":
            patient.receive_data(puppet.reply(patient.data_to_send()), NOW)
        if reached == "confirmed":
            patient.receive_data(puppet.response(patient.data_to_send()), NOW)
            puppet.opener.open(frame_of(split(patient.data_to_send())[1]))
            puppet.opener.advance()
        patient.data_to_send()

        patient.fail(Check.RESPONSE_CLOCK, "whatever", NOW)

        frame = frame_of(patient.data_to_send())
        assert frame.opcode is Opcode.ALERT
        if reached == "confirmed":
            alert = messages.decode(Alert, puppet.opener.open(frame))
            assert (alert.code, alert.sealed) == (AlertCode.CLOCK, b"")
        else:
            assert messages.decode(Alert, frame.payload) == Alert(AlertCode.CLOCK, 0, b"")
        assert patient._alert_key is None


def test_after_the_first_record_an_alert_is_a_record() -> None:
    """The alert key is not used any more, on either side."""
    link = Clinic().link().run()
    doctor = link.doctor

    doctor.fail(Check.RECEIPT_ISSUED, "x", NOW)
    frame = frame_of(doctor.data_to_send())
    link.patient.receive_data(frame.data, NOW)

    assert len(frame.payload) == 256 + 16
    assert only(Alerted, link.patient.take_events()).authentic


def test_a_patients_alert_reaches_an_established_doctor_as_a_record() -> None:
    """The other direction."""
    link = Clinic().link().run()

    link.patient.fail(Check.EPOCH_NOT_SKIPPED, "x", NOW)
    link.run()

    assert only(Alerted, link.doctor_events) == Alerted(AlertCode.REFUSED, WALL, authentic=True)
    assert link.states == (State.FAILED, State.CLOSED)


# The end in good order, silence, misuse


@pytest.mark.parametrize("reason", DisconnectReason)
def test_a_disconnect_tells_the_reason(reason: DisconnectReason) -> None:
    """A sealed record; both sides are closed."""
    link = Clinic().link().run()

    link.doctor.disconnect(reason)
    link.run()

    assert only(Disconnected, link.patient_events).reason is reason
    assert link.states == (State.CLOSED, State.CLOSED)


@pytest.mark.parametrize("state", HANDSHAKE)
def test_a_disconnect_before_there_is_a_session_just_closes(state: State) -> None:
    """There is nobody yet to whom a reason could be told."""
    doctor, _ = at_state(state, Clinic())
    doctor.data_to_send()

    doctor.disconnect(DisconnectReason.CLOSING)

    assert (doctor.state, doctor.data_to_send()) == (State.CLOSED, b"")


def test_a_patient_that_waits_for_its_admission_may_leave() -> None:
    """Its goodbye is read after the admission."""
    clinic = Clinic()
    link = clinic.link(admit=False).run()

    link.patient.disconnect(DisconnectReason.CLOSING)
    link.run()
    link.doctor.admit(NOW)
    link.greet = lambda doctor: None
    link.run()

    assert only(Disconnected, link.doctor_events).reason is DisconnectReason.CLOSING


def test_silence_ends_an_established_connection() -> None:
    """The doctor hears nothing for 60 s; whatever comes in starts the time anew."""
    clinic = Clinic()
    doctor, puppet = at_state(State.ESTABLISHED, clinic)
    assert doctor.next_deadline() == 60_000
    doctor.receive_data(puppet.record(Opcode.RECEIPT, Receipt([])), clinic.clock.advance(30_000))

    doctor.handle_timeout(clinic.clock.advance(30_000))
    assert (doctor.state, doctor.next_deadline()) == (State.ESTABLISHED, 90_000)
    doctor.handle_timeout(clinic.clock.advance(30_000))

    assert doctor.state is State.CLOSED


def test_a_patient_pings_and_is_answered() -> None:
    """Every 20 s, so both sides know that the other is there; without an answer it gives up after 60 s."""
    clinic = Clinic()
    link = clinic.link().run()
    for _ in range(6):
        clinic.clock.advance(20_000)
        link.patient.handle_timeout(clinic.clock.now)
        link.doctor.handle_timeout(clinic.clock.now)
        link.run()
    assert link.states == ESTABLISHED

    sent = []
    for _ in range(3):
        clinic.clock.advance(20_000)
        link.patient.handle_timeout(clinic.clock.now)
        sent.append(len(split(link.patient.data_to_send())))

    assert sent == [1, 1, 0]
    assert link.patient.state is State.CLOSED
    opcodes = [frame[1] for frame in link.sent[Direction.SENT]]
    assert opcodes.count(Opcode.PING) == 6
    assert [frame[1] for frame in link.sent[Direction.RECEIVED]].count(Opcode.PONG) == 6


def test_the_doctor_may_ping_too() -> None:
    """PING means the same both ways, and confirms a session like any record."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    puppet.confirm(patient)

    patient.receive_data(puppet.record(Opcode.PING, Ping(b"12345678")), NOW)
    puppet.opener.advance()

    assert messages.decode(Pong, puppet.opener.open(frame_of(patient.data_to_send()))).token == b"12345678"
    assert patient.state is State.ESTABLISHED


def test_an_ended_connection_takes_everything_quietly() -> None:
    """The program cannot know in time that it has ended."""
    doctor, _ = at_state(State.AWAIT_AUTH_REQUEST, Clinic())
    doctor.fail(Check.ADMISSION, "x", NOW)
    doctor.data_to_send()
    doctor.take_events()

    doctor.receive_data(b"\x01", NOW)
    doctor.receive_eof(NOW)
    doctor.handle_timeout(NOW._replace(elapsed=99_999))
    doctor.fail(Check.ADMISSION, "x", NOW)
    doctor.disconnect(DisconnectReason.CLOSING)

    assert (doctor.take_events(), doctor.data_to_send(), doctor.next_deadline()) == ([], b"", None)
    assert doctor.state is State.FAILED


def test_records_out_of_turn_are_our_error() -> None:
    """The program asked for what the table does not allow; nothing was sent."""
    clinic = Clinic()
    doctor, _ = at_state(State.AWAIT_POSITION, clinic)
    patient = clinic.patient_connection(clinic.patient())
    patient.data_to_send()

    with pytest.raises(LocalError, match="GROUP_KEY may not be sent in state await-position"):
        doctor.send_group_key(clinic.epoch(), 0)
    with pytest.raises(LocalError, match="DIRECT may not be sent"):
        doctor.send_direct(0, clinic.sign(1, 0))
    with pytest.raises(LocalError, match="RECEIPT may not be sent in state await-reply"):
        patient.acknowledge([])
    doctor.data_to_send()
    assert (doctor.data_to_send(), patient.data_to_send()) == (b"", b"")


def test_a_role_that_reads_no_messages_is_no_connection() -> None:
    """The base class is not used by itself."""
    with pytest.raises(NotImplementedError):
        Connection(Role.DOCTOR, NOW).receive_data(build(Opcode.KEY_EXCHANGE, b""), NOW)
