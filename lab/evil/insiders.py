"""T22: forgeries from inside, many in one session, among the doctor's own messages."""

from __future__ import annotations

from functools import partial

from lab.evil.attempts import Attempts
from lab.evil.clinic import EVERYONE, Clinic
from lab.evil.lies.forgeries import KINDS, Kind, Ring, gather
from lab.evil.misbehaviour import Accepted, Deviation
from lab.evil.peer.suites import HYBRID, P256
from lab.evil.sides import How
from lab.faults.row import OnProgress, Tally
from shared.protocol.clock import SECOND

FORGERIES_A_SESSION = 25


def inject(ring: Ring, kind: Kind) -> None:
    """One forgery into a session that goes on, and the doctor's next message behind it. Raises Deviation."""
    clinic, patient = ring.clinic, ring.victim.patient
    frame = kind.forge(ring)
    effects, refusals = len(clinic.effects), len(patient.refusals)
    patient.take(frame)
    if clinic.effects[effects:]:
        raise Accepted(f"it took effect: {'; '.join(clinic.effects[effects:])}")
    told = patient.refusals[refusals:]
    if told != ([] if kind.answer.how is How.KNOWN else [kind.answer]):
        raise Deviation(f"answered {[str(each) for each in told]}, expected {kind.answer}")
    _go_on(ring)


def _go_on(ring: Ring) -> None:
    """The doctor speaks; what a forgery kept from the victim is asked for. In the end it has shown what was said, once each."""
    clinic, patient = ring.clinic, ring.victim.patient
    clinic.clock.advance(2 * SECOND)
    ring.victim.run()
    ring.say(f"after {len(ring.frames)}".encode())
    said = [message.body for _, message in clinic.ledger.accepted[EVERYONE]]
    shown = [body for _, body in patient.device.inbox.messages[EVERYONE]]
    if shown != said:
        raise Deviation(
            f"the victim was shown {shown[-3:]} of {len(shown)}, the doctor said {said[-3:]} of {len(said)}"
        )


def try_forgeries(forgeries: int, seed: int, on_progress: OnProgress) -> Tally:
    """So many forgeries of all kinds in turn, many in one session, among the doctor's own messages."""
    attempts = Attempts()
    ring: Ring | None = None
    for index in range(forgeries):
        kind, drawn = KINDS[index % len(KINDS)], seed * 1_000_003 + index
        if ring is None or index % FORGERIES_A_SESSION == 0:
            suite = (HYBRID, P256)[index // FORGERIES_A_SESSION % 2]
            ring = gather(Clinic(f"insider {drawn}"), suite, drawn)
        if not attempts.make(f"{kind.name}, seed {drawn}", partial(inject, ring, kind)):
            ring = None  # what it has come to says nothing about the next forgery
        on_progress(index + 1, forgeries)
    return attempts.tally(forgeries)
