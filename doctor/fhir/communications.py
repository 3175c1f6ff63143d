"""What was said as Communications: the doctor's messages to a patient, and the patient's replies."""

from __future__ import annotations

from doctor.fhir.resources import (
    CodeableConcept,
    Communication,
    Payload,
    Reference,
    instant,
    patient,
    resource_id,
    string,
)
from doctor.overview import MessageRow
from doctor.receipts import Delivery
from doctor.reports import StoredReport
from shared import replies
from shared.message_ids import message_id

_NOT_DONE = (Delivery.EXPIRED.value, Delivery.REVOKED.value, Delivery.RETIRED.value)


def of_reply(report: StoredReport, doctor_id: str) -> Communication:
    """A text that a patient has sent; where it says what it answers, that is referred to."""
    reply = replies.parse(report.body.decode(errors="replace"))
    return Communication(
        id=f"reply-{report.report_id.hex()}",
        status="completed",
        subject=patient(report.patient_id),
        sender=patient(report.patient_id),
        recipient=(doctor(doctor_id),),
        sent=instant(report.time),
        received=instant(report.received),
        in_response_to=() if reply.to is None else (_answered(message_id(*reply.to), report.patient_id),),
        payload=_payload(reply.text),
    )


def of_message(message: MessageRow, patient_id: str, doctor_id: str) -> Communication:
    """A message as one of its recipients knows it: completed when the device has confirmed it, not done when it never will."""
    undone = message.state in _NOT_DONE
    done = message.state == Delivery.DELIVERED.value
    return Communication(
        # A broadcast is one Communication for each patient: what became of it is another.
        id=_id_of(message.message_id, patient_id),
        status="not-done" if undone else "completed" if done else "in-progress",
        status_reason=CodeableConcept(text=message.state) if undone else None,
        subject=patient(patient_id),
        sender=doctor(doctor_id),
        recipient=(patient(patient_id),),
        sent=instant(message.created),
        payload=_payload(message.body) if message.body is not None else (),
    )


def _id_of(name: str, patient_id: str) -> str:
    return resource_id(f"message-{name}-{patient_id}")


def _answered(name: str, patient_id: str) -> Reference:
    """By the patient's word: there may be no such message."""
    return Reference(reference=f"Communication/{_id_of(name, patient_id)}")


def doctor(doctor_id: str) -> Reference:
    """This doctor."""
    return Reference(type="Device", display=f"doctor gateway {doctor_id}")


def _payload(text: str) -> tuple[Payload, ...]:
    """A text of blanks alone is none to FHIR."""
    return (Payload(content_string=string(text)),) if text.strip() else ()
