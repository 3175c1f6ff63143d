"""What the gateway keeps for each group, and for each connected patient: one Session, and in it one Attachment for each stream.

Law: state only. How an attachment moves is decided in `doctor.fanout`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from doctor.broadcast_log import BroadcastLog
from doctor.streams import Membership
from shared.crypto.secret import Secret
from shared.net.stream import Stream
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.epochs import Epoch
from shared.wire.messages import Stream as MessageStream
from shared.wire.messages import TargetKind
from shared.wire.opcodes import DisconnectReason


class Attachment:
    """One session's place in one stream.

    It first catches up, message by message, over the intervals that are owed. In a group's stream it is then `attached`: it reads
    the group's log, where `doctor.log_writer` says. A patient's own stream has no log: it is caught up with for ever. Each interval
    is (start number, number of its end or None while the membership lasts); what lies between two intervals was never meant for
    this patient. `issued` is the highest number that can have been sent to it in the intervals that have ended.

    `write` is its socket's, there from the first time that it is attached, and `shared` how many bytes went into it by that. They
    stand here because a slice goes to thousands at once, and what each of them makes the processor touch is what it costs.
    """

    write: Callable[[bytes], object]

    __slots__ = (
        "again_from",
        "attached",
        "delivered",
        "held_epoch",
        "intervals",
        "issued",
        "session",
        "shared",
        "stream",
        "unreceipted_since",
        "write",
        "written",
    )

    def __init__(self, session: Session, stream: MessageStream) -> None:
        self.session = session
        self.stream = stream
        self.intervals: list[tuple[int, int | None]] = []
        self.issued = 0
        self.written = 0
        self.delivered = 0
        self.attached = False
        self.shared = 0
        self.again_from: int | None = None  # what was written beyond it is being sent once more
        self.held_epoch = 0
        self.unreceipted_since: int | None = None

    @property
    def private(self) -> bool:
        """Whether this is the patient's own stream."""
        return self.stream.kind is TargetKind.PATIENT

    @property
    def member(self) -> bool:
        """Whether the last interval is a membership that lasts."""
        return bool(self.intervals) and self.intervals[-1][1] is None

    def first_beyond(self, number: int) -> tuple[int, int | None] | None:
        """The first interval in which something above `number` may be owed."""
        return next(
            (
                (start, until)
                for start, until in self.intervals
                if until is None or until > max(number, start)
            ),
            None,
        )

    def remember(self, history: list[Membership]) -> None:
        """All memberships of this patient in this stream, oldest first."""
        owed = [row for row in history if row.owed]
        self.intervals = [(row.start, row.until) for row in owed]
        self.issued = max(row.until or 0 for row in history)
        # A membership begins with its start number as delivered: while an earlier one is owed something, that one counts.
        self.delivered = owed[0].delivered if owed else max(row.delivered for row in history)

    def begin_membership(self, start: int) -> None:
        """The patient was added."""
        if self.first_beyond(self.delivered) is None:
            self.delivered = max(self.delivered, start)
        self.intervals.append((start, None))

    def end_membership(self, until: int) -> None:
        """The patient was removed: what was accepted up to `until` is still owed."""
        start, _ = self.intervals.pop()
        self.intervals.append((start, until))
        self.issued = max(self.issued, until)

    def note_written(self, number: int, elapsed: int) -> None:
        """A message went into the socket; start waiting for its receipt."""
        if self.unreceipted_since is None:
            self.unreceipted_since = elapsed
        if number > self.written:
            self.written = number

    def note_shared(self, size: int, number: int, elapsed: int) -> None:
        """A slice of the log went into the socket."""
        self.shared += size
        self.note_written(number, elapsed)

    def note_delivered(self, number: int, elapsed: int) -> None:
        """The patient has acknowledged up to `number`."""
        self.delivered = max(self.delivered, number)
        self.unreceipted_since = None if self.delivered >= self.written else elapsed


class Session:
    """One verified and admitted patient's connection."""

    __slots__ = (
        "_drained",
        "_stalled_since",
        "attachments",
        "contribution",
        "patient_id",
        "positioned",
        "skew",
        "stream",
        "suite",
    )

    def __init__(
        self, patient_id: str, stream: Stream[DoctorConnection], contribution: Secret, suite: str
    ) -> None:
        self.patient_id = patient_id
        self.stream = stream
        self.contribution = contribution
        self.suite = suite
        self.positioned = False
        self.skew = 0  # milliseconds that the device's clock was ahead of ours at its handshake
        self._drained = 0
        self._stalled_since: int | None = None
        self.attachments: dict[MessageStream, Attachment] = {}

    @property
    def connection(self) -> DoctorConnection:
        """The protocol's side of the session."""
        return self.stream.connection

    @property
    def who(self) -> dict[str, str]:
        """The log's fields for this session."""
        return {"address": self.stream.peer, "patient": self.patient_id}

    @property
    def held_epochs(self) -> dict[str, int]:
        """The epoch of each group whose key it was given."""
        return {of.name: at.held_epoch for of, at in self.attachments.items() if at.held_epoch}

    @property
    def holds_key(self) -> bool:
        """Whether it was given the key of any group."""
        return any(at.held_epoch for at in self.attachments.values())

    @property
    def live(self) -> bool:
        """Whether records can still be sent."""
        return self.positioned and self.stream.open and not self.connection.ended

    @property
    def writable(self) -> bool:
        """Whether the socket takes more now."""
        return self.live and self.stream.writable

    @property
    def drained(self) -> int:
        """Bytes that the socket has taken since the beginning."""
        return self.stream.drained + sum(attachment.shared for attachment in self.attachments.values())

    def stalled_for(self, elapsed: int) -> int:
        """For how many milliseconds bytes have waited of which the socket has taken none, as far as earlier calls can tell."""
        if not self.stream.buffered:
            self._stalled_since = None
            return 0
        drained = self.drained
        if drained != self._drained or self._stalled_since is None:
            self._drained, self._stalled_since = drained, elapsed
        return elapsed - self._stalled_since

    def disconnect(self, reason: DisconnectReason) -> None:
        """Tell the device why its session ends, and end it."""
        self.connection.disconnect(reason)
        self.stream.flush()


class Group:
    """One group's current epoch, members, log, and the attachments that read it; `doctor.log_writer` moves those.

    Attributes:
        abreast: have everything up to `cursor`, and their sockets take more.
        lagging: the others, each with its own cursor.
        distribution: seconds that handing out the last epoch took.
        timer: an epoch is due, somebody has joined.
    """

    __slots__ = (
        "abreast",
        "began",
        "cursor",
        "distribution",
        "epoch",
        "lagging",
        "log",
        "members",
        "name",
        "roster",
        "sequence",
        "timer",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: set[str] = set()
        self.roster: frozenset[str] = frozenset()
        self.epoch: Epoch | None = None
        self.log = BroadcastLog()
        self.abreast: dict[Attachment, None] = {}  # a set that keeps its order
        self.cursor = 0
        self.lagging: dict[Attachment, int] = {}
        self.sequence = 0
        self.began = 0
        self.distribution = 0.0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def attached(self) -> set[Attachment]:
        """All that read the log."""
        return {*self.abreast, *self.lagging}

    @property
    def read(self) -> bool:
        """Whether anybody reads the log."""
        return bool(self.abreast or self.lagging)

    @property
    def epoch_number(self) -> int:
        """The number of the current epoch."""
        assert self.epoch is not None  # noqa: S101  `Fanout.load` begins one at once
        return self.epoch.number
