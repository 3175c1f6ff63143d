"""What the doctor can be ordered to do: the bodies of the HTTP API's requests, used by the console and the CLI as well."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=32_768)]
Hours = Annotated[float, Meta(gt=0, le=87_600)]


class InviteOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`patient` null: a fleet invitation. `hours`: its lifetime; null: the configured one, for a fleet without end."""

    patient: Name | None = None
    groups: Annotated[list[Name], Meta(max_length=63)] = []  # with `everyone`, as many as an invitation holds
    hours: Hours | None = None


class BroadcastOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text for everyone who is a member of the group when it is accepted. `hours`: how long it may be shown; null: as configured."""

    text: Text
    group: Name = "everyone"
    hours: Hours | None = None


class MessageOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text for one patient alone. `hours`: how long it may be shown; null: as configured."""

    text: Text
    hours: Hours | None = None


class AcknowledgeOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody has seen an alert. `operator`: who; null: whoever has the API's token."""

    operator: Name | None = None


class GroupOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new group."""

    name: Name


class MemberOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A patient to add to a group."""

    patient: Name


class OperatorOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new operator of the console."""

    name: Name
