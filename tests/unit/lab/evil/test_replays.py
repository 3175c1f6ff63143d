"""What was sent once is refused when it comes again, and the row would notice if it were not."""

from __future__ import annotations

import contextlib

import pytest

from lab.evil.clinic import EVERYONE
from lab.evil.misbehaviour import Accepted
from lab.evil.peer import wire
from lab.evil.replays import CASES, Context, duplicates, replay, try_replays
from lab.evil.tapes import Kind, set_stage
from shared.protocol.envelopes import Positions
from shared.protocol.records import RecordOpener
from shared.wire.checks import PeerError
from shared.wire.framing import Frame


def test_a_replay_is_refused_for_the_named_reason() -> None:
    """Six kinds in eight contexts, and from the first once more; who is not refused so is named. Progress is told."""
    told: list[tuple[int, int]] = []
    tally = try_replays(len(CASES) + 1, 3, lambda done, of: told.append((done, of)))

    assert tally.findings == ()
    assert (tally.tried, tally.survived) == (49, 49)
    assert told[-1] == (49, 49)


def test_the_taped_session_holds_every_kind_of_record() -> None:
    """So that what is drawn is drawn from all of them."""
    alice = set_stage(1).alice
    upward = {frame[1] for frame in alice.to_doctor}
    downward = {frame[1] for frame in alice.to_patient}

    assert upward == {10, 30, *Kind.TO_DOCTOR.opcodes}
    assert downward == {11, 20, wire.BROADCAST, *Kind.TO_PATIENT.opcodes}


def test_the_seed_draws_other_points_each_time() -> None:
    """Not the same experiment twenty times."""
    drawn = {set_stage(seed).tape(Kind.TO_DOCTOR)[1] for seed in range(12)}

    assert len(drawn) > 2


def test_a_patient_that_forgets_its_position_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows an old broadcast again."""
    monkeypatch.setattr(Positions, "is_next", lambda self, envelope, start: True)

    with pytest.raises(Accepted, match="opcode 40 took effect: alice shows"):
        replay(Kind.BROADCAST, Context.SAME_CONNECTION, seed=7)


def test_a_doctor_that_does_not_count_records_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row says which case, with which seed, and what came of it."""
    true = RecordOpener.open

    def lenient(self: RecordOpener, frame: Frame) -> bytes:
        present = self.count
        for self.count in range(present, -1, -1):
            with contextlib.suppress(PeerError):
                plaintext = true(self, frame)
                self.count = present
                return plaintext
        self.count = present
        return true(self, frame)

    monkeypatch.setattr(RecordOpener, "open", lenient)
    last = CASES.index((Kind.TO_DOCTOR, Context.SAME_CONNECTION))
    tally = try_replays(last + 1, 1, lambda done, of: None)

    assert (tally.tried, tally.survived) == (last + 1, last)
    assert any("a record to the doctor in the same connection, seed" in each for each in tally.findings)


def test_what_took_effect_twice_is_counted() -> None:
    """By the sentence that says it."""
    once = [f"alice shows {EVERYONE} 7: b'x'", "alice is admitted", "alice is admitted"]

    assert duplicates(once) == 0
    assert duplicates([*once, once[0]]) == 1
