"""A message has one name, at the doctor's and at the patient's."""

from __future__ import annotations

import re

import pytest

from shared.errors import UserError
from shared.message_ids import message_id, parse_message_id
from shared.wire.messages import Stream, TargetKind


@pytest.mark.parametrize("kind", TargetKind)
@pytest.mark.parametrize("name", ["everyone", "ward.7", "7", "a-b_c"])
def test_a_message_id_leads_back_to_the_message(kind: TargetKind, name: str) -> None:
    """Also for a group whose name has a dot, and for a patient of the same name."""
    place = (Stream(kind, name), 1_795_440_245_000_000)

    assert parse_message_id(message_id(*place)) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "everyone",
        "everyone.",
        ".5",
        "everyone.x",
        "everyone.-1",
        "everyone.5\n",
        "everyone.٣",
        "Ward.5",
        f"ward.{'9' * 19}",
        "ward.٣x",
        "patient:.5",
        "group:ward.5",
        "patient:a:b.5",
    ],
)
def test_what_is_no_message_id_is_refused(text: str) -> None:
    """With a hint where to get one."""
    with pytest.raises(UserError, match=re.escape(repr(text)) + " is not a message id"):
        parse_message_id(text)
