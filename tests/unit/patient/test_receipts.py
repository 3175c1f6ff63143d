"""Receipts are cumulative per stream, name what expired, and fit a frame."""

from __future__ import annotations

from patient.inbox import StoredMessage
from patient.receipts import EXPIRED_PER_RECEIPT, STREAMS_PER_RECEIPT, DueReceipts
from shared.wire.framing import AUTHENTICATED_LIMIT
from shared.wire.messages import Position, Receipt, Stream, TargetKind, encode

EVERYONE = Stream(TargetKind.GROUP, "everyone")
WARD = Stream(TargetKind.GROUP, "ward")


def stored(stream: Stream, number: int, body: bytes | None = b"x") -> StoredMessage:
    """A stored message."""
    return StoredMessage(stream, number, 0, 0, False, body)


def test_one_receipt_covers_all_since_the_last() -> None:
    """Numbers are not listed: the committed position stands for them."""
    due = DueReceipts()
    for number in (1, 2, 3):
        due.add(stored(EVERYONE, number))
    due.add(stored(WARD, 7))

    receipts = list(due.take({EVERYONE: 3, WARD: 7}.__getitem__))

    assert receipts == [[Position(EVERYONE, 3, []), Position(WARD, 7, [])]]


def test_what_was_taken_is_due_no_more() -> None:
    """The next receipt begins where the last ended."""
    due = DueReceipts()
    due.add(stored(EVERYONE, 1, None))
    list(due.take(lambda _: 1))

    assert list(due.take(lambda _: 1)) == []


def test_expired_numbers_are_named() -> None:
    """The doctor learns what was stored but never shown."""
    due = DueReceipts()
    due.add(stored(EVERYONE, 1))
    due.add(stored(EVERYONE, 2, None))

    assert list(due.take(lambda _: 2)) == [[Position(EVERYONE, 2, [2])]]


def test_a_flood_is_split_into_receipts_that_fit() -> None:
    """Whatever piled up, each RECEIPT stays within the frame's limit, and every number is named once."""
    due = DueReceipts()
    streams = [Stream(TargetKind.GROUP, f"{'g' * 60}{index:03}") for index in range(STREAMS_PER_RECEIPT + 3)]
    numbers = range(2**60, 2**60 + EXPIRED_PER_RECEIPT + 5)
    for number in numbers:
        due.add(stored(streams[0], number, None))
    for stream in streams:
        due.add(stored(stream, numbers[-1] + 1))

    receipts = list(due.take(lambda _: numbers[-1] + 1))

    named = [number for receipt in receipts for position in receipt for number in position.expired]
    assert named == list(numbers)
    assert {position.stream for receipt in receipts for position in receipt} == set(streams)
    assert all(len(encode(Receipt(receipt))) < AUTHENTICATED_LIMIT // 2 for receipt in receipts)
