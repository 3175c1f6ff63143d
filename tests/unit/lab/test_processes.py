"""Programs as child processes: what they say is waited for, and what they fail to say is told."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from lab.processes import Program, ScenarioFailed, running

SAYS = """
import json, signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("a line that is no JSON", flush=True)
print(json.dumps({"event": "ready", "number": 7}), flush=True)
stop.wait()
print(json.dumps({"event": "done"}), flush=True)
"""


def program(code: str, channel: str = "stdout") -> Program:
    return Program("the program", ["-c", code], {}, channel)


async def test_waits_for_a_line_and_stops_in_good_order() -> None:
    """A line is found by its fields; SIGTERM ends the program, and its last line is still read."""
    async with program(SAYS) as child:
        await child.wait_for("be ready", lambda p: bool(p.find(event="ready", number=7)), 20)

        code = await child.stop()

        assert code == 0
        assert child.find(event="done")


async def test_reads_json_from_standard_error() -> None:
    """The doctor's log is on standard error."""
    code = 'import sys; print(\'{"event": "x"}\', file=sys.stderr)'
    async with program(code, "stderr") as child:
        await child.wait_for("say x", lambda p: bool(p.find(event="x")), 20)

        assert await child.wait_for_exit(20) == 0


async def test_a_program_that_ends_too_early_is_told_with_its_last_words() -> None:
    """The failure names the step and shows what the program said, JSON or not."""
    async with program('print(\'{"event": "odd"}\'); print("Traceback …")') as child:
        with pytest.raises(ScenarioFailed, match="ended while it was to shine") as caught:
            await child.wait_for("shine", lambda p: bool(p.find(event="shine")), 20)

        assert '"odd"' in str(caught.value)
        assert "Traceback" in str(caught.value)


async def test_a_program_that_says_nothing_is_not_waited_for_for_ever() -> None:
    """The time is bounded, for a line and for an exit."""
    async with program(SAYS) as child:
        with pytest.raises(ScenarioFailed, match="did not dance within"):
            await child.wait_for("dance", lambda p: bool(p.find(event="dance")), 0.2)
        with pytest.raises(ScenarioFailed, match="did not end within"):
            await child.wait_for_exit(0.1)


async def test_a_program_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`stop` never leaves a process behind."""
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('{}', flush=True); signal.pause()"
    monkeypatch.setattr("lab.processes.STOP_PATIENCE", 0.3)
    async with program(stubborn) as child:
        await child.wait_for("start", lambda p: bool(p.lines), 20)

        assert await child.stop() == -signal.SIGKILL


async def test_several_run_side_by_side_and_are_stopped_together() -> None:
    """`running` stops all of them, also where the scenario fails."""
    programs = [program(SAYS), program(SAYS)]

    async def scenario() -> None:
        async with running(programs):
            await asyncio.gather(*(p.wait_for("be ready", lambda q: bool(q.lines), 20) for p in programs))
            raise ScenarioFailed("enough")

    with pytest.raises(ScenarioFailed, match="enough"):
        await scenario()

    assert all(p.ended for p in programs)


async def test_settings_of_the_caller_do_not_reach_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TELEMED_ variable in the shell must not change what a scenario runs."""
    monkeypatch.setenv("TELEMED_DOCTOR_LISTEN_PORT", "1")
    code = 'import json, os; print(json.dumps([k for k in os.environ if k.startswith("TELEMED_")] and {"event": "leak"}))'
    async with program(code) as child:
        await child.wait_for_exit(20)
        await child.stop()

        assert not child.find(event="leak")


def test_programs_run_on_this_interpreter() -> None:
    """The demo must not depend on what `python` is on somebody's PATH."""
    assert sys.executable
