"""How a device stays with its doctor: it connects, renews its session, waits and tries again, and when it may stop.

Law: only this file paces attempts. It never gives up on a hint: without a limit in the settings, only the doctor's authentic
word ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from patient import notices
from patient.backoff import Backoff, between
from patient.device import Conditions, Device
from patient.heartbeat import Heartbeat
from patient.identity import DeviceHome
from patient.link import Link
from patient.notices import Tell
from patient.settings import PatientSettings
from patient.verdicts import FAULTLESS, Reason, Verdict
from shared.errors import StorageError
from shared.logs import get_logger
from shared.storage.group_commit import may_pass

RENEW_AFTER_S = (45 * 60.0, 55 * 60.0)

_log = get_logger("presence")


@asynccontextmanager
async def opened(
    device: Device, settings: PatientSettings, tell: Tell, conditions: Conditions
) -> AsyncIterator[Device]:
    """The device with its inbox open. Where its disk refuses for the time being, it is waited for.

    Raises:
        UserError, StorageError: the inbox cannot be opened, and time would not help, or the permitted attempts have failed.
    """
    backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s, conditions.random)
    async with AsyncExitStack() as stack:
        while True:
            try:
                await stack.enter_async_context(device)
                break
            except StorageError as error:
                pause = backoff.next()
                if not may_pass(error) or backoff.failures == settings.attempts:
                    raise
                tell(notices.Waiting(f"This device cannot open its inbox yet: {error}"))
                await conditions.pause(pause)
        yield device


class Presence:
    """Keeps `device` with its doctor. The arguments are those of the device."""

    def __init__(
        self, device: Device, home: DeviceHome, settings: PatientSettings, tell: Tell, conditions: Conditions
    ) -> None:
        self._device = device
        self._home = home
        self._attempts = settings.attempts
        self._tell = tell
        self._pause = conditions.pause
        self._random = conditions.random
        self._renewal_after = conditions.renewal_after or self._draw_renewal
        self._backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s, conditions.random)
        beat = Path(settings.heartbeat_file) if settings.heartbeat_file is not None else None
        self._heartbeat = Heartbeat(beat, device.identity.patient_id)

    async def keep(self) -> Verdict:
        """Stay with the doctor; returns a final verdict, or the last one when the permitted attempts have failed.

        Raises:
            UserError: an address is no address.
            StorageError: a revocation could not be noted.
        """
        failed = 0
        while True:
            verdict, faultless = await self._stay()
            if verdict.reason is Reason.REVOKED:
                self._home.mark_revoked()
            if faultless:
                failed = 0
                self._backoff.reset()
            else:
                failed += 1
            if verdict.final or failed == self._attempts > 0:
                return verdict
            pause = self._backoff.next()
            _log.info("trying again", reason=verdict.reason, seconds=round(pause, 3), attempt=failed)
            await self._pause(pause)

    async def _stay(self) -> tuple[Verdict, bool]:
        """One session, renewals included: how it ended, and whether nobody is to blame for that."""
        try:
            link = await self._device.connect()
        except StorageError as error:
            verdict = Verdict(Reason.STORAGE, f"This device cannot read its inbox: {error}")
            self._tell(notices.Refused(verdict.reason.value, verdict.sentence, verdict.final))
            return verdict, False
        if isinstance(link, Verdict):
            return link, False
        self._heartbeat.start()
        try:
            verdict = await self._renew_until_it_ends(link)
        finally:
            self._heartbeat.stop()
        self._tell(notices.Disconnected(verdict.reason.value, verdict.sentence))
        if verdict.final:
            self._tell(notices.Refused(verdict.reason.value, verdict.sentence, verdict.final))
        return verdict, verdict.reason in FAULTLESS

    async def _renew_until_it_ends(self, link: Link) -> Verdict:
        backoff = Backoff(1.0, 60.0, self._random)
        pause = self._renewal_after()
        while not await link.closed_within(pause):
            # The old session serves on until the new one is established; then the doctor has replaced it already.
            successor = await self._device.connect()
            if isinstance(successor, Link):
                await self._device.drop(link)
                link, pause = successor, self._renewal_after()
                backoff.reset()
            elif successor.final or link.closed:
                verdict = self._device.verdict(link)
                await self._device.drop(link)
                return verdict if verdict.final else successor
            else:
                pause = backoff.next()
        verdict = self._device.verdict(link)
        await self._device.drop(link)
        return verdict

    def _draw_renewal(self) -> float:
        return between(*RENEW_AFTER_S, self._random)
