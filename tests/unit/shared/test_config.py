"""Settings: what wins over what, and the one line that an operator reads when a key is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
import yaml
from msgspec import Meta

from doctor.settings import DoctorSettings
from patient.settings import PatientSettings
from shared.config import Address, Seconds, load
from shared.errors import ConfigError

EXAMPLES = Path(__file__).parents[3] / "config"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A nested part."""

    half_open: Annotated[int, Meta(ge=1)] = 5
    names: list[str] = []


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key of each kind."""

    name: str = "doctor"
    port: Annotated[int, Meta(ge=0, le=65535, description="a port")] = 7700
    deadline_s: Seconds = 10.0
    addresses: tuple[Address, ...] = ()
    numbers: tuple[int, ...] = ()
    file: str | None = None
    level: Literal["info", "debug"] = "info"
    quiet: bool = False
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("nobody is not a `name`")


class Demanding(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key without a default."""

    port: int


@pytest.fixture(name="file")
def settings_file(tmp_path: Path) -> Path:
    """Where a test writes its YAML."""
    return tmp_path / "doctor.yaml"


def problem(file: Path, text: str, environ: dict[str, str] | None = None) -> str:
    """The message for this file and environment, with the directory taken off."""
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(Settings, file, environ or {}, "TELEMED")
    assert "\n" not in str(refused.value)
    return str(refused.value).replace(f"{file.parent}/", "")


# what wins


def test_without_a_file_and_environment_the_defaults_hold() -> None:
    """A program starts without any configuration."""
    assert load(Settings, None, {}, "TELEMED") == Settings()


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_an_empty_file_is_the_defaults(file: Path, text: str) -> None:
    """Leaving everything out is no error."""
    file.write_text(text)

    assert load(Settings, file, {}, "TELEMED") == Settings()


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(file: Path) -> None:
    """Key by key, nested keys too; what others have in the environment is not ours."""
    file.write_text("name: ward\nport: 1\nlimits: {half_open: 7, names: [a]}\n")
    environ = {
        "TELEMED_PORT": "2",
        "TELEMED_LIMITS__HALF_OPEN": "8",
        "TELEMED_CONFIG": "x",
        "TELEMEDIC": "y",
        "PORT": "3",
    }

    assert load(Settings, file, environ, "TELEMED") == Settings(
        name="ward", port=2, limits=Limits(half_open=8, names=["a"])
    )


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("NAME", "123", Settings(name="123")),
        ("NAME", "null", Settings(name="null")),
        ("NAME", " a: [b", Settings(name=" a: [b")),
        ("FILE", "/x", Settings(file="/x")),
        ("FILE", "", Settings(file=None)),
        ("FILE", "null", Settings(file=None)),
        ("LEVEL", "debug", Settings(level="debug")),
        ("QUIET", "true", Settings(quiet=True)),
        ("DEADLINE_S", "3", Settings(deadline_s=3.0)),
        ("ADDRESSES", "a:1, [::1]:2", Settings(addresses=("a:1", "[::1]:2"))),
        ("ADDRESSES", "[a:1, 'b:2']", Settings(addresses=("a:1", "b:2"))),
        ("ADDRESSES", "", Settings(addresses=())),
        ("NUMBERS", "1,2", Settings(numbers=(1, 2))),
        ("LIMITS__NAMES", "x,yes", Settings(limits=Limits(names=["x", "yes"]))),
    ],
)
def test_a_variable_is_read_as_its_key_demands(variable: str, text: str, expected: Settings) -> None:
    """A text is taken as it stands, a list is comma-separated or in brackets, the rest is YAML."""
    assert load(Settings, None, {f"TELEMED_{variable}": text}, "TELEMED") == expected


def test_an_anchor_serves_several_keys(file: Path) -> None:
    """Aliases and merge keys are YAML's own and welcome."""
    file.write_text("name: &n ward\nfile: *n\nlimits:\n  <<: {half_open: 9}\n")

    assert load(Settings, file, {}, "TELEMED") == Settings(
        name="ward", file="ward", limits=Limits(half_open=9)
    )


# what is wrong, and where


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n\nport: soon", "doctor.yaml:3: port: expected a port, got 'soon'"),
        ("port: 70000", "doctor.yaml:1: port: expected a port, got 70000"),
        ("port: true", "doctor.yaml:1: port: expected a port, got True"),
        ("port: {a: 1}", "doctor.yaml:1: port: expected a port, got {'a': 1}"),
        ("port: 1.5", "doctor.yaml:1: port: expected a port, got 1.5"),
        ("port:", "doctor.yaml:1: port: expected a port, got None"),
        ("name: 5", "doctor.yaml:1: name: expected str, got 5"),
        ("name: 2026-11-23", "doctor.yaml:1: name: expected str, got datetime.date(2026, 11, 23)"),
        ("level: LOUD", "doctor.yaml:1: level: expected one of debug, info, got 'LOUD'"),
        ("deadline_s: 0", "doctor.yaml:1: deadline_s: expected a number of seconds above 0, at most 31536000, got 0"),
        ("deadline_s: .nan", "doctor.yaml:1: deadline_s: expected a number of seconds above 0, at most 31536000, got nan"),
        ("deadline_s: .inf", "doctor.yaml:1: deadline_s: expected a number of seconds above 0, at most 31536000, got inf"),
        ("limits:\n  half_open: 0", "doctor.yaml:2: limits.half_open: expected int >= 1, got 0"),
        ("limits:\n  names:\n  - a\n  - 5", "doctor.yaml:4: limits.names[1]: expected str, got 5"),
        ("limits: 3", "doctor.yaml:1: limits: expected object, got 3"),
        ("addresses:\n- a:1\n- b", """doctor.yaml:3: addresses[1]: expected "host:port", such as "10.0.0.5:7700", got 'b'"""),
        ("addresses: a:1", "doctor.yaml:1: addresses: expected array, got 'a:1'"),
        ("name: nobody", 'doctor.yaml: nobody is not a "name"'),
        (f"port: {'x' * 200}", f"doctor.yaml:1: port: expected a port, got '{'x' * 59}…"),
    ],
)  # fmt: skip
def test_a_bad_value_is_named_with_line_key_expectation_and_finding(
    file: Path, text: str, expected: str
) -> None:
    """One line; what was expected stands at the key's declaration."""
    assert problem(file, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nprot: 1", 'doctor.yaml:2: unknown key "prot"; did you mean "port"? Known keys: name, port, '),
        ("open: 1", 'doctor.yaml:1: unknown key "open". Known keys: name, '),
        ("deadlin: 1", 'doctor.yaml:1: unknown key "deadlin"; did you mean "deadline_s"? Known'),
        ("adress: 1", 'doctor.yaml:1: unknown key "adress"; did you mean "addresses"? Known'),
        ("7: 1", 'doctor.yaml:1: unknown key "7". Known keys: '),
        ("limits:\n  open: 1", 'doctor.yaml:2: unknown key "open"; did you mean "half_open"? Known keys: half_open, names'),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_the_one_that_was_meant(file: Path, text: str, expected: str) -> None:
    """Also where only a part of a longer name was written."""
    assert problem(file, text).startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nport: 1\nname: b", 'doctor.yaml:3: key "name" stands here a second time; keep one'),
        (
            "limits:\n  names: []\n  names: []",
            'doctor.yaml:3: key "names" stands here a second time; keep one',
        ),
        ("- a\n- b", "doctor.yaml:1: expected keys with values (key: value), found something else"),
        ("just text", "doctor.yaml:1: expected keys with values (key: value), found something else"),
        ("name: &x [*x]", "doctor.yaml:1: an alias refers to what contains it"),
        ("name: [", "doctor.yaml:1: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: b\n c: d", "doctor.yaml:2: not valid YAML: mapping values are not allowed here"),
        ("name: a\n---\nname: b", "doctor.yaml:2: not valid YAML: but found another document"),
        ("? [a]\n: 3", "doctor.yaml:1: not valid YAML: found unhashable key"),
        ("name: 2026-13-01", "doctor.yaml: not valid YAML: month must be in 1..12"),
    ],
)
def test_what_yaml_allows_and_nobody_means_is_refused(file: Path, text: str, expected: str) -> None:
    """A second value for a key would silently win; a cycle would never end."""
    assert problem(file, text) == expected


def test_a_tag_that_would_run_code_is_refused(file: Path) -> None:
    """The safe loader knows plain values only; nothing is run."""
    marker = file.parent / "ran"
    message = problem(file, f'name: !!python/object/apply:os.system ["touch {marker}"]')

    assert message.startswith("doctor.yaml:1: not valid YAML: could not determine a constructor for the tag")
    assert not marker.exists()


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    """A control character, and a file in another encoding."""
    assert problem(file, "name: \0").startswith("doctor.yaml: not valid YAML: unacceptable character")
    file.write_bytes("name: Müller".encode("latin-1"))
    with pytest.raises(
        ConfigError, match=r"doctor\.yaml: not valid YAML: 'utf-8' codec can't decode byte 0xfc"
    ):
        load(Settings, file, {}, "TELEMED")


def test_a_missing_file_is_named(file: Path) -> None:
    """A path that was given must exist; a directory is none."""
    with pytest.raises(
        ConfigError, match=r"doctor\.yaml: No such file or directory; name an existing file or none"
    ):
        load(Settings, file, {}, "TELEMED")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(Settings, file.parent, {}, "TELEMED")


def test_a_missing_key_is_named(file: Path) -> None:
    """By msgspec, in one line."""
    file.write_text("{}")
    with pytest.raises(ConfigError, match=r'doctor\.yaml: Object missing required field "port"$'):
        load(Demanding, file, {}, "TELEMED")
    with pytest.raises(ConfigError, match=r'^settings: Object missing required field "port"$'):
        load(Demanding, None, {}, "TELEMED")


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PORT", "soon", "environment TELEMED_PORT: port: expected a port, got 'soon'"),
        ("PORT", "]", "environment TELEMED_PORT: not valid YAML: ']'"),
        ("ADDRESSES", "a:1,b", "environment TELEMED_ADDRESSES: addresses[1]: expected"),
        ("LIMITS__HALF_OPEN", "0", "environment TELEMED_LIMITS__HALF_OPEN: limits.half_open: expected int >= 1, got 0"),
        ("PROT", "1", 'environment: unknown variable "TELEMED_PROT"; did you mean "TELEMED_PORT"? Known variables: '),
        ("LIMITS", "{}", 'environment: unknown variable "TELEMED_LIMITS"; did you mean'),
    ],
)  # fmt: skip
def test_a_bad_variable_is_named(file: Path, variable: str, text: str, expected: str) -> None:
    """And not the file's line, although the file has the key too."""
    environ = {f"TELEMED_{variable}": text}

    assert problem(file, "port: 1\nlimits: {half_open: 1}\n", environ).startswith(expected)


def test_a_variable_does_not_hide_a_bad_value_around_it(file: Path) -> None:
    """The file's `limits` is no mapping: that is the error, whatever the environment says of a key inside."""
    message = problem(file, "limits: 3", {"TELEMED_LIMITS__HALF_OPEN": "1"})

    assert message == "doctor.yaml:1: limits: expected keys with values, got 3"


# the shipped settings


@pytest.mark.parametrize(("name", "settings"), [("doctor", DoctorSettings), ("patient", PatientSettings)])
def test_the_example_names_every_key_in_order_with_its_default(
    name: str, settings: type[msgspec.Struct]
) -> None:
    """What the example shows is what holds without it."""
    path = EXAMPLES / f"{name}.yaml"
    written = list(yaml.safe_load(path.read_text()))

    assert load(settings, path, {}, "TELEMED") == settings()
    assert sorted(written) == sorted(settings.__struct_fields__)


def test_the_doctors_container_listens_to_its_network_and_uses_its_volumes() -> None:
    """The paths are those that compose.yaml mounts."""
    assert load(DoctorSettings, EXAMPLES / "doctor.container.yaml", {}, "TELEMED_DOCTOR") == DoctorSettings(
        listen_host="0.0.0.0",
        addresses=("doctor:7700",),
        state_dir="/var/lib/telemed/doctor",
        audit_dir="/var/lib/telemed/audit",
        provisioning_file="/var/lib/telemed/provisioning/fleet.invitation",
        console_host="console",
        console_certificate="self-signed",
        vitals_retention_days=1,
        log_format="json",
    )


def test_the_patients_container_takes_a_slot_and_the_fleet_invitation() -> None:
    """No id, no hand: what `--scale` needs."""
    assert load(
        PatientSettings, EXAMPLES / "patient.container.yaml", {}, "TELEMED_PATIENT"
    ) == PatientSettings(
        state_dir="/var/lib/telemed/patients",
        slots_dir="/var/lib/telemed/patients",
        invitation_file="/var/lib/telemed/provisioning/fleet.invitation",
        heartbeat_file="/tmp/telemed-heartbeat",
        log_format="json",
    )


@pytest.mark.parametrize(
    ("settings", "environ", "expected"),
    [
        (DoctorSettings, {"T_HALF_OPEN_LIMIT": "1"}, "half_open_per_address must not exceed half_open_limit"),
        (DoctorSettings, {"T_SUITES": ""}, "expected a list of at least one suite"),
        (DoctorSettings, {"T_DOCTOR_ID": "Dr. X"}, "expected 1 to 64 of a-z"),
        (
            DoctorSettings,
            {"T_LISTEN_HOST": ""},
            "expected str of length >= 1|expected a text that is not empty",
        ),
        (PatientSettings, {"T_BACKOFF_MIN_S": "31"}, "backoff_min_s must not exceed backoff_max_s"),
        (PatientSettings, {"T_SUITE": "rot13"}, "expected one of elgamal-ffdhe3072"),
        (PatientSettings, {"T_DOCTOR_ADDRESSES": "doctor"}, 'expected "host:port"'),
    ],
)
def test_settings_that_cannot_work_are_refused(
    settings: type[msgspec.Struct], environ: dict[str, str], expected: str
) -> None:
    """At the start, not when they are first used."""
    with pytest.raises(ConfigError, match=expected):
        load(settings, None, environ, "T")
