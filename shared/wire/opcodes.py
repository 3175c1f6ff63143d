"""The codes that cross the wire: opcodes, alerts, reasons for a disconnect.

Opcode 10 names two messages, as in the scheme this project implements: KEY_EXCHANGE, then AUTH_REQUEST. Nothing on the
wire tells them apart; the state of the receiver does (`shared.protocol.transitions`), and their labels in hashes and
signatures differ, so that one can never be read as the other.
"""

from __future__ import annotations

from enum import IntEnum, unique


class Opcode(IntEnum):
    """The second byte of a frame. P is a patient device, D the doctor's gateway."""

    KEY_EXCHANGE = 10  # P→D, clear
    AUTH_REQUEST = 10  # P→D, sealed under k1
    KEY_EXCHANGE_REPLY = 11  # D→P, clear, carries a signed prekey
    RETRY = 12  # D→P, clear, instead of 11 and only under load
    AUTH_RESPONSE = 20  # D→P, sealed under k2
    SESSION_VERIFIER = 30  # P→D, sealed under k3
    GROUP_KEY = 31  # D→P, record
    BROADCAST = 40  # D→P, sealed under the epoch key, the same bytes to every member
    DIRECT = 41  # D→P, record
    RECEIPT = 42  # P→D, record
    RESEND_REQUEST = 43  # P→D, record
    REPORT = 50  # P→D, record
    REPORT_RECEIPT = 51  # D→P, record
    DISCONNECT = 60  # both, record
    ALERT = 70  # both; clear, under the alert key, or a record
    PING = 80  # both, record
    PONG = 81  # both, record


@unique
class AlertCode(IntEnum):
    """All that a peer is ever told about a failure; the cause stays in the log of the side that failed it."""

    SEALED = 0  # the code is inside the sealed part
    MALFORMED = 1
    UNSUPPORTED = 2
    REFUSED = 3
    CLOCK = 4
    BUSY = 5
    # Told only to a peer that has proved its key or its invitation's secret, hence only ever sealed.
    INVITATION_EXPIRED = 6
    INVITATION_USED = 7
    REVOKED = 8


@unique
class DisconnectReason(IntEnum):
    """Why an established session ends in good order."""

    CLOSING = 1  # the sender stops
    REPLACED = 2  # a newer session of the same patient was verified
    REVOKED = 3
    RETIRED = 4
    LAGGING = 5  # the reader fell behind the log's retention; it catches up when it returns
