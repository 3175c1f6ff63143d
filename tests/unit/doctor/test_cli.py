"""The command line: each command, for people and for programs, and what it says and returns when it cannot."""

from __future__ import annotations

import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from doctor import cli, service, terminal
from doctor.console.passwords import Cost, Hasher
from doctor.operators import ConsolePlace
from doctor.settings import DoctorSettings
from shared.errors import StorageError, UserError
from shared.protocol import invitations
from shared.protocol.events import ReportsReceipted
from shared.wire.messages import Report, ReportKind
from tests.command_tree import commands
from tests.doctor_bench import EVERYONE, LOG, Device, Doctor, serving_in_a_thread


class Terminal:
    """Runs the program as from a shell.

    Calling it returns (exit code, standard output, standard error).
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["telemed-doctor", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        self._capsys.readouterr()
        code = cli.main()
        out, err = self._capsys.readouterr()
        return code, out, err

    def json(self, *arguments: str) -> Any:
        """What a command prints for programs; it must succeed."""
        code, out, err = self(*arguments, "--json")
        assert (code, err) == (0, "")
        assert out.count("\n") == 1
        return json.loads(out)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """The program, unconfigured but for what the test says."""
    monkeypatch.delenv("TELEMED_DOCTOR_CONFIG", raising=False)
    return Terminal(monkeypatch, capsys)


@pytest.fixture
def doctor(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doctor]:
    """A doctor that serves, and an environment that leads to it."""
    monkeypatch.setenv("TELEMED_DOCTOR_STATE_DIR", str(short_dir / "state"))
    with serving_in_a_thread(short_dir) as doctor:
        yield doctor


def enrol(run: Terminal, doctor: Doctor, patient: str) -> Device:
    """Invite by the command line; the device connects and is attached."""
    device = Device(invitations.from_text(run.json("invite", patient)["invitation"]))
    doctor.wait(doctor.connect(device))
    doctor.wait(doctor.attached(device))
    return device


def test_every_command_for_programs(run: Terminal, doctor: Doctor) -> None:
    """One JSON value on one line each."""
    anna = enrol(run, doctor, "anna")
    assert run.json("groups", "create", "ward") == {"name": "ward", "epoch": 1, "members": []}
    assert run.json("groups", "add", "ward", "anna")["patient"] == "anna"
    assert [group["members"] for group in run.json("groups", "list")] == [["anna"], ["anna"]]
    sent = run.json("broadcast", "round at nine", "--group", "ward")
    assert (sent["group"], sent["recipients"]) == ("ward", 1)
    doctor.wait(doctor.delivered(anna, sent["number"]))
    assert run.json("receipts", sent["id"]) == [{"patient": "anna", "state": "delivered"}]
    assert (terminal._known(terminal._patients)("an"), terminal._known(terminal._groups)("x")) == (
        ["anna"],
        [],
    )
    (row,) = run.json("patients")
    assert (row["patient"], row["state"], row["fingerprint"]) == ("anna", "established", anna.fingerprint)
    assert run.json("groups", "remove", "ward", "anna")["group"] == "ward"
    assert run.json("retire", "anna")["standing"] == "retired"
    assert run.json("reports", "anna", "--forget-older", "0") == []
    revoked = run.json("revoke", "anna")
    assert isinstance(revoked.pop("excluded_in_ms"), int)
    assert revoked == {"patient": "anna", "standing": "revoked", "groups": []}
    fleet = run.json("invite", "--fleet", "--group", "ward", "--hours", "2")
    assert (fleet["patient"], fleet["groups"], fleet["uses"]) == (None, ["everyone", "ward"], 10_000)
    verdict = run.json("audit", "verify")
    assert (verdict["valid"], verdict["first_bad"]) == (True, None)


IN_TURN = [
    "doctor",
    "probe",
    "invite bert",
    "patients",
    "groups create ward",
    "groups add ward anna",
    "groups list",
    "broadcast noon",
    "send anna one",
    "receipts {sent}",
    "reports anna",
    "thresholds anna",
    "alerts",
    "acknowledge 1",
    "groups remove ward anna",
    "console",
    "operators add max",
    "operators add bea",
    "operators list",
    "operators password bea",
    "operators remove bea",
    "backup {directory}/backup",
    "rotate-key --yes",
    "rotate-key --status",
    "retire anna",
    "revoke anna",
    "audit verify",
    "audit list --count 3 --about anna",
    "confirm-restore --yes",
    "restore {directory}/none",
    "accept-clock --yes",
]
FAILS = {
    "acknowledge 1",
    "console",
    "confirm-restore --yes",
    "restore {directory}/none",
    "accept-clock --yes",
}  # here: by its own sentence


def test_the_last_line_of_every_command_is_one_json_value(
    run: Terminal, doctor: Doctor, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object, or for what lists things a list of them; where a command cannot, standard output stays empty."""
    doctor.gateway.commands.hasher = Hasher(Cost(memory=8, iterations=1))
    monkeypatch.setenv("TELEMED_DOCTOR_LISTEN_PORT", str(doctor.gateway.port))
    enrol(run, doctor, "anna")
    fields = {"directory": str(short_dir), "sent": ""}
    for line in IN_TURN:
        code, out, err = run(*line.format(**fields).split(), "--json")

        if line in FAILS:
            assert (code, out, err.count("\n")) == (1, "", 1), line
            continue
        assert (code, err) == (0, ""), line
        value: Any = json.loads(out.splitlines()[-1])
        if line.startswith("send"):
            fields["sent"] = value["id"]
    tried = {path for path in commands(cli.app) if any(f"{line} ".startswith(f"{path} ") for line in IN_TURN)}
    assert set(commands(cli.app)) - tried == {"serve"}


def test_a_report_cannot_steer_the_terminal_of_who_reads_it(run: Terminal, doctor: Doctor) -> None:
    """Nor turn the direction of writing, or clear what stands above it: a patient writes it, and any patient may be hostile."""
    anna = enrol(run, doctor, "anna")
    hostile = "\x1b]52;c;aGk=\x07\n\x1b[2J\n\x9b1A\n\u202eevil".encode()
    report = Report(bytes(16), ReportKind.REPLY, 1, hostile)

    async def sent() -> None:
        assert anna.stream is not None
        anna.stream.connection.report(report)
        anna.stream.flush()
        await anna.until(lambda it: ReportsReceipted((report.report_id,)) in it.events)

    doctor.wait(sent())

    code, out, err = run("reports", "anna")

    assert (code, err) == (0, "")
    for shown in ("\\x1b]52;c;aGk=\\x07", "\\x1b[2J", "\\x9b1A", "\\u202eevil"):
        assert shown in out
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(out)


def test_every_command_for_people(run: Terminal, doctor: Doctor) -> None:
    """A table or a sentence; what is to be copied stands on a line of its own."""

    def say(*arguments: str) -> str:
        code, out, err = run(*arguments)
        assert (code, err) == (0, "")
        return out

    anna = enrol(run, doctor, "anna")
    code, out, err = run("invite", "bert", "--qr")
    assert code == 0
    assert "Invitation for bert, valid until 20" in err
    assert invitations.from_text(out.splitlines()[0]).patient_id == "bert"
    assert "█" in out or "▀" in out or "▄" in out
    code, out, err = run("invite", "--fleet")
    assert "a fleet of up to 10000 devices, valid until it is rotated" in err
    assert invitations.from_text(out).patient_id is None  # sent into a file, it can be used as it is
    assert "Group ward exists." in say("groups", "create", "ward")
    assert "anna is a member of ward." in say("groups", "add", "ward", "anna")
    out = say("groups", "list")
    assert "2 groups" in out
    assert re.search(r"ward .* 1 .* anna", out)
    out = say("broadcast", "round at nine")
    assert "Accepted for 1 patient in everyone." in out
    (line,) = [line for line in out.splitlines() if line.startswith("telemed-doctor receipts ")]
    message = line.split()[-1]
    doctor.wait(doctor.delivered(anna, int(message.rpartition(".")[2])))
    assert "1 of 1 delivered" in say("receipts", message)
    out = say("send", "anna", "and you?", "--expires", "2")
    assert "Accepted for anna alone." in out
    (line,) = [line for line in out.splitlines() if line.startswith("telemed-doctor receipts ")]
    message = line.split()[-1]
    assert message.startswith("patient:anna.")
    doctor.wait(doctor.delivered(anna, int(message.rpartition(".")[2])))
    assert "1 of 1 delivered" in say("receipts", message)
    out = say("patients")
    assert out.startswith("1 patient\n")
    assert "nothing came" not in out
    doctor.fanout.troubles.note("anna", "nothing came", 0)
    assert "anna: 1970-01-01 00:00:00 UTC: nothing came" in say("patients")
    assert "anna is no longer a member of ward." in say("groups", "remove", "ward", "anna")
    assert re.search(
        r"anna is retired; new epochs began in everyone\. Excluded within \d+ ms\.", say("retire", "anna")
    )
    assert "anna is revoked; new epochs began in no group." in say("revoke", "anna")
    assert re.search(r"\d+ entries and \d+ signed heads verify\.", say("audit", "verify"))
    out = say("audit", "list", "--about", "anna", "--count", "2")
    assert re.search(r"2 entries\n.*retired .*anna.*\n.*revoked .*anna", out, re.S)
    (older,) = re.findall(r"Older ones: --before (\d+)", out)
    assert "retired" not in say("audit", "list", "--about", "anna", "--before", older)


def test_new_keys_and_who_lacks_them(run: Terminal, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks first; a refusal names who is missing, and what can be done."""
    enrol(run, doctor, "anna")
    run("invite", "bert")
    before = run.json("rotate-key", "--status")
    assert (before["sequence"], before["complete"]) == (0, True)
    assert "those of the first start" in run("rotate-key", "--status")[1]
    assert run("rotate-key", "--json")[0] == 2
    code, _, err = run("rotate-key", stdin=b"n\n")
    assert (code, "Nothing was changed." in err) == (1, True)

    code, out, err = run("rotate-key", stdin=b"y\n")
    assert code == 0
    assert "Rotation 1 began at 20" in out
    assert "Not back since: anna." in out
    assert "Invite anew, their invitations named the former keys: bert." in out
    assert before["keys"]["ecdsa_p256"] not in out
    code, out, err = run("rotate-key", "--yes")
    assert (code, out) == (1, "")
    assert "Rotation 1 is not complete: anna did not connect since." in err
    assert run("retire", "anna")[0] == 0
    assert "Everyone has the new keys." in run("rotate-key", "--status")[1]


def test_the_console_and_its_operators(run: Terminal, doctor: Doctor) -> None:
    """Where it is and how one logs in for the first time; a password stands alone on standard output."""
    commands = doctor.gateway.commands
    commands.hasher = Hasher(Cost(memory=8, iterations=1))
    code, _, err = run("console")
    assert (code, "console_port is null" in err) == (1, True)
    commands.console = ConsolePlace("https://127.0.0.1:8080/", "ab" * 32)
    first = doctor.wait(commands.provide_first_operator())
    assert first is not None
    assert run.json("console")["first_password"] == first.password
    _, out, _ = run("console")
    assert "https://127.0.0.1:8080/" in out
    assert ":".join(["AB"] * 32) in out
    assert first.password in out

    code, out, err = run("operators", "add", "bea")
    assert (code, len(out), "shown once" in err) == (0, 24, True)
    assert run.json("operators", "password", "admin")["name"] == "admin"
    assert first.password not in run("console")[1]
    assert [each["name"] for each in run.json("operators", "list")] == ["admin", "bea"]
    assert "2 operators" in run("operators", "list")[1]
    assert run("operators", "remove", "bea")[1] == "bea is no operator any more.\n"
    assert run("operators", "remove", "admin")[0] == 1
    assert run("operators", "add", "B")[0] == 1


def test_a_message_may_be_read_from_standard_input(run: Terminal, doctor: Doctor) -> None:
    """Line ends and control characters included; what is no text is said."""
    code, out, _ = run("broadcast", "-", "--json", stdin=b"two\nlines\x00\x1b[31m\xc3\xa4")
    assert code == 0
    stored = doctor.wait(stored_body(doctor, json.loads(out)["number"]))
    assert stored == "two\nlines\x00\x1b[31mä".encode()

    code, _, err = run("broadcast", "-", stdin=b"\xff\xfe")
    assert code == 2
    assert "not UTF-8" in " ".join(err.split())


async def stored_body(doctor: Doctor, number: int) -> bytes | None:
    """The body of a message in `everyone`."""
    outbox = doctor.gateway.commands._office.outbox
    ((_, message),) = outbox.load(doctor.reader, EVERYONE, number - 1, number, 0, 1)
    return message.body


def test_a_text_that_is_no_text_is_refused(run: Terminal) -> None:
    """A shell may hand over bytes that are no UTF-8."""
    code, _, err = run("broadcast", "caf\udce9")

    assert code == 2
    assert "not UTF-8" in " ".join(err.split())


REFUSED: list[tuple[tuple[str, ...], str]] = [
    (("revoke", "nobody"), "There is no patient 'nobody'"),
    (("revoke", "no\nbody"), "There is no patient"),
    (("revoke", "a b?c#d%2e"), "There is no patient 'a b?c#d%2e'"),
    (("retire", "nobody"), "There is no patient 'nobody'"),
    (("receipts", "everyone.1"), "There is no message everyone.1"),
    (("receipts", "nonsense\x1b[31m"), "is not a message id"),
    (("broadcast", "x", "--group", "attic"), "There is no group 'attic'"),
    (("groups", "add", "attic", "anna"), "There is no group 'attic'"),
    (("groups", "remove", "everyone", "anna"), "revoke or retire the patient instead"),
    (("groups", "create", "Ward 7"), "'Ward 7' is not a group name"),
    (("invite", "Anna"), "'Anna' is not a patient id"),
]


def test_what_the_doctor_refuses_is_one_sentence_and_exit_1(run: Terminal, doctor: Doctor) -> None:
    """On standard error, without a traceback or a raw control character."""
    for arguments, says in REFUSED:
        code, out, err = run(*arguments)

        assert (code, out) == (1, ""), arguments
        assert err.startswith("telemed-doctor: ")
        assert says in err
        assert err.count("\n") == 1
        assert "\x1b" not in err


def test_a_broken_audit_log_is_exit_1(run: Terminal, doctor: Doctor) -> None:
    """And names the entry, for programs too."""
    spoil = "UPDATE audit SET actor = 'eve' WHERE sequence = 1"
    doctor.wait(doctor.writer.submit(lambda db: db.execute(spoil).rowcount))

    code, out, _ = run("audit", "verify")
    assert (code, "does not verify at entry 1: entry 1 was changed" in " ".join(out.split())) == (1, True)
    code, out, _ = run("audit", "verify", "--json")
    assert (code, json.loads(out)["first_bad"]) == (1, 1)


def test_the_probe_is_a_health_check(run: Terminal, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 where the doctor answers on its port, 9 and the reason where it does not."""
    monkeypatch.setenv("TELEMED_DOCTOR_LISTEN_PORT", str(doctor.gateway.port))
    assert run("probe") == (0, "", "")
    assert run.json("probe") == {"doctor": "doctor", "port": doctor.gateway.port}

    monkeypatch.setenv("TELEMED_DOCTOR_DOCTOR_ID", "grace")
    code, _, err = run("probe")
    assert (code, "does not verify: V-020" in err) == (9, True)


def test_without_a_doctor_the_exit_code_is_9(
    run: Terminal, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every command that needs one."""
    monkeypatch.setenv("TELEMED_DOCTOR_STATE_DIR", str(short_dir))

    for arguments in (("patients",), ("broadcast", "x"), ("audit", "verify"), ("invite", "--fleet")):
        code, out, err = run(*arguments)
        assert (code, out) == (9, "")
        assert "No doctor answers at" in err


USAGE: dict[str, tuple[str, ...]] = {
    "no such command": ("fly",),
    "no such option": ("patients", "--fast"),
    "neither patient nor fleet": ("invite",),
    "no message": ("broadcast", ""),
    "too long a message": ("broadcast", "x" * 32_769),
    "both": ("invite", "anna", "--fleet"),
    "missing argument": ("broadcast",),
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_exit_2(run: Terminal, name: str) -> None:
    """And says what is expected."""
    code, out, err = run(*USAGE[name])

    assert (code, out) == (2, "")
    assert "Usage:" in err


def test_a_wrong_setting_is_exit_2_and_named_by_file_and_line(run: Terminal, tmp_path: Path) -> None:
    """What was found there, and what was expected."""
    path = tmp_path / "doctor.yaml"
    path.write_text("doctor_id: doctor\nlisten_prot: 7700\n")

    code, _, err = run("--config", str(path), "patients")

    assert code == 2
    assert f"{path}:2: unknown key" in err
    assert "listen_prot" in err


def test_settings_come_from_the_file_that_the_environment_names(
    run: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of its own overrides a key."""
    path = tmp_path / "doctor.yaml"
    path.write_text(f"state_dir: {tmp_path}/from-file\n")
    monkeypatch.setenv("TELEMED_DOCTOR_CONFIG", str(path))
    assert f"{tmp_path}/from-file" in run("patients")[2]

    monkeypatch.setenv("TELEMED_DOCTOR_STATE_DIR", "/nowhere/at-all")
    assert "/nowhere/at-all" in run("patients")[2]
    monkeypatch.setenv("TELEMED_DOCTOR_LISTEN_PORT", "99999")
    code, _, err = run("patients")
    assert (code, "TELEMED_DOCTOR_LISTEN_PORT" in err) == (2, True)


def test_the_version_is_told(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the project is not installed, as in an image."""
    code, out, _ = run("--version")
    assert (code, bool(re.fullmatch(r"\d+\.\d+\.\d+\n", out))) == (0, True)

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", missing)
    assert run("--version")[:2] == (0, "unknown\n")


def test_help_is_help(run: Terminal) -> None:
    """Of the program and of each command."""
    for arguments in (("--help",), ("groups", "--help"), ("serve", "--help"), ("invite", "--help")):
        code, out, _ = run(*arguments)
        assert (code, "Usage:" in out) == (0, True)


@pytest.mark.parametrize(("raised", "code"), [(None, 0), (UserError("taken"), 1), (StorageError("full"), 1)])
def test_serve_runs_the_service_with_the_settings(
    run: Terminal, monkeypatch: pytest.MonkeyPatch, raised: Exception | None, code: int
) -> None:
    """On a loop; what it raises becomes a sentence."""
    served: list[DoctorSettings] = []

    async def serve(settings: DoctorSettings) -> None:
        served.append(settings)
        if raised is not None:
            raise raised

    monkeypatch.setattr(service, "serve", serve)
    monkeypatch.setenv("TELEMED_DOCTOR_DOCTOR_ID", "grace")

    found, _, err = run("serve")

    assert found == code
    assert [settings.doctor_id for settings in served] == ["grace"]
    assert (str(raised) in err) == (raised is not None)


def test_without_uvloop_the_standard_loop_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra, not a need."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    ran: list[str] = []

    async def main() -> None:
        ran.append("here")

    cli._run(main)

    assert ran == ["here"]


def test_the_module_serves_when_it_is_told_nothing(run: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m doctor` is `telemed-doctor serve`; with arguments it is the program."""
    called: list[list[str]] = []

    def main() -> int:
        called.append(sys.argv[1:])
        return 7

    monkeypatch.setattr(cli, "main", main)
    for arguments in ([], ["patients"]):
        monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("doctor", run_name="__main__")
        assert ended.value.code == 7

    assert called == [["serve"], ["patients"]]


def test_the_program_starts_as_a_process() -> None:
    """With a real interpreter, a real exit code and a clean standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "doctor", "--help"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "broadcast" in done.stdout


def test_a_closed_pipe_kills_nothing(run: Terminal) -> None:
    """The gateway writes to sockets that devices close: SIGPIPE stays ignored, whatever command runs."""
    run("--help")

    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    """As in `telemed-doctor --help | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        ended = subprocess.run(
            [sys.executable, "-m", "doctor", "--help"],
            stdout=out,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )

    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr


def test_an_exit_without_a_number_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a library passes to SystemExit."""

    def leave(**_: object) -> None:
        raise SystemExit("text")

    monkeypatch.setattr(cli, "app", leave)

    assert cli.main() == 1


def test_nothing_in_a_table_is_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fingerprint is compared by its last letter too: folded on a narrow terminal, on one line where there is none."""
    fingerprint, columns = "zqnuwhby6r6t24irc7vq4eoeqre3a4tl", ["a", "b", "c"]
    terminal.show_table("t", columns, [[fingerprint] * 3])
    assert capsys.readouterr().out.count(fingerprint) == 3

    out = io.StringIO()
    monkeypatch.setattr(terminal, "CONSOLE", Console(file=out, force_terminal=True, width=30, no_color=True))
    terminal.show_table("t", columns, [["x", "y", fingerprint]])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    cells = [line.split()[-1] for line in shown.splitlines() if line.strip() and "─" not in line]
    assert "".join(cells).endswith(fingerprint)
    assert max(map(len, shown.splitlines())) <= 30


def test_on_a_terminal_long_work_shows_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nowhere else: a log is no place for a spinner."""
    out = io.StringIO()
    for on_a_terminal in (False, True):
        monkeypatch.setattr(terminal, "ERRORS", Console(file=out, force_terminal=on_a_terminal, width=60))
        with terminal.busy("Recomputing"):
            pass
        assert ("Recomputing" in out.getvalue()) == on_a_terminal


def test_a_state_that_is_a_colour_name_is_only_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    """A table shows what it is given, brackets included."""
    terminal.show_table("[bold]title", ["a"], [["delivered"], ["[red]x"]])

    out = capsys.readouterr().out
    assert "[bold]title" in out
    assert "[red]x" in out
    assert LOG.lines == []


def test_thresholds_and_alerts(run: Terminal, doctor: Doctor) -> None:
    """For people and for programs; bounds are written LOW:HIGH."""
    anna = enrol(run, doctor, "anna")
    assert run.json("thresholds", "anna")["bounds"]["heart_rate"] == {"low": 40, "high": 130}
    bounds = run.json("thresholds", "anna", "--heart-rate", "50:", "--spo2", ":")["bounds"]
    assert (bounds["heart_rate"], bounds["spo2"]) == ({"low": 50, "high": None}, {"low": None, "high": None})
    code, out, _ = run("thresholds", "anna", "--temperature", "35.5:38.5")
    assert (code, "38.5" in out, "mm[Hg]" in out) == (0, True, True)
    for wrong in ("50", "x:y", "60:50", "-1:", "nan:", "1:2:3"):
        code, _, err = run("thresholds", "anna", "--heart-rate", wrong)
        assert (code, "LOW:HIGH" in err) == (2, True), wrong
    report = Report(bytes(16), ReportKind.VITALS, 1, b'{"heart_rate":45}')

    async def sent() -> None:
        assert anna.stream is not None
        anna.stream.connection.report(report)
        anna.stream.flush()
        await anna.until(lambda it: ReportsReceipted((report.report_id,)) in it.events)

    doctor.wait(sent())

    (alert,) = run.json("alerts")
    assert (alert["patient"], alert["measure"], alert["side"], alert["worst"]) == (
        "anna",
        "heart-rate",
        "below",
        45,
    )
    assert run.json("alerts", "berta") == []
    code, out, err = run("alerts", "--all")
    assert (code, "goes on" in out, err) == (0, True, "")
    assert "heart rate 45 /min" in run("reports", "anna")[1]
    code, out, err = run("acknowledge", str(alert["id"]), "--by", "[b]dr. may")
    assert (code, f"Alert {alert['id']} of anna is acknowledged by [b]dr. may." in out) == (0, True)
    assert run.json("alerts")[0]["acknowledged_by"] == "[b]dr. may"
    assert run("acknowledge", str(alert["id"]))[0] == 1
