"""What the doctor answers to orders and questions: the bodies of the HTTP API's answers, used by the console and the CLI as well."""

from __future__ import annotations

import msgspec

from doctor.thresholds import Thresholds

AUDIT_SHOWN = 1000  # entries of the audit log in one answer
BACKUP_DIGEST = "Backup-SHA256"
BACKUP_ENTRY = "Backup-Entry"
"""Headers of a backup: the SHA-256 of its bytes in hexadecimal digits, and the last audit entry that is in it."""


class Answer(msgspec.Struct, frozen=True):
    """Base of all answers."""


class Problem(Answer, frozen=True):
    """An order that was not carried out. `error` says why and what to do, for people."""

    error: str
    code: str


class InvitationAnswer(Answer, frozen=True):
    """`invitation` is the string to hand over; it is a secret. `expires` in milliseconds since the Unix epoch, 0: never."""

    invitation: str
    patient: str | None
    groups: list[str]
    uses: int
    expires: int


class BroadcastAnswer(Answer, frozen=True):
    """The message is on the disk; ask for its receipts by `id`."""

    id: str
    group: str
    number: int
    recipients: int


class MessageAnswer(Answer, frozen=True):
    """The private message is on the disk; ask for its receipt by `id`."""

    id: str
    patient: str
    number: int


class ProbeAnswer(Answer, frozen=True):
    """The device port answers as this doctor: what `telemed-doctor probe --json` prints."""

    doctor: str
    port: int


class ReceiptAnswer(Answer, frozen=True):
    """One recipient: queued, sent, delivered, expired, revoked or retired."""

    patient: str
    state: str


class ReportAnswer(Answer, frozen=True):
    """Something that a patient reported: `kind` is vitals (`body` is JSON) or reply (text); times in milliseconds.

    `understood`: false for vitals that are none. `shown`: the report for people.
    """

    id: str
    kind: str
    created: int
    received: int
    body: str
    understood: bool = True
    shown: str = ""


class ThresholdsAnswer(Answer, frozen=True):
    """Between which values a patient's vitals raise no alert; those at the bounds raise none."""

    patient: str
    bounds: Thresholds


class AlertAnswer(Answer, frozen=True):
    """A clinical alert: a measure below or above the `limit` in so many reports, and the `worst` value among them.

    Times in milliseconds since the Unix epoch: `raised` and `latest` when its first and latest report came, `ended` when one was within
    the bounds again, null where none was yet; `acknowledged` when somebody had seen it, and who.
    """

    id: int
    patient: str
    measure: str
    side: str
    limit: float
    worst: float
    unit: str
    reports: int
    raised: int
    latest: int
    ended: int | None
    acknowledged: int | None
    acknowledged_by: str | None


class ForgottenAnswer(Answer, frozen=True):
    """So many reports of a patient were erased."""

    patient: str
    reports: int


class PatientAnswer(Answer, frozen=True):
    """One patient. `state`: established, connecting, away, retired or revoked; times in milliseconds since the epoch.

    `trouble`: the latest cause, with its time, for which something could not be delivered, since the doctor's start.
    `skew_s`: how far the clock of a connected patient was ahead of ours, in seconds, when it connected.
    """

    patient: str
    state: str
    fingerprint: str
    groups: list[str]
    epochs: dict[str, int]
    suite: str | None
    address: str | None
    enrolled_at: int
    last_seen: int
    trouble: str | None
    skew_s: float | None = None


class DepartureAnswer(Answer, frozen=True):
    """A patient that was revoked or retired, and the groups whose epoch began anew for it.

    `excluded_in_ms`: from the order's start until whatever is accepted goes out under keys that the patient never held; null
    where an answer from before the doctor's last start is repeated.
    """

    patient: str
    standing: str
    groups: list[str]
    excluded_in_ms: int | None = None


class GroupAnswer(Answer, frozen=True):
    """A group, its current epoch and its members."""

    name: str
    epoch: int
    members: list[str]


class MemberAnswer(Answer, frozen=True):
    """A membership that began after, or ended with, this number."""

    group: str
    patient: str
    number: int


class AuditEntryAnswer(Answer, frozen=True):
    """One entry of the audit log; `time` in milliseconds since the Unix epoch."""

    sequence: int
    time: int
    actor: str
    action: str
    subject: str
    detail: str


class AuditEntriesAnswer(Answer, frozen=True):
    """Entries of the audit log, newest first. `older`: ask again for those before this one; null: the log begins here.

    One question looks at a bounded part of the log, so `entries` may be few, or none, where `older` goes on.
    """

    entries: list[AuditEntryAnswer]
    older: int | None


class AuditAnswer(Answer, frozen=True):
    """Whether the chain and its signed heads verify; else the first entry that does not. `events`: confirmed restores."""

    valid: bool
    entries: int
    heads: int
    first_bad: int | None
    reason: str | None
    events: list[str]


class GapAnswer(Answer, frozen=True):
    """A stream goes on above `floor`; what was issued in it after `after`, in the time that is lost, is not known any more."""

    stream: str
    after: int
    floor: int


class RemovalAnswer(Answer, frozen=True):
    """A patient that was removed from a group."""

    group: str
    patient: str


class RestoreAnswer(Answer, frozen=True):
    """A restored database and what it lacks. Times in milliseconds since the Unix epoch.

    `base` is the last audit entry that it shares with the former log, made at `database_from`; `newest` the newest known one.
    `revoked` were revoked since, and are; `removed` were removed from a group since, and are out of it; `enrolled` were enrolled since, are unknown now and have to be invited anew.
    `gaps` is filled when it is confirmed.
    """

    confirmed: bool
    cause: str
    found: int
    database_from: int
    base: int
    newest: int
    revoked: list[str]
    removed: list[RemovalAnswer]
    enrolled: list[str]
    voided: int
    gaps: list[GapAnswer]


class BackupAnswer(Answer, frozen=True):
    """A backup that was written. `entry`: the last audit entry in it; `sha256` in hexadecimal digits."""

    file: str
    size: int
    sha256: str
    entry: int


class RestoredAnswer(Answer, frozen=True):
    """A backup that was put in place. `aside`: where the former database is now, null where there was none.

    `entry`: the last audit entry of the backup, made at `time`, in milliseconds since the Unix epoch.
    """

    file: str
    aside: str | None
    entry: int
    time: int


class ClockAnswer(Answer, frozen=True):
    """A clock that is behind. `now`: what it shows, `newest`: the time of the newest message's number, in milliseconds since the
    Unix epoch; `behind_s`: by how many seconds it is behind that, or the last audit entry."""

    now: int
    newest: int
    behind_s: float


class RotationAnswer(Answer, frozen=True):
    """The last rotation of the doctor's keys. `sequence` 0: there was none. `time`: when it began, in milliseconds since the epoch.

    `missing`: who has not connected under the new keys; the rotation is complete when nobody is. `voided`: for whom the
    invitations were that it voided, told once. `keys`: the fingerprints of the present ones, by algorithm.
    """

    sequence: int
    time: int | None
    complete: bool
    missing: list[str]
    voided: list[str]
    keys: dict[str, str]


class OperatorAnswer(Answer, frozen=True):
    """An operator of the console; times in milliseconds since the Unix epoch, `changed` that of its password."""

    name: str
    created: int
    changed: int


class PasswordAnswer(Answer, frozen=True):
    """An operator's new password: it is told this once and kept nowhere."""

    name: str
    password: str


class ConsoleAnswer(Answer, frozen=True):
    """Where the console is. `certificate`: the SHA-256 of its certificate, null where it speaks plain HTTP.

    `first_password`: of the operator `admin`, until somebody has logged in with it; else null.
    """

    address: str
    certificate: str | None
    first_password: str | None


class HealthAnswer(Answer, frozen=True):
    """`ok`, or why not."""

    status: str
