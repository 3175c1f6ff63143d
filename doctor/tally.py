"""How handshakes ended, and sessions that broke a rule: counted since the start, for who watches the doctor from outside.

Law: plain numbers. Every reason is a check's number, an alert's name or one of the door's few texts, so nobody can make them many.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from doctor.door import TurnedAway
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode


@dataclass(eq=False, slots=True)
class Tally:
    """Counts since the start.

    Attributes:
        established: the patient was admitted while its connection stood.
        late: it was admitted when its connection had ended already.
        refused: by the check that was not passed.
        given_up: the device ended the handshake with an alert.
        turned_away: before or in the middle of a handshake, at the door.
        broken: sessions, by the check that was not passed.
    """

    established: int = 0
    late: int = 0
    refused: Counter[Check] = field(default_factory=Counter)
    given_up: Counter[AlertCode] = field(default_factory=Counter)
    turned_away: Counter[TurnedAway] = field(default_factory=Counter)
    broken: Counter[Check] = field(default_factory=Counter)
