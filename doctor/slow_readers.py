"""Devices that take nothing of what waits for them: cut, so that nothing is held for them, and caught up when they come back.

Law: what counts is progress, not speed. A device that takes a byte now and then is slow and stays; its cursor lags, and past the
log's retention it is cut as LAGGING. One that takes nothing for a time that is set is as good as gone.
"""

from __future__ import annotations

from doctor.fanout import Fanout
from shared.logs import get_logger
from shared.protocol.clock import Instant

_log = get_logger("gateway")


def cut(fanout: Fanout, now: Instant, patience: int) -> None:
    """Called now and then: look at every session, and cut those whose socket has made no progress for so many milliseconds."""
    for session in list(fanout.sessions.values()):
        stalled = session.stalled_for(now.elapsed)
        if stalled >= patience:
            pending = session.stream.buffered
            _log.warning("cut: reads nothing", seconds=stalled // 1000, pending=pending, **session.who)
            fanout.troubles.note(
                session.patient_id,
                f"it read nothing for {stalled // 1000} s while {pending} bytes waited, and was cut",
                now.wall,
            )
            # Not a word, which would only wait behind the others: what was sent and not acknowledged goes out anew.
            session.stream.reset()
