"""Asks a doctor what schemathesis has made up, spoils some of it, and holds every answer against the description.

Law: it judges answers one by one; what is asked, and of whom, is the test's business.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, unique
from typing import Any

import requests
from schemathesis import Case, CheckContext, Response
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from doctor.http import BODY_LIMIT
from tests.conformance.socket_session import BASE

SHAPE: list[CheckFunction] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
# Litestar's answer to OPTIONS leaves out what an address takes by a second handler, so `Allow` is held against 405 alone.
SENSE: list[CheckFunction] = [
    checks.negative_data_rejection,
    checks.positive_data_acceptance,
    checks.missing_required_header,
    checks.unsupported_method,
]
WITHOUT_SENSE = ("/fhir/", "/v1/patients/{patient}/thresholds")
"""What is of the right form there can still be refused: a thirtieth of February, a lowest value above the highest."""


@unique
class Spoiled(Enum):
    """What is done to a request after schemathesis has made it."""

    NOT = "not"
    NO_TOKEN = "no token"
    BAD_TOKEN = "bad token"
    BAD_JSON = "bad JSON"
    LONG = "long body"


BAD_JSON = (
    b"{",
    b'{"text": "noon"',
    b"[1, 2",
    b'{"text": "\xff"}',
    b"nul",
    b'{"text": "a" "b"}',
    b"\x00",
    b"[" * 5000,
)
BAD_TOKENS = ("", "Bearer", "Bearer ", "Bearer wrong", "Basic YWRtaW46YWRtaW4=", "bearer \xe4", "Token x")


def readable(context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """A refusal says in a sentence what was wrong, and shows nothing of our inside."""
    if response.status_code < 400 or case.method == "HEAD":
        return None
    told = response.json()
    text = told["issue"][0]["diagnostics"] if "issue" in told else told["error"]
    assert len(text) >= 10, f"too short to say anything: {text!r}"
    assert " " in text, f"no sentence: {text!r}"
    for inside in ("Traceback", "object at 0x", "sqlite3.", "msgspec.", ".py"):
        assert inside not in text, f"{inside!r} is of no use to a reader: {text!r}"
    return None


class Asker:
    """Asks one running doctor, and takes down what was wrong with its answers.

    Attributes:
        answers: how many there were of each status, and of each way in which a request was spoiled.
        findings: the first answer of each operation that failed a check in some way, and how to ask for it again.
    """

    def __init__(self, http: requests.Session, token: str) -> None:
        self.answers: Counter[str] = Counter()
        self.spoiled: Counter[str] = Counter()
        self.findings: dict[tuple[str, str], str] = {}
        self._http = http
        self._token = token

    def ask(self, case: Case[Any], spoiled: Spoiled = Spoiled.NOT, choice: int = 0) -> None:
        """Send one request, and hold its answer against the description."""
        headers, body, wanted = self._spoil(spoiled, choice)
        options: dict[str, Any] = {} if body is None else {"data": body}
        response = case.call(BASE, self._http, headers, **options)
        judged = [*SHAPE, readable] if wanted else [*SHAPE, *self._sense(case), readable]
        self.answers[str(response.status_code)] += 1
        self.spoiled[spoiled.value] += 1
        try:
            case.validate_response(response, judged, headers=headers)
            assert not wanted or response.status_code in wanted, f"{spoiled.value}: {response.status_code}"
        except (FailureGroup, AssertionError) as failure:
            self._note(case, spoiled, response, failure)

    def _spoil(self, spoiled: Spoiled, choice: int) -> tuple[dict[str, str], bytes | None, set[int]]:
        """Headers, a body instead of the request's own, and which answers are right; none: those that the description allows."""
        headers = {"Authorization": f"Bearer {self._token}"}
        match spoiled:
            case Spoiled.NO_TOKEN:
                return {}, None, {401, 404}
            case Spoiled.BAD_TOKEN:
                return {"Authorization": BAD_TOKENS[choice % len(BAD_TOKENS)]}, None, {401, 404}
            case Spoiled.BAD_JSON:
                return headers, BAD_JSON[choice % len(BAD_JSON)], {400, 404}
            case Spoiled.LONG:  # before its body, a header may be refused
                return headers, b'{"text": "' + b"x" * BODY_LIMIT + b'"}', {400, 404, 413}
        return headers, None, set()

    @staticmethod
    def _sense(case: Case[Any]) -> list[CheckFunction]:
        unsure = case.path.startswith(WITHOUT_SENSE)
        return [each for each in SENSE if not (unsure and each is checks.positive_data_acceptance)]

    def _note(self, case: Case[Any], spoiled: Spoiled, response: Response, failure: BaseException) -> None:
        each = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
        for error in each:
            kind = f"{type(error).__name__} {response.status_code} {spoiled.value}"
            key = (case.operation.label, kind)
            self.findings.setdefault(
                key, f"{key}: {error}\n  {response.content[:300]!r}\n  {case.as_curl_command()}"
            )
