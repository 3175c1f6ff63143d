"""Durable acceptance: numbers, signatures, bodies at rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor import groups, streams
from doctor.outbox import Accepted, MessageRequest
from shared.crypto.signatures import Algorithm, fingerprint
from shared.errors import StorageError, UserError
from shared.protocol.clock import Instant
from shared.protocol.envelopes import Reader
from shared.wire import messages
from shared.wire.messages import BODY_LIMIT, Envelope
from tests.doctor_bench import EVERYONE, Books, on_a_loop, running
from tests.protocol_bench import DAY


def envelope(accepted: Accepted) -> Envelope:
    """The signed part."""
    return messages.decode(Envelope, accepted.message.envelope)


def at(books: Books, now: int, group: str = "everyone") -> Accepted:
    """Accept at a given time."""
    return books.outbox.accept(books.db, MessageRequest(streams.of_group(group), b"x", DAY), now, "operator")


def test_numbers_come_from_the_clock_and_only_grow(books: Books) -> None:
    """Also while it stands still and after it has jumped back; each envelope names its predecessor."""
    now = books.now
    times = [now, now, now, now - DAY, now + 1, now - 1]

    accepted = [at(books, each) for each in times]

    numbers = [each.number for each in accepted]
    first = now * 1000
    assert numbers == [first, first + 1, first + 2, first + 3, first + 1000, first + 1001]
    assert [envelope(each).previous for each in accepted] == [0, *numbers[:-1]]


def test_each_group_counts_for_itself(books: Books) -> None:
    """A number is taken in one stream, whatever the others are at."""
    groups.create(books.db, "ward", books.now, "operator")
    first, other = at(books, books.now), at(books, books.now, "ward")

    assert first.number == other.number
    assert (envelope(first).previous, envelope(other).previous) == (0, 0)


def test_a_transaction_that_fails_gives_its_number_back(books: Books) -> None:
    """The next message follows the last one that was accepted, or its readers would wait for ever."""
    first = at(books, books.now)
    books.db.execute("BEGIN")
    lost = at(books, books.now)
    books.db.execute("ROLLBACK")

    second = at(books, books.now)

    assert second.number == lost.number
    assert envelope(second).previous == first.number
    assert envelope(second).body_hash != envelope(lost).body_hash


@on_a_loop
async def test_a_failed_batch_of_the_writer_gives_its_numbers_back(tmp_path: Path) -> None:
    """Through the one writer: a batch that the disk refuses, then one that it takes."""
    async with running(tmp_path) as doctor:
        first = await doctor.broadcast("one")
        await doctor.writer.submit(lambda db: db.execute("PRAGMA max_page_count = 1").fetchone())
        results = await asyncio.gather(
            *(doctor.broadcast("x" * 30_000) for _ in range(40)), return_exceptions=True
        )
        assert any(isinstance(result, StorageError) for result in results)
        await doctor.writer.submit(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchone())

        second = await doctor.broadcast("two")

        stored = doctor.reader.execute("SELECT number, envelope FROM messages ORDER BY number").fetchall()
        chain = [messages.decode(Envelope, row[1]).previous for row in stored]
        assert chain == [0, *(row[0] for row in stored[:-1])]
        assert stored[0][0] == first.number
        assert stored[-1][0] == second.number


def test_a_message_verifies_for_a_patient_that_pinned_the_doctor(books: Books) -> None:
    """What is stored is what is signed."""
    accepted = books.accept("take two")
    key = fingerprint(Algorithm.ECDSA_P256, books.keys.identity.public)
    reader = Reader("anna", key, "doctor", books.keys.identity.public)

    [(number, message)] = books.outbox.load(books.db, EVERYONE, 0, accepted.number, books.now, 10)

    read, body = reader.verify(message, "everyone", Instant(books.now, 0))
    assert (number, read.number, body) == (accepted.number, accepted.number, b"take two")


def test_bodies_rest_sealed(books: Books, tmp_path: Path) -> None:
    """Neither the database nor its log shows a word."""
    books.accept("the patient's secret")

    files = b"".join(path.read_bytes() for path in tmp_path.glob("doctor.db*"))
    assert b"everyone" in files
    assert b"the patient's secret" not in files


def test_loading_gives_a_range_in_order(books: Books) -> None:
    """After, up to, and no more than the limit."""
    numbers = [books.accept(f"{each}").number for each in range(5)]

    def load(after: int, up_to: int, limit: int = 10) -> list[int]:
        found = books.outbox.load(books.db, EVERYONE, after, up_to, books.now, limit)
        return [number for number, _ in found]

    assert load(numbers[0], numbers[3]) == numbers[1:4]
    assert load(0, numbers[4], limit=2) == numbers[:2]
    assert load(numbers[4], numbers[4]) == []


def test_an_expired_message_travels_without_its_body(books: Books) -> None:
    """So that the chain goes on."""
    accepted = books.accept("too late", lifetime=10)

    [(_, fresh)] = books.outbox.load(books.db, EVERYONE, 0, accepted.number, books.now + 10, 9)
    [(_, late)] = books.outbox.load(books.db, EVERYONE, 0, accepted.number, books.now + 11, 9)

    assert fresh.body == b"too late"
    assert late.body is None
    assert late.envelope == fresh.envelope


@pytest.mark.parametrize(
    ("size", "accepted"), [(0, False), (1, True), (BODY_LIMIT, True), (BODY_LIMIT + 1, False)]
)
def test_a_body_has_a_size(books: Books, size: int, accepted: bool) -> None:
    """The message names the limit; nothing is stored of one that is refused."""
    request = MessageRequest(streams.of_group("everyone"), b"x" * size, DAY)
    if accepted:
        books.outbox.accept(books.db, request, books.now, "operator")
    else:
        with pytest.raises(UserError, match=f"1 to {BODY_LIMIT} bytes; this one has {size}"):
            books.outbox.accept(books.db, request, books.now, "operator")

    assert books.db.execute("SELECT count(*) FROM messages").fetchone() == (int(accepted),)


def test_a_message_to_no_group_is_refused(books: Books) -> None:
    """By name."""
    with pytest.raises(UserError, match="There is no group 'attic'"):
        at(books, books.now, "attic")
