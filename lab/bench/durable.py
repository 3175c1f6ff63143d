"""P5: durable delivery to a thousand patients: from the order to the moment when the last receipt is booked.

Ours: the message is on the disk before anybody gets it, and every receipt is committed to the database before the clock stops. The
broker's: the publisher has its PUBACK, and the broker has read a PUBACK from every subscriber; its sessions are persistent,
but by default what it knows is written to the disk every half hour. Where it writes after every change, it still answers the publisher first.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lab.bench.comparison import Better, Comparison, Figure, Measured
from lab.bench.doctor import MeasuredDoctor
from lab.bench.drain import Drain
from lab.bench.fanout import BODY
from lab.bench.gateway_host import Broadcast, Invite
from lab.bench.part import Extent, Progress
from lab.bench.peers import mosquitto
from lab.bench.peers.mosquitto import Saving
from lab.bench.receipting import ReceiptingSubscribers
from lab.bench.timing import alternate, processor_seconds, turns
from shared.crypto.suites import DEFAULT_SUITE

PIPELINED = 20  # what a ward's programs hand over together
TARGET = 2.0
GLANCE = 0.001  # seconds between two looks for the last receipt

OURS = "ours"
NAMES = {
    Saving.DEFAULT: "mosquitto QoS 1, persistent, autosave 1800 s (not durable per message)",
    Saving.EVERY_CHANGE: "mosquitto QoS 1, persistent, autosave on every change",
}
NOTE = (
    "until the last receipt: ours authenticated and in the database, one for all that a patient reads at once; the broker's PUBACK,"
    " one a message, and read by the broker, which keeps it in memory until it saves. Both share the drain and its processors"
)
AT_A_TIME = (
    "; one at a time, every delivery is a receipt of its own: a record to open in Python and a row to write, where the broker changes"
    " some bytes"
)


@dataclass(slots=True)
class Contender:
    """Somebody who delivers durably.

    Attributes:
        publish: hand over so many messages; returns when they are accepted.
        settle: returns when the last receipt is booked, once the drain has sent it.
        costs: processor time of the server a delivery, of each round so far.
    """

    name: str
    pid: int
    drain: Drain
    publish: Callable[[int], object]
    settle: Callable[[], object]
    costs: list[float] = field(default_factory=list)

    def rate(self, subscribers: int, messages: int) -> float:
        """Acknowledged deliveries a second of one round."""
        spent = began = ended = 0.0

        def publish() -> None:
            nonlocal spent, began
            spent, began = processor_seconds(self.pid), time.monotonic()
            self.publish(messages)

        def settle() -> None:
            nonlocal spent, ended
            self.settle()
            ended, spent = time.monotonic(), processor_seconds(self.pid) - spent

        self.drain.round(messages, BODY, publish, settle)
        self.costs.append(spent / (subscribers * messages))
        return subscribers * messages / (ended - began)


@contextmanager
def our_doctor(count: int) -> Iterator[Contender]:
    """The doctor, and patients that send receipts."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        doctor = stack.enter_context(MeasuredDoctor(directory, DEFAULT_SUITE.name))
        invitation = doctor.order(Invite())
        subscribers = ReceiptingSubscribers(invitation, DEFAULT_SUITE.name, doctor.address)
        drain = stack.enter_context(Drain(subscribers))
        drain.connect(count)
        yield Contender(
            OURS,
            doctor.pid,
            drain,
            lambda messages: doctor.order(Broadcast(messages, BODY)),
            lambda: doctor.settle(GLANCE),
        )


@contextmanager
def mosquitto_broker(count: int, saving: Saving) -> Iterator[Contender]:
    """mosquitto at QoS 1, with sessions and messages that it keeps."""
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto.broker(saving=saving))
        drain = stack.enter_context(Drain(mosquitto.MqttSubscribers(broker, 1)))
        drain.connect(count)
        publisher = mosquitto.Publisher(broker, 1)
        yield Contender(
            NAMES[saving],
            broker.pid,
            drain,
            lambda messages: publisher.publish(messages, BODY),
            publisher.ping,
        )


def compare(extent: Extent, progress: Progress) -> Measured:
    """P5, one message at a time and some at once."""
    subscribers, missing = extent.subscribers, set[str]()
    with ExitStack() as stack:
        contenders = [stack.enter_context(our_doctor(subscribers))]
        for saving in Saving:
            try:
                contenders.append(stack.enter_context(mosquitto_broker(subscribers, saving)))
            except FileNotFoundError as error:
                missing.add(f"Debian package {error}")
        progress.plan(2 * turns(len(contenders), extent.runs))
        one = _rounds(contenders, extent, 1, progress)
        some = _rounds(contenders, extent, PIPELINED, progress)
    rows = _rows(f"{subscribers} patients, {PIPELINED} messages of 1 KiB at once", some, NOTE)
    rows += _rows(f"{subscribers} patients, one message of 1 KiB at a time", one, NOTE + AT_A_TIME)
    return Measured(rows, sorted(missing))


def _rounds(
    contenders: Sequence[Contender], extent: Extent, messages: int, progress: Progress
) -> dict[str, tuple[Figure, Figure]]:
    """Of each contender the rate, and the server's processor time a delivery in the same rounds."""
    measures = [partial(each.rate, extent.subscribers, messages) for each in contenders]
    rates = alternate(measures, extent.runs, progress)
    costs = [Figure.of(each.costs[-extent.runs :]) for each in contenders]
    return {each.name: (rate, cost) for each, rate, cost in zip(contenders, rates, costs, strict=True)}


def _rows(extent: str, figures: Mapping[str, tuple[Figure, Figure]], note: str) -> list[Comparison]:
    rate, cost = figures[OURS]
    rates, costs = [], []
    for peer in NAMES.values():
        theirs, spent = figures.get(peer, (None, None))
        what = f"acknowledged deliveries a second, {extent}"
        rates.append(Comparison("P5", what, "1/s", Better.HIGHER, rate, peer, theirs, TARGET, note))
        what = f"the server's processor time an acknowledged delivery, {extent}"
        costs.append(Comparison("P5", what, "s", Better.LOWER, cost, peer, spent, None, note))
    return rates + costs
