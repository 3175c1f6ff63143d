"""The HTTP API: who may ask, what is answered, and what is refused how."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from doctor import commands
from doctor.api import app as api
from doctor.api import server as api_server
from doctor.audit import Action
from doctor.settings import SOCKET_NAME, TOKEN_NAME, api_directory
from shared.errors import UserError
from shared.protocol import invitations
from tests.doctor_bench import LOG, Device, Doctor, on_a_loop, running

TOKEN = "the token"
ROUTES = {
    "/v1/backups": {"post"},
    "/v1/restore": {"get"},
    "/v1/restore/confirm": {"post"},
    "/v1/invitations": {"post"},
    "/v1/broadcasts": {"post"},
    "/v1/broadcasts/{message}/receipts": {"get"},
    "/v1/patients": {"get"},
    "/v1/patients/{patient}/messages": {"post"},
    "/v1/patients/{patient}/revoke": {"post"},
    "/v1/patients/{patient}/retire": {"post"},
    "/v1/patients/{patient}/reports": {"get", "delete"},
    "/v1/patients/{patient}/thresholds": {"get", "post"},
    "/v1/alerts": {"get"},
    "/v1/alerts/{alert}/acknowledge": {"post"},
    "/v1/groups": {"get", "post"},
    "/v1/groups/{group}/members": {"post"},
    "/v1/groups/{group}/members/{patient}": {"delete"},
    "/v1/audit": {"get"},
    "/v1/audit/verify": {"get"},
    "/v1/keys/rotation": {"get", "post"},
    "/v1/console": {"get"},
    "/v1/operators": {"get", "post"},
    "/v1/operators/{operator}": {"delete"},
    "/v1/operators/{operator}/password": {"post"},
    "/metrics": {"get"},
    "/fhir/Observation": {"get"},
    "/fhir/Communication": {"get"},
    "/fhir/AuditEvent": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
}


class Api:
    """Asks a running doctor over HTTP."""

    def __init__(self, doctor: Doctor, http: httpx.AsyncClient) -> None:
        self.doctor = doctor
        self.http = http

    async def ask(
        self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and body."""
        if key is not None:
            headers["Idempotency-Key"] = key
        answer = await self.http.request(method, path, headers=headers, json=body)
        return answer.status_code, answer.json()


@asynccontextmanager
async def serving(directory: Path, **changes: Any) -> AsyncIterator[Api]:
    """A doctor and its application, without a socket in between."""
    async with running(directory, **changes) as doctor:
        app: Any = api.create_app(doctor.gateway, TOKEN)  # Litestar's types are narrower than httpx's
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://doctor", headers=headers) as http:
            yield Api(doctor, http)


# Who may ask


class NoThreads(ThreadPoolExecutor):
    """For requests that are answered where they have come."""

    def submit(self, *_: Any, **__: Any) -> Any:
        """Nobody may."""
        raise AssertionError("a request went to another thread")


@on_a_loop
async def test_a_question_is_answered_where_it_has_come(tmp_path: Path) -> None:
    """A thread each keeps memory for good, as much as its largest task took: the doctor's would grow by it for hours."""
    async with serving(tmp_path) as it:
        threads = NoThreads()
        asyncio.get_running_loop().set_default_executor(threads)
        answers = await asyncio.gather(*(it.ask("GET", "/v1/patients") for _ in range(32)))
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())

        assert {status for status, _ in answers} == {200}


@on_a_loop
async def test_every_route_needs_the_token_but_the_two_health_checks(tmp_path: Path) -> None:
    """None, a wrong one, one that begins right, one of strange letters: 401 and a readable text."""
    async with serving(tmp_path) as it:
        for path, methods in {**ROUTES, "/schema/openapi.json": {"get"}}.items():
            for method in methods:
                filled = path.format(
                    message="everyone.1", patient="anna", group="ward", operator="admin", alert=1
                )
                for given in ("", "Bearer wrong", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "B\xe4rer"):
                    headers = httpx.Headers({b"Authorization": given.encode("latin-1")})
                    answer = await it.http.request(method, filled, headers=headers)
                    expected = 200 if path.startswith(("/healthz", "/readyz")) else 401
                    assert answer.status_code == expected, (method, filled, given)
                    if expected == 401:
                        assert "token is missing or wrong; it stands beside the socket" in answer.text
        assert it.doctor.gateway.commands.list_groups()[0].name == "everyone"


@on_a_loop
async def test_the_description_lists_every_route(tmp_path: Path) -> None:
    """With its methods, and where a key makes it safe to repeat."""
    async with serving(tmp_path) as it:
        status, schema = await it.ask("GET", "/schema/openapi.json")

        assert status == 200
        found = {path: set(methods) for path, methods in schema["paths"].items()}
        assert found == ROUTES
        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                names = {each["name"] for each in operation.get("parameters", [])}
                assert ("Idempotency-Key" in names) == (method in ("post", "delete")), path


@on_a_loop
async def test_the_description_says_how_orders_and_questions_are_refused(tmp_path: Path) -> None:
    """With the same form for all; a disk that takes nothing is 503, and so is a restored database that waits."""
    async with serving(tmp_path) as it:
        _, schema = await it.ask("GET", "/schema/openapi.json")

        for path, methods in schema["paths"].items():
            for method, operation in methods.items():
                refusals = {
                    status: told for status, told in operation["responses"].items() if status >= "400"
                }
                if path in ("/healthz", "/readyz"):
                    assert set(refusals) == ({"503"} if path == "/readyz" else set()), path
                    continue
                if path.startswith("/fhir/"):
                    assert set(refusals) == {"400", "401", "503"}, path
                    for told in refusals.values():
                        form = told["content"]["application/fhir+json"]["schema"]["$ref"]
                        assert form.endswith("/OperationOutcome")
                    continue
                expected = {"400", "401", "409", "503"}
                expected |= {"404"} if "{" in path else set()
                expected |= {"413"} if "requestBody" in operation else set()
                assert set(refusals) == expected, (method, path)
                for told in refusals.values():
                    assert told["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
                assert "nothing of it has happened" in refusals["503"]["description"]


@on_a_loop
async def test_health_and_readiness(tmp_path: Path) -> None:
    """Alive is not ready: a database that takes no writes, or a closed port, is 503."""
    async with serving(tmp_path) as it:
        assert await it.ask("GET", "/healthz") == (200, {"status": "ok"})
        assert await it.ask("GET", "/readyz") == (200, {"status": "ok"})

        async with it.doctor.refusing_disk():
            assert await it.ask("GET", "/readyz") == (503, {"status": "not ready"})
            assert await it.ask("GET", "/healthz") == (200, {"status": "ok"})
        assert (await it.ask("GET", "/readyz"))[0] == 200
        async with it.doctor.disk_without_room():
            assert await it.ask("GET", "/readyz") == (503, {"status": "not ready"})
        assert (await it.ask("GET", "/readyz"))[0] == 200
        await it.doctor.gateway.close()
        assert await it.ask("GET", "/readyz") == (503, {"status": "not ready"})


# Orders


@on_a_loop
async def test_the_whole_day_over_http(tmp_path: Path) -> None:
    """Invite, group, member, broadcast, receipts, removal, retirement, revocation, audit."""
    async with serving(tmp_path) as it:
        doctor = it.doctor
        status, group = await it.ask("POST", "/v1/groups", {"name": "ward"})
        assert (status, group) == (201, {"name": "ward", "epoch": 1, "members": []})
        status, invited = await it.ask("POST", "/v1/invitations", {"patient": "anna", "groups": ["ward"]})
        assert status == 201
        anna = Device(invitations.from_text(invited["invitation"]))
        await doctor.connect(anna)
        await doctor.attached(anna, "everyone", "ward")

        status, sent = await it.ask("POST", "/v1/broadcasts", {"text": "round at nine", "group": "ward"})
        assert (status, sent["recipients"], sent["group"]) == (201, 1, "ward")
        await doctor.delivered(anna, sent["number"])
        receipts = await it.ask("GET", f"/v1/broadcasts/{sent['id']}/receipts")
        assert receipts == (200, [{"patient": "anna", "state": "delivered"}])
        status, alone = await it.ask("POST", "/v1/patients/anna/messages", {"text": "and you?", "hours": 1})
        assert (status, alone["patient"]) == (201, "anna")
        await doctor.delivered(anna, alone["number"])
        receipts = await it.ask("GET", f"/v1/broadcasts/{quote(alone['id'], safe='')}/receipts")
        assert receipts == (200, [{"patient": "anna", "state": "delivered"}])
        assert await it.ask("GET", f"/v1/broadcasts/{alone['id']}/receipts") == receipts
        status, (row,) = await it.ask("GET", "/v1/patients")
        assert (row["patient"], row["state"], row["groups"]) == ("anna", "established", ["everyone", "ward"])
        assert row["epochs"] == {"everyone": anna.epoch(), "ward": anna.epoch("ward")}
        assert row["suite"] == "elgamal-p256-mlkem768"

        status, left = await it.ask("DELETE", "/v1/groups/ward/members/anna")
        assert (status, left) == (200, {"group": "ward", "patient": "anna", "number": sent["number"]})
        status, back = await it.ask("POST", "/v1/groups/ward/members", {"patient": "anna"})
        assert (status, back["number"]) == (201, sent["number"])
        status, retired = await it.ask("POST", "/v1/patients/anna/retire")
        assert (status, retired["groups"]) == (201, ["everyone", "ward"])
        status, revoked = await it.ask("POST", "/v1/patients/anna/revoke")
        assert isinstance(revoked.pop("excluded_in_ms"), int)
        assert (status, revoked) == (201, {"patient": "anna", "standing": "revoked", "groups": []})
        assert (await it.ask("GET", "/v1/groups"))[1] == [
            {"name": "everyone", "epoch": doctor.fanout.groups["everyone"].epoch_number, "members": []},
            {"name": "ward", "epoch": doctor.fanout.groups["ward"].epoch_number, "members": []},
        ]
        status, verdict = await it.ask("GET", "/v1/audit/verify")
        assert (status, verdict["valid"]) == (200, True)


@on_a_loop
async def test_a_broken_audit_log_is_reported(tmp_path: Path) -> None:
    """By its first bad entry; a heads file that cannot be read is an error of the storage."""
    async with serving(tmp_path) as it:
        await it.doctor.writer.submit(
            lambda db: db.execute("UPDATE audit SET actor = 'eve' WHERE sequence = 2").rowcount
        )
        status, verdict = await it.ask("GET", "/v1/audit/verify")
        assert (status, verdict["valid"], verdict["first_bad"]) == (200, False, 2)

        (tmp_path / "audit" / "audit-heads.jsonl").write_bytes(b"rubbish\n")
        await it.doctor.writer.submit(
            lambda db: db.execute("UPDATE audit SET actor = 'gateway' WHERE sequence = 2").rowcount
        )
        status, problem = await it.ask("GET", "/v1/audit/verify")
        assert status == 503
        assert "line 1, is damaged" in problem["error"]


@on_a_loop
async def test_each_order_is_carried_out_once_for_its_key(tmp_path: Path) -> None:
    """A repeated request gets the first answer, word by word, and changes nothing; another request is refused."""
    async with serving(tmp_path, provisioning_file=str(tmp_path / "fleet.invitation")) as it:
        for name in ("anna", "bert", "carl"):
            await it.doctor.device(name)
        orders: list[tuple[str, str, Any]] = [
            ("POST", "/v1/invitations", {"patient": "dora"}),
            ("POST", "/v1/invitations", {}),
            ("POST", "/v1/groups", {"name": "ward"}),
            ("POST", "/v1/groups/ward/members", {"patient": "anna"}),
            ("POST", "/v1/broadcasts", {"text": "once", "group": "ward"}),
            ("POST", "/v1/patients/anna/messages", {"text": "once"}),
            ("DELETE", "/v1/groups/ward/members/anna", None),
            ("POST", "/v1/patients/bert/retire", None),
            ("POST", "/v1/patients/carl/revoke", None),
            ("POST", "/v1/keys/rotation", None),
        ]

        for number, (method, path, body) in enumerate(orders):
            first = await it.ask(method, path, body, key=f"key {number}")
            assert first[0] in (200, 201), first
            await it.doctor.epochs_begun()
            entries = it.doctor.reader.execute("SELECT count(*) FROM audit").fetchone()
            epochs = [group.epoch_number for group in it.doctor.fanout.groups.values()]
            again = await it.ask(method, path, body, key=f"key {number}")
            await it.doctor.epochs_begun()

            assert again == first
            assert it.doctor.reader.execute("SELECT count(*) FROM audit").fetchone() == entries
            assert [group.epoch_number for group in it.doctor.fanout.groups.values()] == epochs
            other = await it.ask("POST", "/v1/groups", {"name": f"other-{number}"}, key=f"key {number}")
            assert other[0] == 409
            assert "Idempotency-Key was used for another request" in other[1]["error"]
        assert len(it.doctor.audited(Action.BROADCAST_ACCEPTED)) == 1
        assert len(it.doctor.audited(Action.MESSAGE_ACCEPTED)) == 1


@on_a_loop
async def test_a_body_that_is_no_text_is_the_askers_mistake(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, in a value and in a name: 400 and a readable text, and nothing in our log."""
    async with serving(tmp_path) as it:
        for body in (b'{"text":"\xff"}', b'{"te\xffxt":"noon"}', b"\xff"):
            answer = await it.http.post(
                "/v1/broadcasts", content=body, headers={"Content-Type": "application/json"}
            )

            assert answer.status_code == 400
            assert answer.json()["error"]
        assert LOG.find("request failed") == []


@on_a_loop
async def test_a_body_that_is_nested_without_end_is_the_askers_mistake(tmp_path: Path) -> None:
    """More brackets than a decoder has room for: 400 and a readable text, and nothing in our log."""
    async with serving(tmp_path) as it:
        for body in (b"[" * 100_000, b'{"a":' * 30_000, b'{"text":' + b"[" * 5_000):
            answer = await it.http.post(
                "/v1/broadcasts", content=body, headers={"Content-Type": "application/json"}
            )

            assert answer.status_code == 400
            assert "nested too deeply" in answer.json()["error"]
        assert LOG.find("request failed") == []


@on_a_loop
async def test_a_method_that_an_address_does_not_take_is_told_the_ones_it_takes(tmp_path: Path) -> None:
    """RFC 9110, 15.5.6: with `Allow`, under FHIR too."""
    async with serving(tmp_path) as it:
        for path, expected in (("/v1/groups", {"GET", "POST"}), ("/fhir/Observation", {"GET"})):
            answer = await it.http.put(path)

            assert answer.status_code == 405
            assert set(answer.headers["Allow"].split(", ")) == {*expected, "OPTIONS"}


@on_a_loop
async def test_the_description_says_of_bodies_and_tokens_what_is_asked_for(tmp_path: Path) -> None:
    """No other field, a number above zero, what holds inside a list; the token everywhere but at the two health checks."""
    async with serving(tmp_path) as it:
        _, schema = await it.ask("GET", "/schema/openapi.json")

        bodies = schema["components"]["schemas"]
        orders = [name for name in bodies if name.endswith("Order")]
        assert orders
        assert all(bodies[name]["additionalProperties"] is False for name in orders)
        invite = bodies["InviteOrder"]["properties"]
        assert invite["groups"]["items"] == {"type": "string", "minLength": 1, "maxLength": 64}
        assert {"type": "number", "maximum": 87_600, "exclusiveMinimum": 0} in invite["hours"]["anyOf"]
        assert bodies["Bounds"]["properties"]["low"]["anyOf"][0]["maximum"] == 400
        assert schema["security"] == [{"token": []}]
        assert schema["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        for path, methods in schema["paths"].items():
            for operation in methods.values():
                assert operation.get("security") == ([{}] if path in ("/healthz", "/readyz") else None), path


@on_a_loop
async def test_a_repeated_key_in_parallel_is_one_order(tmp_path: Path) -> None:
    """However close together they come."""
    async with serving(tmp_path) as it:
        body = {"text": "once"}

        answers = await asyncio.gather(
            *(it.ask("POST", "/v1/broadcasts", body, key="one") for _ in range(10))
        )

        assert len({answer[1]["id"] for answer in answers}) == 1
        assert len(it.doctor.audited(Action.BROADCAST_ACCEPTED)) == 1


@on_a_loop
async def test_orders_without_a_key_are_orders_each(tmp_path: Path) -> None:
    """Nobody asked for once."""
    async with serving(tmp_path) as it:
        ids = {(await it.ask("POST", "/v1/broadcasts", {"text": "again"}))[1]["id"] for _ in range(2)}

        assert len(ids) == 2


@on_a_loop
async def test_a_refused_order_uses_up_no_key(tmp_path: Path) -> None:
    """What was refused can be asked again under the same key once it is possible."""
    async with serving(tmp_path) as it:
        order = ("POST", "/v1/broadcasts", {"text": "x", "group": "ward"})
        assert (await it.ask(*order, key="k"))[0] == 409
        await it.ask("POST", "/v1/groups", {"name": "ward"})

        assert (await it.ask(*order, key="k"))[0] == 201


@on_a_loop
async def test_a_disk_that_refuses_is_a_clear_not_accepted(tmp_path: Path) -> None:
    """503, readable, and nothing has happened."""
    async with serving(tmp_path) as it:
        async with it.doctor.refusing_disk():
            status, problem = await it.ask("POST", "/v1/broadcasts", {"text": "x"})

        assert (status, problem["code"]) == (503, "storage")
        assert problem["error"].startswith("Not accepted: ")
        assert it.doctor.audited(Action.BROADCAST_ACCEPTED) == []


@on_a_loop
async def test_a_question_whose_answer_the_disk_does_not_give_up_is_no_bug_of_ours(tmp_path: Path) -> None:
    """503 as for an order, and an answer when the disk reads again."""
    async with serving(tmp_path) as it:
        it.doctor.reader.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)
        status, problem = await it.ask("GET", "/v1/patients")
        it.doctor.reader.set_authorizer(None)

        assert (status, problem["code"]) == (503, "storage")
        assert await it.ask("GET", "/v1/patients") == (200, [])


@on_a_loop
async def test_a_restored_database_is_a_clear_not_accepted(tmp_path: Path) -> None:
    """503 with a code of its own; not ready; questions are answered; one order makes it right."""
    async with running(tmp_path):
        pass
    copy = (tmp_path / "state" / "doctor.db").read_bytes()
    async with running(tmp_path) as doctor:
        await doctor.broadcast("lost")
    (tmp_path / "state" / "doctor.db").write_bytes(copy)
    async with serving(tmp_path) as it:
        status, problem = await it.ask("POST", "/v1/broadcasts", {"text": "x"})
        assert (status, problem["code"]) == (503, "restored")
        assert "telemed-doctor confirm-restore" in problem["error"]
        assert (await it.ask("GET", "/readyz"))[0] == 503
        status, state = await it.ask("GET", "/v1/restore")
        assert (status, state["confirmed"]) == (200, False)

        status, state = await it.ask("POST", "/v1/restore/confirm", key="k")
        assert (status, state["confirmed"]) == (201, True)
        assert (await it.ask("POST", "/v1/broadcasts", {"text": "x"}))[0] == 201
        assert (await it.ask("GET", "/readyz"))[0] == 200


# Refusals

REFUSED: dict[str, tuple[str, str, Any, int, str]] = {
    "unknown message": (
        "GET",
        "/v1/broadcasts/everyone.5/receipts",
        None,
        409,
        "There is no message everyone.5",
    ),
    "no message id": ("GET", "/v1/broadcasts/nonsense/receipts", None, 409, "'nonsense' is not a message id"),
    "unknown patient": ("POST", "/v1/patients/nobody/revoke", None, 409, "There is no patient 'nobody'"),
    "unknown group": (
        "POST",
        "/v1/broadcasts",
        {"text": "x", "group": "attic"},
        409,
        "There is no group 'attic'",
    ),
    "bad group name": ("POST", "/v1/groups", {"name": "a\nb\x1b[31m"}, 409, "is not a group name"),
    "empty text": ("POST", "/v1/broadcasts", {"text": ""}, 400, "text"),
    "long name": ("POST", "/v1/groups", {"name": "g" * 65}, 400, "name"),
    "unknown field": ("POST", "/v1/broadcasts", {"text": "x", "colour": "red"}, 400, "colour"),
    "missing field": ("POST", "/v1/broadcasts", {"group": "everyone"}, 400, "text"),
    "wrong type": ("POST", "/v1/broadcasts", {"text": 7}, 400, "text"),
    "no object": ("POST", "/v1/broadcasts", [1, 2], 400, "object"),
    "negative hours": ("POST", "/v1/invitations", {"hours": -1}, 400, "hours"),
    "too many groups": (
        "POST",
        "/v1/invitations",
        {"patient": "p", "groups": ["everyone"] * 64},
        400,
        "groups",
    ),
    "a long key": ("POST", "/v1/groups", {"name": "ward"}, 400, "idempotency_key"),
    "unknown path": ("GET", "/v1/nothing", None, 404, "nothing at this address"),
    "wrong method": ("PUT", "/v1/groups", None, 405, "does not take the method; it takes GET, "),
    "too many bytes": ("POST", "/v1/broadcasts", {"text": "ä" * 20_000}, 409, "1 to 32768 bytes"),
    "too many letters": ("POST", "/v1/broadcasts", {"text": "x" * 32_769}, 400, "text"),
    "an oversized request": ("POST", "/v1/broadcasts", {"text": "x" * 300_000}, 413, "at most 256 KiB"),
    "a name in two parts": ("GET", "/v1/patients/an%2Fna/reports", None, 404, "nothing at this address"),
    "a number that is none": ("POST", "/v1/alerts/one/acknowledge", {}, 404, "nothing at this address"),
}


@on_a_loop
async def test_what_cannot_be_done_is_said_in_words(tmp_path: Path) -> None:
    """Each with its status, one JSON object, and a text that names what was wrong."""
    async with serving(tmp_path) as it:
        for name, (method, path, body, expected, words) in REFUSED.items():
            status, problem = await it.ask(
                method, path, body, key="k" * 129 if name == "a long key" else None
            )

            assert (status, set(problem)) == (expected, {"error", "code"}), (name, problem)
            assert words in problem["error"], (name, problem)
        assert it.doctor.audited(Action.BROADCAST_ACCEPTED) == []


@on_a_loop
async def test_rubbish_is_no_json(tmp_path: Path) -> None:
    """Bytes, a lone surrogate, a body that ends early."""
    async with serving(tmp_path) as it:
        for content in (b"\xff\xfe", b'{"text":"\\ud800"}', b'{"text":"x"', b""):
            answer = await it.http.post(
                "/v1/broadcasts", content=content, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 400, content
            assert answer.json()["code"] == "request"


@on_a_loop
async def test_control_characters_in_a_body_are_no_problem(tmp_path: Path) -> None:
    """A body is the patient's data, byte for byte."""
    async with serving(tmp_path) as it:
        anna = await it.doctor.device("anna")
        text = "".join(map(chr, range(32))) + "\x7f\x85\u2028\u202e\U0001f600"

        _, sent = await it.ask("POST", "/v1/broadcasts", {"text": text})
        await it.doctor.delivered(anna, sent["number"])

        assert anna.bodies() == [text.encode()]


@on_a_loop
async def test_a_bug_is_logged_and_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 without a cause for the one who asked; the cause in the doctor's log."""
    async with serving(tmp_path) as it:
        monkeypatch.setattr(commands.Commands, "list_groups", lambda _: 1 / 0)

        status, problem = await it.ask("GET", "/v1/groups")

        assert (status, problem["code"]) == (500, "internal")
        assert "division" not in problem["error"]
        (line,) = LOG.find("request failed")
        assert "ZeroDivisionError" in line["exception"]
        assert line["path"] == "/v1/groups"


# The socket


def test_a_token_is_fresh_at_every_start_and_private(tmp_path: Path) -> None:
    """0600 in a 0700 directory; the old one is worthless."""
    first, second = api_server.write_token(str(tmp_path)), api_server.write_token(str(tmp_path))

    directory = api_directory(str(tmp_path))
    assert first != second
    assert (directory / TOKEN_NAME).read_text() == second
    assert (directory / TOKEN_NAME).stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


@on_a_loop
async def test_a_path_that_is_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    """107 bytes is all that the system allows: say so instead of a traceback."""
    async with running(tmp_path) as doctor:
        state = tmp_path / ("x" * 107)

        with pytest.raises(
            UserError, match=r"state_dir: .*doctor\.sock has \d+ bytes, a socket's path has at most 107"
        ):
            api_server.create_server(doctor.gateway, str(state))
        assert not state.exists()


@on_a_loop
async def test_the_server_answers_on_its_socket_and_stops(short_dir: Path) -> None:
    """Over a real Unix socket, in a directory that nobody else may enter."""
    async with running(short_dir) as doctor:
        state = str(short_dir / "state")
        server = api_server.create_server(doctor.gateway, state)
        serving = asyncio.create_task(server.serve())
        await LOG.until("api ready")
        path = api_directory(state) / SOCKET_NAME
        token = (api_directory(state) / TOKEN_NAME).read_text()

        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://doctor"
        ) as http:
            right = await http.get("/v1/groups", headers={"Authorization": f"Bearer {token}"})
            wrong = await http.get("/v1/groups")
        server.should_exit = True
        await serving

        assert (right.status_code, wrong.status_code) == (200, 401)
        assert path.parent.stat().st_mode & 0o777 == 0o700


@on_a_loop
async def test_what_is_no_request_writes_no_line(short_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither what is no HTTP at all nor an order that breaks off."""
    async with running(short_dir) as doctor:
        server = api_server.create_server(doctor.gateway, str(short_dir / "state"))
        serving = asyncio.create_task(server.serve())
        await LOG.until("api ready")
        before = len(LOG.lines)
        for sent in (
            b"\0\r\n\r\n",
            b"POST /v1/groups HTTP/1.1\r\nHost: doctor\r\nContent-Length: 9\r\n\r\n{",
        ):
            path = api_directory(str(short_dir / "state")) / SOCKET_NAME
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(sent)
            writer.write_eof()
            await reader.read()
            writer.close()
        server.should_exit = True
        await serving
        assert [line for line in LOG.lines[before:] if line["level"] != "debug"] == []
    assert caplog.records == []


@on_a_loop
async def test_a_server_ends_when_it_is_told_to(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at its next tick, which would be tomorrow."""
    monkeypatch.setattr(api_server, "TICK", 86_400)
    async with running(short_dir) as doctor:
        server = api_server.create_server(doctor.gateway, str(short_dir / "state"))
        serving = asyncio.create_task(server.serve())
        await LOG.until("api ready")

        server.should_exit = True

        await serving


@on_a_loop
async def test_thresholds_and_alerts_are_refused_in_words(tmp_path: Path) -> None:
    """Numbers beyond all numbers, bounds that are none, alerts and patients that do not exist."""
    async with serving(tmp_path) as it:
        for number, expected in (("0", 400), (str(2**63), 400), ("1", 409), ("-1", 400)):
            status, answer = await it.ask("POST", f"/v1/alerts/{number}/acknowledge", {})
            assert (status, answer["code"]) == (expected, "request" if expected == 400 else "refused")
        for bounds in ({"low": 2, "high": 1}, {"low": "x"}, {"low": -1}, {"mean": 1}):
            status, answer = await it.ask("POST", "/v1/patients/anna/thresholds", {"spo2": bounds})
            assert (status, answer["code"]) == (400, "request"), bounds
        status, answer = await it.ask("POST", "/v1/patients/anna/thresholds", {"spo2": {"low": 85}})
        assert (status, "no patient 'anna'" in answer["error"]) == (409, True)
        assert await it.ask("GET", "/v1/alerts?all=true&patient=anna") == (200, [])
        assert (await it.ask("GET", "/v1/alerts?all=perhaps"))[0] == 400


@on_a_loop
async def test_a_time_beyond_all_times_is_the_askers_mistake(tmp_path: Path) -> None:
    """Whole numbers in JSON end at 53 bits, SQLite's at 63; what does not fit is no fault of ours."""
    async with serving(tmp_path) as it:
        await it.doctor.device("anna")
        assert (await it.ask("DELETE", f"/v1/patients/anna/reports?before={2**53 - 1}"))[0] == 200
        for before in (2**53, 2**63, -(2**53), -(2**63) - 1):
            code, problem = await it.ask("DELETE", f"/v1/patients/anna/reports?before={before}")
            assert (code, problem["code"]) == (400, "request")
