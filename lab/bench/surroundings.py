"""What a benchmark ran on: the machine, and the versions of everything that takes part."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sqlite3
import ssl
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

LIBRARIES = ("cryptography", "pycryptodome", "gmpy2", "msgspec", "uvloop")
PEERS = (("mosquitto", "-h"), ("nats-server", "-v"), ("openssl", "version"))
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"


class Version(msgspec.Struct, frozen=True):
    """A library or program that took part."""

    name: str
    version: str


class Surroundings(msgspec.Struct, frozen=True):
    """Where and when.

    Args:
        date: of the day, in UTC.
        machine: processors, memory and system, in a line.
        load: how many processes wanted a processor when it began; above 0.5 or so somebody else was measured too.
    """

    date: str
    machine: str
    load: float
    versions: list[Version]

    @classmethod
    def now(cls) -> Surroundings:
        """This machine at this moment; called before anything is measured."""
        return cls(datetime.now(UTC).date().isoformat(), machine(), round(os.getloadavg()[0], 1), versions())


def machine() -> str:
    """What it runs on, in a line."""
    processors = len(os.sched_getaffinity(0))
    gigabytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = f"Linux {_number(platform.release())}, Python {platform.python_version()}"
    return f"{processors} × {_model()}, {gigabytes:.0f} GiB, {system}"


def versions() -> list[Version]:
    """Of the libraries that we stand on, and of the peers that are installed."""
    found = [Version(name, version(name)) for name in LIBRARIES]
    found += [
        Version("SQLite", sqlite3.sqlite_version),
        Version("OpenSSL in Python", _number(ssl.OPENSSL_VERSION)),
    ]
    for program, question in PEERS:
        path = shutil.which(program, path=SYSTEM_PATH)
        if path is not None:
            said = subprocess.run([path, question], capture_output=True, text=True, check=False)
            found.append(Version(program, _number(said.stdout + said.stderr)))
    return found


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


def _number(said: str) -> str:
    """The first number of a version in a text, without what a distribution or a host adds to it."""
    found = re.search(r"\d+(\.\d+)+[a-z]?", said)
    return found[0] if found else "unknown"
