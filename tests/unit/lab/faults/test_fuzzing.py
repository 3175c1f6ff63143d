"""The fuzzer's targets take honest input, are not hurt by it, and its jury finds what is planted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lab.faults.fuzzing import stages
from lab.faults.fuzzing.cast import NOW
from lab.faults.fuzzing.jury import REPORT, Jury, Report
from lab.faults.fuzzing.subject import Subject
from lab.faults.fuzzing.targets import TARGETS, Target
from lab.faults.rows import fuzz
from shared.protocol.events import Failed
from shared.protocol.transitions import State


@pytest.mark.parametrize(
    "target", [target for target in TARGETS if target.name != "http"], ids=lambda t: t.name
)
def test_a_target_takes_its_seeds_nothing_and_rubbish_and_still_serves(target: Target) -> None:
    """A seed that is refused for its form would lead the fuzzer nowhere; one that raises would be a finding."""
    with target.open() as subject:
        for data in (*subject.seeds, b"", b"\0", b"\xff" * 40):
            assert len(data) <= target.longest
            subject.attempt(data)
        assert subject.serves()


def test_a_stage_is_not_changed_by_what_happens_to_its_twins() -> None:
    """Each attempt begins in the same state; what an honest peer says is taken by every twin anew."""
    made = [*stages.doctor_stages(os.urandom), *stages.patient_stages(os.urandom)]

    assert len({stage.name for stage in made}) == 10
    for stage in made:
        before = stage.connection.state
        for _ in range(2):
            for frame in stage.honest.values():
                twin = stage.twin()
                twin.receive_data(frame, NOW)
                assert not any(isinstance(event, Failed) for event in twin.take_events())
        assert stage.connection.state is before


def test_what_is_sealed_by_the_fuzzer_opens() -> None:
    """Otherwise it would only ever fuzz the cipher: each refusal is one of what was inside."""
    for stage in [*stages.doctor_stages(os.urandom, enrolling=True), *stages.patient_stages(os.urandom)]:
        for opcode, seals in stage.seals.items():
            for seal in seals[:2] if opcode != 70 else seals[-1:]:
                twin = stage.twin()
                twin.receive_data(seal(b"\xc1"), NOW)
                assert twin.state in (State.FAILED, State.ESTABLISHED)
                said = " ".join(str(getattr(event, "detail", "")) for event in twin.take_events())
                assert "not a " in said or "opcode 51" in said, (stage.name, opcode, said)


def judged(directory: Path, attempt: Callable[[bytes], None], serves: Callable[[], bool]) -> Report:
    """A jury's report of three attempts."""
    (directory / "corpus").mkdir()
    ended: list[bool] = []
    jury = Jury("planted", Subject(attempt, [], serves), directory, 3, 0, lambda: ended.append(True))
    for data in (b"a", b"boom 1", b"boom 2"):
        jury(data)
    assert ended == [True]
    return msgspec.json.decode((directory / REPORT).read_bytes(), type=Report)


def explode(data: bytes) -> None:
    """The planted bug."""
    if data.startswith(b"boom"):
        raise KeyError(data.decode())


def test_a_planted_bug_is_found_counted_and_its_input_kept(tmp_path: Path) -> None:
    """By the place where it was raised; the run goes on."""
    report = judged(tmp_path, explode, lambda: True)

    (crash,) = report.crashes
    assert (crash.count, report.attempts) == (2, 3)
    assert crash.what.startswith("KeyError at test_fuzzing.py")
    assert (tmp_path / crash.file).read_bytes() == b"boom 1"
    assert "boom 1" in fuzz.judge(report)[0]


@pytest.mark.parametrize("serves", [lambda: False, lambda: bool(1 // 0)], ids=["no", "raises"])
def test_a_target_that_serves_no_honest_client_afterwards_is_found(
    tmp_path: Path, serves: Callable[[], bool]
) -> None:
    """However it fails to."""
    report = judged(tmp_path, lambda data: None, serves)

    assert report.honest_seconds is None
    assert any("honest client was not served" in finding for finding in fuzz.judge(report))


def test_slowness_and_growth_are_findings() -> None:
    """Each by its limit."""
    good = Report("t", 1, 1.0, [], 0.1, 1.0, 0.1, 1)

    assert fuzz.judge(good) == []
    assert "grew by 51 MB" in fuzz.judge(msgspec.structs.replace(good, growth_mb=51.0))[0]
    assert "waited 1.1 s" in fuzz.judge(msgspec.structs.replace(good, honest_seconds=1.1))[0]
