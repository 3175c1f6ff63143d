"""T5: one bit of one frame is changed on its way, every bit of a session in turn or a sample of them.

Law: a changed frame is never taken, whoever had to notice it says so by a check, and nothing takes effect that would not have. What waits for
bytes that do not come is ended by the end of the stream.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from lab.evil.attempts import Attempts
from lab.evil.clinic import Clinic, Device, Inbox
from lab.evil.links import Link
from lab.evil.misbehaviour import Accepted, Deviation
from lab.evil.sides import Side
from lab.faults.row import OnProgress, Tally
from shared.crypto.suites import SUITES, SuiteId

ORDER = (SuiteId.ELGAMAL_P256, SuiteId.ELGAMAL_P256_MLKEM768)
BROADCAST = (False, 3)
RECEIPT = (True, 4)


@dataclass(frozen=True, slots=True)
class Place:
    """One bit: of which suite's session, which way, the how manieth frame that way, which bit of it."""

    suite: SuiteId
    to_doctor: bool
    index: int
    bit: int

    def __str__(self) -> str:
        way = "to the doctor" if self.to_doctor else "to the patient"
        return f"suite {self.suite:d}, frame {self.index + 1} {way}, bit {self.bit}"


def flipped(data: bytes, bit: int) -> bytes:
    """`data` with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Course:
    """One session after another in one clinic: a handshake, a group key, a broadcast and its receipt, one bit of it changed.

    Attributes:
        last: the session that was run last.
    """

    last: Link

    def __init__(self, suite: SuiteId) -> None:
        self.clinic = Clinic(f"flips {suite}")
        self.device: Device = self.clinic.device("alice", SUITES[suite])

    def sizes(self) -> dict[tuple[bool, int], int]:
        """The bits of each frame of an unchanged session."""
        link = self._run(None)
        if not link.up or not any(" shows " in effect for effect in self.clinic.effects):
            raise Deviation("the unchanged session did not come about")
        frames = {(True, index): frame for index, frame in enumerate(link.to_doctor)}
        frames |= {(False, index): frame for index, frame in enumerate(link.to_patient)}
        return {key: 8 * len(frame) for key, frame in frames.items()}

    def try_one(self, place: Place) -> None:
        """Change one bit. Raises Deviation."""
        link = self._run(place)
        refusals = link.doctor.refusals + link.patient.refusals
        if not any(refusal.check for refusal in refusals):
            raise Deviation("nobody noticed")

    def _run(self, place: Place | None) -> Link:
        self._forget()
        link = self.last = Link(self.clinic, self.device)
        self._pump(link, place)
        if place is None or (place.to_doctor, place.index) in (BROADCAST, RECEIPT):
            # Where the handshake itself is changed, it goes no further.
            link.say(b"take two")
            self._pump(link, place)
        return link

    def _forget(self) -> None:
        """Every session begins with nothing said and nothing missed, so that the same frame has the same place."""
        self.clinic.effects.clear()
        self.clinic.ledger.accepted.clear()
        self.clinic.ledger.delivered.clear()
        self.device = replace(self.device, inbox=Inbox())

    def _pump(self, link: Link, place: Place | None) -> None:
        while True:
            upward, downward = link.patient.give(), link.doctor.give()
            if not upward and not downward:
                return
            for to_doctor, frames in ((True, upward), (False, downward)):
                side: Side = link.doctor if to_doctor else link.patient
                log = link.to_doctor if to_doctor else link.to_patient
                for frame in frames:
                    log.append(frame)
                    if place is not None and (place.to_doctor, place.index) == (to_doctor, len(log) - 1):
                        self._take_changed(link, side, flipped(frame, place.bit))
                    else:
                        side.take(frame)

    def _take_changed(self, link: Link, side: Side, frame: bytes) -> None:
        """The changed frame and the rest of the handshake behind it; then both streams end.

        Where there is a session already (a broadcast, a receipt, the group's key) only the frame itself counts: what was
        dropped is asked for and comes again, which is no effect of the changed bit.
        """
        mark = len(self.clinic.effects)
        side.take(frame)
        while (
            not link.up
            and not side.ended
            and (frames := [link.patient.give(), link.doctor.give()]) != [[], []]
        ):
            link.doctor.take(*frames[0])
            link.patient.take(*frames[1])
        taken = [each for each in self.clinic.effects[mark:] if " believes the alert " not in each]
        if taken:
            raise Accepted(f"it took effect: {'; '.join(taken)}")
        link.doctor.take_end()
        link.patient.take_end()


def all_places() -> Iterator[Place]:
    """Every bit of the sessions of both suites."""
    for suite in ORDER:
        for (to_doctor, index), bits in Course(suite).sizes().items():
            yield from (Place(suite, to_doctor, index, bit) for bit in range(bits))


def try_flips(count: int, seed: int, on_progress: OnProgress) -> Tally:
    """A sample of so many bits, or every bit."""
    places = list(all_places())
    if count < len(places):
        places = random.Random(seed).sample(places, count)  # noqa: S311  it draws cases
    courses = {suite: Course(suite) for suite in ORDER}
    attempts = Attempts()
    for done, place in enumerate(places, 1):
        attempts.make(f"{place}, seed {seed}", partial(courses[place.suite].try_one, place))
        on_progress(done, len(places))
    return attempts.tally(len(places))
