"""The self-check: each usual mistake is made, found, and told with what to do; what is in order is left alone."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from doctor import cli, heads, selfcheck
from doctor.console import certificates
from doctor.database import MIGRATIONS
from doctor.heads import Entry
from doctor.keyring import load_or_create
from doctor.mistakes import Place
from doctor.selfcheck import CHECKS, Finding, Verdict, examine, look_at
from doctor.surroundings_checks import clock_is_kept, filesystem
from shared.net.stream import clock
from shared.storage.sqlite import open_database
from tests.doctor_bench import serving_in_a_thread, settings_for

DAY = 24 * 3_600_000


def place(directory: Path, *, now: int = 0, descriptors: int = 100_000, **changes: Any) -> Place:
    """A doctor's surroundings where none runs."""
    return Place(settings_for(directory, **changes), False, now or clock().wall, descriptors)


def finding(name: str, at: Place) -> Finding:
    """What one check says."""
    return selfcheck._judge(name, CHECKS[name], at)


def wrong(name: str, at: Place, *told: str) -> None:
    """The check finds it wrong, and tells all of this."""
    found = finding(name, at)
    assert found.verdict is Verdict.WRONG, found
    for words in told:
        assert words in f"{found.found} {found.remedy}", found


def advised(name: str, at: Place, *told: str) -> None:
    """The check advises it, and tells all of this."""
    found = finding(name, at)
    assert found.verdict is Verdict.ADVICE, found
    for words in told:
        assert words in f"{found.found} {found.remedy}", found


@pytest.fixture
def lived(tmp_path: Path) -> Path:
    """A directory in which a doctor has run."""
    for name in ("state", "audit"):
        (tmp_path / name).mkdir(mode=0o700)
    keys = load_or_create(tmp_path / "state", frozenset(), secrets.token_bytes)
    (tmp_path / "state" / "doctor-id").touch(mode=0o600)
    (tmp_path / "state" / "doctor-id").write_text("doctor")
    open_database(tmp_path / "state" / "doctor.db", MIGRATIONS).close()
    heads.append(tmp_path / "audit", keys.identity, Entry(1, "00" * 32), clock().wall)
    return tmp_path


@contextmanager
def taken() -> Iterator[int]:
    """A port that somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_where_nothing_is_wrong_nothing_is_found(lived: Path, tmp_path: Path) -> None:
    """Neither before the first start nor after it; a laptop's one volume is advice."""
    for directory in (lived, tmp_path / "new"):
        found = {each.check: each.verdict for each in examine(place(directory, listen_port=0))}

        assert found.pop("audit directory") is Verdict.ADVICE
        assert set(found.values()) == {Verdict.OK}, found
        assert not (tmp_path / "new").exists(), "it only looks"


def test_a_running_doctor_is_looked_at_without_being_disturbed(tmp_path: Path) -> None:
    """Its port answers as itself, its lock stays its own, its files stay as they are."""
    with taken() as port:
        pass  # it was free a moment ago
    with serving_in_a_thread(tmp_path, listen_port=port) as doctor:
        found = {each.check: each for each in examine(look_at(doctor.gateway._settings))}

    assert found["doctor"].found == "running, and ready"
    assert found["device port"].found == f"127.0.0.1:{port} answers as this doctor"
    assert [each for each in found.values() if each.verdict is Verdict.WRONG] == []


def test_a_doctor_that_admits_nobody(tmp_path: Path) -> None:
    """It runs, and its device port does not: both are told."""
    with taken() as port:
        pass
    with serving_in_a_thread(tmp_path, listen_port=port) as doctor:

        async def shut() -> None:
            assert doctor.gateway._server is not None
            doctor.gateway._server.close()

        doctor.wait(shut())
        at = look_at(doctor.gateway._settings)
        wrong("doctor", at, "not ready", "confirm-restore")
        wrong("device port", at, f"127.0.0.1:{port} does not answer")


def test_a_directory_that_others_may_enter(lived: Path) -> None:
    """With the command that mends it."""
    (lived / "state").chmod(0o755)
    (lived / "audit").chmod(0o750)

    wrong("state directory", place(lived), "mode 0755", "chmod 700")
    wrong("audit directory", place(lived), "mode 0750", "chmod 700")


def test_a_directory_that_cannot_be_made_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands in the way, or the volume is read-only."""
    (tmp_path / "file").touch()
    wrong("state directory", place(tmp_path, state_dir=str(tmp_path / "file" / "state")), "is a file")
    wrong("audit directory", place(tmp_path, audit_dir=str(tmp_path / "file" / "audit")), "Set audit_dir")

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    wrong("state directory", place(tmp_path), "not writable", "mount the volume for writing")


def test_an_audit_directory_beside_the_database(lived: Path) -> None:
    """It works, and should be otherwise."""
    advised("audit directory", place(lived), "same volume", "another one")


def test_keys_that_are_missing_damaged_or_readable_for_others(lived: Path) -> None:
    """Each is named; a key is never made anew beside a database."""
    key = lived / "state" / "keys" / "ecdsa-p256.key"
    key.chmod(0o644)
    wrong("keys", place(lived), "ecdsa-p256.key", "chmod 600")
    key.chmod(0o600)
    key.write_bytes(b"no key")
    wrong("keys", place(lived), "damaged", "backup")
    key.unlink()
    wrong("keys", place(lived), "missing", "Put back")
    assert not key.exists()


def test_another_name_than_patients_have_pinned(lived: Path) -> None:
    """doctor_id was changed."""
    wrong("keys", place(lived, doctor_id="other"), "pinned that name", "set it back")


def test_a_database_of_a_newer_release_and_a_file_that_is_none(lived: Path) -> None:
    """The schema's version is read from the file's header, so that no lock is taken."""
    path = lived / "state" / "doctor.db"
    with closing(open_database(path, MIGRATIONS)) as db:
        db.execute("PRAGMA user_version = 99")
    wrong("database", place(lived), "schema 99", "newer one", "before-v99")
    path.write_bytes(b"something else" * 100)
    wrong("database", place(lived), "is no database", "restore")


def test_a_volume_that_is_nearly_full(lived: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the least it is wrong, below one more copy of the database it is advice."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=selfcheck.LEAST_ROOM - 1))
    wrong("free space", place(lived), "255 MiB free", "Make room")

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=selfcheck.LEAST_ROOM))
    with (lived / "state" / "doctor.db").open("r+b") as file:
        file.truncate(selfcheck.LEAST_ROOM)
    advised("free space", place(lived), "one more copy")


def test_a_clock_that_is_behind_what_was_written(lived: Path) -> None:
    """By the files' times, and by the last signed head where those were lost."""
    wrong("clock", place(lived, now=clock().wall - DAY), "behind", "chrony")
    for path in (*(lived / "state").glob("*"), *(lived / "audit").glob("*")):
        os.utime(path, (0, 0))
    wrong("clock", place(lived, now=clock().wall - DAY), heads.HEADS_FILE)


def test_a_state_directory_whose_socket_would_have_too_long_a_path(tmp_path: Path) -> None:
    """Linux takes 107 bytes."""
    wrong("API socket", place(tmp_path, state_dir=str(tmp_path / ("x" * 100))), "at most 107", "shorter")


def test_fewer_open_files_than_the_limits_need(tmp_path: Path) -> None:
    """With the number that is needed."""
    wrong("open files", place(tmp_path, descriptors=1000), "needs 1024", "LimitNOFILE=1024")


def test_an_invitation_that_cannot_be_written(tmp_path: Path) -> None:
    """Its directory is not there."""
    wrong("fleet invitation", place(tmp_path, provisioning_file=str(tmp_path / "no" / "fleet")), "Make it")


def test_an_invitation_that_can_be_written_or_is_there(tmp_path: Path) -> None:
    """Neither is a mistake."""
    at = place(tmp_path, provisioning_file=str(tmp_path / "fleet"))
    assert finding("fleet invitation", at).found.endswith("written at the first start")
    (tmp_path / "fleet").touch()
    assert finding("fleet invitation", at).verdict is Verdict.OK


def test_what_the_system_refuses_to_show_is_a_finding_and_no_crash(
    lived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the reason."""

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(selfcheck, "_standing", refuse)
    wrong("free space", place(lived), "Permission denied", "readable")


def test_ports_that_others_have(tmp_path: Path) -> None:
    """The devices', the console's and the metrics', each with its setting."""
    with taken() as port:
        wrong("device port", place(tmp_path, listen_port=port), "in use", "listen_port")
        wrong("console", place(tmp_path, console_port=port), "in use", "console_port")
        wrong("metrics", place(tmp_path, metrics_port=port), "in use", "metrics_port")
    wrong("device port", place(tmp_path, listen_host="192.0.2.1", listen_port=7700), "listen_host")


def test_invitations_that_lead_nowhere(tmp_path: Path) -> None:
    """To each device's own loopback, to a doctor that hears this computer alone, to a name that nobody knows."""
    own = place(tmp_path, listen_host="0.0.0.0", addresses=("127.0.0.1:7700",))
    wrong("addresses in invitations", own, "own loopback", "Set addresses")
    alone = place(tmp_path, addresses=("192.0.2.1:7700",))
    wrong("addresses in invitations", alone, "this computer alone", "Set listen_host")
    unknown = place(tmp_path, addresses=("nowhere.invalid:7700",))
    wrong("addresses in invitations", unknown, "nowhere.invalid", "resolved")


def test_invitations_that_name_this_machine_as_it_calls_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which devices may not know: advice."""
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    advised("addresses in invitations", place(tmp_path, listen_host="0.0.0.0"), "None is set", "localhost")


def test_an_address_that_does_not_answer(tmp_path: Path) -> None:
    """Asked only where a doctor runs; it may be the way from here that is missing."""
    with taken() as port:
        pass
    settings = settings_for(tmp_path, listen_port=port, addresses=(f"127.0.0.1:{port}",))
    advised("addresses in invitations", Place(settings, True, clock().wall, 1), "does not answer", "firewall")


def test_a_console_that_would_be_on_the_devices_network(tmp_path: Path) -> None:
    """And metrics that would."""
    wrong("console", place(tmp_path, console_host="0.0.0.0", console_port=0), "devices' network")
    wrong("console", place(tmp_path, console_host="192.0.2.1", console_port=0), "console_certificate")
    wrong("metrics", place(tmp_path, metrics_host="0.0.0.0", metrics_port=0), "devices' network")


def test_a_certificate_that_is_missing_half_set_not_valid_or_soon_over(tmp_path: Path) -> None:
    """The console's, at each time of its life."""
    (tmp_path / "state").mkdir(mode=0o700)
    certificate, key = map(str, certificates.self_signed(str(tmp_path / "state")))
    both = {"console_port": 0, "console_certificate": certificate, "console_key": key}
    now = clock().wall

    def at(days: float, **changes: Any) -> Place:
        return place(tmp_path, now=now + round(days * DAY), **{**both, **changes})

    assert finding("console", at(0)).verdict is Verdict.OK
    assert (
        finding("console", at(0, console_certificate="self-signed", console_key=None)).verdict is Verdict.OK
    )
    advised("console", at(360), "ends on", "new one")
    wrong("console", at(366), "not now", "restart")
    wrong("console", at(-1), "not now")
    wrong("console", at(0, console_key=None), "belong together")
    wrong("console", at(0, console_certificate=str(tmp_path / "no.pem")), "of no use")
    Path(key).chmod(0o644)
    wrong("console", at(0), "mode 0644", "chmod 600")


def test_the_superuser_is_advised_against(tmp_path: Path) -> None:
    """With the command that gives what is there to another."""
    at = place(tmp_path)
    assert finding("user", at).found == "uid 1000"
    advised("user", replace(at, uid=0), "root", "chown -R", str(tmp_path / "state"))


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /srv/net\040share rw - nfs4 server:/export rw
31 30 0:41 / /srv/net\040share/fast rw - tmpfs tmpfs rw
32 21 0:42 / /srv/box rw - overlay overlay rw
33 21 0:43 / /srv/twice rw - nfs server:/x rw
34 21 8:2 / /srv/twice rw - xfs /dev/sdb rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/telemed", "ext4"),
        ("/srv/net share/clinic/state", "nfs4"),
        ("/srv/net share/fast/state", "tmpfs"),
        ("/srv/net shared/state", "ext4"),
        ("/srv/box", "overlay"),
        ("/srv/twice/x", "xfs"),
    ],
)
def test_a_paths_volume_is_the_nearest_mount_above_it(path: str, kind: str) -> None:
    """A name that only begins alike is another; the later of two mounts counts."""
    assert filesystem(MOUNTS, Path(path)) == kind


def test_a_volume_on_which_a_database_does_not_work_or_does_not_last(tmp_path: Path) -> None:
    """Over the network it is wrong; in memory, or in a container's own layer, it is advice."""
    line = f"30 1 0:40 / {tmp_path} rw - %s x rw"
    at = place(tmp_path)
    wrong("volume", replace(at, mounts=line % "nfs4"), "network file system (nfs4)", "Set state_dir")
    advised("volume", replace(at, mounts=line % "tmpfs"), "in memory", "disk")
    advised("volume", replace(at, mounts=line % "overlay"), "container", "mount a volume")
    assert finding("volume", replace(at, mounts=line % "ext4")).found == "ext4"
    assert finding("volume", at).verdict is Verdict.OK


def test_a_clock_that_nothing_keeps(tmp_path: Path) -> None:
    """As the kernel says; where it says nothing, nothing is said."""
    at = place(tmp_path)
    advised("time service", replace(at, clock_kept=False), "nothing keeps", "chrony")
    assert finding("time service", replace(at, clock_kept=True)).found == "keeps the clock"
    assert finding("time service", at).verdict is Verdict.OK
    assert clock_is_kept() in (True, False, None)


def test_two_settings_that_name_one_port(tmp_path: Path) -> None:
    """Each alone is free; together the second does not start."""
    wrong(
        "ports", place(tmp_path, listen_port=7700, console_port=7700), "listen_port and console_port are both"
    )
    everywhere = place(tmp_path, listen_host="0.0.0.0", listen_port=9, metrics_port=9, console_port=None)
    wrong("ports", everywhere, "metrics_port", "another port")
    apart = place(tmp_path, listen_host="192.0.2.1", listen_port=9, metrics_port=9, console_port=0)
    assert finding("ports", apart).verdict is Verdict.OK


def run(*words: str, directory: Path) -> tuple[int, str]:
    """The command, with a configuration of its own."""
    path = directory / "doctor.yaml"
    result = CliRunner().invoke(cli.app, ["--config", str(path), "doctor", *words])
    return result.exit_code, result.output


def test_the_command_says_how_to_mend_and_ends_with_one(tmp_path: Path) -> None:
    """A table for people; the same for programs."""
    settings = (
        f"state_dir: {tmp_path}/state\naudit_dir: {tmp_path}/audit\nlisten_port: 0\nconsole_port: null\n"
    )
    (tmp_path / "doctor.yaml").write_text(settings)
    assert run(directory=tmp_path)[0] == 0

    (tmp_path / "state").mkdir(mode=0o755)
    code, text = run(directory=tmp_path)
    assert code == 1
    assert "✗" in text
    assert "1 to mend." in text
    code, text = run("--json", directory=tmp_path)
    found = {each["check"]: each for each in json.loads(text)}
    assert code == 1
    assert "chmod 700" in found["state directory"]["found"]


@pytest.mark.parametrize("text", ["lisen_port: 1\n", "listen_port: soon\n", "a: [\n", None])
def test_a_configuration_that_cannot_be_read_is_the_one_finding(tmp_path: Path, text: str | None) -> None:
    """An unknown key, a wrong value, no YAML, no file."""
    if text is not None:
        (tmp_path / "doctor.yaml").write_text(text)
    code, output = run("--json", directory=tmp_path)

    (found,) = json.loads(output)
    assert code == 1
    assert (found["check"], found["verdict"]) == ("settings", "wrong")
    assert "doctor.yaml" in found["found"]
