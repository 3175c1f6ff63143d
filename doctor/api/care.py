"""Orders and questions about patients: who is let in and put out, what they are told, what they report, who belongs to which group."""

from __future__ import annotations

from typing import Annotated

from litestar.params import FromPath, JSONBody, QueryParameter

from doctor.answers import (
    AlertAnswer,
    BroadcastAnswer,
    DepartureAnswer,
    ForgottenAnswer,
    GroupAnswer,
    InvitationAnswer,
    MemberAnswer,
    MessageAnswer,
    PatientAnswer,
    ReceiptAnswer,
    ReportAnswer,
    ThresholdsAnswer,
)
from doctor.api.parameters import AlertNumber, From, Moment, Orders, delete, get, post
from doctor.orders import (
    AcknowledgeOrder,
    BroadcastOrder,
    GroupOrder,
    InviteOrder,
    MemberOrder,
    MessageOrder,
)
from doctor.thresholds import ThresholdsOrder


@post("/v1/invitations")
async def invite(data: JSONBody[InviteOrder], commands: Orders, origin: From) -> InvitationAnswer:
    """Invite one patient, or a fleet."""
    return await commands.invite(data, origin)


@post("/v1/broadcasts")
async def broadcast(data: JSONBody[BroadcastOrder], commands: Orders, origin: From) -> BroadcastAnswer:
    """Accept a broadcast. 201 means that it is on the disk."""
    return await commands.broadcast(data, origin)


@get("/v1/broadcasts/{message:str}/receipts")
async def list_receipts(message: FromPath[str], commands: Orders) -> list[ReceiptAnswer]:
    """What became of a message, a broadcast or one to a patient alone, for each of its recipients."""
    return commands.receipts(message)


@get("/v1/patients")
async def list_patients(commands: Orders) -> list[PatientAnswer]:
    """Everyone on the roster, with live state."""
    return commands.patients()


@post("/v1/patients/{patient:str}/messages")
async def send(
    patient: FromPath[str], data: JSONBody[MessageOrder], commands: Orders, origin: From
) -> MessageAnswer:
    """Accept a message to one patient alone. 201 means that it is on the disk."""
    return await commands.send(patient, data, origin)


@post("/v1/patients/{patient:str}/revoke")
async def revoke(patient: FromPath[str], commands: Orders, origin: From) -> DepartureAnswer:
    """Expel a patient for good."""
    return await commands.revoke(patient, origin)


@post("/v1/patients/{patient:str}/retire")
async def retire(patient: FromPath[str], commands: Orders, origin: From) -> DepartureAnswer:
    """Remove a patient that is gone."""
    return await commands.retire(patient, origin)


@get("/v1/patients/{patient:str}/reports")
async def list_reports(patient: FromPath[str], commands: Orders) -> list[ReportAnswer]:
    """What a patient has reported, newest first."""
    return commands.reports(patient)


@delete("/v1/patients/{patient:str}/reports", status_code=200)
async def forget_reports(
    patient: FromPath[str], before: Moment, commands: Orders, origin: From
) -> ForgottenAnswer:
    """Erase what a patient reported, as far as it was received before a time in milliseconds since the epoch."""
    return await commands.forget_reports(patient, before, origin)


@get("/v1/patients/{patient:str}/thresholds")
async def show_thresholds(patient: FromPath[str], commands: Orders) -> ThresholdsAnswer:
    """Between which values a patient's vitals raise no alert."""
    return commands.thresholds(patient)


@post("/v1/patients/{patient:str}/thresholds")
async def set_thresholds(
    patient: FromPath[str], data: JSONBody[ThresholdsOrder], commands: Orders, origin: From
) -> ThresholdsAnswer:
    """Change them, from the next report on."""
    return await commands.set_thresholds(patient, data, origin)


@get("/v1/alerts")
async def list_alerts(
    commands: Orders,
    patient: Annotated[str | None, QueryParameter()] = None,
    every: Annotated[bool, QueryParameter(name="all")] = False,
) -> list[AlertAnswer]:
    """The clinical alerts that wait for somebody or for their end, or all of them, newest first."""
    return commands.alerts(patient, every)


@post("/v1/alerts/{alert:int}/acknowledge")
async def acknowledge(
    alert: AlertNumber, data: JSONBody[AcknowledgeOrder], commands: Orders, origin: From
) -> AlertAnswer:
    """Note that somebody has seen an alert."""
    return await commands.acknowledge(alert, data, origin)


@get("/v1/groups")
async def list_groups(commands: Orders) -> list[GroupAnswer]:
    """All groups."""
    return commands.list_groups()


@post("/v1/groups")
async def create_group(data: JSONBody[GroupOrder], commands: Orders, origin: From) -> GroupAnswer:
    """Make a group."""
    return await commands.create_group(data.name, origin)


@post("/v1/groups/{group:str}/members")
async def add_member(
    group: FromPath[str], data: JSONBody[MemberOrder], commands: Orders, origin: From
) -> MemberAnswer:
    """Add a patient to a group."""
    return await commands.add_member(group, data.patient, origin)


@delete("/v1/groups/{group:str}/members/{patient:str}", status_code=200)
async def remove_member(
    group: FromPath[str], patient: FromPath[str], commands: Orders, origin: From
) -> MemberAnswer:
    """Remove a patient from a group."""
    return await commands.remove_member(group, patient, origin)


HANDLERS = [
    invite,
    broadcast,
    list_receipts,
    list_patients,
    send,
    revoke,
    retire,
    list_reports,
    forget_reports,
    show_thresholds,
    set_thresholds,
    list_alerts,
    acknowledge,
    list_groups,
    create_group,
    add_member,
    remove_member,
]
