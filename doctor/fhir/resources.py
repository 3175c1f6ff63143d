"""The FHIR R4 resources that are given out, as far as they are filled; https://hl7.org/fhir/R4.

Law: structs whose JSON is the resource. Names are FHIR's, in Python's spelling.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import TypeAlias

import msgspec

MEDIA_TYPE = "application/fhir+json"
ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)  # datatypes.html#id
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f]"
)  # what no FHIR string may contain, datatypes.html#string


class Element(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True):
    """Base of all datatypes."""


class Coding(Element, frozen=True):
    """A code of a code system."""

    system: str
    code: str
    display: str | None = None


class CodeableConcept(Element, frozen=True):
    """A meaning, with its codes."""

    coding: tuple[Coding, ...] = ()
    text: str | None = None


class Identifier(Element, frozen=True):
    """What something is called here."""

    value: str


class Reference(Element, frozen=True):
    """Another resource; `reference` only where its id is one."""

    reference: str | None = None
    type: str | None = None
    identifier: Identifier | None = None
    display: str | None = None


class Quantity(Element, frozen=True):
    """A value with its UCUM unit."""

    value: float
    unit: str
    code: str
    system: str = msgspec.field(default_factory=lambda: "http://unitsofmeasure.org")


class Meta(Element, frozen=True):
    """The profiles that a resource follows."""

    profile: tuple[str, ...]


class Component(Element, frozen=True):
    """One value of several; without it, why it is not there."""

    code: CodeableConcept
    value_quantity: Quantity | None = None
    data_absent_reason: CodeableConcept | None = None


class Resource(Element, frozen=True, tag_field="resourceType"):
    """Base of all resources."""


class Observation(Resource, frozen=True, tag="Observation"):
    """Something that was measured; observation.html, vital-signs profile."""

    id: str
    meta: Meta
    status: str
    category: tuple[CodeableConcept, ...]
    code: CodeableConcept
    subject: Reference
    effective_date_time: str
    issued: str
    device: Reference
    value_quantity: Quantity | None = None
    component: tuple[Component, ...] = ()


class Payload(Element, frozen=True):
    """A text."""

    content_string: str


class Communication(Resource, frozen=True, tag="Communication"):
    """Something that was said; communication.html."""

    id: str
    status: str
    subject: Reference
    sender: Reference
    recipient: tuple[Reference, ...]
    sent: str
    received: str | None = None
    in_response_to: tuple[Reference, ...] = ()
    status_reason: CodeableConcept | None = None
    payload: tuple[Payload, ...] = ()


class AuditAgent(Element, frozen=True):
    """Who did it."""

    who: Reference
    requestor: bool


class AuditSource(Element, frozen=True):
    """Who wrote it down."""

    observer: Reference


class AuditEntity(Element, frozen=True):
    """What it was done to."""

    what: Reference
    description: str | None = None


class AuditEvent(Resource, frozen=True, tag="AuditEvent"):
    """An entry of the audit log; auditevent.html."""

    id: str
    type: Coding
    subtype: tuple[Coding, ...]
    action: str
    recorded: str
    outcome: str
    agent: tuple[AuditAgent, ...]
    source: AuditSource
    entity: tuple[AuditEntity, ...]


class Issue(Element, frozen=True):
    """What is wrong."""

    severity: str
    code: str
    diagnostics: str


class OperationOutcome(Resource, frozen=True, tag="OperationOutcome"):
    """Why there is no answer; operationoutcome.html."""

    issue: tuple[Issue, ...]


AnyResource: TypeAlias = Observation | Communication | AuditEvent


class Search(Element, frozen=True):
    """Why an entry is in the bundle."""

    mode: str


class Entry(Element, frozen=True):
    """One resource of a bundle."""

    full_url: str
    resource: AnyResource
    search: Search


class Link(Element, frozen=True):
    """Where this bundle came from."""

    relation: str
    url: str


class Bundle(Resource, frozen=True, tag="Bundle"):
    """The answer to a search, newest first; bundle.html."""

    type: str
    timestamp: str
    link: tuple[Link, ...]
    entry: tuple[Entry, ...] = ()


def instant(milliseconds: int) -> str:
    """A time since the Unix epoch as a FHIR instant, which is a dateTime too."""
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def resource_id(name: str) -> str:
    """An id that FHIR takes: the name itself, or where it is none, its digest."""
    return name if ID.fullmatch(name) else sha256(name.encode()).hexdigest()


def string(text: str) -> str:
    """A text as FHIR takes it: what no string may contain is replaced."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def patient(patient_id: str) -> Reference:
    """A patient. An id that FHIR does not take, since it has a `_`, is told as an identifier alone."""
    reference = f"Patient/{patient_id}" if ID.fullmatch(patient_id) else None
    return Reference(reference=reference, type="Patient", identifier=Identifier(value=patient_id))


def outcome(code: str, text: str) -> OperationOutcome:
    """A refusal."""
    return OperationOutcome(issue=(Issue(severity="error", code=code, diagnostics=string(text)),))
