"""The command line: words, exit codes, and what a user or another program reads."""

from __future__ import annotations

import asyncio
import io
import json
import os
import runpy
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from patient import cli, options
from patient.exit_codes import ExitCode
from patient.identity import DeviceHome, create
from patient.inbox import Inbox
from patient.slots import DeviceLock
from shared.crypto.signatures import ECDSA_P256, Algorithm
from shared.crypto.suites import DEFAULT_SUITE
from shared.protocol.events import MessageReceived
from shared.protocol.invitations import DoctorKey, Invitation, to_text
from shared.storage import checksums
from shared.storage.keyfile import write_private
from shared.storage.sealed import Sealer
from shared.wire.messages import Envelope, Stream, TargetKind
from shared.wire.opcodes import DisconnectReason
from tests.command_tree import commands
from tests.small_doctor import SmallDoctor

KEY = DoctorKey(Algorithm.ECDSA_P256, ECDSA_P256.generate(os.urandom).public)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this test's settings."""
    for name in list(os.environ):
        if name.startswith("TELEMED_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TELEMED_PATIENT_STATE_DIR", str(tmp_path / "patients"))
    monkeypatch.setenv("TELEMED_PATIENT_BACKOFF_MIN_S", "0.001")
    monkeypatch.setenv("TELEMED_PATIENT_BACKOFF_MAX_S", "0.002")
    monkeypatch.setattr(options, "DEFAULT_CONFIG", tmp_path / "patient.yaml")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command; its exit code, output and errors."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    return command


Run = Callable[..., tuple[int, str, str]]


@contextmanager
def served(work: Callable[[SmallDoctor], Coroutine[Any, Any, None]]) -> Iterator[SmallDoctor]:
    """A doctor in a thread of its own, which does `work` once it listens; the command has the main thread."""
    doctors: list[SmallDoctor] = []
    listening = Event()

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctors.append(doctor)
            listening.set()
            await work(doctor)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(asyncio.run, main())
        assert listening.wait(10)
        yield doctors[0]
        ended.result(10)


async def session(doctor: SmallDoctor, visits: int) -> None:
    """Wait for the session of that connection."""
    await doctor.until(lambda: len(doctor.visits) == visits and doctor.last.first is not None)


def device(tmp_path: Path, patient_id: str | None = "alice", directory: str = "alice") -> DeviceHome:
    """A device on the disk that nobody has admitted."""
    invitation = Invitation("doctor", [KEY], ["127.0.0.1:1"], [], os.urandom(16), bytes(32), 0, 1, patient_id)
    home = DeviceHome(tmp_path / "patients" / directory)
    for path in (home.path.parent, home.path):
        path.mkdir(mode=0o700, exist_ok=True)
    home.save(create(invitation, DEFAULT_SUITE, None, os.urandom))
    return home


def fill(home: DeviceHome, *bodies: bytes | None) -> None:
    """Put messages into an inbox."""

    async def main() -> None:
        sealer, failed = Sealer(home.load().storage_key, os.urandom), list[BaseException]()
        async with Inbox(home.inbox_file, sealer, lambda _: None, failed.append) as inbox:
            for index, body in enumerate(bodies):
                stream, number = Stream(TargetKind.GROUP, "everyone"), 10 * index + 10
                envelope = Envelope("doctor", "", stream, "", number, number - 10, 0, 1, 1, bytes(32))
                inbox.store(MessageReceived(envelope, body, False), 1_800_000_000_000)
            await inbox.settle()
        assert failed == []

    asyncio.run(main())


# --- words


def test_help_explains_every_exit_code(run: Run) -> None:
    """Whoever scripts this needs them."""
    code, out, _ = run("--help")

    assert code == 0
    for each in ExitCode:
        assert f"{each.value}: {each.meaning}" in out


def test_help_of_enrol_offers_ways_that_nobody_else_can_see(run: Run) -> None:
    """An argument stands in the process list."""
    _, out, _ = run("enrol", "--help")

    assert "@FILE" in out
    assert "standard input" in out


def test_the_version_is_printed(run: Run) -> None:
    """That of the installed project, or that there is none."""
    code, out, _ = run("--version")

    assert (code, bool(out.strip())) == (0, True)


def test_an_image_has_the_sources_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project is not installed there."""

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", missing)

    assert run("--version")[1] == "source\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run",), "Give the id"),
        (("run", "../x"), "no patient id"),
        (("inbox",), "Give the id"),
        (("report", "hello"), "Give the id"),
        (("reports",), "Give the id"),
        (("report", "hello", "--id", "alice", "--kind", "poem"), "'poem' is not one of"),
        (("walk",), "No such command"),
        (("run", "alice", "--config", "/none.yaml"), "/none.yaml"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what(run: Run, arguments: tuple[str, ...], words: str) -> None:
    """One line on standard error, nothing on standard output."""
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert words in err


def test_a_bad_setting_ends_with_2_and_names_its_place(run: Run, tmp_path: Path) -> None:
    """The default file is read where it exists."""
    (tmp_path / "patient.yaml").write_text("log_level: info\nsuit: x\n")

    code, _, err = run("run", "alice")

    assert code == 2
    assert 'patient.yaml:2: unknown key "suit"; did you mean "suite"?' in err


@pytest.mark.parametrize(
    "command", [("run", "alice"), ("inbox", "alice"), ("reports", "alice"), ("report", "hi", "--id", "alice")]
)
def test_a_device_that_is_not_enrolled_ends_with_8(run: Run, command: tuple[str, ...]) -> None:
    """The sentence says how to enrol."""
    code, _, err = run(*command)

    assert code == 8
    assert "telemed-patient enrol" in err


def test_a_key_file_that_others_can_read_is_refused(run: Run, tmp_path: Path) -> None:
    """With the command that makes it right."""
    device(tmp_path).identity_file.chmod(0o604)

    code, _, err = run("run", "alice")

    assert code == 2
    assert "chmod 600" in err


def test_a_damaged_inbox_ends_with_10_and_one_line(run: Run, tmp_path: Path) -> None:
    """No traceback for what a person can do something about."""
    home = device(tmp_path)
    fill(home, b"x")
    with closing(sqlite3.connect(home.inbox_file)) as connection, connection:
        checksums.install(connection)
        connection.execute("UPDATE messages SET body = zeroblob(40)")

    code, _, err = run("inbox", "alice")

    assert code == 10
    assert err.count("\n") == 1
    assert "does not open" in err


# --- inbox


def test_the_inbox_is_shown_in_blocks(run: Run, tmp_path: Path) -> None:
    """What had expired when it came is not shown."""
    fill(device(tmp_path), b"take two", None)

    code, out, _ = run("inbox", "alice")

    assert code == 0
    assert "take two" in out
    assert out.count("group:everyone") == 1


def test_an_empty_inbox_says_so(run: Run, tmp_path: Path) -> None:
    """Rather than nothing."""
    device(tmp_path)

    assert run("inbox", "alice")[1] == "No messages yet.\n"


def test_the_inbox_as_json_is_one_list(run: Run, tmp_path: Path) -> None:
    """An expired message is a number without a body."""
    fill(device(tmp_path), b"take two", None)

    entries = json.loads(run("inbox", "alice", "--json")[1])

    assert [(each["number"], each["body"], each["expired"]) for each in entries] == [
        (10, "take two", False),
        (20, None, True),
    ]
    assert entries[0] == {
        "id": "everyone.10",
        "stream": "group:everyone",
        "number": 10,
        "created": "1970-01-01T00:00:00.000+00:00",
        "received": "2027-01-15T08:00:00.000+00:00",
        "body": "take two",
        "direct": False,
        "expired": False,
        "private": False,
        "receipted": False,
    }


def test_in_a_container_the_inbox_is_that_of_the_running_device(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heartbeat file says who lives here."""
    fill(device(tmp_path), b"mine")
    beat = tmp_path / "beat"
    monkeypatch.setenv("TELEMED_PATIENT_HEARTBEAT_FILE", str(beat))

    without = run("inbox")
    beat.write_text("alice\n")
    with_session = run("inbox")

    assert without[0] == 2
    assert "mine" in with_session[1]


# --- reports


def admitted(tmp_path: Path) -> DeviceHome:
    """A device on the disk that its doctor knows."""
    home = device(tmp_path)
    home.save(home.load().admitted())
    return home


def test_a_report_is_kept_and_listed(run: Run, tmp_path: Path) -> None:
    """Its id is printed; it waits for the doctor."""
    admitted(tmp_path)

    code, out, _ = run("report", "I feel better", "--id", "alice")
    vitals = run("report", '{"pulse": 70}', "--id", "alice", "--kind", "vitals", "--json")
    listed = json.loads(run("reports", "alice", "--json")[1])

    first, second = (each["id"] for each in listed)
    assert code == 0
    assert out == f"Report {first} is kept on this device and goes to the doctor with the next session.\n"
    assert json.loads(vitals[1]) == {"id": second, "state": "waiting", "to": None}
    assert [(each["kind"], each["body"], each["state"], each["kept"]) for each in listed] == [
        ("reply", "I feel better", "waiting", None),
        ("vitals", '{"pulse": 70}', "waiting", None),
    ]


def test_a_reply_says_what_it_answers(run: Run, tmp_path: Path) -> None:
    """To the person, who may have another message in mind, and in the report itself."""
    fill(admitted(tmp_path), b"take two\nat noon", b"drink water")

    code, out, _ = run("reply", "I did.", "--to", "everyone.10", "--id", "alice")
    newest = json.loads(run("reply", "Gladly.", "--id", "alice", "--json")[1])
    listed = json.loads(run("reports", "alice", "--json")[1])

    assert code == 0
    assert out.splitlines()[0] == "A reply to everyone.10, “take two at noon”."
    assert (newest["to"], newest["id"], newest["state"]) == ("everyone.20", listed[1]["id"], "waiting")
    assert [each["body"] for each in listed] == ["Re: everyone.10\nI did.", "Re: everyone.20\nGladly."]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("", "--id", "alice"), 2, "The reply is empty"),
        (("x", "--id", "alice", "--to", "everyone.99"), 2, "no message everyone.99"),
        (("x" * 32_768, "--id", "alice"), 2, "one has 1 to 32768"),
        (("x",), 2, "Give the id"),
        (("x", "--id", "nobody"), 8, "nobody"),
    ],
)
def test_a_reply_that_cannot_be_kept_is_refused(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """With its code and one sentence; nothing is kept."""
    fill(admitted(tmp_path), b"take two")

    found, out, err = run("reply", *arguments)

    assert (found, out) == (code, "")
    assert words in err
    assert run("reports", "alice")[1] == "No reports yet.\n"


IN_TURN = [
    "enrol @{file} --id alice",
    "inbox alice",
    "report better --id alice",
    "reply gladly --id alice",
    "reports alice",
    "run alice",
]


def test_the_last_line_of_every_command_is_one_json_value(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object, or for what lists things a list of them."""
    monkeypatch.setenv(
        "TELEMED_PATIENT_ATTEMPTS", "3"
    )  # or `run` would look for ever for a doctor whose patience has ended
    tried = set()
    with served(admit_and_then_revoke) as doctor:
        invitation = tmp_path / "alice.invitation"
        write_private(invitation, to_text(doctor.invite()).encode())
        for line in IN_TURN:
            path = line.split()[0]
            if path == "reply":
                fill(DeviceHome(tmp_path / "patients" / "alice"), b"take two")
            _, out, err = run(*line.format(file=invitation).split(), "--json")
            assert isinstance(json.loads(out.splitlines()[-1]), dict | list), (line, err)
            tried.add(path)

    assert tried == set(commands(cli.app))


async def admit_and_then_revoke(doctor: SmallDoctor) -> None:
    """The first session enrols; the second is the device that runs, until it is told that it is revoked."""
    await session(doctor, 1)
    await session(doctor, 2)
    doctor.last.stream.connection.disconnect(DisconnectReason.REVOKED)
    doctor.last.stream.flush()
    await doctor.until(lambda: doctor.last.closed)


def test_a_report_may_come_from_standard_input(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it does not stand in the process list."""
    admitted(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("between us\n"))

    assert run("report", "-", "--id", "alice")[0] == 0
    assert "between us" in run("reports", "alice")[1]


def test_no_reports_are_said(run: Run, tmp_path: Path) -> None:
    """Rather than nothing."""
    device(tmp_path)

    assert run("reports", "alice")[1] == "No reports yet.\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((",",), ""),
        (("",), "has 0 bytes; one has 1 to 32768"),
        (("x" * 32_769,), "has 32769 bytes; one has 1 to 32768"),
        (("-",), "has 32769 bytes; one has 1 to 32768"),
        (("pulse 70", "--kind", "vitals"), "of kind vitals is JSON"),
        (("\udcff",), "not UTF-8"),
    ],
)
def test_a_report_that_the_doctor_would_not_take_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    """One line, code 2."""
    admitted(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * 100_000))

    code, out, err = run("report", *arguments, "--id", "alice")

    assert words in err
    assert (code, bool(out)) == ((2, False) if words else (0, True))


def test_a_report_of_a_device_that_is_not_admitted_is_refused(run: Run, tmp_path: Path) -> None:
    """Were its enrolment refused, the report would go with everything else."""
    device(tmp_path)

    code, _, err = run("report", "hello", "--id", "alice")

    assert code == 8
    assert "has not admitted alice yet: start it with `telemed-patient run alice`" in err


def test_a_revoked_device_reports_nothing(run: Run, tmp_path: Path) -> None:
    """It would wait for ever."""
    admitted(tmp_path).mark_revoked()

    code, _, err = run("report", "hello", "--id", "alice")

    assert code == 7
    assert "takes no report" in err


def test_an_outbox_that_cannot_be_written_ends_with_10(run: Run, tmp_path: Path) -> None:
    """One line that names it; there is no id."""
    home = admitted(tmp_path)
    home.outbox_file.mkdir(0o700)

    code, out, err = run("report", "hello", "--id", "alice")
    assert (code, out) == (2, "")
    assert "outbox.db is not a regular file" in err

    home.outbox_file.rmdir()
    home.outbox_file.write_bytes(b"x" * 5000)
    home.outbox_file.chmod(0o600)
    code, out, err = run("report", "hello", "--id", "alice")
    assert (code, out) == (10, "")
    assert "outbox.db: file is not a database" in err


# --- enrol and run


def test_a_running_device_sends_what_a_command_reports(run: Run, tmp_path: Path) -> None:
    """Two programs, one outbox; the list says since when the doctor has it."""

    async def take_a_report(doctor: SmallDoctor) -> None:
        await session(doctor, 2)
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "import sys; from patient.cli import main; sys.exit(main())"),
            *("report", "from a command", "--id", "alice", "--json"),
            stdout=asyncio.subprocess.PIPE,
        )
        written.append(json.loads((await command.communicate())[0]))
        await doctor.until(lambda: doctor.reports)
        os.kill(os.getpid(), signal.SIGTERM)
        await doctor.until(lambda: doctor.last.goodbye)

    written: list[dict[str, str]] = []
    with served(take_a_report) as doctor:
        enrolled = run("enrol", to_text(doctor.invite()))
        ran = run("run", "alice", "--json")

    (listed,) = json.loads(run("reports", "alice", "--json")[1])
    assert (enrolled[0], ran[0]) == (0, 0)
    assert [report_id.hex() for report_id in doctor.reports] == [written[0]["id"]] == [listed["id"]]
    assert json.loads(ran[1].splitlines()[-1]) == {"event": "report-kept", "report": listed["id"]}
    assert (listed["state"], bool(listed["kept"])) == ("kept", True)
    assert "kept by the doctor since" in run("reports", "alice")[1]


def test_enrol_then_run_then_stop(run: Run, tmp_path: Path) -> None:
    """Three commands of a device's life; SIGTERM ends it in good order with code 0."""

    async def speak_and_stop(doctor: SmallDoctor) -> None:
        await session(doctor, 2)
        doctor.say("good morning")
        await doctor.until(lambda: doctor.last.receipts)
        os.kill(os.getpid(), signal.SIGTERM)
        await doctor.until(lambda: doctor.last.goodbye)

    with served(speak_and_stop) as doctor:
        write_private(tmp_path / "invitation", to_text(doctor.invite()).encode())
        enrolled = run("enrol", f"@{tmp_path}/invitation", "--json")
        ran = run("run", "alice", "--json")

    events = [json.loads(line) for line in ran[1].splitlines()]
    assert (enrolled[0], ran[0]) == (0, 0)
    assert json.loads(enrolled[1].splitlines()[-1])["event"] == "enrolled"
    assert [event["event"] for event in events] == ["handshake"] * 5 + ["established", "epoch", "message"]
    assert events[-1]["body"] == "good morning"
    assert "good morning" in run("inbox", "alice")[1]


def test_a_person_reads_sentences_and_blocks(run: Run) -> None:
    """Without --json."""

    async def speak_and_stop(doctor: SmallDoctor) -> None:
        await session(doctor, 2)
        doctor.say("good morning")
        await doctor.until(lambda: doctor.last.receipts)
        os.kill(os.getpid(), signal.SIGINT)

    with served(speak_and_stop) as doctor:
        enrolled = run("enrol", to_text(doctor.invite()), "--id", "alice")
        ran = run("run", "alice")

    assert "Next: telemed-patient run alice" in enrolled[1]
    assert ran[1].startswith("Connected to doctor doctor as alice")
    assert "good morning" in ran[1]


def test_a_refused_enrolment_ends_with_its_code(run: Run, tmp_path: Path) -> None:
    """Nobody listens: 9, and nothing is left."""
    invitation = Invitation("doctor", [KEY], ["127.0.0.1:1"], [], bytes(16), bytes(32), 0, 1, "alice")

    code, out, _ = run("enrol", to_text(invitation))

    assert code == 9
    assert "cannot be reached at 127.0.0.1:1: Connection refused" in out
    assert not (tmp_path / "patients" / "alice").exists()


def test_an_interrupted_enrolment_is_not_a_success(run: Run) -> None:
    """Ctrl-C while the doctor thinks."""

    async def stop(doctor: SmallDoctor) -> None:
        doctor.admit = False
        await doctor.until(lambda: doctor.visits and doctor.last.patient_id)
        os.kill(os.getpid(), signal.SIGINT)

    with served(stop) as doctor:
        code, _, _ = run("enrol", to_text(doctor.invite()))

    assert code == 1


def test_an_unreadable_invitation_ends_with_3(run: Run) -> None:
    """One line."""
    code, _, err = run("enrol", "telemed1-nonsense")

    assert code == 3
    assert "damaged" in err


def test_a_limited_number_of_attempts_ends_with_the_last_reason(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unreachable twice: 9."""
    device(tmp_path)
    monkeypatch.setenv("TELEMED_PATIENT_ATTEMPTS", "2")

    code, out, _ = run("run", "alice", "--json")

    assert code == 9
    assert len(out.splitlines()) == 2


def test_a_revoked_device_says_so_without_asking_again(run: Run, tmp_path: Path) -> None:
    """Its mark is enough."""
    device(tmp_path).mark_revoked()

    code, _, err = run("run", "alice")

    assert code == 7
    assert "revoked" in err


def test_a_replica_takes_a_slot_and_enrols_with_the_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: the second start is the same device, and no second slot is made."""
    fleet = tmp_path / "fleet.invitation"
    monkeypatch.setenv("TELEMED_PATIENT_SLOTS_DIR", str(tmp_path / "slots"))
    monkeypatch.setenv("TELEMED_PATIENT_INVITATION_FILE", str(fleet))

    async def stop_after_each_session(doctor: SmallDoctor) -> None:
        write_private(fleet, to_text(doctor.invite(None, uses=5)).encode())
        for visits in (1, 2):
            await session(doctor, visits)
            os.kill(os.getpid(), signal.SIGTERM)

    with served(stop_after_each_session) as doctor:
        codes = [run("run")[0], run("run")[0]]
        known = list(doctor.directory.members)

    assert codes == [0, 0]
    assert len(known) == 1
    assert [path.name for path in (tmp_path / "slots").iterdir()] == ["0001"]


def test_a_named_device_may_enrol_with_the_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invitation for that id, put where the settings say."""
    file = tmp_path / "alice.invitation"
    monkeypatch.setenv("TELEMED_PATIENT_INVITATION_FILE", str(file))

    async def stop(doctor: SmallDoctor) -> None:
        write_private(file, to_text(doctor.invite("alice")).encode())
        await session(doctor, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    with served(stop) as doctor:
        code, _, _ = run("run", "alice")

    assert code == 0
    assert list(doctor.directory.members) == ["alice"]


def test_a_device_in_use_is_refused(run: Run, tmp_path: Path) -> None:
    """Two programs with one identity would only replace each other."""
    home = device(tmp_path)

    with DeviceLock.acquire(home):
        code, _, err = run("run", "alice")

    assert code == 2
    assert "Another program uses the device" in err


def test_python_m_patient_is_run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """`python -m patient ID` needs no subcommand."""
    monkeypatch.setattr(sys, "argv", ["patient", "nobody"])

    with pytest.raises(SystemExit) as end:
        runpy.run_module("patient", run_name="__main__")

    assert end.value.code == 8
    assert "nobody" in capfd.readouterr().err
