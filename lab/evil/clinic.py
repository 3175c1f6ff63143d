"""The defenders: the real connections of a doctor and of patients, each with a small program around it, all in memory.

Law: the protocol's verdicts are the product's own; what stands here is what the two programs add to them: a roster, an inbox, receipts,
DIRECT for what was missed. Whatever takes effect is written down as one sentence, so that "nothing came of it" can be counted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import SUITES, Suite, SuiteId
from shared.protocol import envelopes
from shared.protocol.clock import SECOND, Instant
from shared.protocol.cookies import CookieJar
from shared.protocol.doctor_handshake import Member, OpenInvitation, Practice, Standing
from shared.protocol.envelopes import Draft, Reader
from shared.protocol.epochs import Epoch
from shared.protocol.events import Verified
from shared.protocol.patient_handshake import Enrolment, Identity
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.wire.messages import SignedMessage, Stream, TargetKind

WALL = 1_800_000_000_000  # January 2027
DAY = 24 * 3600 * SECOND
DOCTOR = "doctor"
EVERYONE = Stream(TargetKind.GROUP, "everyone")
ON_THE_CURVE = frozenset({SuiteId.ELGAMAL_P256, SuiteId.ELGAMAL_P256_MLKEM768})


def entropy(seed: str) -> Callable[[int], bytes]:
    """Bytes that depend on the seed alone and never repeat."""
    calls = count()
    return lambda size: hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size)


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = Instant(WALL, 1_000_000)

    def advance(self, milliseconds: int) -> None:
        """Let time pass."""
        self.now = Instant(self.now.wall + milliseconds, self.now.elapsed + milliseconds)

    def jump(self, milliseconds: int) -> None:
        """Set the wall clock; no time passes."""
        self.now = Instant(self.now.wall + milliseconds, self.now.elapsed)


@dataclass
class Ledger:
    """What a doctor has on its disk; `copy` is a backup."""

    members: dict[str, Member] = field(default_factory=dict)
    invitations: dict[bytes, OpenInvitation] = field(default_factory=dict)
    accepted: dict[Stream, list[tuple[int, SignedMessage]]] = field(default_factory=dict)
    delivered: dict[tuple[str, Stream], int] = field(default_factory=dict)
    reports: dict[tuple[str, bytes], bytes] = field(default_factory=dict)

    def copy(self) -> Ledger:
        """As it is now."""
        accepted = {stream: list(rows) for stream, rows in self.accepted.items()}
        return Ledger(
            dict(self.members), dict(self.invitations), accepted, dict(self.delivered), dict(self.reports)
        )

    # What the handshake asks of a directory

    def member(self, patient_id: str) -> Member | None:
        """The row of an id."""
        return self.members.get(patient_id)

    def owner(self, key_fingerprint: str) -> Member | None:
        """The row that holds a key."""
        rows = self.members.values()
        return next(
            (row for row in rows if fingerprint(row.algorithm, row.public_key) == key_fingerprint), None
        )

    def invitation(self, invitation_id: bytes) -> OpenInvitation | None:
        """An open invitation."""
        return self.invitations.get(invitation_id)


@dataclass
class Inbox:
    """What a device has on its disk."""

    messages: dict[Stream, list[tuple[int, bytes | None]]] = field(default_factory=dict)
    positions: dict[Stream, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Device:
    """One real patient: who it is, whom it believes, what it has."""

    identity: Identity
    reader: Reader
    inbox: Inbox

    @property
    def patient_id(self) -> str:
        """Its id."""
        return self.identity.patient_id


class Clinic:
    """One real doctor, as far as all its connections share it.

    Attributes:
        effects: what has taken effect, in order, at the doctor and at its patients' devices.
        pressed: whether the doctor asks newcomers for a cookie.
    """

    def __init__(
        self,
        seed: str,
        *,
        doctor_id: str = DOCTOR,
        clock: Clock | None = None,
        suites: frozenset[SuiteId] = ON_THE_CURVE,
        deadline: int = 10 * SECOND,
    ) -> None:
        self.random = entropy(seed)
        self.clock = clock or Clock()
        self.ledger = Ledger()
        self.effects: list[str] = []
        self.pressed = False
        algorithms = {Algorithm.ECDSA_P256} | {SUITES[each].signer.algorithm for each in suites}
        self.keys: Mapping[Algorithm, SigningKey] = {
            each: SIGNERS[each].generate(self.random) for each in sorted(algorithms)
        }
        self.envelope_key = self.keys[Algorithm.ECDSA_P256]
        self.practice = Practice(
            doctor_id,
            self.keys,
            suites,
            self.ledger,
            PrekeyRing(doctor_id, self.keys, self.random),
            ReplayCache(60 * SECOND),
            self.random,
            handshake_deadline=deadline,
            cookies=CookieJar(self.random, lambda: self.pressed),
        )
        self.epoch = self._new_epoch(1)
        self.sequence = 0
        self._number = 1000

    def restart(self, ledger: Ledger | None = None) -> None:
        """The doctor's process begins anew with what is on the disk, or with a backup: an empty memory, a new epoch."""
        self.ledger = ledger or self.ledger
        ring = PrekeyRing(self.practice.doctor_id, self.keys, self.random)
        self.practice = replace(
            self.practice, directory=self.ledger, prekeys=ring, replays=ReplayCache(60 * SECOND)
        )
        self.next_epoch()

    def note(self, effect: str) -> None:
        """Something has taken effect."""
        self.effects.append(effect)

    # Patients

    def roster(
        self, patient_id: str, algorithm: Algorithm, public: bytes, standing: Standing = Standing.ACTIVE
    ) -> None:
        """Put a patient on the roster."""
        self.ledger.members[patient_id] = Member(patient_id, algorithm, public, standing)

    def device(
        self, patient_id: str, suite: Suite, *, key: SigningKey | None = None, enrolled: bool = True
    ) -> Device:
        """A real patient's device that has pinned this doctor."""
        algorithm = suite.signer.algorithm
        key = key or suite.signer.generate(self.random)
        enrolment = None
        if enrolled:
            self.roster(patient_id, algorithm, key.public)
        else:
            enrolment = Enrolment(*self.invite(patient_id))
        name, doctor_id = fingerprint(algorithm, key.public), self.practice.doctor_id
        identity = Identity(patient_id, key, suite, doctor_id, self.keys[algorithm].public, enrolment)
        return Device(identity, Reader(patient_id, name, doctor_id, self.envelope_key.public), Inbox())

    def invite(self, patient_id: str | None, *, uses: int = 1, lifetime: int = DAY) -> tuple[bytes, bytes]:
        """An open invitation: its id and its secret. `patient_id` None: a fleet's."""
        invitation_id, secret = self.random(16), self.random(32)
        expires = self.clock.now.wall + lifetime
        self.ledger.invitations[invitation_id] = OpenInvitation(secret, expires, uses, patient_id)
        return invitation_id, secret

    def admit(self, verified: Verified) -> bool:
        """The roster's transaction; False where the invitation's last use went to another meanwhile."""
        ledger, name = self.ledger, verified.patient_id
        if name not in ledger.members:
            invitation_id = verified.invitation_id or b""
            found = ledger.invitations[invitation_id]
            if found.uses_left < 1:
                return False
            left = found.uses_left - 1
            ledger.invitations[invitation_id] = OpenInvitation(
                found.secret, found.expires, left, found.patient_id
            )
            self.note(f"{name} is enrolled")
        self.roster(name, verified.algorithm, verified.public_key)
        self.note(f"{name} is admitted")
        return True

    # Groups and messages

    def _new_epoch(self, number: int, group: str = EVERYONE.name) -> Epoch:
        return Epoch.begin(
            self.practice.doctor_id, group, number, [], sorted(self.ledger.members), self.random
        )

    def next_epoch(self) -> Epoch:
        """The group of everyone goes on to its next epoch."""
        self.epoch, self.sequence = self._new_epoch(self.epoch.number + 1), 0
        return self.epoch

    def accept(
        self, body: bytes, stream: Stream = EVERYONE, *, name: str = "", lifetime: int = DAY
    ) -> SignedMessage:
        """Accept a message: give it its place and sign it."""
        now = self.clock.now.wall
        rows = self.ledger.accepted.setdefault(stream, [])
        previous, self._number = rows[-1][0] if rows else 0, self._number + 7
        message = envelopes.sign(
            self.practice.doctor_id,
            self.envelope_key,
            Draft(stream, name, now, now + lifetime, body),
            self._number,
            previous,
            self.random,
        )
        rows.append((self._number, message))
        return message

    def seal(self, message: SignedMessage) -> bytes:
        """The BROADCAST of a message in the present epoch."""
        frame = self.epoch.seal(self.sequence, message)
        self.sequence += 1
        return frame

    def issued_to(self, patient_id: str, stream: Stream) -> int:
        """The last number that can have been sent to a patient."""
        if stream.kind is TargetKind.PATIENT and stream.name != patient_id:
            return 0
        rows = self.ledger.accepted.get(stream, [])
        return rows[-1][0] if rows else 0

    def owed(self, patient_id: str, stream: Stream, position: int) -> list[SignedMessage]:
        """What a patient that stands at `position` still lacks."""
        if stream.kind is TargetKind.PATIENT and stream.name != patient_id:
            return []
        return [message for number, message in self.ledger.accepted.get(stream, []) if number > position]
