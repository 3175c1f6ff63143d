"""Secret files: whole or untouched, and refused with the command to run when others could have read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from shared.errors import StorageError, UserError
from shared.storage.keyfile import private_directory, read_private, require_private_file, write_private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_written_secret_is_read_back_and_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    """The mode is 0600 whatever the umask, and nothing else is left in the directory."""
    path = tmp_path / "identity.key"
    before = os.umask(0)
    try:
        write_private(path, b"\x00secret")
    finally:
        os.umask(before)

    assert read_private(path) == b"\x00secret"
    assert mode_of(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_writing_replaces_an_older_looser_file(tmp_path: Path) -> None:
    """The new content never passes through the old file's permissions."""
    path = tmp_path / "token"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")

    assert read_private(path) == b"new"


def test_writing_replaces_a_symbolic_link_and_leaves_its_target(tmp_path: Path) -> None:
    """A link planted at the name does not lead the secret elsewhere."""
    target, path = tmp_path / "elsewhere", tmp_path / "token"
    target.write_bytes(b"untouched")
    path.symlink_to(target)
    write_private(path, b"new")

    assert target.read_bytes() == b"untouched"
    assert not path.is_symlink()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """A name that cannot be replaced (a directory with content) is an error; the temporary file is removed."""
    path = tmp_path / "token"
    path.mkdir()
    (path / "content").touch()

    with pytest.raises(StorageError, match="token was not written: Is a directory"):
        write_private(path, b"new")

    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_a_missing_directory_names_it(tmp_path: Path) -> None:
    """The directory is the caller's to make: with `private_directory`."""
    with pytest.raises(StorageError, match=r"key was not written: No such file or directory \(.*missing\)"):
        write_private(tmp_path / "missing" / "key", b"new")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_looser_mode_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    """Any single permission of group or others is enough; the message names the mode found."""
    path = tmp_path / "my key"
    write_private(path, b"secret")
    path.chmod(mode)

    with pytest.raises(UserError) as refused:
        read_private(path)

    assert f"has mode {mode:04o}" in str(refused.value)
    assert f"chmod 600 '{path}'" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_command_in_the_refusal_mends_it(tmp_path: Path) -> None:
    """What the message says works when typed as it stands."""
    path = tmp_path / "my key"
    write_private(path, b"secret")
    path.chmod(0o644)
    with pytest.raises(UserError) as refused:
        read_private(path)
    os.system(str(refused.value).partition("run: ")[2])

    assert read_private(path) == b"secret"


def test_a_file_readable_by_its_owner_only_is_accepted(tmp_path: Path) -> None:
    """0400, as container secrets have it, is stricter and fine."""
    path = tmp_path / "key"
    write_private(path, b"secret")
    path.chmod(0o400)

    assert read_private(path) == b"secret"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_another_users_file_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    """An owner can change content and mode at any time, so the owner must be the user the program runs as."""
    path = tmp_path / "key"
    write_private(path, b"secret")
    os.chown(path, 12345, -1)

    with pytest.raises(
        UserError, match=f"belongs to uid 12345, but this program runs as uid 0; run: chown 0 {path}"
    ):
        read_private(path)


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    """Who may change the link may choose the key."""
    write_private(tmp_path / "real", b"secret")
    path = tmp_path / "key"
    path.symlink_to(tmp_path / "real")

    with pytest.raises(UserError, match="key is a symbolic link"):
        read_private(path)
    with pytest.raises(UserError, match="key is a symbolic link"):
        require_private_file(path)


def test_a_fifo_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    """A secret comes from a regular file; opening a FIFO without a writer would wait for ever."""
    path = tmp_path / "key"
    os.mkfifo(path, 0o600)

    with pytest.raises(UserError, match="not a regular file"):
        read_private(path)
    with pytest.raises(UserError, match="not a regular file"):
        require_private_file(path)


def test_a_directory_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    """Named as what it is, not as an error of reading."""
    with pytest.raises(UserError, match="not a regular file"):
        read_private(private_directory(tmp_path / "key"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Reading and checking say the same."""
    with pytest.raises(StorageError, match="key cannot be read: No such file or directory"):
        read_private(tmp_path / "key")
    with pytest.raises(StorageError, match="key cannot be read: No such file or directory"):
        require_private_file(tmp_path / "key")


def test_a_file_that_fails_while_it_is_read_is_named() -> None:
    """/proc/self/mem is a regular file of ours with mode 0600 whose first page cannot be read: a true I/O error."""
    with pytest.raises(StorageError, match="/proc/self/mem cannot be read: Input/output error"):
        read_private(Path("/proc/self/mem"))


def test_a_private_directory_is_made_with_its_parents_and_accepted_again(tmp_path: Path) -> None:
    """0700 whatever the umask; a second start finds it as it was."""
    path = tmp_path / "run" / "doctor"

    assert private_directory(path) == path
    assert private_directory(path) == path
    assert mode_of(path) == 0o700


def test_an_open_directory_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    """Others could list or replace what is inside."""
    path = private_directory(tmp_path / "state")
    path.chmod(0o755)

    with pytest.raises(UserError, match=f"has mode 0755: others .* run: chmod 700 {path}"):
        private_directory(path)


def test_a_file_or_link_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    """The directory itself must be the private one."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(private_directory(tmp_path / "real"))

    with pytest.raises(UserError, match="file is not a directory"):
        private_directory(tmp_path / "file")
    with pytest.raises(UserError, match="link is a symbolic link"):
        private_directory(tmp_path / "link")


def test_a_directory_that_cannot_be_made_is_named() -> None:
    """/proc takes no directories, not even from root."""
    with pytest.raises(StorageError, match="directory /proc/state cannot be created"):
        private_directory(Path("/proc/state"))
