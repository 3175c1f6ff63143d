"""The checks of `telemed-doctor doctor` about what listens where, and whether others find it; see `doctor.selfcheck`."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from doctor.console import certificates
from doctor.inviting import addresses_of
from doctor.metrics_server import require_off_the_devices_network
from doctor.mistakes import Mistake, Place
from doctor.probe import probe
from doctor.settings import WILDCARDS, console_directory
from doctor.wildcards import is_everywhere
from shared.storage.keyfile import require_private_file

PATIENCE = 2.0  # seconds that an address may take to answer
RENEW = timedelta(days=14)


def device_port(place: Place) -> str:
    """A running doctor answers there as itself; where none runs, the port is free."""
    host, port = place.settings.listen_host, place.settings.listen_port
    if port == 0:
        return f"{host}, a free port at each start"
    if place.running:
        probe(place.settings)
        return f"{host}:{port} answers as this doctor"
    _require_free(host, port, "listen_host", "listen_port")
    return f"{host}:{port} is free"


def addresses(place: Place) -> str:
    """What invitations tell devices leads here."""
    settings = place.settings
    named = addresses_of(settings, settings.listen_port)
    outside = [each for each in named if not all(map(_is_loopback, _resolve(each)))]
    if settings.addresses and not outside and not _listens_on_loopback(place):
        raise Mistake(
            f"Invitations name {' '.join(named)} alone, which is each device's own loopback; the doctor listens on {settings.listen_host}.",
            "Set addresses to what devices see from outside, such as [gateway.clinic.example:7700].",
        )
    if outside and _listens_on_loopback(place):
        raise Mistake(
            f"Invitations name {' '.join(outside)}, and the doctor listens on {settings.listen_host}, for this computer alone.",
            "Set listen_host to 0.0.0.0, or to this machine's address on the devices' network.",
        )
    if not settings.addresses and settings.listen_host in WILDCARDS:
        raise Mistake(
            f"None is set, so invitations name this machine as {' '.join(named)}, which devices may not find.",
            "Set addresses to what devices see from outside, such as [gateway.clinic.example:7700].",
            advice=True,
        )
    if place.running and settings.listen_port:
        for each in named:
            _require_answer(each)
    return " ".join(named)


def console(place: Place) -> str:
    """Its address, its certificate, its port."""
    settings = place.settings
    host, port = settings.console_host, settings.console_port
    if port is None:
        return "none is wanted"
    if is_everywhere(host):
        raise Mistake(
            f"console_host {host} would be on the devices' network too.",
            "Name this machine's address on the network that people use, or 127.0.0.1.",
        )
    certificate, key = settings.console_certificate, settings.console_key
    if certificate == certificates.SELF_SIGNED:
        made = console_directory(settings.state_dir) / "certificate.pem"
        certificate, key = (str(made), str(made.with_name("key.pem"))) if made.exists() else (None, None)
    elif certificate is None and key is None and not all(map(_is_loopback, _resolve(f"{host}:{port}"))):
        raise Mistake(
            f"console_host {host} is not this machine alone, and there is no certificate.",
            "Set console_certificate and console_key, or console_host: 127.0.0.1.",
        )
    validity = _certificate(place, certificate, key) if certificate or key else "no certificate needed"
    if not place.running and port:
        _require_free(host, port, "console_host", "console_port")
    return f"{host}:{port}, {validity}"


def metrics(place: Place) -> str:
    """Their address and their port."""
    settings = place.settings
    if settings.metrics_port is None:
        return "on the API's socket alone"
    require_off_the_devices_network(settings)
    if not place.running and settings.metrics_port:
        _require_free(settings.metrics_host, settings.metrics_port, "metrics_host", "metrics_port")
    return f"{settings.metrics_host}:{settings.metrics_port}"


def _certificate(place: Place, certificate: str | None, key: str | None) -> str:
    if certificate is None or key is None:
        raise Mistake("console_certificate and console_key belong together.", "Set both, or neither.")
    require_private_file(Path(key))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        leaf = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
    except (OSError, ValueError) as error:
        raise Mistake(
            f"console_certificate {certificate} and console_key {key} are of no use: {error}.",
            "They are PEM files: the certificate with its chain, and the key that belongs to it.",
        ) from error
    now, end = datetime.fromtimestamp(place.now / 1000, UTC), leaf.not_valid_after_utc
    remedy = f"Put a new one at {certificate} and restart the doctor; a self-signed one is made anew at each start that needs it."
    if not leaf.not_valid_before_utc <= now <= end:
        raise Mistake(
            f"The console's certificate is valid until {end:%Y-%m-%d %H:%M} UTC, and not now.", remedy
        )
    if end - now < RENEW:
        raise Mistake(f"The console's certificate ends on {end:%Y-%m-%d %H:%M} UTC.", remedy, advice=True)
    return f"certificate until {end:%Y-%m-%d}"


def _require_free(host: str, port: int, host_key: str, port_key: str) -> None:
    found = _resolve(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    family = socket.AF_INET6 if ":" in found[0] else socket.AF_INET
    try:
        with socket.socket(family) as trying:
            trying.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trying.bind((host, port))
            trying.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Mistake(
                f"{host}:{port} is in use by another program.",
                f"End it (`ss -ltnp 'sport = :{port}'` names it), or set {port_key} to a free one.",
            ) from error
        raise Mistake(
            f"{host}:{port} cannot be taken ({error.strerror}).",
            f"Set {host_key} to an address of this machine, and {port_key} to a port that it may use.",
        ) from error


def _listens_on_loopback(place: Place) -> bool:
    host = place.settings.listen_host
    return host not in WILDCARDS and all(
        map(_is_loopback, _resolve(f"{host}:0" if ":" not in host else f"[{host}]:0"))
    )


def _resolve(address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise Mistake(
            f"{address} is no address that this machine knows ({error.strerror}).",
            "Correct the name, or see that it can be resolved.",
        ) from error
    return [str(each[4][0]) for each in found]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _require_answer(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except OSError as error:
        raise Mistake(
            f"{address}, which invitations name, does not answer ({error.strerror or error}).",
            "Correct addresses, or let the firewall pass the port. Where this machine cannot see its own outer address, try it from"
            " a device.",
            advice=True,
        ) from error
