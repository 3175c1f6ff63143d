"""What people and programs can order and ask of the doctor: one method each. The HTTP API is a thin layer over this."""

from __future__ import annotations

from doctor.backup import BackingUp
from doctor.confirming import Confirming
from doctor.departures import Departures
from doctor.forgetting import Forgetting
from doctor.grouping import Grouping
from doctor.inviting import Inviting
from doctor.messaging import Messaging
from doctor.questions import Questions


class Commands(Inviting, Messaging, Departures, Grouping, Forgetting, BackingUp, Confirming, Questions):
    """Every order and every question; whoever may give orders may ask questions."""
