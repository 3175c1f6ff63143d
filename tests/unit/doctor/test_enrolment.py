"""Invitations and the transaction that lets a patient in; V-063 once more against the database."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from doctor import enrolment, groups
from doctor.audit import Action
from doctor.enrolment import AdmissionRefused
from shared.crypto.signatures import SIGNERS, Algorithm
from shared.errors import UserError
from shared.protocol.doctor_handshake import Standing
from shared.protocol.invitations import Invitation, from_text, to_text
from shared.wire.checks import Check
from tests.doctor_bench import Books
from tests.protocol_bench import DAY

HOUR = 3_600_000


def secret(db: sqlite3.Connection, invitation: Invitation) -> bytes | None:
    """What is stored of an invitation's secret."""
    row = db.execute(
        "SELECT secret FROM invitations WHERE invitation_id = ?", (invitation.invitation_id,)
    ).fetchone()
    stored: bytes | None = row[0]
    return stored


def uses(db: sqlite3.Connection, invitation: Invitation) -> int:
    """How often it may still be used."""
    row = db.execute(
        "SELECT uses_left FROM invitations WHERE invitation_id = ?", (invitation.invitation_id,)
    ).fetchone()
    return int(row[0])


def test_an_invitation_says_what_the_patient_has_to_pin(books: Books) -> None:
    """It survives the way over paper, and its secret rests sealed."""
    made = books.invite("anna", lifetime=HOUR)

    read = from_text(to_text(made))
    assert read == made
    assert read.doctor_keys == books.keys.public
    assert (read.patient_id, read.uses, read.groups, read.expires) == (
        "anna",
        1,
        ["everyone"],
        books.now + HOUR,
    )
    stored = secret(books.db, made)
    assert stored is not None
    assert made.secret not in stored


def test_every_invitation_has_a_secret_of_its_own(books: Books) -> None:
    """Also for the same patient."""
    first, second = books.invite("anna"), books.invite("anna")

    assert first.secret != second.secret
    assert first.invitation_id != second.invitation_id


def test_a_patient_is_enrolled_and_joins_the_groups_of_its_invitation(books: Books) -> None:
    """In one transaction, audited."""
    groups.create(books.db, "ward", books.now, "operator")
    accepted = books.accept(group="ward")
    invitation = books.invite("anna", "ward")

    admission = books.admit(books.verified("anna", invitation))

    assert admission.enrolled
    assert admission.member.standing is Standing.ACTIVE
    assert {(str(join.stream), join.start) for join in admission.joins} == {
        ("group:everyone", 0),
        ("group:ward", accepted.number),
        ("patient:anna", 0),
    }
    assert (admission.invitation_id, admission.uses_left) == (invitation.invitation_id, 0)
    entries = [row[0] for row in books.db.execute("SELECT action FROM audit WHERE object = 'anna'")]
    assert entries == [Action.INVITED.value, Action.ENROLLED.value]


def test_the_secret_is_erased_with_the_last_use(books: Books) -> None:
    """And not before."""
    fleet = books.invite(None, uses=2)
    books.admit(books.verified(None, fleet))
    assert secret(books.db, fleet) is not None
    assert uses(books.db, fleet) == 1

    books.admit(books.verified(None, fleet))

    assert secret(books.db, fleet) is None
    assert uses(books.db, fleet) == 0


def test_the_secret_is_erased_when_it_expires(books: Books) -> None:
    """A fleet invitation without end stays."""
    short, endless = books.invite("anna", lifetime=HOUR), books.invite(None, lifetime=0)

    enrolment.erase_expired(books.db, books.now + HOUR - 1)
    assert secret(books.db, short) is not None
    enrolment.erase_expired(books.db, books.now + HOUR + 1)

    assert secret(books.db, short) is None
    assert secret(books.db, endless) is not None


def test_v063_of_two_with_one_invitation_one_is_admitted(books: Books) -> None:
    """Both were verified while a use was left; the transaction decides, and the loser leaves no trace."""
    invitation = books.invite("anna")
    winner, loser = books.verified("anna", invitation), books.verified("anna", invitation)

    assert books.admit(winner).enrolled
    with pytest.raises(AdmissionRefused) as refused:
        books.admit(loser)
    assert refused.value.check is Check.ADMISSION
    assert "V-063" in str(refused.value)
    assert books.db.execute("SELECT count(*) FROM patients").fetchone() == (1,)


def test_v063_the_last_use_of_a_fleet_invitation_goes_to_one(books: Books) -> None:
    """The second one would be a patient of its own, with an id of its own."""
    fleet = books.invite(None, uses=1)
    first, second = books.verified(None, fleet), books.verified(None, fleet)

    assert books.admit(first).enrolled
    with pytest.raises(AdmissionRefused, match="last use went to another") as refused:
        books.admit(second)
    assert refused.value.check is Check.ADMISSION


def test_what_changed_since_the_handshake_is_checked_again(books: Books) -> None:
    """Expiry, id, a key that has another id by now, an unknown invitation."""
    short = books.verified("anna", books.invite("anna", lifetime=HOUR))
    other_id = books.verified("bert", books.invite("carl"))
    key = SIGNERS[Algorithm.ECDSA_P256].generate(books.random)
    books.admit(books.verified("dora", books.invite("dora"), key))
    second_id = books.verified("emil", books.invite("emil"), key)
    unknown = replace(books.verified("fritz", None), invitation_id=b"?" * 16)
    books.later(HOUR + 1)

    for verified, check in [
        (short, Check.INVITATION_VALID),
        (other_id, Check.INVITATION_ID),
        (second_id, Check.KEY_UNCLAIMED),
        (unknown, Check.ADMISSION),
    ]:
        with pytest.raises(AdmissionRefused) as refused:
            books.admit(verified)
        assert refused.value.check is check


def test_a_fleet_invitation_admits_derived_ids_only(books: Books) -> None:
    """A chosen name is refused."""
    fleet = books.invite(None, uses=9)
    derived = books.verified(None, fleet)

    assert books.admit(derived).member.patient_id.startswith("patient-")
    with pytest.raises(AdmissionRefused) as refused:
        books.admit(books.verified("anna", fleet))
    assert refused.value.check is Check.INVITATION_ID


def test_a_retry_after_a_cut_costs_nothing(books: Books) -> None:
    """The same key for the same id, although the invitation is used up: admitted, not enrolled again."""
    verified = books.enrol("anna")

    again = books.admit(verified)

    assert not again.enrolled
    assert again.invitation_id is None
    assert again.joins == ()
    assert [str(row.stream) for row in again.memberships] == ["group:everyone", "patient:anna"]


def test_a_second_key_for_an_id_is_refused(books: Books) -> None:
    """Whatever invitation it shows."""
    books.enrol("anna")

    with pytest.raises(AdmissionRefused, match="enrolled with another key"):
        books.admit(books.verified("anna", None))


def test_a_revoked_patient_is_refused_for_good(books: Books) -> None:
    """Under its own id, and its key under any other."""
    verified = books.enrol("anna")
    key = replace(verified, patient_id="bert", invitation_id=books.invite("bert").invitation_id)
    books.depart("anna", Standing.REVOKED)

    with pytest.raises(AdmissionRefused) as refused:
        books.admit(verified)
    assert refused.value.check is Check.NOT_REVOKED
    with pytest.raises(AdmissionRefused) as refused:
        books.admit(key)
    assert refused.value.check is Check.KEY_UNCLAIMED


def test_a_retired_patient_comes_back_with_its_key(books: Books) -> None:
    """Without using the invitation up, and as a new member: what was accepted in between is not meant for it."""
    fleet = books.invite(None, uses=5)
    verified = books.verified(None, fleet)
    books.admit(verified)
    books.depart(verified.patient_id, Standing.RETIRED)
    between = books.accept()

    back = books.admit(verified)

    assert uses(books.db, fleet) == 4
    assert not back.enrolled
    own = f"patient:{verified.patient_id}"
    assert [(str(join.stream), join.start) for join in back.joins] == [
        ("group:everyone", between.number),
        (own, 0),
    ]
    assert books.intervals(verified.patient_id) == [(0, 0), (between.number, None)]
    assert books.states(between) == {}


def test_inviting_says_what_is_wrong(books: Books) -> None:
    """Unknown group, impossible id, an id that looks derived, a taken id."""
    books.enrol("anna")
    derived = books.verified(None, None).patient_id

    for patient, names, reason in [
        ("bert", ["attic"], "There is no group 'attic'"),
        ("Bert", [], "'Bert' is not a patient id"),
        ("b\nert", [], "is not a patient id"),
        (derived, [], "looks like an id of a fleet patient"),
        ("anna", [], "The id 'anna' is taken by a patient that is active"),
    ]:
        with pytest.raises(UserError, match=reason):
            books.invite(patient, *names)


def test_a_new_fleet_invitation_voids_those_before(books: Books) -> None:
    """With and without an end; those for one patient stay."""
    endless, short, personal = (
        books.invite(None, uses=9, lifetime=0),
        books.invite(None, uses=9, lifetime=DAY),
        books.invite("anna"),
    )

    voided = enrolment.void_fleet(books.db)

    assert set(voided) == {endless.invitation_id, short.invitation_id}
    assert [uses(books.db, each) for each in (endless, short, personal)] == [0, 0, 1]
    assert enrolment.void_fleet(books.db) == []
