"""The checks of `telemed-doctor doctor` about what a doctor stands on: its user, its volume, the clock's keeper; see `doctor.selfcheck`."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path

from doctor.mistakes import Mistake, Place
from doctor.settings import WILDCARDS

MOUNTS = Path("/proc/self/mountinfo")
NOT_SYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs"}
)
PASSING: Mapping[str, str] = {
    "tmpfs": "is in memory: a restart of the machine forgets all keys and messages",
    "ramfs": "is in memory: a restart of the machine forgets all keys and messages",
    "overlay": "is a container's own layer: it goes with the container, with all keys and messages",
}


def clock_is_kept() -> bool | None:
    """Whether the kernel says that something keeps its clock right; None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # all zeros: it only asks
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != NOT_SYNCHRONISED)


def mounts() -> str:
    """The mounted volumes as the kernel lists them; "" where it does not."""
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def user(place: Place) -> str:
    """Not the superuser."""
    if place.uid == 0:
        raise Mistake(
            "This is root: whoever found a way into the doctor would have the whole machine.",
            "Run it as a user of its own, and give it what is there: chown -R telemed "
            f"{place.settings.state_dir} {place.settings.audit_dir}",
            advice=True,
        )
    return f"uid {place.uid}"


def volume(place: Place) -> str:
    """SQLite's log works there, and what is written stays."""
    state_dir = Path(place.settings.state_dir)
    kind = filesystem(place.mounts, state_dir.resolve())
    if kind in NETWORK:
        raise Mistake(
            f"{state_dir} is on a network file system ({kind}), where a database's locks and log do not work.",
            "Set state_dir to a directory on a disk of this machine; backups may go over the network.",
        )
    if kind in PASSING:
        raise Mistake(
            f"{state_dir} {PASSING[kind]} ({kind}).",
            "Set state_dir to a directory on a disk; in a container, mount a volume there.",
            advice=True,
        )
    return kind or "unknown here"


def filesystem(mounted: str, path: Path) -> str:
    """The kind of the volume that holds a path, which need not exist; "" where the list does not say.

    Args:
        mounted: lines as of /proc/self/mountinfo, proc(5).
        path: absolute, without symbolic links.
    """
    found, longest = "", -1
    for line in mounted.splitlines():
        fields, _, source = line.partition(" - ")
        if not source or len(fields.split()) < 5:
            continue
        point = fields.split()[4].encode().decode("unicode_escape")  # a space in a name is \\040 there
        # The later of two mounts on one point covers the earlier.
        if path.is_relative_to(point) and len(point) >= longest:
            found, longest = source.split()[0], len(point)
    return found


def time_service(place: Place) -> str:
    """Something keeps the clock right."""
    if place.clock_kept is False:
        raise Mistake(
            "The kernel says that nothing keeps this machine's clock right.",
            "Let chrony or systemd-timesyncd do it: devices and doctor refuse each other when their clocks are half a minute apart.",
            advice=True,
        )
    return "unknown here" if place.clock_kept is None else "keeps the clock"


def ports(place: Place) -> str:
    """No two of the settings name the same one; each of them alone may be free."""
    settings = place.settings
    wanted = [
        ("listen_port", settings.listen_host, settings.listen_port),
        ("console_port", settings.console_host, settings.console_port),
        ("metrics_port", settings.metrics_host, settings.metrics_port),
    ]
    taken: dict[int, tuple[str, str]] = {}
    for key, host, port in wanted:
        if not port:
            continue
        if port in taken and (taken[port][1] == host or {taken[port][1], host} & set(WILDCARDS)):
            raise Mistake(
                f"{taken[port][0]} and {key} are both {port}.",
                f"Set {key} to another port; the one of them that comes second does not start.",
            )
        taken[port] = (key, host)
    return " ".join(f"{key} {port}" for port, (key, _) in taken.items()) or "free ones at each start"
