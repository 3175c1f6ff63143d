"""What was said as FHIR Communications."""

from __future__ import annotations

from pathlib import Path

from doctor.orders import BroadcastOrder, MessageOrder
from shared import replies
from shared.message_ids import parse_message_id
from shared.wire.messages import ReportKind
from tests.doctor_bench import ME, on_a_loop
from tests.fhir_bench import NOON, keep, report, serving


@on_a_loop
async def test_messages_and_replies_are_communications_with_what_became_of_them(tmp_path: Path) -> None:
    """Both directions, newest first; a broadcast is one for each patient."""
    async with serving(tmp_path) as it:
        commands, anna = it.doctor.gateway.commands, it.doctor.devices[0]
        sent = await commands.broadcast(BroadcastOrder("at noon"), ME)
        await it.doctor.delivered(anna, sent.number)
        anna.acknowledges = False
        await commands.send("anna", MessageOrder("and you at one"), ME)
        await keep(it.doctor, "anna", report(1, "better – thanks".encode(), NOON, ReportKind.REPLY))

        found = await it.search("Communication?patient=anna")

        by_text = {each["payload"][0]["contentString"]: each for each in found}
        noon, one, reply = (by_text[text] for text in ("at noon", "and you at one", "better – thanks"))
        assert (noon["status"], one["status"], reply["status"]) == ("completed", "in-progress", "completed")
        assert noon["recipient"][0]["reference"] == reply["sender"]["reference"] == "Patient/anna"
        assert noon["sender"]["display"] == reply["recipient"][0]["display"] == "doctor gateway doctor"
        assert (reply["sent"], reply["received"]) == ("2026-11-23T12:00:00.000Z", "2026-11-23T13:00:00.000Z")
        assert [each["sent"] for each in found] == sorted((each["sent"] for each in found), reverse=True)
        assert len({each["id"] for each in found}) == 3
        assert len(await it.search("Communication?patient=anna&_count=2")) == 2
        assert await it.search("Communication?patient=anna&date=2001") == []
        assert await it.search("Communication?patient=nobody") == []


@on_a_loop
async def test_what_is_no_text_to_fhir_is_made_one(tmp_path: Path) -> None:
    """Letters that no string may contain, bytes that are no text, blanks alone; and a message that never came."""
    async with serving(tmp_path) as it:
        bodies = (b"a\x00b\x1b", b"\xff", b" \n", b"\xc2\xa0\xe3\x80\x80")
        replies = [report(n, body, NOON + n, ReportKind.REPLY) for n, body in enumerate(bodies)]
        await keep(it.doctor, "anna", *replies)

        found = await it.search("Communication?patient=anna")
        texts = [each["payload"][0]["contentString"] if "payload" in each else None for each in found]
        assert texts == [
            None,
            None,
            "\N{REPLACEMENT CHARACTER}",
            "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}",
        ]

        it.doctor.devices[0].acknowledges = False
        await it.doctor.gateway.commands.send("anna", MessageOrder("too late"), ME)
        await it.doctor.gateway.commands.revoke("anna", ME)
        (lost,) = [
            each for each in await it.search("Communication?patient=anna") if each["status"] == "not-done"
        ]
        assert lost["statusReason"] == {"text": "revoked"}


@on_a_loop
async def test_a_reply_refers_to_what_it_answers(tmp_path: Path) -> None:
    """To the patient's own copy of that message; the text goes without the line that says so."""
    async with serving(tmp_path) as it:
        sent = await it.doctor.gateway.commands.broadcast(BroadcastOrder("at noon"), ME)
        stream, number = parse_message_id(sent.id)
        answer = report(1, replies.compose(stream, number, "I did").encode(), NOON, ReportKind.REPLY)
        await keep(it.doctor, "anna", answer)

        found = await it.search("Communication?patient=anna")

        by_text = {each["payload"][0]["contentString"]: each for each in found}
        assert by_text["I did"]["inResponseTo"] == [
            {"reference": f"Communication/{by_text['at noon']['id']}"}
        ]
        assert "inResponseTo" not in by_text["at noon"]
