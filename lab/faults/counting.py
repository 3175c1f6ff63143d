"""`python -m lab.faults.counting`: the shipped doctor, with a count of the asymmetric operations that handshakes cost it.

Law: nothing is changed but that it is counted, from outside; the count is the last line of its log. With `--gullible` it lets everyone
pass as if a cookie had been shown: that is the doctor without the defence, which shows that the count sees what the attack does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from enum import Enum, unique
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from doctor import cli
from lab.processes import Program
from shared.crypto.suites import SUITES
from shared.protocol.clock import Instant
from shared.protocol.cookies import CookieJar
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.transitions import Step
from shared.wire.framing import Frame
from shared.wire.messages import KeyExchange

PROGRAM = ("-m", "lab.faults.counting")
GULLIBLE = "--gullible"
EVENT = "asymmetric operations"


@unique
class Standing(Enum):
    """What a connection had shown when it asked for a handshake."""

    NOT_ASKED = "not_asked"
    COOKIE = "cookie"
    NOTHING = "nothing"


class Count(msgspec.Struct):
    """Asymmetric operations in handshakes.

    Args:
        not_asked: for connections that came while the doctor asked nobody for a cookie.
        cookie: for those that were asked for one and showed it.
        nothing: for those that were asked for one and did not.
        retries: how often a cookie was asked for.
    """

    event: str = EVENT
    not_asked: int = 0
    cookie: int = 0
    nothing: int = 0
    retries: int = 0


def count_of(doctor: Program) -> Count:
    """What a counting doctor that has ended counted.

    Raises:
        IndexError: it has not said so.
    """
    return msgspec.convert(doctor.find(event=EVENT)[-1], Count)


class Meter:
    """Counts by wrapping; `install` cannot be undone, so it is for a process of its own."""

    def __init__(self, gullible: bool) -> None:
        self.count = Count()
        self._gullible = gullible
        self._standings: WeakKeyDictionary[DoctorConnection, Standing] = WeakKeyDictionary()
        # Whose message is being read: in this thread, since the writer's signs envelopes meanwhile.
        self._serving: ContextVar[DoctorConnection | None] = ContextVar("serving", default=None)

    def install(self) -> None:
        """Wrap the KEMs and signers, where a message comes in, and the question for a cookie."""
        for suite in SUITES.values():
            for kind, names in (
                (type(suite.kem), ("generate", "encapsulate", "decapsulate")),
                (type(suite.signer), ("sign", "verify")),
            ):
                for name in names:
                    self._count_calls(kind, name)
        self._note_who_is_served()
        self._watch_the_jar()

    def _count_calls(self, kind: type[Any], name: str) -> None:
        original: Callable[..., Any] = getattr(kind, name)
        if getattr(original, "counted", False):
            return  # two suites share it

        def counted(*args: Any, **kwargs: Any) -> Any:
            served = self._serving.get()
            if served is not None:
                self._add(self._standings.get(served, Standing.NOTHING))
            return original(*args, **kwargs)

        counted.counted = True  # type: ignore[attr-defined]
        setattr(kind, name, counted)

    def _add(self, standing: Standing) -> None:
        setattr(self.count, standing.value, getattr(self.count, standing.value) + 1)

    def _note_who_is_served(self) -> None:
        original = DoctorConnection._receive

        def receive(connection: DoctorConnection, step: Step, frame: Frame, now: Instant) -> None:
            token = self._serving.set(connection)
            try:
                original(connection, step, frame, now)
            finally:
                self._serving.reset(token)

        DoctorConnection._receive = receive  # type: ignore[method-assign, assignment]

    def _watch_the_jar(self) -> None:
        original = CookieJar.admits

        def admits(jar: CookieJar, message: KeyExchange, address: str, now: Instant) -> bool:
            demanded, asked = jar._demanded, [False]

            def note() -> bool:
                asked[0] = demanded()
                return asked[0]

            jar._demanded = note
            admitted = original(jar, message, address, now)
            jar._demanded = demanded
            served = self._serving.get()
            assert served is not None  # noqa: S101  the jar is asked while a message is read
            # Judged for itself, and not by what the doctor made of it.
            holds = jar._holds(message, address, now)
            standing = Standing.COOKIE if holds else Standing.NOTHING
            self._standings[served] = standing if asked[0] else Standing.NOT_ASKED
            self.count.retries += not admitted
            return admitted or self._gullible

        CookieJar.admits = admits  # type: ignore[method-assign, assignment]


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal, then say what was counted."""
    meter = Meter(GULLIBLE in arguments)
    meter.install()
    sys.argv = ["telemed-doctor", "serve"]
    code = cli.main()
    sys.stderr.write(msgspec.json.encode(meter.count).decode() + "\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
