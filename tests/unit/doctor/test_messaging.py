"""Messages to one patient alone: who gets them, in which order, and what becomes of those that nobody fetches."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor import catching_up, streams
from doctor.audit import Action
from doctor.catching_up import RECEIPT_PATIENCE
from doctor.idempotency import Origin
from doctor.orders import MessageOrder
from shared.errors import UserError
from shared.protocol.events import Failed, MessageReceived, Repeated
from shared.wire.messages import Position, ResendRequest, TargetKind
from shared.wire.opcodes import Opcode
from tests.doctor_bench import BELL, LOG, ME, Device, Doctor, on_a_loop, running
from tests.protocol_bench import events_of

INSTANT = 1e-9  # hours; a message with such a lifetime has expired when it is sent


async def shown(device: Device, *bodies: str) -> None:
    """Wait until a device has applied so many private messages, and compare them."""
    await device.until(lambda each: len(each.private) >= len(bodies), "its private messages")
    assert device.private == [body.encode() for body in bodies]


@on_a_loop
async def test_a_private_message_reaches_one_patient_alone(tmp_path: Path) -> None:
    """As DIRECT, in an envelope that names its id and key; nobody else is sent anything."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")

        answer = await doctor.send("anna", "come to room 4")
        await shown(anna, "come to room 4")
        await doctor.delivered(anna, answer.number)

        (event,) = events_of(MessageReceived, anna.events)
        assert event.direct
        envelope = event.envelope
        assert (envelope.stream.kind, envelope.stream.name) == (TargetKind.PATIENT, "anna")
        assert envelope.fingerprint == anna.fingerprint
        await doctor.broadcast("and all")  # behind it on Bert's socket, had there been anything
        await bert.until(lambda each: each.bodies() == [b"and all"])
        assert events_of(MessageReceived, bert.events)[0].envelope.stream.kind is TargetKind.GROUP
        assert len(events_of(MessageReceived, bert.events)) == 1
        assert doctor.states(answer.id) == {"anna": "delivered"}
        assert doctor.audited(Action.MESSAGE_ACCEPTED) == [(answer.id, "1 recipients")]


@on_a_loop
async def test_messages_sent_at_once_arrive_in_order(tmp_path: Path) -> None:
    """More than one batch of them, between broadcasts."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        texts = [f"private {number}" for number in range(catching_up.BATCH + 5)]

        for text in texts:
            last = await doctor.send("anna", text)
            await doctor.broadcast(text)

        await shown(anna, *texts)
        await anna.until(lambda each: each.bodies() == [text.encode() for text in texts])
        await doctor.delivered(anna, last.number)


@on_a_loop
async def test_who_is_away_gets_its_private_messages_on_coming_back(tmp_path: Path) -> None:
    """In order, once; one that has expired meanwhile moves the position and shows nothing."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await LOG.until("session ended", patient="anna")
        first = await doctor.send("anna", "first")
        late = await doctor.send("anna", "too late", hours=INSTANT)
        last = await doctor.send("anna", "last")
        assert doctor.states(first.id) == {"anna": "queued"}
        await doctor.a_millisecond_over()

        await doctor.reconnect(anna)
        await doctor.delivered(anna, last.number)

        assert anna.private == [b"first", None, b"last"]
        states = [doctor.states(each.id)["anna"] for each in (first, late, last)]
        assert states == ["delivered", "expired", "delivered"]


@on_a_loop
async def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """What was accepted before it is sent after it; numbers go on."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        before = await doctor.send("anna", "before")
        await doctor.delivered(anna, before.number)
        anna.cut()
        await LOG.until("session ended", patient="anna")
        await doctor.send("anna", "meanwhile")

    async with running(tmp_path) as doctor:
        await doctor.connect(anna)
        after = await doctor.send("anna", "after")
        await doctor.delivered(anna, after.number)

        assert anna.private == [b"before", b"meanwhile", b"after"]


@on_a_loop
async def test_nothing_is_sent_to_who_is_gone(tmp_path: Path) -> None:
    """The doctor is told why; what was accepted before is marked so, and is not sent on a return."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        for device in (anna, bert):
            device.cut()
            await LOG.until("session ended", patient=device.patient_id)
        owed = [await doctor.send(name, "before you go") for name in ("anna", "bert")]
        await doctor.gateway.commands.retire("anna", ME)
        await doctor.gateway.commands.revoke("bert", ME)

        with pytest.raises(UserError, match="There is no patient 'carl'"):
            await doctor.send("carl", "x")
        with pytest.raises(UserError, match="anna is retired; send the message when it has come back"):
            await doctor.send("anna", "x")
        with pytest.raises(UserError, match="bert is revoked: nothing is sent"):
            await doctor.send("bert", "x")
        assert doctor.states(owed[0].id) == {"anna": "retired"}
        assert doctor.states(owed[1].id) == {"bert": "revoked"}

        await doctor.reconnect(anna)
        back = await doctor.send("anna", "welcome back")
        await doctor.delivered(anna, back.number)
        assert anna.private == [b"welcome back"]
        assert doctor.states(owed[0].id) == {"anna": "retired"}


@on_a_loop
async def test_a_repeated_order_sends_once(tmp_path: Path) -> None:
    """The same key, the same answer; the same key for another patient is refused."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        origin, order = Origin("test", "one key"), MessageOrder("once")

        answers = [await doctor.gateway.commands.send("anna", order, origin) for _ in range(3)]

        assert answers[0] == answers[1] == answers[2]
        await doctor.delivered(anna, answers[0].number)
        assert anna.private == [b"once"]
        with pytest.raises(UserError, match="Idempotency-Key was used for another request"):
            await doctor.gateway.commands.send("bert", order, origin)


@on_a_loop
async def test_a_group_and_a_patient_of_one_name_are_two_streams(tmp_path: Path) -> None:
    """Their messages have different ids and different recipients."""
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.create_group("bed-01", ME)
        one, other = await doctor.device("bed-01"), await doctor.device("bed-02", "bed-01")

        private = await doctor.send("bed-01", "to the patient")
        group = await doctor.broadcast("to the group", "bed-01")
        await doctor.delivered(one, private.number)
        await doctor.delivered(other, group.number)

        assert private.id == f"patient:bed-01.{private.number}"
        assert group.id == f"bed-01.{group.number}"
        assert doctor.states(private.id) == {"bed-01": "delivered"}
        assert doctor.states(group.id) == {"bed-02": "delivered"}
        assert (one.private, one.bodies("bed-01")) == ([b"to the patient"], [])
        assert (other.private, other.bodies("bed-01")) == ([], [b"to the group"])


@pytest.mark.parametrize("whose", ["its own", "another's"])
def test_v090_holds_for_private_streams(tmp_path: Path, whose: str) -> None:
    """One beyond what was issued, or anything of another patient's stream, ends the connection."""

    @on_a_loop
    async def story() -> None:
        async with running(tmp_path) as doctor:
            anna = await doctor.device("anna")
            await doctor.device("bert")
            bert = await doctor.send("bert", "not for anna")
            issued = await doctor.send("anna", "for anna")
            await doctor.delivered(anna, issued.number)

            if whose == "its own":
                anna.acknowledge(anna.own, issued.number + 1)
            else:
                anna.acknowledge(streams.of_patient("bert"), bert.number)

            await LOG.until("refused", check="V-090", patient="anna")
            await anna.gone()
            assert not events_of(Failed, anna.events)

    story()


async def unreceipted(doctor: Doctor, *texts: str) -> Device:
    """A device that has these private messages and has acknowledged none."""
    anna = await doctor.device("anna")
    anna.acknowledges = False
    for text in texts:
        await doctor.send("anna", text)
    await shown(anna, *texts)
    return anna


@on_a_loop
async def test_a_question_heals_private_streams_too(tmp_path: Path) -> None:
    """A device that cannot open a broadcast asks in every stream it knows."""
    async with running(tmp_path) as doctor:
        anna = await unreceipted(doctor, "one", "two")
        assert anna.stream is not None

        question = ResendRequest(b"k" * 16, [Position(anna.own, 0, [])])
        anna.stream.connection._send_record(Opcode.RESEND_REQUEST, question)
        anna.stream.flush()

        await anna.until(lambda each: each.count(Repeated) == 2, "both once more")
        await LOG.until("sent again on request", stream="patient:anna", result="missing")
        assert anna.private == [b"one", b"two"]


@on_a_loop
async def test_an_unreceipted_private_message_is_sent_again(tmp_path: Path) -> None:
    """After ten seconds, as any other."""
    async with running(tmp_path) as doctor:
        anna = await unreceipted(doctor, "one")
        attachment = doctor.session(anna).attachments[anna.own]
        assert attachment.unreceipted_since is not None

        attachment.unreceipted_since -= RECEIPT_PATIENCE
        doctor.fanout.send_unreceipted_again()

        await anna.until(lambda each: each.count(Repeated) == 1, "the message once more")


@on_a_loop
async def test_a_patient_that_reads_again_gets_what_it_did_not_take(tmp_path: Path) -> None:
    """While its socket is full nothing is written; then everything is, in order."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        stream = doctor.session(anna).stream
        stream.pause_writing()
        answers = [await doctor.send("anna", f"message {number}") for number in range(3)]
        await doctor.settled()
        assert doctor.states(answers[0].id) == {"anna": "queued"}

        stream.resume_writing()

        await doctor.delivered(anna, answers[-1].number)
        assert anna.private == [b"message 0", b"message 1", b"message 2"]
        await BELL.until(lambda: doctor.states(answers[0].id) == {"anna": "delivered"})
