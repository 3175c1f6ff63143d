"""T20: a byte now and then, on the device port and on the API's socket.

Law: what drips in never moves a deadline. On the device port the bytes are the beginning of a real frame, on the API's those of a real
request; half of each drip fast enough that a deadline which every byte moves would never come.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence

from doctor.answers import PatientAnswer
from doctor.http import REQUEST_DEADLINE
from doctor.settings import SOCKET_NAME, api_directory
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.siege import Siege, besieged, percentile
from lab.faults.strangers import Crowd, Stranger, Target, addresses
from shared.protocol.patient_handshake import frame_of
from shared.wire.opcodes import Opcode

SOURCES = 16
DEADLINES = {"device": 10.0, "api": REQUEST_DEADLINE}  # seconds
MARGIN = 2.0
PAUSES = (1.0, 10.0)  # seconds between two bytes
INSIDE = 3  # patients of the ward
ASK_EVERY = 0.05  # seconds between two questions to the API
API_P95 = 0.5
HONEST_P99 = 2.0
FRAME = frame_of(Opcode.KEY_EXCHANGE, secrets.token_bytes(1300))
REQUEST = b"POST /v1/broadcasts HTTP/1.1\r\nHost: doctor\r\nContent-Length: 1000\r\nX-Filler: " + b"x" * 1000


async def run(trial: Trial) -> Tally:
    """As many on each port, again and again for as long as the row has seconds."""
    async with besieged(trial, "clinic", INSIDE, {}) as siege:
        path = api_directory(str(siege.ward.clinic.state_dir)) / SOCKET_NAME
        device, api = Crowd(siege.target, addresses(SOURCES)), Crowd(Target(path=str(path)))
        async with siege.watched() as seen:
            took = await _besiege(siege, {FRAME: device, REQUEST: api}, trial.scale)
        trial.on_progress(1, 1)
    troubles = seen.troubles(share=0.99, p99=HONEST_P99)
    if not took or percentile(took, 95) >= API_P95:
        troubles.append(f"The API's p95 was {percentile(took, 95):.2f} s; it must be below {API_P95:g} s.")
    figures = [
        *seen.figures("slowloris"),
        ("api_requests", len(took)),
        ("api_p95_s", round(percentile(took, 95), 3)),
    ]
    tried = survived = 0
    for name, crowd in (("device", device), ("api", api)):
        figures.append((f"{name}_held_max_s", round(max(each.held for each in crowd.everyone), 1)))
        tried, survived = tried + len(crowd.everyone), survived + cut_in_time(crowd, DEADLINES[name])
        if len(crowd.everyone) < trial.scale.count:
            troubles.append(
                f"Only {len(crowd.everyone)} of {trial.scale.count} {name} connections came about."
            )
    return Tally(tried, survived, findings=tuple(troubles), figures=tuple(figures))


def cut_in_time(crowd: Crowd, deadline: float) -> int:
    """How many have been ended, and by the deadline."""
    return sum(each.closed is not None and each.held <= deadline + MARGIN for each in crowd.everyone)


async def _besiege(siege: Siege, crowds: Mapping[bytes, Crowd], scale: Scale) -> Sequence[float]:
    """What each crowd drips, as often as the scale says; the seconds of each answer of the API meanwhile."""
    over, until = asyncio.Event(), time.monotonic() + scale.seconds
    async with asyncio.TaskGroup() as tasks:
        answers = tasks.create_task(_ask(siege, over))
        dripping = [
            tasks.create_task(_drip_again(crowd, data, PAUSES[number % 2], until))
            for data, crowd in crowds.items()
            for number in range(scale.count)
        ]
        await asyncio.wait(dripping)
        over.set()
    return answers.result()


async def _drip_again(crowd: Crowd, data: bytes, pause: float, until: float) -> None:
    """Drip, be cut, and come again."""
    while True:
        stranger = await crowd.send()
        if stranger is None:
            return
        await drip(stranger, data, pause)
        if time.monotonic() >= until:
            return


async def drip(stranger: Stranger, data: bytes, pause: float) -> None:
    """A byte, and a pause, until it is cut or the doctor has had far longer than it may take."""
    for place in range(len(data)):
        stranger.say(data[place : place + 1])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stranger.over.wait()
        if stranger.over.is_set() or stranger.held > 2 * max(DEADLINES.values()):
            break
    stranger.let_go()


async def _ask(siege: Siege, over: asyncio.Event) -> Sequence[float]:
    """Ask the API for the roster again and again; the seconds of each answer."""
    took = []
    while not over.is_set():
        began = time.monotonic()
        await siege.ward.clinic.orders.get("/v1/patients", list[PatientAnswer])
        took.append(time.monotonic() - began)
        await asyncio.sleep(ASK_EVERY)
    return took


ROW = Row(
    name="slowloris",
    threat="T20",
    title="a byte now and then, on the device port and on the API's socket",
    passes=f"each cut {REQUEST_DEADLINE:g} s after it came; the API's p95 below {API_P95 * 1000:g} ms",
    ci=Scale(count=200, seconds=11),
    release=Scale(count=1000, seconds=300),
    run=run,
)
