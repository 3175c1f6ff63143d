"""Every key of a real device is taken down while it is watched, and none before or after."""

from __future__ import annotations

from pathlib import Path

from lab.faults.keys import EpochKey, KeyRing, SessionKey, recorded
from patient import device as device_module
from patient import notices
from patient.device import Conditions
from patient.link import Link
from patient.settings import PatientSettings
from shared.protocol.patient_connection import PatientConnection
from tests.patient_bench import Heard, device
from tests.small_doctor import SmallDoctor


async def test_the_keys_of_a_device_are_taken_down_as_it_comes_to_hold_them(tmp_path: Path) -> None:
    """Its session's two keys, and each epoch's secret; also in the file, line by line."""
    ring, heard = KeyRing(tmp_path / "keys.jsonl"), Heard()
    settings = PatientSettings(state_dir=str(tmp_path))
    async with SmallDoctor() as doctor:
        with recorded(ring):
            async with device(doctor, settings, heard, Conditions()) as alice:
                link = await alice.connect()
                assert isinstance(link, Link)
                await heard.until(lambda: heard.of(notices.Epoch))
        secret = doctor.epoch.secret.reveal()
    (session,) = ring.sessions
    assert (session.holder, len(session.connection)) == ("alice", 64)
    assert len({session.to_doctor, session.to_patient}) == 2
    assert [(key.holder, key.group, key.number, key.secret) for key in ring.epochs] == [
        ("alice", "everyone", 1, secret)
    ]
    again = KeyRing()
    again.read(tmp_path / "keys.jsonl")
    assert (again.sessions, again.epochs) == (ring.sessions, ring.epochs)


def test_outside_the_block_devices_make_the_connections_that_they_always_made() -> None:
    """Also when the block ends in an error."""
    try:
        with recorded(KeyRing()):
            assert vars(device_module)["PatientConnection"] is not PatientConnection
            raise RuntimeError
    except RuntimeError:
        pass
    assert vars(device_module)["PatientConnection"] is PatientConnection


def test_a_line_that_a_kill_has_torn_is_left_out(tmp_path: Path) -> None:
    """The keys before it count."""
    path = tmp_path / "keys.jsonl"
    KeyRing(path).add(EpochKey("a", "g", 1, 0.0, bytes(32)))
    KeyRing(path).add(SessionKey("a", "c", 0.0, bytes(32), bytes(32)))
    path.write_bytes(path.read_bytes()[:-9])
    ring = KeyRing()
    ring.read(path)
    assert (len(ring.epochs), len(ring.sessions)) == (1, 0)
