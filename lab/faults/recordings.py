"""Handshakes as an eavesdropper has recorded them, and what a doctor answers when they are played back to it.

Law: only bytes that were on the wire are sent, by somebody who holds no key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeAlias

from lab.faults.capture import Capture, Way
from shared.wire import messages
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import Alert
from shared.wire.opcodes import AlertCode, Opcode

PATIENCE = 30.0  # seconds for all answers

Answer: TypeAlias = tuple[int, AlertCode | None]
"""The opcode of what the doctor answered, and the code where it was an alert."""
REFUSED: Sequence[Answer] = ((Opcode.KEY_EXCHANGE_REPLY, None), (Opcode.ALERT, AlertCode.REFUSED))
"""What a recorded handshake must meet: a prekey that is not the one it was made for, and then a refusal."""


def handshakes(capture: Capture) -> list[tuple[bytes, bytes]]:
    """KEY_EXCHANGE and AUTH_REQUEST of every connection that has sent both, as whole frames."""
    sent: dict[int, list[bytes]] = {}
    for connection, frame in capture.frames(Way.TO_DOCTOR):
        sent.setdefault(connection, []).append(frame.data)
    wanted = [Opcode.KEY_EXCHANGE, Opcode.AUTH_REQUEST]
    return [(data[0], data[1]) for data in sent.values() if [each[1] for each in data[:2]] == wanted]


async def play_back(port: int, frames: Sequence[bytes]) -> list[Answer]:
    """Send recorded frames one by one to a doctor; the opcode of each answer, and the code of an alert."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers: list[Answer] = []
    try:
        async with asyncio.timeout(PATIENCE):
            for frame in frames:
                writer.write(frame)
                header = await reader.readexactly(HEADER_SIZE)
                payload = await reader.readexactly(int.from_bytes(header[2:], "big"))
                alert = messages.decode(Alert, payload).code if header[1] == Opcode.ALERT else None
                answers.append((header[1], alert))
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
        pass  # the answers so far tell
    finally:
        writer.close()
    return answers
