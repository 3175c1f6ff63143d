"""The shipped gateway in a process of its own, with orders taken from standard input instead of HTTP.

One line is one order, its answer is one line. What is measured is the doctor from acceptance to the last byte written; an HTTP
client in the same test would only measure itself. `python -m lab.bench.gateway_host`, settings as always from the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TypeAlias

import msgspec
import uvloop

from doctor import collector
from doctor.gateway import Gateway, open_gateway
from doctor.groups import EVERYONE
from doctor.idempotency import Origin
from doctor.orders import BroadcastOrder, InviteOrder
from doctor.settings import DoctorSettings
from shared import logs
from shared.config import load


class Invite(msgspec.Struct, frozen=True, tag="invite"):
    """A fleet invitation."""


class Broadcast(msgspec.Struct, frozen=True, tag="broadcast"):
    """So many broadcasts of so many bytes, all at once; answered when the last one is accepted."""

    count: int
    size: int


class NextEpoch(msgspec.Struct, frozen=True, tag="next-epoch"):
    """A new epoch for everyone, as a leave or the hour begins one; answered with its number when that is on the disk."""


class CurrentEpoch(msgspec.Struct, frozen=True, tag="current-epoch"):
    """The number of everyone's epoch."""


class Settled(msgspec.Struct, frozen=True, tag="settled"):
    """`yes` where the disk knows that every patient has all that was sent to everyone: nothing is left to do."""


Order: TypeAlias = Invite | Broadcast | NextEpoch | CurrentEpoch | Settled

_UNSETTLED = """
SELECT EXISTS (SELECT 1 FROM memberships JOIN streams USING (stream)
WHERE stream = 'group:everyone' AND until IS NULL AND delivered < last)
"""


class Answer(msgspec.Struct, frozen=True):
    """`port` of the devices, and what the order asked for as a text."""

    port: int
    text: str = ""


async def host() -> None:
    """Serve until standard input ends."""
    settings = load(DoctorSettings, None, os.environ, "TELEMED_DOCTOR")
    logs.configure(settings.log_level, settings.log_format)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with open_gateway(settings) as gateway:
        collector.settle()
        _say(Answer(gateway.port))
        async for line in reader:
            text = await _carry_out(gateway, msgspec.json.decode(line, type=Order))
            _say(Answer(gateway.port, text))


async def _carry_out(gateway: Gateway, order: Order) -> str:
    match order:
        case Invite():
            answer = await gateway.commands.invite(InviteOrder(), Origin("bench"))
            return answer.invitation
        case Broadcast(count, size):
            body = BroadcastOrder("x" * size)
            await asyncio.gather(*(gateway.commands.broadcast(body, Origin("bench")) for _ in range(count)))
            return ""
        case NextEpoch():
            fanout = gateway.commands._office.fanout
            fanout.next_epoch(fanout.groups[EVERYONE])
            await gateway.commands.storage_answers()  # behind the epoch's number and its audit entry
            return _epoch(gateway)
        case CurrentEpoch():
            return _epoch(gateway)
        case Settled():
            return "" if gateway.commands.reader.execute(_UNSETTLED).fetchone()[0] else "yes"


def _epoch(gateway: Gateway) -> str:
    return str(gateway.commands._office.fanout.groups[EVERYONE].epoch_number)


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    uvloop.run(host())
