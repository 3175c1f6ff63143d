"""Values that rest in a database sealed, and open only in the cell they were written to.

Law: the only place that seals what a database holds. AES-256-GCM with a random 96-bit nonce; the associated
data names table, column and row, so that a value moved to another row does not open. The storage key comes
from a secret file and is in no backup of the database.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.crypto.aead import Aead
from shared.errors import InvalidSeal, StorageError


class Sealer:
    """Seals and opens the cells of one database under one storage key.

    Random nonces allow 2^32 values under one key (NIST SP 800-38D, 8.3); replace the key long before.

    Args:
        key: 32 bytes.
        random: returns that many unpredictable bytes.
    """

    def __init__(self, key: bytes, random: Callable[[int], bytes]) -> None:
        self._aead = Aead(key)
        self._random = random

    def seal(self, table: str, column: str, row: bytes, plaintext: bytes) -> bytes:
        """The value to store, 28 bytes longer than `plaintext`.

        `row` identifies the row for good, unlike a rowid, which SQLite may give again.
        """
        return self._aead.seal_random(plaintext, _cell(table, column, row), self._random)

    def open(self, table: str, column: str, row: bytes, sealed: bytes) -> bytes:
        """What `seal` was given for the same cell.

        Raises:
            StorageError: the value was changed, moved here from another cell, or sealed under another key; it
                names the table, the column and the row.
        """
        try:
            return self._aead.open_random(sealed, _cell(table, column, row))
        except InvalidSeal as error:
            raise StorageError(
                f"{table}.{column} of row {row.hex()} does not open: the database was changed, "
                "or this is not its storage key"
            ) from error


def _cell(table: str, column: str, row: bytes) -> bytes:
    # Each part with its length in front: ("ab", "c") and ("a", "bc") are different cells.
    parts = (table.encode(), column.encode(), row)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
