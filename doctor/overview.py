"""What the console asks beyond the API: one method a question. Nothing here changes anything.

Law: every answer has a bound, however many patients and messages there are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from doctor import groups, receipts, roster, rotations, streams
from doctor.answers import PatientAnswer, ReportAnswer
from doctor.feed import Feed
from doctor.questions import Questions, live_state
from doctor.receipts import Delivery
from doctor.reports import Times
from shared.errors import UserError
from shared.message_ids import message_id, parse_message_id
from shared.net.stream import clock
from shared.protocol.doctor_handshake import Standing
from shared.wire.messages import Stream, TargetKind

MESSAGES = 20
REPLIES = 50
INVITATIONS = 100
MISSING = 20  # patients that a rotation waits for


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One message. Times in milliseconds since the Unix epoch. `body` None: it was erased.

    `private`: to one patient alone, whose id is `to`; else that is a group. `state`: for the one patient that was asked about.
    """

    message_id: str
    to: str
    private: bool
    created: int
    expires: int
    body: str | None
    recipients: int = 0
    delivered: int = 0
    state: str = ""


@dataclass(frozen=True, slots=True)
class Readers:
    """Who would be able to read a message that is accepted now: names in order."""

    online: tuple[str, ...]
    away: tuple[str, ...]

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.online) + len(self.away)


@dataclass(frozen=True, slots=True)
class InvitationRow:
    """An invitation that can still be used; `patient` None: a fleet's. `expires` in milliseconds, 0: never."""

    patient: str | None
    groups: tuple[str, ...]
    uses_left: int
    expires: int
    created: int


@dataclass(frozen=True, slots=True)
class PatientsPage:
    """A part of the patients that were asked for, from the place `start` on. `total`: of these; `counts`: by state, of all."""

    rows: list[PatientAnswer]
    counts: Counter[str]
    total: int
    start: int

    @property
    def end(self) -> int:
        """Behind the last row."""
        return self.start + len(self.rows)


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """The last rotation of the doctor's keys. `began` in milliseconds; `missing`: how many have not confirmed them, `named`: the first."""

    sequence: int
    began: int
    missing: int
    named: list[str]


class Overview(Questions):
    """Questions whose answers are pages, not JSON."""

    @property
    def feed(self) -> Feed:
        """Tells what has changed."""
        return self._office.feed

    @property
    def message_hours(self) -> float:
        """How long a message may be shown where nothing else is said."""
        return self._office.settings.message_hours

    @property
    def invitation_hours(self) -> float:
        """How long an invitation is good where nothing else is said."""
        return self._office.settings.invitation_hours

    @property
    def restored(self) -> bool:
        """Whether a restored database waits to be confirmed."""
        return self._office.restoration.pending is not None

    def rotation_progress(self) -> RotationProgress | None:
        """How far the last rotation of the doctor's keys is; None: there was none."""
        if not self._office.keys.rotations:
            return None
        last = self._office.keys.rotations[-1]
        return RotationProgress(last.sequence, last.time, *rotations.count_unconfirmed(self.reader, MISSING))

    def patient(self, patient_id: str) -> PatientAnswer | None:
        """One patient, with what is known right now; None: there is none."""
        found = roster.find_patient(self.reader, patient_id)
        return None if found is None else self._live(found)

    def find_patients(self, state: str, letters: str, start: int, limit: int) -> PatientsPage:
        """The patients in this state, "" for any, with these letters in their id or in a group of theirs; by id, from a place on.

        Who is there and how is known in memory; the disk is asked for the rows of one page alone.
        """
        sessions = self._office.fanout.sessions
        inside: set[str] = set()
        for group in self._office.fanout.groups.values():
            if letters and letters in group.name:
                inside |= group.members
        counts: Counter[str] = Counter()
        matching = []
        for member in self._office.roster.members():
            found = live_state(member.standing, sessions.get(member.patient_id))
            counts[found] += 1
            name = member.patient_id
            if (not state or found == state) and (letters in name or name in inside):
                matching.append(name)
        matching.sort()
        start = max(0, min(start, (len(matching) - 1) // limit * limit))
        return PatientsPage(self._patients(matching[start : start + limit]), counts, len(matching), start)

    def group_members(self, group: str, limit: int) -> tuple[list[PatientAnswer], int] | None:
        """The first so many members of a group, and how many there are; None: there is no such group."""
        found = self._office.fanout.groups.get(group)
        if found is None:
            return None
        return self._patients(sorted(found.members)[:limit]), len(found.members)

    def _patients(self, names: list[str]) -> list[PatientAnswer]:
        return [found for name in names if (found := self.patient(name)) is not None]

    def outside(self, group: str, limit: int) -> list[str]:
        """The first so many active patients that are not in a group, by id."""
        inside = self._office.fanout.groups[group].members
        active = (
            each.patient_id for each in self._office.roster.members() if each.standing is Standing.ACTIVE
        )
        return sorted(name for name in active if name not in inside)[:limit]

    def epoch_of(self, group: str) -> int:
        """The epoch that a group is in now."""
        return self._office.fanout.groups[group].epoch_number

    def group_names(self) -> list[str]:
        """All groups, `everyone` first."""
        names = sorted(self._office.fanout.groups)
        return sorted(names, key=lambda name: name != groups.EVERYONE)

    def readers(self, stream: Stream) -> Readers:
        """Who could read a message in this stream.

        Raises:
            UserError: there is no such group, or the patient takes no messages now.
        """
        if stream.kind is TargetKind.PATIENT:
            roster.require_addressee(self.reader, stream.name)
            names = [stream.name]
        else:
            groups.require(self.reader, stream.name)
            names = sorted(self._office.fanout.groups[stream.name].members)
        sessions = self._office.fanout.sessions
        online = tuple(name for name in names if name in sessions)
        return Readers(online, tuple(name for name in names if name not in sessions))

    def invitations(self) -> list[InvitationRow]:
        """The newest invitations that can still be used."""
        rows = self.reader.execute(
            "SELECT patient_id, groups, uses_left, expires, created FROM invitations"
            " WHERE secret IS NOT NULL AND uses_left > 0 AND (expires = 0 OR expires > ?)"
            " ORDER BY created DESC LIMIT ?",
            (clock().wall, INVITATIONS),
        )
        return [InvitationRow(row[0], tuple(row[1].split()), *row[2:]) for row in rows]

    def replies(self, patient_id: str) -> list[ReportAnswer]:
        """The newest texts of a patient, newest first, however many vitals came since.

        Raises:
            StorageError: a body does not open.
        """
        return self.texts(patient_id, REPLIES)

    def messages(self) -> list[MessageRow]:
        """The newest messages to anybody, newest first, as far as their bodies are kept."""
        rows = self.reader.execute(
            "SELECT stream, number FROM messages WHERE body IS NOT NULL ORDER BY created DESC LIMIT ?",
            (MESSAGES,),
        ).fetchall()
        return [self._message(streams.parse(stream), number) for stream, number in rows]

    def message(self, name: str) -> MessageRow | None:
        """One message by its id; None: there is none."""
        try:
            stream, number = parse_message_id(name)
        except UserError:
            return None
        known = self.reader.execute(
            "SELECT 1 FROM messages WHERE stream = ? AND number = ?", (str(stream), number)
        ).fetchone()
        return self._message(stream, number) if known else None

    def messages_of(self, patient_id: str) -> list[MessageRow]:
        """The newest messages that were meant for a patient, newest first, each with what became of it there."""
        found = self._messages_within(patient_id, Times(), MESSAGES)
        return [self._message(stream, number, patient_id) for _, stream, number in found]

    def _messages_within(self, patient_id: str, times: Times, limit: int) -> list[tuple[int, Stream, int]]:
        """Time, stream and number of the newest messages of that time that were meant for a patient, newest first."""
        found: list[tuple[int, Stream, int]] = []
        for membership in streams.memberships_of(self.reader, patient_id):
            # Not `until or …`: 0 is the end of a membership that was over before the stream's first message.
            until = 2**62 if membership.until is None else membership.until
            rows = self.reader.execute(
                "SELECT created, number FROM messages WHERE stream = ? AND number > ? AND number <= ?"
                " AND created >= ? AND created < ? ORDER BY number DESC LIMIT ?",
                (str(membership.stream), membership.start, until, times.start, times.end, limit),
            )
            found += [(created, membership.stream, number) for created, number in rows]
        found.sort(key=lambda each: (each[0], each[2]), reverse=True)
        return found[:limit]

    def _message(self, stream: Stream, number: int, patient_id: str | None = None) -> MessageRow:
        created, expires = self.reader.execute(
            "SELECT created, expires FROM messages WHERE stream = ? AND number = ?", (str(stream), number)
        ).fetchone()
        body = self._office.outbox.body(self.reader, stream, number)
        state, recipients, delivered = "", 0, 0
        if patient_id is not None:
            state = self._state(stream, number, patient_id)
        else:
            recipients, delivered = self._progress(stream, number)
        return MessageRow(
            message_id(stream, number),
            stream.name,
            stream.kind is TargetKind.PATIENT,
            created,
            expires,
            None if body is None else body.decode(errors="replace"),
            recipients,
            delivered,
            state,
        )

    def _progress(self, stream: Stream, number: int) -> tuple[int, int]:
        """For how many a message is meant, and how many have confirmed that they could show it."""
        recipients, applied = self.reader.execute(
            "SELECT count(*), coalesce(sum(delivered >= ?2), 0) FROM memberships"
            " WHERE stream = ?1 AND start < ?2 AND (until IS NULL OR until >= ?2)",
            (str(stream), number),
        ).fetchone()
        (late,) = self.reader.execute(
            "SELECT count(*) FROM expired WHERE stream = ? AND number = ?", (str(stream), number)
        ).fetchone()
        return recipients, applied - late

    def _state(self, stream: Stream, number: int, patient_id: str) -> str:
        session = self._office.fanout.sessions.get(patient_id)
        attachment = session.attachments.get(stream) if session else None
        written = {patient_id: attachment.written} if attachment else {}
        rows = receipts.list_receipts(self.reader, stream, number, clock().wall, written, patient_id)
        return next((row.state.value for row in rows), Delivery.EXPIRED.value)
