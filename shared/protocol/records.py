"""Records: everything after the handshake but BROADCAST, sealed one by one in each direction.

A record's payload is AES-256-GCM of the padded message, with the frame's header as associated data and a counter as nonce.
The counter is never sent: both sides count, so a record that was dropped, repeated or moved does not open. Every
2^16 records the key is replaced by a derivation of itself, so that a key stolen later opens nothing earlier.

The counter never restarts under a key: it starts at zero with a fresh handshake's key and is never stored, so a restart, a
reconnect or a restored backup begins with other keys (I6).
"""

from __future__ import annotations

from shared.crypto import kdf
from shared.crypto.aead import TAG_SIZE, Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import PREFIX_SIZE, pad, padme_length, unpad
from shared.errors import InvalidSeal, LocalError
from shared.wire import framing
from shared.wire.checks import Check, PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, Frame
from shared.wire.opcodes import Opcode

RATCHET_INTERVAL = 1 << 16


class _Direction:
    """One direction's key and counter."""

    __slots__ = ("_aead", "_key", "count")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._aead = Aead(key)
        self.count = 0

    def advance(self) -> None:
        """On to the next record, and to the next key where the ratchet turns."""
        self.count += 1
        if self.count % RATCHET_INTERVAL == 0:
            self._key = kdf.derive(Label.RATCHET, (self._key,))
            self._aead = Aead(self._key)


class RecordSealer(_Direction):
    """Seals what this side sends."""

    __slots__ = ()

    def seal(self, opcode: Opcode, plaintext: bytes) -> bytes:
        """The finished frame of one record. Raises LocalError where it would be larger than the peer accepts."""
        padded = pad(plaintext, padme_length(len(plaintext) + PREFIX_SIZE))
        size = len(padded) + TAG_SIZE
        if size > AUTHENTICATED_LIMIT:
            raise LocalError(f"a record of {size} bytes; a frame takes at most {AUTHENTICATED_LIMIT} bytes")
        head = framing.header(opcode, size)
        frame = head + self._aead.seal(self.count, padded, head)
        self.advance()
        return frame


class RecordOpener(_Direction):
    """Opens what the peer sends."""

    __slots__ = ()

    def open(self, frame: Frame) -> bytes:
        """The plaintext of the next record. Changes nothing: whoever accepts the record calls `advance`.

        Raises:
            PeerError: V-070.
        """
        try:
            return unpad(self._aead.open(self.count, frame.payload, frame.header))
        except InvalidSeal as error:
            detail = f"record {self.count} ({frame.opcode.name}): {error}"
            raise PeerError(Check.RECORD_OPENS, detail) from error  # V-070
