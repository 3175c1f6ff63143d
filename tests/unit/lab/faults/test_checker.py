"""The checker finds nothing in a trial in which all went well, and every violation that is put into one."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import msgspec
import pytest

from lab.faults.capture import Way
from lab.faults.checker import check
from lab.faults.evidence import Audit, Evidence, Invariant
from lab.faults.history import (
    Accepted,
    Applied,
    Event,
    History,
    Joined,
    Kept,
    Left,
    Receipted,
    Refused,
    Reported,
    ReportKept,
)
from lab.faults.keys import EpochKey, SessionKey
from shared.protocol.records import RecordSealer
from shared.wire import messages
from shared.wire.messages import Ping
from shared.wire.opcodes import Opcode
from tests.protocol_bench import EVERYONE, split
from tests.trial_bench import CANARY, SmallTrial

replace = msgspec.structs.replace


def begun(rekeys: bool = True) -> SmallTrial:
    """Alice, Bob and Carol have heard one message."""
    trial = SmallTrial(rekeys)
    for name in ("alice", "bob", "carol"):
        trial.join(name)
    trial.broadcast("one")
    return trial


def whole(rekeys: bool = True) -> SmallTrial:
    """Then Bob restarts, Carol is revoked, Dora comes, and one message is Alice's alone; two are reported."""
    trial = begun(rekeys)
    trial.restart("bob")
    trial.broadcast("two")
    trial.leave("carol")
    trial.broadcast("three")
    trial.join("dora")
    trial.tell("alice", "for you")
    trial.broadcast("four")
    trial.history.add(Reported(time=trial.tick(), patient="bob", report="01", body=b"well"))
    trial.history.add(ReportKept(time=trial.tick(), patient="bob", report="01", body=b"well"))
    return trial


@functools.cache
def _whole() -> SmallTrial:
    return whole()


def recorded() -> SmallTrial:
    """The whole trial with a history of its own; its wire is shared and stays as it is."""
    trial = copy.copy(_whole())
    trial.history = History()
    trial.history.events = list(_whole().history.events)
    return trial


def found(evidence: Evidence) -> dict[Invariant, list[str]]:
    """The invariants that something was found against."""
    return {kind: texts for kind, texts in check(evidence).findings.items() if texts}


def test_a_trial_in_which_all_went_well_has_no_findings() -> None:
    """And it was looked at: every record and every broadcast opened for whom they were meant."""
    verdicts = check(whole().evidence())
    assert verdicts.sentences() == []
    assert verdicts.hold
    tap = verdicts.wiretap
    assert tap is not None
    assert (tap.opened_records, tap.opened_broadcasts) == (tap.records, tap.broadcasts)
    assert tap.records == 18
    assert tap.broadcasts == 4


# Violations in what was recorded


def changed(
    trial: SmallTrial, kind: type[Event], change: Callable[[Event], Event | None], nth: int = 0
) -> None:
    """Change the `nth` event of a kind; None takes it away."""
    index = [i for i, event in enumerate(trial.history.events) if type(event) is kind][nth]
    after = change(trial.history.events[index])
    trial.history.events[index : index + 1] = [] if after is None else [after]  # type: ignore[list-item]


def gone(event: Event) -> None:
    """It never happened."""


def again(trial: SmallTrial, life: int) -> None:
    """Somebody applies the first message a second time."""
    first = next(trial.history.of(Applied))
    trial.history.add(replace(first, time=trial.tick(), life=life))


def swapped(trial: SmallTrial) -> None:
    """Two messages of a stream were applied in the wrong order."""
    events = trial.history.events
    first, second = (
        i
        for i, event in enumerate(events)
        if isinstance(event, Applied) and event.patient == "alice" and event.number in (20, 30)
    )
    events[first], events[second] = events[second], events[first]


def refuse(trial: SmallTrial, code: str, sentence: str) -> None:
    """Somebody is refused like this."""
    trial.history.add(Refused(time=trial.tick(), who="eve", code=code, sentence=sentence))


def said(state: str) -> Callable[[Event], Event]:
    """The doctor says something else of a recipient."""
    return lambda event: replace(event, state=state)


def forged(trial: SmallTrial, patient: str = "alice", number: int = 99, body: bytes = b"x") -> None:
    """A device shows something else."""
    trial.history.add(
        Applied(time=trial.tick(), patient=patient, life=1, stream=str(EVERYONE), number=number, body=body)
    )


def expired(trial: SmallTrial) -> None:
    """A device says that a message had expired that had not."""
    changed(trial, Applied, gone)
    late = Kept(time=trial.tick(), patient="alice", stream=str(EVERYONE), number=10, body=None)
    trial.history.add(late)
    changed(trial, Receipted, said("expired"))


def private_to_another(trial: SmallTrial) -> None:
    """Bob shows what was for Alice alone."""
    private = next(each for each in trial.history.of(Applied) if each.stream == "patient:alice")
    trial.history.add(replace(private, time=trial.tick(), patient="bob"))


I1, I2, I3, I4, I5 = list(Invariant)[:5]
RECORDED: list[tuple[str, Invariant, Callable[[SmallTrial], None], str]] = [
    ("not applied", I1, lambda t: changed(t, Applied, gone), "never applied it"),
    ("shown and not kept", I1, lambda t: keep_but_one(t), "which its inbox does not hold"),
    ("no recipient listed", I1, lambda t: changed(t, Receipted, gone), "accepted for 3 recipients, and 2"),
    ("forgotten member", I1, lambda t: forget_member(t), "while alice was a member"),
    ("falsely expired", I1, expired, "did not expire"),
    (
        "given up as expired",
        I1,
        lambda t: given_up(t),
        "never applied it",
    ),
    ("receipt lost", I1, lambda t: changed(t, Receipted, said("sent")), "of which the doctor says: sent"),
    ("one number twice", I1, lambda t: same_number(t), "given to two messages"),
    ("report lost", I1, lambda t: changed(t, ReportKept, gone), "never came to the doctor"),
    ("twice in one life", I2, lambda t: again(t, 1), "twice, in its lives 1 and 1"),
    ("twice across lives", I2, lambda t: again(t, 2), "twice, in its lives 1 and 2"),
    ("out of order", I2, swapped, "behind"),
    (
        "report twice",
        I2,
        lambda t: t.history.add(next(t.history.of(ReportKept))),
        "stands there 2 times",
    ),
    (
        "meant for one who had left",
        I3,
        lambda t: mean_for(t, "carol", "everyone.30"),
        "while carol was no member",
    ),
    ("private for two", I3, lambda t: mean_for(t, "bob", "alice.10"), "is for alice, listed"),
    ("another body", I4, lambda t: changed(t, Applied, lambda e: replace(e, body=b"x")), "another body"),
    ("nobody said it", I4, lambda t: forged(t), "which nobody had accepted"),
    ("meant for another", I4, private_to_another, "not addressed to it"),
    (
        "kept otherwise than shown",
        I4,
        lambda t: t.history.add(
            Kept(time=t.tick(), patient="alice", stream=str(EVERYONE), number=10, body=b"x")
        ),
        "another body",
    ),
    (
        "report changed",
        I4,
        lambda t: changed(t, ReportKept, lambda e: replace(e, body=b"ill")),
        "another body than was reported",
    ),
    (
        "report invented",
        I4,
        lambda t: t.history.add(ReportKept(time=t.tick(), patient="bob", report="02", body=b"?")),
        "never made the report",
    ),
    ("no code", I5, lambda t: refuse(t, "", "You may not do this."), "without a code"),
    ("unknown code", I5, lambda t: refuse(t, "E42", "You may not do this."), "none of the list"),
    ("a bug", I5, lambda t: refuse(t, "internal", "The doctor failed."), "none of the list"),
    ("no word", I5, lambda t: refuse(t, "refused", " "), "without a word"),
    ("an exception", I5, lambda t: refuse(t, "refused", "KeyError('bob')"), "for programmers"),
    ("an errno", I5, lambda t: refuse(t, "storage", "[Errno 28] No space left"), "for programmers"),
    ("no sentence", I5, lambda t: refuse(t, "refused", "409"), "no sentence"),
]


def keep_but_one(trial: SmallTrial) -> None:
    """All inboxes are read in the end, and one lacks a message that its device has shown."""
    for each in list(trial.history.of(Applied))[1:]:
        trial.history.add(
            Kept(
                time=trial.tick(),
                patient=each.patient,
                stream=each.stream,
                number=each.number,
                body=each.body,
            )
        )


def given_up(trial: SmallTrial) -> None:
    """A message is called expired long before its time."""
    changed(trial, Applied, gone)
    changed(trial, Receipted, said("expired"))


def forget_member(trial: SmallTrial) -> None:
    """The doctor did not count a member in, and does not list it."""
    changed(trial, Accepted, lambda event: replace(event, recipients=2))
    changed(trial, Receipted, gone)


def same_number(trial: SmallTrial) -> None:
    """Two messages were accepted under one number."""
    first = next(trial.history.of(Accepted))
    trial.history.add(replace(first, time=trial.tick(), asked=trial.time, body=b"other"))


def mean_for(trial: SmallTrial, patient: str, message: str) -> None:
    """The doctor lists one more recipient."""
    trial.history.add(Receipted(time=trial.tick(), message=message, patient=patient, state="delivered"))


@pytest.mark.parametrize(
    ("invariant", "violate", "sentence"),
    [case[1:] for case in RECORDED],
    ids=[case[0] for case in RECORDED],
)
def test_a_violation_that_was_recorded_is_found_and_named(
    invariant: Invariant, violate: Callable[[SmallTrial], None], sentence: str
) -> None:
    """Each is put into a trial that was clean."""
    trial = recorded()
    violate(trial)
    assert any(sentence in text for text in found(trial.evidence()).get(invariant, [])), found(
        trial.evidence()
    )


# Violations on the wire


def test_a_doctor_that_begins_no_epoch_when_a_patient_is_revoked_is_found() -> None:
    """Carol's last secret opens what was accepted behind her revocation; her device need not even be there."""
    trial = whole(rekeys=False)
    (texts,) = found(trial.evidence()).values()
    assert [text for text in texts if "carol can read everyone.30 (BROADCAST)" in text]


def test_a_group_key_that_is_sent_to_one_who_has_left_is_found_on_the_wire_alone() -> None:
    """Whatever the device makes of it."""
    trial = begun()
    link = trial.desks["carol"].link
    assert link is not None
    trial.leave("carol")
    trial.broadcast("two")
    link.doctor.send_group_key(trial.epoch, 0)
    trial.run("carol")
    trial.keys.epochs.clear()
    assert any("carol can read everyone.20" in text for text in found(trial.evidence())[I3])


def test_a_missed_message_that_is_sent_to_one_it_was_not_meant_for_is_found() -> None:
    """Dora joined behind it."""
    trial = begun()
    _, old = trial.sign("private to the three")
    trial.accept("private to the three", EVERYONE, 20, trial.members, trial.tick())
    for name in ("alice", "bob", "carol"):
        trial.direct(name, old)
    trial.join("dora")
    link = trial.desks["dora"].link
    assert link is not None
    link.doctor.send_direct(10, old)
    trial.run("dora")
    texts = found(trial.evidence())[I3]
    assert texts == ["dora can read everyone.20 (DIRECT), which is not meant for it."]


def test_a_joiner_that_is_given_an_epoch_of_the_time_before_it_is_found() -> None:
    """It can read back."""
    trial = whole()
    early = trial.keys.epochs[0]
    later = [key for key in trial.keys.epochs if key.holder == "alice"][2]
    assert later.secret != early.secret
    trial.keys.add(replace(later, holder="dora"))
    assert any("dora can read everyone.10" in text for text in found(trial.evidence())[I3])


def test_an_outsider_that_holds_a_key_of_the_group_is_found() -> None:
    """It is no patient at all."""
    trial = whole()
    stolen = [key for key in trial.keys.epochs if key.holder == "bob"][-1]
    trial.keys.add(replace(stolen, holder="eve"))
    texts = found(trial.evidence(outsiders=frozenset({"eve"})))[I3]
    assert texts == ["eve can read everyone.40 (BROADCAST), which is not meant for it."]


def test_a_broadcast_under_a_session_key_of_one_who_has_left_is_found() -> None:
    """Whatever key a suspect holds is tried on whatever is on the wire."""
    trial = whole()
    carol = next(key for key in trial.keys.sessions if key.holder == "carol")
    trial.epoch._aead = type(trial.epoch._aead)(carol.to_patient)
    number, message = trial.sign("five")
    trial.accept("five", EVERYONE, number, [], trial.tick())
    trial.capture.add(1, Way.TO_PATIENT, trial.time, trial.epoch.seal(9, message))
    assert any("carol can read everyone.50" in text for text in found(trial.evidence())[I3])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("clear", b"... " + CANARY + b" one"),
        ("hexadecimal", CANARY.hex().encode()),
        ("base64", b'"body":"dGhlIENBTkFSWS03ZjNhIG9uZQ=="'),
    ],
)
def test_a_body_in_clear_is_found_wherever_it_lies(name: str, content: bytes) -> None:
    """On a disk or in a log; however it was encoded."""
    places = [("doctor.db-wal", b"sealed"), ("doctor.log", content)]
    (text,) = found(recorded().evidence(places=places))[I3]
    assert name in text
    assert text.endswith("in doctor.log.")


def test_a_body_in_clear_on_the_wire_is_found() -> None:
    """The wire is searched with everything else."""
    trial = whole()
    trial.capture.add(77, Way.TO_DOCTOR, trial.time, CANARY)
    assert found(trial.evidence())[I3] == ["A body stands in clear in the wire, connection 77 to-doctor."]


def test_a_broadcast_nonce_that_is_used_for_two_messages_is_found() -> None:
    """The sequence is the nonce: two texts under one key and sequence give both away."""
    trial = whole()
    trial.broadcast("five", sequence=0)
    assert any(
        "2 different texts of broadcast 0" in text for text in found(trial.evidence())[Invariant.NONCES]
    )


def test_a_secret_that_is_used_for_two_epochs_is_found() -> None:
    """Another key id hides nothing."""
    trial = whole()
    trial.epoch.key_id = bytes(16)
    _, message = trial.sign("five")
    frame = trial.epoch.seal(0, message)
    trial.capture.add(1, Way.TO_PATIENT, trial.time, frame)
    assert any("share key and nonce" in text for text in found(trial.evidence())[Invariant.NONCES])


def test_a_session_key_that_two_connections_share_is_found() -> None:
    """As a restored backup or a seeded generator would make it."""
    trial = whole()
    first, last = trial.keys.sessions[0], trial.keys.sessions[-1]
    trial.keys.sessions[-1] = replace(last, to_patient=first.to_patient)
    assert any("its nonces repeat" in text for text in found(trial.evidence())[Invariant.NONCES])


def test_a_key_that_serves_both_directions_is_found() -> None:
    """Their counters both begin at zero."""
    trial = whole()
    first = trial.keys.sessions[0]
    trial.keys.sessions[0] = replace(first, to_patient=first.to_doctor)
    assert any("its nonces repeat" in text for text in found(trial.evidence())[Invariant.NONCES])


def test_a_record_counter_that_is_used_again_is_found() -> None:
    """A record in the fourth place under the nonce of the first."""
    trial = whole()
    key = trial.keys.sessions[0]
    again_0 = RecordSealer(key.to_patient).seal(Opcode.PING, messages.encode(Ping(b"12345678")))
    trial.capture.add(1, Way.TO_PATIENT, trial.time, again_0)
    assert any("The nonce 0 was used again" in text for text in found(trial.evidence())[Invariant.NONCES])


def test_a_record_that_no_key_of_its_session_opens_is_found() -> None:
    """Somebody else has sealed it."""
    trial = whole()
    foreign = RecordSealer(bytes(32)).seal(Opcode.PING, messages.encode(Ping(b"12345678")))
    trial.capture.add(1, Way.TO_PATIENT, trial.time, foreign)
    assert any("does not open under its session's key" in text for text in found(trial.evidence())[I4])


def test_a_message_on_the_wire_that_nobody_accepted_is_found() -> None:
    """Even if no device has shown it."""
    trial = whole()
    _, message = trial.sign("five")
    trial.write("alice", trial.epoch.seal(7, message))
    assert any("was sent has everyone" not in text for text in found(trial.evidence())[I4])


def test_an_audit_chain_that_does_not_verify_or_was_not_asked_is_found() -> None:
    """Or that has nothing in it."""
    trial = recorded()
    for audit in (None, Audit(False, 3, "entry 2 was changed"), Audit(True, 0, None)):
        assert list(found(trial.evidence(audit=audit))) == [Invariant.AUDITED]


def test_a_capture_that_no_key_opens_proves_nothing() -> None:
    """A checker that was given the wrong capture must not be content."""
    trial, other = whole(), SmallTrial()
    evidence = trial.evidence(capture=other.capture)
    assert any("proves nothing" in text for text in found(evidence)[I3])


# What is no violation


def test_what_crosses_a_change_of_membership_may_fall_on_either_side() -> None:
    """Who was asked to go while a message was on its way may be meant or not."""
    trial = begun()
    for listed in (True, False):
        asked = trial.tick()
        number, _ = trial.sign("crossing")
        trial.accept("crossing", EVERYONE, number, ["carol"] if listed else [], asked)
        changed(trial, Accepted, lambda event, asked=asked: replace(event, asked=asked - 9), nth=-1)  # type: ignore[misc]
    trial.history.add(Left(time=trial.tick(), asked=asked - 5, patient="carol", reason="revoked"))
    trial.history.add(Left(time=trial.tick(), asked=0.5, patient="alice", reason="revoked"))
    trial.history.add(Left(time=trial.tick(), asked=0.5, patient="bob", reason="revoked"))
    assert not check(trial.evidence()).findings[I3]


def test_a_patient_that_was_revoked_behind_a_message_need_not_have_it() -> None:
    """The promise ends with the revocation."""
    trial = begun()
    asked = trial.tick()
    number, _ = trial.sign("two")
    trial.accept("two", EVERYONE, number, ["alice", "bob", "carol"], asked)
    for name in ("alice", "bob", "carol"):
        trial.history.add(Left(time=trial.tick(), asked=asked + 1, patient=name, reason="revoked"))
    assert check(trial.evidence()).sentences() == []


def test_a_message_that_expired_before_its_patient_came_back_is_not_lost() -> None:
    """Its time was over when the history ended."""
    trial = begun()
    changed(trial, Applied, gone)
    changed(trial, Receipted, said("expired"))
    changed(trial, Accepted, lambda event: replace(event, lifetime=1.0))
    trial.history.add(Joined(time=100.0, asked=99.0, patient="zoe", group="ward"))
    assert check(trial.evidence()).sentences() == []


def test_keys_print_nothing_of_themselves() -> None:
    """A finding or a traceback may show them."""
    shown = repr(
        [SessionKey("a", "b", 0.0, b"\x01" * 32, b"\x02" * 32), EpochKey("a", "g", 1, 0.0, b"\x03" * 32)]
    )
    assert "x01" not in shown
    assert "x03" not in shown


def test_the_trial_captures_whole_frames() -> None:
    """What the tests above put in is read as frames."""
    trial = begun()
    for data in trial.capture.streams().values():
        assert b"".join(split(data)) == data
