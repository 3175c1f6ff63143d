"""A device comes by its identity once, keeps it if the doctor may know it, and leaves nothing behind if not."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import msgspec
import pytest

from patient import enrolment
from patient.device import Conditions
from patient.enrolment import enrol, find_home, identity_for, invitation_of
from patient.exit_codes import ExitCode, Refusal
from patient.identity import DeviceHome, create
from patient.notices import Enrolled, Refused, Waiting
from patient.settings import PatientSettings
from shared.crypto.signatures import ECDSA_P256, Algorithm, fingerprint
from shared.crypto.suites import DEFAULT_SUITE
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.protocol.clock import SECOND, Instant
from shared.protocol.events import Verified
from shared.protocol.invitations import DoctorKey, Invitation, to_text
from shared.storage.keyfile import write_private
from shared.wire.checks import Check
from tests.patient_bench import Heard, Pauses
from tests.small_doctor import DAY, SmallDoctor

KEY = DoctorKey(Algorithm.ECDSA_P256, ECDSA_P256.generate(os.urandom).public)


def invitation(patient_id: str | None = "alice", expires: int = 0) -> Invitation:
    """An invitation of a doctor that nobody needs to reach."""
    return Invitation(
        "doctor", [KEY], ["127.0.0.1:1"], [], os.urandom(16), os.urandom(32), expires, 1, patient_id
    )


def alice(settings: PatientSettings) -> DeviceHome:
    """Her directory."""
    return DeviceHome(Path(settings.state_dir) / "alice")


# --- invitations


def test_an_invitation_is_read_from_text_input_or_file(tmp_path: Path) -> None:
    """Line breaks of a mail do no harm."""
    wanted = invitation()
    text = to_text(wanted)
    file = tmp_path / "invitation"
    file.write_text(f"{text[:40]}\n{text[40:]}\n")

    found = [
        invitation_of(text, io.StringIO()),
        invitation_of("-", io.StringIO(text + "\n")),
        invitation_of(f"@{file}", io.StringIO()),
    ]

    assert found == [wanted] * 3


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("hello", "does not start with"),
        ("telemed1-AAAA", "damaged"),
        ("-", "does not start with"),
        ("@/none/at/all", "/none/at/all: No such file"),
        (f"@{__file__}", "does not start with"),
        ("@/bin/sh", "not a text"),
    ],
)
def test_what_is_no_invitation_is_refused_with_code_3(argument: str, words: str) -> None:
    """The sentence says why."""
    with pytest.raises(Refusal, match=words) as refusal:
        invitation_of(argument, io.StringIO(""))

    assert refusal.value.code is ExitCode.INVITATION


def test_an_expired_invitation_is_refused_with_both_times() -> None:
    """A wrong clock of this device can be seen in the sentence."""
    expired = invitation(expires=1_700_000_000_000)

    with pytest.raises(Refusal, match="expired at 2023-11-14") as refusal:
        invitation_of(to_text(expired), io.StringIO())

    assert "this device's clock shows 20" in str(refusal.value)
    assert refusal.value.code is ExitCode.INVITATION


def test_an_invitation_in_time_is_taken() -> None:
    """The doctor judges it again."""
    wanted = invitation(expires=clock().wall + DAY)

    assert invitation_of(to_text(wanted), io.StringIO()) == wanted


# --- by hand


def test_an_enrolment_ends_with_an_identity_without_a_secret(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The doctor has the device on its roster; the user reads the doctor's fingerprints."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            code = await enrol(doctor.invite(), None, settings, heard, conditions)

            assert code is ExitCode.OK
            assert list(doctor.directory.members) == ["alice"]
            assert heard.of(Enrolled) == [
                Enrolled(
                    "alice",
                    "doctor",
                    tuple(fingerprint(algorithm, doctor.keys[algorithm].public) for algorithm in doctor.keys),
                )
            ]
            assert doctor.last.goodbye

    asyncio.run(main())

    identity = alice(settings).load()
    assert (identity.patient_id, identity.enrolment) == ("alice", None)


def test_a_refused_enrolment_leaves_nothing_behind(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The invitation was used by somebody else in between."""

    async def main() -> ExitCode:
        async with SmallDoctor() as doctor:
            doctor.refuse_with = Check.ADMISSION
            return await enrol(doctor.invite(), None, settings, heard, conditions)

    assert asyncio.run(main()) is ExitCode.INVITATION
    assert [each.code for each in heard.of(Refused)] == ["invitation-used"]
    assert not alice(settings).path.exists()


def test_an_unreachable_doctor_is_one_attempt_and_leaves_nothing_behind(
    settings: PatientSettings, heard: Heard, conditions: Conditions, pauses: Pauses
) -> None:
    """Exit code 9; the user may try again with the same invitation."""

    async def main() -> ExitCode:
        async with SmallDoctor() as doctor:
            invited = doctor.invite()
        return await enrol(invited, None, settings, heard, conditions)

    assert asyncio.run(main()) is ExitCode.UNREACHABLE
    assert pauses.taken == []
    assert not alice(settings).path.exists()


def test_an_enrolment_cut_after_the_verifier_is_kept_and_finished_later(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The doctor may have committed; a second attempt uses the same key, and another invitation if need be."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctor.admit, doctor.cut = False, True
            first = await enrol(doctor.invite(), None, settings, heard, conditions)
            kept = alice(settings).load()
            doctor.admit = True
            second = await enrol(doctor.invite(), None, settings, heard, conditions)

            assert (first, second) == (ExitCode.UNREACHABLE, ExitCode.OK)
            assert "run alice` finds out" in heard.of(Waiting)[0].sentence
            assert alice(settings).load().private_key == kept.private_key

    asyncio.run(main())


@pytest.mark.parametrize(
    "check", [Check.PREKEY_HELD, Check.VERIFIER_CLOCK, Check.INPUT_BOUNDED, Check.RECEIPT_ISSUED]
)
def test_an_alert_that_does_not_rule_the_admission_out_leaves_the_key(
    settings: PatientSettings, heard: Heard, conditions: Conditions, check: Check
) -> None:
    """Sealed BUSY, CLOCK, MALFORMED and REFUSED: the transaction may be under way, or done."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctor.refuse_with = check
            first = await enrol(doctor.invite(), None, settings, heard, conditions)
            kept = alice(settings).load()
            doctor.refuse_with = None
            second = await enrol(doctor.invite(), None, settings, heard, conditions)

            assert (first is ExitCode.OK, second) == (False, ExitCode.OK)
            assert "run alice` finds out" in heard.of(Waiting)[0].sentence
            assert alice(settings).load().private_key == kept.private_key

    asyncio.run(main())


@pytest.mark.parametrize("check", [Check.ADMISSION, Check.INVITATION_VALID, Check.NOT_REVOKED])
def test_only_a_sealed_word_on_the_admission_removes_the_key(
    settings: PatientSettings, heard: Heard, conditions: Conditions, check: Check
) -> None:
    """INVITATION_USED, INVITATION_EXPIRED, REVOKED: no admission can follow."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctor.refuse_with = check
            await enrol(doctor.invite(), None, settings, heard, conditions)

    asyncio.run(main())

    assert not alice(settings).path.exists()
    assert heard.of(Waiting) == []


def test_an_admission_that_outlasts_the_deadline_is_kept_and_finished_later(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The doctor's disk is slow: the connection is gone before the transaction commits. Then it does."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctor.admit = False
            enrolling = asyncio.ensure_future(enrol(doctor.invite(), None, settings, heard, conditions))
            await doctor.until(lambda: doctor.visits and doctor.last.patient_id)
            now, stream = clock(), doctor.last.stream
            stream.connection.handle_timeout(Instant(now.wall, now.elapsed + 10 * SECOND))
            stream.flush()
            assert await enrolling is ExitCode.UNREACHABLE
            doctor.enrol(next(event for event in doctor.last.events if isinstance(event, Verified)))
            doctor.admit = True
            assert alice(settings).load().enrolment is not None
            second = await enrol(doctor.invite(), None, settings, heard, conditions)

            assert second is ExitCode.OK
            assert alice(settings).load().enrolment is None

    asyncio.run(main())


def test_a_pending_identity_survives_a_refused_second_attempt(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """What this call has not made it does not remove."""

    async def main() -> ExitCode:
        home = alice(settings)
        home.path.mkdir(parents=True, mode=0o700)
        home.path.parent.chmod(0o700)
        home.save(create(invitation(), DEFAULT_SUITE, None, os.urandom))
        async with SmallDoctor() as doctor:
            doctor.refuse_with = Check.ADMISSION
            return await enrol(doctor.invite(), None, settings, heard, conditions)

    assert asyncio.run(main()) is ExitCode.INVITATION
    assert alice(settings).has_identity


def test_an_id_that_exists_already_says_so(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """And how to start it."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            await enrol(doctor.invite(), None, settings, heard, conditions)
            with pytest.raises(UserError, match=r"enrolled already with doctor doctor.*run alice"):
                await enrol(doctor.invite(), None, settings, heard, conditions)

    asyncio.run(main())


def test_an_interrupted_enrolment_leaves_nothing_behind_before_the_verifier(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The user pressed Ctrl-C while nobody answered."""

    async def main() -> None:
        arrived = asyncio.Event()
        server = await asyncio.get_running_loop().create_server(Silent(arrived), "127.0.0.1", 0)
        async with server:
            address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            there = msgspec.structs.replace(settings, doctor_addresses=(address,))
            enrolling = asyncio.ensure_future(enrol(invitation(), None, there, heard, conditions))
            await arrived.wait()
            assert alice(settings).has_identity

            enrolling.cancel()

            with pytest.raises(asyncio.CancelledError):
                await enrolling

    asyncio.run(main())

    assert not alice(settings).path.exists()


class Silent(asyncio.Protocol):
    """Takes connections and says nothing."""

    def __init__(self, arrived: asyncio.Event) -> None:
        self.arrived = arrived

    def __call__(self) -> Silent:
        """Serve every connection itself."""
        return self

    def data_received(self, data: bytes) -> None:
        """The first message is there."""
        self.arrived.set()


# --- finding a device


def test_a_device_is_found_by_its_name(settings: PatientSettings) -> None:
    """Whether it exists yet or not."""
    assert find_home("alice", settings).path == Path(settings.state_dir) / "alice"


def test_a_device_is_found_in_its_slot(settings: PatientSettings, tmp_path: Path) -> None:
    """By the id of the identity in it."""
    root = tmp_path / "slots"
    ids = []
    for number in (1, 2):
        home = DeviceHome(root / f"{number:04}")
        home.path.mkdir(parents=True)
        identity = create(invitation(None), DEFAULT_SUITE, None, os.urandom)
        home.save(identity)
        ids.append(identity.patient_id)
    (root / "0003").mkdir()
    replicas = msgspec.structs.replace(settings, slots_dir=str(root))

    assert find_home(ids[1], replicas).path == root / "0002"
    assert find_home("patient-nobody", replicas).path == Path(settings.state_dir) / "patient-nobody"


@pytest.mark.parametrize("name", ["", "../alice", "a/b", ".", "..", "Alice", "a" * 65, "a\n"])
def test_what_is_no_id_never_becomes_a_path(settings: PatientSettings, name: str) -> None:
    """An argument cannot leave the state directory."""
    with pytest.raises(UserError, match="is no patient id"):
        find_home(name, settings)


def test_an_invitation_that_was_given_for_an_id_is_not_shown_again(settings: PatientSettings) -> None:
    """There is a secret in it; the message says what it is for."""
    text = "telemed1-" + "aGVsbG8" * 30

    with pytest.raises(UserError, match="telemed-patient enrol") as caught:
        find_home(text, settings)
    assert text not in str(caught.value)


# --- at the start


def fleet_file(tmp_path: Path, *, content: Invitation | None = None) -> Path:
    """The file that replicas share."""
    path = tmp_path / "fleet.invitation"
    write_private(path, to_text(content or invitation(None)).encode() + b"\n")
    return path


def start(
    settings: PatientSettings, heard: Heard, conditions: Conditions, home: DeviceHome, name: str | None = None
) -> str:
    """The id of the identity that a starting device gets."""
    home.path.mkdir(parents=True, exist_ok=True)
    return asyncio.run(identity_for(home, name, settings, heard, conditions)).patient_id


def test_a_new_replica_makes_its_identity_from_the_file(
    settings: PatientSettings, heard: Heard, conditions: Conditions, tmp_path: Path
) -> None:
    """A derived id, on the disk before anything is sent; the same one at the next start."""
    fleet = msgspec.structs.replace(settings, invitation_file=str(fleet_file(tmp_path)))
    home = DeviceHome(tmp_path / "0001")

    first = start(fleet, heard, conditions, home)

    assert first.startswith("patient-")
    assert home.load().patient_id == first
    assert start(fleet, heard, conditions, home) == first


def test_a_file_that_is_not_there_yet_is_waited_for(
    settings: PatientSettings, heard: Heard, conditions: Conditions, pauses: Pauses, tmp_path: Path
) -> None:
    """With growing pauses and one clear sentence, until the doctor has written it."""
    path = tmp_path / "fleet.invitation"
    fleet = msgspec.structs.replace(settings, invitation_file=str(path))

    def written() -> None:
        if len(pauses.taken) == 3:
            fleet_file(tmp_path)

    pauses.meanwhile = written
    start(fleet, heard, conditions, DeviceHome(tmp_path / "0001"))

    assert len(pauses.taken) == 3
    assert "fleet.invitation cannot be read: No such file" in heard.of(Waiting)[0].sentence


def test_waiting_for_the_file_is_bounded_by_the_attempts(
    settings: PatientSettings, heard: Heard, conditions: Conditions, pauses: Pauses, tmp_path: Path
) -> None:
    """Exit code 3."""
    fleet = msgspec.structs.replace(settings, invitation_file=str(tmp_path / "none"), attempts=2)

    with pytest.raises(Refusal) as refusal:
        start(fleet, heard, conditions, DeviceHome(tmp_path / "0001"))

    assert refusal.value.code is ExitCode.INVITATION
    assert len(pauses.taken) == 1


def test_without_identity_and_file_the_user_is_told_to_enrol(
    settings: PatientSettings, heard: Heard, conditions: Conditions, tmp_path: Path
) -> None:
    """Exit code 8."""
    with pytest.raises(Refusal, match="telemed-patient enrol") as refusal:
        start(settings, heard, conditions, DeviceHome(tmp_path / "alice"))

    assert refusal.value.code is ExitCode.NOT_ENROLLED


def test_a_device_that_was_never_admitted_takes_the_new_invitation(
    settings: PatientSettings, heard: Heard, conditions: Conditions, tmp_path: Path
) -> None:
    """The operator has rotated the file: same key, new secret; once admitted it never changes."""
    fleet = msgspec.structs.replace(settings, invitation_file=str(fleet_file(tmp_path)))
    home = DeviceHome(tmp_path / "0001")
    start(fleet, heard, conditions, home)
    before = home.load()
    rotated = invitation(None)
    fleet_file(tmp_path, content=rotated)

    start(fleet, heard, conditions, home)

    after = home.load()
    assert after.private_key == before.private_key
    assert after.enrolment is not None
    assert after.enrolment.invitation_id == rotated.invitation_id
    home.save(after.admitted())
    fleet_file(tmp_path)
    start(fleet, heard, conditions, home)
    assert home.load() == after.admitted()


def test_a_pending_device_does_without_an_unreadable_file(
    settings: PatientSettings, heard: Heard, conditions: Conditions, tmp_path: Path
) -> None:
    """It has an invitation of its own."""
    path = fleet_file(tmp_path)
    fleet = msgspec.structs.replace(settings, invitation_file=str(path))
    home = DeviceHome(tmp_path / "0001")
    first = start(fleet, heard, conditions, home)
    path.write_text("half an invi")

    assert start(fleet, heard, conditions, home) == first


def test_a_file_that_others_can_read_is_refused(
    settings: PatientSettings, heard: Heard, conditions: Conditions, tmp_path: Path
) -> None:
    """It holds a secret: the sentence says which command makes it right."""
    path = fleet_file(tmp_path)
    path.chmod(0o644)
    fleet = msgspec.structs.replace(settings, invitation_file=str(path), attempts=1)

    with pytest.raises(Refusal, match="chmod 600"):
        start(fleet, heard, conditions, DeviceHome(tmp_path / "0001"))


def test_a_directory_with_another_device_is_not_taken_for_ones_own(
    settings: PatientSettings, heard: Heard, conditions: Conditions, tmp_path: Path
) -> None:
    """A directory was renamed, or an id looks like a slot's number."""
    fleet = msgspec.structs.replace(settings, invitation_file=str(fleet_file(tmp_path)))
    home = DeviceHome(tmp_path / "0001")
    start(fleet, heard, conditions, home)

    with pytest.raises(UserError, match="not '0001'"):
        start(fleet, heard, conditions, home, "0001")


def test_an_identity_that_cannot_be_written_is_not_used(
    settings: PatientSettings,
    heard: Heard,
    conditions: Conditions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No key that is only in memory ever enrols."""

    def refuse(home: DeviceHome, identity: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(DeviceHome, "save", refuse)
    fleet = msgspec.structs.replace(settings, invitation_file=str(fleet_file(tmp_path)))

    with pytest.raises(StorageError, match="disk full"):
        start(fleet, heard, conditions, DeviceHome(tmp_path / "0001"))


def test_an_invitation_is_never_longer_than_what_is_read() -> None:
    """The limit leaves room for the largest one there can be."""
    key = DoctorKey(Algorithm.SCHNORR_FFDHE3072, bytes(384))
    largest = Invitation(
        "d" * 64, [key] * 4, ["a" * 255] * 8, ["g" * 64] * 64, bytes(16), bytes(32), 2**62, 2**62, "p" * 64
    )

    assert len(to_text(largest)) < enrolment.LONGEST_INVITATION
