"""The doctor's checks on a handshake. Each test shows an honest message that passes and one with a single flaw that fails.

The flawed message comes from a peer that holds the right keys and seals and signs what it changed, so that the checks before
the one under test pass, and the failure is for the named reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.crypto.kdf import Label
from shared.crypto.signatures import Signer
from shared.crypto.suites import SUITES, SuiteId
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import (
    Offer,
    OpenInvitation,
    Standing,
    answer_auth_request,
    open_auth_request,
)
from shared.protocol.events import Failed
from shared.protocol.invitations import derived_id
from shared.protocol.patient_handshake import Enrolment
from shared.protocol.transitions import State
from shared.wire.checks import Check, Checklist
from shared.wire.opcodes import AlertCode
from tests.crypto_tools import flip_bit
from tests.protocol_bench import WALL, Changes, Clinic, Device, Outcome, frame_of, only, outcome
from tests.protocol_puppets import NONE, PuppetPatient

REFUSED, CLOCK = AlertCode.REFUSED, AlertCode.CLOCK
P256 = SUITES[SuiteId.ELGAMAL_P256]
Requests = Callable[[PuppetPatient, bytes], bytes]


def request(
    clinic: Clinic,
    device: Device,
    make: Requests | None = None,
    *,
    claims: Changes = NONE,
    proof: Changes = NONE,
    hello: Changes = NONE,
) -> Outcome:
    """What a new connection of the doctor makes of one AUTH_REQUEST."""
    puppet = PuppetPatient(device, clinic.clock, clinic.random)
    doctor = clinic.doctor_connection()
    doctor.receive_data(puppet.key_exchange(**hello), clinic.clock.now)
    m2 = doctor.data_to_send()
    m3 = make(puppet, m2) if make else puppet.auth_request(m2, claims=claims, proof=proof)
    doctor.receive_data(m3, clinic.clock.now)
    return outcome(doctor, puppet.alert_key)


def accepted(result: Outcome, check: Check) -> bool:
    """Whether everything passed, this check among it."""
    return result.verdict is None and check in result.passed


def newcomer(clinic: Clinic, *, patient_id: str = "patient-new", **options: Any) -> Device:
    """A patient that is not on the roster, with an invitation made out to it."""
    enrolment = clinic.invite(patient_id, **options)
    return clinic.patient(patient_id, standing=None, enrolment=enrolment)


def test_v010_the_suite_is_known_and_allowed() -> None:
    """A suite that the doctor does not allow, and a number that is no suite, are refused before any key is made."""
    clinic = Clinic(suites=frozenset({SuiteId.ELGAMAL_P256}))
    allowed = request(clinic, clinic.patient("a", P256))
    results = []
    for suite in (SuiteId.ELGAMAL_P256_MLKEM768, 0, 99):
        doctor = clinic.doctor_connection()
        puppet = PuppetPatient(clinic.patient("b", P256), clinic.clock, clinic.random)
        doctor.receive_data(puppet.key_exchange(suite=suite), clinic.clock.now)
        results.append(outcome(doctor).verdict)

    assert accepted(allowed, Check.SUITE_ALLOWED)
    assert results == [("V-010", AlertCode.UNSUPPORTED, False)] * 3


def test_v011_a_doctor_that_waits_for_its_operator_is_busy() -> None:
    """It says so before any key is made, and lets the very same patient in once the operator has spoken."""
    clinic = Clinic()
    waits = replace(clinic.practice, admits=lambda: False)
    doctor = DoctorConnection(waits, clinic.clock.now)
    puppet = PuppetPatient(clinic.patient("a"), clinic.clock, clinic.random)
    doctor.receive_data(puppet.key_exchange(), clinic.clock.now)

    assert outcome(doctor).verdict == ("V-011", AlertCode.BUSY, False)
    assert accepted(request(clinic, clinic.patient("b")), Check.DOCTOR_ADMITS)


@pytest.mark.parametrize(("after", "held"), [(15_999, True), (16_000, False)])
def test_v030_a_request_to_an_erased_prekey_is_told_to_try_again(after: int, held: bool) -> None:
    """The prekey lives for 16 s after its first offer; the verdict is busy, not refused."""
    clinic = Clinic()
    clinic.practice.prekeys.offer(SuiteId.ELGAMAL_P256_MLKEM768, clinic.clock.now)
    clinic.clock.advance(4_999)  # the last moment at which it is still offered

    def late(puppet: PuppetPatient, m2: bytes) -> bytes:
        clinic.clock.advance(after - 4_999)
        return puppet.auth_request(m2)

    result = request(clinic, clinic.patient(), late)

    assert accepted(result, Check.PREKEY_HELD) is held
    assert result.verdict == (None if held else ("V-030", AlertCode.BUSY, False))


def test_v031_the_request_opens_under_k1() -> None:
    """A ciphertext of the wrong size, one for another key, and a changed seal all fail here."""
    clinic = Clinic()
    device = clinic.patient()
    other = clinic.practice.prekeys.offer(SuiteId.ELGAMAL_P256, clinic.clock.now)

    def outer(**changes: bytes) -> Requests:
        return lambda puppet, m2: puppet.auth_request(m2, outer=changes)

    def padding(puppet: PuppetPatient, m2: bytes) -> bytes:
        return puppet.auth_request(m2, plaintext=bytes(4) + b"\x01" * 508)

    flawed = [
        outer(kem_ciphertext=b""),
        outer(kem_ciphertext=other.public),
        outer(sealed=bytes(528)),
        padding,
    ]

    assert accepted(request(clinic, device), Check.REQUEST_OPENS)
    assert [request(clinic, device, flaw).verdict for flaw in flawed] == [("V-031", REFUSED, False)] * 4


def test_v032_the_request_names_this_doctor() -> None:
    """A request that a patient meant for another doctor cannot be forwarded."""
    clinic = Clinic()
    device = clinic.patient()

    assert accepted(request(clinic, device), Check.REQUEST_DOCTOR)
    assert request(clinic, device, claims={"doctor_id": "another"}).verdict == ("V-032", REFUSED, False)


def test_v033_the_key_is_of_the_suites_algorithm() -> None:
    """An ECDSA patient cannot come by the Schnorr suite's number, nor by one that is none."""
    clinic = Clinic()
    device = clinic.patient()

    assert accepted(request(clinic, device), Check.REQUEST_ALGORITHM)
    assert request(clinic, device, claims={"algorithm": 2}).verdict == ("V-033", REFUSED, False)
    assert request(clinic, device, claims={"algorithm": 77}).verdict == ("V-033", REFUSED, False)


def test_v034_an_enrolling_patient_proves_the_secret() -> None:
    """No MAC, a wrong one, another invitation's id: all alike, in clear, so that an outsider learns nothing."""
    clinic = Clinic()
    device = newcomer(clinic)
    flawed = [
        request(clinic, device, proof={"enrolment_mac": None}),
        request(clinic, device, proof={"enrolment_mac": bytes(32)}),
        request(clinic, device, claims={"invitation_id": bytes(16)}),
    ]

    assert accepted(request(clinic, device), Check.ENROLMENT_MAC)
    assert [result.verdict for result in flawed] == [("V-034", REFUSED, False)] * 3


def test_v034_the_mac_covers_the_transcript() -> None:
    """A MAC seen in one handshake is worth nothing in the next."""
    clinic = Clinic()
    device = newcomer(clinic)
    secret = device.identity.enrolment
    assert secret is not None
    liar = replace(
        device, identity=replace(device.identity, enrolment=Enrolment(secret.invitation_id, b"x" * 32))
    )

    assert request(clinic, liar).verdict == ("V-034", REFUSED, False)


def test_v035_an_unknown_id_is_refused() -> None:
    """Not on the roster and no invitation."""
    clinic = Clinic()

    assert accepted(request(clinic, clinic.patient()), Check.ROSTER_KEY)
    assert request(clinic, clinic.patient("nobody", standing=None)).verdict == ("V-035", REFUSED, False)


def test_v035_a_second_key_for_an_id_is_refused() -> None:
    """An id never takes another key, not even with an invitation."""
    clinic = Clinic()
    clinic.patient("patient-a")
    intruder = clinic.patient("patient-a", standing=None, enrolment=clinic.invite("patient-a"))
    doctor = clinic.doctor_connection()
    puppet = PuppetPatient(intruder, clinic.clock, clinic.random)
    doctor.receive_data(puppet.key_exchange(), clinic.clock.now)
    doctor.receive_data(puppet.auth_request(doctor.data_to_send()), clinic.clock.now)

    failed = only(Failed, doctor.take_events())

    assert failed.check is Check.ROSTER_KEY
    assert "another key than the roster's" in failed.detail
    assert intruder.reader.patient_fingerprint in failed.detail  # so that the operator can see who it was
    assert failed.patient_id is None  # nothing was proved


def test_v036_the_request_is_signed_by_the_patients_key() -> None:
    """Signed by somebody else, not signed, or signed over other claims."""
    clinic = Clinic()
    device, other = clinic.patient(), clinic.patient("patient-b")

    def foreign(puppet: PuppetPatient, m2: bytes) -> bytes:
        return puppet.auth_request(m2, key=other.identity.key)

    assert accepted(request(clinic, device), Check.REQUEST_SIGNATURE)
    assert request(clinic, device, foreign).verdict == ("V-036", REFUSED, False)
    assert request(clinic, device, proof={"signature": b""}).verdict == ("V-036", REFUSED, False)
    assert request(clinic, device, proof={"signature": bytes(64)}).verdict == ("V-036", REFUSED, False)


def test_v036_an_enrolling_key_that_is_no_key_verifies_nothing() -> None:
    """A malformed public key under a valid MAC fails like a bad signature."""
    clinic = Clinic()

    result = request(clinic, newcomer(clinic), claims={"public_key": b"\x04" * 65})

    assert result.verdict == ("V-036", REFUSED, False)


@pytest.mark.parametrize("standing", [Standing.ACTIVE, Standing.RETIRED, Standing.REVOKED])
def test_v037_a_revoked_patient_is_told_so_under_seal(standing: Standing) -> None:
    """Only the revoked key's holder learns it; a retired patient may come back."""
    clinic = Clinic()

    result = request(clinic, clinic.patient(standing=standing))

    revoked = standing is Standing.REVOKED
    assert accepted(result, Check.NOT_REVOKED) is not revoked
    assert result.verdict == (("V-037", AlertCode.REVOKED, True) if revoked else None)


def test_v037_a_revoked_key_enrols_under_no_other_id() -> None:
    """The tombstone holds the key as well as the id."""
    clinic = Clinic()
    key = clinic.patient("patient-a", standing=Standing.REVOKED).identity.key
    again = clinic.patient("patient-b", key=key, standing=None, enrolment=clinic.invite("patient-b"))

    assert request(clinic, again).verdict == ("V-037", AlertCode.REVOKED, True)


@pytest.mark.parametrize("skew", [-30_001, -30_000, 30_000, 30_001])
def test_v038_the_requests_timestamp_lies_within_30_s(skew: int) -> None:
    """Both edges of the window; the alert is sealed and carries the doctor's clock."""
    clinic = Clinic()

    result = request(clinic, clinic.patient(), claims={"timestamp": WALL + skew})

    inside = abs(skew) <= 30_000
    assert accepted(result, Check.REQUEST_CLOCK) is inside
    assert result.verdict == (None if inside else ("V-038", CLOCK, True))


def test_v039_a_nonce_is_used_once() -> None:
    """A second request with a nonce that has been accepted is refused, also on a new connection."""
    clinic = Clinic()
    device = clinic.patient()
    nonce = {"nonce": b"n" * 32}

    first, second = request(clinic, device, claims=nonce), request(clinic, device, claims=nonce)

    assert accepted(first, Check.REQUEST_FRESH)
    assert second.verdict == ("V-039", REFUSED, True)


def test_v039_a_nonce_counts_for_the_patient_that_used_it_and_only_when_proved() -> None:
    """Neither another patient nor somebody who cannot sign can use up a patient's nonce."""
    clinic = Clinic()
    a, b = clinic.patient("patient-a"), clinic.patient("patient-b")
    nonce = {"nonce": b"n" * 32}
    request(clinic, b, claims=nonce)
    request(clinic, a, claims=nonce, proof={"signature": bytes(64)})

    assert accepted(request(clinic, a, claims=nonce), Check.REQUEST_FRESH)


@pytest.mark.parametrize(("expires", "valid"), [(WALL - 1, False), (WALL, True), (0, True)])
def test_v040_an_expired_invitation_is_named_under_seal(expires: int, valid: bool) -> None:
    """Until its last millisecond it is valid; 0 is never."""
    clinic = Clinic()

    result = request(clinic, newcomer(clinic, expires=expires))

    assert accepted(result, Check.INVITATION_VALID) is valid
    assert result.verdict == (None if valid else ("V-040", AlertCode.INVITATION_EXPIRED, True))


@pytest.mark.parametrize("uses", [0, 1])
def test_v041_a_used_invitation_is_named_under_seal(uses: int) -> None:
    """The count decides."""
    clinic = Clinic()

    result = request(clinic, newcomer(clinic, uses=uses))

    assert accepted(result, Check.INVITATION_UNUSED) is bool(uses)
    assert result.verdict == (None if uses else ("V-041", AlertCode.INVITATION_USED, True))


def test_v042_an_invitation_admits_the_id_it_names() -> None:
    """Not another one."""
    clinic = Clinic()
    other = clinic.patient("patient-x", standing=None, enrolment=clinic.invite("patient-new"))

    assert accepted(request(clinic, newcomer(clinic)), Check.INVITATION_ID)
    assert request(clinic, other).verdict == ("V-042", REFUSED, True)


def test_v042_a_fleet_invitation_admits_derived_ids_only() -> None:
    """An id that somebody chose is refused, the one that follows from the key is admitted."""
    clinic = Clinic()
    fleet = clinic.invite(None, uses=9)
    chosen = clinic.patient("ward-king", standing=None, enrolment=fleet)
    name = derived_id(chosen.reader.patient_fingerprint)
    derived = clinic.patient(name, key=chosen.identity.key, standing=None, enrolment=fleet)

    assert request(clinic, chosen).verdict == ("V-042", REFUSED, True)
    assert accepted(request(clinic, derived), Check.INVITATION_ID)


def test_v043_a_key_never_takes_a_second_id() -> None:
    """The roster knows the key already."""
    clinic = Clinic()
    key = clinic.patient("patient-a").identity.key
    twice = clinic.patient("patient-b", key=key, standing=None, enrolment=clinic.invite("patient-b"))

    assert accepted(request(clinic, newcomer(clinic)), Check.KEY_UNCLAIMED)
    assert request(clinic, twice).verdict == ("V-043", REFUSED, True)


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_v044_the_patients_ephemeral_key_is_an_element(suite: Any) -> None:
    """Empty, zeros, ones, and a good key with one bit changed at its end."""
    clinic = Clinic()
    device = clinic.patient(suite=suite)
    size = suite.kem.public_size
    good = suite.kem.generate(clinic.random).public
    bad = [b"", bytes(size), b"\xff" * size, flip_bit(good, 8 * size - 8) if suite.id > 1 else good[:-1]]

    results = [request(clinic, device, hello={"kem_public": value}) for value in bad]

    assert accepted(request(clinic, device), Check.PATIENT_ELEMENT)
    assert [result.verdict for result in results] == [("V-044", REFUSED, True)] * 4


def verify(clinic: Clinic, **changes: Any) -> Outcome:
    """What a new connection of the doctor makes of one SESSION_VERIFIER."""
    puppet = PuppetPatient(clinic.patient(), clinic.clock, clinic.random)
    doctor = clinic.doctor_connection()
    now = clinic.clock.now
    doctor.receive_data(puppet.key_exchange(), now)
    doctor.receive_data(puppet.auth_request(doctor.data_to_send()), now)
    doctor.receive_data(puppet.session_verifier(doctor.data_to_send(), **changes), now)
    return outcome(doctor, puppet.alert_key)


def test_v060_the_verifier_opens_under_k3() -> None:
    """Sealed under any other key it does not."""
    assert accepted(verify(Clinic()), Check.VERIFIER_OPENS)
    assert verify(Clinic(), key=b"k" * 32).verdict == ("V-060", REFUSED, True)


def test_v061_the_patient_proves_the_session_key() -> None:
    """A confirmation that is not the MAC over timestamp and transcript is refused."""
    assert accepted(verify(Clinic()), Check.VERIFIER_CONFIRMS)
    assert verify(Clinic(), confirmation=bytes(32)).verdict == ("V-061", REFUSED, True)


@pytest.mark.parametrize("skew", [-30_001, -30_000, 30_000, 30_001])
def test_v062_the_verifiers_timestamp_lies_within_30_s(skew: int) -> None:
    """Both edges, with a MAC that covers the wrong time."""
    result = verify(Clinic(), timestamp=WALL + skew)

    inside = abs(skew) <= 30_000
    assert accepted(result, Check.VERIFIER_CLOCK) is inside
    assert result.verdict == (None if inside else ("V-062", CLOCK, True))


def test_v063_the_rosters_transaction_has_the_last_word() -> None:
    """Two patients race for the last use of an invitation: both are verified, one is admitted, the other is told."""
    clinic = Clinic()
    enrolment = clinic.invite(None, uses=1)
    doctors = []
    for _ in range(2):
        key = P256.signer.generate(clinic.random)
        name = derived_id(clinic.patient("probe", key=key, standing=None).reader.patient_fingerprint)
        device = clinic.patient(name, key=key, standing=None, enrolment=enrolment)
        puppet = PuppetPatient(device, clinic.clock, clinic.random)
        doctor = clinic.doctor_connection()
        now = clinic.clock.now
        doctor.receive_data(puppet.key_exchange(), now)
        doctor.receive_data(puppet.auth_request(doctor.data_to_send()), now)
        doctor.receive_data(puppet.session_verifier(doctor.data_to_send()), now)
        doctors.append((doctor, puppet))
    (winner, _), (loser, puppet) = doctors
    assert [doctor.state for doctor, _ in doctors] == [State.ADMITTING] * 2

    winner.admit(clinic.clock.now)
    loser.refuse(Check.ADMISSION, "the invitation was used meanwhile", clinic.clock.now)

    assert winner.state is State.AWAIT_POSITION
    assert outcome(loser, puppet.alert_key).verdict == ("V-063", AlertCode.INVITATION_USED, True)


class CountingSigner:
    """A signer that remembers under which keys it verified."""

    def __init__(self, signer: Signer) -> None:
        self.verified: list[bytes] = []
        self._signer = signer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signer, name)

    def verify(self, public: bytes, label: Label, signature: bytes, *parts: bytes) -> None:
        """Note the key, then verify."""
        self.verified.append(public)
        self._signer.verify(public, label, signature, *parts)


@pytest.mark.parametrize("known", [True, False])
def test_an_unknown_id_costs_one_verification_like_a_known_one(known: bool) -> None:
    """The signature is verified, under a key of the doctor's own, before the roster's verdict falls."""
    clinic = Clinic()
    counting = CountingSigner(P256.signer)
    device = clinic.patient("patient-a", P256, standing=Standing.ACTIVE if known else None)
    puppet = PuppetPatient(device, clinic.clock, clinic.random)
    doctor = clinic.doctor_connection()
    doctor.receive_data(puppet.key_exchange(), clinic.clock.now)
    assert isinstance(doctor._phase, Offer)
    doctor._phase = replace(doctor._phase, suite=replace(P256, signer=counting))
    doctor.receive_data(puppet.auth_request(doctor.data_to_send()), clinic.clock.now)

    own, theirs = clinic.envelope_key.public, device.identity.key.public
    assert counting.verified == [theirs if known else own]
    assert outcome(doctor).verdict == (None if known else ("V-035", REFUSED, False))


def test_the_reprs_of_the_phases_hide_their_keys() -> None:
    """A traceback may print them."""
    clinic = Clinic()
    doctor = clinic.doctor_connection()
    puppet = PuppetPatient(clinic.patient("patient-a", P256), clinic.clock, clinic.random)
    now = clinic.clock.now
    doctor.receive_data(puppet.key_exchange(), now)
    offer = doctor._phase
    assert isinstance(offer, Offer)
    m3 = frame_of(puppet.auth_request(doctor.data_to_send()))
    opened = open_auth_request(clinic.practice, offer, m3, now, Checklist())
    response = answer_auth_request(clinic.practice, offer, opened, now, Checklist())

    assert repr(opened) == "OpenedRequest(patient-a)"
    for secret in (puppet.session_key, puppet.ss_d, response.keys.k3, response.keys.to_doctor):
        assert repr(secret)[2:-1] not in repr(response)
    assert repr(OpenInvitation(b"s" * 32, 5, 1, None)) == "OpenInvitation(uses_left=1, expires=5)"
