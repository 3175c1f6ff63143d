"""The doctor's settings: defaults that start, and values that contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.settings import SOCKET_NAME, DoctorSettings, api_directory
from shared import config
from shared.errors import ConfigError


def load(text: str, directory: Path, **environment: str) -> DoctorSettings:
    """Load a file's settings."""
    path = directory / "doctor.yaml"
    path.write_text(text)
    return config.load(DoctorSettings, path, environment, "TELEMED_DOCTOR")


def test_nothing_has_to_be_configured(tmp_path: Path) -> None:
    """Every key has a default; only modern suites are allowed by it."""
    settings = load("{}", tmp_path)

    assert settings == DoctorSettings()
    assert settings.suites == ("elgamal-p256-mlkem768", "elgamal-p256")
    assert settings.listen_host == "127.0.0.1"


def test_limits_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """More from one address than in all."""
    with pytest.raises(ConfigError, match="half_open_per_address must not exceed half_open_limit"):
        load("half_open_limit: 10\nhalf_open_per_address: 11\n", tmp_path)
    with pytest.raises(ConfigError, match="failing_per_address must not exceed failing_per_second"):
        load("failing_per_second: 10\nfailing_per_address: 11\n", tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "doctor_id: Doctor",
        "listen_port: 65536",
        "suites: []",
        "suites: [rot13]",
        "epoch_interval_s: 0",
        "message_hours: -1",
        "fleet_uses: 0",
        "retire_after_days: 36501",
        "addresses: [doctor]",
        "log_format: xml",
        "half_open_limit: 0",
    ],
)
def test_a_bad_value_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    """With what was expected."""
    with pytest.raises(ConfigError, match=rf"doctor\.yaml:2: {line.split(':', maxsplit=1)[0]}"):
        load(f"log_level: info\n{line}\n", tmp_path)


def test_the_socket_is_below_the_state_directory() -> None:
    """In a directory of its own."""
    assert api_directory("/var/lib/x") / SOCKET_NAME == Path("/var/lib/x/api/doctor.sock")
