"""What a connection tells the program around it. Events are facts: the checks behind them have all passed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, unique

from shared.crypto.secret import Secret
from shared.crypto.signatures import Algorithm
from shared.crypto.suites import SuiteId
from shared.protocol.patient_handshake import Hello
from shared.protocol.rotation import Successors
from shared.wire.checks import Check
from shared.wire.messages import Envelope, Position, Report, Stream
from shared.wire.opcodes import AlertCode, DisconnectReason


@unique
class Direction(Enum):
    """Which way a message went, seen from this side."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class Traced:
    """A handshake message went out or was accepted; for whoever watches the protocol at work."""

    direction: Direction
    message: str
    opcode: int
    size: int
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Verified:
    """Doctor: a patient has proved its identity; the session waits for `admit` or `refuse`.

    `invitation_id` is None for a patient that is on the roster already. `contribution` is c_i, its share in group secrets.
    `doctor_key`: our public key under which the patient has accepted all this, so it has pinned that one.
    """

    patient_id: str
    algorithm: Algorithm
    public_key: bytes
    suite: SuiteId
    invitation_id: bytes | None
    contribution: Secret
    patient_clock: int
    doctor_clock: int
    doctor_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Positioned:
    """Doctor: the patient's first RECEIPT; from now on records may be sent."""

    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Receipted:
    """Doctor: the patient acknowledges what it has applied. The numbers are yet to be checked (V-090)."""

    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class ResendRequested:
    """Doctor: the patient lacks messages. `key_id`: of a broadcast that it could not open; empty for a gap."""

    key_id: bytes
    positions: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Reported:
    """Doctor: the patient reports something; acknowledge it once it is on the disk."""

    report: Report


@dataclass(frozen=True, slots=True)
class RetryAsked:
    """Patient: the doctor is under load. Connect again, once, with this greeting, which carries the cookie.

    A RETRY that answers a greeting with a cookie is told as `Alerted` with BUSY instead: back off and begin anew.
    """

    hello: Hello


@dataclass(frozen=True, slots=True)
class KeysRotated:
    """Patient: the pinned doctor has proved that it has new keys. Store them, in one step, then connect again."""

    successors: Successors


@dataclass(frozen=True, slots=True)
class ReportsReceipted:
    """Patient: these reports are on the doctor's disk."""

    report_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReceiptsHeard:
    """Patient: the doctor has read our receipts of these streams up to these numbers; it need not have stored them yet."""

    last: Mapping[Stream, int]


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Patient: the doctor's first record has come; the doctor has admitted this device."""


@dataclass(frozen=True, slots=True)
class EpochBegun:
    """Patient: a group's new key has replaced its predecessor."""

    group: str
    epoch: int
    start: int


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """Patient: a message of the doctor's, next in its stream, verified. `body` is None where it has expired."""

    envelope: Envelope
    body: bytes | None = field(repr=False)  # a patient's data has no place in a log
    direct: bool


@dataclass(frozen=True, slots=True)
class Repeated:
    """Patient: a DIRECT brought a number that is known already, so its receipt has not reached the doctor."""

    stream: Stream
    number: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Patient: a broadcast was dropped without any effect; the session goes on.

    `stream` is named where the reason is a gap (V-085), whose filling the patient may ask for.
    """

    check: Check
    detail: str
    stream: Stream | None = None


@dataclass(frozen=True, slots=True)
class Alerted:
    """The peer ended the connection with an alert. Only an authentic one says anything for certain."""

    code: AlertCode
    peer_clock: int
    authentic: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The peer ended the session in good order."""

    reason: DisconnectReason


@dataclass(frozen=True, slots=True)
class Failed:
    """The peer broke a rule; `detail` is the cause, for the log only.

    `patient_id` is whom the peer proved to be, if it came so far. `clocks`: where a clock was off, the peer's signed time
    (of a prekey: its end of validity) and our own.
    """

    check: Check
    detail: str
    patient_id: str | None = None
    clocks: tuple[int, int] | None = None


Event = (
    Traced
    | Verified
    | Positioned
    | Receipted
    | ResendRequested
    | Reported
    | RetryAsked
    | KeysRotated
    | ReportsReceipted
    | ReceiptsHeard
    | Confirmed
    | EpochBegun
    | MessageReceived
    | Repeated
    | Dropped
    | Alerted
    | Disconnected
    | Failed
)
