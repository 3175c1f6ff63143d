"""What the end of a connection means: one sentence for a person, an exit code, and whether trying again makes sense.

Law: decides nothing else. Only what the doctor said under a session's keys or in a sealed alert is believed to be the
doctor's word; an alert in clear is a hint that anybody on the way could have written, so it never ends the program.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique

from patient.exit_codes import ExitCode
from patient.text import moment
from shared.protocol.events import Alerted, Disconnected, Failed
from shared.protocol.prekeys import VALID_FOR
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode, DisconnectReason


@unique
class Reason(Enum):
    """Why a connection ended; the value is the code in JSON output."""

    REVOKED = "revoked"
    RETIRED = "retired"
    INVITATION_EXPIRED = "invitation-expired"
    INVITATION_USED = "invitation-used"
    INVITATION_REFUSED = "invitation-refused"
    NOT_ENROLLED = "not-enrolled"
    WRONG_DOCTOR = "wrong-doctor"
    CLOCK = "clock"
    SUITE = "suite"
    BUSY = "busy"
    UNREACHABLE = "unreachable"
    CUT = "cut"
    CLOSING = "closing"
    REPLACED = "replaced"
    LAGGING = "lagging"
    PROTOCOL = "protocol"
    STORAGE = "storage"


EXIT_CODES = {
    Reason.REVOKED: ExitCode.REVOKED,
    Reason.RETIRED: ExitCode.OK,  # no failure: what starts devices again after one must not undo a retirement
    Reason.INVITATION_EXPIRED: ExitCode.INVITATION,
    Reason.INVITATION_USED: ExitCode.INVITATION,
    Reason.INVITATION_REFUSED: ExitCode.INVITATION,
    Reason.NOT_ENROLLED: ExitCode.NOT_ENROLLED,
    Reason.WRONG_DOCTOR: ExitCode.WRONG_DOCTOR,
    Reason.CLOCK: ExitCode.CLOCK,
    Reason.SUITE: ExitCode.SUITE,
    Reason.BUSY: ExitCode.UNREACHABLE,
    Reason.UNREACHABLE: ExitCode.UNREACHABLE,
    Reason.CUT: ExitCode.UNREACHABLE,
    Reason.CLOSING: ExitCode.UNREACHABLE,
    Reason.REPLACED: ExitCode.UNEXPECTED,
    Reason.LAGGING: ExitCode.UNREACHABLE,
    Reason.PROTOCOL: ExitCode.UNEXPECTED,
    Reason.STORAGE: ExitCode.STORAGE,
}

FINAL = frozenset({Reason.REVOKED, Reason.RETIRED, Reason.INVITATION_EXPIRED, Reason.INVITATION_USED})
"""What no further attempt can change. Reached only by the doctor's authentic word."""

FAULTLESS = frozenset({Reason.CUT, Reason.CLOSING, Reason.LAGGING})
"""Ends of an established session after which the next attempt may come soon."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No connection came about; `cause` is the operating system's word."""

    cause: str


@dataclass(frozen=True, slots=True)
class InboxFailed:
    """This device could not store what came; `cause` says why."""

    cause: str


Ending = Alerted | Disconnected | Failed | Unreachable | InboxFailed | None
"""What ended a connection; None: it was cut or fell silent."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a sentence needs to name. `now` is this device's clock, in milliseconds since the Unix epoch."""

    patient_id: str
    doctor_id: str
    suite: str
    address: str
    enrolling: bool
    clock_window_s: float
    now: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of an end."""

    reason: Reason
    sentence: str

    @property
    def code(self) -> ExitCode:
        """What the program ends with if this is the last word."""
        return EXIT_CODES[self.reason]

    @property
    def final(self) -> bool:
        """Whether another attempt is pointless."""
        return self.reason in FINAL


def judge(ending: Ending, at: Situation) -> Verdict:
    """The verdict on one connection."""
    if isinstance(ending, Alerted):
        return _judge_alert(ending, at)
    if isinstance(ending, Disconnected):
        return _judge_disconnect(ending.reason, at)
    if isinstance(ending, Failed):
        return _judge_failure(ending, at)
    if isinstance(ending, InboxFailed):
        return Verdict(Reason.STORAGE, f"This device cannot store messages: {ending.cause}")
    if isinstance(ending, Unreachable):
        sentence = f"The doctor cannot be reached at {at.address}: {ending.cause}. Is it running, is the address right?"
        return Verdict(Reason.UNREACHABLE, sentence)
    return _cut(at)


def _judge_alert(alert: Alerted, at: Situation) -> Verdict:
    if alert.authentic and alert.code in _AUTHENTIC:
        reason, sentence = _AUTHENTIC[alert.code]
        return Verdict(reason, sentence.format(at=at))
    if alert.code is AlertCode.CLOCK:
        # By the doctor's window, which is not told; this device's own may be wider.
        return _clocks_differ(alert.peer_clock or None, at, "for the doctor")
    if alert.code is AlertCode.REFUSED:
        return _refused(alert.authentic, at)
    reason, sentence = _HINTS.get(alert.code, _HINTS[AlertCode.MALFORMED])
    return Verdict(reason, sentence.format(at=at))


_AUTHENTIC = {
    AlertCode.REVOKED: (
        Reason.REVOKED,
        "The doctor has revoked {at.patient_id}: this identity is never accepted again. "
        "Ask for an invitation with a new id.",
    ),
    AlertCode.INVITATION_EXPIRED: (
        Reason.INVITATION_EXPIRED,
        "The invitation has expired. Ask the doctor for a new one.",
    ),
    AlertCode.INVITATION_USED: (
        Reason.INVITATION_USED,
        "The invitation has been used already. Ask the doctor for a new one, and tell it if that was not you.",
    ),
    AlertCode.BUSY: (
        Reason.BUSY,
        "The doctor at {at.address} is busy, or turns {at.patient_id} away for a minute because its sessions replaced one "
        "another too often. It will be asked again. Does a second copy of this device run somewhere?",
    ),
}
_HINTS = {
    AlertCode.UNSUPPORTED: (
        Reason.SUITE,
        "The doctor seems not to allow the suite {at.suite}. "
        "Set `suite` (TELEMED_PATIENT_SUITE) to one that it allows, or let it allow this one.",
    ),
    AlertCode.BUSY: (Reason.BUSY, "The doctor at {at.address} seems to be busy."),
    AlertCode.MALFORMED: (
        Reason.PROTOCOL,
        "The doctor at {at.address} seems not to understand this device. Do both run the same release?",
    ),
}
_DISCONNECTS = {
    DisconnectReason.CLOSING: (Reason.CLOSING, "The doctor is shutting down; it will be asked again."),
    DisconnectReason.REPLACED: (
        Reason.REPLACED,
        "Another session with the identity {at.patient_id} has taken this one's place. "
        "Does a second copy of this device run somewhere?",
    ),
    DisconnectReason.REVOKED: _AUTHENTIC[AlertCode.REVOKED],
    DisconnectReason.RETIRED: (
        Reason.RETIRED,
        "The doctor has retired {at.patient_id}. Start this device again if it is to come back.",
    ),
    DisconnectReason.LAGGING: (
        Reason.LAGGING,
        "This device read too slowly; it catches up with a new session.",
    ),
}
_WRONG_DOCTOR = frozenset(
    {
        Check.DOCTOR_PINNED,
        Check.PREKEY_SIGNATURE,
        Check.RESPONSE_SIGNATURE,
        Check.ROTATION_DOCTOR,
        Check.ROTATION_HIGHER,
        Check.ROTATION_PINNED,
        Check.ROTATION_SIGNED,
    }
)


def _judge_disconnect(reason: DisconnectReason, at: Situation) -> Verdict:
    code, sentence = _DISCONNECTS[reason]
    return Verdict(code, sentence.format(at=at))


def _cut(at: Situation) -> Verdict:
    return Verdict(Reason.CUT, f"The connection to the doctor at {at.address} was cut.")


def _judge_failure(failed: Failed, at: Situation) -> Verdict:
    if failed.check is Check.STREAM_COMPLETE:
        return _cut(at)
    if failed.check in _WRONG_DOCTOR:
        sentence = (
            f"Whoever answers at {at.address} is not the doctor {at.doctor_id!r} whose key this device pinned. "
            "Check the address; if the doctor changed its keys while this device was away, enrol again with a new invitation."
        )
        return Verdict(Reason.WRONG_DOCTOR, sentence)
    if failed.check in (Check.PREKEY_FRESH, Check.RESPONSE_CLOCK):
        return _clocks_differ(_doctor_clock(failed), at, f"at most {at.clock_window_s:g} s here")
    if failed.check is Check.HANDSHAKE_DEADLINE:
        sentence = f"The doctor at {at.address} does not answer in time."
        return Verdict(Reason.UNREACHABLE, sentence)
    sentence = f"What came from {at.address} breaks the protocol ({failed.check.number}). Is a doctor there, of the same release?"
    return Verdict(Reason.PROTOCOL, sentence)


def _refused(authentic: bool, at: Situation) -> Verdict:
    seems = "refuses" if authentic else "seems to refuse"
    if at.enrolling:
        sentence = (
            f"The doctor {seems} the invitation of {at.patient_id}: it may be used, withdrawn or out of date. "
            "Ask for a new one."
        )
        return Verdict(Reason.INVITATION_REFUSED, sentence)
    sentence = (
        f"The doctor {seems} {at.patient_id}: it may not know this device's key (any more). "
        "If that lasts, enrol again with a new invitation."
    )
    return Verdict(Reason.NOT_ENROLLED, sentence)


def _clocks_differ(doctor_clock: int | None, at: Situation, limit: str) -> Verdict:
    doctors = (
        f"the doctor's {moment(doctor_clock)}" if doctor_clock is not None else "the doctor's is not known"
    )
    sentence = (
        f"The clocks are too far apart ({limit}): this device's shows {moment(at.now)}, {doctors}. "
        "Set the wrong one."
    )
    return Verdict(Reason.CLOCK, sentence)


def _doctor_clock(failed: Failed) -> int | None:
    """The doctor's signed time. A prekey's is that of its end, VALID_FOR after it was made."""
    if failed.clocks is None:
        return None
    return failed.clocks[0] - (VALID_FOR if failed.check is Check.PREKEY_FRESH else 0)


_NOT_ADMITTED = frozenset({AlertCode.INVITATION_EXPIRED, AlertCode.INVITATION_USED, AlertCode.REVOKED})
"""Codes of checks that are only ever applied before the admission or by it. BUSY, CLOCK and MALFORMED may be sent while the
admission is still under way, and REFUSED (V-090) behind it."""


def refused_for_certain(ending: Ending) -> bool:
    """Whether the doctor has said, and nobody else can have, that it does not admit this device."""
    return isinstance(ending, Alerted) and ending.authentic and ending.code in _NOT_ADMITTED
