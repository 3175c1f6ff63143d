"""What became of each message, for each patient it was meant for."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from doctor import groups, receipts, streams
from doctor.receipts import Acknowledgement, Receipts
from shared.errors import UserError
from shared.protocol.doctor_handshake import Standing
from shared.wire.messages import Position
from tests.doctor_bench import BELL, EVERYONE, LOG, Books, on_a_loop, running


@pytest.fixture
def ward(books: Books) -> Books:
    """Anna and Bert."""
    books.enrol("anna")
    books.enrol("bert")
    return books


def test_a_message_is_queued_then_sent_then_delivered(ward: Books) -> None:
    """Each patient for itself; `sent` is what was written to a connection."""
    accepted = ward.accept()
    queued = ward.states(accepted)
    sent = ward.states(accepted, {"anna": accepted.number, "bert": accepted.number - 1})
    ward.acknowledge("anna", accepted.number)
    delivered = ward.states(accepted)

    assert queued == {"anna": "queued", "bert": "queued"}
    assert sent == {"anna": "sent", "bert": "queued"}
    assert delivered == {"anna": "delivered", "bert": "queued"}


def test_a_receipt_is_cumulative(ward: Books) -> None:
    """One number says it all: everything up to it was applied."""
    accepted = [ward.accept() for _ in range(3)]

    ward.acknowledge("anna", accepted[1].number)

    assert [ward.states(each)["anna"] for each in accepted] == ["delivered", "delivered", "queued"]


def test_nothing_moves_back(ward: Books) -> None:
    """An earlier receipt that comes late changes nothing."""
    accepted = [ward.accept() for _ in range(3)]
    ward.acknowledge("anna", accepted[2].number)

    ward.acknowledge("anna", accepted[0].number)

    assert [ward.states(each)["anna"] for each in accepted] == ["delivered"] * 3


def test_what_came_too_late_is_expired(ward: Books) -> None:
    """Acknowledged but not shown; those around it were delivered."""
    accepted = [ward.accept() for _ in range(3)]

    ward.acknowledge("anna", accepted[2].number, accepted[1].number)
    ward.acknowledge("anna", accepted[2].number, accepted[1].number)  # a repeated receipt does no harm

    assert [ward.states(each)["anna"] for each in accepted] == ["delivered", "expired", "delivered"]


def test_expired_numbers_that_name_no_message_are_not_stored(ward: Books) -> None:
    """Or a patient could fill the disk with them."""
    accepted = ward.accept()

    ward.acknowledge("anna", accepted.number, 1, 2, 3, accepted.number)

    assert ward.db.execute("SELECT number FROM expired").fetchall() == [(accepted.number,)]


def test_expired_numbers_cost_what_the_messages_cost_and_not_what_is_claimed(ward: Books) -> None:
    """A member that names a thousand numbers in each receipt must not keep the writer, and with it every order, busy."""
    earlier, late, later = (ward.accept() for _ in range(3))
    ward.acknowledge("anna", earlier.number)
    claimed = [*range(earlier.number + 1, earlier.number + 1000), late.number]
    statements: list[str] = []
    ward.db.set_trace_callback(statements.append)
    ward.acknowledge("anna", later.number, *claimed)
    ward.db.set_trace_callback(None)

    assert len(statements) < 20
    assert [ward.states(each)["anna"] for each in (earlier, late, later)] == [
        "delivered",
        "expired",
        "delivered",
    ]


def test_what_nobody_fetched_in_time_is_expired(ward: Books) -> None:
    """Unless it was delivered before."""
    accepted = ward.accept(lifetime=1000)
    ward.acknowledge("anna", accepted.number)

    ward.later(1001)

    assert ward.states(accepted) == {"anna": "delivered", "bert": "expired"}


@pytest.mark.parametrize("standing", [Standing.REVOKED, Standing.RETIRED])
def test_what_a_departed_patient_did_not_get_says_so(ward: Books, standing: Standing) -> None:
    """What it had acknowledged before stays delivered, also after the expiry."""
    first, second = ward.accept(), ward.accept(lifetime=1000)
    ward.acknowledge("anna", first.number)

    ward.depart("anna", standing)
    ward.later(2000)

    assert ward.states(first)["anna"] == "delivered"
    assert ward.states(second)["anna"] == standing.value


def test_a_receipt_that_was_under_way_counts_after_the_departure(ward: Books) -> None:
    """It says what is true: the patient applied it while it was entitled to."""
    first, second = ward.accept(), ward.accept()
    ward.depart("anna", Standing.RETIRED)

    ward.acknowledge("anna", first.number)

    assert (ward.states(first)["anna"], ward.states(second)["anna"]) == ("delivered", "retired")


def test_a_retired_patient_that_came_back_does_not_receipt_what_it_missed(books: Books) -> None:
    """Its new receipts are cumulative for its new membership only: what it never got is not `delivered`."""
    verified = books.enrol("anna")
    missed = books.accept()
    books.depart("anna", Standing.RETIRED)
    books.admit(verified)
    later = books.accept()

    books.acknowledge("anna", later.number)

    assert books.states(missed) == {"anna": "retired"}
    assert books.states(later) == {"anna": "delivered"}


def test_receipts_that_are_booked_together_are_judged_one_by_one(ward: Books) -> None:
    """In one transaction and one entry: what says something new counts, whoever else is late, gone or unknown, in each stream."""
    groups.create(ward.db, "ward-a", ward.now, "operator")
    ward.enrol("carl", "ward-a")
    first = ward.accept()
    ward.depart("bert", Standing.RETIRED)
    second, local = ward.accept(), ward.accept(group="ward-a")
    ward.acknowledge("carl", second.number)

    receipts.commit(
        ward.db,
        [
            Acknowledgement(EVERYONE, "anna", second.number, ()),
            Acknowledgement(EVERYONE, "bert", second.number, ()),
            Acknowledgement(EVERYONE, "carl", first.number, ()),
            Acknowledgement(EVERYONE, "nobody", second.number, ()),
            Acknowledgement(local.stream, "carl", local.number, ()),
        ],
        ward.now,
    )

    assert ward.states(first) == {"anna": "delivered", "bert": "retired", "carl": "delivered"}
    assert ward.states(second) == {"anna": "delivered", "carl": "delivered"}
    assert ward.states(local) == {"carl": "delivered"}
    (detail,) = ward.db.execute("SELECT detail FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    assert detail == f"{second.message_id}: anna; {local.message_id}: carl"


def test_a_removed_patient_receipts_what_it_was_owed(ward: Books) -> None:
    """And no further than its membership went, also where it came back."""
    groups.create(ward.db, "ward", ward.now, "operator")
    groups.add(ward.db, "ward", "anna", ward.now, "operator")
    owed = ward.accept(group="ward")
    groups.remove(ward.db, "ward", "anna", ward.now, "operator")
    between = ward.accept(group="ward")
    groups.add(ward.db, "ward", "anna", ward.now, "operator")
    second = ward.accept(group="ward")

    ward.acknowledge("anna", owed.number, group="ward")
    assert (ward.states(owed), ward.states(second)) == ({"anna": "delivered"}, {"anna": "queued"})
    ward.acknowledge("anna", second.number, group="ward")

    assert ward.states(second) == {"anna": "delivered"}
    assert ward.states(between) == {}
    rows = [
        (row.until, row.delivered)
        for row in streams.memberships_of(ward.db, "anna")
        if row.stream.name == "ward"
    ]
    assert rows == [(owed.number, owed.number), (None, second.number)]


def test_an_unknown_message_is_named(ward: Books) -> None:
    """Also a number of the right group."""
    with pytest.raises(UserError, match=r"There is no message everyone\.7"):
        receipts.list_receipts(ward.db, EVERYONE, 7, ward.now, {})


@on_a_loop
async def test_acknowledgements_share_a_commit(tmp_path: Path) -> None:
    """Those that come while one is under way are merged, stream by stream and patient by patient."""
    async with running(tmp_path) as doctor:
        batches: list[list[Acknowledgement]] = []
        collected = Receipts(doctor.writer, batches.append)

        for number, expired in [(1, (1,)), (2, ()), (4, (3,)), (3, ())]:
            collected.record(Acknowledgement(EVERYONE, "anna", number, expired))
        collected.record(Acknowledgement(EVERYONE, "bert", 2, ()))
        await doctor.settled()

        assert batches == [
            [Acknowledgement(EVERYONE, "anna", 1, (1,))],
            [Acknowledgement(EVERYONE, "anna", 4, (3,)), Acknowledgement(EVERYONE, "bert", 2, ())],
        ]


@on_a_loop
async def test_what_was_delivered_does_not_become_expired(tmp_path: Path) -> None:
    """A receipt speaks of the numbers since the one before; of earlier ones it cannot change its mind."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        first = await doctor.broadcast("one")
        await doctor.delivered(anna, first.number)
        anna.acknowledges = False
        second = await doctor.broadcast("two")
        await anna.until(lambda it: len(it.bodies()) == 2)
        assert anna.stream is not None

        claimed = Position(EVERYONE, second.number, [first.number, second.number])
        anna.stream.connection.acknowledge([claimed])
        anna.stream.flush()
        await doctor.delivered(anna, second.number)

        assert doctor.states(first.id) == {"anna": "delivered"}
        assert doctor.states(second.id) == {"anna": "expired"}


@on_a_loop
async def test_a_refused_commit_is_tried_again_by_timer(tmp_path: Path) -> None:
    """Also where no further receipt comes."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        async with doctor.refusing_disk():
            doctor.house.receipts.record(Acknowledgement(EVERYONE, "anna", 1, ()))
            await LOG.until("receipts not stored")
            doctor.house.receipts.write_waiting()
            await LOG.until("receipts not stored", count=2)

        doctor.house.receipts.write_waiting()
        await doctor.delivered(anna, 1)


def test_a_bug_in_a_commit_is_not_taken_for_the_disk(tmp_path: Path) -> None:
    """It reaches the loop's handler; what waits is kept."""

    async def scenario() -> None:
        async with running(tmp_path) as doctor:
            troubles: list[BaseException | None] = []
            loop = asyncio.get_running_loop()

            def keep(_: object, context: dict[str, Any]) -> None:
                troubles.append(context.get("exception"))
                BELL.ring()

            loop.set_exception_handler(keep)
            collected = Receipts(doctor.writer, lambda _: None)
            collected.record(Acknowledgement(EVERYONE, "\ud800", 1, ()))
            await BELL.until(lambda: troubles)
            assert isinstance(troubles[0], UnicodeEncodeError)

    on_a_loop(scenario)()


@on_a_loop
async def test_a_disk_that_refuses_loses_no_acknowledgement(tmp_path: Path) -> None:
    """What could not be committed goes with what comes next, its expired numbers too."""
    async with running(tmp_path) as doctor:
        device = await doctor.device("anna")
        first = await doctor.broadcast("one")
        await doctor.delivered(device, first.number)
        device.acknowledges = False
        second, third = await doctor.broadcast("two"), await doctor.broadcast("three")
        await device.until(lambda it: len(it.bodies()) == 3)
        batches: list[list[Acknowledgement]] = []
        collected = Receipts(doctor.writer, batches.append)
        async with doctor.refusing_disk():
            collected.record(Acknowledgement(EVERYONE, "anna", second.number, (second.number,)))
            await LOG.until("receipts not stored", pending=1)
        assert batches == []

        collected.record(Acknowledgement(EVERYONE, "anna", third.number, ()))
        await doctor.settled()

        assert batches == [[Acknowledgement(EVERYONE, "anna", third.number, (second.number,))]]
        assert doctor.states(second.id) == {"anna": "expired"}
        assert doctor.states(third.id) == {"anna": "delivered"}


@on_a_loop
async def test_numbers_that_are_no_messages_do_not_wait_for_the_disk(tmp_path: Path) -> None:
    """While it refuses, a member that names a thousand of them in each receipt would fill the memory; a real one is kept."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.acknowledges = False
        late, last = await doctor.broadcast("late"), await doctor.broadcast("last")
        await anna.until(lambda it: len(it.bodies()) == 2)
        assert anna.stream is not None
        async with doctor.disk_without_room():
            for number in (late.number, last.number - 1):
                claimed = [*range(number - 1000, number), late.number, late.number]
                anna.stream.connection.acknowledge([Position(EVERYONE, number, claimed)])
            anna.stream.flush()
            at = doctor.session(anna).attachments[EVERYONE]
            await BELL.until(lambda: at.delivered == last.number - 1 and LOG.find("receipts not stored"))
            await BELL.until(lambda: doctor.house.receipts.waiting)
            (waiting,) = doctor.house.receipts._waiting.values()
        assert waiting.expired == (late.number,)
        anna.acknowledge(EVERYONE, last.number)
        await doctor.delivered(anna, last.number)

        assert doctor.states(late.id) == {"anna": "expired"}
        assert doctor.states(last.id) == {"anna": "delivered"}


@on_a_loop
async def test_a_receipt_that_cannot_be_judged_ends_the_session_and_counts_for_nothing(
    tmp_path: Path,
) -> None:
    """A disk that gives nothing back: the device comes again, and tells it once more."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.acknowledges = False
        said = await doctor.broadcast("one")
        await anna.until(lambda it: it.bodies())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(receipts, "known", _refuse)
            anna.acknowledge(EVERYONE, said.number, expired=True)
            await anna.gone()
        await LOG.until("receipt not judged", patient="anna")

        assert doctor.states(said.id) == {"anna": "queued"}
        assert anna.alerts == []


def _refuse(*_: object) -> tuple[int, ...]:
    raise sqlite3.OperationalError("disk I/O error")
