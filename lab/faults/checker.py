"""The checker: from one recorded history, a capture of the wire and all keys, whether the seven invariants hold.

Law: a pure function. What cannot be decided from what was recorded is no excuse: a message whose recipients are not known is a
finding, and so is a capture in which nothing could be opened although keys are there.

An act takes from `asked` to `time`. Where a message and a change of membership overlap, either order is right; where they do
not, the checker knows who was meant and holds what the doctor says against it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from lab.faults import canaries, refusals, wiretap
from lab.faults.evidence import Evidence, Invariant, Verdicts
from lab.faults.history import (
    Accepted,
    Applied,
    Joined,
    Kept,
    Left,
    Receipted,
    Refused,
    Reported,
    ReportKept,
)
from lab.faults.wiretap import Wiretap

CLOCK_WINDOW = 45.0  # seconds; by so much a patient's clock may be ahead of the doctor's


def check(evidence: Evidence) -> Verdicts:
    """Judge a trial."""
    return _Checker(evidence).check()


class _Checker:
    """One judgement; a method an invariant, in their order."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        history = evidence.history
        self._findings: dict[Invariant, list[str]] = {kind: [] for kind in Invariant}
        self._accepted: dict[tuple[str, int], Accepted] = {}
        self._intended: dict[str, dict[str, str]] = defaultdict(dict)  # message id -> patient -> state
        self._joined: dict[tuple[str, str], list[Joined]] = defaultdict(list)
        self._left: dict[str, list[Left]] = defaultdict(list)
        self._end = max((event.time for event in history.events), default=0.0)
        for receipt in history.of(Receipted):
            self._intended[receipt.message][receipt.patient] = receipt.state
        for joined in history.of(Joined):
            self._joined[joined.patient, joined.group].append(joined)
        for left in history.of(Left):
            self._left[left.patient].append(left)

    def check(self) -> Verdicts:
        self._index_accepted()
        self._check_recipients()
        self._check_delivery()
        self._check_reports()
        self._check_once_and_in_order()
        self._check_shown()
        self._check_refusals()
        self._check_audit()
        tap = self._check_wire()
        self._check_canary()
        return Verdicts(self._findings, tap)

    def _found(self, kind: Invariant, sentence: str) -> None:
        self._findings[kind].append(sentence)

    # I1

    def _index_accepted(self) -> None:
        for accepted in self._evidence.history.of(Accepted):
            earlier = self._accepted.setdefault((accepted.stream, accepted.number), accepted)
            if earlier is not accepted:
                self._found(
                    Invariant.NOT_LOST,
                    f"{accepted.stream} {accepted.number} was given to two messages: one of them is lost.",
                )

    def _check_recipients(self) -> None:
        """The doctor's list against what is known of the memberships."""
        for accepted in self._accepted.values():
            intended = self._intended[accepted.message]
            if len(intended) != accepted.recipients:
                self._found(
                    Invariant.NOT_LOST,
                    f"{accepted.message} was accepted for {accepted.recipients} recipients, and {len(intended)} are listed.",
                )
            kind, _, group = accepted.stream.partition(":")
            if kind == "patient":
                if set(intended) != {group}:
                    self._found(
                        Invariant.CONFIDENTIAL,
                        f"{accepted.message} is for {group}, listed: {sorted(intended)}.",
                    )
                continue
            for patient in {name for name, of in self._joined if of == group} | set(intended):
                member = self._member(patient, group, accepted)
                if member is True and patient not in intended:
                    self._found(
                        Invariant.NOT_LOST,
                        f"{accepted.message} was accepted while {patient} was a member of {group}, and is not meant for it.",
                    )
                elif member is False and patient in intended:
                    self._found(
                        Invariant.CONFIDENTIAL,
                        f"{accepted.message} was accepted while {patient} was no member of {group}, and is meant for it.",
                    )

    def _member(self, patient: str, group: str, at: Accepted) -> bool | None:
        """Whether a patient was a member when a message was accepted; None where the two may have crossed."""
        joins = self._joined[patient, group]
        changes: list[tuple[float, float, bool]] = [(each.asked, each.time, True) for each in joins]
        changes += [
            (each.asked, each.time, False) for each in self._left[patient] if each.group in (None, group)
        ]
        member = False
        for asked, time, becomes in sorted(changes):
            if asked >= at.time:
                break
            if time > at.asked:
                return None
            member = becomes
        return member

    def _check_delivery(self) -> None:
        has = {(each.patient, each.stream, each.number) for each in self._evidence.history.of(Applied)}
        kept = {(each.patient, each.stream, each.number): each for each in self._evidence.history.of(Kept)}
        readers = {patient for patient, _, _ in kept}
        for patient, stream, number in sorted(has - kept.keys()):
            if patient in readers:
                self._found(
                    Invariant.NOT_LOST, f"{patient} showed {stream} {number}, which its inbox does not hold."
                )
        for accepted in self._accepted.values():
            for patient, state in self._intended[accepted.message].items():
                place = (patient, accepted.stream, accepted.number)
                late = place in kept and kept[place].body is None
                if self._departed_after(patient, accepted):
                    continue
                if place not in has and place not in kept:
                    if state == "expired" and self._may_have_expired(accepted):
                        continue
                    self._found(
                        Invariant.NOT_LOST,
                        f"{accepted.message} was accepted for {patient}, which never applied it (the doctor says: {state}).",
                    )
                elif late and not self._may_have_expired(accepted):
                    self._found(
                        Invariant.NOT_LOST,
                        f"{accepted.message} did not expire, and {patient} did not show it.",
                    )
                elif state != ("expired" if late else "delivered"):
                    self._found(
                        Invariant.NOT_LOST,
                        f"{patient} has {accepted.message}, of which the doctor says: {state}.",
                    )

    def _departed_after(self, patient: str, accepted: Accepted) -> bool:
        """Revoked or retired behind the acceptance, or so that the two may have crossed: nothing is owed any more."""
        return any(
            left.reason in ("revoked", "retired") and left.time >= accepted.asked
            for left in self._left[patient]
        )

    def _may_have_expired(self, accepted: Accepted) -> bool:
        return self._end >= accepted.asked + accepted.lifetime - CLOCK_WINDOW

    def _check_reports(self) -> None:
        kept: dict[tuple[str, str], list[bytes]] = defaultdict(list)
        for report in self._evidence.history.of(ReportKept):
            kept[report.patient, report.report].append(report.body)
        for reported in self._evidence.history.of(Reported):
            copies = kept.pop((reported.patient, reported.report), [])
            name = f"{reported.patient}'s report {reported.report}"
            if not copies and not any(each.reason != "removed" for each in self._left[reported.patient]):
                self._found(Invariant.NOT_LOST, f"{name} never came to the doctor.")
            if len(copies) > 1:
                self._found(Invariant.ONCE, f"{name} stands there {len(copies)} times.")
            if any(body != reported.body for body in copies):
                self._found(Invariant.AUTHENTIC, f"{name} has another body than was reported.")
        for patient, invented in kept:
            self._found(
                Invariant.AUTHENTIC, f"{patient} never made the report {invented} that the doctor shows."
            )

    # I2

    def _check_once_and_in_order(self) -> None:
        last: dict[tuple[str, str], Applied] = {}
        seen: dict[tuple[str, str, int], Applied] = {}
        for applied in self._evidence.history.of(Applied):
            place = (applied.patient, applied.stream, applied.number)
            before = last.get(place[:2])
            if (first := seen.get(place)) is not None:
                self._found(
                    Invariant.ONCE,
                    f"{applied.patient} applied {applied.stream} {applied.number} twice, in its lives {first.life} and {applied.life}.",
                )
            elif before is not None and applied.number < before.number:
                self._found(
                    Invariant.ONCE,
                    f"{applied.patient} applied {applied.stream} {applied.number} behind {before.number}.",
                )
            seen.setdefault(place, applied)
            last[place[:2]] = applied

    # I4

    def _check_shown(self) -> None:
        for event in self._evidence.history.events:
            if isinstance(event, Applied | Kept):
                self._check_content(
                    f"{event.patient} shows", event.patient, event.stream, event.number, event.body
                )

    def _check_content(self, who: str, patient: str, stream: str, number: int, body: bytes | None) -> None:
        accepted = self._accepted.get((stream, number))
        if accepted is None:
            self._found(Invariant.AUTHENTIC, f"{who} {stream} {number}, which nobody had accepted.")
            return
        if body is not None and body != accepted.body:
            self._found(Invariant.AUTHENTIC, f"{who} {accepted.message} with another body than was accepted.")
        if patient and patient not in self._intended[accepted.message]:
            self._found(Invariant.AUTHENTIC, f"{who} {accepted.message}, which is not addressed to it.")

    # I5

    def _check_refusals(self) -> None:
        for refused in self._evidence.history.of(Refused):
            for fault in refusals.faults(refused.code, refused.sentence):
                self._found(Invariant.EXPLAINED, f"{refused.who} was refused {fault}")

    # I7

    def _check_audit(self) -> None:
        audit = self._evidence.audit
        if audit is None:
            self._found(Invariant.AUDITED, "The audit chain was not verified.")
        elif not audit.valid:
            self._found(Invariant.AUDITED, f"The audit chain does not verify: {audit.reason}.")
        elif not audit.entries:
            self._found(Invariant.AUDITED, "The audit chain is empty.")

    # I3 and I6

    def _check_wire(self) -> Wiretap | None:
        evidence = self._evidence
        if evidence.capture is None:
            return None
        suspects = evidence.outsiders | set(self._left)
        tap = wiretap.read(evidence.capture, evidence.keys, suspects)
        self._findings[Invariant.NONCES] += tap.repeats
        self._findings[Invariant.AUTHENTIC] += tap.sealed_otherwise
        for readable in sorted(tap.readable, key=lambda r: (r.stream, r.number, r.holder, r.how)):
            accepted = self._accepted.get((readable.stream, readable.number))
            if accepted is None or readable.body not in (None, accepted.body):
                who = f"What {readable.holder} was sent has"
                self._check_content(who, "", readable.stream, readable.number, readable.body)
            elif readable.holder not in self._intended[accepted.message]:
                self._found(
                    Invariant.CONFIDENTIAL,
                    f"{readable.holder} can read {accepted.message} ({readable.how}), which is not meant for it.",
                )
        if evidence.keys.sessions and not tap.opened_records:
            self._found(Invariant.CONFIDENTIAL, "No record opened under any key: the capture proves nothing.")
        return tap

    def _check_canary(self) -> None:
        evidence = self._evidence
        if evidence.canary is None:
            return
        wire: Iterable[tuple[str, bytes]] = wiretap.places(evidence.capture) if evidence.capture else ()
        look: Callable[[Iterable[tuple[str, bytes]]], list[str]] = canaries.finder(evidence.canary)
        self._findings[Invariant.CONFIDENTIAL] += look(wire) + look(evidence.places)
