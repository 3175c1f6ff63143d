"""The operator's word on a restored database: what it lacks, and the order to go on with it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from doctor import restoration
from doctor.answers import GapAnswer, RemovalAnswer, RestoreAnswer
from doctor.audit import Action
from doctor.desk import Desk
from doctor.facts import Restored
from doctor.idempotency import Origin
from doctor.restoration import Confirmation, Lost
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.net.stream import clock

_log = get_logger("commands")


class Confirming(Desk):
    """Shows and confirms a restored database."""

    def restore_state(self) -> RestoreAnswer:
        """What the operator has to know before confirming.

        Raises:
            UserError: no restored database waits.
        """
        return self._answer(self.reader, *self._waiting(), None)

    async def confirm_restore(self, origin: Origin) -> RestoreAnswer:
        """Go on with the restored database: burn a number in every stream, start every member after it, admit devices again.

        Raises:
            UserError: no restored database waits, or the clock is behind. StorageError: nothing has happened.
        """
        now, office = clock().wall, self._office

        def work(db: sqlite3.Connection) -> tuple[Confirmation, RestoreAnswer]:
            mark, lost = self._waiting()
            done = restoration.confirm(db, office.sealer, mark, lost, now, origin.actor)
            return done, self._answer(db, mark, lost, done)

        def effect(done: tuple[Confirmation, RestoreAnswer]) -> None:
            office.fanout.begin_anew(done[0].floor)
            office.restoration.confirmed(now)
            _log.warning("restore confirmed", number=done[0].floor, sequence=done[0].base)

        answer = await self._order(
            origin, ("confirm-restore",), work, effect, lambda done: done[1], RestoreAnswer, unconfirmed=True
        )
        try:
            self.sign_confirmation()
        except StorageError as error:
            _log.error("confirmation not signed yet", cause=str(error))
        return answer

    def sign_confirmation(self) -> None:
        """Say in the heads file that the last restore was confirmed, where that is due; called now and then.

        Raises:
            StorageError: the file cannot be read or written.
        """
        office = self._office
        if office.restoration.line_due:
            directory = Path(office.settings.audit_dir)
            restoration.complete_heads(
                office.reader, office.sealer, directory, office.keys.identity, clock().wall
            )
            office.restoration.line_due = False

    def _waiting(self) -> tuple[Restored, Lost]:
        pending = self._office.restoration.pending
        if pending is None:
            raise UserError("No restored database waits to be confirmed.")
        return pending, self._office.restoration.lost

    def _answer(
        self, db: sqlite3.Connection, mark: Restored, lost: Lost, done: Confirmation | None
    ) -> RestoreAnswer:
        known = {row[0] for row in db.execute("SELECT patient_id FROM patients")}
        gaps = done.gaps if done is not None else ()
        return RestoreAnswer(
            confirmed=done is not None,
            cause=mark.cause,
            found=mark.found,
            database_from=mark.base_time,
            base=mark.base,
            newest=max(lost.newest, mark.base),
            revoked=lost.subjects(Action.REVOKED),
            removed=[RemovalAnswer(line.group, line.subject) for line in lost.removals()],
            enrolled=[name for name in lost.subjects(Action.ENROLLED) if name not in known],
            voided=mark.voided,
            gaps=[GapAnswer(gap.stream, gap.after, gap.floor) for gap in gaps],
        )
