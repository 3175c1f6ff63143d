"""Foreign programs that listen on loopback: a port for them, and the moment when they answer."""

from __future__ import annotations

import socket
import subprocess
import time

HOST = "127.0.0.1"
PATIENCE = 30.0  # seconds that a program may take to listen


def free_port() -> int:
    """A port that was free a moment ago; foreign programs cannot be handed an open socket."""
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port


def wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until it accepts connections.

    Raises:
        ConnectionRefusedError: it has ended, or takes too long.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((HOST, port), PATIENCE).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.01)  # nothing tells when a foreign program has begun to listen
        else:
            return
