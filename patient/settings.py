"""What can be configured of a patient device; config/patient.yaml is the commented example.

Law: declarations only. Every key has a default, so that the program starts without a file.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.config import Address, LogFormat, LogLevel, Seconds, SuiteName, Text


class PatientSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of `telemed-patient`; each is also the environment variable TELEMED_PATIENT_<KEY>."""

    # What this device asks the doctor for. It decides the kind of the identity key when that is made.
    suite: SuiteName = "elgamal-p256-mlkem768"
    # One directory for each patient id below it: key, pinned doctor keys, inbox; mode 0700.
    state_dir: Text = "run/patients"
    # Numbered slots that replicas lock, for a program that runs without an id; none: an id must be given.
    slots_dir: Text | None = None
    # The invitation that a device without an identity enrols with; none: enrol by hand.
    invitation_file: Text | None = None
    # Where to connect to; empty: the addresses of the invitation.
    doctor_addresses: tuple[Address, ...] = ()
    # Touched while the session lives, for a container's healthcheck; none: not written.
    heartbeat_file: Text | None = None
    # How far the doctor's clock may be off.
    clock_window_s: Seconds = 45.0
    # Pauses between attempts to connect grow from the first to the second, with jitter.
    backoff_min_s: Seconds = 0.5
    backoff_max_s: Seconds = 30.0
    # Failed attempts in a row before it gives up; 0: never.
    attempts: Annotated[
        int, Meta(ge=0, le=1_000_000, description="a whole number from 0 (for ever) to 1000000")
    ] = 0
    # A simulated sensor reports vital signs so often, in seconds; 0: none does.
    vitals_interval_s: Annotated[
        float, Meta(ge=0, le=86_400, description="a number of seconds from 1 to 86400, or 0 (off)")
    ] = 0.0
    log_level: LogLevel = "info"
    log_format: LogFormat = "console"

    def __post_init__(self) -> None:
        """Refuse values that contradict each other; ValueError becomes a ConfigError."""
        if self.backoff_min_s > self.backoff_max_s:
            raise ValueError("backoff_min_s must not exceed backoff_max_s")
        if 0 < self.vitals_interval_s < 1:
            raise ValueError("vitals_interval_s is 0 or at least 1")
