"""Each misbehaviour is refused for the reason that is named for it, and the table would notice if it were not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lab.evil import live
from lab.evil.misbehaviour import Accepted, Attack, Deviation, Misbehaviour, attempt
from lab.evil.peer.suites import FFDHE3072
from lab.evil.sides import DoctorSide, How
from lab.evil.table import MISBEHAVIOURS, by_name, try_all
from shared.wire.checks import Check, Checklist

# Those of the group modulo p cost ten times as much: one of each kind runs always, the campaign's row evil-peer plays them all.
ALWAYS = {"element-non-residue", "signing-key-one", "textbook-forgery"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(row.name, marks=pytest.mark.slow)
        if row.suites == (FFDHE3072,) and row.name not in ALWAYS
        else row.name
        for row in MISBEHAVIOURS
    ],
)
def test_a_misbehaviour_is_refused_for_the_named_reason(name: str) -> None:
    """And succeeds without the lie."""
    attempt(by_name(name), seed=1)


def test_each_row_has_a_name_of_its_own_and_says_what_it_does() -> None:
    """Some two hundred of them."""
    assert len({row.name for row in MISBEHAVIOURS}) == len(MISBEHAVIOURS) > 150
    assert all(row.does and row.suites for row in MISBEHAVIOURS)


NO_LIE = frozenset({Check.DOCTOR_ADMITS})  # a doctor that waits for its operator refuses everyone


def test_every_check_has_a_lie_that_it_answers() -> None:
    """In memory, or where only the doctor's own program can."""
    answered = {row.answer.check for row in MISBEHAVIOURS} | {row.answer for row in live.ROWS}

    assert set(Check) - NO_LIE == answered - {None}


def without(check: Check) -> Callable[..., None]:
    """`Checklist.require` of a product that forgets one check."""
    true = Checklist.require

    def require(self: Checklist, holds: bool, applied: Check, detail: str) -> None:
        true(self, holds or applied is check, applied, detail)

    return require


FORGOTTEN = [
    (Check.DOCTOR_PINNED, ["impostor-name"]),
    (Check.REQUEST_DOCTOR, ["wrong-doctor", "lowe"]),
    (Check.REQUEST_FRESH, ["used-nonce"]),
    (Check.NOT_REVOKED, ["revoked"]),
    (Check.INVITATION_VALID, ["expired-invitation"]),
    (Check.INVITATION_ID, ["foreign-invitation", "chosen-fleet-id"]),
    (Check.KEY_UNCLAIMED, ["unknown-key-share"]),
    (Check.RESPONSE_PATIENT, ["response-misbinding"]),
    (Check.RESPONSE_NONCE, ["response-other-nonce"]),
]
forgotten = pytest.mark.parametrize(
    ("check", "names"), FORGOTTEN, ids=lambda value: value.number if isinstance(value, Check) else ""
)


@forgotten
def test_a_defender_that_forgets_a_check_is_found_out(
    check: Check, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly the misbehaviours that the check answers are not survived any more."""
    monkeypatch.setattr(Checklist, "require", without(check))
    rows = [
        row for row in MISBEHAVIOURS if row.answer.check in (check, Check.ROSTER_KEY, Check.SUITE_ALLOWED)
    ]

    tally = try_all(rows, 1, 1, lambda done, of: None)

    assert [finding.split(",")[0] for finding in tally.findings] == names
    assert tally.survived == tally.tried - len(names)
    assert [row.name for row in rows if row.answer.check is check] == names


@pytest.mark.slow
@pytest.mark.timeout(600)
@forgotten
def test_a_forgotten_check_lets_no_other_lie_through(
    check: Check, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole table: what fails is what the check answers, and nothing else."""
    monkeypatch.setattr(Checklist, "require", without(check))

    tally = try_all(MISBEHAVIOURS, 1, 1, lambda done, of: None)

    assert [finding.split(",")[0] for finding in tally.findings] == names


def test_a_lie_that_takes_effect_counts_as_leaked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is worse than a wrong reason: the doctor admits a patient that talks to somebody else."""
    monkeypatch.setattr(Checklist, "require", without(Check.REQUEST_DOCTOR))

    with pytest.raises(Accepted, match="took effect: mallory is admitted; a session of mallory"):
        attempt(by_name("wrong-doctor"), seed=1)
    assert try_all([by_name("wrong-doctor")], 2, 1, lambda done, of: None).leaked == 2


def told(row: Misbehaviour, **changes: object) -> Misbehaviour:
    """The row with a flaw of its own."""
    return replace(row, **changes)  # type: ignore[arg-type]


def test_a_wrong_reason_is_not_good_enough() -> None:
    """The lie is refused, for another check than the table names."""
    row = told(by_name("used-nonce"), answer=by_name("wrong-label").answer)

    with pytest.raises(Deviation, match="answered V-039 ends the connection, expected V-036"):
        attempt(row, seed=1)


def test_a_refusal_without_a_lie_says_nothing() -> None:
    """A counterpart that is refused as well would make every lie look refused."""
    flow = by_name("wrong-label").act
    row = told(by_name("wrong-label"), act=lambda clinic, suite, lie: flow(clinic, suite, True))

    with pytest.raises(Deviation, match="without the lie it was refused"):
        attempt(row, seed=1)


def test_a_counterpart_without_effect_says_nothing() -> None:
    """Nobody was asked for anything."""
    row = told(
        by_name("wrong-label"), act=lambda clinic, suite, lie: Attack(DoctorSide(clinic), len(clinic.effects))
    )

    with pytest.raises(Deviation, match="nothing came of it"):
        attempt(row, seed=1)


def test_an_exception_is_a_finding_and_does_not_end_the_row() -> None:
    """Neither a bug of the experiment nor one of the product counts as a refusal."""

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("oops")

    rows = [told(by_name("wrong-label"), act=breaks), by_name("used-nonce")]
    tally = try_all(rows, 1, 1, lambda done, of: None)

    assert (tally.tried, tally.survived, tally.leaked) == (2, 1, 0)
    assert "ZeroDivisionError: oops" in tally.findings[0]


def test_answers_name_a_check_or_a_way() -> None:
    """A connection ends and a frame is dropped for a check; the other ways have none."""
    for row in MISBEHAVIOURS:
        assert (row.answer.check is not None) == (row.answer.how in (How.FAILED, How.DROPPED)), row.name
