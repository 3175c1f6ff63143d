"""P3 and P4: one message to a thousand patients, and a hundred at once; deliveries a second until the last one has the last byte.

Ours is accepted on disk, signed and sealed within the measured time; the brokers copy bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.bench.comparison import Better, Comparison, Figure
from lab.bench.doctor import MeasuredDoctor
from lab.bench.drain import Drain
from lab.bench.gateway_host import Broadcast, Invite
from lab.bench.peers import bare, mosquitto, nats, tls
from lab.bench.subscribers import OurSubscribers, frame_size
from lab.bench.timing import alternate
from shared.crypto.suites import DEFAULT_SUITE

BODY = 1024
PIPELINED = 100
P3_TARGET, P4_NATS_TARGET, P4_TLS_TARGET = 1.3, 2.0, 10.0


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who fans out: a drain with its subscribers, and the order to publish so many messages."""

    name: str
    drain: Drain
    publish: Callable[[int], object]

    def rate(self, subscribers: int, messages: int) -> float:
        """Deliveries a second of one round."""
        return subscribers * messages / self.drain.round(messages, BODY, lambda: self.publish(messages))


@contextmanager
def our_doctor(count: int) -> Iterator[Contender]:
    """The doctor and its patients."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        doctor = stack.enter_context(MeasuredDoctor(directory, DEFAULT_SUITE.name))
        invitation = doctor.order(Invite())
        drain = stack.enter_context(Drain(OurSubscribers(invitation, DEFAULT_SUITE.name, doctor.address)))
        drain.connect(count)
        yield Contender("ours", drain, lambda messages: doctor.order(Broadcast(messages, BODY)))


@contextmanager
def mosquitto_broker(count: int, certificate: tls.Certificate | None) -> Iterator[Contender]:
    """mosquitto at QoS 0."""
    with ExitStack() as stack:
        broker = stack.enter_context(mosquitto.broker(certificate))
        drain = stack.enter_context(Drain(mosquitto.MqttSubscribers(broker, 0)))
        drain.connect(count)
        publisher = mosquitto.Publisher(broker, 0)
        name = "mosquitto plain, QoS 0" if certificate is None else "mosquitto TLS, QoS 0"
        yield Contender(name, drain, lambda messages: publisher.publish(messages, BODY))


@contextmanager
def nats_server(count: int) -> Iterator[Contender]:
    """nats-server, core."""
    with ExitStack() as stack:
        server = stack.enter_context(nats.server())
        drain = stack.enter_context(Drain(nats.NatsSubscribers(server)))
        drain.connect(count)
        publisher = nats.Publisher(server)
        yield Contender("nats-server core", drain, lambda messages: publisher.publish(messages, BODY))


@contextmanager
def bare_loop(count: int) -> Iterator[Contender]:
    """The write loop that nothing can beat by much."""
    with ExitStack() as stack:
        server, frame = stack.enter_context(bare.server()), frame_size(BODY)
        drain = stack.enter_context(Drain(bare.BareSubscribers(server.port, frame)))
        drain.connect(count)
        yield Contender("bare uvloop writes", drain, lambda messages: server.publish(messages, frame))


def compare(subscribers: int, runs: int) -> tuple[list[Comparison], list[str]]:
    """P3 and P4, and the peers that are not installed."""
    missing: list[str] = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        certificate = tls.make_certificate(directory)
        ours = stack.enter_context(our_doctor(subscribers))
        plain = _if_installed(stack, mosquitto_broker(subscribers, None), missing)
        secured = _if_installed(stack, mosquitto_broker(subscribers, certificate), missing)
        fastest = _if_installed(stack, nats_server(subscribers), missing)
        floor = stack.enter_context(bare_loop(subscribers))
        one = _round(subscribers, 1, runs, [ours, plain, floor])
        many = _round(subscribers, PIPELINED, runs, [ours, fastest, secured, floor])
    single = f"deliveries a second, {subscribers} patients, one message of 1 KiB at a time"
    pipelined = f"deliveries a second, {subscribers} patients, {PIPELINED} messages of 1 KiB at once"
    return [
        _row("P3", single, one, ours, plain, "mosquitto plain, QoS 0", P3_TARGET),
        _row("P3", single, one, ours, floor, floor.name, None),
        _row("P4", pipelined, many, ours, fastest, "nats-server core", P4_NATS_TARGET),
        _row("P4", pipelined, many, ours, secured, "mosquitto TLS, QoS 0", P4_TLS_TARGET),
        _row("P4", pipelined, many, ours, floor, floor.name, None),
    ], sorted(set(missing))


def _if_installed(
    stack: ExitStack, contender: AbstractContextManager[Contender], missing: list[str]
) -> Contender | None:
    try:
        return stack.enter_context(contender)
    except FileNotFoundError as error:
        missing.append(f"Debian package {error}")
        return None


def _round(
    subscribers: int, messages: int, runs: int, contenders: Sequence[Contender | None]
) -> dict[str, Figure]:
    present = [each for each in contenders if each is not None]
    figures = alternate([partial(each.rate, subscribers, messages) for each in present], runs)
    return {each.name: figure for each, figure in zip(present, figures, strict=True)}


def _row(
    number: str,
    measure: str,
    figures: Mapping[str, Figure],
    ours: Contender,
    peer: Contender | None,
    name: str,
    target: float | None,
) -> Comparison:
    theirs = figures[peer.name] if peer is not None else None
    return Comparison(number, measure, "1/s", Better.HIGHER, figures[ours.name], name, theirs, target)
