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

_NOT_DONE = (Delivery.EXPIRED.value, Delivery.REVOKED.value, Delivery.RETIRED.value)


def of_reply(report: StoredReport, doctor_id: str) -> Communication:
    """A text that a patient has sent."""
    return Communication(
        id=f"reply-{report.report_id.hex()}",
        status="completed",
        subject=patient(report.patient_id),
        sender=patient(report.patient_id),
        recipient=(doctor(doctor_id),),
        sent=instant(report.time),
        received=instant(report.received),
        payload=_payload(report.body.decode(errors="replace")),
    )


def of_message(message: MessageRow, patient_id: str, doctor_id: str) -> Communication:
    """A message as one of its recipients knows it: completed when the device has confirmed it, not done when it never will."""
    undone = message.state in _NOT_DONE
    done = message.state == Delivery.DELIVERED.value
    return Communication(
        # A broadcast is one Communication for each patient: what became of it is another.
        id=resource_id(f"message-{message.message_id}-{patient_id}"),
        status="not-done" if undone else "completed" if done else "in-progress",
        status_reason=CodeableConcept(text=message.state) if undone else None,
        subject=patient(patient_id),
        sender=doctor(doctor_id),
        recipient=(patient(patient_id),),
        sent=instant(message.created),
        payload=_payload(message.body) if message.body is not None else (),
    )


def doctor(doctor_id: str) -> Reference:
    """This doctor."""
    return Reference(type="Device", display=f"doctor gateway {doctor_id}")


def _payload(text: str) -> tuple[Payload, ...]:
    """A text of blanks alone is none to FHIR."""
    return (Payload(content_string=string(text)),) if text.strip() else ()
