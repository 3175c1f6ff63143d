"""P3 and P4: one message to a thousand patients, and a hundred at once; deliveries a second until the last one has the last byte.

Ours is accepted on disk, signed and sealed within the measured time; the brokers copy bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from lab.bench.comparison import Better, Comparison, Figure, Measured
from lab.bench.doctor import MeasuredDoctor
from lab.bench.drain import Drain
from lab.bench.gateway_host import Broadcast, Invite
from lab.bench.part import Extent, Progress
from lab.bench.peers import bare, mosquitto, nats, tls
from lab.bench.subscribers import OurSubscribers, frame_size
from lab.bench.timing import alternate, processor_seconds, turns
from shared.crypto.suites import DEFAULT_SUITE

BODY = 1024
PIPELINED = 100

PLAIN, SECURED, NATS = "mosquitto plain, QoS 0", "mosquitto TLS, QoS 0", "nats-server core"
OURS, BARE = "ours", "bare uvloop writes"
P3_TARGETS = {PLAIN: 1.3, BARE: None}
P4_TARGETS = {NATS: 2.0, SECURED: 10.0, BARE: None}

Figures: TypeAlias = Mapping[str, tuple[Figure, Figure]]
"""Of each contender the rate, and its processor time a delivery in the same runs."""

COST = "until the last byte is read; ours has accepted, signed and sealed within it"


@dataclass(slots=True)
class Contender:
    """Somebody who fans out.

    Attributes:
        pid: the process whose time counts.
        drain: with its subscribers.
        publish: the order to publish so many messages.
        settle: wait for what it still has to do after a round: it must not slow the next one's.
        costs: its processor time a delivery until the last byte was read, of each run so far.
    """

    name: str
    pid: int
    drain: Drain
    publish: Callable[[int], object]
    settle: Callable[[], object] = lambda: None
    costs: list[float] = field(default_factory=list)

    def rate(self, subscribers: int, messages: int, enough: int) -> float:
        """Deliveries a second of one run, which is one round or as many as it takes to have `enough` of them."""
        rounds = -(-enough // (subscribers * messages))
        seconds = spent = 0.0
        for _ in range(rounds):
            before = processor_seconds(self.pid)
            taken: list[float] = []  # before the subscribers say what is left to say
            seconds += self.drain.round(
                messages, BODY, lambda: self.publish(messages), partial(self._look, taken)
            )
            spent += taken[0] - before
            self.settle()
        deliveries = rounds * subscribers * messages
        self.costs.append(spent / deliveries)
        return deliveries / seconds

    def _look(self, taken: list[float]) -> None:
        taken.append(processor_seconds(self.pid))


@contextmanager
def our_doctor(count: int) -> Iterator[Contender]:
    """The doctor and its patients."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        doctor = stack.enter_context(MeasuredDoctor(directory, DEFAULT_SUITE.name))
        invitation = doctor.order(Invite())
        drain = stack.enter_context(Drain(OurSubscribers(invitation, DEFAULT_SUITE.name, doctor.address)))
        drain.connect(count)
        yield Contender(
            OURS, doctor.pid, drain, lambda messages: doctor.order(Broadcast(messages, BODY)), doctor.settle
        )


@contextmanager
def mosquitto_broker(count: int, certificate: tls.Certificate | None) -> Iterator[Contender]:
    """mosquitto at QoS 0."""
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto.broker(certificate))
        drain = stack.enter_context(Drain(mosquitto.MqttSubscribers(broker, 0)))
        drain.connect(count)
        publisher = mosquitto.Publisher(broker, 0)
        name = PLAIN if certificate is None else SECURED
        yield Contender(name, broker.pid, drain, lambda messages: publisher.publish(messages, BODY))


@contextmanager
def nats_server(count: int) -> Iterator[Contender]:
    """nats-server, core."""
    with ExitStack() as stack:
        server = stack.enter_context(nats.server())
        drain = stack.enter_context(Drain(nats.NatsSubscribers(server)))
        drain.connect(count)
        publisher = nats.Publisher(server)
        yield Contender(NATS, server.pid, drain, lambda messages: publisher.publish(messages, BODY))


@contextmanager
def bare_loop(count: int) -> Iterator[Contender]:
    """The write loop that nothing can beat by much."""
    with ExitStack() as stack:
        server, frame = stack.enter_context(bare.server()), frame_size(BODY)
        drain = stack.enter_context(Drain(bare.BareSubscribers(server.port, frame)))
        drain.connect(count)
        yield Contender(BARE, server.pid, drain, lambda messages: server.publish(messages, frame))


def compare(extent: Extent, progress: Progress) -> Measured:
    """P3 and P4."""
    subscribers, runs = extent.subscribers, extent.runs
    missing: list[str] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        certificate = tls.make_certificate(directory)
        ours = stack.enter_context(our_doctor(subscribers))
        plain = _if_installed(stack, mosquitto_broker(subscribers, None), missing)
        secured = _if_installed(stack, mosquitto_broker(subscribers, certificate), missing)
        fastest = _if_installed(stack, nats_server(subscribers), missing)
        floor = stack.enter_context(bare_loop(subscribers))
        single, pipelined = _present(ours, plain, floor), _present(ours, fastest, secured, floor)
        progress.plan(turns(len(single) + len(pipelined), runs))
        one = _round(extent, 1, single, progress)
        many = _round(extent, PIPELINED, pipelined, progress)
    at_a_time = f"{subscribers} patients, one message of 1 KiB at a time"
    at_once = f"{subscribers} patients, {PIPELINED} messages of 1 KiB at once"
    return Measured(
        [*_rows("P3", at_a_time, one, P3_TARGETS), *_rows("P4", at_once, many, P4_TARGETS)], missing
    )


def _present(*contenders: Contender | None) -> list[Contender]:
    return [each for each in contenders if each is not None]


def _if_installed(
    stack: ExitStack, contender: AbstractContextManager[Contender], missing: list[str]
) -> Contender | None:
    try:
        return stack.enter_context(contender)
    except FileNotFoundError as error:
        missing.append(f"Debian package {error}")
        return None


def _round(extent: Extent, messages: int, contenders: Sequence[Contender], progress: Progress) -> Figures:
    measures = [partial(each.rate, extent.subscribers, messages, extent.deliveries) for each in contenders]
    rates = alternate(measures, extent.runs, progress)
    costs = [Figure.of(each.costs[-extent.runs :]) for each in contenders]
    return {each.name: (rate, cost) for each, rate, cost in zip(contenders, rates, costs, strict=True)}


def _rows(
    number: str, extent: str, figures: Figures, targets: Mapping[str, float | None]
) -> list[Comparison]:
    rate, cost = figures[OURS]
    rates, costs = [], []
    for peer, target in targets.items():
        theirs, spent = figures.get(peer, (None, None))
        what = f"deliveries a second, {extent}"
        rates.append(Comparison(number, what, "1/s", Better.HIGHER, rate, peer, theirs, target))
        what = f"the server's processor time a delivery, {extent}"
        shown = spent.scaled(1e6) if spent else None
        costs.append(Comparison(number, what, "µs", Better.LOWER, cost.scaled(1e6), peer, shown, None, COST))
    return rates + costs
