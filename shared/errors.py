"""Every exception the project raises on purpose, in one tree.

TelemedError
├── LocalError          our own code used an interface wrongly: a bug in us, never the peer's doing
├── CryptoError         a primitive refused its input
│   ├── InvalidElement      a public value is malformed, out of range or outside its group
│   ├── InvalidSignature    a signature or key does not verify
│   └── InvalidSeal         an AEAD tag does not verify (a wrong key and a changed byte look alike)
├── PeerError           the other side broke the protocol; carries the coarse code it is told
├── StorageError        the disk or the database refused; nothing was accepted
├── ConfigError         a setting is unknown or has a bad value; names path and line
└── UserError           a person asked for something that cannot be done; says what to do instead

Peers are told an alert code only (`shared.wire.opcodes.AlertCode`); the cause goes to the log. Any other exception that
leaves `shared` is a bug in `shared`.
"""

from __future__ import annotations


class TelemedError(Exception):
    """Root of the tree; never raised itself."""


class LocalError(TelemedError):
    """An interface was used wrongly by our own program."""


class CryptoError(TelemedError):
    """A cryptographic primitive refused its input."""


class InvalidElement(CryptoError):
    """A public value is malformed, out of range or outside its group."""


class InvalidSignature(CryptoError):
    """A signature does not verify under the given key and message."""


class InvalidSeal(CryptoError):
    """An AEAD tag does not verify."""


class StorageError(TelemedError):
    """The disk or the database refused; whatever was asked for has not happened."""


class ConfigError(TelemedError):
    """A setting is unknown or has a bad value.

    `str(error)` is one line: file, path of the key, line, what was found and what was expected.
    """


class UserError(TelemedError):
    """A person asked for something that cannot be done. `str(error)` says why and what to do instead."""
