"""mosquitto, the broker that most people would put between a doctor and devices: MQTT 3.1.1, plain or over TLS, QoS 0 or 1."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, unique
from pathlib import Path

from lab.bench.peers.listening import HOST, free_port, wait_until_listening
from lab.bench.peers.tls import Certificate, client_context

PACKAGE = "mosquitto"
TOPIC = b"\x00\x01b"

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x82, 0x90
PINGREQ, PINGRESP = 0xC0, 0xD0


@unique
class Saving(Enum):
    """When a broker with persistence writes its store: its default, or after every change."""

    DEFAULT = 1800
    EVERY_CHANGE = 1


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker."""

    pid: int
    port: int
    certificate: Certificate | None


@contextmanager
def broker(certificate: Certificate | None = None, saving: Saving | None = None) -> Iterator[Broker]:
    """A broker of its own on loopback; `saving` None: nothing is persistent.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise FileNotFoundError(PACKAGE)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="telemed-bench-") as name:
        directory = Path(name)
        path = directory / "mosquitto.conf"
        path.write_text("\n".join(_configuration(directory, port, certificate, saving)) + "\n")
        process = subprocess.Popen(
            [program, "-c", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_listening(port, process)
            yield Broker(process.pid, port, certificate)
        finally:
            process.terminate()
            process.wait()


def _configuration(
    directory: Path, port: int, certificate: Certificate | None, saving: Saving | None
) -> list[str]:
    lines = [f"listener {port} {HOST}", "allow_anonymous true", "user root", "max_queued_messages 0"]
    lines += ["max_inflight_messages 0", "log_type none"]
    if certificate is not None:
        lines += [f"certfile {certificate.certificate}", f"keyfile {certificate.key}"]
    if saving is not None:
        lines += [
            "persistence true",
            f"persistence_location {directory}/",
            f"autosave_interval {saving.value}",
        ]
        lines += ["autosave_on_changes true"] if saving is Saving.EVERY_CHANGE else []
    return lines


@dataclass(slots=True)
class MqttSubscribers:
    """Subscribers of one broker; at QoS 1 with sessions that the broker keeps."""

    broker: Broker
    quality: int
    _rest: dict[int, bytes] = field(default_factory=dict)

    def connect(self, count: int) -> list[socket.socket]:
        """Connect and subscribe."""
        sockets = []
        for number in range(count):
            connected = session(self.broker, f"s{number}", clean=self.quality == 0)
            topic = b"\x00\x01" + TOPIC + bytes([self.quality])
            connected.sendall(_packet(SUBSCRIBE, topic))
            _expect(connected, SUBACK)
            sockets.append(connected)
        return sockets

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """Every message is a packet of the same size."""
        return messages * len(publication(body, self.quality, 1))

    def answer(self, number: int, data: memoryview) -> bytes:
        """At QoS 1, a PUBACK for each whole packet."""
        if not self.quality:
            return b""
        stream, acknowledged, start = self._rest.get(number, b"") + bytes(data), [], 0
        while (bounds := _packet_bounds(stream, start)) is not None:
            body, start = bounds
            acknowledged.append(b"\x40\x02" + stream[body + len(TOPIC) : body + len(TOPIC) + 2])
        self._rest[number] = stream[start:]
        return b"".join(acknowledged)

    def finish(self) -> None:
        """Nothing: what had to be acknowledged is."""


class Publisher:
    """A connection that publishes."""

    def __init__(self, to: Broker, quality: int) -> None:
        self._socket = session(to, "publisher", clean=True)
        self._quality = quality

    def publish(self, count: int, body: int) -> None:
        """Hand over so many messages; at QoS 1 returns when the broker has taken them all."""
        self._socket.sendall(
            b"".join(publication(body, self._quality, number % 60_000 + 1) for number in range(count))
        )
        if self._quality:
            missing = 4 * count
            while missing:
                missing -= len(self._socket.recv(missing))

    def ping(self) -> None:
        """Returns when the broker has answered, and so has read what others had sent it before."""
        self._socket.sendall(_packet(PINGREQ, b""))
        _expect(self._socket, PINGRESP)


def session(to: Broker, name: str, clean: bool) -> socket.socket:
    """A connected MQTT session."""
    raw: socket.socket = socket.create_connection((HOST, to.port), 30)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if to.certificate is not None:
        raw = client_context(to.certificate).wrap_socket(raw, server_hostname="localhost")
    flags = 2 if clean else 0
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x00" + struct.pack(">H", len(name)) + name.encode()
    raw.sendall(_packet(CONNECT, body))
    _expect(raw, CONNACK)
    return raw


def publication(size: int, quality: int, number: int) -> bytes:
    """A PUBLISH packet with a body of so many bytes."""
    identifier = struct.pack(">H", number) if quality else b""
    return _packet(PUBLISH | quality << 1, TOPIC + identifier + b"x" * size)


def _packet(kind: int, body: bytes) -> bytes:
    length, encoded = len(body), b""
    while True:
        length, digit = divmod(length, 128)
        encoded += bytes([digit | (128 if length else 0)])
        if not length:
            return bytes([kind]) + encoded + body


def _packet_bounds(stream: bytes, start: int) -> tuple[int, int] | None:
    """Where the body of the packet at `start` begins and ends; None while it is not whole."""
    length = shift = 0
    for position in range(start + 1, len(stream)):
        length |= (stream[position] & 127) << shift
        shift += 7
        if stream[position] < 128:
            end = position + 1 + length
            return (position + 1, end) if end <= len(stream) else None
    return None


def _expect(connected: socket.socket, kind: int) -> None:
    """Read one short packet of this kind."""
    head = _exactly(connected, 2)
    if head[0] != kind:
        raise ConnectionError(f"the broker sent packet {head[0]:#x} instead of {kind:#x}")
    _exactly(connected, head[1])


def _exactly(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        read = connected.recv(size - len(data))
        if not read:
            raise ConnectionError("the broker closed the connection")
        data += read
    return data
