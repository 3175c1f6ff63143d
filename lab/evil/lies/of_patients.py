"""How a patient's lie is told: a handshake with the real doctor, one thing in it or around it otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.evil.clinic import Clinic
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour
from lab.evil.peer.patient import Credentials, PatientLies
from lab.evil.peer.suites import HYBRID, P256, Suite
from lab.evil.sides import Refusal
from lab.evil.stages import call, credentials, log_in, patient_ear

Situation = Callable[[Clinic, Credentials], Credentials]
"""What is otherwise than it should be, of the patient or at the doctor, before the lie begins."""


ONCE = (P256,)


def same_situation(clinic: Clinic, who: Credentials) -> Credentials:
    """Nothing is otherwise."""
    return who


def handshake(
    lies: Callable[[Clinic, Credentials], PatientLies] | PatientLies | None = None,
    *,
    enrols: bool = False,
    situation: Situation = same_situation,
) -> Act:
    """A patient that goes through its handshake, with these lies, in this situation."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        if enrols:
            invitation = clinic.invite("mallory")
            who = credentials(clinic, suite, standing=None, invitation=invitation)
        else:
            who = credentials(clinic, suite)
        told = PatientLies()
        if lie:
            who = situation(clinic, who)
            told = lies(clinic, who) if callable(lies) else lies or told
        mark = len(clinic.effects)
        peer, side = call(clinic, who, told)
        log_in(peer, side)
        return Attack(side, mark, lambda frame: patient_ear(peer, frame))

    return act


def lie(
    name: str,
    does: str,
    answer: Refusal,
    lies: Callable[[Clinic, Credentials], PatientLies] | PatientLies | None = None,
    *,
    enrols: bool = False,
    situation: Situation = same_situation,
    suites: tuple[Suite, ...] = (HYBRID, P256),
    liar: Liar = Liar.PATIENT,
) -> Misbehaviour:
    """A row about a handshake."""
    act = handshake(lies, enrols=enrols, situation=situation)
    return Misbehaviour(name, liar, does, answer, act, suites)


def claiming(**changes: Any) -> PatientLies:
    """Other claims."""
    return PatientLies(claims=lambda claims: claims._replace(**changes))


def shifted(milliseconds: int) -> PatientLies:
    """A request of another time."""
    return PatientLies(claims=lambda claims: claims._replace(timestamp=claims.timestamp + milliseconds))
