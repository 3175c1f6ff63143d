"""What a device asks for when it lacks messages: once a second at most, and nothing is forgotten meanwhile."""

from __future__ import annotations

from shared.protocol.clock import Instant
from shared.protocol.envelopes import Positions
from shared.protocol.resend_requests import ASK_INTERVAL, STREAMS_PER_QUESTION, ResendRequests
from shared.wire.messages import Position, ResendRequest, Stream, TargetKind

WARD = Stream(TargetKind.GROUP, "ward")
EVERYONE = Stream(TargetKind.GROUP, "everyone")
MINE = Stream(TargetKind.PATIENT, "anna")


def at(elapsed: int) -> Instant:
    """A moment, by the clock that counts."""
    return Instant(0, elapsed)


def asked(*positions: tuple[Stream, int], key_id: bytes = b"") -> ResendRequest:
    """A question."""
    return ResendRequest(key_id, [Position(stream, last, []) for stream, last in positions])


def test_nothing_is_asked_where_nothing_is_missing() -> None:
    """And no timer is wanted."""
    questions = ResendRequests()

    assert questions.take(Positions({WARD: 3}), at(0)) is None
    assert questions.deadline() is None


def test_the_first_question_goes_out_at_once() -> None:
    """It names the stream with the gap."""
    questions = ResendRequests()
    questions.note_gap(WARD, 9)

    assert questions.take(Positions({WARD: 3, EVERYONE: 5}), at(50)) == asked((WARD, 3))
    assert questions.deadline() is None


def test_a_question_that_comes_too_early_waits_for_its_time() -> None:
    """It used to be dropped, and a gap that no further message followed stayed open."""
    questions, positions = ResendRequests(), Positions({WARD: 3, EVERYONE: 5})
    questions.note_gap(WARD, 9)
    questions.take(positions, at(50))
    questions.note_gap(EVERYONE, 8)

    assert questions.take(positions, at(51)) is None
    assert questions.deadline() == 50 + ASK_INTERVAL
    assert questions.take(positions, at(50 + ASK_INTERVAL - 1)) is None
    assert questions.take(positions, at(50 + ASK_INTERVAL)) == asked((EVERYONE, 5))


def test_questions_that_wait_go_out_as_one() -> None:
    """An unknown key asks for every stream, which is more than the gaps."""
    gaps, key, positions = ResendRequests(), ResendRequests(), Positions({WARD: 3, EVERYONE: 5, MINE: 1})
    for questions in (gaps, key):
        questions.note_gap(MINE, 2)
        questions.take(positions, at(0))
        questions.note_gap(WARD, 9)
        questions.note_gap(EVERYONE, 9)
    key.note_unknown_key(b"k" * 16)

    assert gaps.take(positions, at(ASK_INTERVAL)) == asked((WARD, 3), (EVERYONE, 5))
    assert key.take(positions, at(ASK_INTERVAL)) == asked(
        (WARD, 3), (EVERYONE, 5), (MINE, 1), key_id=b"k" * 16
    )
    assert (gaps.deadline(), key.deadline()) == (None, None)


def test_a_gap_that_is_closed_by_then_is_not_asked_for() -> None:
    """The highest number that was dropped has come."""
    questions, positions = ResendRequests(), Positions({WARD: 3, EVERYONE: 5})
    questions.note_gap(EVERYONE, 6)
    questions.take(positions, at(0))
    for number in (9, 8):
        questions.note_gap(WARD, number)
    positions.raise_to(WARD, 9)

    assert questions.take(positions, at(ASK_INTERVAL)) is None
    assert questions.deadline() is None


def test_an_answer_that_is_on_its_way_is_waited_for() -> None:
    """The frames behind a gap come before the answer: to ask again would bring everything twice."""
    questions, positions = ResendRequests(), Positions({WARD: 3})
    for number in (9, 10):
        questions.note_gap(WARD, number)
        questions.take(positions, at(0))
    positions.raise_to(WARD, 5)

    assert questions.take(positions, at(ASK_INTERVAL)) is None


def test_an_answer_that_stops_on_its_way_is_asked_for_again() -> None:
    """The rest was forgotten: the position had moved once, so no later question of the session ever went out."""
    questions, positions = ResendRequests(), Positions({WARD: 3})
    for number in (9, 10):
        questions.note_gap(WARD, number)
        questions.take(positions, at(0))
    positions.raise_to(WARD, 5)
    questions.take(positions, at(ASK_INTERVAL))

    assert questions.deadline() == 2 * ASK_INTERVAL
    assert questions.take(positions, at(2 * ASK_INTERVAL)) == asked((WARD, 5))


def test_the_next_gap_of_a_stream_is_asked_for_as_the_first_one_was() -> None:
    """The answer to the first question is complete; that it moved the position says nothing about the second gap."""
    questions, positions = ResendRequests(), Positions({WARD: 3})
    questions.note_gap(WARD, 9)
    questions.take(positions, at(0))
    positions.raise_to(WARD, 9)
    questions.note_gap(WARD, 30)

    assert questions.take(positions, at(60 * ASK_INTERVAL)) == asked((WARD, 9))


def test_a_question_that_brought_nothing_is_asked_again() -> None:
    """The position is where it was."""
    questions, positions = ResendRequests(), Positions({WARD: 3})
    for number in (9, 10):
        questions.note_gap(WARD, number)
        questions.take(positions, at(0))

    assert questions.take(positions, at(ASK_INTERVAL)) == asked((WARD, 3))


def test_without_a_stream_there_is_nothing_to_ask_for() -> None:
    """A key that is unknown to a device in no group: the question is not kept for later."""
    questions = ResendRequests()
    questions.note_unknown_key(b"k" * 16)

    assert questions.take(Positions(), at(0)) is None
    assert questions.deadline() is None


def test_a_question_names_no_more_streams_than_fit() -> None:
    """The doctor would end the session for a longer one."""
    questions = ResendRequests()
    questions.note_unknown_key(b"k" * 16)
    many = Positions({Stream(TargetKind.GROUP, f"g{number}"): 1 for number in range(300)})

    question = questions.take(many, at(0))

    assert question is not None
    assert len(question.positions) == STREAMS_PER_QUESTION
