"""A file that is touched while a session lives; a container's healthcheck looks at its age.

It holds the patient id, so that a command in the same container knows whose device this is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from shared.logs import get_logger

INTERVAL_S = 20.0

_log = get_logger("heartbeat")


class Heartbeat:
    """Touches `path` from `start` to `stop`; does nothing where `path` is None.

    A heartbeat that cannot be written is logged: the device works on, and its healthcheck says the rest.
    """

    def __init__(self, path: Path | None, patient_id: str) -> None:
        self._path = path
        self._content = f"{patient_id}\n"
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """A session is established."""
        if self._timer is None:
            self._beat()

    def stop(self) -> None:
        """No session is established any more."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        if self._path is not None:
            try:
                self._path.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("heartbeat stays", path=str(self._path), cause=error.strerror)

    def _beat(self) -> None:
        if self._path is not None:
            try:
                self._path.write_text(self._content, encoding="ascii")
            except OSError as error:
                _log.warning("heartbeat not written", path=str(self._path), cause=error.strerror)
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._beat)


def patient_of(path: Path | None) -> str | None:
    """The id of the device that lives in this container, if it has a session now."""
    try:
        return path.read_text(encoding="ascii").strip() if path is not None else None
    except (OSError, ValueError):
        return None
