"""The commands that keep the doctor's data safe: backup, restore, confirm-restore, accept-clock."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from doctor.answers import (
    BACKUP_DIGEST,
    BACKUP_ENTRY,
    BackupAnswer,
    PatientAnswer,
    RestoreAnswer,
    RestoredAnswer,
)
from doctor.terminal import (
    CONSOLE,
    ERRORS,
    AsJson,
    Configured,
    busy,
    calling,
    show_answer,
    show_table,
    time_text,
)
from shared.errors import StorageError, UserError
from shared.storage.keyfile import sync_directory

Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask: for programs.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(backup)
    app.command()(restore)
    app.command("confirm-restore")(confirm_restore)
    app.command("accept-clock")(accept_clock)


def backup(
    file: Annotated[str, typer.Argument(help="Where to write it; - is standard output.")],
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a backup of the running doctor's database to FILE. It holds no key: keep the folder keys/ as well, elsewhere."""
    if file == "-":
        if sys.stdout.isatty():
            raise UserError("A backup is no text; send it into a file: telemed-doctor backup - > FILE")
        answer = _download(sys.stdout.buffer, "standard output")
        sys.stdout.flush()
        if as_json:
            sys.stderr.write(msgspec.json.encode(answer).decode() + "\n")
        return
    with _whole_file(Path(file), force) as sink:
        answer = _download(sink, file)
    text = f"{file}: {answer.size} bytes, up to audit entry {answer.entry}. The keys are not in it; keep keys/ as well."
    show_answer(answer, as_json, lambda: CONSOLE.print(text, markup=False, soft_wrap=True))


@contextlib.contextmanager
def _whole_file(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A new file of mode 0600 that takes its name when everything is written and synced, and not before."""
    exists = UserError(f"{path} exists; name another file, or say --force.")
    if path.exists() and not force:
        raise exists
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if force:
                os.replace(unfinished, path)
            else:
                os.link(unfinished, path)  # unlike a rename, never over a file that has come meanwhile
            sync_directory(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)
    except FileExistsError:
        raise exists from None
    except OSError as error:
        raise StorageError(f"{path} was not written: {error.strerror}") from error


def _download(sink: BinaryIO, name: str) -> BackupAnswer:
    digest, size = hashlib.sha256(), 0
    with calling() as client, _progress() as show:

        def take(data: bytes, whole: int) -> None:
            nonlocal size
            sink.write(data)
            digest.update(data)
            size += len(data)
            show(size, whole)

        headers = client.download("/v1/backups", take)
    if digest.hexdigest() != headers[BACKUP_DIGEST]:
        raise StorageError(
            f"{name} was not written: what has come is not what the doctor has sent; try again"
        )
    return BackupAnswer(name, size, digest.hexdigest(), int(headers[BACKUP_ENTRY]))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    if not ERRORS.is_terminal:
        yield lambda done, whole: None
        return
    columns = (TextColumn("backup"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=ERRORS, transient=True) as progress:
        task = progress.add_task("backup", total=None)
        yield lambda done, whole: progress.update(task, completed=done, total=whole)


def restore(
    file: Annotated[str, typer.Argument(help="The backup; - is standard input.")], as_json: AsJson = False
) -> None:
    """Put the backup FILE in place of the database. The doctor must be stopped; when it starts, it waits for confirm-restore."""
    from doctor.restore import restore as put_in_place

    settings = Configured.settings()
    if file == "-":
        with busy("Checking the backup and putting it in place"):
            answer = put_in_place(settings, sys.stdin.buffer, "standard input")
    else:
        try:
            source = open(file, "rb")  # noqa: SIM115  closed below; only opening it is guarded
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}.") from error
        with source, busy("Checking the backup and putting it in place"):
            answer = put_in_place(settings, source, file)
    show_answer(answer, as_json, lambda: _show_restored(answer))


def _show_restored(answer: RestoredAnswer) -> None:
    if answer.aside is not None:
        _say(f"The former database is kept as {answer.aside}.")
    _say(f"{answer.file}, up to audit entry {answer.entry} of {time_text(answer.time)}, is in place.")
    _say("Start the doctor: it admits nobody and accepts nothing until `telemed-doctor confirm-restore`.")


def confirm_restore(yes: Yes = False, as_json: AsJson = False) -> None:
    """Show what a restored database lacks, and the roster; when you agree, the doctor goes on with it."""
    if as_json and not yes:
        raise typer.BadParameter("--json does not ask: say --yes as well")
    with calling() as client:
        if not yes:
            _show_restore(client.get("/v1/restore", RestoreAnswer))
            _show_roster(client.get("/v1/patients", list[PatientAnswer]))
            if not typer.confirm("Go on with this roster?", err=True):
                raise UserError("Nothing was changed. Revoke who must not come back, and ask again.")
        answer = client.post("/v1/restore/confirm", None, RestoreAnswer)
    show_answer(answer, as_json, lambda: _show_confirmed(answer))


def _show_restore(answer: RestoreAnswer) -> None:
    _say(
        f"This database is from {time_text(answer.database_from)}, audit entry {answer.base}: {answer.cause}."
    )
    if answer.newest > answer.base:
        _say(f"Lost: audit entries {answer.base + 1} to {answer.newest}, and whatever they record.")
    _say(f"Revoked since, and revoked again: {_names(answer.revoked)}.")
    removed = [f"{each.patient} from {each.group}" for each in answer.removed]
    _say(f"Removed from a group since, and removed again: {_names(removed)}.")
    _say(f"Enrolled since, and unknown now: {_names(answer.enrolled)}.")
    if answer.enrolled:
        _say("They have to be invited anew.")
    _say(f"Open invitations that were voided: {answer.voided}.")


def _show_roster(patients: list[PatientAnswer]) -> None:
    rows = [[each.patient, each.state, " ".join(each.groups), each.fingerprint] for each in patients]
    show_table(f"{len(rows)} patients", ["patient", "state", "groups", "fingerprint"], rows)


def _show_confirmed(answer: RestoreAnswer) -> None:
    rows = [[gap.stream, str(gap.after), str(gap.floor)] for gap in answer.gaps]
    show_table("Numbers that are not known any more", ["stream", "after", "up to"], rows)
    _say("The doctor accepts, admits and delivers again. Make a new fleet invitation where you use one.")


def accept_clock(yes: Yes = False, as_json: AsJson = False) -> None:
    """Say that this machine's clock is right, where the doctor does not start because it was ahead before. The doctor must be stopped."""
    from doctor import clock_word

    if as_json and not yes:
        raise typer.BadParameter("--json does not ask: say --yes as well")
    settings = Configured.settings()
    answer = clock_word.look(settings)
    if not yes:
        _say(
            f"This machine's clock shows {time_text(answer.now)}, the newest message has a number of {time_text(answer.newest)}."
        )
        if not typer.confirm("Is the clock right, and was it ahead then?", err=True):
            raise UserError("Nothing was changed. Set the clock, then start the doctor.")
    asyncio.run(clock_word.accept(settings))
    show_answer(answer, as_json, lambda: _say("It is noted in the audit log. Start the doctor."))


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


def _names(names: list[str]) -> str:
    return ", ".join(names) or "nobody"
