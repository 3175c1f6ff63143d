"""Whatever is typed, guessed or bent: an answer that says what is wrong, and never a failure of ours."""

from __future__ import annotations

import random
from pathlib import Path
from urllib.parse import quote

from tests.console_bench import ADDRESS, Fields, console
from tests.doctor_bench import LOG, on_a_loop

REQUESTS = 200
PIECES = [
    *(
        "",
        "a",
        "anna",
        "everyone",
        "group:everyone",
        "patient:anna",
        "everyone.1",
        "patient:anna.5",
        "true",
        "a b",
    ),
    *(
        "\x00",
        "\ud800",
        "ü" * 50,
        "%00",
        "../..",
        "<b>",
        "{{7*7}}",
        "'",
        '"; DROP',
        "\n",
        "\u202e",
        "x" * 5000,
    ),
    *("1e9", "-1", "nan", "9" * 30, "everyone." + "9" * 18, "٣", "²"),
]
PATHS = [
    *(
        "/",
        "/patients/list",
        "/messages",
        "/messages/new",
        "/messages/readers",
        "/messages/*",
        "/messages/*/receipts",
    ),
    *(
        "/patients/*",
        "/patients/*/state",
        "/patients/*/revoke",
        "/patients/*/retire",
        "/groups",
        "/groups/*",
        "/here",
    ),
    *("/groups/*/members", "/groups/*/members/*/remove", "/invitations", "/account", "/account/password"),
    *("/static/*", "/login"),
    *("/events", "/events/list", "/audit", "/audit/list", "/audit/verify"),
    *("/alerts", "/alerts/list", "/alerts/*/acknowledge", "/patients/*/alerts", "/patients/*/messages"),
    *(
        "/patients/anna/thresholds",
        "/patients/*/thresholds",
        "/patients/anna/vitals",
        "/patients/anna/readings",
    ),
    *("/patients/anna", "/patients/anna/alerts"),
    *(
        "/protocol",
        "/protocol/list",
        "/protocol/drawing",
        "/protocol/epochs",
        "/protocol/*",
        "/protocol/*/drawing",
    ),
]
FIELDS = [
    "to",
    "text",
    "hours",
    "step",
    "name",
    "patient",
    "group",
    "key",
    "csrf",
    "old",
    "new",
    "again",
    "password",
    "next",
    "q",
    "state",
    "start",
    "done",
    "outcome",
    "seen",
    "action",
    "object",
    "before",
    "back",
    "brief",
    "heart-rate-low",
    "heart-rate-high",
    "spo2-low",
    "temperature-high",
]


def written(rng: random.Random) -> str:
    """Something, as an address or a form has it; half of a surrogate pair is no text at all."""
    return quote(rng.choice(PIECES).encode("utf-8", "surrogatepass"), safe="")


@on_a_loop
async def test_rubbish_is_the_askers_mistake(tmp_path: Path) -> None:
    """In paths, questions and forms, with a valid token and without."""
    rng = random.Random(5)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        token = Fields((await browser.get("/groups")).text).forms["/groups"]["csrf"]
        headers = {"Origin": ADDRESS, "Content-Type": "application/x-www-form-urlencoded"}
        for _ in range(REQUESTS):
            path = "".join(written(rng) if letter == "*" else letter for letter in rng.choice(PATHS))
            pairs = "&".join(f"{rng.choice(FIELDS)}={written(rng)}" for _ in range(rng.randrange(5)))
            desk.clock.elapsed += 1000
            if rng.random() < 0.4:
                answer = await browser.http.get(f"{path}?{pairs}")
            else:
                content = f"csrf={token}&{pairs}".encode()
                answer = await browser.http.post(path, content=content, headers=headers)
            assert answer.status_code < 500, (path, pairs)
            told = (
                answer.status_code == 414 or "<h1>" in answer.text
            )  # an address that is too long gets no page
            assert answer.status_code < 300 or answer.status_code == 303 or told
    assert LOG.find("request failed") == []
