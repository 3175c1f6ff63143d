"""Misbehaviours that only the doctor's own program can answer: its roster, its books, its count of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from doctor.answers import DepartureAnswer, MessageAnswer
from doctor.orders import MessageOrder
from lab.evil.callers import device, now
from lab.evil.misbehaviour import Accepted, Liar
from lab.evil.peer import wire
from lab.evil.peer.invitations import read_invitation
from lab.evil.reception import LiveMisbehaviour, Play, Reception, Seen
from lab.evil.stages import HOME
from lab.faults.clinic import Clinic
from lab.faults.row import OnProgress, Tally
from shared.wire.checks import Check

FAR = 10**12  # beyond any number that is given out meanwhile: numbers are microseconds


async def _many_sessions(at: Reception, lie: bool) -> Seen:
    """Two devices that hold one key replace one another without end; one that renews its session once does not."""
    who = await at.newcomer()
    for _ in range(4 if lie else 1):
        latest = await at.logged_in(who)
    another = await at.dial(who)
    await another.ask()
    await another.confirm()
    if not lie:
        await another.await_opcode(wire.GROUP_KEY)
        return Seen(None)
    told = await another.alert()
    return Seen(told, "" if await latest.alive() else "the session that there was has ended")


async def _one_invitation(at: Reception, lie: bool) -> Seen:
    """Two devices with keys of their own have an answer before either is admitted; the lie: by one invitation."""
    invitation = read_invitation(await at.clinic.invite(at.name))
    first, other = device(invitation), device(invitation)
    if not lie:
        other = await at.newcomer("-other")
    one, two = await at.dial(first), await at.dial(other)
    await one.ask()
    await two.ask()
    await one.confirm()
    await one.await_opcode(wire.GROUP_KEY)
    await two.confirm()
    if not lie:
        await two.await_opcode(wire.GROUP_KEY)
        return Seen(None)
    told = await two.alert()
    kept = await at.fingerprint() == first.fingerprint and await one.alive()
    return Seen(told, "" if kept else "the second device has taken the first one's place")


async def _receipt(at: Reception, positions: Callable[[int, bool], list[wire.Position]], lie: bool) -> Seen:
    """A receipt in a session, and what became of the message that it should be about.

    Behind it somebody else acknowledges the same message: the doctor writes receipts in their order, so what is not written by
    then never will be.
    """
    witness = await at.logged_in(await at.newcomer("-witness"))
    caller = await at.logged_in(await at.newcomer())
    message = await at.clinic.broadcast("take two")
    await caller.await_opcode(wire.BROADCAST)
    await caller.say(caller.peer.receipt(*positions(message.number, lie)))
    told = await caller.alert() if lie else None
    if not lie:
        await caller.alive()
    await witness.say(witness.peer.receipt(wire.Position(HOME, message.number, [])))
    await at.written(at.name + "-witness", message.number)
    state = await at.state(message)
    if lie:
        return Seen(told, "it counts as delivered" if state == "delivered" else "")
    return Seen(None, "" if state == "delivered" else f"a true receipt was not taken: {state}")


def _beyond(number: int, lie: bool) -> list[wire.Position]:
    return [wire.Position(HOME, number + FAR * lie, [])]


def _half_true(number: int, lie: bool) -> list[wire.Position]:
    """The first position is true, the second is not."""
    other = wire.Position(wire.Stream(wire.GROUP, "never-made"), number, [])
    return [wire.Position(HOME, number, []), *([other] if lie else [])]


def _another_patients(number: int, lie: bool) -> list[wire.Position]:
    stream = wire.Stream(wire.PATIENT, "somebody-else") if lie else HOME
    return [wire.Position(stream, number, [])]


async def _resend(at: Reception, lie: bool) -> Seen:
    """A question from a position where the patient cannot be."""
    caller = await at.logged_in(await at.newcomer())
    message = await at.clinic.broadcast("take two")
    await caller.await_opcode(wire.BROADCAST)
    last = message.number + FAR if lie else message.number - 1
    request = wire.ResendRequest(b"", [wire.Position(HOME, last, [])])
    await caller.say(caller.peer.record(wire.RESEND_REQUEST, request))
    if lie:
        return Seen(await caller.alert())
    await caller.await_opcode(wire.DIRECT)
    return Seen(None)


async def _private(at: Reception, lie: bool) -> Seen:
    """A message to one patient: another asks for it. Its own asking brings it."""
    who = await at.newcomer()
    other = await at.newcomer("-other")
    caller, asker = await at.logged_in(who), await at.logged_in(other)
    order = MessageOrder("for you alone")
    await at.clinic.until_accepted(f"/v1/patients/{at.name}/messages", order, MessageAnswer)
    await caller.await_opcode(wire.DIRECT)
    asking = asker if lie else caller
    stream = wire.Stream(wire.PATIENT, at.name)
    request = wire.ResendRequest(b"", [wire.Position(stream, 0, [])])
    await asking.say(asking.peer.record(wire.RESEND_REQUEST, request))
    if not lie:
        await asking.await_opcode(wire.DIRECT)
        return Seen(None)
    await asking.say(asking.peer.record(wire.PING, wire.Ping(bytes(8))))
    sent = False
    while (frame := await asking.hear())[1] != wire.PONG:
        if frame[1] != wire.BROADCAST:
            sent |= at.name.encode() in asking.peer.to_patient.open(frame)
    return Seen(None, "another patient was sent it" if sent else "")


async def _replaced_speaks(at: Reception, lie: bool) -> Seen:
    """A session that another one of the same patient has replaced goes on sending; it was told so, and is not read."""
    who = await at.newcomer()
    first = await at.logged_in(who)
    report = wire.Report(now().to_bytes(16, "big"), 2, now(), b"from the session before")
    spoken = first.peer.record(wire.REPORT, report)
    if not lie:
        await first.say(spoken)
        await first.await_opcode(wire.REPORT_RECEIPT)
    second = await at.logged_in(who)
    await first.await_opcode(wire.DISCONNECT)
    if lie:
        await first.say(spoken)
    await second.alive()
    expected = [] if lie else ["from the session before"]
    reports = await at.reports()
    return Seen(None, "" if reports == expected else f"the doctor has {reports}, expected {expected}")


async def _revoked_returns(at: Reception, lie: bool) -> Seen:
    """A patient that the doctor revokes in the middle of a session says one thing more, and comes back."""
    who = await at.newcomer()
    first = await at.logged_in(who)
    if lie:
        path = f"/v1/patients/{at.name}/revoke"
        await at.clinic.until_accepted(path, None, DepartureAnswer)
        with suppress(OSError):  # the doctor has cut the connection, perhaps already
            await first.say(
                first.peer.record(wire.REPORT, wire.Report(bytes(16), 2, now(), b"one thing more"))
            )
    second = await at.dial(who)
    if not lie:
        await second.log_in()
        return Seen(None)
    await second.request()
    told = await second.alert()
    reports = await at.reports()
    return Seen(told, f"the doctor has {reports}" if reports else "")


async def _report_twice(at: Reception, lie: bool) -> Seen:
    """The same report in two sessions: it is receipted each time, and stored once."""
    who = await at.newcomer()
    report = wire.Report(now().to_bytes(16, "big"), 2, now(), b"better")
    for _ in range(2 if lie else 1):
        caller = await at.logged_in(who)
        await caller.say(caller.peer.record(wire.REPORT, report))
        await caller.await_opcode(wire.REPORT_RECEIPT)
    reports = await at.reports()
    return Seen(None, "" if reports == ["better"] else f"it is stored {len(reports)} times")


def receipts(positions: Callable[[int, bool], list[wire.Position]]) -> Play:
    """A row about a receipt."""
    return lambda at, lie: _receipt(at, positions, lie)


ROWS = (
    LiveMisbehaviour(
        "duplicate-sessions",
        Liar.PATIENT,
        "replaces its own session for the fourth time within a minute",
        Check.NOT_PAUSED,
        _many_sessions,
    ),
    LiveMisbehaviour(
        "two-by-one-invitation",
        Liar.PATIENT,
        "enrols a second device by an invitation while the first is being admitted",
        Check.ADMISSION,
        _one_invitation,
    ),
    LiveMisbehaviour(
        "books-unissued",
        Liar.PATIENT,
        "acknowledges a number beyond the last one",
        Check.RECEIPT_ISSUED,
        receipts(_beyond),
    ),
    LiveMisbehaviour(
        "books-half-true",
        Liar.PATIENT,
        "acknowledges something true and something false in one receipt",
        Check.RECEIPT_ISSUED,
        receipts(_half_true),
    ),
    LiveMisbehaviour(
        "books-of-another",
        Liar.PATIENT,
        "acknowledges in another patient's stream",
        Check.RECEIPT_ISSUED,
        receipts(_another_patients),
    ),
    LiveMisbehaviour(
        "question-from-beyond",
        Liar.PATIENT,
        "asks from a position where it cannot be",
        Check.RECEIPT_ISSUED,
        _resend,
    ),
    LiveMisbehaviour(
        "replaced-session-speaks",
        Liar.PATIENT,
        "goes on in a session that it has replaced",
        None,
        _replaced_speaks,
    ),
    LiveMisbehaviour(
        "revoked-returns",
        Liar.PATIENT,
        "goes on and comes back after its revocation",
        Check.NOT_REVOKED,
        _revoked_returns,
    ),
    LiveMisbehaviour(
        "private-to-another", Liar.PATIENT, "asks for another's private message", None, _private
    ),
    LiveMisbehaviour("report-twice", Liar.PATIENT, "reports the same twice", None, _report_twice),
)


SETTINGS = {"LOG_LEVEL": "debug"}  # so that the doctor says when a receipt is written


class _Count:
    """How the rows fare that run side by side."""

    def __init__(self, total: int, on_progress: OnProgress) -> None:
        self.tried = self.survived = self.leaked = 0
        self.findings: list[str] = []
        self._total = total
        self._on_progress = on_progress

    async def count(self, row: LiveMisbehaviour, clinic: Clinic, seed: int) -> None:
        """Try one, and put what deviates into words."""
        case = f"{row.name}, seed {seed}: {row.liar.value} {row.does}"
        try:
            await row.attempt(clinic, seed)
            self.survived += 1
        except Accepted as error:
            self.leaked += 1
            self.findings.append(f"{case}: {error}")
        except Exception as error:  # a bug of either side must become a finding, not end the row
            self.findings.append(f"{case}: {type(error).__name__}: {error}")
        self.tried += 1
        self._on_progress(self.tried, self._total)


async def try_live(
    clinic: Clinic,
    times: int,
    seed: int,
    on_progress: OnProgress,
    rows: Sequence[LiveMisbehaviour] = ROWS,
) -> Tally:
    """Each misbehaviour so often, all of them side by side, at one doctor that goes on."""
    tally = _Count(times * len(rows), on_progress)
    for repetition in range(seed, seed + times):
        async with asyncio.TaskGroup() as tasks:
            for row in rows:
                tasks.create_task(tally.count(row, clinic, repetition))
    return Tally(tally.tried, tally.survived, leaked=tally.leaked, findings=tuple(tally.findings))
