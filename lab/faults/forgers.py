"""Handshakes of valid format with a bad proof: what it costs an attacker to make a doctor work.

Law: a forger has the doctor's public words only. It is as thrifty as can be: one encapsulation serves for as long as the doctor
offers the same prekey, and the signature is made up.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import msgspec

from lab.faults.strangers import Crowd, Stranger
from shared.crypto.aead import TAG_SIZE
from shared.crypto.padding import pad
from shared.crypto.suites import DEFAULT_SUITE
from shared.net.stream import clock
from shared.protocol import key_schedule
from shared.protocol.patient_handshake import frame_of, seal_once
from shared.wire import messages
from shared.wire.framing import Frame, FrameBuffer
from shared.wire.messages import (
    KEY_SIZE,
    NONCE_SIZE,
    AuthClaims,
    AuthProof,
    AuthRequest,
    KeyExchange,
    KeyExchangeReply,
    Retry,
)
from shared.wire.opcodes import Opcode

PATIENCE = 5.0  # seconds for one connection
SUITE = DEFAULT_SUITE
SIGNATURE_SIZE = 64


class Forger:
    """Forges handshakes in the name of a patient.

    Args:
        crowd: whose connections it uses.
        patient: an id that the doctor knows.

    Attributes:
        cookies: how many it was given, by those that look at the answer.
    """

    def __init__(self, crowd: Crowd, patient: str) -> None:
        self._crowd = crowd
        self._patient = patient
        self._own = SUITE.kem.generate(secrets.token_bytes)
        self._key = SUITE.signer.generate(secrets.token_bytes)
        self._encapsulated: dict[bytes, tuple[bytes, bytes]] = {}
        self.cookies = 0

    async def blind(self) -> None:
        """KEY_EXCHANGE and AUTH_REQUEST at once, without waiting for an answer or looking at one."""
        stranger = await self._crowd.send()
        if stranger is not None:
            ciphertext = secrets.token_bytes(SUITE.kem.ciphertext_size - 65) + self._own.public[-65:]
            sealed = secrets.token_bytes(SUITE.handshake_padding + TAG_SIZE)
            request = messages.encode(AuthRequest(ciphertext, sealed))
            stranger.say(_frame(self._hello()) + frame_of(Opcode.AUTH_REQUEST, request))
            await self._end(stranger)

    async def insist(self) -> None:
        """The whole way: bring the cookie where one is asked for, and answer the reply with a request that opens."""
        hello, source = self._hello(), self._crowd.next_source()
        retry = await self._attempt(hello, source)
        if retry is not None:
            self.cookies += 1
            await self._attempt(msgspec.structs.replace(hello, cookie=retry), source)

    async def _attempt(self, message: KeyExchange, source: str) -> bytes | None:
        """One connection; the cookie, if that is what came back."""
        m1, buffer, cookie = _frame(message), FrameBuffer(), None

        def answer(stranger: Stranger, data: bytes) -> None:
            nonlocal cookie
            buffer.receive(data)
            frame = buffer.next_frame()
            if frame is None:
                return
            if frame.opcode is Opcode.RETRY:
                cookie = messages.decode(Retry, frame.payload).cookie
            elif frame.opcode is Opcode.KEY_EXCHANGE_REPLY:
                stranger.say(self._forged(m1, frame))

        stranger = await self._crowd.send(answer, source)
        if stranger is not None:
            stranger.say(m1)
            await self._end(stranger)
        return cookie

    async def _end(self, stranger: Stranger) -> None:
        """Until the doctor has ended it, or it takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await stranger.over.wait()
        stranger.let_go()

    def _hello(self) -> KeyExchange:
        return KeyExchange(SUITE.id, secrets.token_bytes(NONCE_SIZE), self._own.public, b"")

    def _forged(self, m1: bytes, frame: Frame) -> bytes:
        """An AUTH_REQUEST that opens; every check up to the proof passes."""
        reply = messages.decode(KeyExchangeReply, frame.payload)
        if reply.kem_public not in self._encapsulated:
            self._encapsulated[reply.kem_public] = SUITE.kem.encapsulate(
                reply.kem_public, secrets.token_bytes
            )
        ciphertext, secret = self._encapsulated[reply.kem_public]
        claims = AuthClaims(
            timestamp=clock().wall,
            nonce=secrets.token_bytes(NONCE_SIZE),
            doctor_id=reply.doctor_id,
            patient_id=self._patient,
            algorithm=self._key.algorithm,
            public_key=self._key.public,
            session_key=secrets.token_bytes(KEY_SIZE),
            invitation_id=None,
        )
        proof = AuthProof(messages.encode(claims), secrets.token_bytes(SIGNATURE_SIZE), None)
        plaintext = pad(messages.encode(proof), SUITE.handshake_padding)
        key = key_schedule.key_1(secret, key_schedule.transcript_1(m1, frame.data), ciphertext)
        return seal_once(Opcode.AUTH_REQUEST, AuthRequest, ciphertext, key, plaintext)


def _frame(message: KeyExchange) -> bytes:
    return frame_of(Opcode.KEY_EXCHANGE, messages.encode(message))
