"""The peers behave as what they stand for: the textbook scheme signs, a drain counts, MQTT packets are cut where they end."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from multiprocessing import Pipe
from threading import Thread

from lab.bench.drain import _work
from lab.bench.peers import bare, mosquitto, textbook
from lab.bench.peers.mosquitto import Broker, MqttSubscribers
from lab.bench.subscribers import frame_size
from lab.bench.timing import alternate, seconds_per_call, turns


def test_the_textbook_scheme_works_as_published() -> None:
    """What is measured is a real key, a real signature and a real ciphertext."""
    key = textbook.generate(textbook.PUBLISHED_BITS)
    signature = textbook.sign(key, b"take two")
    assert textbook.verify(key, b"take two", signature)
    assert not textbook.verify(key, b"take ten", signature)
    assert len(textbook.encrypt(bytes(16), b"x" * 16)) == 48


def test_measures_are_taken_in_turns_and_the_first_turn_does_not_count() -> None:
    """A machine that slows down wrongs neither."""
    taken: list[str] = []

    def measure(name: str) -> float:
        taken.append(name)
        return float(len(taken))

    figures = alternate([lambda: measure("a"), lambda: measure("b")], 2)
    assert taken == ["a", "b"] * 3
    assert [figure.value for figure in figures] == [4.0, 5.0]


def test_the_first_turn_counts_for_what_has_just_been_done() -> None:
    """No doctor is started twice to find out how long one start takes."""
    taken: list[float] = []

    def measure() -> float:
        taken.append(3.0)
        return 3.0

    figures = alternate([measure], 1, warmed_up=True)
    assert [figure.value for figure in figures] == taken == [3.0]
    assert turns(1, 1, warmed_up=True) == len(taken)


def test_a_functions_time_is_an_average_over_many_calls() -> None:
    """However short it is."""
    calls: list[int] = []
    assert seconds_per_call(lambda: calls.append(1), 10) > 0
    assert len(calls) >= 10


def test_every_publication_at_qos_1_is_acknowledged_once_however_it_is_cut() -> None:
    """Whole packets only, with their own numbers."""
    subscribers = MqttSubscribers(Broker(0, 0, None), 1)
    stream = b"".join(mosquitto.publication(200, 1, number) for number in (7, 8, 9))
    answers = b""
    for start in range(0, len(stream), 100):
        answers += subscribers.answer(0, memoryview(stream[start : start + 100]))
    assert answers == b"\x40\x02\x00\x07\x40\x02\x00\x08\x40\x02\x00\x09"


def test_all_broadcasts_of_one_length_have_frames_of_one_length() -> None:
    """The drain counts on it."""
    assert len({frame_size(1024) for _ in range(20)}) == 1


@dataclass
class Wires:
    """Subscribers whose other ends the test holds."""

    ends: list[socket.socket]
    finished: int = 0

    def connect(self, count: int) -> list[socket.socket]:
        """The ends that are there."""
        return self.ends

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """Plain bodies."""
        return messages * body

    def answer(self, number: int, data: memoryview) -> bytes:
        """An echo of the first byte of the second subscriber."""
        return bytes(data[:1]) if number == 1 else b""

    def finish(self) -> None:
        """Counted."""
        self.finished += 1


def test_the_drain_ends_a_round_when_the_last_subscriber_has_its_last_byte() -> None:
    """And lets a subscriber answer."""
    pairs = [socket.socketpair() for _ in range(2)]
    wires = Wires([far for _, far in pairs])
    ours, theirs = Pipe()
    thread = Thread(target=_work, args=(wires, theirs))
    thread.start()
    ours.send(("connect", 2))
    assert ours.recv() == 2
    ours.send(("expect", 3, 10))
    assert ours.recv() is None  # it reads
    pairs[0][0].sendall(b"a" * 30)
    pairs[1][0].sendall(b"b" * 29)
    assert pairs[1][0].recv(10)[:1] == b"b"
    assert not ours.poll()
    pairs[1][0].sendall(b"b")
    assert ours.recv() > 0
    assert wires.finished == 0  # what is left to say is not said while somebody measures
    ours.send(("finish",))
    assert ours.recv() is None
    assert wires.finished == 1
    ours.send(("end",))
    thread.join()
    for pair in pairs:
        for end in pair:
            end.close()


def test_the_bare_loop_writes_to_everyone_who_is_connected() -> None:
    """Also right after they have connected: it has taken them all by then."""
    with bare.server() as server:
        subscribers = bare.BareSubscribers(server.port, 3)
        for count in (1, 200):
            sockets = subscribers.connect(count)
            server.publish(1, 3)
            assert [each.recv(10) for each in sockets] == [b"xxx"] * len(sockets)
        for each in sockets:
            each.close()
