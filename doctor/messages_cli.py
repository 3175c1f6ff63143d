"""The commands of `telemed-doctor` about what is said: broadcasts, private messages, receipts, and reports of patients."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from doctor.answers import BroadcastAnswer, ForgottenAnswer, MessageAnswer, ReceiptAnswer, ReportAnswer
from doctor.orders import BroadcastOrder, MessageOrder
from doctor.terminal import (
    CONSOLE,
    AsJson,
    Patient,
    calling,
    counted,
    part,
    show_answer,
    show_table,
    time_text,
)
from shared.wire.messages import BODY_LIMIT

Body = Annotated[str, typer.Argument(help="The message; '-' reads it from standard input.")]
Expires = Annotated[
    float | None,
    typer.Option(
        "--expires", metavar="HOURS", min=0, help="How long it may be shown; default as configured."
    ),
]


def _read(text: str) -> str:
    """The message as it was given, or from standard input."""
    try:
        text = sys.stdin.read() if text == "-" else text
        size = len(text.encode())
    except UnicodeError:
        raise typer.BadParameter("the message is not UTF-8 text") from None
    if not 1 <= size <= BODY_LIMIT:
        raise typer.BadParameter(f"a message has 1 to {BODY_LIMIT} bytes; this one has {size}")
    return text


def broadcast(
    text: Body,
    group: Annotated[str, typer.Option("--group", help="Who is to read it.")] = "everyone",
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Send TEXT to everyone in a group. When this returns, the message is on the disk."""
    order = BroadcastOrder(_read(text), group, expires)
    with calling() as client:
        answer = client.post("/v1/broadcasts", order, BroadcastAnswer)

    def show() -> None:
        CONSOLE.print(
            f"Accepted for {counted(answer.recipients, 'patient')} in {answer.group}. Its receipts:"
        )
        sys.stdout.write(f"telemed-doctor receipts {answer.id}\n")

    show_answer(answer, as_json, show)


def send(patient: Patient, text: Body, expires: Expires = None, as_json: AsJson = False) -> None:
    """Send TEXT to one PATIENT alone. When this returns, the message is on the disk."""
    order = MessageOrder(_read(text), expires)
    with calling() as client:
        answer = client.post(f"/v1/patients/{part(patient)}/messages", order, MessageAnswer)

    def show() -> None:
        CONSOLE.print(f"Accepted for {answer.patient} alone. Its receipt:")
        sys.stdout.write(f"telemed-doctor receipts {answer.id}\n")

    show_answer(answer, as_json, show)


def receipts(
    message: Annotated[str, typer.Argument(help="The id that `broadcast` or `send` printed.")],
    as_json: AsJson = False,
) -> None:
    """Show what became of a message, for each recipient."""
    with calling() as client:
        found = client.get(f"/v1/broadcasts/{part(message)}/receipts", list[ReceiptAnswer])
    done = sum(receipt.state == "delivered" for receipt in found)
    rows = [[receipt.patient, receipt.state] for receipt in found]
    show_answer(
        found, as_json, lambda: show_table(f"{done} of {len(found)} delivered", ["patient", "state"], rows)
    )


def reports(
    patient: Patient,
    forget: Annotated[
        float | None,
        typer.Option(
            "--forget-older",
            metavar="DAYS",
            min=0,
            help="First erase, for good, what was received longer ago than this.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a PATIENT has reported, newest first."""
    with calling() as client:
        if forget is not None:
            before = round((time.time() - forget * 86_400) * 1000)
            client.delete(f"/v1/patients/{part(patient)}/reports?before={before}", ForgottenAnswer)
        found = client.get(f"/v1/patients/{part(patient)}/reports", list[ReportAnswer])
    rows = [[time_text(report.received), report.kind, report.shown] for report in found]
    show_answer(
        found,
        as_json,
        lambda: show_table(counted(len(found), "report"), ["received", "kind", "report"], rows),
    )
