"""How a device comes by its identity: from an invitation that a person pastes, or from the file that a fleet shares.

Law: the only place that makes device directories with an identity. The identity is on the disk before the first byte goes out,
so that a device which was admitted never forgets it; it is removed again where the doctor has certainly not admitted it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TextIO

import msgspec

from patient import notices
from patient.backoff import Backoff
from patient.device import Conditions, Device
from patient.exit_codes import ExitCode, Refusal
from patient.identity import DeviceHome, DeviceIdentity, create
from patient.notices import Tell
from patient.settings import PatientSettings
from patient.slots import DeviceLock, slots
from patient.text import moment
from patient.verdicts import Verdict
from shared.crypto.suites import suite_by_name
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.invitations import PREFIX, Invitation, from_text
from shared.storage.keyfile import private_directory, read_private
from shared.wire.messages import Name

LONGEST_INVITATION = 64 * 1024

_log = get_logger("enrolment")


# --- invitations


def invitation_of(argument: str, standard_input: TextIO) -> Invitation:
    """The invitation that a person gave: the string, `-` for standard input, or `@FILE`.

    Raises:
        Refusal: it cannot be read, or has expired.
    """
    try:
        invitation = from_text(_text_of(argument, standard_input))
    except (UserError, OSError, UnicodeDecodeError) as error:
        raise Refusal(ExitCode.INVITATION, _reason(error)) from error
    now = clock().wall
    if invitation.expires and invitation.expires < now:
        raise Refusal(
            ExitCode.INVITATION,
            f"The invitation expired at {moment(invitation.expires)}; this device's clock shows {moment(now)}. "
            "Ask the doctor for a new one.",
        )
    return invitation


def _text_of(argument: str, standard_input: TextIO) -> str:
    if argument == "-":
        return standard_input.read(LONGEST_INVITATION)
    if argument.startswith("@"):
        with Path(argument[1:]).open(encoding="utf-8") as file:
            return file.read(LONGEST_INVITATION)
    return argument


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"The invitation cannot be read: {error.filename}: {error.strerror}"
    return str(error) if isinstance(error, UserError) else "The invitation is not a text."


def _fleet_invitation(path: Path) -> Invitation:
    """Read the invitation file. Raises Refusal where that is not possible (yet)."""
    try:
        return from_text(read_private(path).decode("ascii", "replace"))
    except (UserError, StorageError) as error:
        raise Refusal(ExitCode.INVITATION, str(error)) from error


# --- enrolment by hand


async def enrol(
    invitation: Invitation,
    patient_id: str | None,
    settings: PatientSettings,
    tell: Tell,
    conditions: Conditions,
) -> ExitCode:
    """Make an identity and have the doctor admit it, in one attempt.

    Raises:
        UserError: the id exists already, or the invitation does not fit.
        StorageError: the identity cannot be written.
    """
    identity = create(invitation, suite_by_name(settings.suite), patient_id, conditions.random)
    home = DeviceHome(private_directory(Path(settings.state_dir)) / identity.patient_id)
    private_directory(home.path)
    with DeviceLock.acquire(home):
        fresh = not home.has_identity
        if not fresh:
            identity = _invited_again(home, invitation)
        home.save(identity)
        device = Device(home, identity, settings, tell, conditions)
        try:
            async with device:
                outcome = await device.connect()
        finally:
            if fresh and not device.may_be_admitted:
                shutil.rmtree(home.path, ignore_errors=True)  # what stays is found by the next attempt
    if isinstance(outcome, Verdict):
        if device.may_be_admitted:
            tell(notices.Waiting(_UNCERTAIN.format(identity.patient_id)))
        return outcome.code
    doctor = identity.doctor
    tell(notices.Enrolled(identity.patient_id, doctor.doctor_id, doctor.fingerprints()))
    return ExitCode.OK


_UNCERTAIN = (
    "The doctor may have admitted this device all the same: `telemed-patient run {}` finds out, "
    "and finishes the enrolment."
)


def _invited_again(home: DeviceHome, invitation: Invitation) -> DeviceIdentity:
    identity = home.load()
    if identity.enrolment is None:
        raise UserError(
            f"{identity.patient_id} is enrolled already with doctor {identity.doctor.doctor_id}; "
            f"start it with `telemed-patient run {identity.patient_id}`."
        )
    return identity.invited_by(invitation)


# --- devices at their start


def devices(settings: PatientSettings) -> list[str]:
    """The ids after which directories with an identity are named; raises OSError where they cannot be listed."""
    found = Path(settings.state_dir).iterdir()
    return sorted(path.name for path in found if DeviceHome(path).has_identity)


def find_home(patient_id: str, settings: PatientSettings) -> DeviceHome:
    """The directory of that device, whether it is named after it or a slot; it need not exist.

    Raises:
        UserError: the id is none, or a slot cannot be read.
    """
    try:
        msgspec.convert(patient_id, Name)  # it becomes the name of a directory
    except msgspec.ValidationError as error:
        if patient_id.startswith(PREFIX):  # and is not shown again: there is a secret in it
            raise UserError(
                "This is an invitation and no patient id; `telemed-patient enrol` takes it."
            ) from error
        raise UserError(
            f"{patient_id!r} is no patient id: 1 to 64 of a-z 0-9 . _ - that begin with a letter or digit."
        ) from error
    named = DeviceHome(Path(settings.state_dir) / patient_id)
    if settings.slots_dir is not None and not named.has_identity:
        for home in slots(Path(settings.slots_dir)):
            if home.has_identity and home.load().patient_id == patient_id:
                return home
    return named


def not_enrolled(home: DeviceHome) -> Refusal:
    """What to say where a device is asked for that does not exist."""
    return Refusal(
        ExitCode.NOT_ENROLLED,
        f"There is no device in {home.path}. Put the doctor's invitation into a file and enrol: telemed-patient enrol @FILE",
    )


async def identity_for(
    home: DeviceHome, patient_id: str | None, settings: PatientSettings, tell: Tell, conditions: Conditions
) -> DeviceIdentity:
    """The identity in a locked directory; a new one from the invitation file where there is none yet.

    A device that was never admitted takes the file's invitation if that has changed since, with the same key.

    Raises:
        Refusal: there is no identity and no invitation to make one from.
        UserError: the invitation does not fit this device.
        StorageError: the identity cannot be read or written.
    """
    path = Path(settings.invitation_file) if settings.invitation_file is not None else None
    if home.has_identity:
        identity = home.load()
        if patient_id not in (None, identity.patient_id):
            raise UserError(f"{home.path} holds the device {identity.patient_id!r}, not {patient_id!r}.")
        renewed = _renewed(identity, path)
        if renewed is not identity:
            home.save(renewed)
        return renewed
    if path is None:
        raise not_enrolled(home)
    invitation = await _wait_for_invitation(path, settings, tell, conditions)
    identity = create(invitation, suite_by_name(settings.suite), patient_id, conditions.random)
    home.save(identity)
    return identity


def _renewed(identity: DeviceIdentity, path: Path | None) -> DeviceIdentity:
    if identity.enrolment is None or path is None:
        return identity
    try:
        invitation = _fleet_invitation(path)
    except Refusal as refusal:
        _log.warning("invitation file not read", path=str(path), cause=str(refusal))
        return identity
    if invitation.invitation_id == identity.enrolment.invitation_id:
        return identity
    renewed = identity.invited_by(invitation)
    if renewed.doctor.keys != identity.doctor.keys:
        # No rotation vouches for them but the file alone: whoever looks for a wrong pin has to find when it came.
        names = " ".join(renewed.doctor.fingerprints())
        doctor_id = renewed.doctor.doctor_id
        _log.warning(
            "doctor's keys taken from the invitation", doctor=doctor_id, path=str(path), fingerprint=names
        )
    return renewed


async def _wait_for_invitation(
    path: Path, settings: PatientSettings, tell: Tell, conditions: Conditions
) -> Invitation:
    backoff = Backoff(settings.backoff_min_s, settings.backoff_max_s, conditions.random)
    while True:
        try:
            return _fleet_invitation(path)
        except Refusal as refusal:
            pause = backoff.next()
            if backoff.failures == settings.attempts:
                raise
            tell(notices.Waiting(f"No invitation to enrol with yet: {refusal}"))
            await conditions.pause(pause)
