"""Why somebody was refused, in words for people who have never read the protocol, and what they can do about it.

Law: the one place of these words. Each stands under the name by which the doctor counts and records it: a check's number, the door's
word, or a device's alert. What is not here is told in the specification's words, never passed over.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode

LOGIN = "login"  # as the ledger counts wrong passwords

_WATCH = "Nothing, as long as it is rare. If it goes on, find out what stands at that address."
_NOTHING = "Nothing: the device comes again by itself."
_PROGRAM = "Usually a program that tries every door. If it is one of your devices, its software is too old or too new."
_CLOCK = "Set the clock of that device, best by a time server; then it gets in by itself."
_CONFIRM = "Look at the roster and run `telemed-doctor confirm-restore` where the doctor runs."
_INVITE = "Make a new invitation and hand it over yourself."
_ATTACK = "It got in nowhere. If it goes on, somebody is trying: find out what stands at that address."
_KEY = (
    "If the device was set up anew or its memory was lost, invite it under a new name and revoke the old one."
    " If not, somebody is trying: it got in nowhere."
)
_COPIED = "Find out whether the device was copied or its memory put into a second one. If you cannot, revoke the patient and enrol a new device."
_REVOKE = "Its key may be in other hands: revoke the patient and enrol a new device."
_FETCH = "It gets in no more. Fetch the device, or find out who has it."


@dataclass(frozen=True, slots=True)
class Reason:
    """One of them.

    Attributes:
        code: as the doctor counts it.
        means: one sentence; what "it" is, is whoever came.
        advice: what to do.
    """

    code: str
    means: str
    advice: str


_CHECKS = {
    Check.FRAME_VERSION: ("It does not speak this system's language.", _PROGRAM),
    Check.FRAME_OPCODE: ("It sent a kind of message that does not exist.", _PROGRAM),
    Check.FRAME_LENGTH: ("It announced a message longer than any may be.", _PROGRAM),
    Check.PAYLOAD_CANONICAL: ("It sent a message that is not written as it has to be.", _PROGRAM),
    Check.OPCODE_IN_STATE: ("It sent a message out of turn.", _PROGRAM),
    Check.STREAM_COMPLETE: ("The connection broke in the middle of a message: a bad network.", _NOTHING),
    Check.INPUT_BOUNDED: ("It went on talking before it had been let in.", _PROGRAM),
    Check.HANDSHAKE_DEADLINE: (
        "It took too long to prove who it is: a bad network, or nobody there.",
        _NOTHING,
    ),
    Check.SUITE_ALLOWED: (
        "It asked for a kind of encryption that is not allowed here.",
        "Update the device, or allow its kind in the setting `suites`.",
    ),
    Check.DOCTOR_ADMITS: ("This doctor runs on a restored database that nobody has confirmed.", _CONFIRM),
    Check.PREKEY_HELD: ("It answered an offer that had run out meanwhile.", _NOTHING),
    Check.REQUEST_OPENS: (
        "What it sent cannot be opened: damaged on the way, or made for another doctor.",
        _WATCH,
    ),
    Check.REQUEST_DOCTOR: (
        "It was looking for another doctor.",
        "Look at the address that the device connects to.",
    ),
    Check.REQUEST_ALGORITHM: ("Its key is of another kind than the encryption that it asked for.", _ATTACK),
    Check.ENROLMENT_MAC: (
        "It did not know the secret of the invitation that it showed.",
        "If somebody is just enrolling a device, the invitation was copied badly: make a new one. If not, somebody is trying.",
    ),
    Check.ROSTER_KEY: ("It named a patient and did not hold that patient's key.", _KEY),
    Check.REQUEST_SIGNATURE: ("It named a patient, and its signature is not that patient's.", _ATTACK),
    Check.NOT_REVOKED: ("It was revoked, and tried to come back.", _FETCH),
    Check.REQUEST_CLOCK: ("Its clock is off by more than is allowed.", _CLOCK),
    Check.REQUEST_FRESH: ("It sent what had been sent before: a recording, played again.", _ATTACK),
    Check.INVITATION_VALID: ("Its invitation had expired.", _INVITE),
    Check.INVITATION_UNUSED: (
        "Its invitation had been used already.",
        "If you do not know by whom, look who has enrolled, and revoke who does not belong here. Then make a new invitation.",
    ),
    Check.INVITATION_ID: ("Its invitation is for somebody else.", _INVITE),
    Check.KEY_UNCLAIMED: (
        "Its key belongs to another patient already.",
        "The device is enrolled under another name: look among the patients.",
    ),
    Check.PATIENT_ELEMENT: ("It sent a key that no honest program makes.", _ATTACK),
    Check.VERIFIER_OPENS: ("It could not open what only that patient's device can open.", _ATTACK),
    Check.VERIFIER_CONFIRMS: ("It could not show that it holds the key of the new session.", _ATTACK),
    Check.VERIFIER_CLOCK: ("Its clock is off by more than is allowed.", _CLOCK),
    Check.ADMISSION: (
        "Another device was faster with the same invitation, or it was revoked at that moment.",
        "Look who has enrolled. If it is not whom you meant, revoke it, and make a new invitation.",
    ),
    Check.NOT_PAUSED: (
        "Two devices use one patient's key, and push each other out again and again.",
        _COPIED,
    ),
    Check.RECORD_OPENS: (
        "What it sent in its session cannot be opened: changed, repeated or left out on the way.",
        "Its connection was ended, and it comes again. If it goes on, somebody changes what passes on that network.",
    ),
    Check.RECEIPT_ISSUED: ("It confirmed a message that it was never sent.", _REVOKE),
}
_DOOR = {
    "unfinished": ("Too many connections from there were waiting to be let in.", _WATCH),
    "failed": ("Too many attempts from there had failed before.", _WATCH),
    "made_room": (
        "All places were taken, and it had been waiting longest at the address with most of them.",
        _WATCH,
    ),
    LOGIN: (
        "Somebody typed a name that is no operator's, or many wrong passwords, at this console.",
        "If it was none of you, find out who at that address can reach the console.",
    ),
}
_DEVICES = {
    AlertCode.CLOCK: (
        "A device found that its clock and this doctor's are too far apart.",
        "Look at both clocks: if many devices say so, it is this doctor's.",
    ),
    AlertCode.REFUSED: (
        "A device did not accept that this is the doctor it was invited by.",
        "If this doctor has new keys, enrol the device anew. If not, somebody stands between the two: look at the network.",
    ),
    AlertCode.UNSUPPORTED: (
        "A device did not know the kind of encryption.",
        "Update the device.",
    ),
}


def _all() -> dict[str, Reason]:
    found = {check.number: Reason(check.number, *said) for check, said in _CHECKS.items()}
    found |= {name: Reason(name, *said) for name, said in _DOOR.items()}
    return found | {name: Reason(name, *said) for name, said in _of_devices().items()}


def _of_devices() -> dict[str, tuple[str, str]]:
    other = "A device broke off: {}."
    return {
        of_device(code): _DEVICES.get(code, (other.format(code.name.lower().replace("_", " ")), _WATCH))
        for code in AlertCode
    }


def of_device(code: AlertCode) -> str:
    """Under which code it stands that a device ended a handshake with this alert."""
    return f"device {code.name}"


REASONS = _all()
_RULES = {check.number: check.value.text for check in Check}


def reason_of(code: str) -> Reason:
    """The words for a code; one that is not known is told as it is."""
    known = REASONS.get(code)
    if known is not None:
        return known
    rule = _RULES.get(code)
    return Reason(code, f"It broke the rule that {rule}." if rule else f"Refused: {code}.", _WATCH)
