"""What stands in the way of a patient's messages: the latest cause for each patient, for the person who asks what is wrong.

Law: in memory and bounded. The log has the whole story; this is its last page.
"""

from __future__ import annotations

from datetime import UTC, datetime

LIMIT = 10_000  # patients; the one that was in trouble the longest time ago is forgotten first


class Troubles:
    """The latest trouble of each patient."""

    def __init__(self) -> None:
        self._latest: dict[str, str] = {}

    def note(self, patient_id: str, cause: str, wall: int) -> None:
        """Something could not be done for a patient. `wall` in milliseconds since the Unix epoch."""
        self._latest.pop(patient_id, None)
        when = datetime.fromtimestamp(wall / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        self._latest[patient_id] = f"{when}: {cause}"
        if len(self._latest) > LIMIT:
            del self._latest[next(iter(self._latest))]

    def of(self, patient_id: str) -> str | None:
        """The latest trouble of a patient, with its time."""
        return self._latest.get(patient_id)
