"""A running doctor signs the end of its audit log, and the file stays bounded."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor import heads, thinning, witness
from tests.doctor_bench import LOG, on_a_loop, running, verify_audit


@on_a_loop
async def test_the_heads_are_thinned_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And signed on, from the line that vouches for what is left."""
    monkeypatch.setattr(witness, "INTERVAL", 0.01)
    monkeypatch.setattr(thinning, "NEWEST", 2)
    async with running(tmp_path) as doctor:
        await LOG.until("audit head exported")
        await doctor.broadcast("one")
        await LOG.until("audit heads thinned")
        await doctor.broadcast("two")
        await LOG.until("audit head exported", count=3)
    kept = heads.read(tmp_path / "audit")
    assert any(head.kept is not None for head in kept[:-1])
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_heads_that_somebody_has_changed_are_kept_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor says so in its log and goes on."""
    monkeypatch.setattr(witness, "INTERVAL", 0.01)
    monkeypatch.setattr(thinning, "NEWEST", 3)
    path = tmp_path / "audit" / heads.HEADS_FILE
    async with running(tmp_path) as doctor:
        await LOG.until("audit head exported")
        await doctor.broadcast("one")
        await LOG.until("audit head exported", count=2)
        changed = path.read_bytes().replace(b'"place":1', b'"place":9', 1)
        path.write_bytes(changed)
        await doctor.broadcast("two")
        await LOG.until("timer failed")
        assert path.read_bytes().startswith(changed)
    assert verify_audit(tmp_path).first_bad is not None
