"""The audit log: newest first, a page at a time, filtered; and a button that verifies the whole of it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from urllib.parse import urlencode

from litestar import get, post
from litestar.response import Response

from doctor import verdicts
from doctor.answers import AuditAnswer
from doctor.audit import Action
from doctor.console import log_reading
from doctor.console.desk import Filled, HtmlRequest, NavEntry, View, Viewed
from doctor.console.log_reading import place_in
from shared.errors import StorageError

NAV = (NavEntry("/audit", "Audit log"),)
PAGE = 50  # entries
ACTIONS = {action.value: action for action in Action}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: an action and an object, "" for any; and the entry before which to look."""

    action: str
    subject: str
    before: int | None

    def query(self, before: int | None = None) -> str:
        """As an address has it, from another place on."""
        asked = {
            "action": self.action,
            "object": self.subject,
            "before": "" if before is None else str(before),
        }
        return urlencode({name: value for name, value in asked.items() if value})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification has found. `bad`: it does not verify; `entry`: the first that does not, where one is named."""

    bad: bool
    text: str
    entry: int | None = None


@get("/audit")
async def show_audit(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The page."""
    return _page(view, "audit.html", _wanted(request))


@get("/audit/list", opt={"quiet": True})
async def list_audit(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The part of it that changes."""
    return _page(view, "audit_list.html", _wanted(request))


@post("/audit/verify")
async def verify_audit(view: Viewed, form: Filled) -> Response[str]:
    """Recompute the chain and hold the signed heads against it; nothing is changed. One at a time: it reads the whole log."""
    lock = view.console.verifying
    if lock.locked():
        form.wrong("", "A verification is under way already; try again when it is done.")
        return _page(view, "audit.html", Wanted("", "", None), 409, form=form)
    async with lock:
        verdict = await _verify(view)
    return _page(view, "audit.html", Wanted("", "", None), verdict=verdict)


async def _verify(view: View) -> Verdict:
    try:
        answer = await view.commands.verify_audit()
    except (StorageError, sqlite3.Error) as error:
        return Verdict(True, f"The audit log cannot be verified: {str(error).rstrip('.')}.")
    return Verdict(not answer.valid, verdicts.in_words(answer), _named(answer))


def _named(answer: AuditAnswer) -> int | None:
    return answer.first_bad if answer.first_bad is not None and answer.first_bad <= answer.entries else None


def _wanted(request: HtmlRequest) -> Wanted:
    asked = request.query_params
    action = asked.get("action", "")
    subject = asked.get("object", "").strip()[:64]
    return Wanted(action if action in ACTIONS else "", subject, place_in(request))


def _page(view: View, template: str, wanted: Wanted, status: int = 200, **context: object) -> Response[str]:
    actions = (ACTIONS[wanted.action],) if wanted.action else ()
    read = log_reading.read(view, PAGE, wanted.before, actions, wanted.subject)
    known = {"verdict": None, **context}
    return view.page(
        template,
        status,
        wanted=wanted,
        found=read.found,
        unreadable=read.unreadable,
        actions=sorted(ACTIONS),
        section="/audit",
        **known,
    )


HANDLERS = [show_audit, list_audit, verify_audit]
