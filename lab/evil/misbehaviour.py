"""What a misbehaviour is, and how it is tried: once as a lie, once with the lie left out.

Law: a lie counts as refused only if the defender gave exactly the answer that the table names, nothing took effect after the lie, and the
others go on as if nothing had been. The same steps without the lie must succeed, or the experiment says nothing. Whatever
goes another way (an exception, an unexpected frame, silence) is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, unique

from lab.evil.clinic import EVERYONE, ON_THE_CURVE, Clinic
from lab.evil.links import Link
from lab.evil.peer.sessions import CLEAR, Told
from lab.evil.peer.suites import HYBRID, P256, Suite
from lab.evil.sides import How, Refusal, Side
from shared.crypto.suites import SUITES, SuiteId
from shared.protocol.clock import SECOND
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode

BYSTANDER = "bystander"


@unique
class Liar(Enum):
    """Who misbehaves."""

    STRANGER = "a stranger"
    PATIENT = "an enrolled patient"
    DOCTOR = "a doctor"
    MIDDLE = "a man in the middle"
    INSIDER = "a member of the group"


@dataclass(frozen=True, slots=True)
class Attack:
    """What is left on the table after a misbehaviour.

    Args:
        defender: who had to notice.
        mark: how many effects there were before the lie.
        ear: reads the defender's alert with the keys of the liar; None: it has none, or there is no alert.
    """

    defender: Side
    mark: int
    ear: Callable[[bytes], Told] | None = None


Act = Callable[[Clinic, Suite, bool], Attack]
"""Plays a misbehaviour on a fresh clinic; the last argument: whether the lie is told."""


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """One row of the table.

    Args:
        name: by which tests and findings call it.
        liar, does: who does what.
        answer: what the defender must answer.
        act: plays it.
        suites: with which it is played, in turn.
        deadline: of the doctor's handshakes, in milliseconds.
    """

    name: str
    liar: Liar
    does: str
    answer: Refusal
    act: Act
    suites: tuple[Suite, ...] = (HYBRID, P256)
    deadline: int = 10 * SECOND


def fails(check: Check) -> Refusal:
    """The connection ends with this check."""
    return Refusal(How.FAILED, check)


def drops(check: Check) -> Refusal:
    """The frame is dropped for this check."""
    return Refusal(How.DROPPED, check)


class Deviation(Exception):
    """An experiment did not go as the table says; the text says how."""


class Accepted(Deviation):
    """A lie took effect."""


def attempt(misbehaviour: Misbehaviour, seed: int) -> None:
    """Try a misbehaviour once, and its honest counterpart. Raises Deviation."""
    suite = misbehaviour.suites[seed % len(misbehaviour.suites)]
    _play(misbehaviour, suite, seed, lie=False)
    _play(misbehaviour, suite, seed, lie=True)


def _play(misbehaviour: Misbehaviour, suite: Suite, seed: int, *, lie: bool) -> None:
    clinic = Clinic(
        f"{misbehaviour.name} {seed}",
        suites=ON_THE_CURVE | {SuiteId(suite.number)},
        deadline=misbehaviour.deadline,
    )
    bystander = Link(clinic, clinic.device(BYSTANDER, SUITES[SuiteId.ELGAMAL_P256])).run()
    attack = misbehaviour.act(clinic, suite, lie)
    if lie:
        _judge_lie(misbehaviour.answer, attack)
    else:
        _judge_truth(attack)
    witness(clinic, bystander)


def _judge_truth(attack: Attack) -> None:
    refusals = attack.defender.refusals
    if refusals:
        raise Deviation(f"without the lie it was refused all the same: {_told(refusals)}")
    if len(attack.defender.clinic.effects) == attack.mark:
        raise Deviation("without the lie nothing came of it either, so the refusal says nothing")


def _judge_lie(answer: Refusal, attack: Attack) -> None:
    defender = attack.defender
    effects = defender.clinic.effects[attack.mark :]
    if effects:
        raise Accepted(f"the lie took effect: {'; '.join(effects)}")
    if answer.how is How.KNOWN:
        if defender.refusals or not defender.established:
            raise Deviation(f"a known number was not just ignored: {_told(defender.refusals)}")
        return
    if defender.refusals != [answer]:
        raise Deviation(f"answered {_told(defender.refusals)}, expected {answer}")
    if answer.how is How.FAILED:
        _judge_alert(answer, attack)
    elif answer.how is How.DROPPED and not defender.established:
        raise Deviation("the session did not go on")


def _judge_alert(answer: Refusal, attack: Attack) -> None:
    """What the peer is told: the code that the table of checks names, and nothing that is not for everyone in clear."""
    if attack.ear is None or answer.check is None:
        return
    told = attack.ear(attack.defender.said[-1])
    code = answer.check.alert
    if told.form == CLEAR and code >= AlertCode.INVITATION_EXPIRED:
        code = AlertCode.REFUSED
    if told.code != code:
        raise Deviation(f"the alert said {told.code} ({told.form}), expected {code.name}")


def _told(refusals: list[Refusal]) -> str:
    return ", ".join(str(refusal) for refusal in refusals) or "nothing"


def witness(clinic: Clinic, bystander: Link) -> None:
    """Somebody else's session, begun before: it goes on, gets the next message, and has shown what the doctor said and no more.

    Where the doctor was restarted or its group has a new epoch, the bystander comes back first.
    """
    device = bystander.patient.device
    if bystander.doctor.refusals or bystander.patient.refusals or not bystander.up:
        raise Deviation("the session of a bystander did not go on")
    if f"{BYSTANDER} holds epoch {clinic.epoch.number} of {EVERYONE.name}" not in clinic.effects:
        bystander = Link(clinic, device).run()
    for message in clinic.owed(BYSTANDER, EVERYONE, bystander.patient.positions[EVERYONE]):
        bystander.doctor.connection.send_direct(0, message)
    bystander.doctor.flush()
    bystander.say(b"all is well")
    bystander.run()
    shown = [body for _, body in device.inbox.messages.get(EVERYONE, [])]
    said = [message.body for _, message in clinic.ledger.accepted[EVERYONE]]
    if shown != said:
        raise Deviation(f"a bystander was shown {shown}, the doctor said {said}")
    if clinic.ledger.delivered.get((BYSTANDER, EVERYONE)) != clinic.issued_to(BYSTANDER, EVERYONE):
        raise Deviation("a bystander's receipt did not arrive")
