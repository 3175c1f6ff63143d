"""New keys of the doctor: what a patient asks of the proof, and what it does before and after it has pinned them.

The doctor of these tests signs and shows what it is told to; each flaw stands alone, so the checks before it pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from shared.crypto.kdf import Label
from shared.crypto.signatures import Algorithm, SigningKey, fingerprint
from shared.crypto.suites import DEFAULT_SUITE, SUITES, Suite, SuiteId
from shared.errors import CryptoError
from shared.protocol import rotation
from shared.protocol.clock import Instant
from shared.protocol.envelopes import FormerKey
from shared.protocol.events import KeysRotated, Traced, Verified
from shared.protocol.transitions import State
from shared.wire import messages
from shared.wire.checks import PeerError
from shared.wire.framing import HEADER_SIZE, UNAUTHENTICATED_LIMIT
from shared.wire.messages import KeyExchangeReply, KeySuccession, Rotation, RotationStatement
from shared.wire.opcodes import AlertCode
from tests.protocol_bench import (
    ESTABLISHED,
    GROUP,
    WALL,
    Clinic,
    Device,
    doctor_keys,
    events_of,
    only,
    outcome,
)
from tests.protocol_puppets import PuppetDoctor

P256, CLASSIC = SUITES[SuiteId.ELGAMAL_P256], SUITES[SuiteId.ELGAMAL_FFDHE3072]
ECDSA, SCHNORR = Algorithm.ECDSA_P256, Algorithm.SCHNORR_FFDHE3072
OLD, NEW, STRANGER = doctor_keys("clinic"), doctor_keys("new"), doctor_keys("stranger")


def device_of(clinic: Clinic, suite: Suite = P256, sequence: int = 0) -> Device:
    """A patient that has pinned both keys of the doctor, as an invitation brings them."""
    device = clinic.patient(suite=suite)
    others = tuple((alg, key.public) for alg, key in OLD.items() if alg is not suite.signer.algorithm)
    return replace(device, identity=replace(device.identity, other_keys=others, sequence=sequence))


def shown(
    told: Rotation | None,
    *,
    suite: Suite = P256,
    sequence: int = 0,
    key: SigningKey | None = None,
) -> tuple[Any, list[Any]]:
    """What a patient with the old keys makes of a reply that shows this and is signed with a new key: verdict and successors."""
    clinic = Clinic()
    device = device_of(clinic, suite, sequence)
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    signer = key or NEW[suite.signer.algorithm]
    patient.receive_data(puppet.reply(patient.data_to_send(), key=signer, rotation=told), clinic.clock.now)
    said = patient.data_to_send()
    events = patient.take_events()
    found = events_of(KeysRotated, events)
    if patient.state is State.FAILED:
        patient._events, patient._outgoing = events, [said]
        return outcome(patient).verdict, found
    assert said == b"", "nothing is said to keys that are not pinned"
    assert patient.state is State.CLOSED
    return None, found


def told(sequence: int = 1, doctor_id: str = "doctor", **changes: Any) -> Rotation:
    """The doctor's word for its new keys, with what is changed before it is signed."""
    former = changes.pop("former", OLD)
    honest = rotation.state(doctor_id, sequence, WALL, former, changes.pop("new", NEW))
    assert not changes
    return honest


def refused(number: str) -> tuple[tuple[str, AlertCode, bool], list[Any]]:
    """The verdict, and no keys to pin."""
    return (number, AlertCode.REFUSED, False), []


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_proof_is_taken_and_nothing_more_is_said(suite: Suite) -> None:
    """All pinned keys at once; the connection ends, so that they can be stored first. It fits the cap of strangers."""
    verdict, found = shown(told(), suite=suite)

    assert verdict is None
    (event,) = found
    assert (event.successors.sequence, event.successors.time) == (1, WALL)
    assert event.successors.keys == {algorithm: key.public for algorithm, key in NEW.items()}
    clinic = Clinic()
    puppet = PuppetDoctor(clinic, clinic.patient(suite=suite))
    name = "d" * 64
    largest = puppet.reply(b"", rotation=told(2**62, name), doctor_id=name)
    assert len(largest) - HEADER_SIZE <= UNAUTHENTICATED_LIMIT


def test_without_a_proof_a_new_key_is_nobodys() -> None:
    """V-021, as ever: the pinned key is the only one that counts."""
    assert shown(None) == refused("V-021")


def test_v024_a_rotation_names_the_pinned_doctor() -> None:
    """One of another doctor that has the same keys, should that ever be, is not this doctor's."""
    assert shown(told())[0] is None
    assert shown(told(doctor_id="another")) == refused("V-024")


@pytest.mark.parametrize("sequence", [1, 2, 3])
def test_v025_a_rotations_sequence_is_above_the_pinned_one(sequence: int) -> None:
    """A former rotation, signed by whatever keys, never takes a patient back."""
    inside = shown(told(sequence), sequence=2)

    assert inside[0] is None if sequence > 2 else inside == refused("V-025")


def test_v026_a_rotation_gives_each_pinned_key_a_valid_successor() -> None:
    """Not for somebody else's keys, not for one of two, and no successor that is no key."""
    one = {ECDSA: OLD[ECDSA]}
    broken = messages.encode(
        RotationStatement(
            "doctor",
            1,
            WALL,
            [KeySuccession(alg, fingerprint(alg, key.public), bytes(65)) for alg, key in OLD.items()],
        )
    )

    assert shown(told())[0] is None
    assert shown(told(former=STRANGER)) == refused("V-026")
    assert shown(told(former=one)) == refused("V-026")
    assert shown(Rotation(broken, told().signatures)) == refused("V-026")


@pytest.mark.parametrize("suite", [P256, CLASSIC], ids=lambda suite: suite.name)
def test_v027_a_rotation_is_signed_by_each_of_the_pinned_keys(suite: Suite) -> None:
    """The right fingerprints are public; one good signature of two is not enough, whichever suite the patient speaks."""
    good = told()
    forged = rotation.state("doctor", 1, WALL, STRANGER, NEW).signatures
    first, second = good.signatures

    assert shown(good, suite=suite)[0] is None
    for signatures in (forged, [first, forged[1]], [forged[0], second], [first], [second, first]):
        assert shown(Rotation(good.statement, signatures), suite=suite) == refused("V-027")
    later = rotation.state("doctor", 1, WALL + 1, OLD, NEW).statement
    assert shown(Rotation(later, good.signatures)) == refused("V-027"), "the time is signed too"


def test_a_proof_is_worth_nothing_under_another_key_than_it_names() -> None:
    """A recorded proof beside a prekey that its holder cannot have signed; and the old key alone does not do any more."""
    assert shown(told(), key=STRANGER[ECDSA]) == refused("V-021")
    assert shown(told(), key=OLD[ECDSA]) == refused("V-021")


def test_v004_a_statement_has_one_spelling() -> None:
    """It is decoded as strictly as what it came in."""
    good = told()
    verdict, found = shown(Rotation(good.statement + b"\0", good.signatures))

    assert (verdict[0], found) == ("V-004", [])


class Rotated(Clinic):
    """A clinic that has new keys, and shows that, while some of its patients have the old ones."""

    def __init__(self) -> None:
        super().__init__()
        self.announced: Rotation | None = told()
        self.practice = replace(self.practice, rotation=lambda _: self.announced)
        self.keys.update(NEW)
        self.envelope_key = NEW[ECDSA]

    def repinned(self, device: Device, event: KeysRotated) -> Device:
        """The device after it has stored the new keys."""
        new = event.successors
        algorithm = device.identity.suite.signer.algorithm
        others = tuple((alg, public) for alg, public in new.keys.items() if alg is not algorithm)
        identity = replace(
            device.identity, doctor_key=new.keys[algorithm], other_keys=others, sequence=new.sequence
        )
        former = FormerKey(device.reader.doctor_key, new.time)
        return replace(
            device,
            identity=identity,
            reader=replace(device.reader, doctor_key=new.keys[ECDSA], former=(former,)),
        )


@pytest.mark.parametrize("suite", [DEFAULT_SUITE, CLASSIC], ids=lambda suite: suite.name)
def test_a_patient_learns_the_new_keys_and_comes_back_under_them(suite: Suite) -> None:
    """Two connections: the first ends with the proof, the second is a whole handshake. Only that one tells the doctor."""
    old = Clinic()
    device = device_of(old, suite)
    clinic = Rotated()
    clinic.directory = old.directory
    clinic.practice = replace(clinic.practice, directory=old.directory)

    first = clinic.link(device).run()
    learnt = only(KeysRotated, first.patient_events)
    assert events_of(Verified, first.doctor_events) == []

    device = clinic.repinned(device, learnt)
    second = clinic.link(device).run()
    assert second.states == ESTABLISHED
    verified = only(Verified, second.doctor_events)
    assert verified.doctor_key == NEW[suite.signer.algorithm].public
    assert events_of(KeysRotated, second.patient_events) == [], "it is pinned already"

    clinic.announced = None
    assert clinic.link(device).run().states == ESTABLISHED, "as it is when the rotation is complete"


def test_the_checks_of_a_rotation_are_told_in_their_order() -> None:
    """For whoever watches the handshake."""
    clinic = Clinic()
    device = device_of(clinic)
    patient = clinic.patient_connection(device)
    m2 = PuppetDoctor(clinic, device).reply(patient.data_to_send(), key=NEW[ECDSA], rotation=told())
    patient.receive_data(m2, clinic.clock.now)

    passed = events_of(Traced, patient.take_events())[-1].checks
    assert [check.number for check in passed] == [
        *("V-020", "V-024", "V-025", "V-026", "V-027", "V-021", "V-022")
    ], "each once"


def test_a_handshake_across_the_rotation_is_no_session() -> None:
    """The reply was signed with the old key, the answer would be with the new one: the prekey counts as erased (V-030)."""
    clinic = Clinic()
    device = clinic.patient()
    patient, doctor = clinic.patient_connection(device), clinic.doctor_connection()
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)
    patient.receive_data(doctor.data_to_send(), clinic.clock.now)

    clinic.keys.update(NEW)
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)

    assert outcome(doctor).verdict == ("V-030", AlertCode.BUSY, False)


def test_a_response_is_signed_as_its_prekey_was() -> None:
    """Should the keys change while it is made: another signature would accuse an honest doctor (V-054)."""
    clinic = Clinic()
    device = clinic.patient()
    patient, doctor = clinic.patient_connection(device), clinic.doctor_connection()
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)
    patient.receive_data(doctor.data_to_send(), clinic.clock.now)
    encapsulate = DEFAULT_SUITE.kem.encapsulate

    def and_the_keys_change(public: bytes, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
        clinic.keys.update(NEW)
        return encapsulate(public, random)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(DEFAULT_SUITE.kem), "encapsulate", lambda _, *parts: and_the_keys_change(*parts))
        doctor.receive_data(patient.data_to_send(), clinic.clock.now)
    patient.receive_data(doctor.data_to_send(), clinic.clock.now)
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)

    assert only(Verified, doctor.take_events()).doctor_key == OLD[ECDSA].public


def test_the_prekey_on_offer_is_signed_anew_at_once() -> None:
    """It would be offered for five seconds more, under a key that is out of use."""
    clinic = Clinic()
    before = clinic.practice.prekeys.offer(DEFAULT_SUITE.id, clinic.clock.now)
    assert clinic.practice.prekeys.offer(DEFAULT_SUITE.id, clinic.clock.now) is before

    clinic.keys.update(NEW)

    after = clinic.practice.prekeys.offer(DEFAULT_SUITE.id, clinic.clock.now)
    assert after.signer is NEW[ECDSA]
    assert after.signature != before.signature


def test_v086_an_envelope_under_a_former_key_is_older_than_the_rotation_and_comes_alone() -> None:
    """Its time is before the rotation, to the millisecond; in a BROADCAST, whose key is the group's, it is refused whatever it says."""
    clinic = Clinic()
    device = clinic.patient()
    message = clinic.sign(7, 0)

    def verdict(until: int, group: str | None = None) -> str | None:
        reader = replace(
            device.reader, doctor_key=NEW[ECDSA].public, former=(FormerKey(OLD[ECDSA].public, until),)
        )
        try:
            reader.verify(message, group, Instant(WALL, 0))
        except PeerError as error:
            return error.check.number
        return None

    assert verdict(WALL + 1) is None
    assert verdict(WALL) == "V-086"
    assert verdict(WALL + 1, GROUP) == "V-086"


def test_a_former_key_shows_nothing_that_has_expired_and_signs_nothing_of_another() -> None:
    """Expired it moves the position, as any other, or the stream would stand still; a forged one does not verify (V-081)."""
    clinic = Clinic()
    former = (FormerKey(OLD[ECDSA].public, WALL + 1),)
    reader = replace(clinic.patient().reader, doctor_key=NEW[ECDSA].public, former=former)
    late = clinic.sign(7, 0, expires=WALL - 1)
    forged = replace_signature(clinic)

    assert reader.verify(late, None, Instant(WALL, 0))[1] is None
    with pytest.raises(PeerError, match="V-081"):
        reader.verify(forged, None, Instant(WALL, 0))
    with pytest.raises(PeerError, match="V-080"):
        reader.verify(clinic.sign(7, 0, key=STRANGER[ECDSA]), None, Instant(WALL, 0))


def replace_signature(clinic: Clinic) -> messages.SignedMessage:
    """A message under the old key's name that the old key has not signed."""
    good, other = clinic.sign(7, 0), clinic.sign(8, 0)
    return messages.SignedMessage(good.envelope, other.signature, good.salt, good.body)


def test_a_statement_is_for_no_handshake_and_no_patient() -> None:
    """It is the same bytes for everyone, so it is signed once; nothing else that the doctor signs verifies in its place."""
    clinic = Rotated()
    replies = []
    for name in ("patient-a", "patient-b"):
        patient, doctor = clinic.patient_connection(clinic.patient(name)), clinic.doctor_connection()
        doctor.receive_data(patient.data_to_send(), clinic.clock.now)
        replies.append(messages.decode(KeyExchangeReply, doctor.data_to_send()[HEADER_SIZE:]))

    assert replies[0].rotation == replies[1].rotation == clinic.announced
    signer = P256.signer
    with pytest.raises(CryptoError):
        signer.verify(
            OLD[ECDSA].public,
            Label.PREKEY_SIGNATURE,
            told().signatures[0],
            told().statement,
        )
