"""Mutual TLS 1.3 with P-256 certificates: what one would use for authenticated sessions instead of a protocol of one's own."""

from __future__ import annotations

import asyncio
import datetime
import multiprocessing
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from lab.bench.peers.listening import HOST, free_port, wait_until_listening
from lab.bench.timing import processor_seconds


@dataclass(frozen=True, slots=True)
class Certificate:
    """One self-signed certificate and its key, for both sides."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class TlsServer:
    """A listening server, and what a client needs to connect to it."""

    pid: int
    port: int
    context: ssl.SSLContext

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return HOST, self.port

    def processor_seconds(self) -> float:
        """Processor time so far."""
        return processor_seconds(self.pid)

    def callers(self, count: int) -> list[TlsCaller]:
        """So many new clients."""
        return [TlsCaller(self.context) for _ in range(count)]


class TlsCaller:
    """A full handshake, no resumption, by a client that shows its certificate, as part of a crowd (`lab.bench.newcomers`)."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._secured = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._shaken = False
        self.admitted = False

    def begin(self) -> bytes:
        """ClientHello."""
        return self._step()

    def take(self, data: bytes) -> bytes:
        """What TLS answers, and behind it a line whose echo says that the server has let us in.

        Raises:
            ssl.SSLError, ConnectionError: it has not.
        """
        if not data:
            raise ConnectionError("the TLS server has closed the connection")
        self._incoming.write(data)
        return self._step()

    def _step(self) -> bytes:
        try:
            if not self._shaken:
                self._secured.do_handshake()
                self._shaken = True
                self._secured.write(b"k\n")
            self.admitted = bool(self._secured.read(1))
        except ssl.SSLWantReadError:
            pass
        return self._outgoing.read()


def make_certificate(directory: Path) -> Certificate:
    """A P-256 certificate for localhost, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, SHA256())
    )
    found = Certificate(directory / "certificate.pem", directory / "key.pem")
    found.certificate.write_bytes(made.public_bytes(Encoding.PEM))
    found.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return found


@contextmanager
def uvloop_server(certificate: Certificate) -> Iterator[TlsServer]:
    """The fastest TLS server that Python has."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(certificate, theirs), daemon=True
    )
    process.start()
    theirs.close()  # a child that fails to start is then an end of file, and not waited for
    try:
        port = ours.recv()
        assert process.pid is not None  # noqa: S101  it is started
        yield TlsServer(process.pid, port, client_context(certificate))
    finally:
        process.terminate()
        process.join()


def openssl_server(certificate: Certificate) -> AbstractContextManager[TlsServer] | None:
    """`openssl s_server`, TLS in C; None where there is no openssl."""
    program = shutil.which("openssl")
    return None if program is None else _openssl(program, certificate)


@contextmanager
def _openssl(program: str, certificate: Certificate) -> Iterator[TlsServer]:
    port = free_port()
    files = ["-cert", certificate.certificate, "-key", certificate.key, "-CAfile", certificate.certificate]
    # -rev sends a line back reversed; -Verify demands the client's certificate.
    command = [program, "s_server", "-accept", f"{HOST}:{port}", "-tls1_3", "-rev", "-quiet", "-Verify", "1"]
    process = subprocess.Popen(
        [*command, "-num_tickets", "0", *map(str, files)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(port, process)
        yield TlsServer(process.pid, port, client_context(certificate))
    finally:
        process.terminate()
        process.wait()


def client_context(certificate: Certificate) -> ssl.SSLContext:
    """Of a client that trusts and shows this certificate."""
    context = ssl.create_default_context(cafile=certificate.certificate)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate.certificate, certificate.key)
    return context


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


def _serve(certificate: Certificate, parent: Connection) -> None:
    """The child process of `uvloop_server`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.load_verify_locations(certificate.certificate)
    context.verify_mode = ssl.CERT_REQUIRED

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Echo, HOST, 0, ssl=context)
        parent.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())
