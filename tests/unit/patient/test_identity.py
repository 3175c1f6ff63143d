"""The identity file: private, whole, and for exactly one doctor and one id."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from patient.identity import UNKNOWN_TIME, DeviceHome, DeviceIdentity, OutdatedKey, create
from shared.crypto.signatures import SIGNERS, Algorithm, fingerprint
from shared.crypto.suites import DEFAULT_SUITE, SUITES, SuiteId
from shared.errors import StorageError, UserError
from shared.protocol.invitations import DoctorKey, Invitation
from shared.protocol.rotation import Successors

ECDSA, SCHNORR = Algorithm.ECDSA_P256, Algorithm.SCHNORR_FFDHE3072
KEYS = {algorithm: SIGNERS[algorithm].generate(os.urandom) for algorithm in SIGNERS}
FF_SUITE = SUITES[SuiteId.ELGAMAL_FFDHE3072]
SECRET = b"invitation secret of 32 bytes..."


def invitation(patient_id: str | None = "alice", *algorithms: Algorithm) -> Invitation:
    """An invitation of a doctor that has keys of those algorithms; by default an ECDSA key alone."""
    keys = [DoctorKey(algorithm, KEYS[algorithm].public) for algorithm in algorithms or (ECDSA,)]
    return Invitation("doctor", keys, ["h:1"], [], os.urandom(16), SECRET, 0, 1, patient_id)


def test_an_identity_survives_its_file(tmp_path: Path) -> None:
    """What was saved is what is loaded."""
    home = DeviceHome(tmp_path)
    identity = create(invitation(), DEFAULT_SUITE, None, os.urandom)

    home.save(identity)

    assert home.has_identity
    assert home.load() == identity


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """It holds private keys: mode 0600."""
    home = DeviceHome(tmp_path)
    home.save(create(invitation(), DEFAULT_SUITE, None, os.urandom))

    assert stat.S_IMODE(home.identity_file.stat().st_mode) == 0o600


def test_what_a_killed_program_left_of_a_key_is_removed(tmp_path: Path) -> None:
    """It was writing its identity, under another name; the next one that writes takes it away."""
    home = DeviceHome(tmp_path)
    left = tmp_path / ".identity.json.x1y2"
    left.write_text("half a key")
    other = tmp_path / ".inbox"
    other.touch()

    home.save(create(invitation(), DEFAULT_SUITE, None, os.urandom))

    assert sorted(path.name for path in tmp_path.iterdir()) == [".inbox", "identity.json"]


def test_a_looser_mode_is_refused(tmp_path: Path) -> None:
    """A key that others could have read is not used; the message says what to run."""
    home = DeviceHome(tmp_path)
    home.save(create(invitation(), DEFAULT_SUITE, None, os.urandom))
    home.identity_file.chmod(0o640)

    with pytest.raises(UserError, match="chmod 600"):
        home.load()


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    """Whoever loads has asked `has_identity` before."""
    home = DeviceHome(tmp_path)

    assert not home.has_identity
    with pytest.raises(StorageError, match="cannot be read"):
        home.load()


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"{}", b'{"version":2}'],
    ids=["empty", "no text", "nothing in it", "another version"],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    """The message says which file and what to do."""
    home = DeviceHome(tmp_path)
    home.save(create(invitation(), DEFAULT_SUITE, None, os.urandom))
    home.identity_file.write_bytes(content)

    with pytest.raises(UserError, match=r"identity\.json is damaged"):
        home.load()


def test_a_key_out_of_range_is_a_damaged_file(tmp_path: Path) -> None:
    """A private key that does not load is found at the start, not in a handshake."""
    home = DeviceHome(tmp_path)
    identity = create(invitation(), DEFAULT_SUITE, None, os.urandom)
    home.save(msgspec.structs.replace(identity, private_key=bytes(32)))

    with pytest.raises(UserError, match="damaged"):
        home.load()


def test_a_flipped_bit_is_found_wherever_it_changes_something(tmp_path: Path) -> None:
    """Also in what no check could know: an address, a name, a pinned key. What loads is what was saved."""
    home = DeviceHome(tmp_path)
    home.save(identity := create(invitation(), DEFAULT_SUITE, None, os.urandom))
    whole = home.identity_file.read_bytes()
    for at in range(0, len(whole), 3):
        home.identity_file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = home.load()
        except UserError:
            continue
        assert found == identity


def test_a_file_of_an_earlier_version_has_no_checksum_and_is_taken(tmp_path: Path) -> None:
    """It gets one when it is written next."""
    home = DeviceHome(tmp_path)
    home.save(identity := create(invitation(), DEFAULT_SUITE, None, os.urandom))
    fields = msgspec.json.decode(home.identity_file.read_bytes(), type=dict[str, object])
    del fields["checksum"]
    home.identity_file.write_bytes(msgspec.json.encode(fields))

    assert home.load() == identity


def test_no_repr_shows_a_secret() -> None:
    """Neither the keys nor the invitation's secret can reach a log through a repr."""
    identity = create(invitation(), DEFAULT_SUITE, None, os.urandom)
    shown = repr(identity) + repr(identity.enrolment)

    for secret in (identity.private_key, identity.storage_key, SECRET):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


def test_the_invitation_names_the_id() -> None:
    """Without a wish, and with the same wish, the id is the invitation's."""
    assert create(invitation("alice"), DEFAULT_SUITE, None, os.urandom).patient_id == "alice"
    assert create(invitation("alice"), DEFAULT_SUITE, "alice", os.urandom).patient_id == "alice"


def test_another_id_than_the_invitations_is_refused() -> None:
    """The doctor would refuse it too (V-042)."""
    with pytest.raises(UserError, match="for 'alice', not for 'bob'"):
        create(invitation("alice"), DEFAULT_SUITE, "bob", os.urandom)


def test_a_fleet_invitation_gives_the_derived_id() -> None:
    """The id is part of the key's fingerprint."""
    identity = create(invitation(None), DEFAULT_SUITE, None, os.urandom)
    key = identity.signing_key

    assert identity.patient_id == f"patient-{fingerprint(key.algorithm, key.public)[:16]}"


def test_a_fleet_invitation_admits_no_chosen_id() -> None:
    """A person who chooses one is told which kind of invitation to ask for."""
    with pytest.raises(UserError, match="an invitation that names it"):
        create(invitation(None), DEFAULT_SUITE, "alice", os.urandom)


def test_the_suite_decides_the_kind_of_key() -> None:
    """Suite 1 signs with Schnorr, the others with ECDSA."""
    both = invitation("alice", ECDSA, SCHNORR)

    assert create(both, FF_SUITE, None, os.urandom).algorithm is SCHNORR
    assert create(both, DEFAULT_SUITE, None, os.urandom).algorithm is ECDSA


def test_a_doctor_without_the_key_is_refused_with_the_suites_it_has() -> None:
    """The user learns what can be configured instead."""
    with pytest.raises(UserError, match="did not allow this suite") as refusal:
        create(invitation(), FF_SUITE, None, os.urandom)

    assert "Set suite to one of elgamal-p256, elgamal-p256-mlkem768, or ask" in str(refusal.value)


def test_a_doctor_without_an_ecdsa_key_can_send_nothing() -> None:
    """Messages are signed with ECDSA whatever the suite."""
    with pytest.raises(UserError, match=r"Set suite to one of none"):
        create(invitation("alice", SCHNORR), FF_SUITE, None, os.urandom)


def test_a_configured_suite_is_used_if_the_key_fits() -> None:
    """A device may move to another suite with the same kind of key, and keeps its own otherwise."""
    identity = create(invitation(), DEFAULT_SUITE, None, os.urandom)

    assert identity.suite_for("elgamal-p256").name == "elgamal-p256"
    assert identity.suite_for("elgamal-ffdhe3072").name == "elgamal-p256-mlkem768"


def test_the_handshake_gets_the_pinned_key_of_the_suite() -> None:
    """And the enrolment, as long as it is pending."""
    identity = create(invitation("alice", ECDSA, SCHNORR), FF_SUITE, None, os.urandom)
    new = identity.for_handshake(FF_SUITE, 45.0)
    old = identity.admitted().for_handshake(FF_SUITE, 1.5)

    assert new.doctor_key == KEYS[SCHNORR].public
    assert new.enrolment is not None
    assert new.enrolment.secret == SECRET
    assert (old.enrolment, old.clock_window) == (None, 1500)
    assert identity.reader(45.0).doctor_key == KEYS[ECDSA].public


def test_a_new_invitation_keeps_the_key() -> None:
    """A device that was never admitted tries another invitation with the identity it has."""
    identity = create(invitation(None), DEFAULT_SUITE, None, os.urandom)
    second = invitation(None)

    renewed = identity.invited_by(second)

    assert (renewed.patient_id, renewed.private_key) == (identity.patient_id, identity.private_key)
    assert renewed.enrolment is not None
    assert renewed.enrolment.invitation_id == second.invitation_id


def rotated(before: DeviceIdentity, sequence: int = 1) -> DeviceIdentity:
    """The same device after its doctor has proved new keys."""
    new = {each.algorithm: SIGNERS[each.algorithm].generate(os.urandom).public for each in before.doctor.keys}
    return before.rotated(Successors(sequence, 1_700_000_000_000, new))


def test_an_invitation_with_new_keys_of_the_same_doctor_keeps_the_pinned_one_as_a_former_one() -> None:
    """The doctor may have admitted this device, and owe it messages that the pinned key has signed; when is not told."""
    identity = create(invitation(None), DEFAULT_SUITE, None, os.urandom)
    new = SIGNERS[ECDSA].generate(os.urandom).public
    second = msgspec.structs.replace(invitation(None), doctor_keys=[DoctorKey(ECDSA, new)])

    renewed = identity.invited_by(second).doctor

    assert (renewed.key(ECDSA), renewed.sequence) == (new, 0)
    assert renewed.former == (OutdatedKey(KEYS[ECDSA].public, UNKNOWN_TIME),)


def test_an_invitation_with_the_pinned_keys_keeps_what_was_learnt() -> None:
    """The doctor has made a new invitation since the rotation, and no new keys."""
    identity = rotated(create(invitation(None), DEFAULT_SUITE, None, os.urandom))
    present = [DoctorKey(ECDSA, identity.doctor.key(ECDSA))]
    second = msgspec.structs.replace(invitation(None), doctor_keys=present, addresses=["h:2"])

    renewed = identity.invited_by(second).doctor

    assert renewed == msgspec.structs.replace(identity.doctor, addresses=("h:2",))


def test_no_invitation_brings_a_key_back_that_was_rotated_away() -> None:
    """It is older than what the doctor has proved, whoever shows it."""
    identity = rotated(create(invitation(None), DEFAULT_SUITE, None, os.urandom))

    assert identity.invited_by(invitation(None)).doctor == identity.doctor


def test_an_invitation_brings_a_key_back_that_only_an_invitation_has_replaced() -> None:
    """Should somebody put a wrong file in its place, the right one mends it."""
    identity = create(invitation(None), DEFAULT_SUITE, None, os.urandom)
    wrong = SIGNERS[ECDSA].generate(os.urandom).public
    second = msgspec.structs.replace(invitation(None), doctor_keys=[DoctorKey(ECDSA, wrong)])

    mended = identity.invited_by(second).invited_by(invitation(None)).doctor

    assert mended.key(ECDSA) == KEYS[ECDSA].public
    assert [each.public for each in mended.former] == [wrong]


def test_an_invitation_of_another_doctor_begins_anew() -> None:
    """What the first one has signed is nothing to the second."""
    identity = rotated(create(invitation(None), DEFAULT_SUITE, None, os.urandom))
    second = msgspec.structs.replace(invitation(None), doctor_id="another")

    renewed = identity.invited_by(second).doctor

    assert (renewed.doctor_id, renewed.sequence, renewed.former) == ("another", 0, ())


def test_a_new_invitation_for_another_id_is_refused() -> None:
    """A pending identity does not change its name."""
    identity = create(invitation("alice"), DEFAULT_SUITE, None, os.urandom)

    with pytest.raises(UserError, match="for 'bob'"):
        identity.invited_by(invitation("bob"))


def test_admission_erases_the_secret_from_the_file(tmp_path: Path) -> None:
    """After the first session nothing on the disk can be used to enrol."""
    home = DeviceHome(tmp_path)
    identity = create(invitation(), DEFAULT_SUITE, None, os.urandom)
    home.save(identity)
    before = home.identity_file.read_bytes()

    home.save(identity.admitted())

    secret = msgspec.json.encode(SECRET).strip(b'"')
    assert secret in before
    assert secret not in home.identity_file.read_bytes()


def test_a_revocation_is_remembered(tmp_path: Path) -> None:
    """A mark beside the identity."""
    home = DeviceHome(tmp_path)
    before = home.revoked

    home.mark_revoked()

    assert (before, home.revoked) == (False, True)


def test_the_format_is_versioned() -> None:
    """A file of a later release is refused rather than misread."""
    identity = create(invitation(), DEFAULT_SUITE, None, os.urandom)

    assert msgspec.to_builtins(identity)["version"] == 1
    assert isinstance(identity, DeviceIdentity)
