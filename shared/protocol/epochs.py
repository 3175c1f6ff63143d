"""Group epochs: the secret that a group's members share until the next join, removal or hour.

The doctor makes an epoch's secret from a fresh random salt and the contributions of the sessions that are online, the formula
of the scheme this project implements made sound: the salt alone carries the secrecy, so a member who contributed to one epoch
learns nothing about the next. Past secrets are never sent again and a patient keeps exactly one epoch a group.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from shared.crypto import kdf
from shared.crypto.aead import TAG_SIZE, Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import PREFIX_SIZE, pad, padme_length, unpad
from shared.crypto.secret import Secret
from shared.errors import InvalidSeal
from shared.wire import framing, messages
from shared.wire.checks import Check, PeerError
from shared.wire.framing import Frame
from shared.wire.messages import GroupKey, SignedMessage
from shared.wire.opcodes import Opcode

KEY_ID_SIZE = 16
MESSAGE_LIMIT = 1 << 20  # a new epoch follows, long before GCM's limits

_PREFIX = struct.Struct(f">{KEY_ID_SIZE}sQ")


class Epoch:
    """One epoch of one group: number, roster hash, and the key that comes from its secret."""

    __slots__ = ("_aead", "group", "key_id", "number", "roster_hash", "secret")

    def __init__(self, group: str, number: int, secret: Secret, roster_hash: bytes) -> None:
        self.group = group
        self.number = number
        self.secret = secret
        self.roster_hash = roster_hash
        material = (secret.reveal(),)
        self.key_id = kdf.derive(Label.EPOCH_KEY_ID, material, length=KEY_ID_SIZE)
        self._aead = Aead(kdf.derive(Label.EPOCH_KEY, material))

    @classmethod
    def begin(
        cls,
        doctor_id: str,
        group: str,
        number: int,
        contributions: Sequence[Secret],
        roster: Sequence[str],
        random: Callable[[int], bytes],
    ) -> Epoch:
        """Doctor: a new epoch.

        Args:
            contributions: c_i of each session that is online, in the order of patient ids.
            roster: the ids of all members, sorted; the epoch is for these and nobody else.
        """
        salt = random(32)
        roster_hash = kdf.digest(Label.ROSTER_HASH, salt, *(member.encode() for member in roster))
        secret = kdf.derive(
            Label.EPOCH_SECRET,
            tuple(contribution.reveal() for contribution in contributions),
            (doctor_id.encode(), group.encode(), number.to_bytes(8, "big"), roster_hash),
            salt=salt,
        )
        return cls(group, number, Secret(secret), roster_hash)

    def group_key(self, start: int) -> GroupKey:
        """The GROUP_KEY message for a member whose stream starts after number `start`."""
        return GroupKey(self.group, self.number, self.secret.reveal(), self.roster_hash, start)

    def seal(self, sequence: int, message: SignedMessage) -> bytes:
        """The finished BROADCAST frame, the same bytes for every member.

        `sequence` is the nonce and nothing else: the log counts it up from zero within the epoch and never repeats it. Order,
        gaps and duplicates are judged by the signed numbers inside.
        """
        plaintext = messages.encode(message)
        padded = pad(plaintext, padme_length(len(plaintext) + PREFIX_SIZE))
        prefix = _PREFIX.pack(self.key_id, sequence)
        head = framing.header(Opcode.BROADCAST, len(prefix) + len(padded) + TAG_SIZE)
        return head + prefix + self._aead.seal(sequence, padded, head + prefix)

    def open(self, sequence: int, frame: Frame) -> SignedMessage:
        """The message of a BROADCAST frame whose key id is this epoch's.

        Raises:
            PeerError: V-075 where it does not open, V-004 where it is not a SignedMessage.
        """
        prefix, sealed = frame.payload[: _PREFIX.size], frame.payload[_PREFIX.size :]
        try:
            plaintext = unpad(self._aead.open(sequence, sealed, frame.header + prefix))
        except InvalidSeal as error:
            detail = f"broadcast {sequence} in epoch {self.number} of {self.group}: {error}"
            raise PeerError(Check.BROADCAST_OPENS, detail) from error  # V-075
        return messages.decode(SignedMessage, plaintext)


class HeldEpochs:
    """Patient: the one current epoch of each group of this session."""

    __slots__ = ("_by_group", "_by_key_id")

    def __init__(self) -> None:
        self._by_group: dict[str, Epoch] = {}
        self._by_key_id: dict[bytes, Epoch] = {}

    def check(self, message: GroupKey) -> Epoch:
        """Judge a group key; changes nothing. The first of a group and session has any number, after it comes exactly +1.

        Raises:
            PeerError: V-071 the same epoch again, V-072 an earlier one, V-073 one that skips.
        """
        held = self._by_group.get(message.group)
        if held is not None:
            detail = f"epoch {message.epoch} of {message.group} after {held.number}"
            if message.epoch == held.number:
                raise PeerError(Check.EPOCH_NOT_REPEATED, detail)  # V-071
            if message.epoch < held.number:
                raise PeerError(Check.EPOCH_NOT_LOWER, detail)  # V-072
            if message.epoch > held.number + 1:
                raise PeerError(Check.EPOCH_NOT_SKIPPED, detail)  # V-073
        return Epoch(message.group, message.epoch, Secret(message.secret), message.roster_hash)

    def hold(self, epoch: Epoch) -> None:
        """Keep `epoch` and forget its predecessor."""
        past = self._by_group.pop(epoch.group, None)
        # Two groups that were given one secret share a key id; the later group holds it.
        if past is not None and self._by_key_id.get(past.key_id) is past:
            del self._by_key_id[past.key_id]
        self._by_group[epoch.group] = epoch
        self._by_key_id[epoch.key_id] = epoch

    def open(self, frame: Frame) -> tuple[str, SignedMessage]:
        """The group and the message of a BROADCAST.

        Raises:
            PeerError: V-074 unknown key id, V-075 does not open, V-004 malformed.
        """
        if len(frame.payload) < _PREFIX.size:
            raise PeerError(Check.PAYLOAD_CANONICAL, f"a BROADCAST of {len(frame.payload)} bytes")  # V-004
        key_id, sequence = _PREFIX.unpack_from(frame.payload)
        epoch = self._by_key_id.get(key_id)
        if epoch is None:
            raise PeerError(Check.EPOCH_KEY_KNOWN, f"key id {key_id.hex()}")  # V-074
        return epoch.group, epoch.open(sequence, frame)
