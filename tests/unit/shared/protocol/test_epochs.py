"""Group epochs: how a secret is made, what is sealed under it, and which one a patient accepts."""

from __future__ import annotations

import pytest

from shared.crypto import kdf
from shared.crypto.aead import Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import unpad
from shared.crypto.secret import Secret
from shared.protocol.epochs import MESSAGE_LIMIT, Epoch, HeldEpochs
from shared.wire import messages
from shared.wire.checks import Check, PeerError
from shared.wire.framing import HEADER_SIZE, Frame
from shared.wire.messages import GroupKey, SignedMessage
from shared.wire.opcodes import AlertCode, Opcode
from tests.crypto_tools import entropy, flipped
from tests.protocol_bench import DOCTOR, GROUP, frame_of
from tests.protocol_puppets import build

MESSAGE = SignedMessage(b"envelope", b"signature", b"s" * 16, b"body")


def begin(
    number: int = 1, group: str = GROUP, seed: str = "epoch", roster: tuple[str, ...] = ("a", "b")
) -> Epoch:
    """An epoch with two contributions."""
    contributions = [Secret(b"a" * 32), Secret(b"b" * 32)]
    return Epoch.begin(DOCTOR, group, number, contributions, roster, entropy(seed))


def held(*epochs: Epoch) -> HeldEpochs:
    """What a patient holds after these group keys."""
    result = HeldEpochs()
    for epoch in epochs:
        result.hold(result.check(epoch.group_key(0)))
    return result


def verdict(state: HeldEpochs, message: GroupKey | Frame) -> tuple[str, AlertCode]:
    """The check that refuses a message."""
    with pytest.raises(PeerError) as caught:
        state.check(message) if isinstance(message, GroupKey) else state.open(message)
    return caught.value.check.number, caught.value.check.alert


def test_the_secret_is_the_formula_of_the_specification() -> None:
    """Contributions as input, the salt as salt, doctor, group, epoch and roster hash as info; computed anew."""
    salt = entropy("epoch")(32)
    roster_hash = kdf.digest(Label.ROSTER_HASH, salt, b"a", b"b")
    info = (b"doctor", b"everyone", bytes(7) + b"\x01", roster_hash)
    secret = kdf.derive(Label.EPOCH_SECRET, (b"a" * 32, b"b" * 32), info, salt=salt)
    epoch = begin()

    assert epoch.secret == Secret(secret)
    assert epoch.roster_hash == roster_hash
    assert epoch.key_id == kdf.derive(Label.EPOCH_KEY_ID, (secret,))[:16]
    assert epoch.group_key(5) == GroupKey(GROUP, 1, secret, roster_hash, 5)


def test_every_part_changes_the_secret() -> None:
    """Number, group, salt and roster; and there is one without any contribution."""
    none = Epoch.begin(DOCTOR, GROUP, 1, [], [], entropy("epoch"))
    others = [begin(), begin(2), begin(group="ward"), begin(seed="other"), begin(roster=("a",)), none]

    assert len({epoch.secret.reveal() for epoch in others}) == len(others)
    assert len({epoch.key_id for epoch in others}) == len(others)


def test_a_broadcast_is_key_id_sequence_and_sealed_message() -> None:
    """The frame, opened by hand: 16 bytes, 8 bytes, and GCM with the sequence as nonce and all before it as data."""
    epoch = begin()
    frame = epoch.seal(513, MESSAGE)
    key = kdf.derive(Label.EPOCH_KEY, (epoch.secret.reveal(),))
    prefix = frame[HEADER_SIZE : HEADER_SIZE + 24]

    assert frame[1] == Opcode.BROADCAST
    assert prefix == epoch.key_id + (513).to_bytes(8, "big")
    padded = Aead(key).open(513, frame[HEADER_SIZE + 24 :], frame[:HEADER_SIZE] + prefix)
    assert messages.decode(SignedMessage, unpad(padded)) == MESSAGE
    assert len(padded) == 256


def test_the_first_key_of_a_group_and_session_has_any_number() -> None:
    """After a reconnect the patient is given the epoch that is current; groups count on their own."""
    state = held(begin(41), begin(7, "ward"), begin(42))

    assert state.open(frame_of(begin(42).seal(0, MESSAGE))) == (GROUP, MESSAGE)
    assert state.open(frame_of(begin(7, "ward").seal(0, MESSAGE))) == ("ward", MESSAGE)


def test_v071_the_same_epoch_again_is_refused() -> None:
    """Also with another secret."""
    assert held(begin(4)).check(begin(5).group_key(0)).number == 5
    assert verdict(held(begin(4)), begin(4, seed="other").group_key(0)) == ("V-071", AlertCode.REFUSED)


def test_v072_an_epoch_that_has_passed_is_refused() -> None:
    """One before, or long ago."""
    state = held(begin(4), begin(5))

    assert state.check(begin(6).group_key(0)).number == 6
    assert verdict(state, begin(4).group_key(0)) == ("V-072", AlertCode.REFUSED)
    assert verdict(state, begin(1).group_key(0)) == ("V-072", AlertCode.REFUSED)


def test_v073_an_epoch_that_skips_one_is_refused() -> None:
    """Exactly one more."""
    assert held(begin(4)).check(begin(5).group_key(0)).number == 5
    assert verdict(held(begin(4)), begin(6).group_key(0)) == ("V-073", AlertCode.REFUSED)


def test_v074_a_broadcast_under_a_key_that_is_not_held_is_refused() -> None:
    """The epoch's successor erases it; a key of the future is not there yet."""
    state = held(begin(4), begin(5))

    assert state.open(frame_of(begin(5).seal(0, MESSAGE)))[1] == MESSAGE
    assert verdict(state, frame_of(begin(4).seal(0, MESSAGE))) == ("V-074", AlertCode.REFUSED)
    assert verdict(state, frame_of(begin(6).seal(0, MESSAGE))) == ("V-074", AlertCode.REFUSED)


def test_v075_a_broadcast_opens_under_its_epoch_key() -> None:
    """Every bit counts: sequence number, ciphertext and tag (a changed key id is another key: V-074)."""
    state, frame = held(begin()), frame_of(begin().seal(3, MESSAGE))
    after_key_id = [frame._replace(payload=frame.payload[:16] + rest) for rest in flipped(frame.payload[16:])]
    of_key_id = [frame._replace(payload=head + frame.payload[16:]) for head in flipped(frame.payload[:16])]

    assert state.open(frame) == (GROUP, MESSAGE)
    assert {verdict(state, changed) for changed in after_key_id} == {("V-075", AlertCode.REFUSED)}
    assert {verdict(state, changed) for changed in of_key_id} == {("V-074", AlertCode.REFUSED)}


def test_v075_the_header_is_covered() -> None:
    """A broadcast cannot be handed over as another message."""
    frame = frame_of(begin().seal(3, MESSAGE))

    assert verdict(held(begin()), frame._replace(opcode=Opcode.DIRECT))[0] == "V-075"


def test_v004_a_broadcast_too_short_for_its_prefix_is_malformed() -> None:
    """Twenty-three bytes and fewer."""
    short = [frame_of(build(Opcode.BROADCAST, bytes(size))) for size in range(24)]

    assert {verdict(held(begin()), frame) for frame in short} == {("V-004", AlertCode.MALFORMED)}
    assert verdict(held(begin()), frame_of(build(Opcode.BROADCAST, bytes(24))))[0] == "V-074"


def test_holding_the_successor_forgets_the_predecessor() -> None:
    """One epoch a group, and nothing else."""
    state = held(begin(4), begin(5), begin(1, "ward"))

    assert sorted(epoch.number for epoch in state._by_group.values()) == [1, 5]
    assert len(state._by_key_id) == 2


def test_judging_a_group_key_changes_nothing() -> None:
    """Holding is a step of its own."""
    state = held(begin(4))
    state.check(begin(5).group_key(0))

    assert state.open(frame_of(begin(4).seal(0, MESSAGE)))[0] == GROUP
    assert Check.EPOCH_KEY_KNOWN.number == verdict(state, frame_of(begin(5).seal(0, MESSAGE)))[0]


def test_the_limit_of_an_epoch_is_far_from_gcms() -> None:
    """2^20 messages of 64 KiB: the birthday bound over its blocks stays below 2^-60."""
    blocks = MESSAGE_LIMIT * (64 * 1024 // 16)

    assert MESSAGE_LIMIT == 1 << 20
    assert blocks**2 / 2**128 < 2**-60
