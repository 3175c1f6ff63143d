"""Attachments: which interval of a stream comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from doctor.sessions import Attachment, Group, Session
from doctor.streams import Membership
from shared.crypto.secret import Secret
from shared.net.stream import Stream, clock
from shared.protocol.doctor_connection import DoctorConnection
from tests.doctor_bench import EVERYONE
from tests.protocol_bench import Clinic


@pytest.fixture
def attachment() -> Iterator[Attachment]:
    """Of a session that is not connected."""
    loop = asyncio.new_event_loop()
    connection = DoctorConnection(Clinic().practice, clock())
    stream: Stream[DoctorConnection] = Stream(connection, lambda _: None, lambda: None)
    yield Attachment(Session("anna", stream, Secret(bytes(32)), "suite"), EVERYONE)
    loop.close()


def row(start: int, until: int | None, delivered: int, reason: str | None = None) -> Membership:
    """A membership."""
    return Membership(
        EVERYONE, "anna", start, until, reason or (None if until is None else "removed"), delivered
    )


def test_a_member_reads_on_from_its_start(attachment: Attachment) -> None:
    """One interval, without an end."""
    attachment.remember([row(5, None, 7)])

    assert attachment.member
    assert attachment.delivered == 7
    assert [attachment.first_beyond(number) for number in (0, 9)] == [(5, None), (5, None)]


def test_what_an_earlier_membership_is_owed_comes_first(attachment: Attachment) -> None:
    """A new membership's start number is no receipt for the old one."""
    attachment.remember([row(0, 5, 3), row(8, None, 8)])

    assert attachment.delivered == 3
    assert [attachment.first_beyond(number) for number in (3, 4, 5, 8)] == [
        (0, 5),
        (0, 5),
        (8, None),
        (8, None),
    ]
    assert attachment.issued == 5


def test_what_was_never_owed_is_not_sent_but_may_have_been_read(attachment: Attachment) -> None:
    """A retired membership: nothing to send; its end is the highest number that the device can know."""
    attachment.remember([row(0, 5, 3, "retired")])

    assert attachment.first_beyond(0) is None
    assert not attachment.member
    assert (attachment.delivered, attachment.issued) == (3, 5)


def test_a_membership_without_a_message_owes_nothing(attachment: Attachment) -> None:
    """It began and ended at the same number."""
    attachment.remember([row(0, None, 0)])
    attachment.end_membership(0)

    assert attachment.first_beyond(0) is None
    assert not attachment.member


def test_a_new_membership_begins_where_nothing_is_owed(attachment: Attachment) -> None:
    """Else the old one's receipts come first."""
    attachment.begin_membership(4)
    assert (attachment.delivered, attachment.first_beyond(0)) == (4, (4, None))

    attachment.end_membership(6)
    attachment.begin_membership(9)

    assert attachment.delivered == 4
    assert attachment.first_beyond(4) == (4, 6)
    assert attachment.first_beyond(6) == (9, None)


def test_patience_begins_with_the_first_unreceipted_message(attachment: Attachment) -> None:
    """And begins anew with each receipt that leaves something open."""
    attachment.note_written(1, 100)
    attachment.note_written(2, 200)
    assert attachment.unreceipted_since == 100

    attachment.note_delivered(1, 300)
    assert attachment.unreceipted_since == 300
    attachment.note_delivered(2, 400)

    waiting: int | None = attachment.unreceipted_since
    assert waiting is None


def test_an_unconnected_session_takes_nothing(attachment: Attachment) -> None:
    """Neither before its position is known nor after its socket is gone."""
    session = attachment.session
    assert not session.live
    session.positioned = True

    assert not session.live
    assert not session.writable


def test_a_new_group_has_an_epoch_only_when_one_was_begun() -> None:
    """Asking before is a bug of ours."""
    with pytest.raises(AssertionError):
        _ = Group("ward").epoch_number
