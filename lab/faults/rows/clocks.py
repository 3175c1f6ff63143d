"""T13: clocks that are wrong by a second less than the window, a second more, an hour and a day, either way; and clocks that jump.

Law: both programs are the shipped ones, each in a process of its own under a clock that the row sets; devices with a right clock live
in this process and must not notice anything. Inside the window everything works. Outside, whoever comes is told both times, and
comes in once its clock is right. A session that stands survives every jump. Recorded handshakes are played back at
every position of the doctor's clock, and behind its restart: none may come further than to its refusal.

A device that finds the doctor's prekey out of its own window says so in clear, without a time (SPEC, section 7): then the doctor's log
has that it did, and both times are on the device's side alone.

The true time is this process's. A clock that is wrong by the window itself is tried with a second's distance, since time passes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from lab.faults.clock_runner import WrongClock
from lab.faults.history import Joined
from lab.faults.outcome import Outcome
from lab.faults.processes import DeviceProcess
from lab.faults.recordings import REFUSED, handshakes, play_back
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.ward import EVERYONE, Room, Ward
from lab.processes import Program, ScenarioFailed
from patient import notices
from patient.exit_codes import ExitCode

HOUR, DAY = 3600.0, 24 * 3600.0
WINDOW = 30.0  # the doctor's, by default
OFFSETS = (-DAY, -HOUR, -WINDOW - 1, -WINDOW + 1, WINDOW - 1, WINDOW + 1, HOUR, DAY)
PATIENCE = 30.0
TOLERANCE = 8.0  # seconds: a prekey, from which a device reads the doctor's clock, is up to five old
SETTINGS = {"MESSAGE_HOURS": "72", "INVITATION_HOURS": "72"}  # longer than the clock is ever wrong


async def run(trial: Trial) -> Tally:
    """Wrong clocks of devices, a doctor that restarts behind its messages, jumps of the doctor's clock, jumps of devices' clocks."""
    outside = sum(abs(offset) > WINDOW for offset in OFFSETS)
    outcome = Outcome(trial, 2 * len(OFFSETS) + 1 + outside)
    clock = WrongClock(trial.directory / "doctor.clock")
    async with Ward(trial.directory, trial.seed, SETTINGS) as ward:
        await ward.clinic.stop()
        await ward.clinic.start(clock.runs("doctor"))
        surgery = Surgery(ward, clock, await ward.open_room("residents"), outcome)
        await surgery.open()
        await surgery.devices_with_wrong_clocks()
        await surgery.restart_behind_the_newest_message()
        await surgery.jumps_of_the_doctor()
        await surgery.jumps_of_devices()
        await surgery.arrive()
        verdicts = await ward.judge()
    return outcome.tally(verdicts, (("messages", ward.said), ("replays", surgery.replays)))


class Surgery:
    """The doctor under a clock, devices under clocks, and residents whose clock is right.

    Args:
        clock: the doctor's.
        room: the residents'.
    """

    def __init__(self, ward: Ward, clock: WrongClock, room: Room, outcome: Outcome) -> None:
        self.replays = 0
        self._ward = ward
        self._clock = clock
        self._room = room
        self._outcome = outcome
        self._devices: dict[float, ClockedDevice] = {}
        self._recorded: list[tuple[bytes, bytes]] = []

    async def open(self) -> None:
        """The residents enrol, and their handshakes are kept to be played back."""
        await self._ward.admit(self._room, ("resident-1", "resident-2"))
        self._recorded = handshakes(self._ward.clinic.proxy.capture)

    # The four parts

    async def devices_with_wrong_clocks(self) -> None:
        """Each enrols under its clock: inside the window it comes in, outside it is told, and comes in once its clock is right."""
        async with asyncio.TaskGroup() as tasks:
            for offset in OFFSETS:
                tasks.create_task(self._first_meeting(offset))

    async def restart_behind_the_newest_message(self) -> None:
        """The doctor refuses to start with a clock that is behind what it has accepted, and says so; with a later one it starts."""
        ahead = WINDOW - 10
        with self._case("the doctor restarts behind its newest message"):
            self._clock.set(ahead)
            await self._say_and_wait()
            await self._ward.clinic.stop()
            self._clock.set(0)
            await self._refuse_to_start()
            self._clock.set(ahead)
            await self._ward.clinic.start(self._clock.runs("doctor"))
            await self._say_and_wait()
            await self._play_back()
        self._clock.set(0)

    async def jumps_of_the_doctor(self) -> None:
        """The doctor's clock jumps: sessions stay, messages flow, newcomers are let in or told, and nothing can be played back."""
        visitor = await self._adopt("visitor", 0)
        await self._come_in(visitor)
        await visitor.device.stop()
        for offset in OFFSETS:
            with self._case(f"the doctor's clock jumps to {offset:+g} s"), self._no_session_ends():
                self._clock.set(offset)
                await self._say_and_wait()
                await self._visit(visitor, -offset)
                await self._play_back()
        self._clock.set(0)
        await visitor.device.start()
        self._devices[0] = visitor

    async def jumps_of_devices(self) -> None:
        """Devices' clocks jump: their sessions stay; once cut off they are told, and come back when their clocks are right."""
        wrong = [each for offset, each in self._devices.items() if abs(offset) > WINDOW]
        with self._no_session_ends():
            for each in wrong:
                each.clock.set(each.offset)
            await self._say_and_wait()
        marks = {each.device.name: len(each.device.present.lines) for each in wrong}
        self._ward.clinic.proxy.cut_all()
        for each in wrong:
            with self._case(f"{each.device.name}'s clock jumps to {each.offset:+g} s"):
                try:
                    await each.device.until("be refused", partial(_refused_since, marks[each.device.name]))
                    await self._require_both_times(each, each.offset, marks[each.device.name])
                finally:
                    each.clock.set(0)
                await each.device.until("come back", partial(_established_since, marks[each.device.name]))

    async def arrive(self) -> None:
        """In the end everybody has everything."""
        await self._say_and_wait()

    # Steps

    @contextmanager
    def _case(self, name: str) -> Iterator[None]:
        try:
            yield
        except ScenarioFailed as failed:
            self._outcome.fail(f"{name}: {failed}")
        else:
            self._outcome.survive()

    @contextmanager
    def _no_session_ends(self) -> Iterator[None]:
        before = self._ended()
        yield
        if ended := self._ended() - before:
            raise ScenarioFailed(f"{ended} sessions ended over it.")

    def _ended(self) -> int:
        mine = sum(isinstance(told.notice, notices.Disconnected) for told in self._ward.told)
        devices = [each.device for each in self._devices.values()]
        return mine + sum(len(device.told(event="disconnected")) for device in devices)

    async def _adopt(self, name: str, offset: float) -> ClockedDevice:
        clock = WrongClock(self._clock.path.with_name(f"{name}.clock"), offset)
        return ClockedDevice(
            await self._ward.adopt(name, clock.runs("patient", name, "--json")), clock, offset
        )

    async def _first_meeting(self, offset: float) -> None:
        side = "ahead" if offset > 0 else "behind"
        newcomer = await self._adopt(f"{side}-{abs(offset):g}", offset)
        with self._case(f"a device enrols with a clock that is {offset:+g} s wrong"):
            if abs(offset) > WINDOW:
                await self._be_refused(newcomer, offset)
                newcomer.clock.set(0)
            await self._come_in(newcomer)
            newcomer.clock.set(0)
            self._devices[offset] = newcomer

    async def _come_in(self, newcomer: ClockedDevice) -> None:
        asked = time.monotonic()
        await newcomer.device.start()
        await newcomer.device.until_established()
        joined = Joined(time=time.monotonic(), asked=asked, patient=newcomer.device.name, group=EVERYONE)
        self._ward.history.add(joined)

    async def _be_refused(self, device: ClockedDevice, ahead: float) -> None:
        """A life that ends with the exit code for clocks; `ahead`: of the doctor's, in seconds."""
        life = await device.device.start(attempts=2)
        code = await life.wait_for_exit(PATIENCE)
        await life.ended_by_itself()
        if code != ExitCode.CLOCK:
            raise ScenarioFailed(f"it ended with {code}, not {ExitCode.CLOCK}.\n{life.last_words()}")
        await self._require_both_times(device, ahead, 0)

    async def _require_both_times(self, device: ClockedDevice, ahead: float, since: int) -> None:
        """The device has shown both times; the doctor's log has both where it was the one to refuse, else that the device did."""
        refused = [line for line in device.device.present.lines[since:] if line["event"] == "refused"]
        sentence = next((str(line["sentence"]) for line in refused if line["code"] == "clock"), "")
        shown = apart(sentence)
        if shown is None or abs(shown - ahead) > TOLERANCE:
            raise ScenarioFailed(f"it is {ahead:+g} s ahead of the doctor and told {sentence or refused!r}")
        name = device.device.name

        def logged(doctor: Program) -> bool:
            if "for the doctor" not in sentence:
                return bool(doctor.find(event="the device ended the connection", alert="CLOCK"))
            lines = doctor.find(event="refused", patient=name)
            return any(abs(float(str(line.get("skew_s", "nan"))) - ahead) < 1 for line in lines)

        await self._ward.clinic.doctor.wait_for(f"log the clock of {name}", logged, PATIENCE)

    async def _visit(self, visitor: ClockedDevice, ahead: float) -> None:
        if abs(ahead) > WINDOW:
            await self._be_refused(visitor, ahead)
        else:
            await visitor.device.start()
            await visitor.device.until_established()
        await visitor.device.stop()

    async def _say_and_wait(self) -> None:
        """A message to everybody, until all who are there have applied it."""
        accepted = await self._ward.broadcast()
        await self._ward.until_arrived(self._room.patients, PATIENCE)

        def applied(life: Program) -> bool:
            return bool(life.find(event="message", stream=accepted.stream, number=accepted.number))

        for each in self._devices.values():
            await each.device.until(f"apply {accepted.message}", applied)

    async def _refuse_to_start(self) -> None:
        try:
            await self._ward.clinic.start(self._clock.runs("doctor"))
        except ScenarioFailed as failed:
            if "behind the newest message" not in str(failed):
                raise
        else:
            raise ScenarioFailed("it started with a clock behind its newest message.")

    async def _play_back(self) -> None:
        """Every recorded handshake is answered with a prekey that it cannot use, and then refused."""
        (listening,) = self._ward.clinic.doctor.find(event="listening")
        for hello, request in self._recorded:
            answers = await play_back(int(str(listening["port"])), (hello, request))
            self.replays += 1
            if tuple(answers) != REFUSED:
                raise ScenarioFailed(f"a recorded handshake was answered with {answers}")


@dataclass(frozen=True, slots=True)
class ClockedDevice:
    """A device under a clock; `offset` is how wrong the row makes it, in seconds."""

    device: DeviceProcess
    clock: WrongClock
    offset: float


def apart(sentence: str) -> float | None:
    """By how many seconds the first time in a sentence is ahead of the second; None: there are not two."""
    times = [
        datetime.fromisoformat(found) for found in re.findall(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", sentence)
    ]
    return (times[0] - times[1]).total_seconds() if len(times) == 2 else None


def _refused_since(mark: int, life: Program) -> bool:
    return any(line["event"] == "refused" and line["code"] == "clock" for line in life.lines[mark:])


def _established_since(mark: int, life: Program) -> bool:
    return any(line["event"] == "established" for line in life.lines[mark:])


ROW = Row(
    name="clocks",
    threat="T13",
    title="clocks wrong by the window ± 1 s, an hour, a day; jumps in mid-session; a restart behind the newest message",
    passes="inside the window all works, outside both times are told; sessions survive; nothing is played back; I1 to I7",
    ci=Scale(),
    release=Scale(),
    run=run,
)
