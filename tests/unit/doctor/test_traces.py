"""The last handshakes, for whoever watches the protocol at work."""

from __future__ import annotations

from pathlib import Path

from doctor import traces
from doctor.traces import KEPT, STEPS, Traces
from shared.protocol.events import Direction, Traced
from shared.wire.checks import Check
from tests.doctor_bench import LOG, ME, Device, on_a_loop, running


@on_a_loop
async def test_a_handshake_is_kept_with_its_checks(tmp_path: Path) -> None:
    """One that succeeds, and one that is refused with the check that it failed."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        (trace,) = doctor.house.traces.newest_first()
        assert (trace.patient, trace.established, trace.failed) == ("anna", True, None)
        messages = [(traced.direction, traced.message) for _, traced in trace.steps]
        assert messages[0] == (Direction.RECEIVED, "KEY_EXCHANGE")
        assert len(messages) == 5
        assert trace.steps[0][1].checks
        await doctor.gateway.commands.revoke("anna", ME)
        await anna.gone()
        again = Device(anna.invitation, key=anna.key)
        await doctor.connect(again)
        await LOG.until("refused", patient="anna")

        failed = doctor.house.traces.newest_first()[0]
        assert failed.failed is not None
        assert failed.failed[0] is Check.NOT_REVOKED
        assert failed.patient == "anna"
        assert not failed.established


def test_there_are_so_many_and_strangers_push_out_nobody_else() -> None:
    """However many knock, those that have proved a key stay; each has a bound of its own."""
    it = Traces()
    step = Traced(Direction.RECEIVED, "KEY_EXCHANGE", 10, 64)
    proved = it.begin("192.0.2.1")
    it.proved(proved, "anna")
    for _ in range(10 * KEPT):
        stranger = it.begin("198.51.100.9")
    for _ in range(10 * STEPS):
        stranger.add(step)

    assert len(it.newest_first()) == KEPT + 1
    assert it.newest_first()[-1] is proved
    assert len(stranger.steps) == STEPS
    assert traces.KEPT == 50
