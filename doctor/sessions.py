"""What the gateway keeps for each connected patient: one Session, and in it one Attachment for each group.

Law: state only. How an attachment moves is decided in `doctor.fanout`.
"""

from __future__ import annotations

from collections import deque

from doctor.groups import Membership
from shared.crypto.secret import Secret
from shared.net.stream import Stream
from shared.protocol.doctor_connection import DoctorConnection


class Attachment:
    """One session's place in one group's stream.

    It first catches up, message by message, over the intervals that are owed; then it is attached: `cursor` is its position
    in the group's log. `start` is the start number of the interval that is being read.
    """

    __slots__ = (
        "cursor",
        "delivered",
        "group",
        "held_epoch",
        "intervals",
        "session",
        "unreceipted_since",
        "written",
    )

    def __init__(self, session: Session, group: str) -> None:
        self.session = session
        self.group = group
        self.intervals: deque[tuple[int, int | None]] = deque()
        self.written = 0
        self.delivered = 0
        self.cursor: int | None = None
        self.held_epoch = 0
        self.unreceipted_since: int | None = None

    @property
    def start(self) -> int:
        """The start number that goes with what is sent now."""
        return self.intervals[0][0]

    @property
    def member(self) -> bool:
        """Whether the last interval is a membership that lasts."""
        return bool(self.intervals) and self.intervals[-1][1] is None

    def owe(self, memberships: list[Membership]) -> None:
        """What this patient is entitled to in this group, oldest first."""
        self.intervals.extend((membership.start, membership.until) for membership in memberships)
        self.delivered = max((membership.delivered for membership in memberships), default=0)

    def end_membership(self, until: int) -> None:
        """The patient was removed: what was accepted up to `until` is still owed."""
        start, _ = self.intervals.pop()
        self.intervals.append((start, until))
        self.cursor = None

    def note_written(self, number: int, elapsed: int) -> None:
        """A message went into the socket; start waiting for its receipt."""
        if self.unreceipted_since is None:
            self.unreceipted_since = elapsed
        self.written = max(self.written, number)

    def note_delivered(self, number: int, elapsed: int) -> None:
        """The patient has acknowledged up to `number`."""
        self.delivered = max(self.delivered, number)
        self.unreceipted_since = None if self.delivered >= self.written else elapsed


class Session:
    """One verified and admitted patient's connection."""

    __slots__ = ("attachments", "contribution", "patient_id", "positioned", "since", "stream", "suite")

    def __init__(
        self, patient_id: str, stream: Stream[DoctorConnection], contribution: Secret, suite: str, since: int
    ) -> None:
        self.patient_id = patient_id
        self.stream = stream
        self.contribution = contribution
        self.suite = suite
        self.since = since
        self.positioned = False
        self.attachments: dict[str, Attachment] = {}

    @property
    def connection(self) -> DoctorConnection:
        """The protocol's side of the session."""
        return self.stream.connection

    @property
    def live(self) -> bool:
        """Whether records can still be sent."""
        return self.positioned and self.stream.open and not self.connection.ended

    @property
    def writable(self) -> bool:
        """Whether the socket takes more now."""
        return self.live and self.stream.writable
