"""The roster: tombstones, what dies with a patient, and what the handshake sees of it all."""

from __future__ import annotations

import pytest

from doctor import groups, roster
from doctor.roster import Roster
from shared.crypto.signatures import fingerprint
from shared.errors import StorageError, UserError
from shared.protocol.doctor_handshake import OpenInvitation, Standing
from shared.storage.sealed import Sealer
from tests.doctor_bench import Books


def load(books: Books) -> Roster:
    """What a doctor that starts now knows."""
    loaded = Roster()
    loaded.load(books.db, books.sealer)
    return loaded


def test_a_revoked_patient_stays_as_a_tombstone(books: Books) -> None:
    """By its id and by its key; every group it was in is left."""
    groups.create(books.db, "ward", books.now, "operator")
    verified = books.enrol("anna", "ward")
    accepted = books.accept()

    departure = books.depart("anna", Standing.REVOKED)

    assert [(str(leave.stream), leave.until, leave.reason) for leave in departure.leaves] == [
        ("group:everyone", accepted.number, "revoked"),
        ("group:ward", 0, "revoked"),
        ("patient:anna", 0, "revoked"),
    ]
    loaded = load(books)
    key = fingerprint(verified.algorithm, verified.public_key)
    assert loaded.member("anna") == loaded.owner(key) == departure.member
    assert departure.member.standing is Standing.REVOKED
    assert books.states(accepted) == {"anna": "revoked"}
    assert len(loaded) == 1


def test_revoking_a_fleet_patient_voids_the_invitation_it_came_by(books: Books) -> None:
    """It still knows the secret."""
    fleet = books.invite(None, uses=100)
    verified = books.verified(None, fleet)
    books.admit(verified)
    assert load(books).invitation(fleet.invitation_id) is not None

    departure = books.depart(verified.patient_id, Standing.REVOKED)

    assert departure.voided == (fleet.invitation_id,)
    assert load(books).invitation(fleet.invitation_id) is None
    with pytest.raises(Exception, match="V-063"):
        books.admit(books.verified(None, fleet))


def test_retiring_voids_nothing(books: Books) -> None:
    """A device that is gone is no enemy."""
    fleet = books.invite(None, uses=100)
    verified = books.verified(None, fleet)
    books.admit(verified)

    departure = books.depart(verified.patient_id, Standing.RETIRED)

    assert departure.voided == ()
    assert load(books).invitation(fleet.invitation_id) is not None


def test_a_retired_patient_can_still_be_revoked(books: Books) -> None:
    """And leaves nothing a second time."""
    books.enrol("anna")
    books.depart("anna", Standing.RETIRED)

    departure = books.depart("anna", Standing.REVOKED)

    assert departure.leaves == ()
    assert departure.member.standing is Standing.REVOKED


def test_departing_says_what_is_wrong(books: Books) -> None:
    """Unknown, revoked already, retired already."""
    books.enrol("anna")
    books.enrol("bert")
    books.depart("anna", Standing.REVOKED)
    books.depart("bert", Standing.RETIRED)

    for patient, standing, reason in [
        ("carl", Standing.REVOKED, "There is no patient 'carl'"),
        ("anna", Standing.REVOKED, "Patient anna is revoked already"),
        ("anna", Standing.RETIRED, "Patient anna is revoked already"),
        ("bert", Standing.RETIRED, "Patient bert is retired already"),
    ]:
        with pytest.raises(UserError, match=reason):
            books.depart(patient, standing)


def test_loading_reads_patients_and_open_invitations(books: Books) -> None:
    """A used-up invitation has no secret left to prove."""
    verified = books.enrol("anna")
    waiting = books.invite("bert")

    loaded = load(books)

    member = loaded.member("anna")
    assert member is not None
    assert (member.public_key, member.standing) == (verified.public_key, Standing.ACTIVE)
    assert loaded.member("bert") is None
    assert loaded.owner("nobody") is None
    assert verified.invitation_id is not None
    assert loaded.invitation(verified.invitation_id) is None
    opened = loaded.invitation(waiting.invitation_id)
    assert opened == OpenInvitation(waiting.secret, waiting.expires, 1, "bert")


def test_another_storage_key_opens_no_invitation(books: Books) -> None:
    """The database alone gives no secret away."""
    books.invite("bert")

    with pytest.raises(StorageError, match="does not open"):
        Roster().load(books.db, Sealer(bytes(32), books.random))


@pytest.mark.parametrize(
    ("column", "value"), [("algorithm", 99), ("standing", "unheard-of"), ("standing", "")]
)
def test_a_damaged_row_is_named(books: Books, column: str, value: object) -> None:
    """At the start, in the list and at a departure: never a traceback."""
    books.enrol("anna")
    books.db.execute("PRAGMA ignore_check_constraints = ON")
    books.db.execute(f"UPDATE patients SET {column} = ?", (value,))

    with pytest.raises(StorageError, match=f"patients.{column} of row anna is damaged"):
        load(books)
    if column == "standing":
        with pytest.raises(StorageError, match="damaged"):
            roster.list_patients(books.db)


def test_an_invitation_without_uses_stays_known_in_memory(books: Books) -> None:
    """Who proves its secret is told why it is refused; one never seen changes nothing."""
    waiting = books.invite("bert")
    loaded = load(books)

    loaded.set_uses(waiting.invitation_id, 0)
    loaded.set_uses(b"?" * 16, 5)

    opened = loaded.invitation(waiting.invitation_id)
    assert opened is not None
    assert opened.uses_left == 0
    assert loaded.invitation(b"?" * 16) is None


def test_listing_shows_tombstones_and_groups(books: Books) -> None:
    """By id, with the groups of now."""
    groups.create(books.db, "ward", books.now, "operator")
    books.enrol("bert", "ward")
    books.enrol("anna")
    books.depart("anna", Standing.REVOKED)

    rows = roster.list_patients(books.db)

    assert [(row.patient_id, row.standing, row.groups) for row in rows] == [
        ("anna", Standing.REVOKED, ()),
        ("bert", Standing.ACTIVE, ("everyone", "ward")),
    ]
