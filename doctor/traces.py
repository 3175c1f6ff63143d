"""The last handshakes, message by message, for whoever wants to watch the protocol at work.

Law: a fixed number of them, each with a fixed number of steps; names, sizes, checks and outcomes, never a field of a message.
Handshakes of devices that have proved a key are kept apart from the others, so that strangers cannot push them out. It is kept of
every handshake whether somebody watches or not, so it costs as good as nothing: that is why nothing is worked out here.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from time import monotonic_ns, time_ns

from shared.protocol.events import Failed, Traced
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode

KEPT = 50  # of each kind
STEPS = 16  # a handshake has five; one that is beyond shows no more


class Trace:
    """One handshake.

    Attributes:
        number: counts up; unique while the doctor runs.
        address: where it comes from.
        began: nanoseconds since the Unix epoch.
        steps: each message with the time in nanoseconds of a clock that only goes forward.
        patient: whom the device has proved to be.
        failed: the check that it did not pass, and the cause.
        alerted: the code by which the device ended it.
        established: it was admitted.
        closed: the connection is gone, or the handshake is over.
    """

    __slots__ = (
        "address",
        "alerted",
        "began",
        "closed",
        "established",
        "failed",
        "number",
        "patient",
        "steps",
    )

    def __init__(self, number: int, address: str) -> None:
        self.number = number
        self.address = address
        self.began = time_ns()
        self.steps: list[tuple[int, Traced]] = []
        self.patient: str | None = None
        self.failed: tuple[Check, str] | None = None
        self.alerted: AlertCode | None = None
        self.established = False
        self.closed = False

    @property
    def name(self) -> str:
        """Names it in an address; another run of the doctor gives the same number another name."""
        return f"{self.number}-{self.began // 1000 % 2**32:08x}"

    def add(self, traced: Traced) -> None:
        """A message went out or was accepted."""
        if len(self.steps) < STEPS:
            self.steps.append((monotonic_ns(), traced))

    def fail(self, failed: Failed) -> None:
        """The peer broke a rule, as a stranger or as whom it had proved to be by then."""
        self.failed = (failed.check, failed.detail)
        self.patient = failed.patient_id or self.patient


class Traces:
    """The last ones."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._proved: deque[Trace] = deque(maxlen=KEPT)
        self._strangers: deque[Trace] = deque(maxlen=KEPT)

    def begin(self, address: str) -> Trace:
        """A handshake begins; as yet a stranger's."""
        trace = Trace(next(self._numbers), address)
        self._strangers.append(trace)
        return trace

    def proved(self, trace: Trace, patient_id: str) -> None:
        """The device has proved its key, and nothing speaks against it. One that is revoked stays among strangers: it comes without end."""
        trace.patient = patient_id
        self._proved.append(trace)

    def newest_first(self) -> list[Trace]:
        """All that are kept."""
        found = {trace.number: trace for trace in (*self._strangers, *self._proved)}
        return [found[number] for number in sorted(found, reverse=True)]
