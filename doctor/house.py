"""What all visits share, and the socket by which each of them comes.

Law: the one place that holds the house together; it decides nothing but whether the door is open to one more stranger.
"""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from doctor.door import Allowance, DoorKeeper, Replacements
from doctor.fanout import Fanout
from doctor.feed import Feed
from doctor.keyring import Keyring
from doctor.ledger import Ledger
from doctor.noise import Noise
from doctor.receipts import Receipts
from doctor.reports import Reports
from doctor.roster import Roster
from doctor.tally import Tally
from doctor.traces import Traces
from shared.net.stream import Stream, reset
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Practice
from shared.protocol.events import Event
from shared.storage.writer import Writer
from shared.wire.opcodes import DisconnectReason

REFUSALS = 10  # of one patient that are noted one by one, at once and within a minute
UNSENT_BYTES = 128 * 1024  # that the kernel takes for one device ahead of what it can send


@dataclass(frozen=True, slots=True)
class House:
    """What all visits share."""

    practice: Practice
    keys: Keyring
    roster: Roster
    fanout: Fanout
    receipts: Receipts
    ledger: Ledger
    writer: Writer
    reader: sqlite3.Connection
    door: DoorKeeper
    reports: Reports
    allowance: Allowance  # for reports
    logins: Allowance  # that are noted one by one
    feed: Feed
    replacements: Replacements = field(default_factory=Replacements)
    entries: Allowance = field(default_factory=lambda: Allowance(REFUSALS))  # audit entries about refusals
    noise: Noise = field(default_factory=Noise)
    traces: Traces = field(default_factory=Traces)
    tally: Tally = field(default_factory=Tally)
    streams: set[DeviceStream] = field(default_factory=set)  # those that are connected


class DeviceStream(Stream[DoctorConnection]):
    """A device's TCP connection; over the limit of half-open ones it is closed before a byte is read."""

    def __init__(
        self,
        connection: DoctorConnection,
        on_open: Callable[[str], bool],
        on_events: Callable[[list[Event]], None],
        on_closed: Callable[[], None],
        on_writable: Callable[[], None],
        on_unwritable: Callable[[], None],
    ) -> None:
        super().__init__(connection, on_events, on_closed, on_writable, on_unwritable)
        self._on_open = on_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at the door first."""
        address = transport.get_extra_info("peername")
        host = address[0] if address else "?"
        self.connection.address = host
        let_in = self._on_open(host)
        del self._on_open  # it is asked once, and would hold the visit that holds this stream
        if let_in:
            # The kernel's own buffer grows to megabytes, for each device: what it holds there, our bounds would not see.
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
            )
            super().connection_made(transport)
        else:
            self.connection.disconnect(DisconnectReason.CLOSING)
            reset(transport)

    def show_out(self) -> None:
        """Cut a handshake that is not finished."""
        self.connection.disconnect(DisconnectReason.CLOSING)
        self.reset()

    def hang_up(self, reason: DisconnectReason) -> None:
        """End the session in good order, or just the connection where there is none yet."""
        self.connection.disconnect(reason)
        self.flush()
