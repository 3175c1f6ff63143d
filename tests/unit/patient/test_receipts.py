"""Receipts are cumulative per stream, name what expired, and fit a frame."""

from __future__ import annotations

from patient.receipts import EXPIRED_PER_RECEIPT, STREAMS_PER_RECEIPT, DueReceipts, receipts
from shared.wire.framing import AUTHENTICATED_LIMIT
from shared.wire.messages import Position, Receipt, Stream, TargetKind, encode

EVERYONE = Stream(TargetKind.GROUP, "everyone")
WARD = Stream(TargetKind.GROUP, "ward")


def test_one_receipt_covers_all_since_the_last() -> None:
    """Numbers are not listed: the committed position stands for them."""
    due = DueReceipts()
    for _ in range(3):
        due.add(EVERYONE)
    due.add(WARD)

    found = list(due.take({EVERYONE: 3, WARD: 7}.__getitem__))

    assert found == [[Position(EVERYONE, 3, []), Position(WARD, 7, [])]]


def test_what_was_taken_is_due_no_more() -> None:
    """The next receipt begins where the last ended."""
    due = DueReceipts()
    due.add(EVERYONE, [1])
    list(due.take(lambda _: 1))

    assert list(due.take(lambda _: 1)) == []


def test_expired_numbers_are_named_once_and_in_order() -> None:
    """The doctor learns what was stored but never shown, however often it became due."""
    due = DueReceipts()
    due.add(EVERYONE, [2])
    due.add(EVERYONE)
    due.add(EVERYONE, [1, 2])

    assert list(due.take(lambda _: 3)) == [[Position(EVERYONE, 3, [1, 2])]]


def test_no_receipt_covers_an_expired_number_that_a_later_one_names() -> None:
    """What a position covers and does not name counts as delivered from then on."""
    numbers = range(10, 10 + 2 * EXPIRED_PER_RECEIPT + 5)

    found = [position for (position,) in receipts({EVERYONE: numbers}, lambda _: 5000)]

    assert [position.last for position in found] == [1033, 2057, 5000]
    told = 0
    for position in found:
        covered = [number for number in numbers if told < number <= position.last]
        assert position.expired == covered
        told = position.last


def test_a_flood_is_split_into_receipts_that_fit() -> None:
    """Whatever piled up, each RECEIPT stays within the frame's limit, and every number is named once."""
    streams = [Stream(TargetKind.GROUP, f"{'g' * 60}{index:03}") for index in range(STREAMS_PER_RECEIPT + 3)]
    numbers = list(range(2**60, 2**60 + EXPIRED_PER_RECEIPT + 5))
    expired: dict[Stream, list[int]] = {stream: [] for stream in streams}
    expired[streams[1]] = expired[streams[2]] = numbers

    found = list(receipts(expired, lambda _: numbers[-1] + 1))

    named = [number for receipt in found for position in receipt for number in position.expired]
    assert named == numbers * 2
    assert {position.stream for receipt in found for position in receipt} == set(streams)
    assert all(len(receipt) <= STREAMS_PER_RECEIPT for receipt in found)
    assert all(len(encode(Receipt(receipt))) < AUTHENTICATED_LIMIT // 2 for receipt in found)


def test_no_stream_needs_no_receipt() -> None:
    """A device that has received nothing has nothing to tell."""
    assert list(receipts({}, lambda _: 0)) == []
