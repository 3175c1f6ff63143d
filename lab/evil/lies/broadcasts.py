"""Doctors that lie in epochs, in broadcasts and in what they sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.evil.letters import BODY, letter
from lab.evil.lies.records import Play, next_envelope, next_epoch, record, truth
from lab.evil.misbehaviour import drops, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.doctor import Doctor
from lab.evil.peer.groups import Epoch
from lab.evil.peer.suites import ECDSA, new_signer
from lab.evil.sides import PatientSide
from lab.evil.stages import HOME
from shared.wire.checks import Check


def sealed(play: Callable[[Doctor, PatientSide], wire.SignedMessage]) -> Play:
    """A broadcast of a message."""

    def act(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        return epoch.broadcast(0, play(peer, side) if lie else truth(peer, side))

    return act


def direct(play: Callable[[Doctor, PatientSide], wire.SignedMessage]) -> Play:
    """The same as a record."""

    def act(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        message = play(peer, side) if lie else truth(peer, side)
        return peer.record(wire.DIRECT, wire.Direct(0, message))

    return act


def _altered(**changes: Any) -> Callable[[Doctor, PatientSide], wire.SignedMessage]:
    """A message whose envelope says something else, and is signed so."""
    return lambda peer, side: letter(peer.practice.envelope_key, next_envelope(peer, side, **changes))


def _forged(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    """The envelope names the doctor's key, and another key signs it."""
    return letter(new_signer(ECDSA, peer.random), next_envelope(peer, side))


def _swapped_body(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    return truth(peer, side)._replace(body=b"Take twenty.")


def _other_salt(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    return truth(peer, side)._replace(salt=b"\1" * 16)


def _no_body(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    return truth(peer, side)._replace(body=None)


def _respelled_envelope(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    """A signature over a second spelling of the envelope: the number in two bytes."""
    key = peer.practice.envelope_key
    spelled = wire.respelled(next_envelope(peer, side), 4, b"\xcc\x0a")
    return wire.SignedMessage(spelled, key.sign(eq.ENVELOPE_SIGNATURE, spelled), bytes(16), BODY)


def _wrong_label(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    key, encoded = peer.practice.envelope_key, wire.encode(next_envelope(peer, side))
    return wire.SignedMessage(encoded, key.sign(eq.AUTH_SIGNATURE, encoded), bytes(16), BODY)


def _foreign_epoch(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    used = Epoch.begin(peer.practice.doctor_id, HOME.name, 5, [], [], peer.random) if lie else epoch
    return used.broadcast(0, truth(peer, side))


def _bent_broadcast(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    frame = epoch.broadcast(0, truth(peer, side))
    return frame[:-1] + bytes([frame[-1] ^ lie])


def _other_sequence(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    frame = epoch.broadcast(0, truth(peer, side))
    return frame[:29] + bytes([lie]) + frame[30:]


def _short_broadcast(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    return wire.build(wire.BROADCAST, epoch.key_id) if lie else epoch.broadcast(0, truth(peer, side))


def _padded_broadcast(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    return epoch.broadcast_bytes(0, wire.encode(truth(peer, side)) + bytes(lie))


def _private_for(name: str) -> Callable[[Doctor, PatientSide], wire.SignedMessage]:
    """A private message for another, or for another key of that name."""

    def play(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
        stream = wire.Stream(wire.PATIENT, name)
        return _altered(stream=stream, fingerprint="a" * 32)(peer, side)

    return play


EPOCHS = (
    record("epoch-repeated", "sends the group's epoch again", fails(Check.EPOCH_NOT_REPEATED), next_epoch(0)),
    record("epoch-lower", "sends an epoch that has passed", fails(Check.EPOCH_NOT_LOWER), next_epoch(-1)),
    record("epoch-skipped", "skips an epoch", fails(Check.EPOCH_NOT_SKIPPED), next_epoch(2)),
    record(
        "foreign-group-key",
        "seals a broadcast under a key that the group never had",
        drops(Check.EPOCH_KEY_KNOWN),
        _foreign_epoch,
    ),
    record("broadcast-bit", "changes a bit of a broadcast", drops(Check.BROADCAST_OPENS), _bent_broadcast),
    record(
        "broadcast-sequence",
        "writes another sequence number before a broadcast",
        drops(Check.BROADCAST_OPENS),
        _other_sequence,
    ),
    record(
        "broadcast-short",
        "sends a broadcast that is shorter than its prefix",
        drops(Check.PAYLOAD_CANONICAL),
        _short_broadcast,
    ),
    record(
        "broadcast-trailing-byte",
        "seals a byte behind the message",
        drops(Check.PAYLOAD_CANONICAL),
        _padded_broadcast,
    ),
)


ENVELOPES = (
    record(
        "envelope-other-doctor",
        "broadcasts an envelope of another doctor",
        drops(Check.ENVELOPE_DOCTOR),
        sealed(_altered(doctor_id="another")),
    ),
    record(
        "envelope-other-key",
        "names another signing key",
        drops(Check.ENVELOPE_DOCTOR),
        sealed(_altered(signing_key="b" * 32)),
    ),
    record(
        "envelope-wrong-label",
        "signs an envelope under the label of a request",
        drops(Check.ENVELOPE_SIGNATURE),
        sealed(_wrong_label),
    ),
    record(
        "envelope-respelled",
        "signs a second spelling of an envelope",
        drops(Check.PAYLOAD_CANONICAL),
        sealed(_respelled_envelope),
    ),
    record(
        "envelope-foreign-group",
        "broadcasts to one group what it signed for another",
        drops(Check.ENVELOPE_TARGET),
        sealed(_altered(stream=wire.Stream(wire.GROUP, "ward-b"))),
    ),
    record(
        "private-broadcast",
        "broadcasts a private message",
        drops(Check.ENVELOPE_TARGET),
        sealed(_private_for("alice")),
    ),
    record(
        "private-of-another",
        "sends one patient the private message of another",
        fails(Check.ENVELOPE_TARGET),
        direct(_private_for("bystander")),
    ),
    record(
        "private-of-another-key",
        "sends a private message for an earlier key of the same name",
        fails(Check.ENVELOPE_TARGET),
        direct(_private_for("alice")),
    ),
    record(
        "body-swapped",
        "puts another body beside the envelope",
        drops(Check.ENVELOPE_BODY),
        sealed(_swapped_body),
    ),
    record(
        "salt-swapped",
        "puts another salt beside the envelope",
        drops(Check.ENVELOPE_BODY),
        sealed(_other_salt),
    ),
    record(
        "body-hidden",
        "leaves the body of a message out that has not expired",
        drops(Check.ENVELOPE_BODY_PRESENT),
        sealed(_no_body),
    ),
    record(
        "hidden-message",
        "leaves a message out and goes on",
        drops(Check.ENVELOPE_PREVIOUS),
        sealed(_altered(number=20, previous=10)),
    ),
    record(
        "hidden-direct",
        "leaves a message out and goes on, in records",
        fails(Check.ENVELOPE_PREVIOUS),
        direct(_altered(number=20, previous=10)),
    ),
    record(
        "direct-forged",
        "sends a record whose envelope another key has signed",
        fails(Check.ENVELOPE_SIGNATURE),
        direct(_forged),
    ),
    record(
        "direct-other-key",
        "names another signing key in a record",
        fails(Check.ENVELOPE_DOCTOR),
        direct(_altered(signing_key="c" * 32)),
    ),
)


ROWS = (*EPOCHS, *ENVELOPES)
