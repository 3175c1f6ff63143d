"""The HTTP API against its own description: schemathesis makes requests of the document, good and bad, and judges the answers.

The doctor is a running one with a database on the disk, asked over its Unix socket. Nothing may be its own failure (5xx), nothing
undocumented, and every refusal has to be a sentence for people. `API_REQUESTS` says how many requests there are; `make api`
prints what became of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from doctor.console.passwords import Hasher
from doctor.settings import SOCKET_NAME, TOKEN_NAME, api_directory
from tests.conformance.asker import Asker, Spoiled
from tests.conformance.socket_session import BASE, session
from tests.console_bench import CHEAP
from tests.doctor_bench import LOG, ME, Doctor, serving_in_a_thread

REQUESTS = int(os.environ.get("API_REQUESTS", "500"))
PATIENTS = [f"bed-{number:02}" for number in range(12)]
OPEN = ("/healthz", "/readyz")


def last_first(operation: Any) -> tuple[bool, str]:
    """The order in which operations are asked: what removes somebody comes behind what needs them."""
    removes = operation.method == "delete" or operation.path.endswith(("/revoke", "/retire"))
    return removes, operation.label


def boundaries(schema: Any, operation: Any, count: int) -> Sequence[Case[Any]]:
    """So many of the requests at the edges of what the document allows, which schemathesis lists one by one."""
    config = schema.config.generation_for(operation=operation, phase="coverage")
    found = list(
        schema.iter_coverage_cases(operation, generation_modes=list(GenerationMode), generation_config=config)
    )
    return random.sample(found, min(count, len(found)))


def known(doctor: Doctor) -> dict[str, Sequence[str]]:
    """Names that exist, by the path parameter that takes them."""
    sent = doctor.wait(doctor.broadcast("Please rest today.", "ward"))
    alone = doctor.wait(doctor.send(PATIENTS[0], "And drink."))
    return {
        "patient": PATIENTS,
        "group": ["everyone", "ward"],
        "operator": ["admin"],
        "message": [sent.id, alone.id],
        "alert": ["1"],
    }


def ask_at_random(operation: Any, asker: Asker, names: dict[str, Sequence[str]], count: int) -> None:
    """So many requests of schemathesis' own making; half of them are about somebody who exists, some are spoiled."""
    modes = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]
    kinds = [Spoiled.NOT] if operation.path in OPEN else [Spoiled.NOT, Spoiled.NO_TOKEN, Spoiled.BAD_TOKEN]
    kinds += [Spoiled.BAD_JSON, Spoiled.LONG] if operation.body else []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=st.one_of(modes),
        spoiled=st.sampled_from([*kinds, *[Spoiled.NOT] * 3]),
        choice=st.integers(0, 1000),
        exists=st.booleans(),
    )
    def ask(case: Case[Any], spoiled: Spoiled, choice: int, exists: bool) -> None:
        if exists:
            for name in case.path_parameters:
                case.path_parameters[name] = names[name][choice % len(names[name])]
        asker.ask(case, spoiled, choice)

    ask()


def described(http: requests.Session, token: str) -> tuple[Any, list[Any]]:
    """The document that the doctor serves, and its operations in the order in which they are asked."""
    document = http.get(f"{BASE}/schema/openapi.json", headers={"Authorization": f"Bearer {token}"}).json()
    del document["security"]  # tokens are spoiled here, by `Spoiled`, and schemathesis is to leave them alone
    schema = schemathesis.openapi.from_dict(document)
    config = schema.config
    # Or a third of all requests would try methods; and the longest text, all in escapes, is longer than a body may be.
    config.phases.coverage.unexpected_methods = {"PUT"}
    for check in (config.checks.negative_data_rejection, config.checks.positive_data_acceptance):
        check.expected_statuses = [*check.expected_statuses, "413"]
    found = list(schema.get_all_operations())
    operations = [each.ok() for each in found if isinstance(each, Ok)]
    assert len(operations) == len(found), found
    return schema, sorted(operations, key=last_first)


def test_every_answer_is_as_described_and_none_is_a_failure_of_the_doctor(
    short_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`API_REQUESTS` requests, to each operation as many: at the edges, at random, about who exists and who does not, spoiled or not."""
    with serving_in_a_thread(short_dir) as doctor:
        doctor.gateway.commands.hasher = Hasher(CHEAP)
        doctor.wait(doctor.gateway.commands.provide_first_operator())
        doctor.wait(doctor.gateway.commands.create_group("ward", ME))
        for name in PATIENTS:
            doctor.wait(doctor.device(name, "ward"))
        directory = Path(api_directory(str(short_dir / "state")))
        token = (directory / TOKEN_NAME).read_text()
        http = session(directory / SOCKET_NAME)
        schema, operations = described(http, token)
        asker, names, share = Asker(http, token), known(doctor), -(-REQUESTS // len(operations))
        for operation in operations:
            edges = boundaries(schema, operation, share // 2)
            for case in edges:
                asker.ask(case)
            ask_at_random(operation, asker, names, share - len(edges))
        http.close()
        assert doctor.wait(doctor.gateway.commands.verify_audit()).valid

    with capsys.disabled():
        answers, spoiled = dict(sorted(asker.answers.items())), dict(asker.spoiled)
        print(f"\n{asker.answers.total()} requests: {answers}, spoiled: {spoiled}")
    assert not asker.findings, "\n\n".join(asker.findings.values())
    assert asker.answers.total() >= REQUESTS
    assert {"200", "201", "400", "401", "409", "413"} <= asker.answers.keys()
    assert LOG.find("request failed") == []
