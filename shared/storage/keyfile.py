"""Secret files and the directories around them: written whole or not at all, readable by their owner alone.

Law: every key, token and seed that rests in a file goes through these functions. A file that anybody else
could have read or changed is not used, because a secret that may have leaked is worse than a program that
does not start; the refusal says which command makes it right. Nothing here looks at what the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import stat
import tempfile
from pathlib import Path

from shared.errors import StorageError, UserError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by a file of mode 0600 that holds `data`, durably.

    Other processes and a crash see the old file or the new one, never a part: the bytes go to a new file
    beside it, reach the disk, and take the name in one step. A symbolic link at `path` is replaced, not
    followed.

    Raises:
        StorageError: the directory is missing or not writable, or the disk refused; the old file is
            untouched.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise StorageError(f"{path} was not written: {error.strerror} ({path.parent})") from error
    try:
        # mkstemp has created it with O_EXCL and 0600: at no moment is there a readable file with the secret.
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # already renamed: then only the directory's sync failed
            os.unlink(name)
        raise StorageError(f"{path} was not written: {error.strerror}") from error


def read_private(path: Path) -> bytes:
    """The content of a secret file that only the current user can read.

    Raises:
        UserError: it is a symbolic link or no regular file, belongs to another user, or its mode gives the
            group or others any permission; the message names the mode found and the command to run.
        StorageError: it does not exist or cannot be read.
    """
    try:
        # O_NOFOLLOW and fstat on the open file: what is checked is what is read. O_NONBLOCK: a FIFO must not
        # hang us.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(_symbolic_link(path)) from error
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    try:
        _require_private(path, os.fstat(descriptor))
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.readall()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def private_directory(path: Path) -> Path:
    """Make `path` a directory of mode 0700, or accept it if it is one already; returns it.

    Missing parents are created with the usual mode: it is this directory that guards what is inside.

    Raises:
        UserError: something else stands there, or the directory is another user's or open to the group or
            others.
        StorageError: it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if not path.is_dir():
                raise
        else:
            sync_directory(path.parent)  # a key in a directory that a power loss takes away is lost as well
    except FileExistsError as error:
        raise UserError(f"{path} is not a directory; move it away or name another one") from error
    except OSError as error:
        raise StorageError(f"directory {path} cannot be created: {error.strerror}") from error
    require_private_directory(path)
    return path


def require_private_directory(path: Path) -> None:
    """Check a directory as `private_directory` does, without making it.

    Raises:
        UserError: as `private_directory`. StorageError: it does not exist or the one above may not be searched.
    """
    try:
        found = path.lstat()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(found.st_mode):
        raise UserError(_symbolic_link(path))
    if not stat.S_ISDIR(found.st_mode):
        raise UserError(f"{path} is not a directory; move it away or name another one")
    _require_owner_alone(path, found, "700")


def require_private_file(path: Path) -> None:
    """Check an existing file as `read_private` does, without reading it (a database, a socket's token).

    Raises:
        UserError: as `read_private`.
        StorageError: it does not exist or its directory may not be searched.
    """
    try:
        found = path.lstat()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISLNK(found.st_mode):
        raise UserError(_symbolic_link(path))
    _require_private(path, found)


def sync_directory(path: Path) -> None:
    """Make a new or renamed entry of the directory survive a power loss (fsync). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _require_private(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"{path} is not a regular file; a secret is read from a regular file only")
    _require_owner_alone(path, found, "600")


def _require_owner_alone(path: Path, found: os.stat_result, wanted: str) -> None:
    quoted = shlex.quote(str(path))
    if found.st_uid != os.geteuid():
        raise UserError(
            f"{path} belongs to uid {found.st_uid}, but this program runs as uid {os.geteuid()}; "
            f"run: chown {os.geteuid()} {quoted}"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & _OTHERS:
        raise UserError(
            f"{path} has mode {mode:04o}: others than its owner have access; run: chmod {wanted} {quoted}"
        )


def _symbolic_link(path: Path) -> str:
    return (
        f"{path} is a symbolic link; put the real file or directory there, secrets are not read through links"
    )
