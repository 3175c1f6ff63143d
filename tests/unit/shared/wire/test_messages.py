"""The messages: canonical encoding, bounds, and reprs that keep secrets and patients' data to themselves."""

from __future__ import annotations

from dataclasses import is_dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from shared.protocol.events import MessageReceived
from shared.wire import messages
from shared.wire.checks import Check, PeerError
from shared.wire.messages import (
    AuthClaims,
    AuthProof,
    Direct,
    Envelope,
    GroupKey,
    KeyExchange,
    Position,
    Receipt,
    ResponseClaims,
    SignedMessage,
    Stream,
    TargetKind,
    Wire,
)

SECRET = b"canary-canary-canary-canary-cana"
STREAM = Stream(TargetKind.GROUP, "everyone")
SIGNED = SignedMessage(b"envelope", b"signature", b"s" * 16, SECRET)
ENVELOPE = Envelope("doctor", "a" * 32, STREAM, "", 5, 4, 1, 2, 1, bytes(32))


@pytest.mark.parametrize(
    "holder",
    [
        AuthClaims(1, bytes(32), "doctor", "patient-a", 1, b"", SECRET, None),
        AuthProof(SECRET, b"", None),
        ResponseClaims(1, bytes(32), bytes(32), "patient-a", SECRET),
        messages.ResponseProof(SECRET, bytes(32), b""),
        GroupKey("everyone", 1, SECRET, bytes(32), 0),
        SIGNED,
        Direct(0, SIGNED),
        MessageReceived(ENVELOPE, SECRET, direct=False),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_a_repr_shows_neither_a_secret_nor_a_body(holder: object) -> None:
    """Whatever ends in a log or a traceback names the message and not its content."""
    text = repr(holder)

    assert type(holder).__name__ in text
    assert "canary" not in text
