"""Disks in trouble: a small volume that is filled, made read-only, or refuses a process every further byte.

A volume of its own needs the right to mount one (root). Without it, `refuse_growth` is what is left: the kernel then fails every write
of a process beyond a size, which SQLite sees as an I/O error.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import StorageError

SIZE = 4 * 1024 * 1024
BALLAST = ".ballast"


class Volume:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Take every byte that is left."""
        with (self.path / BALLAST).open("ab", buffering=0) as ballast:
            chunk = 64 * 1024
            while chunk:
                try:
                    ballast.write(bytes(chunk))
                except OSError:
                    chunk //= 2

    def free(self) -> None:
        """Give it back."""
        (self.path / BALLAST).unlink(missing_ok=True)

    def set_read_only(self, read_only: bool) -> None:
        """Change how it is mounted; only while no program has a file on it open for writing.

        Raises:
            StorageError: it cannot be changed.
        """
        _mount("-o", f"remount,{'ro' if read_only else 'rw'}", str(self.path))


@contextmanager
def mounted(path: Path) -> Iterator[Volume]:
    """A new volume of SIZE bytes at a new directory, of mode 0700.

    Raises:
        StorageError: this user may not mount one.
    """
    path.mkdir(parents=True)
    _mount("-t", "tmpfs", "-o", f"size={SIZE},mode=700,nosuid,nodev", "none", str(path))
    try:
        yield Volume(path)
    finally:
        _run("umount", "--lazy", str(path))


@contextmanager
def covered(path: Path) -> Iterator[None]:
    """An empty read-only volume lies over a directory: what is open stays as it is, whatever is opened now fails.

    Raises:
        StorageError: this user may not mount one.
    """
    _mount("-t", "tmpfs", "-o", "ro,size=4k,mode=700,nosuid,nodev", "none", str(path))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(path))


def can_mount(directory: Path) -> bool:
    """Whether this user may mount a volume."""
    try:
        with mounted(directory / "volume"):
            return True
    except StorageError:
        return False


def refuse_growth(pid: int, refuse: bool) -> None:
    """Fail every write of a process that would make a file longer than one byte, or no longer."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 if refuse else hard, hard))


def _mount(*arguments: str) -> None:
    _run("mount", *arguments)


def _run(program: str, *arguments: str) -> None:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise StorageError(f"there is no {program} here")
    done = subprocess.run([found, *arguments], capture_output=True, check=False)
    if done.returncode:
        with contextlib.suppress(UnicodeDecodeError):
            raise StorageError(f"{program} {' '.join(arguments)}: {done.stderr.decode().strip()}")
