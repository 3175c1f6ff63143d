"""Members of a group, who hold its key, and use it on another member's connection.

Law: the victim is a real patient with a session at the real doctor; the insider is a member of the same group and holds the epoch's
secret as any member does. What it cannot do is sign as the doctor; what it may do is see, drop and inject frames.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from lab.evil.clinic import EVERYONE, Clinic
from lab.evil.letters import BODY, envelope, letter
from lab.evil.lies.middle import real_suite
from lab.evil.links import Link
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, drops
from lab.evil.peer import wire
from lab.evil.peer.groups import Epoch
from lab.evil.peer.patient import Patient
from lab.evil.peer.suites import ECDSA, SigningPair, Suite, malleated, new_signer
from lab.evil.sides import How, Refusal
from lab.evil.stages import HOME, established
from shared.crypto.signatures import fingerprint
from shared.wire.checks import Check
from shared.wire.messages import Stream, TargetKind


@dataclass
class Ring:
    """A victim with its doctor, and an insider with the group's key and some messages that it has seen."""

    clinic: Clinic
    victim: Link
    insider: Patient
    epoch: Epoch
    forger: SigningPair
    dice: random.Random
    frames: list[bytes] = field(default_factory=list)
    sequence: count[int] = field(default_factory=lambda: count(1 << 40))

    def seen(self) -> wire.SignedMessage:
        """What the insider has read of one of the doctor's broadcasts."""
        return self.epoch.open(self.dice.choice(self.frames))

    def say(self, body: bytes) -> None:
        """The doctor broadcasts a message, which the victim gets and the insider reads."""
        self.frames.append(self.victim.say(body))
        self.victim.run()

    @property
    def number(self) -> int:
        """Where the victim stands."""
        return self.victim.patient.positions[EVERYONE]

    def sealed(self, message: wire.SignedMessage) -> bytes:
        """A message under the group's key."""
        return self.epoch.broadcast(next(self.sequence), message)

    def forged(self, **changes: Any) -> wire.SignedMessage:
        """The next message as the doctor would write it, but for the signature, and for these changes."""
        doctor_id = self.clinic.practice.doctor_id
        made = envelope(self.clinic, doctor_id, self.forger, self.number + 1, self.number)
        key = self.clinic.envelope_key
        named = made._replace(signing_key=fingerprint(key.algorithm, key.public))
        return letter(self.forger, named._replace(**changes))

    def truth(self) -> bytes:
        """The doctor's next broadcast."""
        return self.clinic.seal(self.clinic.accept(b"from the doctor"))


def gather(clinic: Clinic, suite: Suite, seed: int = 0) -> Ring:
    """Bring them together; the doctor says three messages, which both get."""
    victim = Link(clinic, clinic.device("victim", real_suite(suite))).run()
    insider, _, epoch = established(clinic, suite, "mallory")
    dice = random.Random(seed)  # noqa: S311  it draws cases, not keys
    ring = Ring(clinic, victim, insider, epoch, new_signer(ECDSA, clinic.random), dice)
    for index in range(3):
        ring.say(f"message {index}".encode())
    return ring


Forgery = Callable[[Ring], bytes]
"""Makes the frame that the insider injects."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to misuse the group's key; see `Misbehaviour`."""

    name: str
    does: str
    answer: Refusal
    forge: Forgery


def injects(forgery: Forgery) -> Act:
    """The insider sends one frame to the victim; the truth is the doctor's next broadcast."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        ring = gather(clinic, suite)
        frame = forgery(ring) if lie else ring.truth()
        mark = len(clinic.effects)
        ring.victim.patient.take(frame)
        return Attack(ring.victim.patient, mark)

    return act


def _forged(ring: Ring) -> bytes:
    return ring.sealed(ring.forged())


def _own_name(ring: Ring) -> bytes:
    key = ring.insider.who.key
    signing = key if key.algorithm == ECDSA else ring.forger
    made = envelope(ring.clinic, ring.insider.who.patient_id, signing, ring.number + 1, ring.number)
    return ring.sealed(letter(signing, made))


def _own_key_named(ring: Ring) -> bytes:
    made = envelope(ring.clinic, ring.clinic.practice.doctor_id, ring.forger, ring.number + 1, ring.number)
    return ring.sealed(letter(ring.forger, made))


def _old_signature(ring: Ring) -> bytes:
    return ring.sealed(ring.forged()._replace(signature=ring.seen().signature))


def _renumbered(ring: Ring) -> bytes:
    """A true message of the doctor's under a new number; its signature covers the old one."""
    seen = ring.seen()
    made = wire.decode(wire.Envelope, seen.envelope)
    moved = made._replace(number=ring.number + 1, previous=ring.number)
    return ring.sealed(seen._replace(envelope=wire.encode(moved)))


def _new_body(ring: Ring) -> bytes:
    """The doctor's next message, caught on its way, with another body."""
    return ring.sealed(ring.epoch.open(ring.truth())._replace(body=BODY))


def _no_body(ring: Ring) -> bytes:
    return ring.sealed(ring.epoch.open(ring.truth())._replace(body=None))


def _hidden(ring: Ring) -> bytes:
    """The doctor's next message is kept from the victim; the one behind it is passed on."""
    ring.truth()
    return ring.truth()


def _replayed(ring: Ring) -> bytes:
    return ring.dice.choice(ring.frames)


def _sealed_again(ring: Ring) -> bytes:
    return ring.sealed(ring.seen())


def _malleated(ring: Ring) -> bytes:
    """The last message once more, with the other signature (r, q − s), which verifies as well."""
    seen = ring.seen()
    return ring.sealed(seen._replace(signature=malleated(seen.signature)))


def _private(ring: Ring) -> bytes:
    """What the doctor wrote to the insider alone, broadcast to the group."""
    who = ring.insider.who
    stream = Stream(TargetKind.PATIENT, who.patient_id)
    written = ring.clinic.accept(b"for Mallory alone", stream, name=who.fingerprint)
    return ring.sealed(_copied(written.envelope, written.signature, written.salt, written.body))


def _cross_group(ring: Ring) -> bytes:
    """What the doctor wrote to another group that the insider is in, broadcast to this one."""
    written = ring.clinic.accept(b"for ward b", Stream(TargetKind.GROUP, "ward-b"))
    return ring.sealed(_copied(written.envelope, written.signature, written.salt, written.body))


def _copied(signed: bytes, signature: bytes, salt: bytes, body: bytes | None) -> wire.SignedMessage:
    return wire.SignedMessage(signed, signature, salt, body)


def _made_up_epoch(ring: Ring) -> bytes:
    epoch = Epoch.begin(ring.clinic.practice.doctor_id, HOME.name, 1, [], [], ring.clinic.random)
    return epoch.broadcast(0, ring.epoch.open(ring.truth()))


def _garbage(ring: Ring) -> bytes:
    return ring.epoch.broadcast_bytes(next(ring.sequence), b"not a message")


def _unsealed(ring: Ring) -> bytes:
    """The right key id before random bytes."""
    payload = ring.epoch.key_id + (0).to_bytes(8, "big") + ring.clinic.random(272)
    return wire.build(wire.BROADCAST, payload)


KNOWN = Refusal(How.KNOWN)


KINDS = (
    Kind(
        "member-forges",
        "signs in the doctor's name with its own key",
        drops(Check.ENVELOPE_SIGNATURE),
        _forged,
    ),
    Kind("member-own-name", "broadcasts under its own name", drops(Check.ENVELOPE_DOCTOR), _own_name),
    Kind("member-own-key", "names its own key as the doctor's", drops(Check.ENVELOPE_DOCTOR), _own_key_named),
    Kind(
        "member-old-signature",
        "puts an old signature behind a new envelope",
        drops(Check.ENVELOPE_SIGNATURE),
        _old_signature,
    ),
    Kind(
        "member-renumbers",
        "gives an old message a new number",
        drops(Check.ENVELOPE_SIGNATURE),
        _renumbered,
    ),
    Kind("member-swaps-body", "swaps the body of the next message", drops(Check.ENVELOPE_BODY), _new_body),
    Kind(
        "member-hides-body",
        "leaves the body of the next message out",
        drops(Check.ENVELOPE_BODY_PRESENT),
        _no_body,
    ),
    Kind(
        "member-hides",
        "keeps one message back and passes the next on",
        drops(Check.ENVELOPE_PREVIOUS),
        _hidden,
    ),
    Kind("member-replays", "sends an old broadcast again", KNOWN, _replayed),
    Kind("member-reseals", "seals an old message once more", KNOWN, _sealed_again),
    Kind("member-malleates", "sends a message again with s turned to q − s", KNOWN, _malleated),
    Kind(
        "member-passes-private",
        "broadcasts what was written to it alone",
        drops(Check.ENVELOPE_TARGET),
        _private,
    ),
    Kind(
        "member-crosses-groups",
        "broadcasts what was written to another group",
        drops(Check.ENVELOPE_TARGET),
        _cross_group,
    ),
    Kind(
        "member-invents-epoch",
        "seals the next message under an epoch of its own",
        drops(Check.EPOCH_KEY_KNOWN),
        _made_up_epoch,
    ),
    Kind("member-garbage", "seals what is no message", drops(Check.PAYLOAD_CANONICAL), _garbage),
    Kind("member-noise", "sends noise behind the group's key id", drops(Check.BROADCAST_OPENS), _unsealed),
)


ROWS = tuple(
    Misbehaviour(kind.name, Liar.INSIDER, kind.does, kind.answer, injects(kind.forge)) for kind in KINDS
)
