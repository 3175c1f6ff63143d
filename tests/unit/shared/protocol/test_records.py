"""Records: counter nonces, the ratchet, and what is refused."""

from __future__ import annotations

import pytest

from shared.crypto import kdf
from shared.crypto.aead import Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import pad, unpad
from shared.errors import LocalError
from shared.protocol import records
from shared.protocol.records import RecordOpener, RecordSealer
from shared.wire.checks import PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, HEADER_SIZE
from shared.wire.opcodes import Opcode
from tests.crypto_tools import flipped
from tests.protocol_bench import frame_of, seal_payload

KEY = b"k" * 32


def test_a_record_that_would_not_fit_into_a_frame_is_our_error() -> None:
    """The peer would have to cut the connection for it."""
    sealer = RecordSealer(KEY)
    largest = sealer.seal(Opcode.RECEIPT, bytes(63_000))

    with pytest.raises(LocalError, match="at most 65536 bytes"):
        sealer.seal(Opcode.RECEIPT, bytes(AUTHENTICATED_LIMIT))

    assert len(largest) - HEADER_SIZE <= AUTHENTICATED_LIMIT
    assert sealer.count == 1
