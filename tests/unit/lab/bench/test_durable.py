"""Durable delivery is measured to the last receipt: patients answer what they read, and the doctor settles when all is booked."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from lab.bench import durable
from lab.bench.comparison import Figure
from lab.bench.doctor import MeasuredDoctor
from lab.bench.drain import Drain
from lab.bench.durable import NAMES, OURS, PIPELINED, Contender
from lab.bench.gateway_host import Broadcast, Invite
from lab.bench.receipting import ReceiptingSubscribers
from lab.bench.subscribers import frame_size
from shared.crypto.suites import DEFAULT_SUITE


def test_every_patient_answers_what_it_reads_and_the_doctor_settles_when_all_is_booked(
    tmp_path: Path,
) -> None:
    """However its bytes are cut: one receipt for the whole messages, none for a piece; and the first alone opens them."""
    with contextlib.ExitStack() as stack:
        doctor = stack.enter_context(MeasuredDoctor(tmp_path, DEFAULT_SUITE.name))
        subscribers = ReceiptingSubscribers(doctor.order(Invite()), DEFAULT_SUITE.name, doctor.address)
        ends = subscribers.connect(2)
        for end in ends:
            stack.enter_context(end)
        doctor.settle()
        size = subscribers.round_size(ends, 2, 100)
        doctor.order(Broadcast(2, 100))
        first, second = (end.recv(size, socket.MSG_WAITALL) for end in ends)
        assert first == second
        cut = frame_size(100) + 10
        receipts = [
            subscribers.answer(1, memoryview(second[:10])),
            subscribers.answer(1, memoryview(second[10:cut])),
            subscribers.answer(1, memoryview(second[cut:])),
            subscribers.answer(0, memoryview(first)),
        ]
        assert [bool(receipt) for receipt in receipts] == [False, True, True, True]
        ends[1].sendall(receipts[1] + receipts[2])
        ends[0].sendall(receipts[3])
        doctor.settle()


def test_a_round_is_over_when_everything_is_settled() -> None:
    """And its cost is the server's, a delivery."""
    orders: list[str] = []

    class Reached(Drain):
        """A drain without a process, whose subscribers have it all at once."""

        def __init__(self) -> None:
            pass

        def round(
            self,
            messages: int,
            body: int,
            publish: Callable[[], object],
            then: Callable[[], object] = lambda: None,
        ) -> float:
            """Publish."""
            publish()
            orders.append("drained")
            then()
            return 0.0

    def publish(messages: int) -> None:
        orders.append(f"{messages} published")

    peer = Contender("a peer", os.getpid(), Reached(), publish, lambda: orders.append("settled"))
    assert peer.rate(10, 3) > 0
    assert orders == ["3 published", "drained", "settled"]
    assert len(peer.costs) == 1


def test_a_broker_that_is_not_installed_leaves_rows_without_a_ratio() -> None:
    """And the promise is neither kept nor broken."""
    figures = {OURS: (Figure.of([1000.0]), Figure.of([1e-5]))}
    rows = durable._rows(f"2 patients, {PIPELINED} messages", figures, durable.NOTE)
    assert [(row.peer, row.theirs, row.met) for row in rows] == 2 * [
        (name, None, None) for name in NAMES.values()
    ]
