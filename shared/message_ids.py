"""What people and programs call a message: `everyone.1795440245000000`, or `patient:alice.…` for one that is for alice alone.

Law: the one place that makes and reads such a name; doctor and patient call a message the same.
"""

from __future__ import annotations

import re

from shared.errors import UserError
from shared.wire.messages import Stream, TargetKind

PRIVATE = "patient:"  # how the id of a message to one patient begins

_FORM = re.compile(r"(patient:)?([a-z0-9][a-z0-9._-]{0,63})\.([0-9]{1,18})", re.ASCII)


def message_id(stream: Stream, number: int) -> str:
    """The name under which people and programs ask for a message.

    A group and a patient may have one name: a patient's messages have its kind in front. No name holds a colon.
    """
    name = stream.name if stream.kind is TargetKind.GROUP else str(stream)
    return f"{name}.{number}"


def parse_message_id(text: str) -> tuple[Stream, int]:
    """The stream and number of a message id.

    Raises:
        UserError: it is not one.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UserError(
            f"{text!r} is not a message id; `telemed-doctor broadcast` and `telemed-patient inbox` show one."
        )
    private, name, number = found.groups()
    return Stream(TargetKind.PATIENT if private else TargetKind.GROUP, name), int(number)
