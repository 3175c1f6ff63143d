"""What no doctor can be faster than: the public-key operations of one handshake, one after the other, and nothing else.

A handshake costs the doctor one decapsulation, one encapsulation, one verification and one signature; its prekeys cost next to
nothing, as thousands of handshakes share each. Where a peer's whole handshake costs less than twice that, nobody who speaks this
suite is twice as fast as that peer, in whatever language: sockets, disk and messages come on top.
"""

from __future__ import annotations

import os

from lab.bench.timing import seconds_per_call
from shared.crypto.kdf import Label
from shared.crypto.suites import Suite

COVERED = bytes(32)  # what is signed is a hash


def handshakes_a_second(suite: Suite) -> float:
    """Of one processor that does nothing but these four."""
    prekey, device, doctor = (
        suite.kem.generate(os.urandom),
        *(suite.signer.generate(os.urandom) for _ in "dd"),
    )
    ciphertext, _ = suite.kem.encapsulate(prekey.public, os.urandom)
    signature = suite.signer.sign(device, Label.AUTH_SIGNATURE, COVERED)
    return 1 / (
        seconds_per_call(lambda: suite.kem.decapsulate(prekey, ciphertext))
        + seconds_per_call(lambda: suite.kem.encapsulate(prekey.public, os.urandom))
        + seconds_per_call(
            lambda: suite.signer.verify(device.public, Label.AUTH_SIGNATURE, signature, COVERED)
        )
        + seconds_per_call(lambda: suite.signer.sign(doctor, Label.RESPONSE_SIGNATURE, COVERED))
    )
