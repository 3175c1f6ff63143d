"""The console of the containers: who opens the printed address can do the whole round there."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.console_bench import Fields
from tests.integration.deployment import Deployment
from tests.integration.engine import run

CERTIFICATE = "/var/lib/telemed/doctor/console/certificate.pem"
TEXT = "The round begins at nine."


class Operator:
    """Somebody at the console, by HTTP over TLS with the doctor's own certificate and no other."""

    def __init__(self, http: httpx.Client, address: str) -> None:
        self._http = http
        self._address = address

    def read(self, path: str) -> str:
        """What people read on a page, with single blanks."""
        answer = self._http.get(path)
        assert answer.status_code == 200, (path, answer.text)
        return re.sub(r"\s+", " ", Fields(answer.text).text)

    def fill(self, page: str, action: str, **fields: str) -> httpx.Response:
        """Open a page, fill in a form of it and send it; where it leads to."""
        seen = Fields(self._http.get(page).text).forms[action]
        headers = {"Origin": self._address}
        return self._http.post(action, data={**seen, **fields}, headers=headers, follow_redirects=True)


def printed(deployment: Deployment) -> dict[str, str]:
    """The last lines of `make up`: what stands where, by its name."""
    published = run("docker", "port", deployment.doctor.id, "8080/tcp").split()[0].rpartition(":")[2]
    place = {"COMPOSE_PROJECT_NAME": deployment.project, "CONSOLE_PORT": published}
    lines = run(
        "env", *(f"{name}={value}" for name, value in place.items()), "containers/await", "5"
    ).splitlines()
    return dict(
        line.split(maxsplit=1) for line in lines if re.match(r"(Console|SHA-256|Operator|Password) ", line)
    )


@contextmanager
def at_the_console(deployment: Deployment, shown: dict[str, str]) -> Iterator[Operator]:
    """Somebody at the address that was shown, who has compared the certificate."""
    pem = deployment.doctor.execute("cat", CERTIFICATE)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert shown["SHA-256"].replace(":", "").lower() == digest
    context, address = ssl.create_default_context(cadata=pem), shown["Console"].rstrip("/")
    with httpx.Client(base_url=address, verify=context, timeout=10, trust_env=False) as http:
        yield Operator(http, address)


def test_the_printed_address_and_password_lead_through_the_whole_round(deployment: Deployment) -> None:
    """Log in, see five patients, broadcast, see five receipts, revoke one and see that it is out, log out."""
    five = deployment.established()
    shown = printed(deployment)
    assert shown["Console"].startswith("https://")
    with at_the_console(deployment, shown) as operator:
        assert "Log in" in operator.read("/login")
        name, password = shown["Operator"], shown["Password"].split()[0]
        entered = operator.fill("/login", "/login", name=name, password=password)
        assert entered.url.path == "/", entered.text
        patients = operator.read("/")
        assert "5 connected" in patients
        assert all(patient in patients for patient in five)

        sent = operator.fill("/messages/new", "/messages/new", to="group:everyone", text=TEXT)
        message = sent.url.path
        assert re.fullmatch(r"/messages/everyone\.\d+", message), sent.text
        deployment.wait_until("all have it", lambda: "5 of 5 have it" in operator.read(message))
        assert all(texts[-1] == TEXT for texts in deployment.inboxes().values())

        patient = sorted(five)[0]
        revoked = operator.fill(f"/patients/{patient}/revoke", f"/patients/{patient}/revoke", name=patient)
        assert revoked.url.path == f"/patients/{patient}", revoked.text
        deployment.wait_until("four are left", lambda: "4 connected" in operator.read("/"))
        assert "Revoked" in operator.read(f"/patients/{patient}")
        assert "Log in" in operator.fill("/", "/logout").text
    assert "Password" not in deployment.compose("exec", "-T", "doctor", "telemed-doctor", "console")
    assert deployment.audit_is_valid()
