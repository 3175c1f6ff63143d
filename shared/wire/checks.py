"""Every check that a received message must pass, by number; `PeerError` is what a failed one raises.

A rule's number stands here, in SPEC.md, behind the code that applies it and in the name of the test that proves it both
ways; a test compares the four. Numbers are never reused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple

from shared.errors import CryptoError, TelemedError
from shared.wire.opcodes import AlertCode


class Rule(NamedTuple):
    """One row of SPEC.md's table of checks."""

    number: str
    alert: AlertCode
    text: str


class Check(Enum):
    """The checks, in the order in which a connection meets them."""

    FRAME_VERSION = Rule("V-001", AlertCode.UNSUPPORTED, "the frame's version is 1")
    FRAME_OPCODE = Rule("V-002", AlertCode.UNSUPPORTED, "the frame's opcode is one of the table")
    FRAME_LENGTH = Rule(
        "V-003",
        AlertCode.MALFORMED,
        "the frame's length is within the cap: 4 KiB before, 64 KiB after authentication",
    )
    PAYLOAD_CANONICAL = Rule(
        "V-004", AlertCode.MALFORMED, "the payload is the one canonical encoding of its struct"
    )
    OPCODE_IN_STATE = Rule("V-005", AlertCode.MALFORMED, "the opcode is expected in the receiver's state")
    STREAM_COMPLETE = Rule("V-006", AlertCode.MALFORMED, "the stream does not end inside a frame")
    INPUT_BOUNDED = Rule(
        "V-007", AlertCode.MALFORMED, "input that waits for an admission stays within one capped frame"
    )
    HANDSHAKE_DEADLINE = Rule(
        "V-008", AlertCode.BUSY, "the handshake, its first RECEIPT included, ends within 10 s"
    )

    SUITE_ALLOWED = Rule(
        "V-010", AlertCode.UNSUPPORTED, "the suite that the patient names is known and allowed"
    )
    DOCTOR_ADMITS = Rule(
        "V-011", AlertCode.BUSY, "the doctor does not wait for its operator to confirm a restored database"
    )

    DOCTOR_PINNED = Rule("V-020", AlertCode.REFUSED, "the reply names the doctor that the patient pinned")
    PREKEY_SIGNATURE = Rule("V-021", AlertCode.REFUSED, "the prekey is signed by the pinned doctor's key")
    PREKEY_FRESH = Rule(
        "V-022", AlertCode.CLOCK, "the prekey's valid_until lies within the patient's window, 45 s by default"
    )
    PREKEY_ELEMENT = Rule("V-023", AlertCode.REFUSED, "the prekey is a valid element of its suite")
    ROTATION_DOCTOR = Rule("V-024", AlertCode.REFUSED, "a rotation names the doctor that the patient pinned")
    ROTATION_HIGHER = Rule(
        "V-025", AlertCode.REFUSED, "a rotation's sequence is above that of the patient's pinned keys"
    )
    ROTATION_PINNED = Rule(
        "V-026", AlertCode.REFUSED, "a rotation gives each pinned key, by its fingerprint, a valid successor"
    )
    ROTATION_SIGNED = Rule("V-027", AlertCode.REFUSED, "a rotation is signed by each of the pinned keys")

    PREKEY_HELD = Rule("V-030", AlertCode.BUSY, "the prekey that the request answers has not been erased yet")
    REQUEST_OPENS = Rule("V-031", AlertCode.REFUSED, "the request decapsulates and opens under k1")
    REQUEST_DOCTOR = Rule("V-032", AlertCode.REFUSED, "the request names this doctor")
    REQUEST_ALGORITHM = Rule(
        "V-033", AlertCode.REFUSED, "the patient's key is of the suite's signature algorithm"
    )
    ENROLMENT_MAC = Rule(
        "V-034", AlertCode.REFUSED, "an enrolling patient proves the secret of a known invitation"
    )
    ROSTER_KEY = Rule(
        "V-035", AlertCode.REFUSED, "the id is on the roster, or enrolling, with the very key it presents"
    )
    REQUEST_SIGNATURE = Rule("V-036", AlertCode.REFUSED, "the request is signed by the patient's key")
    NOT_REVOKED = Rule("V-037", AlertCode.REVOKED, "neither the id nor the key is revoked")
    REQUEST_CLOCK = Rule("V-038", AlertCode.CLOCK, "the request's timestamp lies within the doctor's window")
    REQUEST_FRESH = Rule("V-039", AlertCode.REFUSED, "the patient has not used this nonce within the window")
    INVITATION_VALID = Rule("V-040", AlertCode.INVITATION_EXPIRED, "the invitation has not expired")
    INVITATION_UNUSED = Rule("V-041", AlertCode.INVITATION_USED, "the invitation has a use left")
    INVITATION_ID = Rule(
        "V-042", AlertCode.REFUSED, "the invitation admits this id: the one it names, or one derived"
    )
    KEY_UNCLAIMED = Rule("V-043", AlertCode.REFUSED, "the enrolling key belongs to no other id")
    PATIENT_ELEMENT = Rule(
        "V-044", AlertCode.REFUSED, "the patient's ephemeral key is a valid element of its suite"
    )

    RESPONSE_OPENS = Rule("V-050", AlertCode.REFUSED, "the response decapsulates and opens under k2")
    RESPONSE_PATIENT = Rule("V-051", AlertCode.REFUSED, "the response names this patient")
    RESPONSE_NONCE = Rule(
        "V-052", AlertCode.REFUSED, "the response returns the nonce of this patient's request"
    )
    RESPONSE_CONFIRMS = Rule("V-053", AlertCode.REFUSED, "the doctor proves that it holds the session key")
    RESPONSE_SIGNATURE = Rule("V-054", AlertCode.REFUSED, "the response is signed by the pinned doctor's key")
    RESPONSE_CLOCK = Rule(
        "V-055", AlertCode.CLOCK, "the response's timestamp lies within the patient's window"
    )

    VERIFIER_OPENS = Rule("V-060", AlertCode.REFUSED, "the verifier opens under k3")
    VERIFIER_CONFIRMS = Rule("V-061", AlertCode.REFUSED, "the patient proves that it holds the session key")
    VERIFIER_CLOCK = Rule(
        "V-062", AlertCode.CLOCK, "the verifier's timestamp lies within the doctor's window"
    )
    ADMISSION = Rule(
        "V-063",
        AlertCode.INVITATION_USED,
        "the roster's transaction admits the patient: uses, expiry and id once more",
    )
    NOT_PAUSED = Rule(
        "V-064",
        AlertCode.BUSY,
        "the patient's sessions have not replaced one another three times within the last minute",
    )

    RECORD_OPENS = Rule(
        "V-070", AlertCode.MALFORMED, "the record opens under its direction's key and next counter"
    )
    EPOCH_NOT_REPEATED = Rule(
        "V-071", AlertCode.REFUSED, "a group key is not for the epoch that the patient is in"
    )
    EPOCH_NOT_LOWER = Rule("V-072", AlertCode.REFUSED, "a group key is not for an epoch that has passed")
    EPOCH_NOT_SKIPPED = Rule("V-073", AlertCode.REFUSED, "a group key skips no epoch")
    EPOCH_KEY_KNOWN = Rule(
        "V-074", AlertCode.REFUSED, "a broadcast's key id is that of an epoch the patient is in"
    )
    BROADCAST_OPENS = Rule("V-075", AlertCode.REFUSED, "a broadcast opens under its epoch key")
    ENVELOPE_DOCTOR = Rule(
        "V-080", AlertCode.REFUSED, "an envelope names the pinned doctor and its signing key"
    )
    ENVELOPE_SIGNATURE = Rule("V-081", AlertCode.REFUSED, "an envelope is signed by the pinned doctor's key")
    ENVELOPE_TARGET = Rule(
        "V-082",
        AlertCode.REFUSED,
        "an envelope is addressed to the group whose key opened it, or to this patient",
    )
    ENVELOPE_BODY = Rule("V-083", AlertCode.REFUSED, "the body is the one that the envelope's hash covers")
    ENVELOPE_BODY_PRESENT = Rule(
        "V-084",
        AlertCode.REFUSED,
        "a body is left out only of a message that has expired, give or take the patient's window",
    )
    ENVELOPE_PREVIOUS = Rule(
        "V-085", AlertCode.REFUSED, "the preceding number of the stream is the patient's position"
    )
    ENVELOPE_FORMER = Rule(
        "V-086",
        AlertCode.REFUSED,
        "an envelope under a key that was rotated away comes as DIRECT and was created before the rotation",
    )
    RECEIPT_ISSUED = Rule(
        "V-090", AlertCode.REFUSED, "a receipt acknowledges only numbers issued to that patient"
    )

    @property
    def number(self) -> str:
        """The check's number, for example `V-021`."""
        return self.value.number

    @property
    def alert(self) -> AlertCode:
        """The coarse code that the peer is told."""
        return self.value.alert


class PeerError(TelemedError):
    """The peer broke the protocol. It never leaves a connection: there it becomes one alert and a `Failed` event.

    Args:
        check: the rule that was broken.
        detail: the cause for our own log; never sent, never a secret.
        clocks: where clocks differ, the time that the peer gave and our own, in milliseconds since the Unix epoch.
    """

    def __init__(self, check: Check, detail: str, clocks: tuple[int, int] | None = None) -> None:
        super().__init__(f"{check.number} {detail}")
        self.check = check
        self.detail = detail
        self.clocks = clocks


class Checklist:
    """Applies checks to one message and remembers those that passed, for whoever wants to watch a handshake."""

    __slots__ = ("passed",)

    def __init__(self) -> None:
        self.passed: list[Check] = []

    def require(self, holds: bool, check: Check, detail: str) -> None:
        """Raise PeerError unless the rule holds."""
        if not holds:
            raise PeerError(check, detail)
        self.passed.append(check)

    def require_clock(self, check: Check, theirs: int, ours: int, window: int, detail: str) -> None:
        """Raise PeerError, with both clocks, unless they differ by at most `window` milliseconds."""
        if abs(theirs - ours) > window:
            raise PeerError(check, f"{detail} {theirs}, this clock shows {ours}", (theirs, ours))
        self.passed.append(check)

    @contextmanager
    def guard(self, check: Check, detail: str) -> Iterator[None]:
        """Turn a primitive's refusal inside the block into PeerError."""
        try:
            yield
        except CryptoError as error:
            raise PeerError(check, f"{detail}: {error}") from error
        self.passed.append(check)
