"""The heartbeat file lives exactly as long as a session."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from patient import heartbeat
from patient.heartbeat import Heartbeat, patient_of


def test_the_file_is_there_from_start_to_stop(tmp_path: Path) -> None:
    """It holds the patient's id, and is gone afterwards."""
    path = tmp_path / "beat"

    async def main() -> str | None:
        beat = Heartbeat(path, "alice")
        beat.start()
        beat.start()
        found = patient_of(path)
        beat.stop()
        beat.stop()
        return found

    assert asyncio.run(main()) == "alice"
    assert not path.exists()
    assert patient_of(path) is None


def test_it_is_touched_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old file becomes young while the session lives."""
    path = tmp_path / "beat"
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.0)

    async def main() -> float:
        beat = Heartbeat(path, "alice")
        beat.start()
        os.utime(path, (0, 0))
        for _ in range(4):  # turns of the loop, in which the timer rings
            await asyncio.sleep(0)
        touched = path.stat().st_mtime
        beat.stop()
        return touched

    assert asyncio.run(main()) > 0


def test_without_a_path_nothing_is_written() -> None:
    """The setting may be absent."""

    async def main() -> None:
        beat = Heartbeat(None, "alice")
        beat.start()
        beat.stop()

    asyncio.run(main())

    assert patient_of(None) is None


def test_a_file_that_cannot_be_written_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The device works on; its healthcheck fails by itself."""

    async def main() -> None:
        beat = Heartbeat(tmp_path / "none" / "beat", "alice")
        beat.start()
        beat.stop()

    asyncio.run(main())

    assert "heartbeat not written" in capfd.readouterr().err


def test_a_file_that_cannot_be_removed_is_logged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A directory took its place: said, not raised."""
    path = tmp_path / "beat"

    async def main() -> None:
        beat = Heartbeat(path, "alice")
        beat.start()
        path.unlink()
        path.mkdir()
        beat.stop()

    asyncio.run(main())

    assert "heartbeat stays" in capfd.readouterr().err
