"""`telemed-doctor doctor`: what is most often wrong where a doctor does not run as it should, and how to mend it.

Law: read-only, and it takes no lock, so it can be asked beside a running doctor as well as where none starts. A check is one function
of the table below: it returns what it found in order, or raises `Mistake`.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, unique
from pathlib import Path

import msgspec

from doctor import heads, keyring, listening_checks, surroundings_checks
from doctor.answers import HealthAnswer
from doctor.api.server import SOCKET_PATH_LIMIT
from doctor.client import Client, DoctorUnreachable
from doctor.database import MIGRATIONS
from doctor.descriptors import STRANGERS
from doctor.heads import HEADS_FILE
from doctor.journal import JOURNAL_FILE
from doctor.mistakes import Mistake, Place
from doctor.settings import SOCKET_NAME, DoctorSettings, api_directory
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.protocol.clock import SECOND
from shared.storage.keyfile import require_private_directory, require_private_file

MIB = 1024 * 1024
LEAST_ROOM = 256 * MIB  # free on a volume; below it a ward's messages of an hour may not fit
SLACK = 2 * SECOND  # a file system's times are coarse

_MAGIC = b"SQLite format 3\0"
_VERSION_AT = 60  # of user_version in the file's header, https://www.sqlite.org/fileformat.html section 1.3


@unique
class Verdict(Enum):
    """What a check says."""

    OK = "ok"
    ADVICE = "advice"  # it works, and should be otherwise
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True):
    """One row: the check, its verdict, what was found, and where something is to be done, what."""

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def look_at(settings: DoctorSettings) -> Place:
    """This machine, now."""
    return Place(
        settings,
        _answers(settings),
        clock().wall,
        resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        os.geteuid(),
        surroundings_checks.clock_is_kept(),
        surroundings_checks.mounts(),
    )


def examine(place: Place) -> Iterator[Finding]:
    """Apply every check."""
    for name, check in CHECKS.items():
        yield _judge(name, check, place)


def _judge(name: str, check: Callable[[Place], str], place: Place) -> Finding:
    try:
        return Finding(name, Verdict.OK, check(place))
    except Mistake as mistake:
        verdict = Verdict.ADVICE if mistake.advice else Verdict.WRONG
        return Finding(name, verdict, str(mistake), mistake.remedy)
    except (UserError, StorageError, DoctorUnreachable) as error:
        return Finding(name, Verdict.WRONG, str(error))  # these say themselves what to do
    except OSError as error:
        return Finding(
            name, Verdict.WRONG, f"{error.filename}: {error.strerror}", "Make it readable for the doctor."
        )


def _answers(settings: DoctorSettings) -> bool:
    """Whether a doctor listens on the API's socket: its lock is not touched, a doctor that starts now must get it."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(api_directory(settings.state_dir) / SOCKET_NAME))
        except OSError:
            return False
    return True


# Each check


def _doctor(place: Place) -> str:
    if not place.running:
        return "not running"
    with Client(place.settings.state_dir) as client:
        try:
            client.get("/readyz", HealthAnswer)
        except UserError as error:
            raise Mistake(
                "It runs, and is not ready.",
                "See its log; after a restore, `telemed-doctor confirm-restore`.",
            ) from error
    return "running, and ready"


def _state_dir(place: Place) -> str:
    state_dir = Path(place.settings.state_dir)
    if not state_dir.exists():
        return _can_be_made(state_dir, "state_dir")
    for directory in (state_dir, *(state_dir / name for name in ("keys", "api", "console"))):
        if directory.exists():
            require_private_directory(directory)
            _require_writable(directory, "state_dir")
    return str(state_dir)


def _keys(place: Place) -> str:
    state_dir = Path(place.settings.state_dir)
    if (state_dir / "doctor-id").exists():  # it would be written otherwise
        keyring.keep_name(state_dir, place.settings.doctor_id)
    if not place.database.exists() and not (state_dir / "keys" / "storage.key").exists():
        return "made at the first start"
    keys = keyring.load(state_dir)
    return f"{len(keys.signing)} for signatures, and the storage key"


def _database(place: Place) -> str:
    path = place.database
    if not path.exists():
        return "made at the first start"
    require_private_file(path)
    with path.open("rb") as file:
        header = file.read(100)
    if header and not header.startswith(_MAGIC):
        raise Mistake(
            f"{path} is no database.", "Put it back, or restore a backup: `telemed-doctor restore FILE`."
        )
    version = int.from_bytes(header[_VERSION_AT : _VERSION_AT + 4], "big")
    if version > len(MIGRATIONS):
        raise Mistake(
            f"{path} has schema {version}, this release knows {len(MIGRATIONS)}: a newer one wrote it.",
            f"Install that release again, or restore the copy {path.name}.before-v{version} that it made.",
        )
    # What the newest transactions say of it stands in SQLite's log until the doctor stops.
    return f"{path}, schema {version}" if version else str(path)


def _audit_dir(place: Place) -> str:
    audit_dir = Path(place.settings.audit_dir)
    if audit_dir.exists():
        require_private_directory(audit_dir)
        _require_writable(audit_dir, "audit_dir")
        for name in (HEADS_FILE, JOURNAL_FILE):
            if (audit_dir / name).exists():
                require_private_file(audit_dir / name)
    else:
        _can_be_made(audit_dir, "audit_dir")
    volumes = {_standing(Path(each)).stat().st_dev for each in (audit_dir, place.settings.state_dir)}
    if len(volumes) == 1:
        raise Mistake(
            f"{audit_dir} is on the same volume as {place.settings.state_dir}.",
            "Set audit_dir to a directory on another one: who puts back the whole volume is not noticed otherwise.",
            advice=True,
        )
    return f"{audit_dir}, on a volume of its own"


def _room(place: Place) -> str:
    free = []
    for key in ("state_dir", "audit_dir"):
        directory = _standing(Path(getattr(place.settings, key)))
        room, places = shutil.disk_usage(directory).free, os.statvfs(directory)
        if room < LEAST_ROOM or (places.f_files and not places.f_favail):
            raise Mistake(
                f"The volume of {directory} has {room // MIB} MiB free and room for {places.f_favail} files.",
                "Make room: without it orders are refused. Old copies (doctor.db.before-v…, doctor.db.replaced-…) may go.",
            )
        free.append(room)
    size = place.database.stat().st_size if place.database.exists() else 0
    if free[0] < 2 * size:
        raise Mistake(
            f"{free[0] // MIB} MiB are free, the database has {size // MIB}.",
            "Make room: a backup and an upgrade each need one more copy of it.",
            advice=True,
        )
    return f"{free[0] // MIB} MiB free"


def _clock(place: Place) -> str:
    times = {
        path: round(path.stat().st_mtime * 1000)
        for directory in (place.settings.state_dir, place.settings.audit_dir)
        for path in Path(directory).glob("*")
        if path.is_file()
    }
    audit_dir = Path(place.settings.audit_dir)
    if (head := heads.newest(audit_dir)) is not None:
        times[audit_dir / HEADS_FILE] = max(head.time, times.get(audit_dir / HEADS_FILE, 0))
    path, newest = max(times.items(), key=lambda each: each[1], default=(audit_dir, 0))
    if newest > place.now + SLACK:
        raise Mistake(
            f"This machine's clock is {(newest - place.now) / 1000:.0f} s behind the last entry in {path}.",
            "Set it, and let it be kept (chrony, systemd-timesyncd): messages are numbered by it, and devices compare theirs.",
        )
    return "not behind anything that the doctor has written"


def _api_socket(place: Place) -> str:
    path = api_directory(place.settings.state_dir) / SOCKET_NAME
    if (size := len(os.fsencode(path))) > SOCKET_PATH_LIMIT:
        raise Mistake(
            f"{path} has {size} bytes, a socket's path at most {SOCKET_PATH_LIMIT}.",
            "Set state_dir to a shorter path.",
        )
    return str(path)


def _open_files(place: Place) -> str:
    needed = round(place.settings.half_open_limit / STRANGERS)
    if place.descriptors < needed:
        raise Mistake(
            f"{place.descriptors} may be open; half_open_limit {place.settings.half_open_limit} needs {needed}.",
            f"Raise the limit (systemd: LimitNOFILE={needed}; Compose: ulimits.nofile), or lower half_open_limit.",
        )
    return f"{place.descriptors} may be open"


def _provisioning(place: Place) -> str:
    if place.settings.provisioning_file is None:
        return "none is wanted"
    path = Path(place.settings.provisioning_file)
    if path.exists():
        return str(path)
    if not path.parent.is_dir():
        raise Mistake(
            f"{path.parent} is no directory.", "Make it, or set provisioning_file to one that is there."
        )
    _require_writable(path.parent, "provisioning_file")
    return f"{path}, written at the first start"


def _standing(path: Path) -> Path:
    """The path, or what is there of it."""
    return next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())


def _can_be_made(path: Path, key: str) -> str:
    above = _standing(path)
    if not above.is_dir():
        raise Mistake(f"{path} cannot be made: {above} is a file.", f"Set {key} to another place.")
    _require_writable(above, key)
    return f"{path}, made at the first start"


def _require_writable(directory: Path, key: str) -> None:
    if not os.access(directory, os.W_OK | os.X_OK):
        raise Mistake(
            f"{directory} is not writable for uid {os.geteuid()}, or its volume is read-only.",
            f"Give it to the doctor's user, mount the volume for writing, or set {key} to another place.",
        )


CHECKS: Mapping[str, Callable[[Place], str]] = {
    "doctor": _doctor,
    "user": surroundings_checks.user,
    "state directory": _state_dir,
    "volume": surroundings_checks.volume,
    "keys": _keys,
    "database": _database,
    "audit directory": _audit_dir,
    "free space": _room,
    "clock": _clock,
    "time service": surroundings_checks.time_service,
    "API socket": _api_socket,
    "open files": _open_files,
    "fleet invitation": _provisioning,
    "ports": surroundings_checks.ports,
    "device port": listening_checks.device_port,
    "addresses in invitations": listening_checks.addresses,
    "console": listening_checks.console,
    "metrics": listening_checks.metrics,
}
"""Every check by the name that people see, in the order in which they are shown."""
