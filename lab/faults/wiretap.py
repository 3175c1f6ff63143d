"""What can be read of a capture with the keys that somebody held, and which nonces were used twice in it.

Law: this side believes nobody. A message is readable by whoever held a key that opens it here, whatever a key id or a device says.

What is tried: (a) each record under the keys of its own session, with the counter of its place in the stream; (b) every epoch secret
that any device has taken down or any GROUP_KEY in the capture has brought, on every BROADCAST, whatever key id it bears; (c) both keys of
every session of the `suspects`, those who have left and outsiders, on every BROADCAST and on every record that (a) could not
open. All session keys differ from one another, which is checked, and what (a) has opened is sealed under one of
them: so on those records no other party's key needs to be tried.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from lab.faults.capture import Capture, Way
from lab.faults.keys import KeyRing, SessionKey, connection_digest
from shared.crypto import kdf
from shared.crypto.aead import Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import unpad
from shared.errors import InvalidSeal
from shared.protocol.epochs import KEY_ID_SIZE
from shared.protocol.records import RecordOpener
from shared.wire import messages
from shared.wire.checks import PeerError
from shared.wire.framing import Frame
from shared.wire.messages import Direct, Envelope, GroupKey, SignedMessage
from shared.wire.opcodes import Opcode

_PREFIX_SIZE = KEY_ID_SIZE + 8
_RECORDS = frozenset(
    {
        Opcode.GROUP_KEY,
        Opcode.DIRECT,
        Opcode.RECEIPT,
        Opcode.RESEND_REQUEST,
        Opcode.REPORT,
        Opcode.REPORT_RECEIPT,
        Opcode.DISCONNECT,
        Opcode.ALERT,
        Opcode.PING,
        Opcode.PONG,
    }
)


@dataclass(frozen=True, slots=True)
class Readable:
    """A message that `holder` could read. `body` None: it was sent without."""

    holder: str
    stream: str
    number: int
    body: bytes | None
    how: str


@dataclass(frozen=True, slots=True)
class Broadcast:
    """One BROADCAST frame, apart: `header` is what its seal authenticates in front of the ciphertext."""

    key_id: bytes
    sequence: int
    header: bytes
    sealed: bytes

    @property
    def name(self) -> str:
        """For people."""
        return f"broadcast {self.sequence} under key {self.key_id.hex()[:8]}"


@dataclass(slots=True)
class Wiretap:
    """What came of reading a capture.

    Attributes:
        readable: who could read what.
        repeats: a sentence for each nonce that was used twice under a key.
        sealed_otherwise: a sentence for each record that does not open under its own session's key.
        records, broadcasts: how many there are; of the latter, distinct ones.
        opened_records, opened_broadcasts: how many of them opened under some key.
        tried: how often a key was tried.
    """

    readable: set[Readable] = field(default_factory=set)
    repeats: list[str] = field(default_factory=list)
    sealed_otherwise: list[str] = field(default_factory=list)
    records: int = 0
    broadcasts: int = 0
    opened_records: int = 0
    opened_broadcasts: int = 0
    tried: int = 0


def read(capture: Capture, keys: KeyRing, suspects: Iterable[str] = ()) -> Wiretap:
    """Read a capture with every key there is.

    Args:
        suspects: whose session keys are tried on what is not theirs.
    """
    return _Reader(capture, keys, frozenset(suspects)).read()


class _Reader:
    def __init__(self, capture: Capture, keys: KeyRing, suspects: frozenset[str]) -> None:
        self._capture = capture
        self._sessions = keys.sessions
        self._tap = Wiretap()
        self._holders: dict[bytes, set[str]] = defaultdict(set)  # of each epoch secret
        for key in keys.epochs:
            self._holders[key.secret].add(key.holder)
        self._suspected = [key for key in keys.sessions if key.holder in suspects]
        self._unopened: list[tuple[Frame, int]] = []

    def read(self) -> Wiretap:
        self._check_sessions_differ()
        names = self._connections()
        by_name = {key.connection: key for key in self._sessions}
        for way in Way:
            by_connection = itertools.groupby(self._capture.frames(way), key=itemgetter(0))
            for connection, found in by_connection:
                records = (frame for _, frame in found if frame.opcode in _RECORDS)
                self._read_session(connection, way, by_name.get(names.get(connection, "")), records)
        broadcasts = self._distinct_broadcasts()
        self._try_epochs(broadcasts)
        self._try_suspects(broadcasts)
        return self._tap

    def _check_sessions_differ(self) -> None:
        seen: dict[bytes, str] = {}
        for key in self._sessions:
            for way, value in (("to the doctor", key.to_doctor), ("to the patient", key.to_patient)):
                place = f"{key.holder}'s session {key.connection[:8]} {way}"
                if value in seen:
                    self._tap.repeats.append(
                        f"{place} has the record key of {seen[value]}: its nonces repeat."
                    )
                seen[value] = place

    def _connections(self) -> dict[int, str]:
        """The name of each connection, by its first frame."""
        names: dict[int, str] = {}
        for connection, frame in self._capture.frames(Way.TO_DOCTOR):
            names.setdefault(connection, connection_digest(frame.data))
        return names

    # Records

    def _read_session(
        self, connection: int, way: Way, key: SessionKey | None, records: Iterable[Frame]
    ) -> None:
        if key is None:
            # Of a handshake that failed, only an alert in clear; of a device that was not watched, everything.
            unopened = [(frame, counter) for counter, frame in enumerate(records)]
            self._tap.records += len(unopened)
            self._unopened += unopened
            return
        material = key.to_doctor if way is Way.TO_DOCTOR else key.to_patient
        opener = RecordOpener(material)
        for frame in records:
            if frame.opcode is Opcode.ALERT and opener.count == 0:
                continue  # in clear, or sealed under the handshake's own key
            self._tap.records += 1
            self._tap.tried += 1
            try:
                plaintext = opener.open(frame)
            except PeerError:
                self._note_unopened(connection, way, key, frame, opener.count)
            else:
                self._tap.opened_records += 1
                self._look_into(key.holder, frame, plaintext)
            opener.advance()

    def _note_unopened(self, connection: int, way: Way, key: SessionKey, frame: Frame, count: int) -> None:
        self._unopened.append((frame, count))
        place = f"record {count} ({frame.opcode.name}) {way.value} of {key.holder}'s connection {connection}"
        material = key.to_doctor if way is Way.TO_DOCTOR else key.to_patient
        for earlier in range(count):
            if self._opens(Aead(material), earlier, frame.payload, frame.header) is not None:
                self._tap.repeats.append(f"The nonce {earlier} was used again: {place}.")
                return
        self._tap.sealed_otherwise.append(f"The {place} does not open under its session's key.")

    def _look_into(self, holder: str, frame: Frame, plaintext: bytes) -> None:
        if frame.opcode is Opcode.GROUP_KEY:
            self._holders[messages.decode(GroupKey, plaintext).secret].add(holder)
        elif frame.opcode is Opcode.DIRECT:
            self._note_readable({holder}, messages.decode(Direct, plaintext).message, "DIRECT")

    # Broadcasts

    def _distinct_broadcasts(self) -> list[Broadcast]:
        found: dict[tuple[bytes, int], set[Broadcast]] = defaultdict(set)
        for _, frame in self._capture.frames(Way.TO_PATIENT):
            if frame.opcode is Opcode.BROADCAST and len(frame.payload) > _PREFIX_SIZE:
                broadcast = _take_apart(frame)
                found[broadcast.key_id, broadcast.sequence].add(broadcast)
        for variants in found.values():
            if len(variants) > 1:
                name = next(iter(variants)).name
                self._tap.repeats.append(f"There are {len(variants)} different texts of {name}.")
        distinct = [broadcast for variants in found.values() for broadcast in variants]
        self._tap.broadcasts = len(distinct)
        return distinct

    def _try_epochs(self, broadcasts: list[Broadcast]) -> None:
        opened = set()
        used: dict[tuple[bytes, int], Broadcast] = {}
        for secret, holders in self._holders.items():
            aead = Aead(kdf.derive(Label.EPOCH_KEY, (secret,)))
            for broadcast in broadcasts:
                plaintext = self._opens(aead, broadcast.sequence, broadcast.sealed, broadcast.header)
                if plaintext is None:
                    continue
                opened.add(broadcast)
                self._note_readable(holders, messages.decode(SignedMessage, plaintext), "BROADCAST")
                other = used.setdefault((secret, broadcast.sequence), broadcast)
                if other.key_id != broadcast.key_id:
                    self._tap.repeats.append(f"{other.name} and {broadcast.name} share key and nonce.")
        self._tap.opened_broadcasts = len(opened)

    def _try_suspects(self, broadcasts: list[Broadcast]) -> None:
        for key in self._suspected:
            for material in (key.to_doctor, key.to_patient):
                aead = Aead(material)
                for broadcast in broadcasts:
                    plaintext = self._opens(aead, broadcast.sequence, broadcast.sealed, broadcast.header)
                    if plaintext is not None:
                        how = "a BROADCAST under a session's key"
                        self._note_readable({key.holder}, messages.decode(SignedMessage, plaintext), how)
                for frame, counter in self._unopened:
                    plaintext = self._opens(aead, counter, frame.payload, frame.header)
                    if plaintext is not None:
                        self._look_into(key.holder, frame, plaintext)

    def _opens(self, aead: Aead, counter: int, sealed: bytes, associated: bytes) -> bytes | None:
        self._tap.tried += 1
        try:
            return unpad(aead.open(counter, sealed, associated))
        except InvalidSeal:
            return None

    def _note_readable(self, holders: Iterable[str], message: SignedMessage, how: str) -> None:
        envelope = messages.decode(Envelope, message.envelope)
        for holder in holders:
            self._tap.readable.add(Readable(holder, str(envelope.stream), envelope.number, message.body, how))


def _take_apart(frame: Frame) -> Broadcast:
    prefix, sealed = frame.payload[:_PREFIX_SIZE], frame.payload[_PREFIX_SIZE:]
    sequence = int.from_bytes(prefix[KEY_ID_SIZE:], "big")
    return Broadcast(prefix[:KEY_ID_SIZE], sequence, frame.header + prefix, sealed)


def places(capture: Capture) -> Iterator[tuple[str, bytes]]:
    """The bytes on the wire, by connection and direction: where to look for what must not be there in clear."""
    for connection, way in capture.lines:
        yield f"the wire, connection {connection} {way.value}", b"".join(capture.pieces((connection, way)))
