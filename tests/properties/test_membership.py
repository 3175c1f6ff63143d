"""Whatever happens in whatever order: who is revoked reads nothing more, everyone else gets everything once and in order.

A state machine drives a real gateway, its database included, and real devices over wires in memory, which it can hold: so orders also fall
while fan-out, catching up and admissions are under way. At the end every byte that the doctor ever wrote, also what never
arrived, is read with every key that anybody ever held (`lab.faults.wiretap`).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from doctor import broadcast_log, catching_up, door, fanout, streams
from doctor.gateway import open_gateway
from doctor.visits import Visit
from lab.faults import wiretap
from lab.faults.capture import Capture, Way
from lab.faults.keys import KeyRing, watched
from shared.crypto.suites import suite_by_name
from shared.net import stream as net_stream
from shared.protocol.doctor_handshake import Standing
from shared.protocol.events import Dropped, Failed
from shared.wire.messages import Stream
from tests.doctor_bench import EVERYONE, LOG, ME, Device, Doctor, settings_for
from tests.wires import End, wire

T = TypeVar("T")

WARD = streams.of_group("ward")
SUITE = suite_by_name("elgamal-p256")
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # nothing here is about power failures


@dataclass
class Line:
    """One connection: the doctor's end and the device's."""

    doctor: End
    device: End


@dataclass
class Patient:
    """One patient as the model sees it: where it stands, and what it must and may be shown."""

    device: Device
    member_of: set[Stream]
    standing: Standing = Standing.ACTIVE
    lines: list[Line] = field(default_factory=list)
    must: dict[Stream, list[int]] = field(default_factory=dict)
    may: dict[Stream, set[int]] = field(default_factory=dict)

    @property
    def connected(self) -> bool:
        """Whether its last connection is up."""
        return bool(self.lines) and not self.lines[-1].device.is_closing()

    @property
    def own(self) -> Stream:
        """Its own stream."""
        return self.device.own

    def accepted(self, stream: Stream, number: int, certain: bool = True) -> None:
        """A message was accepted. `certain`: no order that concerns this patient was under way."""
        if stream in self.member_of:
            self.may.setdefault(stream, set()).add(number)
            if certain:
                self.must.setdefault(stream, []).append(number)

    def depart(self, standing: Standing) -> None:
        """It is gone: what has not reached it never does."""
        self.standing = standing
        self.must.clear()
        self.member_of.clear()


class Membership(RuleBasedStateMachine):
    """Doctor, patients and what is accepted."""

    patients_at_first = 3
    patients_at_most = 6
    restarts_at_most = 3

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.troubles: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.troubles.append(context))
        self.directory = tempfile.TemporaryDirectory(prefix="membership", dir=IN_MEMORY)
        self.ring = KeyRing()
        self.patients: dict[str, Patient] = {}
        self.ends: list[tuple[End, End]] = []  # all that ever were: the doctor's and the device's
        self.bodies: dict[tuple[Stream, int], bytes] = {}
        self.secret_from: dict[str, set[tuple[str, int]]] = {}  # accepted after `revoke` returned
        self.texts = 0
        self.sound = True  # until a rule fails: then the end is not judged as well
        LOG.open()
        self.run(self.start())
        self.restarts = 0
        self.run(self.doctor.gateway.commands.create_group("ward", ME))
        for number in range(self.patients_at_first):
            self.enrol_one(in_ward=number % 2 == 0)

    # The world

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something, and let everything come to rest that can."""
        try:
            value = self.loop.run_until_complete(asyncio.wait_for(work, 20))
            self.loop.run_until_complete(asyncio.wait_for(self.rest(), 20))
            assert self.troubles == []
        except BaseException:
            self.sound = False
            raise
        return value

    async def start(self) -> None:
        """Open a gateway on what the last one has left."""
        self.stack = AsyncExitStack()
        gateway = await self.stack.enter_async_context(open_gateway(settings_for(Path(self.directory.name))))
        self.doctor = Doctor(gateway)

    async def rest(self) -> None:
        """Until nothing moves: bytes that are not held, jobs of the database, calls of the loop."""
        still = 0
        while still < 2:
            moved = [end.carry() for ends in self.ends for end in ends if not end.lost]
            for _ in range(3):
                await asyncio.sleep(0)
            await self.doctor.writer.submit(lambda db: None)
            still = 0 if any(moved) else still + 1

    async def plug(self, patient: Patient) -> None:
        """A new connection of a device."""
        device = patient.device
        device.stream = device.open_stream()
        visit = Visit(self.doctor.house)
        ends = wire(visit.stream, device.stream, device.patient_id)
        self.ends.append(ends)
        patient.lines.append(Line(*ends))

    def named(self, *standings: Standing) -> list[str]:
        """The patients of some standing, by name."""
        return [name for name, patient in self.patients.items() if patient.standing in standings]

    def pick(self, data: st.DataObject, *standings: Standing) -> Patient:
        """One of them."""
        return self.patients[data.draw(st.sampled_from(self.named(*standings)), label="patient")]

    @property
    def active(self) -> list[str]:
        """Who may be given orders about."""
        return self.named(Standing.ACTIVE)

    # What happens to patients

    @precondition(lambda self: len(self.patients) < self.patients_at_most)
    @rule(in_ward=st.booleans())
    def enrol(self, in_ward: bool) -> None:
        """Somebody new."""
        self.enrol_one(in_ward)

    def enrol_one(self, in_ward: bool) -> None:
        """A patient that is connected."""
        name = f"p{len(self.patients)}"
        invitation = self.run(self.doctor.invite(name, *(["ward"] if in_ward else [])))
        device = Device(invitation, suite=SUITE)
        device.kind = watched(self.ring)
        patient = Patient(device, {EVERYONE, device.own} | ({WARD} if in_ward else set()))
        self.patients[name] = patient
        self.run(self.plug(patient))
        assert name in self.doctor.fanout.sessions

    @precondition(lambda self: self.named(Standing.ACTIVE, Standing.RETIRED))
    @rule(data=st.data())
    def reconnect(self, data: st.DataObject) -> None:
        """Come back, renew a session, or return to the roster."""
        patient = self.pick(data, Standing.ACTIVE, Standing.RETIRED)
        if patient.standing is Standing.RETIRED:
            patient.standing = Standing.ACTIVE
            patient.member_of = {EVERYONE, patient.own}
        self.run(self.plug(patient))

    @precondition(lambda self: self.patients)
    @rule(data=st.data(), by_doctor=st.booleans())
    def cut(self, data: st.DataObject, by_doctor: bool) -> None:
        """A link breaks; what was under way is lost."""
        patient = self.pick(data, *Standing)
        if patient.connected:
            line = patient.lines[-1]
            (line.doctor if by_doctor else line.device).abort()
        self.run(self.rest())

    @precondition(lambda self: self.patients)
    @rule(data=st.data(), held=st.booleans())
    def hold(self, data: st.DataObject, held: bool) -> None:
        """A device stops reading, or reads again."""
        for line in self.pick(data, *Standing).lines:
            line.doctor.held = held and not line.doctor.is_closing()
        self.run(self.rest())

    # What is ordered

    async def send(self, stream: Stream) -> tuple[Stream, int]:
        """Accept a message."""
        self.texts += 1
        text = f"{self.texts} to {stream} " + "x" * (200 * (self.texts % 3))
        if stream in (EVERYONE, WARD):
            number = (await self.doctor.broadcast(text, stream.name)).number
        else:
            number = (await self.doctor.send(stream.name, text)).number
        self.bodies[stream, number] = text.encode()
        return stream, number

    def note(self, accepted: tuple[Stream, int], unsure: Patient | None = None) -> None:
        """What a message means to each patient."""
        for patient in self.patients.values():
            patient.accepted(*accepted, certain=patient is not unsure)
        for name, beyond in self.secret_from.items():
            if unsure is None or unsure.device.patient_id != name:
                beyond.add((str(accepted[0]), accepted[1]))

    @rule(ward=st.booleans(), count=st.integers(1, 5))
    def broadcast(self, ward: bool, count: int) -> None:
        """Some messages to a group, at once."""

        async def all_of_them() -> list[tuple[Stream, int]]:
            return await asyncio.gather(*(self.send(WARD if ward else EVERYONE) for _ in range(count)))

        for accepted in sorted(self.run(all_of_them()), key=lambda each: each[1]):
            self.note(accepted)

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def private(self, data: st.DataObject) -> None:
        """A message to one patient."""
        self.note(self.run(self.send(self.pick(data, Standing.ACTIVE).own)))

    @precondition(lambda self: self.active)
    @rule(data=st.data())
    def add_or_remove(self, data: st.DataObject) -> None:
        """In and out of the ward."""
        patient, commands = self.pick(data, Standing.ACTIVE), self.doctor.gateway.commands
        name = patient.device.patient_id
        if WARD in patient.member_of:
            self.run(commands.remove_member("ward", name, ME))
            patient.member_of.discard(WARD)
        else:
            self.run(commands.add_member("ward", name, ME))
            patient.member_of.add(WARD)

    @precondition(lambda self: len(self.active) > 1)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        """It may come back."""
        patient = self.pick(data, Standing.ACTIVE)
        self.run(self.doctor.gateway.commands.retire(patient.device.patient_id, ME))
        patient.depart(Standing.RETIRED)

    @precondition(lambda self: len(self.active) > 1)
    @rule(data=st.data(), before=st.integers(0, 3), after=st.integers(0, 3))
    def revoke(self, data: st.DataObject, before: int, after: int) -> None:
        """Among broadcasts and private messages: some are submitted before it, some behind it, all at once."""
        patient = self.pick(data, Standing.ACTIVE)
        name = patient.device.patient_id
        others = [self.patients[each].own for each in self.active if each != name]
        targets = [EVERYONE, WARD, *others]

        async def storm() -> list[tuple[Stream, int]]:
            early = [asyncio.ensure_future(self.send(targets[n % len(targets)])) for n in range(before)]
            revoking = asyncio.ensure_future(self.doctor.gateway.commands.revoke(name, ME))
            late = [asyncio.ensure_future(self.send(targets[n % len(targets)])) for n in range(after)]
            answer = await revoking
            assert answer.excluded_in_ms is not None
            assert name not in self.doctor.fanout.sessions
            assert all(name not in group.roster for group in self.doctor.fanout.groups.values())
            # It is still under way for the others: this is accepted after `revoke` has returned, and no byte has moved.
            beyond = [await self.send(EVERYONE)]
            self.secret_from[name] = {(str(stream), number) for stream, number in beyond}
            return [*await asyncio.gather(*early, *late), *beyond]

        accepted = self.run(storm())
        for each in sorted(accepted, key=lambda each: each[1]):
            self.note(each, unsure=patient)
        patient.depart(Standing.REVOKED)

    @rule()
    def window_passes(self) -> None:
        """Who has joined gets its epoch."""
        self.run(self.begin_epochs())

    @precondition(lambda self: self.restarts < self.restarts_at_most)
    @rule()
    def restart(self) -> None:
        """The doctor stops and starts; no key outlives it."""

        self.restarts += 1

        async def again() -> None:
            await self.stack.aclose()
            for ends in self.ends:
                ends[0].abort()
            await self.start()

        self.run(again())

    # The end

    def teardown(self) -> None:
        """Let everybody come back and get the rest; then judge."""
        try:
            if self.sound:
                self.run(self.come_home())
                self.judge_delivery()
                self.judge_peace()
                self.judge_receipts()
                self.judge_secrecy()
        finally:
            self.loop.run_until_complete(self.stack.aclose())
            self.loop.close()
            self.directory.cleanup()

    async def come_home(self) -> None:
        """Everyone reads again, everyone who may connects, every epoch that is due begins."""
        for line in (line for patient in self.patients.values() for line in patient.lines):
            line.doctor.held = False
        await self.rest()
        for _ in range(2):  # the second time, for whom an epoch that began has made to come back
            await self.begin_epochs()
            for name in self.active:
                if name not in self.doctor.fanout.sessions:
                    await self.plug(self.patients[name])
            await self.rest()

    async def begin_epochs(self) -> None:
        """Those that are due, as their timers would."""
        for group in self.doctor.fanout.groups.values():
            if group.timer is not None:
                self.doctor.fanout.next_epoch(group)

    def judge_delivery(self) -> None:
        """Exactly once, in order, everything that must be, nothing that may not be."""
        for name, patient in self.patients.items():
            for stream in {*patient.device.inbox, *patient.must}:
                shown = patient.device.inbox.get(stream, [])
                numbers = [each.number for each in shown]
                assert numbers == sorted(set(numbers)), f"{name} in {stream}: not once, or not in order"
                assert [each.body for each in shown] == [self.bodies[stream, number] for number in numbers]
                assert set(patient.must.get(stream, ())) <= set(numbers), f"{name} in {stream}: lost"
                assert set(numbers) <= patient.may.get(stream, set()), f"{name} in {stream}: not meant for it"

    def judge_peace(self) -> None:
        """Honest parties on whole wires refuse each other nothing: nobody is sent what it cannot open or does not expect."""
        for name, patient in self.patients.items():
            assert [event for event in patient.device.events if isinstance(event, Dropped | Failed)] == [], (
                name
            )
        assert LOG.find("refused") == []

    def judge_receipts(self) -> None:
        """The doctor knows who has it."""
        for stream, number in self.bodies:
            message = f"{stream.name if stream in (EVERYONE, WARD) else stream}.{number}"
            states = self.doctor.states(message)
            for name, patient in self.patients.items():
                if number in patient.must.get(stream, ()):
                    assert states[name] == "delivered"
                elif name in states:
                    assert number in patient.may.get(stream, ())
                    assert states[name] in ("delivered", "revoked", "retired")

    def judge_secrecy(self) -> None:
        """With all keys on all bytes that were ever written, delivered or not."""
        capture = Capture()
        for index, (doctor, device) in enumerate(self.ends):
            capture.add(index, Way.TO_DOCTOR, 0.0, device.written)
            capture.add(index, Way.TO_PATIENT, 0.0, doctor.written)
        revoked = self.named(Standing.REVOKED)
        tap = wiretap.read(capture, self.ring, revoked)
        assert tap.repeats == []
        assert tap.sealed_otherwise == []
        entitled = {
            (name, str(stream), number)
            for name, patient in self.patients.items()
            for stream, numbers in patient.may.items()
            for number in numbers
        }
        for read in tap.readable:
            assert (read.stream, read.number) not in self.secret_from.get(read.holder, ())
            assert (read.holder, read.stream, read.number) in entitled, "a key that it held opens it"


def play(machine: type[Membership], examples: int, steps: int, random: bool) -> None:
    """Play so many games with small buffers and batches, so that little is much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fanout, "JOIN_WINDOW", 3600.0)
        patch.setattr(fanout, "LONGEST_JOIN_WINDOW", 3600.0)
        patch.setattr(net_stream, "WRITE_HIGH_WATER", 2048)
        patch.setattr(catching_up, "BATCH", 3)
        patch.setattr(broadcast_log, "SLICE_BYTES", 1024)
        patch.setattr(door.Replacements, "LIMIT", 1000)
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                derandomize=not random,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def test_revoked_means_revoked_and_nothing_is_lost_whatever_the_order() -> None:
    """The sampled form: the same games each time. The campaign's row churn plays it with real processes."""
    play(Membership, examples=10, steps=30, random=False)


class ManyMembers(Membership):
    """The same with a full ward."""

    patients_at_first = 20
    patients_at_most = 30


@pytest.mark.slow
def test_revoked_means_revoked_among_many_members() -> None:
    """The exhaustive form: other games each time."""
    play(ManyMembers, examples=100, steps=100, random=True)
