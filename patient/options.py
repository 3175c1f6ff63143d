"""What the commands of `telemed-patient` share: their options, where settings come from, and what a shell is offered.

Law: no command stands here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from patient import enrolment
from patient.settings import PatientSettings
from shared.config import load
from shared.errors import TelemedError

PREFIX = "TELEMED_PATIENT"
DEFAULT_CONFIG = Path("/etc/telemed/patient.yaml")


def configured(named: Path | None) -> Path | None:
    """The file of settings: the one named, by an option or in the environment, or the usual one; None: there is none."""
    if named is None and (variable := os.environ.get(f"{PREFIX}_CONFIG")):
        named = Path(variable)
    return DEFAULT_CONFIG if named is None and DEFAULT_CONFIG.exists() else named


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=f"{PREFIX}_CONFIG",
        help=f"Settings in YAML; without it {DEFAULT_CONFIG} where that exists.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of text for people.")]


def _devices(incomplete: str) -> list[str]:
    """For the shell: the devices below `state_dir`. A wrong setting is not its business; the command will name it."""
    try:
        known = enrolment.devices(load(PatientSettings, configured(None), os.environ, PREFIX))
        return [each for each in known if each.startswith(incomplete)]
    except (TelemedError, OSError):
        return []


PatientId = Annotated[
    str | None,
    typer.Argument(metavar="PATIENT_ID", help="The id that it enrolled with.", autocompletion=_devices),
]
Owner = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="PATIENT_ID",
        help="The id of the device, if it is not the one that runs here.",
        autocompletion=_devices,
    ),
]
