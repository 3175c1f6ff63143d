"""An order is carried out once for each Idempotency-Key, and its answer rests sealed."""

from __future__ import annotations

import sqlite3

import pytest

from doctor.answers import GroupAnswer
from doctor.idempotency import OnceOnly, Origin, forget_older
from shared.errors import StorageError, UserError
from shared.storage.sealed import Sealer
from tests.crypto_tools import entropy
from tests.doctor_bench import Books

ANSWER = GroupAnswer("a secret", 1, [])


class Counter:
    """Work that counts how often it is done."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, db: sqlite3.Connection) -> int:
        self.done += 1
        return self.done


def carry_out(
    books: Books,
    work: Counter,
    key: str | None = "key",
    asked: tuple[object, ...] = ("create", "x"),
    now: int = 1,
) -> tuple[int | None, bytes]:
    """Do it."""
    outcome = OnceOnly(books.sealer).carry_out(
        books.db, Origin("operator", key), asked, now, work, lambda _: ANSWER
    )
    return outcome.done, outcome.answer


def test_the_same_request_is_done_once(books: Books) -> None:
    """The second one gets the first answer."""
    work = Counter()

    first, second = carry_out(books, work), carry_out(books, work)

    assert (first[0], second[0], work.done) == (1, None, 1)
    assert first[1] == second[1]


def test_without_a_key_each_is_an_order(books: Books) -> None:
    """And nothing is kept."""
    work = Counter()

    assert [carry_out(books, work, key=None)[0] for _ in range(2)] == [1, 2]
    assert books.db.execute("SELECT count(*) FROM answers").fetchone() == (0,)


def test_a_key_is_for_one_request(books: Books) -> None:
    """Another one under it is refused and not carried out."""
    work = Counter()
    carry_out(books, work)

    with pytest.raises(UserError, match="used for another request"):
        carry_out(books, work, asked=("create", "y"))
    assert work.done == 1


def test_an_answer_rests_sealed(books: Books) -> None:
    """It may hold an invitation's secret; under another storage key it does not open."""
    carry_out(books, Counter())

    (stored,) = books.db.execute("SELECT answer FROM answers").fetchone()
    assert b"a secret" not in stored
    with pytest.raises(StorageError):
        OnceOnly(Sealer(bytes(32), entropy("x"))).carry_out(
            books.db, Origin("operator", "key"), ("create", "x"), 1, Counter(), lambda _: ANSWER
        )


def test_old_answers_are_forgotten(books: Books) -> None:
    """Those before the limit; their keys are new again."""
    work = Counter()
    for number in (1, 2, 3):
        carry_out(books, work, key=f"key {number}", now=number)

    forget_older(books.db, 3)

    assert books.db.execute("SELECT key FROM answers").fetchall() == [("key 3",)]
    assert carry_out(books, work, key="key 1")[0] == 4
