"""The demo: it tells the story of a real run, and it fails where a step did not hold."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from lab import cli
from lab.demo import (
    BroadcastResult,
    DemoPlan,
    DemoResult,
    Scene,
    read_anything,
    run_demo,
)
from lab.faults.proxy import Weather
from lab.handshake import HANDSHAKE, last_attempt, require_complete
from lab.processes import Program, ScenarioFailed
from lab.story import Step, Story
from shared.crypto.suites import DEFAULT_SUITE
from shared.wire.checks import Check


def told() -> tuple[Story, io.StringIO]:
    out = io.StringIO()
    return Story(Console(file=out, width=200)), out


def handshake() -> list[Step]:
    return [Step(sender, message, 10, 100, tuple(sorted(checks))) for sender, message, checks in HANDSHAKE]


async def test_two_patients_go_through_every_step(tmp_path: Path) -> None:
    """Real processes, in bad weather: both establish, read, one is revoked, the other reads on."""
    story, out = told()
    weather = Weather(delay=0.02, stall_chance=0.1, stall=0.1)

    result = await run_demo(
        DemoPlan(2, "elgamal-ffdhe3072", "Rest today [really].", tmp_path, weather), story
    )

    text = out.getvalue()
    assert (result.patients, result.established, result.suite) == (2, 2, "elgamal-ffdhe3072")
    assert [(b.recipients, b.applied) for b in result.broadcasts] == [(2, 2), (1, 1)]
    assert result.revoked.patient == "bed-01"
    assert not result.revoked.could_read_after
    assert text.count("AUTH_REQUEST") == 2
    assert "bed-02 reads: Rest today [really]." in text
    assert "bed-01 is cut off" in text
    assert "The network: 20 ms each way" in text


@pytest.mark.parametrize(
    ("position", "check"), [(0, "V-010"), (1, "V-021"), (2, "V-036"), (3, "V-053"), (4, "V-061")]
)
def test_a_message_accepted_without_a_check_fails_the_demo(position: int, check: str) -> None:
    """What the demo calls verified was checked, check by check."""
    steps = handshake()
    require_complete("bed-01", steps)
    weak = steps[position]
    steps[position] = Step(weak.sender, weak.message, 10, 100, tuple(c for c in weak.checks if c != check))

    with pytest.raises(ScenarioFailed, match=check):
        require_complete("bed-01", steps)


def test_a_handshake_with_a_message_missing_fails_the_demo() -> None:
    """All five messages, in order."""
    with pytest.raises(ScenarioFailed, match="handshake of bed-01"):
        require_complete("bed-01", handshake()[:-1])


def test_the_demo_expects_every_check_of_the_handshake() -> None:
    """Whoever adds a check to the handshake has to add it here."""
    expected = {check for _, _, checks in HANDSHAKE for check in checks}
    admission = {Check.ADMISSION.number, Check.NOT_PAUSED.number}
    of_a_rotation = {
        c.number for c in Check if "V-024" <= c.number <= "V-027"
    }  # the demo's doctor keeps its keys
    handshake_checks = {c.number for c in Check if "V-010" <= c.number < "V-070"}

    assert expected == handshake_checks - admission - of_a_rotation


@pytest.mark.parametrize(
    ("line", "could_read"),
    [
        ({"event": "message", "number": 99}, False),
        ({"event": "message", "number": 100}, True),
        ({"event": "epoch", "group": "everyone", "epoch": 3}, False),
        ({"event": "epoch", "group": "everyone", "epoch": 4}, True),
    ],
)
def test_a_revoked_patient_that_reads_on_is_noticed(
    tmp_path: Path, line: Mapping[str, object], could_read: bool
) -> None:
    """A later message or a later epoch's key, seen in what the revoked patient said, is reading on."""
    story, _ = told()
    doctor, patient = Program("d", [], {}, "stderr"), Program("bed-01", [], {}, "stdout")
    doctor.lines.append({"event": "epoch begun", "group": "everyone", "epoch": 4})
    patient.lines.append(line)
    scene = Scene(DemoPlan(2, "s", "m", tmp_path), story, doctor, client=None, patients={"bed-01": patient})  # type: ignore[arg-type]

    assert read_anything(scene, "bed-01", BroadcastResult("everyone.100", 1, 1)) is could_read


def test_the_attempt_that_came_to_a_session_is_the_one_that_is_shown() -> None:
    """In bad weather others broke off before it, and another may be under way."""
    sent = {"event": "handshake", "direction": "sent", "message": "KEY_EXCHANGE"}
    reply = {"event": "handshake", "direction": "received", "message": "KEY_EXCHANGE_REPLY"}
    response = {**reply, "message": "AUTH_RESPONSE"}
    established = {"event": "established"}

    assert last_attempt([sent, reply, sent, reply, response, established, sent, reply]) == [reply, response]
    assert last_attempt([sent, reply]) == []


def test_more_than_ten_handshakes_are_told_in_a_line_each() -> None:
    """Fifty patients must not scroll everything away."""
    story, out = told()
    for number in range(12):
        story.handshake(f"bed-{number}", handshake())

    assert out.getvalue().count("AUTH_REQUEST") == 10
    assert out.getvalue().count("5 messages") == 2


def test_an_unknown_suite_is_refused_with_the_names_there_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 and one sentence."""
    monkeypatch.setattr("sys.argv", ["telemed-lab", "demo", "--suite", "rot13"])

    code = cli.main()

    assert code == 2
    assert "elgamal-p256-mlkem768" in capsys.readouterr().err


def test_the_last_line_of_json_is_the_result(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the default suite and fair weather: the story goes to standard error, the object to standard output."""
    monkeypatch.setattr("sys.argv", ["telemed-lab", "demo", "--patients", "2", "--json"])

    code = cli.main()

    out, err = capfd.readouterr()
    assert code == 0
    result = msgspec.json.decode(out.splitlines()[-1], type=DemoResult)
    assert (result.established, result.suite) == (2, DEFAULT_SUITE.name)
    assert err.count("AUTH_REQUEST") == 2
    assert "The network" not in err
