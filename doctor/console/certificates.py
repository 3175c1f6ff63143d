"""The console's certificate: the names in one, and one that the doctor makes for itself.

A self-signed certificate is for one's own machine: a browser asks once, and `telemed-doctor console` shows the fingerprint to
compare. It names loopback alone.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from doctor.settings import console_directory
from shared.storage.keyfile import private_directory, write_private

SELF_SIGNED = "self-signed"
LIFETIME = timedelta(days=365)
RENEWED_BEFORE = timedelta(days=30)


def names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names that it is for, as a browser writes them."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = found.get_values_for_type(x509.IPAddress)
    return (
        *(name.lower() for name in found.get_values_for_type(x509.DNSName)),
        *(f"[{each}]" if each.version == 6 else str(each) for each in addresses),
    )


def self_signed(state_dir: str) -> tuple[Path, Path]:
    """Certificate and key that the doctor has made for itself; made anew before they expire.

    Raises:
        UserError: the directory is not private. StorageError: they cannot be written.
    """
    directory = private_directory(console_directory(state_dir))
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    if not (key.exists() and certificate.exists() and _fresh(certificate)):
        made, private = _make()
        write_private(key, private)
        write_private(certificate, made)
    return certificate, key


def _fresh(path: Path) -> bool:
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        return False
    return found.not_valid_after_utc > datetime.now(UTC) + RENEWED_BEFORE


def _make() -> tuple[bytes, bytes]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "telemed doctor console")])
    loopback = [x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1")]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost"), *loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
