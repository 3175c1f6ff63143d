"""Broadcasts one behind another, whatever happens meanwhile; and what must have become of them in the end."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from doctor.answers import BroadcastAnswer
from tests.integration.deployment import Deployment
from tests.integration.engine import CommandFailed


class Flow:
    """Sends while the block lasts.

    Attributes:
        accepted: what the doctor has accepted, in that order.
        doubtful: texts for which it gave no answer: it may have accepted them before it died.
    """

    def __init__(self, deployment: Deployment, name: str) -> None:
        self.accepted: list[tuple[str, BroadcastAnswer]] = []
        self.doubtful: list[str] = []
        self._deployment = deployment
        self._name = name
        self._count = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Flow:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def go_on(self, count: int) -> None:
        """Wait until so many more are accepted."""
        goal = len(self.accepted) + count
        self._deployment.wait_until(f"{count} more are accepted", lambda: len(self.accepted) >= goal)

    def assert_each_once(self, patients: set[str]) -> None:
        """Wait until the last one is delivered; then everybody has every accepted text once, in order, and no doubtful one twice."""
        self._deployment.wait_for_delivery(self.accepted[-1][1])
        texts = [text for text, _ in self.accepted]
        inboxes = self._deployment.inboxes()
        assert inboxes.keys() == patients
        for patient, inbox in inboxes.items():
            ours = [text for text in inbox if text is not None and text.startswith(self._name)]
            assert len(ours) == len(set(ours)), f"{patient} has something twice: {ours}"
            assert [text for text in ours if text not in self.doubtful] == texts, patient

    def _send(self) -> None:
        while not self._over.is_set():
            self._count += 1
            text = f"{self._name}, message {self._count}."
            try:
                self.accepted.append((text, self._deployment.broadcast(text)))
            except CommandFailed:
                self.doubtful.append(text)
                time.sleep(0.2)  # a doctor that is gone is asked anew, but not all the time
