"""Many lean patients that connect at the same moment, as a ward's devices do after a power cut: one thread, one poll."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Sequence

from lab.bench.lean import PATIENCE, RECEIVE_SIZE, LeanPatient, LeanSession, NotEstablished
from shared.protocol.events import Confirmed, Event, RetryAsked
from shared.protocol.patient_handshake import Hello


def connect(patients: Sequence[LeanPatient], address: tuple[str, int]) -> list[LeanSession]:
    """A session for each, in their order, on which the handshake is over: the doctor's first record has come.

    All are under way at once, and the doctor lets a handshake take ten seconds: call it for a thousand at a time.

    Raises:
        NotEstablished: one of them ended instead, or nothing came any more. OSError: the network.
    """
    crowd = _Crowd(patients, address)
    while not crowd.established:
        crowd.turn()
    return crowd.sessions()


class _Crowd:
    def __init__(self, patients: Sequence[LeanPatient], address: tuple[str, int]) -> None:
        self._patients = patients
        self._address = address
        self._poll = select.epoll()
        self._knocking: dict[int, tuple[int, LeanSession]] = {}
        self._done: dict[int, LeanSession] = {}
        self._retries: deque[tuple[int, Hello]] = deque()
        for number in range(len(patients)):
            self._knock(number, None)

    @property
    def established(self) -> bool:
        return len(self._done) == len(self._patients)

    def sessions(self) -> list[LeanSession]:
        self._poll.close()
        return [self._done[number] for number in range(len(self._patients))]

    def turn(self) -> None:
        ready = self._poll.poll(PATIENCE)
        if not ready:
            raise NotEstablished(f"The doctor says nothing more to {len(self._knocking)} patients.")
        for descriptor, _ in ready:
            self._read(descriptor)
        while self._retries:
            self._knock(*self._retries.popleft())

    def _knock(self, number: int, hello: Hello | None) -> None:
        session = LeanSession(self._patients[number].begin(hello), self._address)
        self._knocking[session.socket.fileno()] = (number, session)
        self._poll.register(session.socket.fileno(), select.EPOLLIN)

    def _read(self, descriptor: int) -> None:
        number, session = self._knocking[descriptor]
        data = session.socket.recv(RECEIVE_SIZE)
        events = session.take(data)
        retry = next((event for event in events if isinstance(event, RetryAsked)), None)
        if retry is not None:
            self._leave(descriptor)
            session.close()
            self._retries.append((number, retry.hello))
        elif _confirmed(events):
            self._leave(descriptor)
            self._done[number] = session
        elif not data:
            raise NotEstablished(f"The doctor ended the connection; before that: {events}.")

    def _leave(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._knocking[descriptor]


def _confirmed(events: Sequence[Event]) -> bool:
    return any(isinstance(event, Confirmed) for event in events)
