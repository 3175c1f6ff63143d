"""A crowd of clients: all are there before the first is let in, each leaves when it is, and a refusal is told."""

from __future__ import annotations

import socket
from threading import Thread

import pytest

from lab.bench import newcomers


class Knocker:
    """Says a word, and waits for two."""

    def __init__(self) -> None:
        self.heard = b""
        self.admitted = False

    def begin(self) -> bytes:
        """The first word."""
        return b"knock "

    def take(self, data: bytes) -> bytes:
        """The second word, once the first is answered."""
        if not data:
            raise ConnectionError("closed")
        self.heard += data
        self.admitted = self.heard == b"who come"
        return b"me " if self.heard == b"who " else b""


def serve(listener: socket.socket, count: int, answers: list[bytes], heard: list[bytes]) -> Thread:
    """Take `count` connections, and only then answer each of them until it leaves."""

    def work() -> None:
        guests = [listener.accept()[0] for _ in range(count)]
        for guest in guests:
            said = guest.recv(100)
            for answer in answers:
                guest.sendall(answer)
                said += guest.recv(100)
            heard.append(said)
            guest.close()

    thread = Thread(target=work)
    thread.start()
    return thread


def test_a_crowd_is_there_before_the_first_is_served_and_each_leaves_when_it_is_let_in() -> None:
    """One process stands for devices that wait beside each other."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve(listener, 5, [b"who ", b"come"], heard)
        callers = [Knocker() for _ in range(5)]
        newcomers.visit(listener.getsockname(), callers)
        server.join()
    assert all(caller.admitted for caller in callers)
    assert heard == [b"knock me "] * 5


def test_a_crowd_that_is_not_let_in_says_so() -> None:
    """Nothing is counted as a handshake that is none."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = serve(listener, 2, [], [])
        with pytest.raises(ConnectionError, match="closed"):
            newcomers.visit(listener.getsockname(), [Knocker(), Knocker()])
        server.join()
