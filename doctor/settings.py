"""What can be configured of the doctor gateway; config/doctor.yaml is the commented example.

Law: declarations only. Every key has a default, so that the program starts without a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from shared.config import Address, LogFormat, LogLevel, Seconds, SuiteName, Text

Count: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")]
Hours: TypeAlias = Annotated[
    float, Meta(gt=0, le=87_600, description="a number of hours above 0, at most 87600")
]


# Every address of this machine.
WILDCARDS = frozenset({"0.0.0.0", "::", "*", ""})  # noqa: S104  compared, not bound
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SOCKET_NAME = "doctor.sock"
TOKEN_NAME = "token"  # noqa: S105  a file's name


def api_directory(state_dir: str) -> Path:
    """Where the API's socket and its token are: a 0700 directory."""
    return Path(state_dir) / "api"


def console_directory(state_dir: str) -> Path:
    """Where the console's own certificate and first password are: a 0700 directory."""
    return Path(state_dir) / "console"


class DoctorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of `telemed-doctor`; each is also the environment variable TELEMED_DOCTOR_<KEY>."""

    # The name in invitations, signatures and logs. Patients pin it with the keys: it cannot change later.
    doctor_id: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
            description="1 to 64 of a-z 0-9 . _ - that begin with a letter or digit",
        ),
    ] = "doctor"
    # Where the patients' connections are accepted; port 0 takes a free one.
    listen_host: Text = "127.0.0.1"
    listen_port: Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535")] = 7700
    # What invitations tell the patients to connect to; empty: derived from the two above.
    addresses: tuple[Address, ...] = ()
    # Keys, database and API socket; mode 0700.
    state_dir: Text = "run/doctor"
    # Signed audit heads and the journal; on another volume, so that a restored backup shows.
    audit_dir: Text = "run/audit"
    # Where the fleet invitation is written at the first start; none: no fleet invitation.
    provisioning_file: Text | None = None
    # What a patient may ask for; anything else is refused.
    suites: Annotated[
        tuple[SuiteName, ...], Meta(min_length=1, description="a list of at least one suite")
    ] = (
        "elgamal-p256-mlkem768",
        "elgamal-p256",
    )
    # How far a patient's clock may be off.
    clock_window_s: Seconds = 30.0
    # From accepting a connection to the established session.
    handshake_deadline_s: Seconds = 10.0
    # Connections that have not finished their handshake: in all, and from one address.
    half_open_limit: Count = 1024
    half_open_per_address: Count = 256
    # Handshakes that fail within a second: from how many on cookies are asked for, and how many one address may have then.
    failing_per_second: Count = 10
    failing_per_address: Count = 1
    # A device that takes nothing of what waits for it is cut.
    stalled_reader_s: Seconds = 30.0
    # The longest life of a group's epoch.
    epoch_interval_s: Seconds = 3600.0
    # Lifetimes: of an invitation for one patient, of a message that nobody fetches.
    invitation_hours: Hours = 24.0
    message_hours: Hours = 24.0
    # How long the body of a message stays on the disk; never less than until it expires.
    retention_hours: Hours = 720.0
    # How many days a report of a patient stays after it was received; 0: for good.
    report_retention_days: Annotated[
        int, Meta(ge=0, le=36_500, description="whole days from 0 (for good) to 36500")
    ] = 0
    # The same for reports of vitals alone: a sensor fills a patient's quota within days.
    vitals_retention_days: Annotated[
        int, Meta(ge=0, le=36_500, description="whole days from 0 (for good) to 36500")
    ] = 0
    # How many patients one fleet invitation admits.
    fleet_uses: Count = 10_000
    # Where people open the console; never on the devices' network. Port 0 takes a free one, none: no console.
    console_host: Text = "127.0.0.1"
    console_port: Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535")] | None = 8080
    # PEM files. Anywhere but on loopback there must be a certificate; `self-signed`: the doctor makes one by itself.
    console_certificate: Text | None = None
    console_key: Text | None = None
    # Where Prometheus reads /metrics, in plain HTTP and without a token; never on the devices' network. None: on the API's socket alone.
    metrics_host: Text = "127.0.0.1"
    metrics_port: Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535")] | None = None
    # A fleet patient not seen for so many days, in which the doctor ran, is retired; 0: never.
    retire_after_days: Annotated[
        int, Meta(ge=0, le=36_500, description="whole days from 0 (never) to 36500")
    ] = 0
    # What one patient may report: how many reports are kept of it, and how many it may send within a minute.
    reports_per_patient: Count = 10_000
    reports_per_minute: Count = 3000
    # How many logins of one patient within a minute have an audit entry each; what is beyond is counted in one.
    logins_per_minute: Count = 30
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"

    def __post_init__(self) -> None:
        """Refuse values that contradict each other; ValueError becomes a ConfigError."""
        if self.half_open_per_address > self.half_open_limit:
            raise ValueError("half_open_per_address must not exceed half_open_limit")
        if self.failing_per_address > self.failing_per_second:
            raise ValueError("failing_per_address must not exceed failing_per_second")
