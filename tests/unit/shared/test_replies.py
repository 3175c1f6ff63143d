"""An answer says what it answers, and any other text is left as it is."""

from __future__ import annotations

import pytest

from shared.replies import Reply, compose, parse
from shared.wire.messages import Stream, TargetKind

WARD = Stream(TargetKind.GROUP, "ward")


@pytest.mark.parametrize("text", ["Taken.", "", "two\nlines", "Re: ward.7\nno, this is text"])
@pytest.mark.parametrize("stream", [WARD, Stream(TargetKind.PATIENT, "alice")])
def test_what_was_composed_is_read_again(stream: Stream, text: str) -> None:
    """Whatever stands in the text."""
    assert parse(compose(stream, 7, text)) == Reply((stream, 7), text)


@pytest.mark.parametrize("body", ["", "Taken.", "Re: your visit\nthanks", "re: ward.7\nx", " Re: ward.7\nx"])
def test_another_text_answers_nothing(body: str) -> None:
    """It is shown whole."""
    assert parse(body) == Reply(None, body)
