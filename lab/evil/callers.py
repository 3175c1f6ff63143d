"""The second implementation's patient on a real socket, at a real doctor in a process of its own."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress

from lab.evil.peer import wire
from lab.evil.peer.equations import Surprise
from lab.evil.peer.invitations import Invitation
from lab.evil.peer.patient import Credentials, Patient
from lab.evil.peer.sessions import Told, read_alert
from lab.evil.peer.suites import ECDSA, HYBRID, SigningPair

PATIENCE = 10.0  # seconds; silence is never an answer


def now() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def device(invitation: Invitation, key: SigningPair | None = None) -> Credentials:
    """Who enrols by an invitation for one patient."""
    if invitation.patient_id is None:
        raise Surprise("an invitation for nobody")
    return Credentials(
        invitation.patient_id,
        HYBRID,
        key or HYBRID.new_signer(os.urandom),
        invitation.doctor_id,
        invitation.key(ECDSA),
        invitation.key(ECDSA),
        (invitation.invitation_id, invitation.secret),
    )


class Caller:
    """One connection. `async with await Caller.dial(…)` closes it in the end."""

    def __init__(self, who: Credentials, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = Patient(who, os.urandom)
        self._reader = reader
        self._writer = writer

    @classmethod
    async def dial(cls, address: str, who: Credentials) -> Caller:
        """Connect."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        return cls(who, reader, writer)

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with suppress(OSError):  # the doctor may have closed first
            await self._writer.wait_closed()

    async def say(self, *frames: bytes) -> None:
        """Send."""
        self._writer.write(b"".join(frames))
        await self._writer.drain()

    async def hear(self) -> bytes:
        """The next frame. Raises Surprise where none comes."""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._reader.readexactly(wire.HEADER)
                return head + await self._reader.readexactly(int.from_bytes(head[2:], "big"))
        except TimeoutError:
            raise Surprise(f"{self.peer.who.patient_id} heard nothing for {PATIENCE:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Surprise(f"the connection of {self.peer.who.patient_id} was cut") from None

    async def ask(self) -> None:
        """The handshake, up to AUTH_RESPONSE; the verifier is the next thing to say."""
        await self.request()
        self.response = await self.hear()

    async def request(self) -> None:
        """The handshake, up to AUTH_REQUEST; the doctor's verdict is the next thing to hear."""
        await self.say(self.peer.hello())
        await self.say(self.peer.request(await self.hear(), now()))

    async def confirm(self, *positions: wire.Position) -> None:
        """The verifier, and where this patient stands."""
        await self.say(self.peer.verifier(self.response, now()), self.peer.receipt(*positions))

    async def log_in(self, *positions: wire.Position) -> None:
        """The whole handshake, until the doctor has given the group's key."""
        await self.ask()
        await self.confirm(*positions)
        while (await self.record())[1] != wire.GROUP_KEY:
            pass

    async def record(self) -> bytes:
        """The next record, opened so that the count goes on. Raises Surprise for an alert."""
        frame = await self.hear()
        if frame[1] == wire.ALERT:
            raise Surprise(f"the doctor said {read_alert(frame, self.peer.alert_key, self.peer.to_patient)}")
        if frame[1] != wire.BROADCAST:
            self.peer.to_patient.open(frame)
        return frame

    async def await_opcode(self, opcode: int) -> bytes:
        """The next record of an opcode; those before it are read past."""
        while (frame := await self.record())[1] != opcode:
            pass
        return frame

    async def alert(self) -> Told:
        """The doctor's alert; records before it are read past."""
        while (frame := await self.hear())[1] != wire.ALERT:
            if frame[1] != wire.BROADCAST:
                self.peer.to_patient.open(frame)
        return read_alert(frame, self.peer.alert_key, self.peer.to_patient)

    async def alive(self) -> bool:
        """Whether the session still answers."""
        await self.say(self.peer.record(wire.PING, wire.Ping(bytes(8))))
        await self.await_opcode(wire.PONG)
        return True
