"""Security events: entries of the audit log in plain words, who was refused, why, from where, and what to do about it.

Law: what an entry says is shown as well, so that nothing is lost where the words do not fit; nothing here changes anything.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from doctor.audit import Action
from doctor.chronicle import Entry
from doctor.console.reasons import LOGIN, REASONS, Reason, of_device, reason_of
from doctor.house import House
from shared.wire.checks import Check

_REFUSAL = re.compile(r"\A(V-[0-9]{3}) (.*?)(?: from (\S+))?\Z", re.DOTALL)
_FROM = re.compile(r"(?:\A|; )from (.+)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Told:
    """A reason, and how often."""

    reason: Reason
    count: int


@dataclass(frozen=True, slots=True)
class Incident:
    """One event.

    Attributes:
        entry: what the audit log says.
        tone: a class of the stylesheet: bad, wait or quiet.
        title: what happened.
        why: in plain words, each with what to do.
        where: addresses; "" where it has none.
        advice: what to do, where no reason says it.
    """

    entry: Entry
    tone: str
    title: str
    why: tuple[Told, ...] = ()
    where: str = ""
    advice: str = ""

    @property
    def about_patient(self) -> bool:
        """Whether the entry names a patient."""
        return self.entry.action in {action.value for action in OF_PATIENTS}


@dataclass(frozen=True, slots=True)
class _Plain:
    """What is said of an action: `title` with {who} for whom it was done to, {by} for who did it and {cause} for what had it done."""

    title: str
    tone: str = "quiet"
    advice: str = ""


_PLAIN = {
    Action.REFUSED: _Plain("{who} was refused", "bad"),
    Action.RECEIPT_IMPOSSIBLE: _Plain("{who} confirmed what it was never sent", "bad"),
    Action.REPLACED_OFTEN: _Plain("{who} came from two places at once", "bad"),
    Action.STRANGERS_REFUSED: _Plain("Strangers were refused", "wait"),
    Action.LOGIN_FAILED: _Plain(
        "A wrong password for {who}",
        "wait",
        "If it was none of you, look at the address. A good password cannot be guessed here: every try takes longer than the one before.",
    ),
    Action.ENTRIES_LOST: _Plain(
        "Some entries are missing here",
        "bad",
        "The disk refused for so long that entries could not be kept: make room on it, and look at its health.",
    ),
    Action.RESTORE_FOUND: _Plain(
        "The database is an older state",
        "bad",
        "If you have restored a backup, run `telemed-doctor confirm-restore`. If not, somebody has put an old copy in place.",
    ),
    Action.RESTORED: _Plain("A restored database was confirmed by {by}"),
    Action.CLOCK_ACCEPTED: _Plain("{by} said that the clock is right, which was ahead before"),
    Action.INVITATIONS_VOIDED: _Plain("Open invitations were made void, since {cause}"),
    Action.KEYS_ROTATED: _Plain(
        "The doctor's keys were rotated by {by}",
        "quiet",
        "Every device has to connect to learn the new ones; beside this list stands how many have not. Copy the doctor's keys again.",
    ),
    Action.ROTATION_COMPLETE: _Plain("Every patient has the doctor's new keys: rotation {who} is complete"),
    Action.REVOKED: _Plain("{who} was revoked by {by}"),
    Action.RETIRED: _Plain("{who} was retired by {by}"),
    Action.OPERATOR_ADDED: _Plain("{who} was made an operator of this console by {by}"),
    Action.OPERATOR_REMOVED: _Plain("The operator {who} was removed by {by}"),
    Action.PASSWORD_CHANGED: _Plain("The password of {who} was changed by {by}"),
}
_CAUSES = {"database": "a database was restored", "rotation": "the doctor's keys were rotated"}
SECURITY = tuple(_PLAIN)
"""What is a security event."""
DEPARTURES = (Action.REVOKED, Action.RETIRED)
OF_PATIENTS = (Action.REFUSED, Action.RECEIPT_IMPOSSIBLE, Action.REPLACED_OFTEN, *DEPARTURES)
"""Those whose entry names a patient."""
_CODES = {
    Action.REPLACED_OFTEN.value: Check.NOT_PAUSED.number,
    Action.RECEIPT_IMPOSSIBLE.value: Check.RECEIPT_ISSUED.number,
}


def tell(entry: Entry) -> Incident:
    """An entry of one of the `SECURITY` actions, in plain words."""
    plain = next(said for action, said in _PLAIN.items() if action.value == entry.action)
    names = {
        "who": entry.subject,
        "by": actor_of(entry),
        "cause": _CAUSES.get(entry.subject, entry.subject),
    }
    why, where = _why(entry)
    return Incident(entry, plain.tone, plain.title.format_map(names), why, where, plain.advice)


def actor_of(entry: Entry) -> str:
    """Who did it, for people."""
    return "the doctor itself" if entry.actor in ("gateway", "timer") else entry.actor


def _why(entry: Entry) -> tuple[tuple[Told, ...], str]:
    if entry.action == Action.STRANGERS_REFUSED.value:
        counts, _, where = entry.detail.partition("; from ")
        return _counted(counts), where
    refusal = _REFUSAL.match(entry.detail)
    if refusal is not None:
        return (Told(reason_of(refusal[1]), 1),), refusal[3] or ""
    code = _CODES.get(entry.action)
    if code is not None:
        return (Told(reason_of(code), 1),), entry.detail
    found = _FROM.search(entry.detail)
    return (), found[1] if found else ""


def _counted(text: str) -> tuple[Told, ...]:
    """As the ledger writes them: `V-001:3 failed:2`."""
    found = []
    for part in text.split():
        code, _, count = part.rpartition(":")
        if code and count.isascii() and count.isdecimal() and len(count) < 16:
            found.append(Told(reason_of(code), int(count)))
    return tuple(found)


def plain(trouble: str) -> str:
    """A patient's latest trouble; a refusal, which is kept in the specification's words, in those of this page."""
    when, refused, cause = trouble.partition(": refused: ")
    code = cause.partition(" ")[0]
    return f"{when}: refused. {reason_of(code).means}" if refused and code in REASONS else trouble


@dataclass(frozen=True, slots=True)
class Tallied:
    """How often something was since the doctor's start, and the address it came from last, "" where that is not kept."""

    reason: Reason
    count: int
    last: str


def tallied(house: House) -> list[Tallied]:
    """Everything that the doctor has counted since its start, the most frequent first."""
    tally = house.tally
    counts: Counter[str] = Counter()
    for checks in (tally.refused, tally.broken):
        counts.update({check.number: count for check, count in checks.items()})
    counts.update({why.name.lower(): count for why, count in tally.turned_away.items()})
    counts.update({of_device(code): count for code, count in tally.given_up.items()})
    counts[LOGIN] = house.ledger.refused[LOGIN]
    last: dict[str, str] = {}
    for trace in house.traces.newest_first():
        if trace.failed is not None:
            last.setdefault(trace.failed[0].number, trace.address)
        elif trace.alerted is not None:
            last.setdefault(of_device(trace.alerted), trace.address)
    return [
        Tallied(reason_of(code), count, last.get(code, "")) for code, count in counts.most_common() if count
    ]
