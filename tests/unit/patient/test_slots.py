"""One slot, one replica: the same devices come back, and no two share one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from patient.identity import DeviceHome, create
from patient.slots import PATIENCE_S, POLL_S, DeviceLock, claim, slots
from shared.crypto.signatures import ECDSA_P256, Algorithm
from shared.crypto.suites import DEFAULT_SUITE
from shared.errors import StorageError, UserError
from shared.protocol.invitations import DoctorKey, Invitation
from tests.patient_bench import Pauses

KEY = DoctorKey(Algorithm.ECDSA_P256, ECDSA_P256.generate(os.urandom).public)
INVITATION = Invitation("doctor", [KEY], ["h:1"], [], bytes(16), bytes(32), 0, 1, None)


def slot(root: Path, number: int, *, identity: bool = True, revoked: bool = False) -> DeviceHome:
    """A slot on the disk."""
    home = DeviceHome(root / f"{number:04}")
    home.path.mkdir(mode=0o700)
    if identity:
        home.save(create(INVITATION, DEFAULT_SUITE, None, os.urandom))
    if revoked:
        home.mark_revoked()
    return home


def claimed(root: Path, pauses: Pauses) -> DeviceLock:
    """Claim a slot."""
    return asyncio.run(claim(root, pauses))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the slots."""
    path = tmp_path / "slots"
    path.mkdir(mode=0o700)
    return path


def test_the_first_replica_makes_the_first_slot(tmp_path: Path, pauses: Pauses) -> None:
    """Where there is nothing to wait for it does not wait."""
    with claimed(tmp_path / "new", pauses) as lock:
        assert lock.home.path == tmp_path / "new" / "0001"

    assert pauses.taken == []


def test_the_lowest_free_slot_with_an_identity_is_taken(root: Path, pauses: Pauses) -> None:
    """So the same devices come back after a restart; a slot in use is passed over."""
    for number in (2, 3, 10):
        slot(root, number)

    with (
        claimed(root, pauses) as first,
        claimed(root, pauses) as second,
        claimed(root, pauses) as third,
    ):
        names = [lock.home.path.name for lock in (first, second, third)]

    assert names == ["0002", "0003", "0010"]
    assert pauses.taken == []


def test_slots_are_reused_after_their_holders_end(root: Path, pauses: Pauses) -> None:
    """Five, three, five: no sixth slot."""
    for number in (1, 2):
        slot(root, number)
    for _ in range(3):
        with claimed(root, pauses), claimed(root, pauses):
            pass

    assert [home.path.name for home in slots(root)] == ["0001", "0002"]


def test_a_slot_that_becomes_free_is_waited_for(root: Path, pauses: Pauses) -> None:
    """A replica that is being replaced needs a moment to let go."""
    slot(root, 1)
    holder = claimed(root, pauses)

    def let_go_at_the_third_look() -> None:
        if len(pauses.taken) == 3:
            holder.release()

    pauses.meanwhile = let_go_at_the_third_look
    with claimed(root, pauses) as lock:
        assert lock.home.path.name == "0001"

    assert pauses.taken == [POLL_S] * 3


def test_a_new_slot_is_made_when_none_became_free(root: Path, pauses: Pauses) -> None:
    """After three seconds of looking."""
    slot(root, 1)

    with claimed(root, pauses), claimed(root, pauses) as lock:
        assert lock.home.path.name == "0002"

    assert sum(pauses.taken) == pytest.approx(PATIENCE_S)


def test_a_revoked_slot_is_never_taken(root: Path, pauses: Pauses) -> None:
    """Nor is it waited for."""
    slot(root, 1, revoked=True)

    with claimed(root, pauses) as lock:
        assert lock.home.path.name == "0002"

    assert pauses.taken == []


def test_a_slot_that_is_revoked_by_its_holder_is_not_taken_over(root: Path, pauses: Pauses) -> None:
    """The holder notes the revocation just before it lets go."""
    home = slot(root, 1)
    holder = claimed(root, pauses)

    def revoked() -> None:
        home.mark_revoked()
        holder.release()

    pauses.meanwhile = revoked
    with claimed(root, pauses) as lock:
        assert lock.home.path.name == "0002"


def test_a_slot_revoked_between_look_and_lock_is_let_go(
    root: Path, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark is looked at again once the lock is held."""
    home = slot(root, 1)
    acquire = DeviceLock.try_acquire

    def after_a_revocation(found: DeviceHome) -> DeviceLock | None:
        home.mark_revoked()
        return acquire(found)

    monkeypatch.setattr(DeviceLock, "try_acquire", after_a_revocation)
    with claimed(root, pauses) as lock:
        assert lock.home.path.name == "0002"
    monkeypatch.undo()
    with DeviceLock.acquire(home):
        pass


def test_an_abandoned_slot_is_used_before_a_new_one_is_made(root: Path, pauses: Pauses) -> None:
    """A replica ended between making its slot and its key."""
    slot(root, 1, identity=False)

    with claimed(root, pauses) as first, claimed(root, pauses) as second:
        assert (first.home.path.name, second.home.path.name) == ("0001", "0002")


def test_two_replicas_that_make_a_slot_at_once_get_two(
    root: Path, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is faster to make 0001; another locks 0002 between its making and our lock."""
    others: list[DeviceLock] = []
    acquire = DeviceLock.try_acquire
    mkdir = Path.mkdir

    def another_is_faster(path: Path, mode: int = 0o777, **options: bool) -> None:
        if path.name == "0001":
            mkdir(path, mode)
        mkdir(path, mode, **options)
        if path.name == "0002":
            lock = acquire(DeviceHome(path))
            assert lock is not None
            others.append(lock)

    monkeypatch.setattr(Path, "mkdir", another_is_faster)
    with claimed(root, pauses) as lock:
        assert lock.home.path.name == "0003"
    for other in others:
        other.release()


def test_only_numbers_are_slots(root: Path) -> None:
    """Devices with a name may stand in the same directory."""
    for name in ("0002", "alice", "12", "0001"):
        (root / name).mkdir()

    assert [home.path.name for home in slots(root)] == ["0001", "0002"]
    assert slots(root / "none") == []


def test_a_slot_that_cannot_be_made_is_an_error_that_names_it(
    root: Path, pauses: Pauses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only volume, for example."""
    mkdir = Path.mkdir

    def refuse(path: Path, mode: int = 0o777, **options: bool) -> None:
        if path.name == "0001":
            raise PermissionError(13, "Permission denied")
        mkdir(path, mode, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(StorageError, match="0001 cannot be made: Permission denied"):
        claimed(root, pauses)


def test_a_second_program_on_the_same_device_is_refused(root: Path) -> None:
    """One sentence, with the directory."""
    home = slot(root, 1)

    with (
        DeviceLock.acquire(home),
        pytest.raises(UserError, match=r"Another program uses the device in .*0001"),
    ):
        DeviceLock.acquire(home)


def test_a_lock_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """The directory is missing."""
    with pytest.raises(StorageError, match="lock cannot be opened"):
        DeviceLock.try_acquire(DeviceHome(tmp_path / "none"))


def test_release_may_be_called_twice(root: Path) -> None:
    """And frees the slot the first time."""
    home = slot(root, 1)
    lock = DeviceLock.acquire(home)

    lock.release()
    lock.release()

    with DeviceLock.acquire(home):
        pass


def test_the_kernel_drops_the_lock_of_a_process_that_is_killed(root: Path) -> None:
    """No stale lock keeps a device away after kill -9."""
    home = slot(root, 1)
    program = (
        "import sys; from pathlib import Path; from patient.slots import *; "
        f"lock = DeviceLock.acquire(DeviceHome(Path({str(home.path)!r}))); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        held = DeviceLock.try_acquire(home)
        process.kill()

    assert held is None
    with DeviceLock.acquire(home):
        pass
