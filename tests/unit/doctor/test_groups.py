"""Groups and their memberships on disk."""

from __future__ import annotations

import pytest

from doctor import groups, streams
from doctor.streams import Join, Leave, Membership
from shared.errors import StorageError, UserError
from shared.protocol.doctor_handshake import Standing
from tests.doctor_bench import EVERYONE, Books

WARD = streams.of_group("ward")


@pytest.fixture
def ward(books: Books) -> Books:
    """Anna and Bert are enrolled; the group `ward` is empty."""
    groups.create(books.db, "ward", books.now, "operator")
    books.enrol("anna")
    books.enrol("bert")
    return books


def add(books: Books, patient_id: str, group: str = "ward") -> Join:
    """Add a patient."""
    return groups.add(books.db, group, patient_id, books.later(), "operator")


def remove(books: Books, patient_id: str, group: str = "ward") -> Leave:
    """Remove a patient."""
    return groups.remove(books.db, group, patient_id, books.later(), "operator")


def test_a_membership_starts_and_ends_at_a_message(ward: Books) -> None:
    """What was accepted before the join or after the leave is not meant for the patient."""
    before = ward.accept(group="ward")
    joined = add(ward, "anna")
    inside = ward.accept(group="ward")
    left = remove(ward, "anna")
    after = ward.accept(group="ward")

    assert joined == Join(WARD, "anna", before.number)
    assert left == Leave(WARD, "anna", inside.number, "removed")
    assert ward.intervals("anna", "ward") == [(before.number, inside.number)]
    assert [ward.states(each) for each in (before, inside, after)] == [{}, {"anna": "queued"}, {}]
    assert [each.recipients for each in (before, inside, after)] == [0, 1, 0]


def test_coming_back_begins_a_second_interval(ward: Books) -> None:
    """What was accepted in between is not meant for the patient."""
    add(ward, "anna")
    first = ward.accept(group="ward")
    remove(ward, "anna")
    between = ward.accept(group="ward")
    add(ward, "anna")
    second = ward.accept(group="ward")

    assert ward.intervals("anna", "ward") == [(0, first.number), (between.number, None)]
    assert ward.states(between) == {}
    assert ward.states(second) == {"anna": "queued"}


def test_coming_back_before_the_next_message_continues_or_adjoins(ward: Books) -> None:
    """Nothing is meant twice and nothing is lost, whether or not a message came before."""
    add(ward, "anna")
    remove(ward, "anna")
    add(ward, "anna")
    assert ward.intervals("anna", "ward") == [(0, None)]

    only = ward.accept(group="ward")
    remove(ward, "anna")
    add(ward, "anna")

    assert ward.intervals("anna", "ward") == [(0, only.number), (only.number, None)]
    assert ward.states(only) == {"anna": "queued"}


def test_joining_as_a_member_changes_nothing(ward: Books) -> None:
    """The start stays where it was."""
    start = streams.join(ward.db, WARD, "anna").start
    ward.accept(group="ward")

    assert streams.join(ward.db, WARD, "anna").start == start
    assert ward.intervals("anna", "ward") == [(start, None)]


def test_a_removed_patient_is_still_owed_what_was_meant_for_it() -> None:
    """Until it has acknowledged it; an expelled one is owed nothing."""
    rows = {
        "member": Membership(EVERYONE, "anna", 3, None, None, 9),
        "removed, behind": Membership(EVERYONE, "anna", 3, 9, "removed", 5),
        "removed, even": Membership(EVERYONE, "anna", 3, 9, "removed", 9),
        "revoked": Membership(EVERYONE, "anna", 3, 9, "revoked", 5),
        "retired": Membership(EVERYONE, "anna", 3, 9, "retired", 5),
    }

    assert [name for name, row in rows.items() if row.owed] == ["member", "removed, behind"]


@pytest.mark.parametrize("name", ["", "-ward", "Ward", "ward 7", "w" * 65, "ward\n", "wärd", "../etc"])
def test_a_name_that_is_none_is_refused(ward: Books, name: str) -> None:
    """Names go into streams, ids and logs."""
    with pytest.raises(UserError, match="is not a group name"):
        groups.create(ward.db, name, ward.now, "operator")


def test_a_taken_name_is_refused(ward: Books) -> None:
    """Also that of `everyone`."""
    with pytest.raises(UserError, match="There is a group 'everyone' already"):
        groups.create(ward.db, "everyone", ward.now, "operator")


def test_adding_says_what_is_wrong(ward: Books) -> None:
    """Unknown group, unknown patient, tombstone, member already."""
    add(ward, "anna")
    ward.depart("bert", Standing.REVOKED)

    for group, patient, reason in [
        ("attic", "anna", "There is no group 'attic'"),
        ("ward", "carl", "Patient carl is not enrolled"),
        ("ward", "bert", "Patient bert is revoked"),
        ("ward", "anna", "Patient anna is a member of ward already"),
    ]:
        with pytest.raises(UserError, match=reason):
            add(ward, patient, group)


def test_removing_says_what_is_wrong(ward: Books) -> None:
    """Unknown group, not a member, the group of everyone."""
    for group, patient, reason in [
        ("attic", "anna", "There is no group 'attic'"),
        ("ward", "anna", "Patient anna is not a member of ward"),
        ("everyone", "anna", "Every active patient is in 'everyone'; revoke or retire"),
    ]:
        with pytest.raises(UserError, match=reason):
            remove(ward, patient, group)


def test_leaving_everything_closes_what_was_owed(ward: Books) -> None:
    """A patient that is revoked is not sent the rest of a group that it was removed from before."""
    add(ward, "anna")
    owed = ward.accept(group="ward")
    remove(ward, "anna")
    assert ward.states(owed) == {"anna": "queued"}

    leaves = streams.leave_all(ward.db, "anna", "revoked")

    assert [str(leave.stream) for leave in leaves] == ["group:everyone", "patient:anna"]
    assert ward.states(owed) == {"anna": "revoked"}


def test_listing_shows_current_members(ward: Books) -> None:
    """By name."""
    add(ward, "bert")
    add(ward, "anna")
    remove(ward, "bert")

    rows = groups.list_groups(ward.db)

    assert [(row.name, row.members) for row in rows] == [
        ("everyone", ("anna", "bert")),
        ("ward", ("anna",)),
    ]


@pytest.mark.parametrize("name", ["ward", "herd:anna", ":", ""])
def test_a_damaged_stream_name_is_refused_by_name(name: str) -> None:
    """It is none of a group's nor of a patient's."""
    with pytest.raises(StorageError, match="names no stream"):
        streams.parse(name)
