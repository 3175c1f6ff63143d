"""Orders of every kind, given to a doctor whose disk takes nothing, until each is refused; and one until it is accepted again.

Law: the one right answer to an order that cannot be stored is "not accepted"; any other refusal is a flaw, and so is an order
that takes effect all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from doctor.answers import DepartureAnswer, GroupAnswer, HealthAnswer, InvitationAnswer
from doctor.orders import GroupOrder, InviteOrder
from lab.faults import orders
from lab.faults.sick_disks import Report
from lab.faults.ward import Ward
from lab.processes import ScenarioFailed

REFUSED = 503
REFUSED_WITHIN = 30.0  # seconds until a sick disk must have shown in every kind of order
HEALED_WITHIN = 10.0  # seconds until orders are accepted again
PAUSE = 0.1


async def until_all_refused(ward: Ward, patient: str, report: Report) -> set[str]:
    """Give every kind of order until each was refused; returns the groups that were accepted meanwhile."""
    api, groups = ward.clinic.orders, set[str]()

    async def create() -> None:
        name = f"group-{len(groups)}-{time.monotonic_ns()}"
        await api.post("/v1/groups", GroupOrder(name), GroupAnswer)
        groups.add(name)

    async def back_up() -> None:
        with contextlib.suppress(msgspec.DecodeError):  # a backup is no JSON
            await api.post("/v1/backups", None, HealthAnswer)

    async def depart(how: str) -> None:
        await api.post(f"/v1/patients/leaver/{how}", None, DepartureAnswer)
        raise ScenarioFailed(f"{how} was accepted on a disk that takes nothing")

    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "broadcast": ward.broadcast,
        "send": lambda: ward.send(patient),
        "invite": lambda: api.post("/v1/invitations", InviteOrder("nobody"), InvitationAnswer),
        "create a group": create,
        "back up": back_up,
    }
    until = time.monotonic() + REFUSED_WITHIN
    # A log that has room left in it takes a few more; who is to leave leaves when nothing else is taken.
    kinds |= {how: partial(depart, how) for how in ("retire", "revoke")}
    for kind, order in kinds.items():
        while not await is_refused(report, kind, order):
            if time.monotonic() > until:
                report.flaws.append(f"{kind} was never refused")
                return groups
    return groups


async def is_refused(report: Report, kind: str, order: Callable[[], Awaitable[object]]) -> bool:
    """Whether an order is refused; a refusal that is not "not accepted" is a flaw."""
    try:
        await order()
    except orders.Refused as refusal:
        report.refused += 1
        if refusal.status != REFUSED:
            report.flaws.append(f"{kind} was refused with {refusal}")
        return True
    return False


async def until_accepted(ward: Ward, report: Report) -> None:
    """Order a broadcast until it is taken: a disk heals by itself."""
    began = time.monotonic()
    while await is_refused(report, "broadcast", ward.broadcast):
        if time.monotonic() - began > HEALED_WITHIN:
            report.flaws.append(f"nothing is accepted {HEALED_WITHIN:.0f} s after the disk was well")
            return
        await asyncio.sleep(PAUSE)
    report.recovery = time.monotonic() - began


async def is_ready(ward: Ward) -> bool:
    """What the doctor says of itself."""
    try:
        await ward.clinic.orders.get("/readyz", HealthAnswer)
    except orders.Refused:
        return False
    return True
