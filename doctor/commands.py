"""What people and programs can order and ask of the doctor: one method each. The HTTP API is a thin layer over this."""

from __future__ import annotations

from doctor.backup import BackingUp
from doctor.confirming import Confirming
from doctor.departures import Departures
from doctor.fhir.questions import FhirQuestions
from doctor.forgetting import Forgetting
from doctor.grouping import Grouping
from doctor.messaging import Messaging
from doctor.operators import Operators
from doctor.rotating import Rotating
from doctor.watching import Watching


class Commands(
    Rotating,
    Messaging,
    Departures,
    Grouping,
    Forgetting,
    BackingUp,
    Confirming,
    Operators,
    Watching,
    FhirQuestions,
):
    """Every order and every question; whoever may give orders may ask questions."""
