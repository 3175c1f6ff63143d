"""Doctors, and those who play one, that lie about new keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lab.evil.clinic import Clinic, Device
from lab.evil.letters import envelope, letter
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, drops, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.doctor import DoctorLies
from lab.evil.peer.doctor import Practice as EvilPractice
from lab.evil.peer.suites import ECDSA, FFDHE3072, HYBRID, P256, SigningPair, Suite, new_signer
from lab.evil.sides import Refusal
from lab.evil.stages import attended, doctor_ear, one, visit
from shared.protocol.envelopes import FormerKey
from shared.wire.checks import Check

PINNED = 2
"""The sequence of the rotation that brought the keys which the device has pinned."""


@dataclass(frozen=True, slots=True)
class Word:
    """What is told of a rotation: who gives which key up for which, in which words, and who signs that."""

    doctor_id: str
    sequence: int
    former: SigningPair
    signer: SigningPair
    new: SigningPair

    def rotation(self, now: int) -> wire.Rotation:
        """The statement, signed."""
        name = eq.fingerprint(self.former.algorithm, self.former.public)
        keys = [wire.KeySuccession(self.new.algorithm, name, self.new.public)]
        statement = wire.encode(wire.RotationStatement(self.doctor_id, self.sequence, now, keys))
        return wire.Rotation(statement, [self.signer.sign(eq.ROTATION_SIGNATURE, statement)])


def shown(lie_of: Callable[[Word, SigningPair], Word | None]) -> Act:
    """A reply under a new key, with the word of the former one for it; a lie is what becomes of that word, None: it is left out.

    The second argument of a lie is a key that the device has never pinned.
    """

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        new, stranger = (new_signer(suite.algorithm, clinic.random) for _ in range(2))
        peer, side = visit(clinic, suite, change=_rotated_before)
        true = Word(peer.practice.doctor_id, PINNED + 1, peer.practice.key, peer.practice.key, new)
        word = lie_of(true, stranger) if lie else true
        now = clinic.clock.now.wall
        told = word.rotation(now) if word is not None else None
        peer.lies = DoctorLies(prekey_signer=new, reply=lambda reply: reply._replace(rotation=told))
        mark = len(clinic.effects)
        side.take(peer.reply(one(side), now))
        return Attack(side, mark, lambda frame: doctor_ear(peer, frame))

    return act


def _rotated_before(practice: EvilPractice, device: Device) -> Device:
    return replace(device, identity=replace(device.identity, sequence=PINNED))


def _kept_former_key(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """A member of the group that has a stolen former key of the doctor's sends a message to all; the doctor sends one from then itself."""
    former = new_signer(ECDSA, clinic.random)
    now = clinic.clock.now.wall

    def change(_: EvilPractice, device: Device) -> Device:
        return replace(device, reader=replace(device.reader, former=(FormerKey(former.public, now),)))

    peer, side, epoch = attended(clinic, suite, change)
    mark = len(clinic.effects)
    written = envelope(clinic, peer.practice.doctor_id, former, 10, 0)
    message = letter(former, written._replace(created=now - 1))
    direct = wire.Direct(0, message)
    side.take(epoch.broadcast(0, message) if lie else peer.record(wire.DIRECT, direct))
    return Attack(side, mark)


def row(name: str, does: str, answer: Refusal, act: Act, liar: Liar = Liar.STRANGER) -> Misbehaviour:
    """One row, in every suite."""
    return Misbehaviour(name, liar, does, answer, act, (HYBRID, P256, FFDHE3072))


ROWS = (
    row(
        "rotation-missing",
        "signs with a new key for which no pinned key vouches",
        fails(Check.PREKEY_SIGNATURE),
        shown(lambda true, stranger: None),
    ),
    row(
        "rotation-of-another-doctor",
        "shows a rotation of another doctor",
        fails(Check.ROTATION_DOCTOR),
        shown(lambda true, stranger: replace(true, doctor_id="another")),
    ),
    row(
        "rotation-rolled-back",
        "shows a rotation that is not above the one that brought the pinned key",
        fails(Check.ROTATION_HIGHER),
        shown(lambda true, stranger: replace(true, sequence=PINNED)),
        Liar.DOCTOR,
    ),
    row(
        "rotation-of-another-key",
        "shows a rotation of a key that was never pinned",
        fails(Check.ROTATION_PINNED),
        shown(lambda true, stranger: replace(true, former=stranger, signer=stranger)),
    ),
    row(
        "rotation-forged",
        "signs itself that its key takes the place of the pinned one",
        fails(Check.ROTATION_SIGNED),
        shown(lambda true, stranger: replace(true, signer=stranger)),
    ),
    row(
        "former-key-broadcast",
        "signs a broadcast with a former key of the doctor's",
        drops(Check.ENVELOPE_FORMER),
        _kept_former_key,
        Liar.INSIDER,
    ),
)
