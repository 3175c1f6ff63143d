"""A health check that means something: the first half of a real handshake against the device port.

It passes when the port answers KEY_EXCHANGE with a prekey that this doctor's key signed and that is fresh.
"""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from doctor import keyring
from doctor.settings import DoctorSettings
from shared.crypto.suites import suite_by_name
from shared.errors import UserError
from shared.net.stream import clock
from shared.protocol import patient_handshake
from shared.protocol.patient_handshake import Identity
from shared.wire.checks import Checklist, PeerError
from shared.wire.framing import Frame, FrameBuffer
from shared.wire.opcodes import Opcode

TIMEOUT = 3.0

# What listens on every address is asked on this machine's own; `::` takes no IPv4.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104  compared, not bound


def probe(settings: DoctorSettings) -> None:
    """Do KEY_EXCHANGE and judge the reply.

    Raises:
        UserError: the port does not answer, or not as this doctor.
        StorageError: there is no key to judge it by: no doctor has run on this `state_dir`.
    """
    suite = suite_by_name(settings.suites[0])
    key = keyring.load_signing_key(Path(settings.state_dir), suite.signer.algorithm)
    identity = Identity(
        patient_id="probe",
        key=key,
        suite=suite,
        doctor_id=settings.doctor_id,
        doctor_key=key.public,
    )
    hello = patient_handshake.start(identity, secrets.token_bytes)
    host = _LOOPBACK.get(settings.listen_host, settings.listen_host)
    reply = _exchange(host, settings.listen_port, hello.m1)
    if reply.opcode is not Opcode.KEY_EXCHANGE_REPLY:
        raise UserError(f"The device port answered with {reply.opcode.name}.")
    try:
        patient_handshake.answer_reply(identity, hello, reply, clock(), Checklist(), secrets.token_bytes)
    except PeerError as error:
        raise UserError(f"The device port's answer does not verify: {error}") from error


def _exchange(host: str, port: int, request: bytes) -> Frame:
    buffer = FrameBuffer()
    try:
        with socket.create_connection((host, port), TIMEOUT) as connection:
            connection.sendall(request)
            while (frame := buffer.next_frame()) is None:
                data = connection.recv(4096)
                if not data:
                    raise UserError("The device port closed the connection without an answer.")
                buffer.receive(data)
    except (OSError, PeerError) as error:
        raise UserError(f"The device port {host}:{port} does not answer: {error}") from error
    return frame
