"""Attacks on the handshake, each shown to work where its defence is off and to fail for the named reason where it is on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec.structs import replace as changed

from shared.crypto.aead import Aead
from shared.crypto.padding import pad, unpad
from shared.crypto.suites import DEFAULT_SUITE, SUITES, SuiteId
from shared.protocol import key_schedule
from shared.protocol.clock import SECOND
from shared.protocol.connection import Connection
from shared.protocol.events import Direction, Dropped, Failed, MessageReceived
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.protocol.transitions import State
from shared.wire import messages
from shared.wire.checks import Check
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import AuthProof, AuthRequest, KeyExchange, KeyExchangeReply
from shared.wire.opcodes import Opcode
from tests.protocol_bench import ESTABLISHED, Clinic, Device, events_of, only, outcome
from tests.protocol_puppets import PuppetDoctor, PuppetPatient, build, seal_pair

P256 = SUITES[SuiteId.ELGAMAL_P256]


def failure(connection: Connection) -> Check | None:
    """The check that a connection failed, if any."""
    failed = events_of(Failed, connection.take_events())
    return failed[0].check if failed else None


@pytest.mark.parametrize("pin", ["the doctor's key", "the attacker's key"])
def test_a_man_in_the_middle_with_keys_of_his_own(pin: str) -> None:
    """He answers for the doctor. Without a pin he has the session key and the patient obeys him; with it: V-021."""
    doctor, mallory = Clinic("doctor"), Clinic("mallory")
    victim_of = mallory if pin == "the attacker's key" else doctor
    device = victim_of.patient("patient-a", P256)
    patient = victim_of.patient_connection(device)
    puppet = PuppetDoctor(mallory, device)
    patient.receive_data(puppet.reply(patient.data_to_send()), mallory.clock.now)

    if victim_of is doctor:
        assert outcome(patient).verdict == ("V-021", Check.PREKEY_SIGNATURE.alert, False)
        return
    patient.receive_data(puppet.response(patient.data_to_send()), mallory.clock.now)
    epoch = mallory.epoch()
    patient.receive_data(puppet.record(Opcode.GROUP_KEY, epoch.group_key(0)), mallory.clock.now)
    patient.receive_data(epoch.seal(0, mallory.sign(1, 0, b"take all of them")), mallory.clock.now)
    assert only(MessageReceived, patient.take_events()).body == b"take all of them"


def forwarded(doctor: Clinic, mallory: Clinic, device: Device) -> Check | None:
    """Mallory, whom the patient trusts as a doctor, passes the patient's claims and signature on to the honest doctor.

    She opens the request that was made for her and seals the same proof to the honest doctor's prekey.
    """
    patient = mallory.patient_connection(device)
    puppet = PuppetDoctor(mallory, device)
    target = doctor.doctor_connection()
    m1 = patient.data_to_send()
    target.receive_data(m1, doctor.clock.now)
    m2 = target.data_to_send()
    patient.receive_data(puppet.reply(m1), mallory.clock.now)
    m3 = patient.data_to_send()
    puppet.open_request(m3)

    request = messages.decode(AuthRequest, m3[HEADER_SIZE:])
    k1 = key_schedule.key_1(puppet.ss_d, key_schedule.transcript_1(m1, puppet.m2), request.kem_ciphertext)
    proof = unpad(Aead(k1).open(0, request.sealed, m3[:HEADER_SIZE]))
    reply = messages.decode(KeyExchangeReply, m2[HEADER_SIZE:])
    ct, ss = P256.kem.encapsulate(reply.kem_public, doctor.random)
    sealed_for = key_schedule.key_1(ss, key_schedule.transcript_1(m1, m2), ct)
    forged = seal_pair(Opcode.AUTH_REQUEST, AuthRequest, ct, sealed_for, pad(proof, P256.handshake_padding))
    target.receive_data(forged, doctor.clock.now)
    return failure(target)


def test_a_trusted_doctor_cannot_pass_its_patient_on_to_another() -> None:
    """Misbinding, Lowe's attack: the claims name the doctor they were made for (V-032)."""
    doctor, mallory = Clinic("doctor"), Clinic("mallory", doctor_id="mallory")
    device = doctor.patient("patient-a", P256)
    trusting = mallory.patient("patient-a", P256, key=device.identity.key)

    assert forwarded(doctor, mallory, trusting) is Check.REQUEST_DOCTOR


def test_nor_if_it_bears_the_same_name() -> None:
    """With the name's defence off, the signature still covers the transcript with Mallory's prekey in it (V-036)."""
    doctor, mallory = Clinic("doctor"), Clinic("mallory")
    device = doctor.patient("patient-a", P256)
    trusting = mallory.patient("patient-a", P256, key=device.identity.key)

    assert forwarded(doctor, mallory, trusting) is Check.REQUEST_SIGNATURE


@pytest.mark.parametrize("own_suite", [SuiteId.ELGAMAL_P256, SuiteId.ELGAMAL_P256_MLKEM768])
def test_a_downgrade_to_a_weaker_suite(own_suite: SuiteId) -> None:
    """The attacker rewrites KEY_EXCHANGE to suite 2. A patient of suite 2 goes on; one of suite 3 sees another statement."""
    clinic = Clinic()
    device = clinic.patient(suite=SUITES[own_suite])
    patient, doctor = clinic.patient_connection(device), clinic.doctor_connection()
    hello = messages.decode(KeyExchange, patient.data_to_send()[HEADER_SIZE:])
    weak = changed(hello, suite=2, kem_public=P256.kem.generate(clinic.random).public)
    doctor.receive_data(build(Opcode.KEY_EXCHANGE, messages.encode(weak)), clinic.clock.now)

    patient.receive_data(doctor.data_to_send(), clinic.clock.now)

    if own_suite is SuiteId.ELGAMAL_P256:
        assert patient.state is State.AWAIT_RESPONSE
        doctor.receive_data(patient.data_to_send(), clinic.clock.now)
        assert failure(doctor) is Check.REQUEST_OPENS  # the swapped ephemeral key is in the transcript
    else:
        assert failure(patient) is Check.PREKEY_SIGNATURE


def taped(clinic: Clinic, device: Device) -> dict[str, bytes]:
    """Every message of one honest session."""
    link = clinic.link(device).run()
    assert link.states == ESTABLISHED
    (m1, m3, m5, receipt), (m2, m4, group_key) = link.sent[Direction.SENT], link.sent[Direction.RECEIVED]
    return {"M1": m1, "M2": m2, "M3": m3, "M4": m4, "M5": m5, "RECEIPT": receipt, "GROUP_KEY": group_key}


def restarted(clinic: Clinic) -> None:
    """The doctor starts anew: same identity, empty memory."""
    ring = PrekeyRing(clinic.practice.doctor_id, clinic.keys, clinic.random)
    clinic.practice = replace(clinic.practice, prekeys=ring, replays=ReplayCache(60 * SECOND))


@pytest.mark.parametrize("context", ["new connection", "doctor restarted", "clock set back"])
def test_a_whole_session_replayed_to_the_doctor(context: str) -> None:
    """The doctor's fresh nonce and prekey are in the transcript, so M3 does not open, in memory of it or not."""
    clinic = Clinic()
    tape = taped(clinic, clinic.patient(suite=P256))
    if context == "doctor restarted":
        restarted(clinic)
    if context == "clock set back":
        clinic.clock.jump(-5 * SECOND)
    doctor = clinic.doctor_connection()
    for name in ("M1", "M3", "M5", "RECEIPT"):
        doctor.receive_data(tape[name], clinic.clock.now)

    assert failure(doctor) is Check.REQUEST_OPENS
    assert doctor.state is State.FAILED


@pytest.mark.parametrize("name", ["M1", "M2", "M3", "M4", "M5", "RECEIPT", "GROUP_KEY"])
@pytest.mark.parametrize("role", ["patient", "doctor"])
def test_each_message_replayed_into_a_running_session(name: str, role: str) -> None:
    """Of the same session, to either side: a second copy, or its own message back (reflection)."""
    clinic = Clinic()
    link = clinic.link(clinic.patient(suite=P256)).run()
    sent = {**dict(zip(("M1", "M3", "M5", "RECEIPT"), link.sent[Direction.SENT], strict=True))}
    sent |= dict(zip(("M2", "M4", "GROUP_KEY"), link.sent[Direction.RECEIVED], strict=True))
    target: Connection = link.patient if role == "patient" else link.doctor

    target.receive_data(sent[name], clinic.clock.now)

    right_opcode = (name, role) in {("RECEIPT", "doctor"), ("GROUP_KEY", "patient")}
    assert failure(target) is (Check.RECORD_OPENS if right_opcode else Check.OPCODE_IN_STATE)


def test_each_reply_replayed_to_a_patient_that_connects_anew() -> None:
    """M2 is anybody's for a few seconds; the old M4 does not answer the new request, and a late M2 is stale."""
    clinic = Clinic()
    device = clinic.patient(suite=P256)
    tape = taped(clinic, device)
    patient = clinic.patient_connection(device)
    patient.receive_data(tape["M2"], clinic.clock.now)
    assert patient.state is State.AWAIT_RESPONSE
    patient.receive_data(tape["M4"], clinic.clock.now)

    late = clinic.patient_connection(device)
    late.receive_data(tape["M2"], clinic.clock.jump(61 * SECOND))

    assert failure(patient) is Check.RESPONSE_OPENS
    assert failure(late) is Check.PREKEY_FRESH


def test_another_patients_messages() -> None:
    """The end of one handshake spliced to the beginning of another."""
    clinic = Clinic()
    a, b = clinic.patient("patient-a", P256), clinic.patient("patient-b", P256)
    tape = taped(clinic, a)
    puppet, doctor = PuppetPatient(b, clinic.clock, clinic.random), clinic.doctor_connection()
    doctor.receive_data(puppet.key_exchange(), clinic.clock.now)
    doctor.receive_data(puppet.auth_request(doctor.data_to_send()), clinic.clock.now)
    doctor.receive_data(tape["M5"], clinic.clock.now)

    assert failure(doctor) is Check.VERIFIER_OPENS


def test_a_reflected_hello() -> None:
    """A patient that gets its own KEY_EXCHANGE back: the same format never flows both ways."""
    clinic = Clinic()
    patient = clinic.patient_connection(clinic.patient())

    patient.receive_data(patient.data_to_send(), clinic.clock.now)

    assert failure(patient) is Check.OPCODE_IN_STATE


def test_a_reflected_ping() -> None:
    """PING flows both ways, under a key for each."""
    clinic = Clinic()
    link = clinic.link().run()
    link.patient.handle_timeout(clinic.clock.advance(20 * SECOND))

    link.patient.receive_data(link.patient.data_to_send(), clinic.clock.now)

    assert failure(link.patient) is Check.RECORD_OPENS


def test_a_stolen_enrolment_mac() -> None:
    """An attacker who saw an enrolment's proof in one handshake (say, as its doctor's log) uses it with a key of his own."""
    clinic = Clinic()
    enrolment = clinic.invite("patient-new")
    device = clinic.patient("patient-new", P256, standing=None, enrolment=enrolment)
    owner, thief = (PuppetPatient(device, clinic.clock, clinic.random) for _ in range(2))
    doctors = [clinic.doctor_connection(), clinic.doctor_connection()]
    covered: list[bytes] = []
    for doctor, puppet in zip(doctors, (owner, thief), strict=True):
        doctor.receive_data(puppet.key_exchange(), clinic.clock.now)
        if puppet is owner:
            m3 = puppet.auth_request(doctor.data_to_send())
            covered.append(_mac_of(puppet, m3))
            doctor.receive_data(m3, clinic.clock.now)
        else:
            own = P256.signer.generate(clinic.random)
            m3 = puppet.auth_request(
                doctor.data_to_send(),
                claims={"public_key": own.public},
                key=own,
                proof={"enrolment_mac": covered[0]},
            )
            doctor.receive_data(m3, clinic.clock.now)

    assert failure(doctors[0]) is None
    assert failure(doctors[1]) is Check.ENROLMENT_MAC


def _mac_of(puppet: PuppetPatient, m3: bytes) -> bytes:
    request = messages.decode(AuthRequest, m3[HEADER_SIZE:])
    th_1 = key_schedule.transcript_1(puppet.m1, puppet.m2)
    k1 = key_schedule.key_1(puppet.ss_d, th_1, request.kem_ciphertext)
    proof = messages.decode(AuthProof, unpad(Aead(k1).open(0, request.sealed, m3[:HEADER_SIZE])))
    assert proof.enrolment_mac is not None
    return proof.enrolment_mac


def test_a_holder_of_the_invitation_can_enrol_once_for_its_id_only() -> None:
    """Positive control of the MAC: the secret is what admits; with it the same forged claims pass."""
    clinic = Clinic()
    device = clinic.patient("patient-new", P256, standing=None, enrolment=clinic.invite("patient-new"))
    own = P256.signer.generate(clinic.random)
    puppet, doctor = PuppetPatient(device, clinic.clock, clinic.random), clinic.doctor_connection()
    doctor.receive_data(puppet.key_exchange(), clinic.clock.now)
    doctor.receive_data(
        puppet.auth_request(doctor.data_to_send(), claims={"public_key": own.public}, key=own),
        clinic.clock.now,
    )

    assert failure(doctor) is None


def test_a_flood_of_bad_requests_leaves_a_running_session_alone() -> None:
    """Whoever fails, fails alone: another connection of the same patient is not touched, and its id is not locked."""
    clinic = Clinic()
    device = clinic.patient(suite=P256)
    live = clinic.link(device).run()
    stranger = P256.signer.generate(clinic.random)
    for _ in range(20):
        puppet, doctor = PuppetPatient(device, clinic.clock, clinic.random), clinic.doctor_connection()
        doctor.receive_data(puppet.key_exchange(), clinic.clock.now)
        doctor.receive_data(puppet.auth_request(doctor.data_to_send(), key=stranger), clinic.clock.now)
        assert failure(doctor) is Check.REQUEST_SIGNATURE

    live.doctor.send_direct(0, clinic.sign(1, 0))
    live.run()
    assert len(events_of(MessageReceived, live.patient_events)) == 1
    assert clinic.link(device).run().states == ESTABLISHED


def test_a_removed_member_reads_nothing_of_the_next_epoch() -> None:
    """It holds every earlier key; the new key id is none of them, and neither key opens the bytes."""
    clinic = Clinic()
    device = clinic.patient(suite=P256)
    puppet, patient = PuppetDoctor(clinic, device), None
    patient = clinic.patient_connection(device)
    epoch = puppet.establish(patient)
    following = clinic.epoch(2)
    frame = following.seal(0, clinic.sign(1, 0, b"not for you"))
    patient.take_events()

    patient.receive_data(frame, clinic.clock.now)
    relabelled = frame[:HEADER_SIZE] + epoch.key_id + frame[HEADER_SIZE + 16 :]
    patient.receive_data(relabelled, clinic.clock.now)

    assert [dropped.check for dropped in events_of(Dropped, patient.take_events())] == [
        Check.EPOCH_KEY_KNOWN,
        Check.BROADCAST_OPENS,
    ]


def test_the_verified_identity_is_the_one_that_signed() -> None:
    """Two patients connect at once over swapped streams: each is verified as itself or not at all."""
    clinic = Clinic()
    devices = [clinic.patient("patient-a", DEFAULT_SUITE), clinic.patient("patient-b", DEFAULT_SUITE)]
    patients = [clinic.patient_connection(device) for device in devices]
    doctors = [clinic.doctor_connection() for _ in devices]
    for patient, doctor in zip(patients, doctors, strict=True):
        doctor.receive_data(patient.data_to_send(), clinic.clock.now)
    for patient, doctor in zip(patients, reversed(doctors), strict=True):
        patient.receive_data(doctor.data_to_send(), clinic.clock.now)
    for patient, doctor in zip(patients, doctors, strict=True):
        doctor.receive_data(patient.data_to_send(), clinic.clock.now)

    assert [failure(doctor) for doctor in doctors] == [Check.REQUEST_OPENS] * 2
