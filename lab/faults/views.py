"""All that can be asked of a doctor's and of a device's files, asked of a copy of them.

Law: the shipped programs' own code opens them; what is damaged it must name, and what it shows is compared, not interpreted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from doctor import streams
from doctor.gateway import Gateway, open_gateway
from doctor.settings import DoctorSettings
from patient import outbox, stored
from patient.identity import DeviceHome
from patient.inbox import Inbox
from shared.errors import TelemedError
from shared.net.stream import clock
from shared.storage.sealed import Sealer

View = dict[str, object]
"""Everything that can be asked, by what was asked."""


async def look_at_doctor(copy: Path) -> View:
    """Start a gateway on a copy and ask it everything; raises what it raises, and what its audit log says."""
    settings = DoctorSettings(
        listen_port=0,
        state_dir=str(copy / "doctor"),
        audit_dir=str(copy / "audit"),
        suites=("elgamal-p256-mlkem768",),
    )
    async with open_gateway(settings) as gateway:
        return await _ask(gateway)


async def _ask(gateway: Gateway) -> View:
    commands, office = gateway.commands, gateway.commands._office
    audit = await commands.verify_audit()
    if not audit.valid:
        raise TelemedError(f"the audit log: {audit.reason}")
    if office.restoration.pending is not None:
        raise TelemedError("the database is an older state")
    view: View = {"doctor": office.keys.public}
    for patient in commands.patients():
        view[f"patient {patient.patient}"] = (patient.state, patient.fingerprint, patient.groups)
        view[f"reports of {patient.patient}"] = commands.reports(patient.patient)
    for group in commands.list_groups():
        view[f"group {group.name}"] = group.members
    for stream, last in streams.last_numbers(office.reader).items():
        messages = office.outbox.load(office.reader, stream, 0, last, clock().wall, 1_000)
        view[f"stream {stream}"] = (last, messages)
        for number, _ in messages:
            name = f"{stream.name if str(stream).startswith('group') else stream}.{number}"
            view[f"receipts of {name}"] = commands.receipts(name)
    held = office.roster._invitations
    view["invitations"] = {key: (each.secret, each.uses_left, each.patient_id) for key, each in held.items()}
    return view


async def look_at_device(copy: Path) -> View:
    """What a device does with its home at its start, and what it shows."""
    home = DeviceHome(copy)
    identity = home.load()
    sealer = Sealer(identity.storage_key, os.urandom)
    view: View = {"identity": identity, "key": identity.signing_key.public}
    async with Inbox(home.inbox_file, sealer, lambda _: None, _raise) as opened:
        view["positions"] = {str(stream): opened.position(stream) for stream in opened.positions().streams()}
        view["expired"] = opened.expired()
    view["messages"] = [(*_fields(message), message.body) for message in stored.read(home.inbox_file, sealer)]
    reports: Sequence[outbox.WrittenReport] = outbox.read(copy / "reports.db", sealer)
    view["reports"] = [(each.report_id, each.kind, each.created, each.kept, each.body) for each in reports]
    return view


def _fields(message: stored.StoredMessage) -> tuple[object, ...]:
    return str(message.stream), message.number, message.created, message.received, message.direct


def _raise(error: BaseException) -> None:
    raise error
