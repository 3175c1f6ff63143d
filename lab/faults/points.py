"""The points at which a program under test ends with kill -9: a table, and what is drawn from it.

Law: a point names a function of the shipped programs, which know nothing of it. A test resolves every point, so that a refactoring
cannot silently leave one behind; that a point was really reached, its program says itself, with its last words.
"""

from __future__ import annotations

import random as pseudo
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique


@unique
class When(Enum):
    """On which side of the call."""

    BEFORE = "before"
    AFTER = "after"


@unique
class Errand(Enum):
    """What has to be going on for a program to come by a point."""

    MESSAGES = "messages"
    ABSENCE = "absence"  # somebody comes back and is caught up
    JOIN = "join"
    REVOKE = "revoke"
    GROUP = "group"
    PRIVATE = "private"
    REPORT = "report"
    ROTATE = "rotate"
    START = "start"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class Failpoint:
    """One place in a program.

    Args:
        name: `area.place`.
        target: the function, `module:Class.method` or `module:function`.
        when: before or behind it.
        errand: what makes the program come by.
        behind: only calls count before which, since the last that counted, this function was begun: `COMMIT` of a transaction in
            which something particular was done.
        linger: seconds between the call and the end, in which the program's other threads go on: whoever tells the outside
            too early what is not on the disk yet, does it then.
        most: how often, at least, one such errand makes the program come by: any of these calls may be the fatal one.
        settings: module constants that are set for this run, so that a timer's work comes soon.
    """

    name: str
    target: str
    when: When
    errand: Errand
    behind: str | None = None
    most: int = 1
    linger: float = 0.0
    settings: tuple[tuple[str, float], ...] = ()


BEFORE, AFTER = When
COMMIT = "shared.storage.group_commit:commit_batch"
COMMITTING = "shared.storage.sqlite:open_database"  # not its call, but each COMMIT on what it returns
_ACCEPT = "doctor.outbox:Outbox.accept"
_JOURNAL = "doctor.journal:Journal.complete"
_ROTATION = "doctor.keyring:rotate"
LINGER = 0.2
_SOON = (("doctor.witness:INTERVAL", 0.2),)
_M, _A, _J, _R, _G, _P, _REPORT, _ROTATE, _START, _TIME = Errand

DOCTOR = (
    # A message is accepted
    Failpoint("accept.asked", "doctor.messaging:Messaging.broadcast", BEFORE, _M, most=20),
    Failpoint("accept.in-transaction", _ACCEPT, BEFORE, _M, most=20),
    Failpoint("accept.signed", "shared.protocol.envelopes:sign", AFTER, _M, most=20),
    Failpoint("accept.stored", "doctor.outbox:Outbox._store", AFTER, _M, most=20),
    Failpoint("accept.audited", _ACCEPT, AFTER, _M, most=20),
    Failpoint(
        "accept.answer-stored", "doctor.idempotency:OnceOnly.carry_out", AFTER, _M, behind=_ACCEPT, most=20
    ),
    Failpoint("accept.committing", COMMITTING, BEFORE, _M, behind=_ACCEPT, most=5, linger=LINGER),
    Failpoint("accept.committed", COMMIT, AFTER, _M, behind=_ACCEPT, most=20),
    Failpoint("accept.answer", "doctor.messaging:Messaging.broadcast", AFTER, _M, most=20),
    # A private one is
    Failpoint("private.asked", "doctor.messaging:Messaging.send", BEFORE, _P, most=2),
    Failpoint("private.answer", "doctor.messaging:Messaging.send", AFTER, _P, most=2),
    # It goes out
    Failpoint("send.publish", "doctor.fanout:Fanout.publish", BEFORE, _M, most=15),
    Failpoint("send.sealed", "shared.protocol.epochs:Epoch.seal", AFTER, _M, most=15),
    Failpoint("send.published", "doctor.fanout:Fanout.publish", AFTER, _M, most=15),
    Failpoint("send.write-pass", "doctor.log_writer:LogWriter.write_pass", BEFORE, _M, most=15),
    Failpoint("send.slice", "doctor.log_writer:LogWriter._write_to_abreast", BEFORE, _M, most=15),
    Failpoint("send.half-a-slice", "doctor.sessions:Attachment.note_shared", AFTER, _M, most=7),
    Failpoint("send.slice-written", "doctor.log_writer:LogWriter._write_to_abreast", AFTER, _M, most=15),
    # It is caught up
    Failpoint("catch-up.loaded", "doctor.outbox:Outbox.load", AFTER, _A, most=8),
    Failpoint("catch-up.half-a-batch", "doctor.sessions:Attachment.note_written", AFTER, _A, most=8),
    Failpoint("catch-up.attached", "doctor.log_writer:LogWriter.attach", AFTER, _A, most=8),
    # It is receipted
    Failpoint("receipt.taken", "doctor.receipts:Receipts.record", BEFORE, _M, most=15),
    Failpoint("receipt.in-transaction", "doctor.receipts:commit", AFTER, _M, most=15),
    Failpoint(
        "receipt.committing", COMMITTING, BEFORE, _M, behind="doctor.receipts:commit", most=5, linger=LINGER
    ),
    Failpoint("receipt.committed", COMMIT, AFTER, _M, behind="doctor.receipts:commit", most=15),
    Failpoint("receipt.told", "doctor.receipts:Receipts._written", AFTER, _M, most=15),
    # An epoch begins
    Failpoint("epoch.due", "doctor.fanout:Fanout.next_epoch", BEFORE, _G, most=2),
    Failpoint("epoch.begun", "doctor.fanout:Fanout.next_epoch", AFTER, _G, most=2),
    Failpoint("epoch.group-key", "doctor.log_writer:LogWriter._send_group_key", AFTER, _G, most=30),
    Failpoint("epoch.in-transaction", "doctor.gateway:_keep_epoch", BEFORE, _G, most=2),
    Failpoint("epoch.kept", COMMIT, AFTER, _G, behind="doctor.gateway:_keep_epoch", most=2),
    # A patient joins
    Failpoint("join.verified", "doctor.visits:Visit._ask_admission", BEFORE, _J, most=3),
    Failpoint("join.in-transaction", "doctor.enrolment:admit", AFTER, _J, most=10),
    Failpoint(
        "join.committing", COMMITTING, BEFORE, _J, behind="doctor.enrolment:admit", most=5, linger=LINGER
    ),
    Failpoint("join.committed", COMMIT, AFTER, _J, behind="doctor.enrolment:admit", most=10),
    Failpoint("join.journal", _JOURNAL, BEFORE, _J, behind="doctor.enrolment:admit", most=10),
    Failpoint("join.journalled", _JOURNAL, AFTER, _J, behind="doctor.enrolment:admit", most=10),
    Failpoint("join.admitted", "doctor.visits:Visit._admitted", AFTER, _J, most=10),
    Failpoint("join.invited", "doctor.enrolment:invite", AFTER, _J),
    # One is revoked
    Failpoint("revoke.in-transaction", "doctor.roster:depart", AFTER, _R),
    Failpoint("revoke.committing", COMMITTING, BEFORE, _R, behind="doctor.roster:depart", linger=LINGER),
    Failpoint("revoke.committed", COMMIT, AFTER, _R, behind="doctor.roster:depart"),
    Failpoint("revoke.cut", "doctor.departures:Departures._departed", AFTER, _R),
    Failpoint("revoke.journal", _JOURNAL, BEFORE, _R, behind="doctor.roster:depart"),
    Failpoint("revoke.journalled", _JOURNAL, AFTER, _R, behind="doctor.roster:depart"),
    # A report is kept
    Failpoint("report.in-transaction", "doctor.reports:Reports.store", AFTER, _REPORT, most=3),
    Failpoint(
        "report.committing", COMMITTING, BEFORE, _REPORT, behind="doctor.reports:Reports.store", linger=LINGER
    ),
    Failpoint("report.committed", COMMIT, AFTER, _REPORT, behind="doctor.reports:Reports.store", most=3),
    Failpoint(
        "report.receipted",
        "shared.protocol.doctor_connection:DoctorConnection.acknowledge_reports",
        AFTER,
        _REPORT,
        most=3,
    ),
    # The doctor's keys are rotated
    Failpoint("rotate.deciding", "doctor.keyring:_commit", BEFORE, _ROTATE),
    Failpoint("rotate.decided", "doctor.keyring:_commit", AFTER, _ROTATE),
    Failpoint("rotate.former-erased", "doctor.keyring:erase_former", AFTER, _ROTATE, behind=_ROTATION),
    Failpoint("rotate.in-transaction", "doctor.rotations:note", AFTER, _ROTATE, behind=_ROTATION),
    Failpoint("rotate.committing", COMMITTING, BEFORE, _ROTATE, behind=_ROTATION, linger=LINGER),
    Failpoint("rotate.committed", COMMIT, AFTER, _ROTATE, behind=_ROTATION),
    Failpoint("rotate.answer", "doctor.rotating:Rotating.rotate_keys", AFTER, _ROTATE),
    Failpoint("rotate.confirmed", COMMIT, AFTER, _ROTATE, behind="doctor.rotations:settle", most=3),
    # The audit's signed head
    Failpoint("audit.entry", "doctor.audit:append", AFTER, _M, most=20),
    Failpoint("audit.head", "doctor.heads:append_line", BEFORE, _TIME, settings=_SOON),
    Failpoint("audit.head-written", "doctor.heads:export", AFTER, _TIME, settings=_SOON),
    # It starts
    Failpoint("start.journal", "doctor.journal:Journal.compare", BEFORE, _START),
    Failpoint("start.loaded", "doctor.fanout:Fanout.load", AFTER, _START),
)

_INSERT = "patient.inbox:_insert"

PATIENT = (
    # It enrols
    Failpoint("identity.save", "patient.identity:DeviceHome.save", BEFORE, _J, most=2),
    Failpoint("identity.saved", "patient.identity:DeviceHome.save", AFTER, _J, most=2),
    # It comes back
    Failpoint("session.verified", "shared.protocol.patient_handshake:answer_response", AFTER, _A),
    Failpoint("session.established", "patient.device:Device._established", BEFORE, _A),
    Failpoint("epoch.held", "shared.protocol.epochs:HeldEpochs.hold", AFTER, _A),
    # It applies and acknowledges
    Failpoint("inbox.in-transaction", _INSERT, AFTER, _M, most=5),
    Failpoint("inbox.committing", COMMITTING, BEFORE, _M, behind=_INSERT, most=5, linger=LINGER),
    Failpoint("inbox.committed", COMMIT, AFTER, _M, behind=_INSERT, most=5),
    Failpoint("inbox.applied", "patient.device:Device._applied", BEFORE, _M, most=5),
    Failpoint("inbox.told", "patient.device:Device._applied", AFTER, _M, most=5),
    Failpoint("receipt.send", "patient.receipts:Receipting.send", BEFORE, _M, most=5),
    Failpoint("receipt.sent", "patient.receipts:Receipting.send", AFTER, _M, most=5),
    # It reports
    Failpoint("report.sent", "patient.link:Link.report", AFTER, _REPORT, most=2),
    Failpoint("report.receipted", "patient.reporting:Reporting.receipted", BEFORE, _REPORT, most=2),
    Failpoint("report.noted", COMMIT, AFTER, _REPORT, behind="patient.outbox:Outbox.note_kept"),
)


def schedule(points: Sequence[Failpoint], kills: int, dice: pseudo.Random) -> list[tuple[Failpoint, int]]:
    """Which point at which of its calls: every point comes before any comes again."""
    drawn: list[tuple[Failpoint, int]] = []
    while len(drawn) < kills:
        drawn += [(point, dice.randint(1, point.most)) for point in dice.sample(points, len(points))]
    return drawn[:kills]
