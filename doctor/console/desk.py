"""What all pages share: the doctor, who is logged in, and how a page is answered."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from litestar import MediaType, Request
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import SkipValidation
from litestar.response import Response

from doctor.answers import PatientAnswer
from doctor.commands import Commands
from doctor.console.forms import Form
from doctor.console.logins import Login, Logins, Visitors
from doctor.console.rendering import render
from doctor.console.throttle import Throttle
from doctor.house import House
from doctor.idempotency import Origin
from shared.net.stream import clock

HtmlRequest: TypeAlias = Request[Login, None, State]


@dataclass(frozen=True, slots=True)
class NavEntry:
    """A page in the menu."""

    path: str
    title: str


@dataclass(frozen=True, slots=True)
class Console:
    """What the console works with.

    Attributes:
        commands: every order and every question.
        house: what runs: traces, noise, ledger.
        doctor_id: whose console it is.
        secure: whether it speaks TLS.
        now: a clock that only goes forward, in milliseconds.
        verifying: held while somebody verifies the audit log.
    """

    commands: Commands
    house: House
    doctor_id: str
    secure: bool
    logins: Logins = field(default_factory=lambda: Logins(_elapsed))
    visitors: Visitors = field(default_factory=Visitors)
    throttle: Throttle = field(default_factory=Throttle)
    now: Callable[[], int] = lambda: _elapsed()
    verifying: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class View:
    """One request of somebody who is logged in."""

    console: Console
    login: Login
    path: str
    nav: tuple[NavEntry, ...]

    @property
    def commands(self) -> Commands:
        """Every order and every question."""
        return self.console.commands

    def account_stands(self) -> bool:
        """Whether the operator's account is still what it was at the login."""
        return self.commands.version(self.login.operator) == self.login.version

    def origin(self, form: Form) -> Origin:
        """Who orders: this operator; `form` bears the key that makes a second click harmless."""
        key = form.text("key")[:64]
        return Origin(self.login.operator, f"console:{self.login.operator}:{key}" if key else None)

    def new_key(self) -> str:
        """What makes one filling of a form an order that is carried out once."""
        return secrets.token_urlsafe(16)

    def require_patient(self, patient: str) -> PatientAnswer:
        """The patient of this id. Raises NotFoundException where there is none."""
        found = self.commands.patient(patient)
        if found is None:
            raise NotFoundException
        return found

    def page(self, template: str, status: int = 200, **context: object) -> Response[str]:
        """Answer with a template. What every template knows: `view`, `form` and `notice`."""
        known = {"form": Form(), "notice": None, **context}
        return html(render(template, view=self, **known), status)


def _elapsed() -> int:
    return clock().elapsed


def html(text: str, status: int = 200) -> Response[str]:
    """A page."""
    return Response(text, media_type=MediaType.HTML, status_code=status)


def see(path: str) -> Response[bytes]:
    """Go on at another page: what is answered to a form that was carried out."""
    return Response(b"", media_type=MediaType.TEXT, status_code=303, headers={"Location": path})


# They are ours: Litestar need not look into them.
Served: TypeAlias = SkipValidation[NamedDependency[Console]]
Viewed: TypeAlias = SkipValidation[NamedDependency[View]]
Filled: TypeAlias = SkipValidation[NamedDependency[Form]]
