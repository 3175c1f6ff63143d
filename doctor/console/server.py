"""The console's TCP listener: where it may listen, and its certificate.

Law: plain HTTP is for loopback alone. Anywhere else there is a certificate, or nothing is bound.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from doctor.api.server import ApiServer
from doctor.console import certificates
from doctor.console.app import create_app
from doctor.console.connection import ANSWERED, ConsoleConnection
from doctor.console.desk import Console
from doctor.console.doorway import Doorway
from doctor.gateway import Gateway
from doctor.listening import bind, serving
from doctor.settings import DoctorSettings
from doctor.wildcards import is_everywhere
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.storage.keyfile import require_private_file

_log = get_logger("console")


@dataclass(frozen=True, slots=True)
class Identity:
    """The console's certificate: as the listener uses it, the names in it, and its SHA-256 in hexadecimal digits."""

    context: ssl.SSLContext
    names: tuple[str, ...]
    fingerprint: str


class ConsoleServer(ApiServer):
    """Listens on a socket that is bound already. `address`: where people find it."""

    def __init__(
        self, config: uvicorn.Config, bound: socket.socket, identity: Identity | None, address: str
    ) -> None:
        super().__init__(config)
        self.address = address
        self.fingerprint = identity.fingerprint if identity else None
        self._bound = bound
        self._protocol = partial(ConsoleConnection, config, self.server_state, {})
        self.doorway = (
            Doorway(bound, identity.context, self._protocol, lambda: len(self.server_state.connections))
            if identity
            else None
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; with a certificate, by a doorway of our own."""
        self.servers = []
        if self.doorway is not None:
            self.doorway.open()
        else:
            loop = asyncio.get_running_loop()
            self.servers.append(await loop.create_server(self._protocol, sock=self._bound))
        self.started = True
        _log.info("console ready", url=self.address)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: nobody new, then as uvicorn does."""
        if self.doorway is not None:
            await self.doorway.close()
        await super().shutdown(sockets)


def create_console(gateway: Gateway, settings: DoctorSettings) -> ConsoleServer | None:
    """The console's server, bound; None where none is wanted.

    Raises:
        UserError: it may not listen there, the port is taken, or certificate and key are of no use; says what to do.
    """
    if settings.console_port is None:
        return None
    if is_everywhere(settings.console_host):
        raise UserError(
            f"console_host {settings.console_host} would be on the devices' network too, and the console never is. Name this"
            " machine's address on the network that people use, or 127.0.0.1."
        )
    identity = _identity(settings)
    if identity is None and not _is_loopback(settings.console_host):
        raise UserError(
            f"console_host {settings.console_host} is not this machine alone, and the console speaks plain HTTP on loopback"
            " only. Set console_certificate and console_key, or console_host: 127.0.0.1."
        )
    bound = bind("console", settings.console_host, settings.console_port)
    console = Console(gateway.commands, gateway.house, settings.doctor_id, identity is not None)
    names = identity.names if identity else (_in_address(settings.console_host),)
    config = serving(create_app(console, names), ConsoleConnection, ANSWERED)
    address = _address(settings.console_host, bound.getsockname()[1], identity)
    return ConsoleServer(config, bound, identity, address)


def _identity(settings: DoctorSettings) -> Identity | None:
    certificate, key = settings.console_certificate, settings.console_key
    if certificate == certificates.SELF_SIGNED:
        certificate, key = map(str, certificates.self_signed(settings.state_dir))
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise UserError("console_certificate and console_key belong together: set both or neither.")
    try:
        require_private_file(Path(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        leaf = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
    except (OSError, ValueError, StorageError) as error:
        raise UserError(
            f"console_certificate {certificate} and console_key {key} are of no use: {error}. They are PEM files, the"
            " certificate with its chain, and the key that belongs to it."
        ) from error
    return Identity(context, certificates.names(leaf), leaf.fingerprint(SHA256()).hex())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(host: str, port: int, identity: Identity | None) -> str:
    """Where people find it: under a name that is in the certificate, if there is one."""
    named = [name for name in identity.names if name != "localhost" and "*" not in name] if identity else []
    name = named[0] if named else _in_address(host)
    return f"{'https' if identity else 'http'}://{name}:{port}/"


def _in_address(host: str) -> str:
    """A host as it stands in an address."""
    return f"[{host}]" if ":" in host else host.lower()
