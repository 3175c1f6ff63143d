"""The doctor's own program answers the lies that a connection alone cannot judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lab.evil import live
from lab.evil.live import ROWS, try_live
from lab.evil.peer.invitations import read_invitation
from lab.evil.reception import LiveMisbehaviour, Reception, Seen
from lab.faults.clinic import Clinic
from lab.faults.watch import Watch
from shared.crypto.signatures import Algorithm
from shared.protocol import invitations
from shared.wire.checks import Check


def row(name: str) -> LiveMisbehaviour:
    """The row of that name."""
    return next(each for each in ROWS if each.name == name)


async def _exposed(at: Reception, lie: bool) -> Seen:
    await at.logged_in(await at.newcomer())
    return Seen(None, "it was believed" if lie else "")


async def _broken(at: Reception, lie: bool) -> Seen:
    raise ZeroDivisionError("oops")


async def test_each_lie_is_refused_and_the_row_would_notice_if_not(tmp_path: Path) -> None:
    """One doctor for all: it goes on. What is wrong with a row is said by its name."""
    async with Clinic(tmp_path, Watch(), live.SETTINGS) as clinic:
        told: list[tuple[int, int]] = []
        good = await try_live(clinic, 1, 1, lambda done, of: told.append((done, of)))
        flawed = [
            replace(row("books-unissued"), answer=Check.NOT_PAUSED),
            replace(row("report-twice"), play=_exposed),
            replace(row("duplicate-sessions"), play=_broken),
        ]
        bad = await try_live(clinic, 1, 2, lambda done, of: None, flawed)

    assert (good.tried, good.survived, good.leaked, good.findings) == (len(ROWS), len(ROWS), 0, ())
    assert told[-1] == (len(ROWS), len(ROWS))
    assert (bad.tried, bad.survived, bad.leaked) == (3, 0, 1)
    found = "\n".join(sorted(bad.findings))
    assert "the doctor's log has ['V-090'], expected ['V-064']" in found
    assert "report-twice, seed 2: an enrolled patient reports the same twice: it was believed" in found
    assert "ZeroDivisionError: oops" in found


def test_an_invitation_reads_the_same_on_both_sides() -> None:
    """Every field of the string that is handed over."""
    key = invitations.DoctorKey(Algorithm.ECDSA_P256, bytes([4]) + bytes(64))
    made = invitations.Invitation(
        "doctor", [key], ["127.0.0.1:7700"], ["everyone"], bytes(16), bytes(32), 5, 1, "anna"
    )
    read = read_invitation(invitations.to_text(made))

    assert (read.doctor_id, read.addresses, read.groups) == (made.doctor_id, made.addresses, made.groups)
    assert (read.invitation_id, read.secret, read.expires) == (made.invitation_id, made.secret, made.expires)
    assert (read.uses, read.patient_id, read.key(1)) == (made.uses, made.patient_id, key.public)
