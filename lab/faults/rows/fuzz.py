"""T1: whatever reads bytes that others have written is given millions of inputs that an honest peer would never make.

Coverage-guided, a process for each target (`lab.faults.fuzzing`). What the fuzzer found interesting is then said to a real doctor,
byte for byte over its sockets, and an honest device must be served at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from doctor.settings import SOCKET_NAME, api_directory
from lab.faults.clinic import UNALARMED, Clinic
from lab.faults.fuzzing.jury import REPORT, Report
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.swarm import Swarm
from lab.faults.watch import Watch
from lab.processes import Program, ScenarioFailed
from shared.errors import UserError

GROWTH_LIMIT = 50.0  # MB
HONEST_LIMIT = 1.0  # seconds
LIVE_INPUTS = 400  # of each target's interesting inputs, said to a real doctor
LIVE_TARGETS = ("frames", "doctor", "http")
CRASHES = Path("run/crashes")
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class _Job:
    """One target's share of the work."""

    target: str
    runs: int
    directory: Path


async def run(trial: Trial) -> Tally:
    """Fuzz every target, as many at once as there are processors, then the doctor itself."""
    jobs = _jobs(trial)
    free = asyncio.Semaphore(len(os.sched_getaffinity(0)))
    done = 0

    async def one(job: _Job) -> Report | str:
        nonlocal done
        async with free:
            report = await _fuzz(job, trial)
        done += job.runs
        trial.on_progress(done, trial.scale.count)
        return report

    outcomes = await asyncio.gather(*(one(job) for job in jobs))
    reports = [outcome for outcome in outcomes if isinstance(outcome, Report)]
    findings = [outcome for outcome in outcomes if isinstance(outcome, str)]
    findings += [finding for report in reports for finding in judge(report)]
    honest, said = await _say_to_a_doctor(trial, jobs, findings)
    attempts = sum(report.attempts for report in reports) + said
    crashed = sum(crash.count for report in reports for crash in report.crashes)
    return Tally(
        attempts, attempts - crashed, findings=tuple(findings), figures=_figures(reports, said, honest)
    )


def _jobs(trial: Trial) -> list[_Job]:
    if importlib.util.find_spec("atheris") is None:
        raise UserError("Fuzzing needs atheris, a development requirement for Linux on x86-64: make check.")
    from lab.faults.fuzzing.targets import TARGETS  # what it names is instrumented in the children only

    jobs = []
    for target in TARGETS:
        directory = trial.directory / target.name
        directory.mkdir()
        jobs.append(_Job(target.name, max(100, round(trial.scale.count * target.share)), directory))
    return jobs


async def _fuzz(job: _Job, trial: Trial) -> Report | str:
    """The child's report, or why there is none."""
    output = job.directory / "output"
    arguments = (job.target, str(job.directory), str(job.runs), f"{trial.scale.seconds:g}", str(trial.seed))
    with output.open("wb") as file:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "lab.faults.fuzzing.child"),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            child.kill()
            await child.wait()
            raise
    path = job.directory / REPORT
    if path.exists():
        report = msgspec.json.decode(path.read_bytes(), type=Report)
        kept = [
            msgspec.structs.replace(each, file=_keep(job.directory / each.file)) for each in report.crashes
        ]
        return msgspec.structs.replace(report, crashes=kept)
    inputs = [_keep(found) for found in job.directory.glob("*-*") if found.is_file()]
    lines = output.read_text(errors="replace").splitlines()
    words = " | ".join(line for line in lines if line.strip())[-300:]
    return f"{job.target}: the fuzzer's process ended with {code}; inputs {inputs}; it said: {words}"


def judge(report: Report) -> list[str]:
    """What is wrong with a target, in words."""
    findings = []
    for crash in report.crashes:
        findings.append(
            f"{report.target}: {crash.what}, {crash.count} ×: {crash.detail} (input {crash.file})"
        )
    if report.growth_mb > GROWTH_LIMIT:
        findings.append(f"{report.target}: memory grew by {report.growth_mb:.0f} MB")
    if report.honest_seconds is None:
        findings.append(f"{report.target}: an honest client was not served afterwards")
    elif report.honest_seconds > HONEST_LIMIT:
        findings.append(f"{report.target}: an honest client waited {report.honest_seconds:.1f} s afterwards")
    return findings


def _keep(path: Path) -> str:
    """Keep an input beyond the trial's directory; where it is now."""
    CRASHES.mkdir(parents=True, exist_ok=True)
    return str(shutil.copy(path, CRASHES / path.name))


# The real doctor


async def _say_to_a_doctor(trial: Trial, jobs: list[_Job], findings: list[str]) -> tuple[float, int]:
    """Seconds until an honest device was served afterwards, and how much was said before."""
    watch = Watch()
    home = trial.directory / "clinic"
    home.mkdir()
    async with (
        Clinic(home, watch, UNALARMED) as clinic,
        Swarm(home / "patients", clinic.address, watch) as swarm,
    ):
        port = int(str(clinic.doctor.find(event="listening")[-1]["port"]))
        socket = str(api_directory(str(clinic.state_dir)) / SOCKET_NAME)
        said = 0
        for job in jobs:
            if job.target not in LIVE_TARGETS:
                continue
            for data in _interesting(job):
                if job.target == "http":
                    await _say(await asyncio.open_unix_connection(socket), data)
                else:
                    await _say(await asyncio.open_connection("127.0.0.1", port), data)
                said += 1
        invitation = await clinic.invite("honest")
        began = time.monotonic()
        swarm.enrol("honest", invitation)
        try:
            await swarm.until_connected({"honest"}, PATIENCE)
        except ScenarioFailed as error:
            findings.append(f"the doctor served no honest device afterwards: {error}")
        honest = time.monotonic() - began
        if honest > HONEST_LIMIT:
            findings.append(f"an honest device waited {honest:.1f} s for the doctor")
        findings += complaints(clinic.doctor)
    return honest, said


def _interesting(job: _Job) -> list[bytes]:
    """What led the fuzzer to something new, smallest first, without the bytes by which it chose a state."""
    found = [path.read_bytes() for path in (job.directory / "corpus").iterdir()]
    return [data[2:] for data in sorted(found, key=lambda data: (len(data), data))[:LIVE_INPUTS]]


async def _say(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], data: bytes) -> None:
    """Say it, close our half, and read until the doctor has closed its own."""
    reader, writer = connection
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            await reader.read()
    writer.close()


def complaints(doctor: Program) -> list[str]:
    """What a doctor has logged that nobody outside may ever cause: errors, tracebacks, fields that are not allowed."""
    bad = [
        line
        for line in doctor.lines
        if line.get("level") == "error" or "exception" in line or "dropped" in line
    ]
    return [f"the doctor logged {msgspec.json.encode(line).decode()[:600]}" for line in bad]


def _figures(reports: list[Report], said: int, honest: float) -> tuple[tuple[str, float], ...]:
    return (
        *(
            (f"{report.target}_per_s", round(report.attempts / max(report.seconds, 0.001)))
            for report in reports
        ),
        ("slowest_ms", round(max((report.slowest for report in reports), default=0.0) * 1000, 1)),
        ("rss_growth_mb", round(max((report.growth_mb for report in reports), default=0.0), 1)),
        ("said_to_a_doctor", said),
        ("honest_after_s", round(honest, 3)),
    )


ROW = Row(
    name="fuzz",
    threat="T1",
    title="coverage-guided inputs for every parser, both connections in each state, stored rows and files, the HTTP API",
    passes="nothing but typed errors, no input above 1 s, memory grows less than 50 MB, an honest device is served at once",
    ci=Scale(count=200_000),
    release=Scale(count=20_000_000),
    run=run,
)
