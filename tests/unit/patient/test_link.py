"""A link keeps what one connection has come to."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from patient import link as links
from patient.identity import create
from patient.link import Link, split_address
from patient.verdicts import InboxFailed, Unreachable
from shared.crypto.suites import DEFAULT_SUITE
from shared.errors import UserError
from shared.net.stream import clock
from shared.protocol.envelopes import Positions
from shared.protocol.events import Alerted, Event, Failed
from shared.protocol.patient_connection import PatientConnection
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode
from tests.small_doctor import SmallDoctor


class Caller:
    """Makes links to a doctor, each with the identity that it has invited."""

    def __init__(self, doctor: SmallDoctor) -> None:
        self.identity = create(doctor.invite(), DEFAULT_SUITE, None, os.urandom)
        self.positions = Positions()
        self.events: list[Event] = []
        self.address = doctor.address

    def link(self) -> Link:
        """A new link."""
        return Link(self.address, self.positions, lambda _, event: self.events.append(event))

    def connection(self) -> PatientConnection:
        """The protocol's side."""
        identity = self.identity.for_handshake(DEFAULT_SUITE, 45.0)
        return PatientConnection(identity, self.identity.reader(45.0), self.positions, clock(), os.urandom)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("gateway.clinic.example:7700", ("gateway.clinic.example", 7700)),
        ("10.0.0.5:1", ("10.0.0.5", 1)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_host_and_port(address: str, expected: tuple[str, int]) -> None:
    """IPv6 stands in brackets."""
    assert split_address(address) == expected


@pytest.mark.parametrize(
    "address", ["", "host", ":7700", "host:", "host:0", "host:65536", "host:-1", "host:٣"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    """An invitation's text is only checked for its length."""
    with pytest.raises(UserError, match="expected host:port"):
        split_address(address)


def test_a_handshake_ends_established() -> None:
    """Confirmed by the doctor's first record; the goodbye reaches the doctor."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)
            link = caller.link()

            established = await link.open(caller.connection)

            assert established
            assert (link.established, link.verifier_sent, link.in_session) == (True, True, True)
            await link.close()
            assert (link.closed, link.in_session, link.ending) == (True, False, None)
            await doctor.until(lambda: doctor.last.goodbye)
            await link.close()

    asyncio.run(main())


def test_a_refusal_ends_it_with_the_alert() -> None:
    """The sealed reason is kept."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctor.refuse_with = Check.ADMISSION
            caller = Caller(doctor)
            link = caller.link()

            assert not await link.open(caller.connection)
            assert isinstance(link.ending, Alerted)
            assert (link.ending.code, link.ending.authentic) == (AlertCode.INVITATION_USED, True)
            assert link.verifier_sent

    asyncio.run(main())


def test_nobody_there_is_unreachable() -> None:
    """The operating system's word is the cause."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)
        link = caller.link()

        assert not await link.open(caller.connection)
        assert link.ending == Unreachable("Connection refused")
        link.abort()
        await link.close()

    asyncio.run(main())


def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    """An error without a number has a text all the same."""

    async def main() -> None:
        link = Link("no-such-host.invalid:1", Positions(), lambda *_: None)

        assert not await link.open(lambda: pytest.fail("nothing to talk to"))
        assert isinstance(link.ending, Unreachable)
        assert link.ending.cause

    asyncio.run(main())


def test_a_network_that_swallows_everything_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SYN without an answer: the listener's queue is full."""
    monkeypatch.setattr(links, "CONNECT_TIMEOUT_S", 0.05)

    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            address = listener.getsockname()
            with socket.create_connection(address):
                link = Link(f"127.0.0.1:{address[1]}", Positions(), lambda *_: None)

                assert not await link.open(lambda: pytest.fail("nothing to talk to"))
                assert link.ending == Unreachable("no answer within 0.05 s")

    asyncio.run(main())


class UnansweredNames(uvloop.Loop):
    """An event loop whose resolver says nothing; it notes what was asked, and whether the question was called off."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[object] = []
        self.called_off = 0

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        """Wait for ever."""
        self.asked.append(host)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.called_off += 1
            raise


def test_a_name_that_nobody_answers_for_is_asked_no_longer_than_the_time_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The question ends with the attempt: what the resolver says later would be an error in the log that nobody made."""
    monkeypatch.setattr(links, "CONNECT_TIMEOUT_S", 0.01)
    link = Link("gateway.clinic.invalid:7700", Positions(), lambda *_: None)

    with asyncio.Runner(loop_factory=UnansweredNames) as runner:
        opened = runner.run(link.open(lambda: pytest.fail("nothing to talk to")))
        loop = runner.get_loop()

        assert isinstance(loop, UnansweredNames)
        assert (loop.asked, loop.called_off) == (["gateway.clinic.invalid"], 1)
    assert not opened
    assert link.ending == Unreachable("no answer within 0.01 s")


def test_a_name_with_two_addresses_is_tried_at_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens at the first; the last refusal counts where nobody listens at any."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)
            _, port = split_address(caller.address)
            caller.address = f"gateway.clinic.invalid:{port}"
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
                for host in ("127.0.0.2", "127.0.0.1")
            ]

            async def look_up(*_: object, **__: object) -> object:
                return found

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
            link = caller.link()

            assert await link.open(caller.connection)
            await link.close()
            found.reverse()
        assert not await caller.link().open(caller.connection)

    asyncio.run(main())


def test_a_cancelled_handshake_cuts_the_connection() -> None:
    """Nothing is left open when the program is told to stop."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctor.admit = False
            caller = Caller(doctor)
            opening = asyncio.ensure_future(caller.link().open(caller.connection))
            await doctor.until(lambda: doctor.visits and doctor.last.patient_id)

            opening.cancel()

            with pytest.raises(asyncio.CancelledError):
                await opening
            await doctor.until(lambda: doctor.last.closed)

    asyncio.run(main())


def test_a_link_that_is_cut_while_it_connects_never_opens() -> None:
    """There is no connection yet that could be cut; once there is one, it is."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)
            link = caller.link()
            opening = asyncio.ensure_future(link.open(caller.connection))
            await asyncio.sleep(0)  # the connection is being made
            assert not doctor.visits

            link.abort(InboxFailed("disk full"))

            assert not await opening
            assert link.ending == InboxFailed("disk full")
            assert link.closed
            await doctor.until(lambda: doctor.visits and doctor.last.closed)
            assert not doctor.last.patient_id

    asyncio.run(main())


def test_the_first_reason_stays() -> None:
    """A cut in the middle of a frame does not hide why we cut."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)
            link = caller.link()
            await link.open(caller.connection)
            doctor.last.stream.shared_write(b"\x01")
            await doctor.until(lambda: doctor.last.stream.buffered == 0)

            link.abort(InboxFailed("disk full"))
            await link.closed_within(5)

            assert link.ending == InboxFailed("disk full")

    asyncio.run(main())


def test_a_peer_that_speaks_something_else_is_a_failure() -> None:
    """The check is kept for the verdict."""

    served = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        served.set()

    async def main() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            caller.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            link = caller.link()

            assert not await link.open(caller.connection)
            assert isinstance(link.ending, Failed)
            assert link.ending.check is Check.FRAME_VERSION
            await served.wait()

    asyncio.run(main())


def test_a_peer_that_takes_nothing_is_cut_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The goodbye cannot be delivered: after a while we go without it."""
    monkeypatch.setattr(links, "CLOSE_TIMEOUT_S", 0.05)

    async def main() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)
            link = caller.link()
            await link.open(caller.connection)
            doctor.last.stream.pause_writing()  # it reads no more
            assert link._stream is not None
            link._stream.shared_write(bytes(32 << 20))  # more than the kernel takes

            await link.close()
            await link.closed_within(5)

            assert link.closed

    asyncio.run(main())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_link_that_is_called_off_in_the_moment_of_connecting_is_closed(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """uvloop then closes the transport without a word; left alone, the deadline of the handshake would ring on it."""

    async def call_off() -> None:
        async with SmallDoctor() as doctor:
            caller = Caller(doctor)

            def called_off(link: Link, event: Event) -> None:
                opening.cancel()

            link = Link(caller.address, caller.positions, called_off)
            opening = asyncio.create_task(link.open(caller.connection))
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert await link.closed_within(5)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(call_off())
